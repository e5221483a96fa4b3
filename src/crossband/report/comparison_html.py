"""A comparison of methods as a page, with pictures of the pairs on which they differ most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from crossband.evaluation.comparison import Comparison, Difference
from crossband.pairs.base import Classes, Pair
from crossband.pictures import AGREEMENT_COLOURS, agreement_map, colour_labels, pair_pictures
from crossband.report.charts import difference_chart
from crossband.report.comparison_files import (
    class_header,
    class_rows,
    comparison_csv,
    comparison_dict,
    comparison_text,
    confusion_header,
    confusion_rows,
    how_made,
    level_text,
    method_table,
    points_text,
    verdict,
)
from crossband.report.files import write_files
from crossband.report.page import Page, known
from crossband.text import counted, percent


@dataclass(frozen=True)
class ComparedPair:
    """A pair with what two methods saw in it: labels uint8 (H, W)."""

    pair: Pair
    first: np.ndarray
    second: np.ndarray


def comparison_page(
    comparison: Comparison,
    classes: Classes,
    examples: Mapping[str, Sequence[ComparedPair]] | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> Page:
    """Verdicts, scores, what carries them, and pictures.

    examples: per second method, in the order of `Difference.pairs`. provenance: as in `Evaluation`.
    """
    page = Page(f"{' and '.join(method.name for method in comparison.methods)} compared")
    page.paragraph(f"{comparison.source}, split {comparison.split}: {counted(comparison.pairs, 'pair')}.")
    for difference in comparison.differences:
        page.paragraph(verdict(difference, comparison))
    head, rows, align = method_table(comparison)
    page.table(head, rows, caption="Mean IoU in percent; of several runs, the mean of theirs.", align=align)
    page.paragraph(how_made(comparison))
    for difference in comparison.differences:
        _add_difference(page, difference, comparison, classes, (examples or {}).get(difference.second, ()))
    page.heading("Provenance")
    page.outline(known(provenance or {}))
    return page


def write_comparison(
    comparison: Comparison,
    folder: Path,
    classes: Classes,
    examples: Mapping[str, Sequence[ComparedPair]] | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """Write ``comparison.json``, ``.csv``, ``.txt`` and ``.html`` into a folder, each whole or not at all."""
    write_files(
        folder,
        "comparison",
        text=comparison_text(comparison),
        document={**comparison_dict(comparison), "provenance": dict(provenance or {})},
        table=comparison_csv(comparison),
        page=comparison_page(comparison, classes, examples, provenance),
    )


def _add_difference(
    page: Page,
    difference: Difference,
    comparison: Comparison,
    classes: Classes,
    examples: Sequence[ComparedPair],
) -> None:
    page.heading(f"{difference.first} minus {difference.second}")
    of_classes = [(comparison.classes[found.index], found.difference) for found in difference.classes]
    of_conditions = [(name, found) for name, (_, found) in difference.conditions.items()]
    page.figure(
        difference_chart([("all pairs", difference.mean_iou), *of_classes, *of_conditions]),
        f"Differences in points with {level_text(comparison)} intervals: mean IoU of all pairs, IoU of every "
        "class, mean IoU of every condition. An interval that holds zero shows no difference.",
        "Differences with intervals; the table below has the numbers.",
    )
    page.table(
        class_header(difference),
        class_rows(difference, comparison),
        caption="IoU of classes and mean IoU of conditions, in percent; part: a class's part of the "
        "difference in mean IoU, in points.",
    )
    if difference.confusions:
        page.table(
            confusion_header(difference),
            confusion_rows(difference, comparison),
            caption="Confusions that differ most: the share of a class's pixels taken for another, in "
            "percent.",
            align="llrrr",
        )
    if examples:
        _add_pictures(page, difference, classes, examples)


def _add_pictures(
    page: Page, difference: Difference, classes: Classes, examples: Sequence[ComparedPair]
) -> None:
    page.heading("Pairs that differ most", 3)
    page.legend(classes)
    only = [f"only {name} right" for name in (difference.first, difference.second)]
    page.legend(Classes(("both right", *only, "both wrong", "no label"), AGREEMENT_COLOURS))
    rows = []
    for found, example in zip(difference.pairs, examples, strict=False):
        truth = example.pair.label
        assert truth is not None
        title = (
            f"{found.name}: {difference.first} {percent(found.first)}, {difference.second} "
            f"{percent(found.second)} ({points_text(found.first - found.second, sign=True)} points)"
        )
        pictures = [
            *pair_pictures(example.pair, classes.palette),
            colour_labels(example.first, classes.palette),
            colour_labels(example.second, classes.palette),
            agreement_map(example.first, example.second, truth),
        ]
        rows.append((title, pictures))
    page.image_grid(
        ["visible", "infrared", "truth", difference.first, difference.second, "who is right"],
        rows,
        max_side=320,
    )
