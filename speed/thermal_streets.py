"""Train and score all systems on thermal streets: what docs/results/thermal-streets.md tells.

    python speed/thermal_streets.py amdanet csknet --seeds 0 1 --pairs PATH --weights PATH

The first PATH holds the real sets; ``msrs_boxes`` is read, whose masks were made from boxes. A run of
``LABELS`` learns classes and is scored on every combination of bands that it can run on, by day and by night,
into ``labels.csv``. A run of ``FUSION`` learns to fuse without labels, and its pictures are scored beside
those of ``UNTRAINED``, into ``fusion.csv``. What has a line is not run again. Without the name of a run, the
tables are printed; with ``--over infrared infrared-twice``, what the runs that are named have over each of
those in labels. One thread by default.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import isnan
from pathlib import Path
from statistics import mean
from typing import Any, cast

import torch

from crossband.evaluation import ALL, evaluate, evaluate_fusion
from crossband.reproduce.quick import particular
from crossband.systems import create, split_options
from crossband.systems.base import System
from crossband.weights import git_revision
from crossband.words import BANDS_ALONE, Band, Bands
from paired import BLOCKS, Scored, counts_of, keep_counts, table_of_differences
from small_runs import (
    MSRS_BOXES,
    PLAIN,
    VISIBLE,
    Dataset,
    Run,
    Series,
    append,
    is_told,
    lines_of,
    run_arguments,
    spread,
)

NAME = "msrs_boxes"
COMMAND = "python speed/thermal_streets.py"
TAUGHT = ("csknet", "disoptnet")
GATED = {"reliability_gate": True, "reconstruction": True}


def small(system: str, epochs: int = MSRS_BOXES.epochs, **changes: Any) -> Run:
    """A system as narrow as `crossband reproduce --budget quick` has it.

    epochs: which phases that learn the same share.
    """
    quick = particular(system)
    network, loss = split_options(system, quick.options)
    base = Run(system, network=network, loss=loss, phases=quick.phase_recipes(epochs))
    return replace(base, teacher=VISIBLE if system in TAUGHT else None, **changes)


LABELS = {
    **PLAIN,
    "csknet": small("csknet"),
    "csknet-firm": small("csknet", variant="firm"),
    "csknet-exchanged": small("csknet", loss={"infrared_supervision": "exchanged"}),
    "disoptnet": small("disoptnet"),
    "mmanet": small("mmanet"),
    "cen": small("cen"),
    "cddfuse": small("cddfuse"),
    "segmif": small("segmif"),
    "mrfs": small("mrfs"),
    "amdanet": small("amdanet"),
    "amdanet-gated": small("amdanet", network=GATED),
}
"""By name. The plain DeepLabV3+ of a band is the baseline."""
PICTURES = Dataset(MSRS_BOXES.source, 10, 4, (96, 96), MSRS_BOXES.factor)
"""What `FUSION` is trained on: 500 steps on small crops."""
FUSION = {
    f"{name}-unlabelled": small(name, PICTURES.epochs, without_labels=True, encodes=name != "cddfuse")
    for name in ("amdanet", "mrfs", "cddfuse")
}
"""SegMiF is not among them: it needs labels."""
UNTRAINED = (*BANDS_ALONE, "average", "maximum", "laplacian", "guided", "learned")
"""The images themselves, and the fusions that need no training here."""
METRICS = ("EN", "SD", "SF", "MI", "SCD", "VIF", "Qabf", "SSIM")
"""Those of CDDFuse's tables, in the convention "standard", as in `real_pairs`."""

SCORES = ("mean_iou", "person_iou", "bicycle_iou", "car_iou", "person_recall", "car_recall")
SHOWN = (
    *(("mean IoU", "mean_iou", scope) for scope in (ALL, "day", "night")),
    *(("person", "person_iou", scope) for scope in ("day", "night")),
    ("recall of persons", "person_recall", "night"),
    ("car", "car_iou", ALL),
)
"""Columns of the table of labels: title, score, scope."""
LABEL_COLUMNS = ("run", "seed", "given", "support", "scope", *SCORES, "seconds", "revision")
FUSION_COLUMNS = ("run", "seed", "scope", *METRICS, "seconds", "revision")


