"""An evaluation of fused pictures as text, as CSV and as JSON."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from crossband.evaluation import ALL, FusionEvaluation, FusionScope
from crossband.metrics.fusion import Metric, Spread
from crossband.pairs.writing import csv_text
from crossband.report.files import or_none, pairs_line
from crossband.text import decimal, text_table

CSV_COLUMNS = ("method", "pair", "condition", "metric", "value")
MARK = "*"
"""Stands before the best mean of a metric, in text."""
ARROWS = {"higher": "↑", "lower": "↓"}
"""After the name of a metric: which means are better."""
_COLUMNS = 4
"""Metrics that a table in a terminal has room for."""
CONVENTIONS_DIFFER = (
    "Published tables compute metrics of one name in different ways, and so do the conventions: values of "
    "two of them must never be compared (docs/fusion-metrics.md)."
)


def fusion_text(evaluation: FusionEvaluation) -> str:
    """Tables for a terminal: a row per method, a few metrics in each; all pairs first, then conditions."""
    names = list(evaluation.methods)
    parts = metrics_of_tables(evaluation, _COLUMNS)
    tables = [
        "\n\n".join(
            [describe_scope(scope), *(_text_of_part(evaluation, scope, metrics) for metrics in parts)]
        )
        for scope in evaluation.scopes
    ]
    stretching = "\n".join(f"{name}: {describe_stretching(evaluation, name)}" for name in names)
    return "\n\n".join(
        [
            f"Fused pictures on {evaluation.source}\n{describe_pairs(evaluation)}\n"
            f"{describe_convention(evaluation)}",
            f"Mean ± sample standard deviation over the pairs; {MARK} is the best mean of a column, the "
            f"highest under {ARROWS['higher']} and the lowest under {ARROWS['lower']}; [n] says on how many "
            "pairs a metric is defined, where it is not on all.",
            *tables,
            f"Stretched before scoring?\n{stretching}",
            f"{CONVENTIONS_DIFFER}\n",
        ]
    )


def fusion_csv(evaluation: FusionEvaluation) -> str:
    """One value per line; empty where undefined. Columns: method, pair, condition, metric, value."""
    return csv_text(CSV_COLUMNS, _csv_rows(evaluation))


def fusion_dict(evaluation: FusionEvaluation) -> dict[str, Any]:
    """Everything but the pictures, ready for JSON: None where a value is undefined or infinite."""
    convention = evaluation.convention
    return {
        "source": evaluation.source,
        "split": evaluation.split,
        "convention": {
            "name": convention.name,
            "summary": convention.summary,
            "changes": list(convention.changes),
        },
        "metrics": {
            metric.name: {"title": metric.title, "better": metric.better, "unit": convention.unit(metric)}
            for metric in evaluation.metrics
        },
        "pairs": list(evaluation.pairs),
        "conditions": list(evaluation.conditions),
        "sources_full_range": dict(evaluation.sources_full_range),
        "methods": {
            name: {
                "origin": method.origin,
                "stretched": method.stretched,
                "full_range": method.full_range,
                "probably_stretched": evaluation.probably_stretched(name),
                "scores": {
                    scope.condition: {
                        metric: _spread_dict(spreads[name]) for metric, spreads in scope.spreads.items()
                    }
                    for scope in evaluation.scopes
                },
                "values": {
                    metric: [or_none(value) for value in values] for metric, values in method.values.items()
                },
            }
            for name, method in evaluation.methods.items()
        },
        "provenance": dict(evaluation.provenance),
    }


def metrics_of_tables(evaluation: FusionEvaluation, most: int) -> list[list[Metric]]:
    """The metrics in their order, shared out evenly among tables of so many columns at most."""
    metrics = evaluation.metrics
    tables = math.ceil(len(metrics) / most)
    edges = [round(len(metrics) * table / tables) for table in range(tables + 1)]
    return [metrics[start:end] for start, end in pairwise(edges)]


def describe_pairs(evaluation: FusionEvaluation) -> str:
    """One line: which split, how many pairs of which condition."""
    return pairs_line(evaluation.split, len(evaluation.pairs), evaluation.pairs_by_condition)


def describe_convention(evaluation: FusionEvaluation) -> str:
    """One line: the convention, and what was scored."""
    convention = evaluation.convention
    return f"Convention {convention.name}: {convention.summary}. Pictures of 8 bits, in grey."


def describe_scope(scope: FusionScope) -> str:
    """One line over a table."""
    return f"{'All pairs' if scope.condition == ALL else scope.condition} ({scope.pairs})"


def describe_stretching(evaluation: FusionEvaluation, name: str) -> str:
    """What is known of a method's pictures, in words."""
    method = evaluation.methods[name]
    if method.band is not None:
        return "no, the image as it is"
    if method.stretched is not None:
        return "yes, to the whole of 0..255" if method.stretched else "no, scored as fused"
    if not evaluation.probably_stretched(name):
        return f"not known, made elsewhere; {method.full_range} of {len(evaluation.pairs)} span 0..255"
    like = " and ".join(f"{count} {band}" for band, count in evaluation.sources_full_range.items())
    return f"probably: made elsewhere, and every picture spans exactly 0..255 (so do {like} images)"


def _text_of_part(evaluation: FusionEvaluation, scope: FusionScope, metrics: list[Metric]) -> str:
    return text_table(
        ["method", *(_head(evaluation, metric) for metric in metrics)],
        [[name, *(_cell(scope, metric, name) for metric in metrics)] for name in evaluation.methods],
    )


def _head(evaluation: FusionEvaluation, metric: Metric) -> str:
    unit = evaluation.convention.unit(metric)
    return " ".join([metric.name, *([f"({unit})"] if unit else []), ARROWS[metric.better]])


def _cell(scope: FusionScope, metric: Metric, name: str) -> str:
    digits = scope.decimals[metric.name]
    spread = scope.spreads[metric.name][name]
    mark = f"{MARK} " if name in scope.best[metric.name] else ""
    count = f" [{spread.defined}]" if spread.undefined else ""
    deviation = f" ± {decimal(spread.std, digits)}" if not math.isnan(spread.std) else ""
    return f"{mark}{decimal(spread.mean, digits)}{deviation}{count}"


def _csv_rows(evaluation: FusionEvaluation) -> Iterator[dict[str, Any]]:
    conditions = evaluation.conditions or [""] * len(evaluation.pairs)
    for name, method in evaluation.methods.items():
        for index, (pair, condition) in enumerate(zip(evaluation.pairs, conditions, strict=True)):
            for metric, values in method.values.items():
                value = None if math.isnan(values[index]) else values[index]
                yield dict(zip(CSV_COLUMNS, (name, pair, condition, metric, value), strict=True))


def _spread_dict(spread: Spread) -> dict[str, Any]:
    return {
        "mean": or_none(spread.mean),
        "std": or_none(spread.std),
        "defined": spread.defined,
        "undefined": spread.undefined,
    }
