"""Train and score what docs/results/infrared-alone.md tells: one line of ``runs.csv`` for every run.

    python docs/results/infrared_alone.py cwfid alone --seeds 0 1 2 --pairs PATH --weights PATH

PATH holds the real sets as folders of pairs; ``scenes`` are generated. A run trains with the options that
``RUNS`` has under its name, which are those of `crossband train`, and is scored on the test split: on both
bands, on infrared alone, and on infrared alone with recalibrated batch norms. What has a line is not run
again, and what a run is taught by is trained first. Without the name of a run, the table is printed. One
thread by default.
"""

from __future__ import annotations

import argparse
import csv
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from crossband.evaluation import ALL, evaluate
from crossband.pairs.augmentation import Augmentation, augment
from crossband.pairs.base import Pair, Pairs, PairView
from crossband.pairs.opening import open_pairs
from crossband.recalibration import recalibrate
from crossband.systems.base import System
from crossband.training.engine import train
from crossband.training.options import TrainOptions
from crossband.weights import CARD_NAME, git_revision, load_run
from crossband.words import Bands

COLUMNS = ("set", "run", "seed", "given", "mean_iou", "classes", "person_night", "seconds", "revision")


@dataclass(frozen=True)
class Dataset:
    """source: as on the command line, with {pairs} for the folder of all real pairs.

    factor: by which pictures and labels are resized, to train and to score.
    """

    source: str
    epochs: int
    batch_size: int
    crop: tuple[int, int] | None = None
    factor: float = 1.0


DATASETS = {
    "msrs_boxes": Dataset("folder:{pairs}/msrs_boxes", 4, 4, (128, 192), 0.5),
    "cwfid": Dataset("folder:{pairs}/cwfid", 20, 4, (128, 192), 0.5),
    "scenes": Dataset("scenes,seed=0,train=320,val=0,test=100,size=120x160", 24, 8),
}


@dataclass(frozen=True)
class Run:
    """A training: a system, and what it changes. taught: its teacher is the run "visible"."""

    system: str = "csknet"
    variant: str | None = None
    network: dict[str, Any] = field(default_factory=dict)
    loss: dict[str, Any] = field(default_factory=dict)
    augmentation: dict[str, Any] = field(default_factory=dict)
    recipe: dict[str, Any] = field(default_factory=dict)

    @property
    def taught(self) -> bool:
        return self.system == "csknet"


OWN = {"infrared_norms": "own-statistics"}
TOGETHER = {"start": "teacher", "infrared_weight": 3.0, "fused_teaches_weight": 1.0}
RUNS = {
    "visible": Run("deeplabv3plus"),
    "infrared": Run("deeplabv3plus", network={"band": "infrared"}),
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


class Resized(PairView):
    """Pairs, pictures and labels resized by a factor."""

    def __init__(self, pairs: Pairs, factor: float):
        super().__init__(pairs)
        self.geometry = Augmentation(flip=0.0, scale=(factor, factor))

    def __getitem__(self, index: int) -> Pair:
        return augment(self.pairs[index], self.geometry, np.random.default_rng(0))


class Experiment:
    """One dataset and one seed, and where its runs lie."""

    def __init__(self, name: str, seed: int, arguments: argparse.Namespace):
        self.name, self.seed = name, seed
        self.dataset = DATASETS[name]
        self.source = self.dataset.source.format(pairs=arguments.pairs)
        self.weights = arguments.weights
        self.folder: Path = arguments.out / name / f"seed{seed}"
        self.table: Path = arguments.out / "runs.csv"

    def options(self, run: str) -> TrainOptions:
        """The same encoder, widths and length for every run."""
        made, dataset = RUNS[run], self.dataset
        augmentation: dict[str, Any] = {"scale": [dataset.factor, dataset.factor], **made.augmentation}
        if dataset.crop is not None:
            augmentation["crop"] = list(dataset.crop)
        adamw = {"optimizer": "adamw", "lr": 1e-3, "weight_decay": 1e-2, "warmup_steps": 10}
        return TrainOptions(
            system=made.system,
            variant=made.variant,
            data=self.source,
            out=str(self.folder / run),
            encoder="tf_efficientnet_lite0",
            encoder_weights=str(self.weights),
            network={"decoder_channels": 64, **made.network},
            loss=made.loss,
            recipe={
                **{"name": "quick", "epochs": dataset.epochs, "batch_size": dataset.batch_size},
                **{"schedule_per": "step", **adamw, **made.recipe},
            },
            augmentation=augmentation,
            reuse={"teacher": str(self.folder / "visible")} if made.taught else {},
            # All training pairs train: no epoch is chosen, least of all on the test split.
            hold_out=0.0,
            select="last",
            accelerator="cpu",
            workers=0,
            channels_last=True,
            seed=self.seed,
        )

    def pairs(self, split: str) -> Pairs:
        pairs: Pairs = open_pairs(self.source, split)
        return pairs if self.dataset.factor == 1.0 else Resized(pairs, self.dataset.factor)

    def finish(self, run: str) -> None:
        """Train and score a run that has no lines."""
        if self.is_finished(run):
            return
        if RUNS[run].taught:
            self.finish("visible")
        options = self.options(run)
        if not (Path(options.out) / CARD_NAME).exists():
            shutil.rmtree(options.out, ignore_errors=True)
            train(options, command="python docs/results/infrared_alone.py", quiet=True)
        system, card = load_run(options.out)
        scored: list[tuple[str, System, Bands]] = []
        if "both" in system.supports:
            scored.append(("both", system, "both"))
        if "infrared" in system.supports:
            alone = recalibrate(system, self.pairs("train"), seed=self.seed)  # type: ignore[arg-type]
            scored += [("infrared", system, "infrared"), ("infrared, recalibrated", alone, "infrared")]
        else:
            scored.append(("visible", system, "visible"))
        self.append([self.line(run, *one, card.training["seconds"]) for one in scored])

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
        if not self.table.exists():
            return False
        with self.table.open(newline="") as file:
            lines = list(csv.DictReader(file))
        return any((x["set"], x["run"], x["seed"]) == (self.name, run, str(self.seed)) for x in lines)

    def append(self, lines: list[dict[str, Any]]) -> None:
        self.table.parent.mkdir(parents=True, exist_ok=True)
        new = not self.table.exists()
        with self.table.open("a", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            if new:
                writer.writeheader()
            writer.writerows(lines)


def table(path: Path, name: str) -> str:
    """Markdown: every run of a dataset, as mean (lowest to highest) over its seeds, in percent."""
    with path.open(newline="") as file:
        lines = [line for line in csv.DictReader(file) if line["set"] == name]
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
