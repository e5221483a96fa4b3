"""Many metrics at once: of one picture, of a batch, over a test set."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from crossband.deprecation import renamed_keyword
from crossband.errors import OptionError
from crossband.metrics.fusion.conventions import CONVENTIONS, DEFAULT_CONVENTION, METRICS, Convention
from crossband.metrics.fusion.images import FusedPair, Image, Precision


@renamed_keyword("preset", "convention")
def fusion_scores(
    fused: Image,
    visible: Image,
    infrared: Image,
    convention: str = DEFAULT_CONVENTION,
    *,
    metrics: Sequence[str] | None = None,
    data_range: float | None = None,
    eight_bit: bool = False,
    stretch: bool = False,
    precision: Precision = "float64",
    device: str | torch.device | None = None,
) -> dict[str, float]:
    """The scores of one fused picture against its pair, by metric, in the order of `METRICS`.

    convention: a name of `CONVENTIONS`. metrics: some of the convention's; by default all that it has.
    The other arguments are those of `FusedPair`. Scores that are undefined are NaN, by the rule in the
    docstring of the metric's function.

    Raises OptionError for unknown names, for more than one picture, and what `FusedPair` refuses.

    >>> import numpy as np
    >>> row, column = np.mgrid[:64, :64].astype(np.uint8)
    >>> scores = fusion_scores(row + column, 2 * row, 2 * column, metrics=["SD", "CC", "SSIM"])
    >>> {name: round(score, 4) for name, score in scores.items()}
    {'SD': 26.1247, 'CC': 0.7071, 'SSIM': 1.7193}
    """
    pair = FusedPair(
        fused,
        visible,
        infrared,
        data_range=data_range,
        eight_bit=eight_bit,
        stretch=stretch,
        precision=precision,
        device=device,
    )
    if len(pair.fused) != 1:
        raise OptionError(
            f"{len(pair.fused)} pictures were given, but one is scored: use fusion_scores_batch"
        )
    return {name: float(score) for name, score in _scores(pair, *_selected(convention, metrics)).items()}


@renamed_keyword("preset", "convention")
def fusion_scores_batch(
    fused: Image,
    visible: Image,
    infrared: Image,
    convention: str = DEFAULT_CONVENTION,
    *,
    metrics: Sequence[str] | None = None,
    data_range: float | None = None,
    eight_bit: bool = False,
    stretch: bool = False,
    precision: Precision = "float64",
    device: str | torch.device | None = None,
) -> dict[str, Tensor]:
    """The scores of every picture of a batch, computed together: float64 (B,) on the CPU, by metric.

    fused, visible, infrared: (B, C, H, W); one picture is a batch of one. All else is as in `fusion_scores`.
    """
    pair = FusedPair(
        fused,
        visible,
        infrared,
        data_range=data_range,
        eight_bit=eight_bit,
        stretch=stretch,
        precision=precision,
        device=device,
    )
    scores = _scores(pair, *_selected(convention, metrics))
    return {name: score.reshape(-1).cpu() for name, score in scores.items()}


class Spread(NamedTuple):
    """A metric over a test set: mean and sample standard deviation of the images where it is defined.

    defined, undefined: how many images these are, and on how many it is NaN. The mean of none is NaN, and so
    is the deviation of less than two.
    """

    mean: float
    std: float
    defined: int
    undefined: int


class FusionScores:
    """The scores of a test set, gathered picture by picture or batch by batch.

    All arguments are those of `fusion_scores`. values: the scores of every picture, by metric, in the order
    of the updates.
    """

    @renamed_keyword("preset", "convention")
    def __init__(
        self,
        convention: str = DEFAULT_CONVENTION,
        *,
        metrics: Sequence[str] | None = None,
        data_range: float | None = None,
        eight_bit: bool = False,
        stretch: bool = False,
        precision: Precision = "float64",
        device: str | torch.device | None = None,
    ):
        self.convention, self._names = _selected(convention, metrics)
        self._reading = {
            "data_range": data_range,
            "eight_bit": eight_bit,
            "stretch": stretch,
            "precision": precision,
            "device": device,
        }
        self.values: dict[str, list[float]] = {}
        self.reset()

    def reset(self) -> None:
        """Forget all pictures."""
        self.values = {name: [] for name in self._names}

    def update(self, fused: Image, visible: Image, infrared: Image) -> dict[str, Tensor]:
        """Score a picture or a batch, keep the values, and return them as `fusion_scores_batch` does."""
        scores = fusion_scores_batch(
            fused,
            visible,
            infrared,
            self.convention.name,
            metrics=self._names,
            **self._reading,  # type: ignore[arg-type]
        )
        for name, score in scores.items():
            self.values[name] += score.tolist()
        return scores

    def merge(self, other: FusionScores) -> None:
        """Add the pictures of another one. Raises OptionError if it scores otherwise."""
        ours, theirs = ((o.convention.name, o._names, o._reading) for o in (self, other))
        if ours != theirs:
            raise OptionError(f"scores of different conventions do not mix: {ours} and {theirs}")
        for name, values in other.values.items():
            self.values[name] += values

    def compute(self) -> dict[str, Spread]:
        """Mean and spread over all pictures so far, by metric."""
        return {name: _spread(values) for name, values in self.values.items()}

    def __len__(self) -> int:
        return len(self.values[self._names[0]])


def _selected(convention: str, metrics: Sequence[str] | None) -> tuple[Convention, list[str]]:
    """The convention of a name, and the names of its metrics that were asked for, in their order."""
    if convention not in CONVENTIONS:
        raise OptionError(f"unknown convention {convention!r}: use one of {', '.join(CONVENTIONS)}")
    chosen = CONVENTIONS[convention]
    if metrics is None:
        return chosen, list(chosen.metrics)
    if isinstance(metrics, str):
        raise OptionError(f"metrics are names in a list, such as [{metrics!r}], not {metrics!r} alone")
    unknown = [name for name in metrics if name not in chosen.metrics]
    if unknown or not metrics:
        what = ", ".join(map(repr, unknown)) if unknown else repr(metrics)
        raise OptionError(
            f"convention {convention} has no metrics {what}: name some of {', '.join(chosen.metrics)}"
        )
    return chosen, [name for name in chosen.metrics if name in metrics]


@torch.no_grad()
def _scores(pair: FusedPair, convention: Convention, names: Sequence[str]) -> dict[str, Tensor]:
    functions = {metric.name: metric.function for metric in METRICS if metric.name in names}
    return {name: functions[name](pair, **convention.metrics[name]) for name in names}


def _spread(values: Sequence[float]) -> Spread:
    defined = [value for value in values if not math.isnan(value)]
    mean = statistics.fmean(defined) if defined else math.nan
    enough = len(defined) > 1 and all(map(math.isfinite, defined))
    std = statistics.stdev(defined) if enough else math.nan
    return Spread(mean, std, len(defined), len(values) - len(defined))
