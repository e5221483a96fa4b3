"""The lines that broken_bands.py keeps of what it counted, and the tables of docs/results/robustness.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

import numpy as np

from crossband.metrics.resampling import Interval, interval, mean_ious, resampled
from crossband.pairs.corruption import CORRUPTIONS, HELD_OUT_CORRUPTIONS
from small_runs import markdown, points, spread

ALONE = ("infrared", "visible")
STATES = ("black visible", "black infrared")
WAYS = ("none", "thresholds", "trained")
"""Monitors: as the run is, dropping what looks broken by itself, and what its own monitor finds."""
CLEAN = "clean"
TOLERATED = 0.005
COLUMNS = (
    *("set", "run", "seed", "condition", "pairs", "without"),
    *(column for way in WAYS for column in (way, f"{way}_low", f"{way}_high")),
    *("no_visible", "no_infrared", "revision"),
)
"""Of a condition: the mean IoU of the same run without the broken band, on clean pairs; by monitor, the mean
IoU under the condition and the 95 % interval of its margin; how many pairs lost a band to the run's own
monitor. "infrared alone" and "visible alone" are clean pairs, on which no monitor looks."""
Line = Mapping[str, str]


def lines_of_counts(counted: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    """What `broken_bands.count` found of a run, as one line for every condition, still without its names."""
    lines = []
    for band in ALONE:
        if (key := f"alone|{band}") in counted:
            lines.append({"condition": f"{band} alone", "none": _score(counted[key])})
    conditions = [key.partition("|")[2] for key in counted if key.startswith("none|")]
    for condition in conditions:
        line: dict[str, Any] = {"condition": condition}
        for way in WAYS:
            line[way] = _score(counted[f"{way}|{condition}"])
        if condition != CLEAN:
            alone = counted[f"alone|{_left_by(condition)}"]
            line["without"] = _score(alone)
            for way in WAYS:
                found = _difference(counted[f"{way}|{condition}"], alone)
                line |= {f"{way}_low": f"{found.low:.5f}", f"{way}_high": f"{found.high:.5f}"}
        left = counted[f"trained left|{condition}"]
        line |= {"no_visible": (left == 1).sum(), "no_infrared": (left == 2).sum()}
        lines.append(line)
    first = next(iter(counted.values()))
    return [{"pairs": len(first), **line} for line in lines]


def _left_by(condition: str) -> str:
    """The band that is whole, as `Robustness.without` has it."""
    name = condition.partition("/")[0]
    kind = CORRUPTIONS[name].kind if name in CORRUPTIONS else name.rpartition(" ")[2]
    return "infrared" if kind == "visible" else "visible"


def _score(matrices: np.ndarray) -> str:
    return f"{float(mean_ious(matrices.sum(0))):.5f}"


def _difference(first: np.ndarray, second: np.ndarray) -> Interval:
    """Of the mean IoU on the same pairs, (N, C, C) each, by the bootstrap of `crossband compare`."""
    stacked = np.stack([first, second])
    whole, drawn = mean_ious(stacked.sum(1)), mean_ious(resampled(stacked))
    return interval(float(whole[0] - whole[1]), drawn[0] - drawn[1])


def tables(lines: Sequence[Line]) -> str:
    """Markdown: everything that the page has of these lines."""
    sets = sorted({line["set"] for line in lines if line["condition"] == CLEAN})
    by_set = [
        f"`{name}`\n\n{by_corruption([line for line in lines if line['set'] == name])}" for name in sets
    ]
    parts = [summary(lines), left(lines), *by_set, over_the_better_band(lines), clean(lines)]
    return "\n\n".join([*parts, over_specialists(lines)])


def margin(line: Line, way: str) -> float:
    """Points of mean IoU by which the answer with a broken band is above that without it."""
    return 100 * (float(line[way]) - float(line["without"]))


def is_left(line: Line, way: str) -> bool:
    """Whether a broken band is worse than none by more than the target allows."""
    # Both scores are rounded, so that a margin of just half a point may come out below it.
    return margin(line, way) < -100 * TOLERATED - 1e-6


def summary(lines: Sequence[Line]) -> str:
    """Markdown: in how many conditions of all seeds a broken band is worse than none, in brackets those whose
    whole interval lies below, and the lowest margin; how many conditions each seed has left; clean scores."""
    titles = ["set", "run", "seeds", *(f"worse: {way}" for way in WAYS), "trained, by seed"]
    rows = [[*titles, "both", *(f"{band} alone" for band in ALONE)]]
    for (name, run), own in _by(lines, "set", "run").items():
        broken = _broken(own)
        if not broken:
            continue
        scores = [_scores(own, CLEAN), *(_scores(own, f"{band} alone") for band in ALONE)]
        cells = [_worse(broken, way) for way in WAYS]
        by_seed = _by(broken, "seed").values()
        each = ", ".join(str(sum(is_left(line, "trained") for line in of)) for of in by_seed)
        rows.append([name, run, _seeds(own), *cells, each, *map(spread, scores)])
    return markdown(rows)


def _worse(broken: Sequence[Line], way: str) -> str:
    below = [line for line in broken if is_left(line, way)]
    sure = [line for line in below if float(line[f"{way}_high"]) < -TOLERATED]
    worst = min(broken, key=lambda line: margin(line, way))
    told = f"{margin(worst, way):+.1f} {worst['condition']}"
    return f"{len(below)} ({len(sure)}); {told}"


def left(lines: Sequence[Line]) -> str:
    """Markdown: what is worse than none with the run's own monitor: margins, the severity in brackets."""
    broken = _broken(lines)
    seeds = sorted({line["seed"] for line in broken}, key=int)
    rows = [["set", "run", "corruption", *(f"seed {seed}" for seed in seeds)]]
    grouped: dict[tuple[str, ...], dict[str, list[str]]] = {}
    for (name, run), own in _by(broken, "set", "run").items():
        for line in own:
            if is_left(line, "trained"):
                corruption, _, severity = line["condition"].partition("/")
                cells = grouped.setdefault((name, run, corruption), {})
                cells.setdefault(line["seed"], []).append(f"{margin(line, 'trained'):+.1f} ({severity})")
    for key, cells in grouped.items():
        rows.append([*key, *(", ".join(cells.get(seed, [])) for seed in seeds)])
    return markdown(rows)


