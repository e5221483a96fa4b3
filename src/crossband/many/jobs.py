"""What is done with one part of a long list, by a worker that has loaded the run once."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from crossband.errors import CrossbandError, OptionError
from crossband.many.parts import Cut, name_of
from crossband.pairs.base import PairSubset
from crossband.pairs.given import given_source
from crossband.pairs.opening import open_pairs
from crossband.result_folder import MANIFEST_NAME, read_results
from crossband.words import Bands, Missing, Precision


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

    def done(self, index: int) -> Done | None:
        """What became of a part whose result is there, whole; None for one that is not."""

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

    def _check_number(self, found: int) -> None:
        """Raise OptionError if this worker sees another list than the command did."""
        if found != self.cut.pairs:
            raise OptionError(
                f"{self.cut.source} has {found} pairs here, and {self.cut.pairs} where the work was given "
                "out: every worker must see the same files"
            )


@dataclass(frozen=True)
class ScoreParts(_OnPairs):
    """Count the labels of a part as `crossband.evaluation.evaluate` does, into ``out/part-NUMBER.npz``."""

    bands: tuple[Bands, ...] = ("both",)
    by: Literal["condition"] | None = "condition"
    precision: Precision = "float32"

    def file(self, index: int) -> Path:
        return self.out / f"{name_of(index)}.npz"

    def done(self, index: int) -> Done | None:
        return Done(len(self.cut.part(index))) if self.file(index).is_file() else None

    def begin(self) -> Callable[[int], Done]:
        from crossband.evaluation import evaluate
        from crossband.evaluation.pair_counts import write_pair_counts
        from crossband.loading import load

        predictor = load(self.cut.run, **self.load)
        split = self.cut.split
        assert split is not None
        pairs = open_pairs(self.cut.source, split, infrared_scaling=predictor.card.infrared_scaling)
        self._check_number(len(pairs))

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


@dataclass(frozen=True)
class PredictParts(_OnPairs):
    """Segment a part as `crossband.predicting.predict_files` does, into the folder ``out/part-NUMBER``.

    A part is worked on in a hidden folder, where another worker goes on should this one die, and gets its
    name when it is whole. missing: what becomes of pairs that lack a band.
    """

    missing: Missing | None = None

    def folder(self, index: int) -> Path:
        return self.out / name_of(index)

    def done(self, index: int) -> Done | None:
        folder, pairs = self.folder(index), len(self.cut.part(index))
        return Done(pairs, pairs - len(read_results(folder))) if folder.is_dir() else None

    def begin(self) -> Callable[[int], Done]:
        from crossband.loading import load
        from crossband.predicting import predict_files

        predictor = load(self.cut.run, **self.load)
        rule = "auto" if predictor.scaling is None else str(predictor.scaling)
        splits = None if self.cut.split is None else [self.cut.split]
        given = given_source(self.cut.source, splits, missing=self.missing, infrared_scaling=rule)
        self._check_number(len(given.pairs))

        def predict(index: int) -> Done:
            part = [given.pairs[number] for number in self.cut.part(index)]
            begun = self.out / f".{name_of(index)}"
            resume = (begun / MANIFEST_NAME).is_file()
            if not resume:
                # Of a worker that died before its first result.
                shutil.rmtree(begun, ignore_errors=True)
            outcome = predict_files(
                predictor,
                part,
                begun,
                workers=1,
                batch_size=self.batch_size,
                on_error="skip",
                resume=resume,
                source=given.source,
            )
            os.rename(begun, self.folder(index))
            return Done(len(part), len(outcome.failed))

        return predict


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
        try:
            return job.done(index) or do(index)
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
