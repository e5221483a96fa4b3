"""An evaluation as a page."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from crossband.evaluation import ALL, Evaluation, Scope, percent, protocols_from
from crossband.metrics.segmentation import Protocol
from crossband.report.charts import per_class_iou_chart
from crossband.report.page import Cell, Page, facts

# What the mean is taken over; crossband.metrics.segmentation says who uses which.
PROTOCOL_MEANINGS: Mapping[Protocol, str] = {
    "present": "the classes that occur in the ground truth",
    "all-nan": "those that occur in the ground truth or in the prediction: one stray pixel of a class that "
    "is absent from the truth adds a 0",
    "all-zero": "all classes, an absent one counting as 0",
    "no-background": "the classes that occur in the ground truth, without id 0",
}


def evaluation_page(evaluation: Evaluation, protocol: Protocol = "present") -> Page:
    """Scores, a chart, per-class tables, confusion matrices and where it all comes from.

    protocol: the one whose column comes first. Raises OptionError if it is unknown.
    """
    page = Page(f"{evaluation.system} on {evaluation.source}")
    page.paragraph(evaluation.describe_pairs())
    _add_summary(page, evaluation, protocol)
    _add_per_class(page, evaluation)
    _add_confusion(page, evaluation)
    page.heading("Provenance")
    page.definitions(
        {
            "system": evaluation.system,
            "source": evaluation.source,
            "split": evaluation.split,
            "precision": evaluation.precision,
            **facts(evaluation.provenance),
        },
        code=True,
    )
    return page


def write_evaluation(evaluation: Evaluation, folder: Path, protocol: Protocol = "present") -> None:
    """Write ``evaluation.json``, ``.csv``, ``.txt`` and ``.html`` into a folder, each whole or not at all."""
    page = evaluation_page(evaluation, protocol)
    evaluation.write(folder, protocol)
    page.write(folder / "evaluation.html")


def _add_summary(page: Page, evaluation: Evaluation, protocol: Protocol) -> None:
    order = protocols_from(protocol)
    rows: list[list[str | Cell]] = []
    groups: list[int] = []
    for scope in evaluation.scopes():
        if scope.condition == ALL:
            groups.append(len(rows))
        rows.append(
            [
                _bands_cell(scope),
                scope.condition,
                f"{scope.pairs:,}",
                *(_mean_iou_cell(scope, name) for name in order),
                percent(scope.scores.mean_class_accuracy),
                percent(scope.scores.pixel_accuracy),
            ]
        )
    page.heading("Scores")
    page.table(
        ["bands", "condition", "pairs", *order, "mean class accuracy", "pixel accuracy"],
        rows,
        caption="Mean IoU under every protocol, with the number of classes averaged in brackets, and "
        "accuracies; all in percent.",
        align="ll" + "r" * (len(order) + 3),
        groups=groups,
    )
    page.paragraph("The protocols differ in the classes that the mean is taken over:")
    page.definitions({name: PROTOCOL_MEANINGS[name] for name in order})
    if any(result.support == "fallback" for result in evaluation.results.values()):
        page.paragraph("Fallback: the system runs on these bands, but its method was not designed for them.")


def _add_per_class(page: Page, evaluation: Evaluation) -> None:
    results = list(evaluation.results.values())
    page.heading("Classes")
    page.figure(
        per_class_iou_chart({result.label: result.overall for result in results}, evaluation.classes),
        "IoU of every class over all pairs; a dash where a class occurs neither in truth nor in prediction.",
        "Bar chart of the IoU of every class per band combination; the table below has the numbers.",
    )
    support = results[0].overall.support
    counted = sum(support)
    page.table(
        [
            "class",
            "pixels",
            "share",
            *(f"IoU {r.label}" for r in results),
            *(f"acc. {r.label}" for r in results),
        ],
        [
            [
                _class_cell(evaluation, index),
                f"{support[index]:,}",
                percent(support[index] / counted if counted else math.nan),
                *(percent(result.overall.iou[index]) for result in results),
                *(percent(result.overall.accuracy[index]) for result in results),
            ]
            for index in range(len(evaluation.classes))
        ],
        caption="Over all pairs: pixels of truth, their share, IoU and accuracy (the share of a class's "
        "pixels that was found), in percent.",
    )
    split = [scope for scope in evaluation.scopes() if scope.condition != ALL]
    if split:
        page.table(
            ["class", *(f"{scope.condition}, {scope.result.label}" for scope in split)],
            [
                [_class_cell(evaluation, index), *(percent(scope.scores.iou[index]) for scope in split)]
                for index in range(len(evaluation.classes))
            ],
            caption="IoU per condition, in percent.",
        )


def _add_confusion(page: Page, evaluation: Evaluation) -> None:
    page.heading("Confusion")
    page.paragraph(
        "A row is a class of the ground truth; its cells say which share of its pixels (in percent) was "
        "predicted as each class. Blue is right, orange is wrong. Shares below 0.5 % are left blank."
    )
    names = evaluation.classes.names
    for result in evaluation.results.values():
        counts = result.confusion.numpy().astype(float)
        truth = counts.sum(axis=1, keepdims=True)
        shares = np.divide(counts, truth, out=np.full_like(counts, np.nan), where=truth > 0)
        page.table(
            ["truth", *names],
            [
                [
                    _class_cell(evaluation, row),
                    *(_share_cell(shares[row, column], right=row == column) for column in range(len(names))),
                ]
                for row in range(len(names))
            ],
            caption=f"Predictions on {result.label}, all pairs",
            upright=True,
        )


def _bands_cell(scope: Scope) -> Cell:
    return Cell(scope.result.bands, badge="fallback" if scope.result.support == "fallback" else "")


def _class_cell(evaluation: Evaluation, index: int) -> Cell:
    return Cell(evaluation.classes.names[index], swatch=evaluation.classes.palette[index])


def _mean_iou_cell(scope: Scope, protocol: Protocol) -> Cell:
    score = scope.scores.protocols[protocol]
    return Cell(percent(score.mean_iou), note=f"({score.classes_averaged})")


def _share_cell(share: float, *, right: bool) -> Cell:
    if math.isnan(share):
        return Cell("–" if right else "", shade=math.nan)
    # The root lets the few percent of a typical confusion be seen; the number says how many.
    text = f"{100 * share:.0f}" if right or share >= 0.005 else ""
    return Cell(text, shade=math.sqrt(share), tone="right" if right else "wrong")
