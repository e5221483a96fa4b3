"""What is done with one part of a long list, by a worker that has loaded the run once."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from crossband.errors import CrossbandError, OptionError
from crossband.many.parts import Cut, name_of
from crossband.pairs.base import Pairs, PairSubset
from crossband.pairs.opening import open_pairs
from crossband.words import Bands, Precision


@dataclass(frozen=True)
class Done:
    """What became of a part. failed: its pairs that could not be used. problem: why nothing was written."""

    pairs: int = 0
    failed: int = 0
    problem: str | None = None


class Job(Protocol):
    """Something that a worker does part by part; travels to it as it is."""

    @property
    def cut(self) -> Cut: ...

    @property
    def out(self) -> Path: ...

    @property
    def home(self) -> Path:
        """The folder in which the command was started: where relative paths begin."""

    def is_done(self, index: int) -> bool:
        """Whether a part's result is there, whole."""

    def begin(self) -> Callable[[int], Done]:
        """Load what all parts need, on the worker; gives what does a part. Raises CrossbandError."""


@dataclass(frozen=True)
class _OnPairs:
    """cut, out: of the list, and where results go. home: as of a `Job`. load: options of `crossband.load`."""

    cut: Cut
    out: Path
    home: Path
    load: Mapping[str, Any]
    batch_size: int

    def _pairs(self, infrared_scaling: str | None, *, labels: bool = True) -> Pairs:
        scaling = {} if infrared_scaling is None else {"infrared_scaling": infrared_scaling}
        pairs = open_pairs(self.cut.source, self.cut.split, labels=labels, **scaling)
        if len(pairs) != self.cut.pairs:
            raise OptionError(
                f"{self.cut.source}, split {self.cut.split}, has {len(pairs)} pairs here, and "
                f"{self.cut.pairs} where the work was given out: every worker must see the same files"
            )
        return pairs


@dataclass(frozen=True)
class ScoreParts(_OnPairs):
    """Count the labels of a part as `crossband.evaluation.evaluate` does, into ``out/part-NUMBER.npz``."""

    bands: tuple[Bands, ...] = ("both",)
    by: Literal["condition"] | None = "condition"
    precision: Precision = "float32"

    def file(self, index: int) -> Path:
        return self.out / f"{name_of(index)}.npz"

    def is_done(self, index: int) -> bool:
        return self.file(index).is_file()

    def begin(self) -> Callable[[int], Done]:
        from crossband.evaluation import evaluate
        from crossband.evaluation.pair_counts import write_pair_counts
        from crossband.predictor import load

        predictor = load(self.cut.run, **self.load)
        pairs = self._pairs(predictor.card.infrared_scaling)

        def score(index: int) -> Done:
            part = PairSubset(pairs, self.cut.part(index), pairs.split)
            found = evaluate(
                predictor.system,
                part,
                bands=self.bands,
                by=self.by,
                batch_size=self.batch_size,
                device=predictor.device,
                precision=self.precision,
            )
            assert found.counts is not None
            write_pair_counts(self.file(index), found.counts)
            return Done(len(part))

        return score


def begun(job: Job) -> Callable[[int], Done]:
    """What does a part of a job, but for those that are done, and tells what went wrong instead of raising.

    Where it cannot begin, every part is told why.
    """
    try:
        os.chdir(job.home)
        do = job.begin()
    except (CrossbandError, OSError) as error:
        problem = str(error)
        return lambda index: Done(problem=problem)

    def attempt(index: int) -> Done:
        if job.is_done(index):
            return Done(len(job.cut.part(index)))
        try:
            return do(index)
        except CrossbandError as error:
            return Done(problem=str(error))

    return attempt


def as_columns(done: Sequence[tuple[int, Done]]) -> dict[str, np.ndarray]:
    """Parts and what became of them, as a batch of Ray Data."""
    return {
        "part": np.array([index for index, _ in done]),
        "pairs": np.array([each.pairs for _, each in done]),
        "failed": np.array([each.failed for _, each in done]),
        "problem": np.array([each.problem or "" for _, each in done], dtype=object),
    }
