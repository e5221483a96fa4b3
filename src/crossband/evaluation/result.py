"""What an evaluation found, and how it is told: as text, as CSV, as JSON."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from crossband.errors import OptionError
from crossband.evaluation.passing import Precision
from crossband.evaluation.tables import or_none, text_table
from crossband.metrics.segmentation import PROTOCOLS, Protocol, SegmentationScores, segmentation_scores
from crossband.pairs.base import Classes
from crossband.pairs.writing import write_text
from crossband.words import Bands, Support

CSV_COLUMNS = (
    *("bands", "support", "condition", "pairs", "measure"),
    *("protocol", "classes_averaged", "class_id", "class", "value"),
)
ALL = "all"
"""The name of the scope that takes all pairs together, in tables."""


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

    @property
    def label(self) -> str:
        """The combination's name as tables print it: a fallback is always called one."""
        return f"{self.bands} (fallback)" if self.support == "fallback" else self.bands


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
    pairs_by_condition: how many of them each condition has; empty without a split by condition.
    results: one per band combination, in the order asked for.
    provenance: what the caller wants kept beside the numbers, such as the command and the weights; anything
        that JSON can hold.
    """

    system: str
    source: str
    split: str
    classes: Classes
    pairs: int
    precision: Precision
    results: dict[Bands, BandResult]
    pairs_by_condition: dict[str, int] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)

    def scopes(self) -> Iterator[Scope]:
        """Every band combination on all pairs, then on each condition."""
        for result in self.results.values():
            yield Scope(result, ALL, self.pairs, result.overall, result.confusion)
            for condition, scores in result.by_condition.items():
                matrix = result.confusion_by_condition[condition]
                yield Scope(result, condition, self.pairs_by_condition[condition], scores, matrix)

    def to_text(self, protocol: Protocol = "present") -> str:
        """Tables for a terminal, in percent; the chosen protocol comes first, all others follow.

        Raises OptionError for an unknown protocol.
        """
        order = protocols_from(protocol)
        heads = [
            f"{result.label} {percent(chosen.mean_iou)} ({_classes_counted(chosen.classes_averaged)})"
            for result in self.results.values()
            for chosen in (result.overall.protocols[protocol],)
        ]
        summary = text_table(
            ["bands", "condition", "pairs", *order, "class acc.", "pixel acc."],
            [
                [
                    scope.result.label,
                    scope.condition,
                    str(scope.pairs),
                    *(_mean_and_count(scope.scores, name) for name in order),
                    percent(scope.scores.mean_class_accuracy),
                    percent(scope.scores.pixel_accuracy),
                ]
                for scope in self.scopes()
            ],
            left=2,
        )
        support = next(iter(self.results.values())).overall.support
        per_class = text_table(
            ["class", "pixels", *(result.label for result in self.results.values())],
            [
                [
                    name,
                    f"{support[index]:,}",
                    *(percent(result.overall.iou[index]) for result in self.results.values()),
                ]
                for index, name in enumerate(self.classes.names)
            ],
            left=1,
        )
        return "\n\n".join(
            [
                f"{self.system} on {self.source}\n{self.describe_pairs()}\n"
                f"mIoU ({protocol}): {', '.join(heads)}",
                "Mean IoU (%), in brackets the number of classes averaged; mean class accuracy and pixel "
                f"accuracy (%)\n\n{summary}",
                f"IoU (%) per class over all pairs, with the pixels of truth\n\n{per_class}\n",
            ]
        )

    def describe_pairs(self) -> str:
        """One line: which split, how many pairs of which condition, in which precision."""
        conditions = ", ".join(f"{count} {name}" for name, count in self.pairs_by_condition.items())
        return (
            f"Split {self.split}: {self.pairs} pair{'' if self.pairs == 1 else 's'}"
            f"{f' ({conditions})' if conditions else ''}, {self.precision}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON: scores in [0, 1], None where one is undefined."""
        return {
            "system": self.system,
            "source": self.source,
            "split": self.split,
            "pairs": self.pairs,
            "pairs_by_condition": dict(self.pairs_by_condition),
            "precision": self.precision,
            "classes": {
                "names": list(self.classes.names),
                "palette": [list(colour) for colour in self.classes.palette],
                "ignore": list(self.classes.ignore),
            },
            "results": {
                bands: {
                    "support": result.support,
                    "overall": _scores_dict(result.overall, result.confusion),
                    "by_condition": {
                        name: _scores_dict(scores, result.confusion_by_condition[name])
                        for name, scores in result.by_condition.items()
                    },
                }
                for bands, result in self.results.items()
            },
            "provenance": dict(self.provenance),
        }

    def to_csv(self) -> str:
        """One number per line, in [0, 1] or a count of pixels; empty where undefined.

        Columns: bands, support, condition, pairs, measure (``mean_iou``, ``mean_class_accuracy``,
        ``pixel_accuracy``, ``iou``, ``accuracy``, ``pixels``), protocol and classes_averaged (for
        ``mean_iou``), class_id and class (for the last three measures), value.
        """
        buffer = io.StringIO()
        writer = csv.DictWriter(buffer, CSV_COLUMNS, lineterminator="\n")
        writer.writeheader()
        for scope in self.scopes():
            where = {
                "bands": scope.result.bands,
                "support": scope.result.support,
                "condition": scope.condition,
                "pairs": scope.pairs,
            }
            writer.writerows({**where, **row} for row in _csv_rows(scope.scores, self.classes))
        return buffer.getvalue()

    def write(self, folder: Path, protocol: Protocol = "present") -> None:
        """Write ``evaluation.json``, ``.csv`` and ``.txt``, each whole or not at all.

        `crossband.report.write_evaluation` writes the page ``evaluation.html`` beside them.
        """
        document = json.dumps(self.to_dict(), indent=1, ensure_ascii=False, allow_nan=False)
        write_text(folder / "evaluation.json", document + "\n")
        write_text(folder / "evaluation.csv", self.to_csv())
        write_text(folder / "evaluation.txt", self.to_text(protocol))


