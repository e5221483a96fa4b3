"""What systems lose when a camera breaks, as text, CSV, JSON and a page; several runs side by side."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Literal, get_type_hints

import numpy as np

from crossband.errors import OptionError, first_line
from crossband.evaluation.robustness import FAILURE_PROBABILITIES, MISSING_SHARES, Robustness
from crossband.option_types import check_types
from crossband.pairs.corruption import BAND_STATES, CORRUPTIONS, SEVERITIES
from crossband.pairs.writing import csv_text, write_text
from crossband.report.files import or_none, write_files
from crossband.report.page import Cell, Page, facts
from crossband.text import DASH, counted, decimal, percent, text_table
from crossband.words import BANDS

CSV_COLUMNS = ("run", "system", "kind", "condition", "severity", "mean_iou", "margin")
_KINDS: Mapping[Literal["visible", "infrared", "pair"], str] = {
    "visible": "visible breaks",
    "infrared": "infrared breaks",
    "pair": "the two no longer fit",
}
_RULE = (
    "margin: the mean IoU with the broken band minus that of the same run without it, clean (of the better "
    "band where both are touched). Below zero, the broken band is worse than none."
)


def robustness_text(found: Mapping[str, Robustness]) -> str:
    """Tables for a terminal, in percent and points."""
    parts = [_heading(found), _summary(found)]
    for name, one in found.items():
        parts.append(f"{name}: mean IoU (%) by severity, and the worst margin (points)\n\n{_table(one)}")
        parts.append(verdict(name, one))
    return "\n\n".join([*parts, _RULE]) + "\n"


def verdict(name: str, one: Robustness) -> str:
    """Whether a broken band is ever worse than none, in a sentence."""
    margins = {key: margin for key, margin in one.margins().items() if math.isfinite(margin)}
    if not margins:
        return f"{name}: nothing can be said of it without a band, for it runs on {one.bands} only."
    below = [key for key, margin in margins.items() if margin < -0.005]
    worst = min(margins, key=lambda key: margins[key])
    if not below:
        return (
            f"{name}: under none of {len(margins)} conditions is a broken band worse than none by more than "
            f"half a point (worst: {worst}, {100 * margins[worst]:+.1f})."
        )
    return (
        f"{name}: under {len(below)} of {len(margins)} conditions a broken band is worse than none by more "
        f"than half a point (worst: {worst}, {100 * margins[worst]:+.1f})."
    )


def robustness_csv(found: Mapping[str, Robustness]) -> str:
    """One score a line, in [0, 1]; empty where there is none."""
    return csv_text(CSV_COLUMNS, _rows(found))


def robustness_dict(one: Robustness) -> dict[str, Any]:
    """Everything of one run, ready for JSON; None where a number does not exist."""
    told = asdict(one)
    told["clean"] = or_none(one.clean)
    told["alone"] = {band: or_none(score) for band, score in one.alone.items()}
    told["scores"] = {key: or_none(score) for key, score in one.scores.items()}
    return told


def read_robustness(path: Path) -> Robustness:
    """Read what `write_progress` wrote. Raises OptionError for a file that holds something else."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        names = {field.name for field in fields(Robustness)}
        if not isinstance(told, dict) or set(told) != names:
            raise ValueError("other fields than those of an assessment")
        for key in ("alone", "scores"):
            told[key] = {
                str(name): math.nan if score is None else float(score) for name, score in told[key].items()
            }
        told["clean"] = math.nan if told["clean"] is None else float(told["clean"])
        return Robustness(**check_types(path.name, get_type_hints(Robustness), told))
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise OptionError(
            f"{path} holds no unfinished assessment ({first_line(error)}): remove it"
        ) from error


def write_progress(path: Path, one: Robustness) -> None:
    """Write what is known of one run so far, whole or not at all."""
    write_text(path, json.dumps(robustness_dict(one), indent=1, allow_nan=False) + "\n")


def write_robustness(found: Mapping[str, Robustness], folder: Path) -> None:
    """Write ``robustness.json``, ``.csv``, ``.txt`` and ``.html`` into a folder."""
    write_files(
        folder,
        "robustness",
        text=robustness_text(found),
        document={name: robustness_dict(one) for name, one in found.items()},
        table=robustness_csv(found),
        page=robustness_page(found),
    )


