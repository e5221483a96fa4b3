"""A comparison of methods as sentences, text, CSV and JSON."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from crossband.evaluation.comparison import Comparison, Difference
from crossband.metrics.resampling import Interval
from crossband.pairs.writing import csv_text
from crossband.report.files import or_none
from crossband.text import DASH, counted, decimal, listed, percent, text_table

CSV_COLUMNS = (
    *("first", "second", "measure", "scope", "pairs", "first_value", "second_value"),
    *("difference", "low", "high"),
)
CONFUSIONS_TOLD = 8
PAIRS_TOLD = 10


def verdict(difference: Difference, comparison: Comparison) -> str:
    """What the difference in mean IoU shows, in one sentence."""
    found = difference.mean_iou
    points = points_text(abs(found.value))
    if math.isnan(found.low):
        return f"Nothing can be said of {difference.first} and {difference.second}: there are too few pairs."
    if found.excludes_zero:
        better = found.low > 0
        way = "better" if better else "worse"
        bounds = (found.low, found.high) if better else (-found.high, -found.low)
        return (
            f"{difference.first} is {way} than {difference.second} by {points} points of mIoU "
            f"({level_text(comparison)} interval {' to '.join(map(points_text, bounds))})."
        )
    return (
        f"No difference between {difference.first} and {difference.second} can be shown with these "
        f"{counted(comparison.pairs, 'pair')}: {points_text(found.value, sign=True)} points of mIoU "
        f"({level_text(comparison)} interval {points_text(found.low, sign=True)} to "
        f"{points_text(found.high, sign=True)})."
    )


def how_made(comparison: Comparison) -> str:
    """How the intervals were made, and what they leave out, in words."""
    blocks = f" in blocks of {comparison.block}" if comparison.block > 1 else ""
    alone = [method.name for method in comparison.methods if len(method.runs) == 1]
    several = [method.name for method in comparison.methods if len(method.runs) > 1]
    said = (
        f"Intervals: {comparison.replicates:,} draws of {counted(comparison.pairs, 'pair')}{blocks} with "
        "replacement, the same for all methods."
    )
    if several:
        said += f" The spread of the runs of {listed(several)} is in them."
    if alone:
        said += (
            f" {listed(alone)} {'has' if len(alone) == 1 else 'have'} one run: what another seed would give "
            "is not in them."
        )
    # The conditions are the same in every difference.
    few = [name for name, (pairs, _) in _conditions(comparison).items() if pairs <= comparison.block]
    if few:
        what = "a single pair" if comparison.block == 1 else "a single block"
        said += f" There is none for {listed(few)}: {what} leaves nothing to draw from."
    return said


def _conditions(comparison: Comparison) -> Mapping[str, tuple[int, Interval]]:
    return comparison.differences[0].conditions


def comparison_text(comparison: Comparison) -> str:
    """Sentences and tables for a terminal; scores in percent, differences in points."""
    parts = [
        f"{comparison.source}, split {comparison.split}: {counted(comparison.pairs, 'pair')}",
        text_table(*method_table(comparison)),
    ]
    for difference in comparison.differences:
        parts.append(verdict(difference, comparison))
        parts.append(_scopes_text(difference, comparison))
        if difference.confusions:
            parts.append(_confusions_text(difference, comparison))
        parts.append(_pairs_text(difference))
    parts.append(how_made(comparison))
    return "\n\n".join(parts) + "\n"


def comparison_csv(comparison: Comparison) -> str:
    """One difference a line, scores in [0, 1]: of all pairs, of conditions, of classes, of single pairs."""
    return csv_text(CSV_COLUMNS, _rows(comparison))


def comparison_dict(comparison: Comparison) -> dict[str, Any]:
    """Everything, ready for JSON; None where a number does not exist."""
    told: dict[str, Any] = _without_nan(asdict(comparison))
    for document, difference in zip(told["differences"], comparison.differences, strict=True):
        document["verdict"] = verdict(difference, comparison)
        document["conditions"] = {
            name: {"pairs": pairs, "mean_iou": _without_nan(asdict(found))}
            for name, (pairs, found) in difference.conditions.items()
        }
    return told


def points_text(share: float, *, sign: bool = False) -> str:
    """A difference of shares as points with one decimal, or two where one would show nothing."""
    if math.isnan(share):
        return DASH
    digits = 1 if abs(share) >= 0.0005 or share == 0 else 2
    return f"{100 * share:+z.{digits}f}" if sign else f"{100 * share:z.{digits}f}"


def points_range(found: Interval) -> str:
    """``+0.4 to +2.0`` in points, or ``none``."""
    if math.isnan(found.low):
        return "none"
    return f"{points_text(found.low, sign=True)} to {points_text(found.high, sign=True)}"


def share_range(found: Interval) -> str:
    """``54.0 to 58.1`` in percent, or ``none``."""
    if math.isnan(found.low):
        return "none"
    return f"{decimal(100 * found.low, 1)} to {decimal(100 * found.high, 1)}"


def level_text(comparison: Comparison) -> str:
    """``95 %``."""
    return f"{100 * comparison.level:g} %"


def method_table(comparison: Comparison) -> tuple[list[str], list[list[str]], str]:
    """Every method with its mean IoU and interval in percent: the head, the rows and the alignment.

    The systems have a column where any is known.
    """
    known = any(method.system for method in comparison.methods)
    scores = ["runs", f"mIoU ({comparison.protocol})", f"{level_text(comparison)} interval"]
    rows = [
        [
            m.name,
            *([m.system or DASH] if known else []),
            *(m.bands, str(len(m.runs)), percent(m.mean_iou.value), share_range(m.mean_iou)),
        ]
        for m in comparison.methods
    ]
    head = ["method", *(["system"] if known else []), "bands"]
    return [*head, *scores], rows, "l" * len(head) + "r" * len(scores)


def class_rows(difference: Difference, comparison: Comparison) -> list[list[str]]:
    """The table of what carries a difference: every class, then every condition."""
    rows = [
        [
            comparison.classes[found.index],
            percent(found.first),
            percent(found.second),
            points_text(found.difference.value, sign=True),
            points_range(found.difference),
            points_text(found.part, sign=True),
        ]
        for found in difference.classes
    ]
    return rows + [
        [
            f"{name} ({counted(pairs, 'pair')})",
            "",
            "",
            points_text(found.value, sign=True),
            points_range(found),
            "",
        ]
        for name, (pairs, found) in difference.conditions.items()
    ]


def class_header(difference: Difference) -> list[str]:
    return ["", difference.first, difference.second, "difference", "interval", "part"]


def confusion_rows(difference: Difference, comparison: Comparison) -> list[list[str]]:
    """The confusions that differ most: truth, what it was taken for, and how often by each method."""
    return [
        [
            comparison.classes[change.truth],
            comparison.classes[change.prediction],
            percent(change.first),
            percent(change.second),
            points_text(change.first - change.second, sign=True),
        ]
        for change in difference.confusions[:CONFUSIONS_TOLD]
    ]


def confusion_header(difference: Difference) -> list[str]:
    return ["truth", "taken for", difference.first, difference.second, "difference"]


def _scopes_text(difference: Difference, comparison: Comparison) -> str:
    table = text_table(class_header(difference), class_rows(difference, comparison))
    title = "IoU (%) of classes and mIoU of conditions; part: a class's part of the difference in mIoU"
    return f"{title}\n\n{table}"


def _confusions_text(difference: Difference, comparison: Comparison) -> str:
    table = text_table(confusion_header(difference), confusion_rows(difference, comparison), align="llrrr")
    return f"Confusions that differ most: the share (%) of a class's pixels taken for another\n\n{table}"


def _pairs_text(difference: Difference) -> str:
    rows = [
        [
            pair.name,
            percent(pair.first),
            percent(pair.second),
            points_text(pair.first - pair.second, sign=True),
        ]
        for pair in difference.pairs[:PAIRS_TOLD]
    ]
    table = text_table(["pair", difference.first, difference.second, "difference"], rows)
    return f"Pairs that differ most: mIoU (%) of the pair alone\n\n{table}"


def _rows(comparison: Comparison) -> Iterator[dict[str, Any]]:
    means = {method.name: method.mean_iou.value for method in comparison.methods}
    for difference in comparison.differences:
        named = {"first": difference.first, "second": difference.second}
        both = {
            "first_value": or_none(means[difference.first]),
            "second_value": or_none(means[difference.second]),
        }
        yield {
            **named,
            **both,
            "measure": "mean_iou",
            "scope": "all",
            "pairs": comparison.pairs,
            **_range(difference.mean_iou),
        }
        for condition, (pairs, found) in difference.conditions.items():
            yield {**named, "measure": "mean_iou", "scope": condition, "pairs": pairs, **_range(found)}
        for one in difference.classes:
            yield {
                **named,
                "measure": "iou",
                "scope": comparison.classes[one.index],
                "pairs": comparison.pairs,
                "first_value": or_none(one.first),
                "second_value": or_none(one.second),
                **_range(one.difference),
            }
        for pair in difference.pairs:
            yield {
                **named,
                "measure": "mean_iou",
                "scope": f"pair {pair.name}",
                "pairs": 1,
                "first_value": pair.first,
                "second_value": pair.second,
                "difference": pair.first - pair.second,
            }


def _range(found: Interval) -> dict[str, float | None]:
    return {"difference": or_none(found.value), "low": or_none(found.low), "high": or_none(found.high)}


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nan(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(inner) for inner in value]
    return or_none(value) if isinstance(value, float) else value
