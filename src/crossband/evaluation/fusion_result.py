"""What an evaluation of fused pictures found, and how it is told: as text, as CSV, as JSON."""

from __future__ import annotations

import csv
import io
import json
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from crossband.evaluation.passing import pairs_by_condition
from crossband.evaluation.result import ALL
from crossband.evaluation.tables import or_none, text_table
from crossband.metrics.fusion import METRICS, PRESETS, FusionScores, Metric, Preset, Spread
from crossband.pairs.base import Band
from crossband.pairs.writing import write_text

CSV_COLUMNS = ("method", "pair", "condition", "metric", "value")
MARK = "*"
"""Stands before the best mean of a metric, in text."""
CONVENTIONS = (
    "Published tables compute metrics of one name in different ways, and so do the presets: values of two "
    "conventions must never be compared (docs/fusion-metrics.md)."
)


@dataclass(frozen=True)
class FusedMethod:
    """One way to fuse, and its scores.

    origin: the system's name, or the folder that the pictures were read from.
    stretched: whether each picture was stretched to 0..255 before it was scored; None for pictures that were
        read, of which it is not known.
    full_range: how many of the pictures hold both 0 and 255.
    values: by metric, one value per pair in the order of the pairs; NaN where it is undefined.
    """

    origin: str
    stretched: bool | None
    full_range: int
    values: dict[str, list[float]]


@dataclass(frozen=True)
class FusionExample:
    """The pictures of one pair: visible and fused uint8 (H, W, 3), infrared uint8 (H, W).

    condition: empty where it is not known. fused: by method.
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
    best: by metric, the methods whose mean, as printed, is the best; none where there is one method only, or
        where the methods are defined on different pairs.
    """

    condition: str
    pairs: int
    spreads: dict[str, dict[str, Spread]]
    decimals: dict[str, int]
    best: dict[str, frozenset[str]]


