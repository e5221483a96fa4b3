"""Train and score what docs/results/infrared-alone.md tells: one line of ``runs.csv`` for every run.

    python speed/infrared_alone.py cwfid alone --seeds 0 1 2 --pairs PATH --weights PATH

PATH holds the real sets as folders of pairs; ``scenes`` are generated. A run trains with the options that
``RUNS`` has under its name, which are those of `crossband train`, and is scored on the test split: on both
bands, on infrared alone, and on infrared alone with recalibrated batch norms. What has a line is not run
again, and what a run is taught by is trained first. Without the name of a run, the table is printed; with
``--over infrared infrared-started``, what the runs that are named have over each of those. For ``all`` in
place of a set nothing is trained, and these are tables of every set: the scores without ``--over``, and with
it the differences, with the trainings of the other place (``other-place.csv``), or, without the name of a
run, what every run has over one. One thread by default.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Any, cast

import torch

from crossband.evaluation import ALL, Evaluation, evaluate
from crossband.recalibration import recalibrate
from crossband.systems.base import System
from crossband.weights import git_revision
from crossband.words import Bands
from paired import BLOCKS, Scored, counts_of, interval, keep_counts, table_of_differences
from small_runs import (
    CROP,
    MSRS_BOXES,
    PLAIN,
    VISIBLE,
    Dataset,
    Run,
    Series,
    append,
    is_told,
    lines_of,
    markdown,
    points,
    run_arguments,
    spread,
)

COLUMNS = ("set", "run", "seed", "given", "mean_iou", "classes", "person_night", "seconds", "revision")

DATASETS = {
    "msrs_boxes": MSRS_BOXES,
    "cwfid": Dataset("folder:{pairs}/cwfid", 20, 4, CROP, 0.5),
    "scenes": Dataset("scenes,seed=0,train=320,val=0,test=100,size=120x160", 24, 8),
}
GIVEN = ("both", "infrared", "infrared, recalibrated")
"""What a network that runs on infrared alone, or on both bands, is scored on."""
OTHER_PLACE = "other-place.csv"
"""Beside the table of runs: points that runs had over others on another CPU, where they end otherwise."""

OWN = {"infrared_norms": "own-statistics"}
NORMALISED = {"distill_features_form": "normalised"}
TOGETHER = {"start": "teacher", "infrared_weight": 3.0, "fused_teaches_weight": 1.0}
csknet = partial(Run, "csknet", teacher=VISIBLE)
RUNS = {
    **PLAIN,
    "exchanged": csknet(loss={"infrared_supervision": "exchanged"}),
    "alone": csknet(),
    "alone-statistics": csknet(network=OWN),
    "weight-3": csknet(network=OWN, loss={"infrared_weight": 3.0}),
    "features-0.05": csknet(network=OWN, loss={"distill_features_weight": 0.05}),
    "from-teacher": csknet(network=OWN, loss={"start": "teacher"}),
    "longer-teacher": csknet(network=OWN, teacher="visible-twice"),
    "fused-teaches": csknet(network=OWN, loss={"fused_teaches_weight": 1.0}),
    "together": csknet(network=OWN, loss=TOGETHER),
    "firm": csknet(variant="firm"),
    "private-4": csknet(network={**OWN, "private_from_stage": 4}),
    "band-dropout": csknet(network=OWN, augmentation={"band_dropout": 0.2}),
    "normalised": csknet(network=OWN, loss=NORMALISED),
    # In the variant it has the weight that the paper's form is not given there.
    "firm-normalised": csknet(variant="firm", loss={**NORMALISED, "distill_features_weight": 1.0}),
    "exchange-dropout": csknet(network={**OWN, "exchange_dropout": 0.5}),
    "exchanged-dropout": csknet(
        network={"exchange_dropout": 0.5}, loss={"infrared_supervision": "exchanged"}
    ),
    "rank-8": csknet(network={**OWN, "band_rank": 8}),
    "firm-rank-8": csknet(variant="firm", network={"band_rank": 8}),
    "sgd": csknet(network=OWN, recipe={"optimizer": "sgd", "lr": 5e-3, "weight_decay": 1e-4}),
}


class Experiment(Series):
    """One dataset and one seed, and the table of its scores."""

    def __init__(self, name: str, seed: int, arguments: argparse.Namespace):
        super().__init__(RUNS, name, DATASETS[name], seed, arguments)
        self.table: Path = arguments.out / "runs.csv"

    def finish(self, run: str) -> None:
        """Train and score a run that has no lines."""
        if self.is_finished(run):
            return
        for other in self.needed(run):
            self.finish(other)
        system, card = self.trained(run, "python speed/infrared_alone.py")
        seconds = card.training["seconds"]
        lines = [self.line(run, given, found, seconds) for given, found in self.scores(run, system).items()]
        append(self.table, COLUMNS, lines)

    def scores(self, run: str, system: System) -> dict[str, Evaluation]:
        """By what a trained run is given, its scores on the test split; keeps what every pair counted."""
        scored: list[tuple[str, System, Bands]] = []
        if "both" in system.supports:
            scored.append(("both", system, "both"))
        if "infrared" in system.supports:
            alone = recalibrate(system, self.pairs("train"), seed=self.seed)  # type: ignore[arg-type]
            scored += [("infrared", system, "infrared"), ("infrared, recalibrated", alone, "infrared")]
        else:
            scored.append(("visible", system, "visible"))
        found = {}
        for given, one, bands in scored:
            found[given] = evaluate(one, self.pairs("test"), bands=[bands])
            keep_counts(counts_of(self.folder, f"{run}-{given}"), found[given])
        return found

    def line(self, run: str, given: str, evaluation: Evaluation, seconds: float) -> dict[str, Any]:
        names = evaluation.classes.names
        scopes = {scope.condition: scope.scores for scope in evaluation.scopes()}
        overall = scopes[ALL]
        night = f"{scopes['night'].iou[names.index('person')]:.4f}" if "night" in scopes else ""
        return {
            **{"set": self.name, "run": run, "seed": self.seed, "given": given},
            "mean_iou": f"{overall.protocols['present'].mean_iou:.4f}",
            "classes": "; ".join(f"{name} {iou:.4f}" for name, iou in zip(names, overall.iou, strict=True)),
            **{"person_night": night, "seconds": f"{seconds:.0f}", "revision": git_revision() or ""},
        }

    def is_finished(self, run: str) -> bool:
        return is_told(self.table, {"set": self.name, "run": run, "seed": self.seed})


def table(lines: Sequence[Mapping[str, str]]) -> str:
    """Markdown: every run of a dataset, as mean (lowest to highest) over its seeds, in percent."""
    rows = ["| run | given | seeds | mean IoU | person by night |", "|---|---|---|---|---|"]
    for run, given in dict.fromkeys((line["run"], line["given"]) for line in lines):
        own = [line for line in lines if (line["run"], line["given"]) == (run, given)]
        cells = [spread([line[column] for line in own]) for column in ("mean_iou", "person_night")]
        rows.append(f"| {run} | {given} | {len(own)} | {cells[0]} | {cells[1]} |")
    return "\n".join(rows)


def scores(lines: Sequence[Mapping[str, str]], runs: Sequence[str]) -> str:
    """Markdown: of every set, the mean IoU of runs, as mean (lowest to highest) over their seeds, in percent.

    A run on one band has no score of the other columns.
    """
    rows = [["set", "run", "seeds", "both, or visible", *GIVEN[1:]]]
    for name, run in product(DATASETS, runs):
        own = [line for line in lines if (line["set"], line["run"]) == (name, run)]
        columns = [("both", "visible"), *((given,) for given in GIVEN[1:])]
        found = [[line["mean_iou"] for line in own if line["given"] in column] for column in columns]
        if own:
            rows.append([name, run, str(max(map(len, found))), *map(spread, found)])
    return markdown(rows)


def overview(lines: Sequence[Mapping[str, str]], other: str) -> str:
    """Markdown: a table for each set of what every run has over another one that was given the same.

    In points, the mean over the seeds that both have, and the lowest and the highest of them.
    """
    of = {name: [line for line in lines if line["set"] == name] for name in DATASETS}
    return "\n\n".join(
        f"**`{name}`**\n\n{_overview_of(ours, other)}"
        for name, ours in of.items()
        if any(line["run"] == other for line in ours)
    )


def _overview_of(lines: Sequence[Mapping[str, str]], other: str) -> str:
    given_there = {line["given"] for line in lines if line["run"] == other}
    there = [given for given in GIVEN if given in given_there]
    rows = [["run", *there]]
    for run in RUNS:
        cells = [points(points_over(lines, run, other, given)) for given in there]
        if run != other and set(cells) != {"–"}:
            rows.append([run, *cells])
    return markdown(rows)


def pooled(
    lines: Sequence[Mapping[str, str]],
    elsewhere: Sequence[Mapping[str, str]],
    runs: Sequence[str],
    others: Sequence[str],
) -> str:
    """Markdown: on every set, what each run has over each other one on infrared alone, in points.

    The mean over the trainings of both places and its 95 % interval by the t distribution; a seed that was
    trained in both counts as two. elsewhere: the lines of the other place, in points.
    """
    rows = [["set", "run", "over", "trainings", *GIVEN[1:]]]
    for run, name, other in product(runs, DATASETS, others):
        ours = [line for line in lines if line["set"] == name]
        cells, trainings = [], 0
        for given in GIVEN[1:]:
            key = (name, run, other, given)
            found = [
                float(line["points"])
                for line in elsewhere
                if (line["set"], line["run"], line["over"], line["given"]) == key
            ]
            found += points_over(ours, run, other, given)
            trainings = max(trainings, len(found))
            cells.append(_with_interval(found))
        if trainings:
            rows.append([name, run, other, str(trainings), *cells])
    return markdown(rows)


def points_over(lines: Sequence[Mapping[str, str]], run: str, other: str, given: str) -> list[float]:
    """What a run has over another one that was given the same, in points, by the seeds that both have."""
    scores = {
        (line["run"], int(line["seed"])): float(line["mean_iou"]) for line in lines if line["given"] == given
    }
    seeds = sorted(seed for named, seed in scores if named == run and (other, seed) in scores)
    return [100 * (scores[run, seed] - scores[other, seed]) for seed in seeds]


def _with_interval(values: Sequence[float]) -> str:
    ends = interval(values)
    told = "no interval" if ends is None else f"{ends[0]:+.1f} to {ends[1]:+.1f}"
    return f"{mean(values):+.1f} ({told})" if values else "–"


def scored(lines: Sequence[Mapping[str, str]], out: Path) -> list[Scored]:
    """What `paired.table_of_differences` needs of lines of one dataset."""
    return [
        Scored(
            line["run"],
            line["given"],
            cast(Bands, line["given"].partition(",")[0]),
            int(line["seed"]),
            float(line["mean_iou"]),
            counts_of(out / line["set"] / f"seed{line['seed']}", f"{line['run']}-{line['given']}"),
        )
        for line in lines
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset", choices=[*DATASETS, ALL], help="all: a table of every set")
    parser.add_argument("runs", nargs="*", help=f"of {', '.join(RUNS)}; none prints the table")
    run_arguments(parser, "runs/infrared-alone")
    parser.add_argument(
        "--over", nargs="+", default=[], help="train nothing; print differences to these runs"
    )
    arguments = parser.parse_args()
    lines = lines_of(arguments.out / "runs.csv")
    if arguments.dataset == ALL:
        if len(arguments.over) > 1 and not arguments.runs:
            parser.error("of all sets --over takes one run where none is named before it")
        if not arguments.over:
            print(scores(lines, arguments.runs or list(RUNS)))
        elif arguments.runs:
            elsewhere = lines_of(arguments.out / OTHER_PLACE)
            print(pooled(lines, elsewhere, arguments.runs, arguments.over))
        else:
            print(overview(lines, *arguments.over))
        return
    if arguments.over or not arguments.runs:
        lines = [line for line in lines if line["set"] == arguments.dataset]
        if arguments.over:
            found = scored(lines, arguments.out)
            block = BLOCKS.get(arguments.dataset, 1)
            print(table_of_differences(found, arguments.runs, arguments.over, block))
        else:
            print(table(lines))
        return
    unknown = sorted(set(arguments.runs) - set(RUNS))
    if unknown or arguments.weights is None:
        parser.error(f"no run {unknown[0]!r}" if unknown else "--weights is needed to train")
    torch.set_num_threads(arguments.threads)
    for seed in arguments.seeds:
        for run in arguments.runs:
            began = time.monotonic()
            Experiment(arguments.dataset, seed, arguments).finish(run)
            print(f"{arguments.dataset} {run} seed {seed}: {time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
