"""What systems lose when a camera breaks, as a page."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from crossband.evaluation.robustness import Robustness
from crossband.pairs.corruption import CORRUPTIONS, SEVERITIES
from crossband.report.files import write_files
from crossband.report.page import Cell, Page, known
from crossband.report.robustness_files import (
    DROPS,
    RULE,
    assessed_system,
    drops_table,
    heading,
    robustness_csv,
    robustness_document,
    robustness_text,
    summary_table,
    verdict,
)
from crossband.text import DASH, decimal

_KINDS: Mapping[Literal["visible", "infrared", "pair"], str] = {
    "visible": "visible breaks",
    "infrared": "infrared breaks",
    "pair": "the two no longer fit",
}


def write_robustness(found: Mapping[str, Robustness], folder: Path) -> None:
    """Write ``robustness.json``, ``.csv``, ``.txt`` and ``.html`` into a folder."""
    write_files(
        folder,
        "robustness",
        text=robustness_text(found),
        document={name: robustness_document(one) for name, one in found.items()},
        table=robustness_csv(found),
        page=robustness_page(found),
    )


def robustness_page(found: Mapping[str, Robustness]) -> Page:
    """A summary, and a map of every run: scores, coloured by the margin over going without the band."""
    page = Page(f"{', '.join(found)}: when a camera breaks")
    page.paragraph(heading(found))
    page.definitions({name: assessed_system(one) for name, one in found.items()})
    page.table(*summary_table(found), caption="Mean IoU in percent.")
    page.paragraph(RULE)
    for name, one in found.items():
        page.heading(name)
        page.paragraph(verdict(name, one))
        for kind, title in _KINDS.items():
            scored = one.by_corruption(kind)
            if scored:
                page.table(
                    [title, *map(str, SEVERITIES)],
                    [
                        [c, *(_map_cell(one, c, scores, s) for s in SEVERITIES)]
                        for c, scores in scored.items()
                    ],
                    caption="Mean IoU (%) by severity. Blue: better than without the band; orange: worse.",
                )
        others = [
            [Cell(key), _score_cell(one, key)]
            for key in one.scores
            if key.partition("/")[0] not in CORRUPTIONS
        ]
        if others:
            page.table(["band states, random losses, noise", "mean IoU"], others)
        if one.dropped:
            page.table(*drops_table(one), caption=DROPS)
        page.heading("Provenance", 3)
        page.outline(known(one.provenance))
    page.heading("Corruptions")
    page.definitions(
        {c.name: f"{c.meaning}: {', '.join(f'{v:g}' for v in c.levels)}" for c in CORRUPTIONS.values()}
    )
    return page


def _map_cell(one: Robustness, name: str, scores: Mapping[int, float], severity: int) -> Cell | str:
    return _score_cell(one, f"{name}/{severity}") if severity in scores else DASH


def _score_cell(one: Robustness, key: str) -> Cell:
    margin = one.margin(key)
    text = decimal(100 * one.scores[key], 1)
    if math.isnan(margin):
        return Cell(text, shade=math.nan)
    # Ten points are the strongest colour.
    return Cell(text, shade=min(1.0, abs(margin) / 0.1), tone="right" if margin >= 0 else "wrong")
