"""Which of several methods is better on the same pairs, how sure that is, and what carries it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from crossband.errors import OptionError, quoted
from crossband.evaluation.pair_counts import PairCounts
from crossband.evaluation.passing import UNSPECIFIED, condition_name
from crossband.evaluation.result import ALL
from crossband.metrics.drawing import LEVEL, REPLICATES, check_drawing, check_interval
from crossband.metrics.protocols import DEFAULT_PROTOCOL, Counts, find_protocol
from crossband.metrics.resampling import (
    Interval,
    class_ious,
    interval,
    mean_ious,
    resampled,
    runs_error,
    runs_interval,
)
from crossband.metrics.segmentation import ratio
from crossband.text import listed
from crossband.words import Bands


@dataclass(frozen=True)
class MethodRun:
    """One run of a method: a name for its messages, the bands that it was given, and what was counted.

    system: what was run, with its variant, if it has one; None where that is not known.
    """

    name: str
    bands: Bands
    counts: PairCounts
    system: str | None = None


@dataclass(frozen=True)
class MethodScore:
    """A method's mean IoU with its interval, and that of every run, in the order given.

    system: those of its runs, each named once; None where none is known.
    """

    name: str
    bands: Bands
    mean_iou: Interval
    runs: Mapping[str, float]
    system: str | None = None


@dataclass(frozen=True)
class ClassDifference:
    """One class: the IoU of both methods, the difference, and its part of the difference in mean IoU.

    The parts of all classes sum to that difference, also where the methods average other classes.
    """

    index: int
    first: float
    second: float
    difference: Interval
    part: float


@dataclass(frozen=True)
class ConfusionChange:
    """Pixels of one class (``truth``) that were taken for another: the share by each method, in [0, 1]."""

    truth: int
    prediction: int
    first: float
    second: float


@dataclass(frozen=True)
class PairDifference:
    """One pair: its place, its name and the mean IoU of both methods on it alone."""

    index: int
    name: str
    first: float
    second: float


@dataclass(frozen=True)
class Difference:
    """The first method minus the second; all numbers in [0, 1] or differences of such.

    mean_iou: over all pairs. conditions: the same within each condition, with the number of its pairs.
    classes: one for each class that either method has an IoU on, in the order of the ids.
    confusions: every wrong (truth, prediction) whose share differs, the largest difference first.
    pairs: every pair, the largest difference first, whichever method is ahead there.
    """

    first: str
    second: str
    mean_iou: Interval
    conditions: Mapping[str, tuple[int, Interval]]
    classes: tuple[ClassDifference, ...]
    confusions: tuple[ConfusionChange, ...]
    pairs: tuple[PairDifference, ...]


@dataclass(frozen=True)
class Comparison:
    """Several methods on the same pairs.

    source, split: those of the pairs; where the runs' own differ, such as two copies of one set, each once.
    methods: in the order given. differences: the first method against each other one.
    level, replicates, seed, block: how the intervals were made (`crossband.metrics.resampling`).
    """

    source: str
    split: str
    classes: tuple[str, ...]
    pairs: int
    protocol: str
    methods: tuple[MethodScore, ...]
    differences: tuple[Difference, ...]
    level: float
    replicates: int
    seed: int
    block: int


def compare(
    methods: Mapping[str, Sequence[MethodRun]],
    *,
    protocol: str = DEFAULT_PROTOCOL,
    replicates: int = REPLICATES,
    level: float = LEVEL,
    seed: int = 0,
    block: int = 1,
) -> Comparison:
    """Compare the first method with each other one by a paired bootstrap over pairs.

    methods: the runs of each method, such as those of several seeds; a method's mean IoU is the mean of its
        runs', and their spread enters its interval. With one run each, an interval speaks of the pairs alone:
        it does not say what another seed would give.
    protocol: which classes a mean IoU averages. replicates, level, seed: of the intervals.
    block: pairs that follow each other are drawn together by so many, for frames of one sequence.

    Raises OptionError for fewer than two methods, for two runs of one name in a method, for runs that were
    scored on other pairs or with other classes, for fewer than two blocks of pairs, and for too few
    replicates to tell an interval of the level.
    """
    if len(methods) < 2:
        raise OptionError("two methods or more are needed to compare: name another run")
    find_protocol(protocol)
    check_interval(replicates=replicates, level=level)
    shared = _shared_counts(methods)
    check_drawing(len(shared.names), replicates=replicates, block=block)
    stacked = {
        name: np.stack([run.counts.matrices[run.bands] for run in runs]) for name, runs in methods.items()
    }
    drawn = _Drawn(stacked, protocol, replicates, level, seed, block)
    names = list(methods)
    every = [run for runs in methods.values() for run in runs]
    return Comparison(
        source=listed([*dict.fromkeys(run.counts.source for run in every)]),
        split=listed([*dict.fromkeys(run.counts.split for run in every)]),
        classes=shared.classes.names,
        pairs=len(shared.names),
        protocol=protocol,
        methods=tuple(drawn.score(name, methods[name]) for name in names),
        differences=tuple(_difference(drawn, names[0], other, shared) for other in names[1:]),
        level=level,
        replicates=replicates,
        seed=seed,
        block=block,
    )


@dataclass(frozen=True)
class _Drawn:
    """The matrices of every method's runs, (S, N, C, C), and how intervals are drawn from them.

    All draws start at one seed, so that two methods are scored on the same replicates.
    """

    matrices: Mapping[str, np.ndarray]
    protocol: str
    replicates: int
    level: float
    seed: int
    block: int

    def score(self, name: str, runs: Sequence[MethodRun]) -> MethodScore:
        matrices = self.matrices[name]
        each = self._mean_iou(matrices.sum(axis=1))
        found = runs_interval(
            matrices,
            self._mean_iou,
            replicates=self.replicates,
            level=self.level,
            seed=self.seed,
            block=self.block,
        )
        return MethodScore(
            name,
            runs[0].bands,
            found,
            {run.name: float(value) for run, value in zip(runs, each, strict=True)},
            listed([*dict.fromkeys(run.system for run in runs if run.system)]) or None,
        )

    def difference(self, first: str, second: str, members: np.ndarray | None = None) -> Interval:
        """Of the mean IoUs, over all pairs or those of ``members`` (bool (N,)); NaN bounds for too few."""
        chosen = [
            self.matrices[name] if members is None else self.matrices[name][:, members]
            for name in (first, second)
        ]
        a, b = (self._mean_iou(matrices.sum(axis=1)) for matrices in chosen)
        replicates = np.full(1, np.nan)
        if chosen[0].shape[1] > self.block:
            drawn = [self._mean_iou(self._resampled(matrices)).mean(axis=0) for matrices in chosen]
            replicates = drawn[0] - drawn[1] + self._runs_error(a, b)
        return interval(float(a.mean() - b.mean()), replicates, self.level)

    def class_differences(self, first: str, second: str) -> list[ClassDifference]:
        chosen = [self.matrices[name] for name in (first, second)]
        a, b = (class_ious(matrices.sum(axis=1)) for matrices in chosen)
        drawn = [class_ious(self._resampled(matrices)).mean(axis=0) for matrices in chosen]
        replicates = drawn[0] - drawn[1] + self._runs_error(a, b)
        parts = self._shares(chosen[0]) - self._shares(chosen[1])
        found = []
        for index, (ours, theirs) in enumerate(zip(a.mean(axis=0), b.mean(axis=0), strict=True)):
            if np.isnan(ours) and np.isnan(theirs):
                continue
            difference = interval(float(ours - theirs), replicates[:, index], self.level)
            part = float(parts[index])
            found.append(ClassDifference(index, float(ours), float(theirs), difference, part))
        return found

    def _shares(self, matrices: np.ndarray) -> np.ndarray:
        """(C,) what each class adds to a method's mean IoU: they sum to it, however many its runs average."""
        runs = matrices.sum(axis=1)
        averaged = find_protocol(self.protocol).averages(Counts.of(runs))
        ious = np.nan_to_num(class_ious(runs)) * averaged
        return ratio(ious, np.broadcast_to(averaged.sum(axis=-1, keepdims=True), ious.shape)).mean(axis=0)

    def pair_means(self, name: str) -> np.ndarray:
        """(N,) the mean IoU on each pair alone, over the runs; NaN for a pair without a counted pixel."""
        matrices = self.matrices[name]
        # Protocols that average absent classes have a score, 0, for such a pair too.
        counted = matrices.sum(axis=(-2, -1)) > 0
        return np.where(counted, self._mean_iou(matrices), np.nan).mean(axis=0)

    def confusion_shares(self, name: str) -> np.ndarray:
        """(C, C) the share of a class's pixels that was taken for each class, over the runs; NaN if none."""
        total = self.matrices[name].sum(axis=(0, 1)).astype(np.float64)
        truth = total.sum(axis=1, keepdims=True)
        return np.divide(total, truth, out=np.full_like(total, np.nan), where=truth > 0)

    def _mean_iou(self, matrices: np.ndarray) -> np.ndarray:
        return mean_ious(matrices, self.protocol)

    def _resampled(self, matrices: np.ndarray) -> np.ndarray:
        return resampled(matrices, replicates=self.replicates, seed=self.seed, block=self.block)

    def _runs_error(self, *methods: np.ndarray) -> np.ndarray:
        # Another seed than the draws of pairs have, of which these are independent.
        return runs_error(methods, self.replicates, seed=self.seed + 1)


