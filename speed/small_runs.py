"""What the scripts that train many small runs share: sets of pairs, one recipe, a table of lines."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from crossband.pairs.augmentation import Augmentation, augment
from crossband.pairs.base import Pair, Pairs, PairView
from crossband.pairs.opening import open_pairs
from crossband.training.options import TrainOptions

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

    def options(self, pairs: Path, out: Path, weights: Path, **more: Any) -> TrainOptions:
        """The same encoder, width, recipe and length for every run. more: fields, which are added to those.

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
            encoder_weights=str(weights),
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


def lines_of(path: Path) -> list[dict[str, str]]:
    """What a table of lines holds; nothing where there is none."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def append(path: Path, columns: Sequence[str], lines: Sequence[Mapping[str, Any]]) -> None:
    """Add lines to a table, and the head to a new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, columns)
        if new:
            writer.writeheader()
        writer.writerows(lines)
