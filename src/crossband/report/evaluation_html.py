"""An evaluation as a page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from crossband.card_words import training_words
from crossband.evaluation import ALL, Evaluation, Scope
from crossband.evaluation.pair_counts import write_pair_counts
from crossband.metrics.protocols import DEFAULT_PROTOCOL, PROTOCOLS, protocols_from
from crossband.metrics.resampling import Interval
from crossband.metrics.segmentation import SCORES
from crossband.report.charts import mean_iou_chart, per_class_iou_chart
from crossband.report.evaluation_files import (
    HEADLINES,
    OVERALL,
    PER_CLASS,
    band_label,
    describe_pairs,
    dropped_words,
    evaluation_csv,
    evaluation_dict,
    evaluation_text,
    scored_system,
)
from crossband.report.evaluation_pictures import ShownPair, add_pictures
from crossband.report.files import write_files
from crossband.report.page import Cell, Page, known
from crossband.text import DASH, listed, percent
from crossband.words import PAIR_COUNTS_NAME

_LINES = "A line over a bar is the 95 % interval over pairs: what other pairs of their kind would give."


def evaluation_page(
    evaluation: Evaluation, protocol: str = DEFAULT_PROTOCOL, shown: Sequence[ShownPair] = ()
) -> Page:
    """Scores, charts, pictures, per-class tables, confusion matrices and where it all comes from.

    protocol: the one whose column comes first. shown: pairs to show, of `chosen_pairs`. Raises OptionError
    for an unknown protocol.
    """
    page = Page(f"{scored_system(evaluation)} on {evaluation.source}")
    page.paragraph(describe_pairs(evaluation))
    if dropped := dropped_words(evaluation):
        page.paragraph(dropped)
    _add_summary(page, evaluation, protocol)
    _add_per_class(page, evaluation)
    if shown:
        add_pictures(page, shown, evaluation.classes)
    _add_confusion(page, evaluation)
    _add_provenance(page, evaluation)
    return page


def write_evaluation(
    evaluation: Evaluation,
    folder: Path,
    protocol: str = DEFAULT_PROTOCOL,
    shown: Sequence[ShownPair] = (),
) -> None:
    """Write ``evaluation.json``, ``.csv``, ``.txt`` and ``.html`` into a folder, each whole or not at all.

    What was counted in every pair goes into ``evaluation-pairs.npz``, for `crossband compare`.
    """
    text, document = evaluation_text(evaluation, protocol), evaluation_dict(evaluation)
    table, page = evaluation_csv(evaluation), evaluation_page(evaluation, protocol, shown)
    # After what takes long, so that a command that is ended in it leaves the files of one evaluation alone.
    if evaluation.counts is not None:
        write_pair_counts(folder / PAIR_COUNTS_NAME, evaluation.counts)
    write_files(folder, "evaluation", text=text, document=document, table=table, page=page)


def _add_summary(page: Page, evaluation: Evaluation, protocol: str) -> None:
    order = protocols_from(protocol)
    titles = [score.title for score in OVERALL.values()]
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
                *(percent(getattr(scope.scores, name)) for name in OVERALL),
            ]
        )
    page.heading("Scores")
    page.table(
        ["bands", "condition", "pairs", *order, *titles],
        rows,
        caption="Mean IoU under every protocol, with the number of classes averaged in brackets; "
        f"{listed(titles)}; all in percent.",
        align="ll" + "r" * (1 + len(order) + len(titles)),
        groups=groups,
    )
    _add_scopes_chart(page, evaluation, protocol)
    page.paragraph("The protocols differ in the classes that the mean is taken over:")
    rules = {name: PROTOCOLS[name] for name in order}
    page.definitions(
        {name: "; ".join(filter(None, (rule.meaning, rule.users))) for name, rule in rules.items()}
    )
    page.paragraph("The other scores:")
    page.definitions({score.title: score.meaning for score in OVERALL.values()})
    if any(result.support == "fallback" for result in evaluation.results.values()):
        page.paragraph("Fallback: the system runs on these bands, but its method was not designed for them.")


def _add_scopes_chart(page: Page, evaluation: Evaluation, protocol: str) -> None:
    """The mean IoU over all pairs and by condition, with intervals, where what each pair counts is known."""
    if not evaluation.intervals:
        return
    bars: dict[str, list[Interval]] = {}
    for bands, by_protocol in evaluation.intervals.items():
        conditions = evaluation.condition_intervals[bands].values()
        bars[band_label(evaluation.results[bands])] = [
            by_protocol[protocol],
            *(found[protocol] for found in conditions),
        ]
    page.figure(
        mean_iou_chart(bars, [ALL, *evaluation.pairs_by_condition]),
        f"Mean IoU (protocol {protocol}) over all pairs and by condition. {_LINES}",
        "Bar chart of the mean IoU by condition and band combination; the table above has the numbers.",
    )


def _add_per_class(page: Page, evaluation: Evaluation) -> None:
    results = list(evaluation.results.values())
    page.heading("Classes")
    page.figure(
        per_class_iou_chart(
            {band_label(result): result.overall for result in results},
            evaluation.classes,
            {
                band_label(evaluation.results[bands]): found
                for bands, found in evaluation.class_intervals.items()
            },
        ),
        "IoU of every class over all pairs; a dash where a class occurs neither in truth nor in prediction."
        + (f" {_LINES}" if evaluation.class_intervals else ""),
        "Bar chart of the IoU of every class per band combination; the table below has the numbers.",
    )
    support = results[0].overall.support
    counted = sum(support)
    page.table(
        [
            "class",
            "pixels",
            "share",
            *(f"{score.short} {band_label(r)}" for score in PER_CLASS.values() for r in results),
        ],
        [
            [
                _class_cell(evaluation, index),
                f"{support[index]:,}",
                percent(support[index] / counted if counted else math.nan),
                *(percent(getattr(r.overall, name)[index]) for name in PER_CLASS for r in results),
            ]
            for index in range(len(evaluation.classes))
        ],
        caption="Over all pairs: pixels of truth, their share, "
        f"{listed([f'{score.title} ({score.meaning})' for score in PER_CLASS.values()])}, in percent.",
    )
    split = [scope for scope in evaluation.scopes() if scope.condition != ALL]
    for name in HEADLINES if split else ():
        page.table(
            ["class", *(f"{scope.condition}, {band_label(scope.result)}" for scope in split)],
            [
                [
                    _class_cell(evaluation, index),
                    *(percent(getattr(scope.scores, name)[index]) for scope in split),
                ]
                for index in range(len(evaluation.classes))
            ],
            caption=f"{SCORES[name].title} per condition, in percent.",
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
            caption=f"Predictions on {band_label(result)}, all pairs",
            upright=True,
        )


def _add_provenance(page: Page, evaluation: Evaluation) -> None:
    """Where the numbers come from: what a person asks first in words, and all of it folded away below."""
    page.heading("Provenance")
    kept = known(evaluation.provenance)
    training = kept.get("training")
    words = training_words(training) if isinstance(training, Mapping) else {}
    page.definitions(
        {
            "system": evaluation.system,
            "source": evaluation.source,
            "split": evaluation.split,
            "precision": evaluation.precision,
            **{name: fact for name, fact in kept.items() if not isinstance(fact, Mapping)},
        },
        code=True,
    )
    if words:
        page.heading("The run", 3)
        page.definitions(words)
    if folded := {name: fact for name, fact in kept.items() if isinstance(fact, Mapping)}:
        page.outline(folded)


def _bands_cell(scope: Scope) -> Cell:
    return Cell(scope.result.bands, badge="fallback" if scope.result.support == "fallback" else "")


def _class_cell(evaluation: Evaluation, index: int) -> Cell:
    return Cell(evaluation.classes.names[index], swatch=evaluation.classes.palette[index])


def _mean_iou_cell(scope: Scope, protocol: str) -> Cell:
    score = scope.scores.protocols[protocol]
    return Cell(percent(score.mean_iou), note=f"({score.classes_averaged})")


def _share_cell(share: float, *, right: bool) -> Cell:
    if math.isnan(share):
        return Cell(DASH if right else "", shade=math.nan)
    # The root lets the few percent of a typical confusion be seen; the number says how many.
    text = f"{100 * share:.0f}" if right or share >= 0.005 else ""
    return Cell(text, shade=math.sqrt(share), tone="right" if right else "wrong")
