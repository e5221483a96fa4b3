"""A run's own band monitor: a small classifier per band that says whether the run answers better without it.

It is trained when the run's weights are there (`crossband.training.monitoring`) and kept in the run's card,
so that exported files have it too. It takes NumPy alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from crossband.errors import WeightsError, first_line
from crossband.pairs.image_statistics import SMALLEST, pair_statistics
from crossband.words import BANDS, Band

FARTHEST = 8.0
"""Of a logarithm of a distance: no image counts as farther."""
_NEAREST = 0.3
"""Added to a distance before its logarithm, in which all whole pairs are then nearly alike."""


@dataclass(frozen=True)
class Usual:
    """What some statistics of whole pairs usually are, from which those of a pair are more or less far.

    names: of the statistics, G in all. mean: (G,). inverse: (G, G), of their covariance.
    """

    names: tuple[str, ...]
    mean: np.ndarray
    inverse: np.ndarray

    def distance(self, statistics: np.ndarray) -> np.ndarray:
        """(N,): the logarithm of the squared Mahalanobis distance by G, for statistics (N, G)."""
        off = statistics - self.mean
        squared = np.einsum("ni,ij,nj->n", off, self.inverse, off) / len(self.mean)
        return np.minimum(np.log(np.maximum(squared, 0) + _NEAREST), FARTHEST)


@dataclass(frozen=True)
class TrainedMonitor:
    """The weights of a monitor, for images of one run.

    usual: groups of statistics (`pair_statistics`), K in all: levels, colours, detail, contrast of a band,
    how the bands agree. What a network sees of a pair is how far each group is from the usual: distances
    carry over to faults that it was not trained on, where the statistics themselves do not.
    layers: (weight (out, in), bias (out,)) of a network of K inputs with ReLU between its layers; its two
    outputs are scores of visible and infrared. needed: the score above which a band is left out.
    facts: how it was trained and what it found there, as JSON can hold it.
    """

    usual: tuple[Usual, ...]
    layers: tuple[tuple[np.ndarray, np.ndarray], ...]
    needed: float
    facts: Mapping[str, Any]

    def harmful(self, visible: np.ndarray, infrared: np.ndarray) -> Band | None:
        """The band without which the run is expected to answer better; None for neither.

        visible: float32 (H, W, 3), infrared: float32 (H, W), in [0, 1] by the run's scaling rule. Nothing is
        said of images of less than `SMALLEST` pixels a side.
        """
        if min(infrared.shape[:2]) < SMALLEST:
            return None
        found = pair_statistics(visible, infrared)
        seen = np.array([[one.distance(_row(found, one.names))[0] for one in self.usual]])
        scores = self.scores(seen)[0]
        band = BANDS[int(scores.argmax())]
        return band if scores.max() > self.needed else None

    def scores(self, distances: np.ndarray) -> np.ndarray:
        """(N, 2) scores of visible and infrared for the distances (N, K) of each group."""
        values = distances
        for weight, bias in self.layers[:-1]:
            values = np.maximum(values @ weight.T + bias, 0)
        weight, bias = self.layers[-1]
        return values @ weight.T + bias

    def to_fields(self) -> dict[str, Any]:
        """The monitor as plain data, its numbers to six digits."""
        return {
            "usual": [
                {
                    "names": list(one.names),
                    "mean": _rounded(one.mean),
                    "inverse": [_rounded(row) for row in one.inverse],
                }
                for one in self.usual
            ],
            "layers": [
                {"weight": [_rounded(row) for row in weight], "bias": _rounded(bias)}
                for weight, bias in self.layers
            ],
            "needed": float(f"{self.needed:.6g}"),
            "facts": dict(self.facts),
        }

    @classmethod
    def from_fields(cls, fields: Any) -> TrainedMonitor:
        """The monitor that `to_fields` gave as data. Raises WeightsError for anything else."""
        try:
            monitor = cls(
                usual=tuple(
                    Usual(
                        tuple(map(str, one["names"])),
                        np.array(one["mean"], dtype=float),
                        np.array(one["inverse"], dtype=float),
                    )
                    for one in fields["usual"]
                ),
                layers=tuple(
                    (np.array(layer["weight"], dtype=float), np.array(layer["bias"], dtype=float))
                    for layer in fields["layers"]
                ),
                needed=float(fields["needed"]),
                facts=dict(fields["facts"]),
            )
            _check(monitor)
        except (KeyError, TypeError, ValueError) as error:
            raise WeightsError(
                f"the card's band monitor is none that this Crossband can use ({first_line(error)}): train "
                "again, or leave the monitor out"
            ) from error
        return monitor


def _row(found: Mapping[str, float], names: Sequence[str]) -> np.ndarray:
    return np.array([[found[name] for name in names]])


def _check(monitor: TrainedMonitor) -> None:
    blank = np.zeros((SMALLEST, SMALLEST), np.float32)
    known = pair_statistics(np.dstack([blank] * 3), blank).keys()
    numbers = [np.array(monitor.needed)]
    for one in monitor.usual:
        unknown = sorted(set(one.names) - known)
        if unknown:
            raise ValueError(f"there is no statistic {unknown[0]!r}")
        size = len(one.names)
        if not size or one.mean.shape != (size,) or one.inverse.shape != (size, size):
            raise ValueError("its statistics do not fit together")
        numbers += [one.mean, one.inverse]
    size = len(monitor.usual)
    for weight, bias in monitor.layers:
        if weight.ndim != 2 or bias.shape != weight.shape[:1] or weight.shape[1] != size:
            raise ValueError("its layers do not fit together")
        size = len(bias)
        numbers += [weight, bias]
    if size != len(BANDS) or not monitor.layers:
        raise ValueError("it does not score two bands")
    if not all(np.isfinite(each).all() for each in numbers):
        raise ValueError("it holds NaN")


def _rounded(values: np.ndarray) -> list[float]:
    return [float(f"{value:.6g}") for value in values]