def _difference(drawn: _Drawn, first: str, second: str, shared: PairCounts) -> Difference:
    found = dict.fromkeys(shared.conditions)
    # Counts of earlier versions have conditions by the names of the pairs.
    conditions = np.array([condition_name(condition) for condition in shared.conditions])
    split = [] if list(found) in ([UNSPECIFIED], [ALL]) else sorted(set(conditions.tolist()))
    return Difference(
        first,
        second,
        drawn.difference(first, second),
        {
            name: (int((conditions == name).sum()), drawn.difference(first, second, conditions == name))
            for name in split
        },
        tuple(drawn.class_differences(first, second)),
        tuple(_confusion_changes(drawn.confusion_shares(first), drawn.confusion_shares(second))),
        tuple(_pair_differences(drawn.pair_means(first), drawn.pair_means(second), shared.names)),
    )


def _confusion_changes(first: np.ndarray, second: np.ndarray) -> list[ConfusionChange]:
    changes = [
        ConfusionChange(truth, prediction, float(first[truth, prediction]), float(second[truth, prediction]))
        for truth, prediction in np.argwhere(
            np.nan_to_num(first != second) & np.isfinite(first - second)
        ).tolist()
        if truth != prediction
    ]
    return sorted(changes, key=lambda change: -abs(change.first - change.second))


