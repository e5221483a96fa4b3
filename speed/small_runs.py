"""What the scripts that train many small runs share: sets of pairs, one recipe, a table of lines."""

from __future__ import annotations

import argparse
import csv
import io
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from crossband.card import CARD_NAME, Card
from crossband.pairs.augmentation import Augmentation, augment
from crossband.pairs.base import Pair, Pairs, PairView
from crossband.pairs.opening import open_pairs
from crossband.systems.base import System
from crossband.training.engine import train
from crossband.training.options import TrainOptions
from crossband.weights import load_run

ENCODER = "tf_efficientnet_lite0"
ADAMW = {"optimizer": "adamw", "lr": 1e-3, "weight_decay": 1e-2}
CROP = (128, 192)


@dataclass(frozen=True)
class Dataset:
    """source: as on the command line, with {pairs} for the folder of all real pairs.

    factor: by which pictures and labels are resized, to train and to score. crop: of training pairs, then.
    """

    source: str
    epochs: int
    batch_size: int
    crop: tuple[int, int] | None = None
    factor: float = 1.0

    def opened(self, pairs: Path, split: str) -> Pairs:
        """A split at the size that is trained and scored. pairs: the folder of all real pairs."""
        opened: Pairs = open_pairs(self.source.format(pairs=pairs), split)
        return opened if self.factor == 1.0 else Resized(opened, self.factor)

    def options(self, pairs: Path, out: Path, weights: Path | None, **more: Any) -> TrainOptions:
        """The same encoder, width, recipe and length for every run. more: fields, which are added to those.

        weights: of the encoder; None for a random start.

        All training pairs train: no epoch is chosen, least of all on the test split.
        """
        more["network"] = {"decoder_channels": 64, **more.get("network", {})}
        recipe = {"name": "quick", **ADAMW, "schedule_per": "step", "warmup_steps": 10}
        length = {"epochs": self.epochs, "batch_size": self.batch_size}
        more["recipe"] = {**recipe, **length, **more.get("recipe", {})}
        geometry: dict[str, Any] = {"scale": [self.factor, self.factor]}
        if self.crop is not None:
            geometry["crop"] = list(self.crop)
        more["augmentation"] = {**geometry, **more.get("augmentation", {})}
        return TrainOptions(
            data=self.source.format(pairs=pairs),
            out=str(out),
            encoder=ENCODER,
            encoder_weights=None if weights is None else str(weights),
            hold_out=0.0,
            select="last",
            accelerator="cpu",
            workers=0,
            **more,
        )


class Resized(PairView):
    """Pairs, pictures and labels resized by a factor."""

    def __init__(self, pairs: Pairs, factor: float):
        super().__init__(pairs)
        self.geometry = Augmentation(flip=0.0, scale=(factor, factor))

    def __getitem__(self, index: int) -> Pair:
        return augment(self.pairs[index], self.geometry, np.random.default_rng(0))


MSRS_BOXES = Dataset("folder:{pairs}/msrs_boxes", 4, 4, CROP, 0.5)
"""Thermal streets with masks made from boxes: 200 steps. No score on it is an MSRS result."""


@dataclass(frozen=True)
class Run:
    """A training: a system, and what it changes in its options.

    teacher: the run that its phase "teacher" is. started: it starts at the weights of the run "visible".
    lengths: how many times the set's epochs. encodes: False for a network without the encoder that all others
    have, and so without its weights. robust: trained for cameras that break.
    """

    system: str
    variant: str | None = None
    network: Mapping[str, Any] = field(default_factory=dict)
    loss: Mapping[str, Any] = field(default_factory=dict)
    augmentation: Mapping[str, Any] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    phases: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    without_labels: bool = False
    teacher: str | None = None
    started: bool = False
    lengths: int = 1
    encodes: bool = True
    robust: bool = False


VISIBLE = "visible"
INFRARED = Run("deeplabv3plus", network={"band": "infrared"})
PLAIN = {
    VISIBLE: Run("deeplabv3plus"),
    "visible-twice": Run("deeplabv3plus", lengths=2),
    "infrared": INFRARED,
    "infrared-twice": replace(INFRARED, lengths=2),
    "infrared-started": replace(INFRARED, started=True),
}
"""A DeepLabV3+ on each band alone. Those on visible images are teachers of others; the last two have as many
steps as a teacher and what it teaches have together."""


