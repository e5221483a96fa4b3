"""Score fusions on real pairs that none of them was trained on: what docs/results/learned-fuser.md tells.

    python speed/learned_fuser.py RUN... --pairs PATH

PATH holds the real sets. Of ``roadscene`` the last 30 pairs by name are scored, of ``msrs_boxes`` the test
part, both at full size. With ``--choosing`` these are pairs to choose by, which are in neither: of
``roadscene`` every sixth of the first 90, of ``msrs_boxes`` eight of the train part by day and eight by
night. RUN is a run folder, or a system that needs no training; `REFERENCES` are always there. Prints the
means of `METRICS`, how far each method is from ``guided`` on the same pairs, with 95 % intervals, in how many
of the metrics it is better, by day and by night too, and by how much persons are brighter than what is around
them (`standing_out`). ``--pictures`` writes sheets to look at, which show the data and so stay with the runs.
What is scored is kept in ``scores-*.json`` under the method's name; ``--again`` scores the runs that are
named anew. One thread by default.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image

from crossband.evaluation import evaluate_fusion
from crossband.loading import load
from crossband.metrics.drawing import REPLICATES
from crossband.metrics.resampling import Interval, interval
from crossband.pairs.base import Pairs, PairSubset
from crossband.pairs.opening import open_pairs
from crossband.pictures import to_uint8
from crossband.words import BANDS, IGNORE_INDEX
from roadscene import split_by_name

METRICS = ("Qabf", "VIF", "SCD", "MI")
REFERENCES = ("visible", "infrared", "average", "maximum", "laplacian", "guided")
BAR = "guided"
SETS = ("roadscene", "msrs_boxes")
BLOCK = 4
"""Pairs that are drawn together: neighbours of these sets are frames of one drive."""
ROADSCENE_NIGHT = 9
"""So many of RoadScene's test pairs, the first by name, are of the night: the set does not say, we looked."""
SHOWN = {
    "roadscene": {"day": 3, "night": 3},
    "msrs_boxes": {"day": 3, "night": 4},
}
"""How many pairs a sheet has."""
PERSON = 1
"""The class of `msrs_boxes` whose masks `standing_out` takes."""
FEWEST = 60
"""Pixels of persons that a pair must have for it."""
LUMA = np.array([0.299, 0.587, 0.114])
REACH = 7
"""Pixels around persons that they are held against."""

Scores = dict[str, dict[str, list[float]]]
"""By method and metric, a value per pair."""


def opened(name: str, pairs: Path, out: Path, *, choosing: bool, every: int) -> PairSubset:
    """The test part of a set, or of its other part the pairs to choose by; one of ``every``."""
    source = f"folder:{pairs / name}"
    if name == "roadscene":
        source = split_by_name(pairs / name, out / "roadscene-pairs")
    there = open_pairs(source, "train" if choosing else "test")
    indices: Sequence[int] = range(len(there))
    if choosing and name == "roadscene":
        indices = indices[::6]
    elif choosing:
        told = [there.condition(index) for index in indices]
        indices = [index for condition in ("day", "night") for index in chosen(told, condition, 8)]
    return PairSubset(there, indices[::every], there.split)


def standing_out(pairs: PairSubset, methods: Mapping[str, Any]) -> str:
    """Markdown: how much brighter than their surroundings (`REACH`) persons are, in luma of 0..1, as means.

    Of pairs with labels and at least `FEWEST` pixels of persons, by day and by night.
    """
    found: dict[str, dict[str, list[float]]] = {name: {"day": [], "night": []} for name in methods}
    for index, condition in enumerate(conditions(pairs)):
        pair = pairs[index]
        assert pair.label is not None
        persons = pair.label == PERSON
        if persons.sum() < FEWEST:
            continue
        near = cv2.dilate(persons.astype(np.uint8), np.ones((2 * REACH + 1, 2 * REACH + 1), np.uint8)) > 0
        around = near & ~persons & (pair.label != IGNORE_INDEX)
        for name, method in methods.items():
            picture = getattr(pair, method) if isinstance(method, str) else method.predict(pair).fused / 255
            grey = picture if picture.ndim == 2 else picture @ LUMA
            found[name][condition].append(float(grey[persons].mean() - grey[around].mean()))
    lines = ["| method | persons by day | persons by night |", "|---|---|---|"]
    for name, by in found.items():
        lines.append(f"| {name} | {np.mean(by['day']):+.3f} | {np.mean(by['night']):+.3f} |")
    return "\n".join(lines)


def scored(pairs: Pairs, methods: Mapping[str, Any], kept: Scores) -> Scores:
    """The scores of all methods, those of ``kept`` as they are."""
    fresh = {name: method for name, method in methods.items() if name not in kept}
    if fresh:
        found = evaluate_fusion(fresh, pairs, metrics=METRICS, bands_alone=False, examples=0)
        kept |= {name: method.values for name, method in found.methods.items()}
    return {name: kept[name] for name in methods}


