"""An evaluation of fused pictures as a page."""

from __future__ import annotations

import math
from pathlib import Path

from crossband.evaluation import ALL, FusionEvaluation, FusionScope
from crossband.metrics.fusion import DEFAULT_CONVENTION, Metric
from crossband.report.charts import spread_chart
from crossband.report.files import write_files
from crossband.report.fusion_files import (
    ARROWS,
    CONVENTIONS_DIFFER,
    describe_convention,
    describe_pairs,
    describe_scope,
    describe_stretching,
    fusion_csv,
    fusion_dict,
    fusion_text,
    metrics_of_tables,
)
from crossband.report.page import Cell, Page, known
from crossband.text import counted, decimal

_COLUMNS = 6
"""Metrics that a table on a page has room for."""


def fusion_page(evaluation: FusionEvaluation) -> Page:
    """Tables of scores, what to know about them, pictures, their spread, and where it all comes from."""
    methods = [name for name, method in evaluation.methods.items() if method.band is None]
    subject = methods[0] if len(methods) == 1 else counted(len(methods), "method")
    page = Page(f"Fused pictures of {subject} on {evaluation.source}")
    page.paragraph(describe_pairs(evaluation))
    page.paragraph(describe_convention(evaluation))
    page.heading("Scores")
    for scope in evaluation.scopes:
        _add_scores(page, evaluation, scope)
    _add_reading(page, evaluation)
    _add_pictures(page, evaluation)
    _add_spread(page, evaluation)
    page.heading("Provenance")
    page.outline(
        {
            "source": evaluation.source,
            "split": evaluation.split,
            "convention": evaluation.convention.name,
            **{f"method {name}": method.origin for name, method in evaluation.methods.items()},
            **known(evaluation.provenance),
        }
    )
    return page


def write_fusion_evaluation(evaluation: FusionEvaluation, folder: Path) -> None:
    """Write ``fusion.json``, ``.csv``, ``.txt`` and ``.html`` into a folder, each whole or not at all."""
    write_files(
        folder,
        "fusion",
        text=fusion_text(evaluation),
        document=fusion_dict(evaluation),
        table=fusion_csv(evaluation),
        page=fusion_page(evaluation),
    )


def _add_scores(page: Page, evaluation: FusionEvaluation, scope: FusionScope) -> None:
    told = describe_scope(scope)
    explained = (
        f"{told}. Mean and sample standard deviation over the pairs; the best mean of a column is in bold. "
        f"{ARROWS['higher']} higher is better, {ARROWS['lower']} lower is better."
    )
    # A rule stands between what was fused and the bands alone.
    methods = list(evaluation.methods.values())
    alone = [row for row, method in enumerate(methods) if method.band and row and not methods[row - 1].band]
    for number, metrics in enumerate(metrics_of_tables(evaluation, _COLUMNS)):
        page.table(
            ["method", *(_metric_cell(evaluation, metric) for metric in metrics)],
            [
                [name, *(_score_cell(scope, metric, name) for metric in metrics)]
                for name in evaluation.methods
            ],
            caption=explained if scope.condition == ALL and number == 0 else told,
            groups=alone,
        )


def _metric_cell(evaluation: FusionEvaluation, metric: Metric) -> Cell:
    unit = evaluation.convention.unit(metric)
    return Cell(
        # Never broken before the arrow.
        f"{metric.name}\u00a0{ARROWS[metric.better]}",
        note=f"{metric.title}, {unit}" if unit else metric.title,
    )


def _score_cell(scope: FusionScope, metric: Metric, name: str) -> Cell:
    decimals = scope.decimals[metric.name]
    spread = scope.spreads[metric.name][name]
    return Cell(
        decimal(spread.mean, decimals),
        strong=name in scope.best[metric.name],
        note="" if math.isnan(spread.std) else f"± {decimal(spread.std, decimals)}",
        badge=f"undefined on {spread.undefined}" if spread.undefined else "",
    )


def _add_reading(page: Page, evaluation: FusionEvaluation) -> None:
    page.heading("How to read them")
    page.paragraph(
        "No score knows what a good picture is. EN, SD, SF and AG grow with noise and halos as well as with "
        "detail; a score that compares with both bands favours what lies between them. A mean in "
        "bold is the best of its column, however small its lead. Look at the pictures."
    )
    page.paragraph(CONVENTIONS_DIFFER)
    if changes := evaluation.convention.changes:
        page.paragraph(f"Under convention {evaluation.convention.name}, unlike under {DEFAULT_CONVENTION}:")
        page.bullets(changes)
    page.paragraph(
        "Stretching every picture to the whole of 0..255 moves most scores: methods compare only if all "
        "were stretched or none was. Stretched before scoring?"
    )
    page.definitions({name: describe_stretching(evaluation, name) for name in evaluation.methods})
    overall = evaluation.scopes[0].spreads.values()
    if any(spread.undefined for by_method in overall for spread in by_method.values()):
        page.paragraph(
            "A metric is undefined on some pictures by a rule that its documentation states, such as a flat "
            "source; these are left out of its mean. No method is called best where methods are defined on "
            "different pairs."
        )


def _add_pictures(page: Page, evaluation: FusionEvaluation) -> None:
    if not evaluation.examples:
        return
    page.heading("Pictures")
    for example in evaluation.examples:
        page.heading(f"{example.pair} ({example.condition})" if example.condition else example.pair, level=3)
        page.gallery({"visible": example.visible, "infrared": example.infrared} | example.fused)


def _add_spread(page: Page, evaluation: FusionEvaluation) -> None:
    page.heading("Spread over the pairs")
    panels = {
        f"{metric.name} {ARROWS[metric.better]}": {
            name: method.values[metric.name] for name, method in evaluation.methods.items()
        }
        for metric in evaluation.metrics
    }
    page.figure(
        spread_chart(panels),
        "A box holds the middle half of the pairs, the line in it is the median, the dot the mean; the "
        "whiskers end at the smallest and the largest value.",
        "Box plots of every metric per method over all pairs; the tables above have the means.",
    )