def robustness_page(found: Mapping[str, Robustness]) -> Page:
    """A summary, and a map of every run: scores, coloured by the margin over going without the band."""
    page = Page(f"{', '.join(found)}: when a camera breaks")
    page.paragraph(_heading(found))
    page.table(*_summary_table(found), caption="Mean IoU in percent.")
    for name, one in found.items():
        page.heading(name)
        page.paragraph(verdict(name, one))
        page.paragraph(_RULE)
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
        page.heading("Corruptions", 3)
        page.definitions(
            {c.name: f"{c.meaning}: {', '.join(f'{v:g}' for v in c.levels)}" for c in CORRUPTIONS.values()}
        )
        page.heading("Provenance", 3)
        page.definitions(facts(one.provenance), code=True)
    return page


def _map_cell(one: Robustness, name: str, scores: Mapping[int, float], severity: int) -> Cell | str:
    return _score_cell(one, f"{name}/{severity}") if severity in scores else DASH


def _score_cell(one: Robustness, key: str) -> Cell:
    margin = one.margins().get(key, math.nan)
    text = decimal(100 * one.scores[key], 1)
    if math.isnan(margin):
        return Cell(text, shade=math.nan)
    # Ten points are the strongest colour.
    return Cell(text, shade=min(1.0, abs(margin) / 0.1), tone="right" if margin >= 0 else "wrong")


def _heading(found: Mapping[str, Robustness]) -> str:
    one = next(iter(found.values()))
    return (
        f"{one.source}, split {one.split}: {counted(one.pairs, 'pair')}, protocol {one.protocol}, "
        f"seed {one.seed} of the corruptions"
    )


def _summary_table(found: Mapping[str, Robustness]) -> tuple[list[str], list[list[str]]]:
    rows: dict[str, list[str]] = {}

    def tell(title: str, values: Sequence[float | None]) -> None:
        if any(value is not None and math.isfinite(value) for value in values):
            rows[title] = [DASH if value is None else percent(value) for value in values]

    runs = list(found.values())
    tell("clean", [one.clean for one in runs])
    for band in BANDS:
        tell(f"{band} alone", [one.alone.get(band) for one in runs])
    tell("mean over corruptions", [_mean(one) for one in runs])
    tell("retention", [one.retention for one in runs])
    averages = {"band missing": [one.failures() for one in runs]}
    for share in MISSING_SHARES:
        averages[f"{share:.0%} of a band missing"] = [one.random_losses().get(share) for one in runs]
    for title, each in averages.items():
        tell(f"{title}: average", [None if one is None else one.average for one in each])
        for p in FAILURE_PROBABILITIES:
            expected = [None if one is None else one.expected[p] for one in each]
            tell(f"{title}: expected, p = {p:g}", expected)
    for state in BAND_STATES:
        tell(state, [one.scores.get(state) for one in runs])
    return ["", *found], [[title, *values] for title, values in rows.items()]


def _mean(one: Robustness) -> float:
    means = [float(np.mean(list(scores.values()))) for scores in one.by_corruption().values()]
    return float(np.mean(means)) if means else math.nan


def _summary(found: Mapping[str, Robustness]) -> str:
    return text_table(*_summary_table(found))


def _table(one: Robustness) -> str:
    rows = []
    margins = one.margins()
    for name, scores in one.by_corruption().items():
        known = [margins[f"{name}/{s}"] for s in scores if math.isfinite(margins[f"{name}/{s}"])]
        worst = decimal(100 * min(known), 1) if known else DASH
        cells = [decimal(100 * scores[s], 1) if s in scores else "" for s in SEVERITIES]
        rows.append([name, CORRUPTIONS[name].kind, *cells, worst])
    return text_table(["corruption", "kind", *map(str, SEVERITIES), "margin"], rows, align="llrrrrrr")


def _rows(found: Mapping[str, Robustness]) -> Iterator[dict[str, Any]]:
    for run, one in found.items():
        margins = one.margins()
        for key, score in {"clean": one.clean, **one.scores}.items():
            name, _, level = key.partition("/")
            yield {
                "run": run,
                "system": one.system,
                "kind": CORRUPTIONS[name].kind if name in CORRUPTIONS else "",
                "condition": name,
                "severity": level,
                "mean_iou": or_none(score),
                "margin": or_none(margins.get(key, math.nan)),
            }