class Streets(Series):
    """One seed: runs that learn classes, or runs that learn to fuse, and the table of their scores."""

    def __init__(self, run: str, seed: int, arguments: argparse.Namespace):
        self.fuses = run in FUSION or run in UNTRAINED
        runs, dataset = (FUSION, PICTURES) if self.fuses else (LABELS, MSRS_BOXES)
        super().__init__(runs, NAME, dataset, seed, arguments)
        self.run = run

    def finish(self) -> None:
        """Train and score the run if it has no lines."""
        path = self.arguments.out / ("fusion.csv" if self.fuses else "labels.csv")
        if not is_told(path, {"run": self.run, "seed": "" if self.run in UNTRAINED else self.seed}):
            if self.fuses:
                append(path, FUSION_COLUMNS, self.fusion_lines())
            else:
                append(path, LABEL_COLUMNS, self.label_lines())

    def label_lines(self) -> list[dict[str, str]]:
        """A line for every combination of bands, over all pairs, by day and by night."""
        system, card = self.trained(self.run, COMMAND)
        evaluation = evaluate(system, self.pairs("test"), bands=list(system.supports))
        keep_counts(counts_of(self.folder, self.run), evaluation)
        names = evaluation.classes.names
        lines = []
        for scope in evaluation.scopes():
            iou = dict(zip(names, scope.scores.iou, strict=True))
            recall = dict(zip(names, scope.scores.accuracy, strict=True))
            values = [scope.scores.protocols["present"].mean_iou]
            values += [*(iou[name] for name in ("person", "bicycle", "car")), recall["person"], recall["car"]]
            lines.append(
                {
                    **{"run": self.run, "seed": str(self.seed), "given": scope.result.bands},
                    **{"support": scope.result.support, "scope": scope.condition},
                    **{name: f"{value:.4f}" for name, value in zip(SCORES, values, strict=True)},
                    **{"seconds": f"{card.training['seconds']:.0f}", "revision": git_revision() or ""},
                }
            )
        return lines

    def fusion_lines(self) -> list[dict[str, str]]:
        """A line over all pairs, by day and by night."""
        method: System | Band
        seconds = ""
        if self.run in FUSION:
            method, card = self.trained(self.run, COMMAND)
            seconds = f"{card.training['seconds']:.0f}"
        elif self.run in BANDS_ALONE:
            method = BANDS_ALONE[self.run]
        else:
            method = create(self.run)
        found = evaluate_fusion(
            {self.run: method}, self.pairs("test"), metrics=METRICS, bands_alone=False, examples=0
        )
        return [
            {
                **{"run": self.run, "seed": "" if self.run in UNTRAINED else str(self.seed)},
                "scope": scope.condition,
                **{name: f"{scope.spreads[name][self.run].mean:.4f}" for name in METRICS},
                **{"seconds": seconds, "revision": git_revision() or ""},
            }
            for scope in found.scopes
        ]


def label_table(lines: Sequence[Mapping[str, str]]) -> str:
    """Markdown: every run and combination of bands, over its seeds, in percent."""
    titles = ["run", "given", "seeds"]
    titles += [f"{word}, {scope}" for word, _, scope in SHOWN]
    rows = [_row(titles), "|---" * len(titles) + "|"]
    for run, given, support in dict.fromkeys((line["run"], line["given"], line["support"]) for line in lines):
        own = [line for line in lines if (line["run"], line["given"]) == (run, given)]
        seeds = {line["seed"] for line in own}
        cells = [spread([line[score] for line in own if line["scope"] == scope]) for _, score, scope in SHOWN]
        named = given if support == "designed" else f"{given} ({support})"
        rows.append(_row([run, named, str(len(seeds)), *cells]))
    return "\n".join(rows)


def scored(lines: Sequence[Mapping[str, str]], out: Path) -> list[Scored]:
    """What `paired.table_of_differences` needs of the lines of labels, over all pairs."""
    return [
        Scored(
            line["run"],
            line["given"],
            cast(Bands, line["given"]),
            int(line["seed"]),
            float(line["mean_iou"]),
            counts_of(out / NAME / f"seed{line['seed']}", line["run"]),
        )
        for line in lines
        if line["scope"] == ALL
    ]


def fusion_table(lines: Sequence[Mapping[str, str]], scope: str) -> str:
    """Markdown: every method on one scope, means over its seeds."""
    rows = [_row(["method", "seeds", *METRICS]), "|---" * (len(METRICS) + 2) + "|"]
    for run in dict.fromkeys(line["run"] for line in lines):
        own = [line for line in lines if line["run"] == run and line["scope"] == scope]
        values = [mean(float(line[metric]) for line in own) for metric in METRICS]
        # Some metrics are undefined for a picture that is one of its sources.
        cells = ["–" if isnan(value) else f"{value:.3g}" for value in values]
        rows.append(_row([run, "–" if run in UNTRAINED else str(len(own)), *cells]))
    return "\n".join(rows)


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    known = [*LABELS, *FUSION, *UNTRAINED]
    parser.add_argument(
        "runs", nargs="*", help=f"of {', '.join(dict.fromkeys(known))}; none prints the tables"
    )
    run_arguments(parser, "runs/thermal-streets")
    parser.add_argument(
        "--over", nargs="+", choices=LABELS, default=[], help="train nothing; print differences to these runs"
    )
    arguments = parser.parse_args()
    if arguments.over:
        found = scored(lines_of(arguments.out / "labels.csv"), arguments.out)
        print(table_of_differences(found, arguments.runs or list(LABELS), arguments.over, BLOCKS[NAME]))
        return
    if not arguments.runs:
        print(label_table(lines_of(arguments.out / "labels.csv")))
        for scope in (ALL, "day", "night"):
            print(
                f"\nFused pictures, {scope}:\n\n{fusion_table(lines_of(arguments.out / 'fusion.csv'), scope)}"
            )
        return
    unknown = sorted(set(arguments.runs) - set(known))
    if unknown or arguments.weights is None:
        parser.error(f"no run {unknown[0]!r}" if unknown else "--weights is needed to train")
    torch.set_num_threads(arguments.threads)
    for seed in arguments.seeds:
        for run in arguments.runs:
            began = time.monotonic()
            Streets(run, seed, arguments).finish()
            print(f"{run} seed {seed}: {time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
