"""Train and score what docs/results/infrared-alone.md tells: one line of ``runs.csv`` for every run.

    python speed/infrared_alone.py cwfid alone --seeds 0 1 2 --pairs PATH --weights PATH

PATH holds the real sets as folders of pairs; ``scenes`` are generated. A run trains with the options that
``RUNS`` has under its name, which are those of `crossband train`, and is scored on the test split: on both
bands, on infrared alone, and on infrared alone with recalibrated batch norms. What has a line is not run
again, and what a run is taught by is trained first. Without the name of a run, the table is printed. One
thread by default.
"""

from __future__ import annotations

import argparse
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from crossband.card import CARD_NAME
from crossband.evaluation import ALL, evaluate
from crossband.pairs.base import Pairs
from crossband.recalibration import recalibrate
from crossband.systems.base import System
from crossband.training.engine import train
from crossband.training.options import TrainOptions
from crossband.weights import git_revision, load_run
from crossband.words import Bands
from small_runs import CROP, Dataset, append, lines_of

COLUMNS = ("set", "run", "seed", "given", "mean_iou", "classes", "person_night", "seconds", "revision")


DATASETS = {
    "msrs_boxes": Dataset("folder:{pairs}/msrs_boxes", 4, 4, CROP, 0.5),
    "cwfid": Dataset("folder:{pairs}/cwfid", 20, 4, CROP, 0.5),
    "scenes": Dataset("scenes,seed=0,train=320,val=0,test=100,size=120x160", 24, 8),
}


@dataclass(frozen=True)
class Run:
    """A training: a system, and what it changes. taught: its teacher is the run "visible".

    lengths: how many times the set's epochs. started: it starts at the weights of the run "visible".
    """

    system: str = "csknet"
    variant: str | None = None
    network: dict[str, Any] = field(default_factory=dict)
    loss: dict[str, Any] = field(default_factory=dict)
    augmentation: dict[str, Any] = field(default_factory=dict)
    recipe: dict[str, Any] = field(default_factory=dict)
    lengths: int = 1
    started: bool = False

    @property
    def taught(self) -> bool:
        return self.system == "csknet"


OWN = {"infrared_norms": "own-statistics"}
TOGETHER = {"start": "teacher", "infrared_weight": 3.0, "fused_teaches_weight": 1.0}
RUNS = {
    "visible": Run("deeplabv3plus"),
    "infrared": Run("deeplabv3plus", network={"band": "infrared"}),
    "infrared-twice": Run("deeplabv3plus", network={"band": "infrared"}, lengths=2),
    "infrared-started": Run("deeplabv3plus", network={"band": "infrared"}, started=True),
    "exchanged": Run(loss={"infrared_supervision": "exchanged"}),
    "alone": Run(),
    "alone-statistics": Run(network=OWN),
    "weight-3": Run(network=OWN, loss={"infrared_weight": 3.0}),
    "features-0.05": Run(network=OWN, loss={"distill_features_weight": 0.05}),
    "from-teacher": Run(network=OWN, loss={"start": "teacher"}),
    "fused-teaches": Run(network=OWN, loss={"fused_teaches_weight": 1.0}),
    "together": Run(network=OWN, loss=TOGETHER),
    "firm": Run(variant="firm"),
    "private-4": Run(network={**OWN, "private_from_stage": 4}),
    "band-dropout": Run(network=OWN, augmentation={"band_dropout": 0.2}),
    "sgd": Run(network=OWN, recipe={"optimizer": "sgd", "lr": 5e-3, "weight_decay": 1e-4}),
}


class Experiment:
    """One dataset and one seed, and where its runs lie."""

    def __init__(self, name: str, seed: int, arguments: argparse.Namespace):
        self.name, self.seed = name, seed
        self.dataset = DATASETS[name]
        self.arguments = arguments
        self.folder: Path = arguments.out / name / f"seed{seed}"
        self.table: Path = arguments.out / "runs.csv"

    def options(self, run: str) -> TrainOptions:
        """The same encoder, widths and length for every run."""
        made = RUNS[run]
        visible = str(self.folder / "visible")
        return self.dataset.options(
            self.arguments.pairs,
            self.folder / run,
            self.arguments.weights,
            system=made.system,
            variant=made.variant,
            network=made.network,
            loss=made.loss,
            recipe={"epochs": made.lengths * self.dataset.epochs, **made.recipe},
            augmentation=made.augmentation,
            reuse={"teacher": visible} if made.taught else {},
            start_from=visible if made.started else None,
            channels_last=True,
            seed=self.seed,
        )

    def pairs(self, split: str) -> Pairs:
        return self.dataset.opened(self.arguments.pairs, split)

    def finish(self, run: str) -> None:
        """Train and score a run that has no lines."""
        if self.is_finished(run):
            return
        if RUNS[run].taught or RUNS[run].started:
            self.finish("visible")
        options = self.options(run)
        if not (Path(options.out) / CARD_NAME).exists():
            shutil.rmtree(options.out, ignore_errors=True)
            train(options, command="python speed/infrared_alone.py", quiet=True)
        system, card = load_run(options.out)
        scored: list[tuple[str, System, Bands]] = []
        if "both" in system.supports:
            scored.append(("both", system, "both"))
        if "infrared" in system.supports:
            alone = recalibrate(system, self.pairs("train"), seed=self.seed)  # type: ignore[arg-type]
            scored += [("infrared", system, "infrared"), ("infrared, recalibrated", alone, "infrared")]
        else:
            scored.append(("visible", system, "visible"))
        append(self.table, COLUMNS, [self.line(run, *one, card.training["seconds"]) for one in scored])

    def line(self, run: str, given: str, system: System, bands: Bands, seconds: float) -> dict[str, Any]:
        evaluation = evaluate(system, self.pairs("test"), bands=[bands])
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
        key = (self.name, run, str(self.seed))
        return any((line["set"], line["run"], line["seed"]) == key for line in lines_of(self.table))


def table(path: Path, name: str) -> str:
    """Markdown: every run of a dataset, as mean (lowest to highest) over its seeds, in percent."""
    lines = [line for line in lines_of(path) if line["set"] == name]
    rows = ["| run | given | seeds | mean IoU | person by night |", "|---|---|---|---|---|"]
    for run, given in dict.fromkeys((line["run"], line["given"]) for line in lines):
        own = [line for line in lines if (line["run"], line["given"]) == (run, given)]
        cells = [spread([line[column] for line in own]) for column in ("mean_iou", "person_night")]
        rows.append(f"| {run} | {given} | {len(own)} | {cells[0]} | {cells[1]} |")
    return "\n".join(rows)


def spread(texts: list[str]) -> str:
    values = [100 * float(text) for text in texts if text]
    if not values:
        return "–"
    if len(values) == 1:
        return f"{values[0]:.1f}"
    return f"{sum(values) / len(values):.1f} ({min(values):.1f} to {max(values):.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset", choices=list(DATASETS))
    parser.add_argument("runs", nargs="*", help=f"of {', '.join(RUNS)}; none prints the table")
    parser.add_argument("--pairs", type=Path, default=Path("."), help="folder of the real sets")
    parser.add_argument("--weights", type=Path, help="of timm's tf_efficientnet_lite0")
    parser.add_argument("--out", type=Path, default=Path("runs/infrared-alone"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    if not arguments.runs:
        print(table(arguments.out / "runs.csv", arguments.dataset))
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