def protocols_from(first: Protocol) -> list[Protocol]:
    """All protocols with the given one in front. Raises OptionError if it is unknown."""
    if first not in PROTOCOLS:
        raise OptionError(f"unknown protocol {first!r}: use one of {', '.join(PROTOCOLS)}")
    return [first, *(name for name in PROTOCOLS if name != first)]


def percent(share: float) -> str:
    """A share in [0, 1] as percent with two decimals, or a dash for NaN."""
    return "–" if math.isnan(share) else f"{100 * share:.2f}"


def _mean_and_count(scores: SegmentationScores, protocol: Protocol) -> str:
    score = scores.protocols[protocol]
    return f"{percent(score.mean_iou)} ({score.classes_averaged})"


def _classes_counted(count: int) -> str:
    return f"{count} class{'' if count == 1 else 'es'}"


def _csv_rows(scores: SegmentationScores, classes: Classes) -> Iterator[dict[str, Any]]:
    for protocol, score in scores.protocols.items():
        yield {
            "measure": "mean_iou",
            "protocol": protocol,
            "classes_averaged": score.classes_averaged,
            "value": or_none(score.mean_iou),
        }
    yield {"measure": "mean_class_accuracy", "value": or_none(scores.mean_class_accuracy)}
    yield {"measure": "pixel_accuracy", "value": or_none(scores.pixel_accuracy)}
    per_class = {"iou": scores.iou, "accuracy": scores.accuracy, "pixels": scores.support}
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
        "mean_class_accuracy": or_none(scores.mean_class_accuracy),
        "pixel_accuracy": or_none(scores.pixel_accuracy),
        "iou": [or_none(value) for value in scores.iou],
        "accuracy": [or_none(value) for value in scores.accuracy],
        "pixels": list(scores.support),
        "confusion": confusion.tolist(),
    }