@dataclass
class FusionEvaluation:
    """What one pass over a list of pairs found about the pictures that some methods made of them.

    source, split: those of the pairs. preset: the convention of the metrics. pairs: their names.
    conditions: one per pair; empty without a split by condition.
    methods: in the order asked for. sources_full_range: how many images of each band hold both 0 and 255.
    examples: pairs to look at.
    provenance: what the caller wants kept beside the numbers; anything that JSON can hold.
    """

    source: str
    split: str
    preset: str
    pairs: list[str]
    conditions: list[str]
    methods: dict[str, FusedMethod]
    sources_full_range: dict[Band, int]
    examples: list[FusionExample] = field(default_factory=list)
    provenance: dict[str, Any] = field(default_factory=dict)

    @property
    def convention(self) -> Preset:
        return PRESETS[self.preset]

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

    def unit(self, metric: Metric) -> str:
        """The unit of a metric under the preset; empty if it has none."""
        return self.convention.unit(metric)

    def to_text(self) -> str:
        """Tables for a terminal: a row per metric, a column per method; all pairs first, then conditions."""
        names = list(self.methods)
        tables = [
            f"{self.describe_scope(scope)}\n\n"
            + text_table(
                ["metric", "better", *names],
                [
                    [self._metric_and_unit(metric), metric.better, *self._cells(scope, metric)]
                    for metric in self.metrics
                ],
                left=2,
            )
            for scope in self.scopes
        ]
        stretching = "\n".join(f"{name}: {self.describe_stretching(name)}" for name in names)
        return "\n\n".join(
            [
                f"Fused pictures on {self.source}\n{self.describe_pairs()}\n{self.describe_preset()}",
                f"Mean ± sample standard deviation over the pairs; {MARK} is the best mean of a row; "
                "[n] says on how many pairs a metric is defined, where it is not on all.",
                *tables,
                f"Stretched before scoring?\n{stretching}",
                f"{CONVENTIONS}\n",
            ]
        )

    def describe_pairs(self) -> str:
        """One line: which split, how many pairs of which condition."""
        conditions = ", ".join(f"{count} {name}" for name, count in self.pairs_by_condition.items())
        return f"Split {self.split}: {_counted(len(self.pairs))}{f' ({conditions})' if conditions else ''}"

    def describe_preset(self) -> str:
        """One line: the convention, and what was scored."""
        return f"Preset {self.preset}: {self.convention.summary}. Pictures of 8 bits, in grey."

    def describe_scope(self, scope: FusionScope) -> str:
        """One line over a table."""
        return f"{'All pairs' if scope.condition == ALL else scope.condition} ({scope.pairs})"

    def describe_stretching(self, name: str) -> str:
        """What is known of a method's pictures, in words."""
        method = self.methods[name]
        if method.stretched is not None:
            return "yes, to the whole of 0..255" if method.stretched else "no, scored as fused"
        if not self.probably_stretched(name):
            return f"not known, made elsewhere; {method.full_range} of {len(self.pairs)} span 0..255"
        like = " and ".join(f"{count} {band}" for band, count in self.sources_full_range.items())
        return f"probably: made elsewhere, and every picture spans exactly 0..255 (so do {like} images)"

    def probably_stretched(self, name: str) -> bool:
        """Whether pictures from elsewhere all hold both 0 and 255."""
        method = self.methods[name]
        return method.stretched is None and method.full_range == len(self.pairs)

    def to_dict(self) -> dict[str, Any]:
        """Everything but the pictures, ready for JSON: None where a value is undefined or infinite."""
        return {
            "source": self.source,
            "split": self.split,
            "preset": {
                "name": self.preset,
                "summary": self.convention.summary,
                "changes": list(self.convention.changes),
            },
            "metrics": {
                metric.name: {"title": metric.title, "better": metric.better, "unit": self.unit(metric)}
                for metric in self.metrics
            },
            "pairs": list(self.pairs),
            "conditions": list(self.conditions),
            "sources_full_range": dict(self.sources_full_range),
            "methods": {
                name: {
                    "origin": method.origin,
                    "stretched": method.stretched,
                    "full_range": method.full_range,
                    "probably_stretched": self.probably_stretched(name),
                    "scores": {
                        scope.condition: {
                            metric: _spread_dict(spreads[name]) for metric, spreads in scope.spreads.items()
                        }
                        for scope in self.scopes
                    },
                    "values": {
                        metric: [or_none(value) for value in values]
                        for metric, values in method.values.items()
                    },
                }
                for name, method in self.methods.items()
            },
            "provenance": dict(self.provenance),
        }

    def to_csv(self) -> str:
        """One value per line; empty where undefined. Columns: method, pair, condition, metric, value."""
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(CSV_COLUMNS)
        writer.writerows(self._csv_rows())
        return buffer.getvalue()

    def write(self, folder: Path) -> None:
        """Write ``fusion.json``, ``.csv`` and ``.txt``, each whole or not at all.

        `crossband.report.write_fusion_evaluation` writes the page ``fusion.html`` beside them.
        """
        document = json.dumps(self.to_dict(), indent=1, ensure_ascii=False, allow_nan=False)
        write_text(folder / "fusion.json", document + "\n")
        write_text(folder / "fusion.csv", self.to_csv())
        write_text(folder / "fusion.txt", self.to_text())

    def _scope(self, condition: str, indices: list[int]) -> FusionScope:
        by_method = {}
        defined = {}
        for name, method in self.methods.items():
            scores = FusionScores(self.preset, metrics=[metric.name for metric in self.metrics])
            scores.values = {m: [values[index] for index in indices] for m, values in method.values.items()}
            by_method[name] = scores.compute()
            defined[name] = {m: tuple(map(math.isnan, values)) for m, values in scores.values.items()}
        spreads = {m.name: {name: by_method[name][m.name] for name in self.methods} for m in self.metrics}
        decimals = {m.name: _decimals(m, spreads[m.name]) for m in self.metrics}
        alike = {m.name: len({defined[name][m.name] for name in self.methods}) == 1 for m in self.metrics}
        best = {
            m.name: _best(m, spreads[m.name], decimals[m.name]) if alike[m.name] else frozenset()
            for m in self.metrics
        }
        return FusionScope(condition, len(indices), spreads, decimals, best)

    def _metric_and_unit(self, metric: Metric) -> str:
        return f"{metric.name} ({unit})" if (unit := self.unit(metric)) else metric.name

    def _cells(self, scope: FusionScope, metric: Metric) -> Iterator[str]:
        decimals = scope.decimals[metric.name]
        for name, spread in scope.spreads[metric.name].items():
            mark = f"{MARK} " if name in scope.best[metric.name] else ""
            count = f" [{spread.defined}]" if spread.undefined else ""
            yield f"{mark}{told(spread.mean, decimals)} ± {told(spread.std, decimals)}{count}"

    def _csv_rows(self) -> Iterator[tuple[str, str, str, str, float | str]]:
        conditions = self.conditions or [""] * len(self.pairs)
        for name, method in self.methods.items():
            for index, (pair, condition) in enumerate(zip(self.pairs, conditions, strict=True)):
                for metric, values in method.values.items():
                    value = values[index]
                    yield name, pair, condition, metric, "" if math.isnan(value) else value


def told(value: float, decimals: int) -> str:
    """A number with so many decimals, or a dash for NaN."""
    return "–" if math.isnan(value) else f"{value:.{decimals}f}"


def _counted(pairs: int) -> str:
    return f"{pairs} pair{'' if pairs == 1 else 's'}"


def _decimals(metric: Metric, spreads: dict[str, Spread]) -> int:
    """The metric's own decimals, or more if its largest mean would have less than three digits that count.

    Some presets have a metric on 0..1 that others have on 0..255.
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


def _spread_dict(spread: Spread) -> dict[str, Any]:
    return {
        "mean": or_none(spread.mean),
        "std": or_none(spread.std),
        "defined": spread.defined,
        "undefined": spread.undefined,
    }
