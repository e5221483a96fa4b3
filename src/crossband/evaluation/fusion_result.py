"""What an evaluation of fused pictures found, as data."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from crossband.deprecation import old_method
from crossband.evaluation.passing import pairs_by_condition
from crossband.evaluation.result import ALL
from crossband.metrics.fusion import METRICS, Convention, FusionScores, Metric, Spread
from crossband.words import Band


@dataclass(frozen=True)
class FusedMethod:
    """One way to fuse, and its scores.

    origin: the system's name, with the variant of a run, or the folder that the pictures were read from.
    stretched: whether each picture was stretched to 0..255 before it was scored; None for pictures that were
        read, of which it is not known.
    full_range: how many of the pictures hold both 0 and 255.
    values: by metric, one value per pair in the order of the pairs; NaN where it is undefined.
    band: whose image is scored as it is, where nothing is fused.
    """

    origin: str
    stretched: bool | None
    full_range: int
    values: dict[str, list[float]]
    band: Band | None = None


@dataclass(frozen=True)
class FusionExample:
    """The pictures of one pair: visible and fused uint8 (H, W, 3), infrared uint8 (H, W).

    condition: empty where it is not known. fused: by method; a band alone is not among them.
    """

    pair: str
    condition: str
    visible: np.ndarray
    infrared: np.ndarray
    fused: dict[str, np.ndarray]


@dataclass(frozen=True)
class FusionScope:
    """The scores on ``ALL`` pairs or on one condition. pairs: how many they are.

    spreads: by metric, then by method. decimals: by metric, how many a table needs.
    best: by metric, the methods whose mean, as printed, is the best; none where it is defined for one method
        only, or for the methods on different pairs.
    """

    condition: str
    pairs: int
    spreads: dict[str, dict[str, Spread]]
    decimals: dict[str, int]
    best: dict[str, frozenset[str]]


@dataclass
class FusionEvaluation:
    """What one pass over a list of pairs found about the pictures that some methods made of them.

    source, split: those of the pairs. convention: of the metrics. pairs: their names.
    conditions: one per pair; empty without a split by condition.
    methods: in the order asked for. sources_full_range: how many images of each band hold both 0 and 255.
    examples: pairs to look at.
    provenance: what the caller wants kept beside the numbers; anything that JSON can hold.
    """

    source: str
    split: str
    convention: Convention
    pairs: list[str]
    conditions: list[str]
    methods: dict[str, FusedMethod]
    sources_full_range: dict[Band, int]
    examples: list[FusionExample] = field(default_factory=list)
    provenance: dict[str, Any] = field(default_factory=dict)

    @property
    def metrics(self) -> list[Metric]:
        """What was computed, in the order of all tables."""
        computed = next(iter(self.methods.values())).values
        return [metric for metric in METRICS if metric.name in computed]

    @property
    def pairs_by_condition(self) -> dict[str, int]:
        """How many pairs each condition has; empty without a split by condition."""
        return pairs_by_condition(Counter(self.conditions))

    @cached_property
    def scopes(self) -> list[FusionScope]:
        """All pairs, then each condition if there are several."""
        everything = list(range(len(self.pairs)))
        members = {ALL: everything}
        if len(self.pairs_by_condition) > 1:
            members |= {
                name: [index for index in everything if self.conditions[index] == name]
                for name in self.pairs_by_condition
            }
        return [self._scope(condition, indices) for condition, indices in members.items()]

    def probably_stretched(self, name: str) -> bool:
        """Whether pictures from elsewhere all hold both 0 and 255."""
        method = self.methods[name]
        return method.stretched is None and method.full_range == len(self.pairs)

    to_text = old_method("to_text", "crossband.report", "fusion_text")
    to_csv = old_method("to_csv", "crossband.report", "fusion_csv")
    to_dict = old_method("to_dict", "crossband.report", "fusion_dict")
    write = old_method("write", "crossband.report", "write_fusion_evaluation")

    def _scope(self, condition: str, indices: list[int]) -> FusionScope:
        by_method = {}
        undefined = {}
        for name, method in self.methods.items():
            scores = FusionScores(self.convention.name, metrics=[metric.name for metric in self.metrics])
            scores.values = {m: [values[index] for index in indices] for m, values in method.values.items()}
            by_method[name] = scores.compute()
            undefined[name] = {m: tuple(map(math.isnan, values)) for m, values in scores.values.items()}
        spreads = {m.name: {name: by_method[name][m.name] for name in self.methods} for m in self.metrics}
        decimals = {m.name: _decimals(m, spreads[m.name]) for m in self.metrics}
        # A method that is defined on no pair, as a band alone by SCD, keeps no other from being the best.
        alike = {
            m.name: len({d[m.name] for d in undefined.values() if not all(d[m.name])}) == 1
            for m in self.metrics
        }
        best = {
            m.name: _best(m, spreads[m.name], decimals[m.name]) if alike[m.name] else frozenset()
            for m in self.metrics
        }
        return FusionScope(condition, len(indices), spreads, decimals, best)


def _decimals(metric: Metric, spreads: dict[str, Spread]) -> int:
    """The metric's own decimals, or more if its largest mean would have less than three digits that count.

    Some conventions have a metric on 0..1 that others have on 0..255.
    """
    largest = max((abs(spread.mean) for spread in spreads.values() if spread.defined), default=0)
    if not 0 < largest < math.inf:
        return metric.digits
    return max(metric.digits, 2 - math.floor(math.log10(largest)))


def _best(metric: Metric, spreads: dict[str, Spread], decimals: int) -> frozenset[str]:
    """The methods with the best mean; none where there is nothing to compare."""
    means = {name: round(spread.mean, decimals) for name, spread in spreads.items() if spread.defined}
    if len(means) < 2:
        return frozenset()
    top = max(means.values()) if metric.better == "higher" else min(means.values())
    return frozenset(name for name, mean in means.items() if mean == top)