class Series:
    """The runs of one set and one seed, and where they lie.

    arguments: of `run_arguments`.
    """

    def __init__(
        self, runs: Mapping[str, Run], name: str, dataset: Dataset, seed: int, arguments: argparse.Namespace
    ):
        self.runs, self.name, self.dataset, self.seed = runs, name, dataset, seed
        self.arguments = arguments
        self.folder: Path = arguments.out / name / f"seed{seed}"

    def pairs(self, split: str) -> Pairs:
        return self.dataset.opened(self.arguments.pairs, split)

    def options(self, run: str) -> TrainOptions:
        """The same encoder, widths and length for every run, but for what it changes."""
        made = self.runs[run]
        return self.dataset.options(
            self.arguments.pairs,
            self.folder / run,
            self.arguments.weights if made.encodes else None,
            system=made.system,
            variant=made.variant,
            network=dict(made.network),
            loss=dict(made.loss),
            recipe={"epochs": made.lengths * self.dataset.epochs, **made.recipe},
            phases=dict(made.phases),
            augmentation=dict(made.augmentation),
            without_labels=made.without_labels,
            robust=made.robust,
            reuse={} if made.teacher is None else {"teacher": str(self.folder / made.teacher)},
            start_from=str(self.folder / VISIBLE) if made.started else None,
            channels_last=True,
            seed=self.seed,
        )

    def needed(self, run: str) -> list[str]:
        """The runs that have to be trained before."""
        made = self.runs[run]
        needed = [made.teacher] if made.teacher is not None else []
        return [*needed, VISIBLE] if made.started else needed

    def trained(self, run: str, command: str) -> tuple[System, Card]:
        """A run and its card; what is not finished is trained, after what it needs."""
        for other in self.needed(run):
            self.trained(other, command)
        options = self.options(run)
        if not (Path(options.out) / CARD_NAME).exists():
            shutil.rmtree(options.out, ignore_errors=True)
            train(options, command=command, quiet=True)
        return load_run(options.out)


def run_arguments(parser: argparse.ArgumentParser, out: str) -> None:
    """What every script that trains a `Series` asks for."""
    parser.add_argument("--pairs", type=Path, default=Path("."), help="folder of the real sets")
    parser.add_argument("--weights", type=Path, help=f"ImageNet weights of timm's {ENCODER}")
    parser.add_argument("--out", type=Path, default=Path(out))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--threads", type=int, default=1)


def spread(texts: Sequence[str]) -> str:
    """Mean (lowest to highest), in percent, of the texts that hold a number."""
    values = [100 * float(text) for text in texts if text]
    if not values:
        return "–"
    if len(values) == 1:
        return f"{values[0]:.1f}"
    return f"{sum(values) / len(values):.1f} ({min(values):.1f} to {max(values):.1f})"


def points(values: Sequence[float]) -> str:
    """Mean (lowest to highest) of differences, in points."""
    if not values:
        return "–"
    ends = f"{min(values):+.1f} to {max(values):+.1f}" if len(values) > 1 else "one seed"
    return f"{sum(values) / len(values):+.1f} ({ends})"


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A table, of which the first row is the head."""
    head, *body = (f"| {' | '.join(row)} |" for row in rows)
    return "\n".join([head, "|---" * len(rows[0]) + "|", *body])


def lines_of(path: Path) -> list[dict[str, str]]:
    """What a table of lines holds; nothing where there is none."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def is_told(path: Path, key: Mapping[str, Any]) -> bool:
    """Whether a table has a line with these texts in these columns."""
    texts = {column: str(value) for column, value in key.items()}
    return any(texts.items() <= line.items() for line in lines_of(path))


def append(path: Path, columns: Sequence[str], lines: Sequence[Mapping[str, Any]]) -> None:
    """Add lines to a table, and the head to a new one.

    In one write, so that neither a script that is ended nor another one leaves a part of a run's lines.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns)
    if not path.exists():
        writer.writeheader()
    writer.writerows(lines)
    with path.open("ab", buffering=0) as file:
        file.write(text.getvalue().encode())