def by_corruption(lines: Sequence[Line]) -> str:
    """Markdown: of lines of one set, the mean margin over severities and seeds without a monitor and with the
    run's own; in brackets the lowest with it, and how many conditions are left."""
    runs = {run: own for (run,), own in _by(lines, "run").items() if _broken(own)}
    rows = [["corruption", *(f"{run} ({_seeds(own)})" for run, own in runs.items())]]
    for kind in (*HELD_OUT_CORRUPTIONS, *STATES):
        cells = []
        for own in runs.values():
            chosen = [line for line in own if line["condition"].partition("/")[0] == kind]
            before, after = ([margin(line, way) for line in chosen] for way in ("none", "trained"))
            worse = sum(is_left(line, "trained") for line in chosen)
            cells.append(f"{mean(before):+.1f} → {mean(after):+.1f} ({min(after):+.1f}; {worse})")
        rows.append([kind, *cells])
    return markdown(rows)


def over_the_better_band(lines: Sequence[Line]) -> str:
    """Markdown: where infrared is moved, or of another moment, the margin over the better of the two bands
    alone, clean, which no monitor can bring back: the worst over the severities, over the seeds."""
    moved = [name for name in HELD_OUT_CORRUPTIONS if CORRUPTIONS[name].kind == "pair"]
    asked = [(name, way) for name in moved for way in ("none", "trained")]
    rows = [["set", "run", "seeds", *(f"{name}, {way}" for name, way in asked)]]
    for (name, run), own in _by(lines, "set", "run").items():
        if not _broken(own):
            continue
        cells = []
        for kind, way in asked:
            worst = []
            for of in _by(own, "seed").values():
                better = max(float(line["none"]) for line in of if line["condition"].endswith(" alone"))
                scores = [float(line[way]) for line in of if line["condition"].startswith(f"{kind}/")]
                worst.append(100 * (min(scores) - better))
            cells.append(points(worst))
        rows.append([name, run, _seeds(own), *cells])
    return markdown(rows)


def clean(lines: Sequence[Line]) -> str:
    """Markdown: what training for broken bands, and a run's monitor, cost on clean pairs."""
    titles = ["set", "run", "seeds", "its monitor", "pairs that lost a band"]
    rows = [[*titles, "over the run without `--robust`", "with its monitor"]]
    found = [line for line in lines if line["condition"] == CLEAN]
    known = {(line["set"], line["run"], line["seed"]): float(line["none"]) for line in found}
    for (name, run), own in _by(found, "set", "run").items():
        cost = points([100 * (float(line["trained"]) - float(line["none"])) for line in own])
        lost = sum(int(line["no_visible"]) + int(line["no_infrared"]) for line in own)
        cells = [cost, f"{lost} of {sum(int(line['pairs']) for line in own)}"]
        plain = run.removesuffix("-robust")
        for way in ("none", "trained"):
            over = [
                100 * (float(line[way]) - known[key])
                for line in own
                if plain != run and (key := (name, plain, line["seed"])) in known
            ]
            cells.append(points(over))
        rows.append([name, run, _seeds(own), *cells])
    return markdown(rows)


def over_specialists(lines: Sequence[Line]) -> str:
    """Markdown: what one set of weights has over three: the plain run of its system on both bands, and a
    DeepLabV3+ on each band alone; by the seeds that both have."""
    scores = {
        (line["set"], line["run"], line["condition"], line["seed"]): float(line["none"]) for line in lines
    }
    titles = ["set", "run", "both, over the same system plain"]
    rows = [[*titles, *(f"{band}, over the specialist" for band in ALONE)]]
    for (name, run), own in _by(lines, "set", "run").items():
        if not _broken(own):
            continue
        others = {CLEAN: run.partition("-")[0], **{f"{band} alone": band for band in ALONE}}
        cells = []
        for condition, other in others.items():
            over = [
                100 * (float(line["none"]) - scores[key])
                for line in own
                if line["condition"] == condition
                and (key := (name, other, condition, line["seed"])) in scores
            ]
            cells.append("0" if other == run else points(over))
        if cells[1:] != ["–", "–"]:
            rows.append([name, run, *cells])
    return markdown(rows)


def _broken(lines: Sequence[Line]) -> list[Line]:
    """Those of corruptions, which have a severity; black bands are found by every monitor and not counted."""
    return [line for line in lines if "/" in line["condition"]]


def _scores(lines: Sequence[Line], condition: str) -> list[str]:
    return [line["none"] for line in lines if line["condition"] == condition]


def _seeds(lines: Sequence[Line]) -> str:
    return str(len({line["seed"] for line in lines}))


def _by(lines: Sequence[Line], *columns: str) -> dict[tuple[str, ...], list[Line]]:
    """Lines grouped by the texts of these columns, in their order."""
    found: dict[tuple[str, ...], list[Line]] = {}
    for line in sorted(lines, key=lambda line: (line["set"], line["run"], int(line["seed"]))):
        found.setdefault(tuple(line[column] for column in columns), []).append(line)
    return found
