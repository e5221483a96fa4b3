"""What systems lose when a camera breaks, as text, CSV and JSON; several runs side by side."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np

from crossband.card_words import system_words
from crossband.errors import OptionError, first_line
from crossband.evaluation.robustness import (
    CLEAN,
    FAILURE_PROBABILITIES,
    MISSING_SHARES,
    NOISE_DEVIATIONS,
    BandFailures,
    Robustness,
)
from crossband.option_types import check_types, types_of
from crossband.pairs.corruption import BAND_STATES, CORRUPTIONS, SEVERITIES
from crossband.pairs.writing import csv_text, write_text
from crossband.report.files import or_none
from crossband.text import DASH, counted, decimal, percent, text_table
from crossband.words import BANDS

CSV_COLUMNS = (
    *("run", "system", "kind", "condition", "severity", "mean_iou", "margin"),
    *(f"{band}_dropped" for band in BANDS),
)
DROPS = (
    "Pairs whose visible and whose infrared the band monitor left out. Of clean pairs these are false alarms."
)
RULE = (
    "margin: the mean IoU with the broken band minus that of the same run without it, clean (of the better "
    "band where both are touched). Below zero, the broken band is worse than none."
)


def robustness_text(found: Mapping[str, Robustness]) -> str:
    """Tables for a terminal, in percent and points."""
    systems = [f"{name}: {assessed_system(one)}" for name, one in found.items()]
    parts = ["\n".join([heading(found), *systems]), _summary(found)]
    for name, one in found.items():
        parts.append(f"{name}: mean IoU (%) by severity, and the worst margin (points)\n\n{_table(one)}")
        parts.append(verdict(name, one))
        if one.dropped:
            parts.append(f"{name}: {DROPS[0].lower()}{DROPS[1:]}\n\n{text_table(*drops_table(one))}")
    return "\n\n".join([*parts, RULE]) + "\n"


def verdict(name: str, one: Robustness) -> str:
    """Whether a broken band is ever worse than none, in a sentence."""
    margins = one.margins()
    if not margins:
        why = "there is no score to hold against it" if one.alone else f"it runs on {one.bands} only"
        return f"{name}: nothing can be said of it without a band, for {why}."
    below = [key for key, margin in margins.items() if margin < -0.005]
    worst = min(margins, key=lambda key: margins[key])
    if not below:
        return (
            f"{name}: under none of {len(margins)} conditions is a broken band worse than none by more than "
            f"half a point (worst: {worst}, {100 * margins[worst]:+z.1f})."
        )
    return (
        f"{name}: under {len(below)} of {len(margins)} conditions a broken band is worse than none by more "
        f"than half a point (worst: {worst}, {100 * margins[worst]:+z.1f})."
    )


def drops_table(one: Robustness) -> tuple[list[str], list[list[str]]]:
    """How many pairs a monitor left each band out of, visible and infrared, by condition and severity."""
    rows = []
    for name in dict.fromkeys(key.partition("/")[0] for key in one.dropped):
        of_name = {key: counts for key, counts in one.dropped.items() if key.partition("/")[0] == name}
        told = {key.partition("/")[2]: f"{c['visible']} + {c['infrared']}" for key, c in of_name.items()}
        if name in CORRUPTIONS:
            rows.append([name, *(told.get(str(severity), "") for severity in SEVERITIES)])
        else:
            rows += [[key, told[key.partition("/")[2]], *[""] * (len(SEVERITIES) - 1)] for key in of_name]
    return [f"of {counted(one.pairs, 'pair')}", *map(str, SEVERITIES)], rows


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


def robustness_document(one: Robustness) -> dict[str, Any]:
    """`robustness_dict`, and what follows from it: means, margins and the averages over failing bands."""
    return {
        **robustness_dict(one),
        "mean_over_corruptions": or_none(_mean(one)),
        "retention": or_none(one.retention),
        "margins": one.margins(),
        "band_missing": _averages(one.failures()),
        "share_of_a_band_missing": {
            f"{share:g}": _averages(averages) for share, averages in one.random_losses().items()
        },
    }


def _averages(averages: BandFailures | None) -> dict[str, Any] | None:
    if averages is None:
        return None
    return {
        "average": or_none(averages.average),
        "expected": {f"{p:g}": or_none(score) for p, score in averages.expected.items()},
    }


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
        if told["clean"] is None:
            # NaN, which the field has of its own accord.
            del told["clean"]
        return Robustness(**check_types(path.name, types_of(Robustness), told))
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise OptionError(
            f"{path} holds no unfinished assessment ({first_line(error)}): remove it"
        ) from error


def write_progress(path: Path, one: Robustness) -> None:
    """Write what is known of one run so far, whole or not at all."""
    write_text(path, json.dumps(robustness_dict(one), indent=1, allow_nan=False) + "\n")


def heading(found: Mapping[str, Robustness]) -> str:
    one = next(iter(found.values()))
    return (
        f"{one.source}, split {one.split}: {counted(one.pairs, 'pair')}, protocol {one.protocol}, "
        f"seed {one.seed} of the corruptions{', with a band monitor' if one.monitor else ''}"
    )


def assessed_system(one: Robustness) -> str:
    """The system, and its variant where the provenance tells one."""
    return system_words(one.system, one.provenance.get("variant"))


def summary_table(found: Mapping[str, Robustness]) -> tuple[list[str], list[list[str]]]:
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
    for deviation in NOISE_DEVIATIONS:
        tell(f"noise, deviation {deviation:g}", [one.scores.get(f"noise/{deviation:g}") for one in runs])
    for state in BAND_STATES:
        tell(state, [one.scores.get(state) for one in runs])
    return ["", *found], [[title, *values] for title, values in rows.items()]


def _mean(one: Robustness) -> float:
    means = [float(np.mean(list(scores.values()))) for scores in one.by_corruption().values()]
    return float(np.mean(means)) if means else math.nan


def _summary(found: Mapping[str, Robustness]) -> str:
    return text_table(*summary_table(found))


def _table(one: Robustness) -> str:
    rows = []
    margins = one.margins()
    for name, scores in one.by_corruption().items():
        known = [margins[key] for s in scores if (key := f"{name}/{s}") in margins]
        worst = decimal(100 * min(known), 1) if known else DASH
        cells = [decimal(100 * scores[s], 1) if s in scores else "" for s in SEVERITIES]
        rows.append([name, CORRUPTIONS[name].kind, *cells, worst])
    return text_table(["corruption", "kind", *map(str, SEVERITIES), "margin"], rows, align="llrrrrrr")


def _rows(found: Mapping[str, Robustness]) -> Iterator[dict[str, Any]]:
    for run, one in found.items():
        margins = one.margins()
        alone = {f"{band} alone": score for band, score in one.alone.items()}
        for key, score in {CLEAN: one.clean, **alone, **one.scores}.items():
            name, _, level = key.partition("/")
            drops = one.dropped.get(key, {})
            yield {
                "run": run,
                "system": assessed_system(one),
                "kind": CORRUPTIONS[name].kind if name in CORRUPTIONS else "",
                "condition": name,
                "severity": level,
                "mean_iou": or_none(score),
                "margin": or_none(margins.get(key, math.nan)),
                **{f"{band}_dropped": drops.get(band) for band in BANDS},
            }
