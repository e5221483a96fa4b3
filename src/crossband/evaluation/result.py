"""What an evaluation of labels found, as data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from torch import Tensor

from crossband.deprecation import old_method
from crossband.evaluation.pair_counts import PairCounts
from crossband.metrics.resampling import Interval, class_iou_intervals, mean_iou_intervals
from crossband.metrics.segmentation import SegmentationScores, segmentation_scores
from crossband.pairs.base import Classes
from crossband.words import Band, Bands, Support

ALL = "all"
"""The name of the scope that takes all pairs together."""


@dataclass(frozen=True)
class BandResult:
    """How a system did on one combination of bands.

    support: whether the system was designed for the combination or offers it as a fallback.
    confusion: int64 (C, C) on the CPU, rows = truth, columns = prediction, over all pairs.
    confusion_by_condition: the same per condition, summing to ``confusion``; empty if the pairs have no
        conditions or the split was not asked for.
    """

    bands: Bands
    support: Support
    confusion: Tensor
    confusion_by_condition: dict[str, Tensor] = field(default_factory=dict)

    @cached_property
    def overall(self) -> SegmentationScores:
        return segmentation_scores(self.confusion)

    @cached_property
    def by_condition(self) -> dict[str, SegmentationScores]:
        return {name: segmentation_scores(matrix) for name, matrix in self.confusion_by_condition.items()}


@dataclass(frozen=True)
class Scope:
    """The scores of one band combination on one condition, or on ``ALL`` pairs. pairs: how many they are."""

    result: BandResult
    condition: str
    pairs: int
    scores: SegmentationScores
    confusion: Tensor


@dataclass
class Evaluation:
    """What one pass over a list of pairs found.

    system: the system's name. source, split: those of the pairs. pairs: how many were read.
    precision: of the answers (`crossband.runtime.exported.precision_of`).
    pairs_by_condition: how many of them each condition has; empty without a split by condition.
    results: one per band combination, in the order asked for.
    counts: what was counted in every pair; None where nobody kept it.
    dropped: by combination, of how many pairs a band monitor left each band out; empty without one.
    provenance: what the caller wants kept beside the numbers, such as the command and the weights; anything
        that JSON can hold.
    """

    system: str
    source: str
    split: str
    classes: Classes
    pairs: int
    precision: str
    results: dict[Bands, BandResult]
    pairs_by_condition: dict[str, int] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    counts: PairCounts | None = None
    dropped: dict[Bands, dict[Band, int]] = field(default_factory=dict)

    @cached_property
    def intervals(self) -> dict[Bands, dict[str, Interval]]:
        """By band combination and protocol, the mean IoU over all pairs and its 95 % range over such pairs.

        Empty where what was counted in every pair was not kept.
        """
        matrices = {} if self.counts is None else self.counts.matrices
        return {bands: mean_iou_intervals(counted) for bands, counted in matrices.items()}

    @cached_property
    def class_intervals(self) -> dict[Bands, tuple[Interval, ...]]:
        """By band combination, the IoU of every class over all pairs with its range, as ``intervals``."""
        matrices = {} if self.counts is None else self.counts.matrices
        return {bands: class_iou_intervals(counted) for bands, counted in matrices.items()}

    @cached_property
    def condition_intervals(self) -> dict[Bands, dict[str, dict[str, Interval]]]:
        """By band combination, condition and protocol, the mean IoU of a condition's pairs, as ``intervals``.

        Empty without a split by condition too.
        """
        if self.counts is None:
            return {}
        conditions = np.array(self.counts.conditions)
        return {
            bands: {name: mean_iou_intervals(counted[conditions == name]) for name in self.pairs_by_condition}
            for bands, counted in self.counts.matrices.items()
        }

    def scopes(self) -> Iterator[Scope]:
        """Every band combination on all pairs, then on each condition."""
        for result in self.results.values():
            yield Scope(result, ALL, self.pairs, result.overall, result.confusion)
            for condition, scores in result.by_condition.items():
                matrix = result.confusion_by_condition[condition]
                yield Scope(result, condition, self.pairs_by_condition[condition], scores, matrix)

    to_text = old_method("to_text", "crossband.report", "evaluation_text")
    to_csv = old_method("to_csv", "crossband.report", "evaluation_csv")
    to_dict = old_method("to_dict", "crossband.report", "evaluation_dict")
    write = old_method("write", "crossband.report", "write_evaluation")
