"""A run's own band monitor: a small classifier per band that says whether the run answers better without it.

It is trained when the run's weights are there (`crossband.training.monitoring`) and kept in the run's card, so
that exported files have it too. It takes NumPy alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from crossband.errors import WeightsError, first_line
from crossband.pairs.image_statistics import SMALLEST, pair_statistics
from crossband.words import BANDS, Band

FARTHEST = 4.0
"""Deviations from the training pairs' mean at which a statistic is cut off: no image counts as farther."""
_MOST_UNITS = 4096


@dataclass(frozen=True)
class TrainedMonitor:
    """The weights of a monitor, for images of one run.

    names: the statistics that it looks at, in order (`pair_statistics`), S in all. mean, scale: (S,) of each on
    the training pairs. layers: (weight (out, in), bias (out,)) of a network with ReLU between its layers; its
    two outputs are scores of visible and infrared. needed: the score above which a band is left out.
    facts: how it was trained and what it found there, as JSON can hold it.
    """

    names: tuple[str, ...]
    mean: np.ndarray
    scale: np.ndarray
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
        scores = self.scores(np.array([[found[name] for name in self.names]]))[0]
        band = BANDS[int(scores.argmax())]
        return band if scores.max() > self.needed else None

    def scores(self, statistics: np.ndarray) -> np.ndarray:
        """(N, 2) scores of visible and infrared for statistics (N, S)."""
        values = np.clip((statistics - self.mean) / self.scale, -FARTHEST, FARTHEST)
        for weight, bias in self.layers[:-1]:
            values = np.maximum(values @ weight.T + bias, 0)
        weight, bias = self.layers[-1]
        return values @ weight.T + bias

    def to_fields(self) -> dict[str, Any]:
        """The monitor as plain data, its numbers to six digits."""
        return {
            "names": list(self.names),
            "mean": _rounded(self.mean),
            "scale": _rounded(self.scale),
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
                names=tuple(map(str, fields["names"])),
                mean=np.array(fields["mean"], dtype=float),
                scale=np.array(fields["scale"], dtype=float),
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


def _check(monitor: TrainedMonitor) -> None:
    size = len(monitor.names)
    blank = np.zeros((SMALLEST, SMALLEST), np.float32)
    unknown = sorted(set(monitor.names) - pair_statistics(np.dstack([blank] * 3), blank).keys())
    if unknown:
        raise ValueError(f"there is no statistic {unknown[0]!r}")
    if monitor.mean.shape != (size,) or monitor.scale.shape != (size,) or not (monitor.scale > 0).all():
        raise ValueError("its statistics do not fit together")
    for weight, bias in monitor.layers:
        if weight.ndim != 2 or bias.shape != weight.shape[:1] or weight.shape[1] != size or size > _MOST_UNITS:
            raise ValueError("its layers do not fit together")
        size = len(bias)
    if size != len(BANDS) or not monitor.layers:
        raise ValueError("it does not score two bands")
    numbers: Sequence[np.ndarray] = [monitor.mean, monitor.scale, *(a for layer in monitor.layers for a in layer)]
    if not all(np.isfinite(each).all() for each in numbers) or not np.isfinite(monitor.needed):
        raise ValueError("it holds NaN")


def _rounded(values: np.ndarray) -> list[float]:
    return [float(f"{value:.6g}") for value in values]
