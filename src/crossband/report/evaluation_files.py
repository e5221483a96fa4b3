"""An evaluation of labels as text, as CSV and as JSON. What is told follows from `SCORES` and `PROTOCOLS`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from crossband.card_words import system_words
from crossband.evaluation import BandResult, Evaluation
from crossband.metrics.protocols import DEFAULT_PROTOCOL, protocols_from
from crossband.metrics.segmentation import SCORES, Score, SegmentationScores
from crossband.pairs.base import Classes
from crossband.pairs.writing import csv_text
from crossband.report.files import or_none, pairs_line
from crossband.text import counted, listed, percent, text_table

CSV_COLUMNS = (
    *("bands", "support", "condition", "pairs", "measure"),
    *("protocol", "classes_averaged", "class_id", "class", "value"),
)
OVERALL: dict[str, Score] = {name: score for name, score in SCORES.items() if not score.per_class}
"""The scores with one number for all classes."""
PER_CLASS: dict[str, Score] = {name: score for name, score in SCORES.items() if score.per_class}
HEADLINES: dict[str, Score] = {name: score for name, score in PER_CLASS.items() if score.headline}


def evaluation_text(evaluation: Evaluation, protocol: str = DEFAULT_PROTOCOL) -> str:
    """Tables for a terminal, in percent; the chosen protocol comes first, all others follow.

    Raises OptionError for an unknown protocol.
    """
    order = protocols_from(protocol)
    heads = [
        f"{band_label(result)} {percent(chosen.mean_iou)} "
        f"({counted(chosen.classes_averaged, 'class', 'classes')})"
        for result in evaluation.results.values()
        for chosen in (result.overall.protocols[protocol],)
    ]
    summary = text_table(
        ["bands", "condition", "pairs", *order, *(score.short for score in OVERALL.values())],
        [
            [
                band_label(scope.result),
                scope.condition,
                str(scope.pairs),
                *(_mean_and_count(scope.scores, name) for name in order),
                *(percent(getattr(scope.scores, name)) for name in OVERALL),
            ]
            for scope in evaluation.scopes()
        ],
        align="ll" + "r" * (1 + len(order) + len(OVERALL)),
    )
    titles = listed([score.title for score in OVERALL.values()])
    return (
        "\n\n".join(
            [
                f"{scored_system(evaluation)} on {evaluation.source}\n{describe_pairs(evaluation)}\n"
                f"mIoU ({protocol}): {', '.join(heads)}{_intervals_line(evaluation, protocol)}"
                f"{_dropped_line(evaluation)}",
                f"Mean IoU (%), in brackets the number of classes averaged; {titles} (%)\n\n{summary}",
                *(_per_class_text(evaluation, name) for name in HEADLINES),
            ]
        )
        + "\n"
    )


def _intervals_line(evaluation: Evaluation, protocol: str) -> str:
    found = {bands: by_protocol[protocol] for bands, by_protocol in evaluation.intervals.items()}
    told = [
        f"{band_label(evaluation.results[bands])} {100 * one.low:.1f} to {100 * one.high:.1f}"
        for bands, one in found.items()
        if not math.isnan(one.low)
    ]
    return f"\n95 % interval over pairs: {', '.join(told)}" if told else ""


def _dropped_line(evaluation: Evaluation) -> str:
    told = dropped_words(evaluation)
    return f"\n{told}" if told else ""


def dropped_words(evaluation: Evaluation) -> str:
    """In a line, of how many pairs a band monitor left which band out; empty without one."""
    counts = evaluation.dropped.get("both")
    if counts is None:
        return ""
    told = " and ".join(f"{band} of {count}" for band, count in counts.items())
    return f"band monitor, both: left out {told} of {counted(evaluation.pairs, 'pair')}"


def evaluation_csv(evaluation: Evaluation) -> str:
    """One number per line, in [0, 1] or a count of pixels; empty where undefined.

    Columns: bands, support, condition, pairs, measure (``mean_iou``, the names of `SCORES`, ``pixels``),
    protocol and classes_averaged (for ``mean_iou``), class_id and class (for ``pixels`` and what has one
    score per class), value.
    """
    return csv_text(
        CSV_COLUMNS,
        (
            {
                "bands": scope.result.bands,
                "support": scope.result.support,
                "condition": scope.condition,
                "pairs": scope.pairs,
                **row,
            }
            for scope in evaluation.scopes()
            for row in _csv_rows(scope.scores, evaluation.classes)
        ),
    )


def evaluation_dict(evaluation: Evaluation) -> dict[str, Any]:
    """Everything, ready for JSON: scores in [0, 1], None where one is undefined."""
    classes = evaluation.classes
    return {
        "system": evaluation.system,
        "source": evaluation.source,
        "split": evaluation.split,
        "pairs": evaluation.pairs,
        "pairs_by_condition": dict(evaluation.pairs_by_condition),
        "precision": evaluation.precision,
        "classes": {
            "names": list(classes.names),
            "palette": [list(colour) for colour in classes.palette],
            "ignore": list(classes.ignore),
        },
        "results": {
            bands: {
                "support": result.support,
                "overall": _scores_dict(result.overall, result.confusion),
                **({"dropped": evaluation.dropped[bands]} if bands in evaluation.dropped else {}),
                "mean_iou_interval": {
                    name: None if math.isnan(found.low) else [found.low, found.high]
                    for name, found in evaluation.intervals.get(bands, {}).items()
                },
                "by_condition": {
                    name: _scores_dict(scores, result.confusion_by_condition[name])
                    for name, scores in result.by_condition.items()
                },
            }
            for bands, result in evaluation.results.items()
        },
        "provenance": dict(evaluation.provenance),
    }


def scored_system(evaluation: Evaluation) -> str:
    """The system, and its variant where the provenance tells one."""
    return system_words(evaluation.system, evaluation.provenance.get("variant"))


def system_in(document: Mapping[str, Any]) -> str:
    """`scored_system` of what `evaluation_dict` gave. Raises KeyError or AttributeError for others."""
    return system_words(str(document["system"]), document.get("provenance", {}).get("variant"))


def describe_pairs(evaluation: Evaluation) -> str:
    """One line: which split, how many pairs of which condition, in which precision."""
    line = pairs_line(evaluation.split, evaluation.pairs, evaluation.pairs_by_condition)
    return f"{line}, {evaluation.precision}"


def band_label(result: BandResult) -> str:
    """The combination's name as tables print it: a fallback is always called one."""
    return f"{result.bands} (fallback)" if result.support == "fallback" else result.bands


