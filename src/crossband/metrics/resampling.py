"""How sure a score is: intervals by the bootstrap over pairs (Efron, Annals of Statistics 1979).

A mean IoU is a ratio of sums over all pixels of a test set, so no formula for the error of a mean holds for
it. What can be drawn again are the pairs: a replicate is a test set of as many pairs, drawn with replacement,
whose confusion matrices are added and scored as the whole set is. Two methods are compared on the same draws
("paired"): a hard pair is hard for both, and only what differs is left.

All is NumPy; matrices are counted per pair once, and a replicate is a product of two matrices.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from crossband.metrics.drawing import LEVEL, REPLICATES, check_drawing, check_interval
from crossband.metrics.protocols import DEFAULT_PROTOCOL, PROTOCOLS, Counts, find_protocol
from crossband.metrics.segmentation import ratio

# A replicate of many pairs is drawn in parts, so that the draws of all never lie in memory at once.
_DRAWS_AT_ONCE = 4_000_000


@dataclass(frozen=True)
class Interval:
    """A number and the range that holds the true one with a stated probability. NaN where there is none."""

    value: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether the range lies wholly above or wholly below zero."""
        return bool(self.low > 0 or self.high < 0)


def mean_ious(confusion: np.ndarray, protocol: str = DEFAULT_PROTOCOL) -> np.ndarray:
    """The mean IoU of every matrix of a stack.

    confusion: (..., C, C) counts, rows = truth. Gives float64 (...), in [0, 1], NaN where the protocol
    averages no class. Raises OptionError for an unknown protocol.
    """
    counts = Counts.of(confusion)
    averaged = find_protocol(protocol).averages(counts)
    iou = np.nan_to_num(ratio(counts.right, counts.union), nan=0.0)
    return ratio((iou * averaged).sum(axis=-1), averaged.sum(axis=-1))


def class_ious(confusion: np.ndarray) -> np.ndarray:
    """The IoU of every class of a stack of matrices: (..., C, C) to float64 (..., C), NaN where none is."""
    counts = Counts.of(confusion)
    return ratio(counts.right, counts.union)


def resampled(
    matrices: np.ndarray, *, replicates: int = REPLICATES, seed: int = 0, block: int = 1
) -> np.ndarray:
    """Confusion matrices of test sets drawn again with replacement.

    matrices: (..., N, C, C) counts per pair; what stands before N (methods, runs) shares its draws.
    block: pairs that follow each other are drawn together by so many: frames of one sequence resemble each
        other, and drawn one by one they would seem to say more than they do.

    Gives float64 (..., replicates, C, C). Raises OptionError for fewer than two blocks, or a number below 1.
    """
    pairs, classes = matrices.shape[-3], matrices.shape[-1]
    check_drawing(pairs, replicates=replicates, block=block)
    starts = np.arange(0, pairs, block)
    blocks = np.add.reduceat(matrices.astype(np.float64), starts, axis=-3)
    flat = blocks.reshape(*blocks.shape[:-2], classes**2)
    generator = np.random.default_rng(seed)
    shares = np.full(len(starts), 1 / len(starts))
    at_once = max(1, _DRAWS_AT_ONCE // len(starts))
    drawn = [
        generator.multinomial(len(starts), shares, size=min(at_once, replicates - done)) @ flat
        for done in range(0, replicates, at_once)
    ]
    return np.concatenate(drawn, axis=-2).reshape(*matrices.shape[:-3], replicates, classes, classes)


def interval(value: float, replicates: np.ndarray, level: float = LEVEL) -> Interval:
    """The range between the quantiles of replicates (R,), of which NaN are left out. level: in (0, 1)."""
    known = replicates[np.isfinite(replicates)]
    if np.isnan(value) or not known.size:
        return Interval(value, np.nan, np.nan)
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(value), float(low), float(high))


def mean_iou_intervals(matrices: np.ndarray) -> dict[str, Interval]:
    """The mean IoU of all pairs together by protocol, and what other pairs of their kind would give.

    matrices: (N, C, C) counts per pair. The ranges are NaN for a single pair.
    """
    whole, drawn = matrices.sum(axis=0), _drawn(matrices)
    return {
        protocol: interval(float(mean_ious(whole, protocol)), mean_ious(drawn, protocol))
        for protocol in PROTOCOLS
    }


def class_iou_intervals(matrices: np.ndarray) -> tuple[Interval, ...]:
    """The IoU of every class of all pairs together, and what other pairs of their kind would give.

    matrices: (N, C, C) counts per pair. The ranges are NaN for a single pair; of a class that neither truth
    nor prediction has, the value is too.
    """
    whole, drawn = class_ious(matrices.sum(axis=0)), class_ious(_drawn(matrices))
    return tuple(interval(float(value), drawn[:, index]) for index, value in enumerate(whole))


def _drawn(matrices: np.ndarray) -> np.ndarray:
    """`resampled` with what it does by itself; NaN for a single pair."""
    return resampled(matrices) if len(matrices) > 1 else np.full((1, *matrices.shape[1:]), np.nan)


def mean_class_accuracies(confusion: np.ndarray) -> np.ndarray:
    """The mean, over the classes in the truth, of the share of their pixels that was found, of every matrix.

    confusion: (..., C, C) counts, rows = truth. Gives float64 (...), NaN where there is no truth.
    """
    counts = Counts.of(confusion)
    found = np.nan_to_num(ratio(counts.right, counts.truth), nan=0.0)
    return ratio(found.sum(axis=-1), (counts.truth > 0).sum(axis=-1))


def runs_interval(
    matrices: np.ndarray,
    score: Callable[[np.ndarray], np.ndarray] = mean_ious,
    *,
    replicates: int = REPLICATES,
    level: float = LEVEL,
    seed: int = 0,
    block: int = 1,
) -> Interval:
    """The mean score of the runs of a method, and what other pairs, and other runs, would give.

    matrices: (S, N, C, C) counts of each run per pair. score: from matrices (..., C, C) to shares (...). The
    runs are scored on the same draws, and their spread is in the range (`runs_error`); of one run nothing is
    known of what another would give. Raises OptionError as `resampled`, and for too few replicates to tell
    an interval of that level (`check_interval`).
    """
    check_interval(replicates=replicates, level=level)
    each = score(matrices.sum(axis=1))
    drawn = score(resampled(matrices, replicates=replicates, seed=seed, block=block)).mean(axis=0)
    # Another seed than the draws of pairs have, of which these are independent.
    drawn = drawn + runs_error([each], replicates, seed=seed + 1)
    return interval(float(each.mean()), drawn.clip(0, 1), level)


def runs_error(methods: Sequence[np.ndarray], replicates: int, *, seed: int = 0) -> np.ndarray:
    """Draws of the error that the few runs of one method, or of the difference of two, leave.

    methods: per method the scores of its runs, (S, ...). The methods' runs are taken to spread alike: their
        pooled variance over the runs' numbers gives the standard error, and Student's t with as many degrees
        of freedom as there are runs beyond one a method gives the draws. Where every method has one run,
        nothing is known of the spread, and the draws are zero.

    Gives float64 (replicates, ...).
    """
    freedom = sum(len(values) - 1 for values in methods)
    shape = methods[0].shape[1:]
    if freedom == 0:
        return np.zeros((replicates, *shape))
    squares = sum(((values - values.mean(axis=0)) ** 2).sum(axis=0) for values in methods)
    error = np.sqrt(squares / freedom * sum(1 / len(values) for values in methods))
    draws = np.random.default_rng(seed).standard_t(freedom, size=replicates)
    return draws.reshape(-1, *(1 for _ in shape)) * error