def _pair_differences(first: np.ndarray, second: np.ndarray, names: Sequence[str]) -> list[PairDifference]:
    known = np.flatnonzero(np.isfinite(first - second)).tolist()
    order = sorted(known, key=lambda index: -abs(first[index] - second[index]))
    return [PairDifference(i, names[i], float(first[i]), float(second[i])) for i in order]


def _shared_counts(methods: Mapping[str, Sequence[MethodRun]]) -> PairCounts:
    """The counts of the first run, when all runs were scored on the same pairs."""
    runs = [(name, run) for name, runs in methods.items() for run in runs]
    empty = [name for name, runs_of in methods.items() if not runs_of]
    if empty:
        raise OptionError(f"method {quoted(empty[0])} has no runs")
    for name, runs_of in methods.items():
        if len({run.name for run in runs_of}) < len(runs_of):
            raise OptionError(f"method {quoted(name)} has two runs of one name: give each a name of its own")
    first = runs[0][1]
    for _, run in runs:
        if run.bands not in run.counts.matrices:
            raise OptionError(
                f"{run.name} was not scored on {run.bands}, but on {', '.join(run.counts.matrices)}"
            )
        for what, ours, theirs in (
            ("classes", first.counts.classes.names, run.counts.classes.names),
            ("pairs", first.counts.names, run.counts.names),
        ):
            if ours != theirs:
                raise OptionError(
                    f"{first.name} and {run.name} were scored on other {what}: only scores on the same pairs "
                    "with the same classes can be compared; evaluate both on the same data and split"
                )
        if not np.array_equal(_truth(first), _truth(run)):
            raise OptionError(
                f"{first.name} and {run.name} were scored on other labels under the same names: evaluate "
                "both on the same data and split"
            )
    return first.counts


def _truth(run: MethodRun) -> np.ndarray:
    """(N, C) the pixels of truth of every pair."""
    return run.counts.matrices[run.bands].sum(axis=-1)