def _per_class_text(evaluation: Evaluation, name: str) -> str:
    results = evaluation.results.values()
    support = next(iter(results)).overall.support
    table = text_table(
        ["class", "pixels", *map(band_label, results)],
        [
            [
                title,
                f"{support[index]:,}",
                *(percent(getattr(result.overall, name)[index]) for result in results),
            ]
            for index, title in enumerate(evaluation.classes.names)
        ],
    )
    return f"{SCORES[name].title} (%) per class over all pairs, with the pixels of truth\n\n{table}"


def _mean_and_count(scores: SegmentationScores, protocol: str) -> str:
    score = scores.protocols[protocol]
    return f"{percent(score.mean_iou)} ({score.classes_averaged})"


def _csv_rows(scores: SegmentationScores, classes: Classes) -> Iterator[dict[str, Any]]:
    for protocol, score in scores.protocols.items():
        yield {
            "measure": "mean_iou",
            "protocol": protocol,
            "classes_averaged": score.classes_averaged,
            "value": or_none(score.mean_iou),
        }
    for name in OVERALL:
        yield {"measure": name, "value": or_none(getattr(scores, name))}
    per_class = {name: getattr(scores, name) for name in PER_CLASS} | {"pixels": scores.support}
    for measure, values in per_class.items():
        for index, (name, value) in enumerate(zip(classes.names, values, strict=True)):
            yield {"measure": measure, "class_id": index, "class": name, "value": or_none(value)}


def _scores_dict(scores: SegmentationScores, confusion: Tensor) -> dict[str, Any]:
    return {
        "mean_iou": {
            name: {
                "value": or_none(score.mean_iou),
                "classes_averaged": score.classes_averaged,
                "ids": list(score.ids),
            }
            for name, score in scores.protocols.items()
        },
        **{name: or_none(getattr(scores, name)) for name in OVERALL},
        **{name: [or_none(value) for value in getattr(scores, name)] for name in PER_CLASS},
        "pixels": list(scores.support),
        "confusion": confusion.tolist(),
    }