def difference(first: Sequence[float], second: Sequence[float]) -> Interval:
    """The mean difference over the same pairs, and its range by a bootstrap of blocks of `BLOCK` pairs."""
    values = np.array(first) - np.array(second)
    starts = np.arange(0, len(values), BLOCK)
    sums = np.add.reduceat(values, starts)
    sizes = np.add.reduceat(np.ones_like(values), starts)
    draws = np.random.default_rng(0).integers(0, len(starts), (REPLICATES, len(starts)))
    return interval(float(values.mean()), sums[draws].sum(axis=1) / sizes[draws].sum(axis=1))


def table(scores: Scores) -> str:
    """Markdown: means, and in brackets the difference to the bar and its interval."""
    lines = [
        "| method | " + " | ".join(METRICS) + " | better than guided |",
        "|---" * (len(METRICS) + 2) + "|",
    ]
    for name, values in scores.items():
        cells = [name]
        better = 0
        for metric in METRICS:
            mean = float(np.nanmean(values[metric])) if not np.isnan(values[metric]).all() else np.nan
            if np.isnan(mean):
                cells.append("–")
                continue
            apart = difference(values[metric], scores[BAR][metric])
            better += apart.value > 0
            cells.append(
                f"{mean:.3f}"
                if name == BAR
                else f"{mean:.3f} ({apart.value:+.3f}: {apart.low:+.3f} to {apart.high:+.3f})"
            )
        lines.append(
            "| " + " | ".join([*cells, "–" if name == BAR else f"{better} of {len(METRICS)}"]) + " |"
        )
    return "\n".join(lines)


def conditions(pairs: PairSubset) -> list[str]:
    """Day or night of every pair: what the set says, or else what we saw of the test part."""
    return [
        pairs.condition(index) or ("night" if place < ROADSCENE_NIGHT else "day")
        for index, place in enumerate(pairs.indices)
    ]


def sheet(pairs: Pairs, indices: Sequence[int], methods: Mapping[str, Any], height: int = 240) -> Image.Image:
    """Pictures of pairs, a pair per row, a method per column."""
    rows = []
    for index in indices:
        pair = pairs[index]
        assert pair.visible is not None
        assert pair.infrared is not None
        pictures = [to_uint8(pair.visible), np.repeat(to_uint8(pair.infrared)[..., None], 3, axis=2)]
        pictures += [method.predict(pair).fused for method in methods.values() if not isinstance(method, str)]
        size = (round(pair.size[1] * height / pair.size[0]), height)
        row = [np.asarray(Image.fromarray(picture).resize(size)) for picture in pictures]
        rows.append(np.concatenate(row, axis=1))
    width = max(row.shape[1] for row in rows)
    padded = [np.pad(row, ((0, 4), (0, width - row.shape[1]), (0, 0)), constant_values=255) for row in rows]
    return Image.fromarray(np.concatenate(padded))


def chosen(told: Sequence[str | None], condition: str, count: int) -> list[int]:
    """So many indices of a condition, evenly from the list."""
    own = [index for index, name in enumerate(told) if name == condition]
    return [own[(2 * turn + 1) * len(own) // (2 * count)] for turn in range(min(count, len(own)))]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="*", help="run folders, or systems that need no training")
    parser.add_argument("--pairs", type=Path, required=True, help="the folder of the real sets")
    parser.add_argument("--out", type=Path, default=Path("runs/learned-fuser"))
    parser.add_argument("--every", type=int, default=1, help="score one of so many pairs, for a quick look")
    parser.add_argument("--choosing", action="store_true", help="score the pairs to choose by, not the test")
    parser.add_argument("--again", action="store_true", help="score the runs again that are named")
    parser.add_argument("--pictures", action="store_true", help="write sheets of pictures too")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    arguments.out.mkdir(parents=True, exist_ok=True)
    methods: dict[str, Any] = {
        name: name if name in BANDS else load(name, device="cpu") for name in (*REFERENCES, *arguments.runs)
    }
    for name in SETS:
        choosing = arguments.choosing
        pairs = opened(name, arguments.pairs, arguments.out, choosing=choosing, every=arguments.every)
        path = arguments.out / f"scores-{name}-{'choosing-' if choosing else ''}{arguments.every}.json"
        kept: Scores = json.loads(path.read_text()) if path.exists() else {}
        if arguments.again:
            kept = {method: values for method, values in kept.items() if method not in arguments.runs}
        scores = scored(pairs, methods, kept)
        path.write_text(json.dumps(kept))
        print(f"\n**{name}, {len(pairs)} pairs**\n\n{table(scores)}", flush=True)
        if choosing and name == "roadscene":
            continue
        told = conditions(pairs)
        for condition in ("day", "night"):
            own = [index for index, there in enumerate(told) if there == condition]
            part = {
                method: {metric: [values[metric][index] for index in own] for metric in METRICS}
                for method, values in scores.items()
            }
            if own:
                print(f"\n{name}, {len(own)} by {condition}\n\n{table(part)}", flush=True)
        if pairs.classes is not None:
            print(f"\n{name}\n\n{standing_out(pairs, methods)}", flush=True)
        if arguments.pictures:
            for condition, count in SHOWN[name].items():
                indices = chosen(told, condition, count)
                if indices:
                    shown = {method: methods[method] for method in ("maximum", BAR, *arguments.runs)}
                    made = arguments.out / f"{name}-{condition}.png"
                    sheet(pairs, indices, shown).save(made)
                    print(f"pictures: {made}")


if __name__ == "__main__":
    main()
