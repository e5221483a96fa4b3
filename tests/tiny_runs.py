"""Training runs that take about a second, for tests of what runs do."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

from crossband.training.options import TrainOptions
from crossband.training.resolving import ResolvedTraining, resolve

TINY_DATA = "scenes,train=8,val=2,test=4,size=32x48"


def tiny_options(out: Path, system: str = "deeplabv3plus", **changes: Any) -> TrainOptions:
    """Two epochs on five generated pairs, with three held out, on a very small encoder."""
    base = TrainOptions(
        system=system,
        data=TINY_DATA,
        out=str(out),
        encoder="test_efficientnet",
        network={"decoder_channels": 16},
        recipe={"epochs": 2, "batch_size": 2},
        accelerator="cpu",
        workers=0,
    )
    return replace(base, **changes)


def resolved(system: str, recipe: str = "paper", **changes: Any) -> ResolvedTraining:
    """What a training of a system under a named recipe is, without its being run."""
    return resolve(TrainOptions(system, "scenes", "nowhere", recipe={"name": recipe}, **changes))


def curves_without_seconds(folder: Path) -> list[dict[str, str]]:
    """The rows of a run's curves as text, without the column that no two runs share."""
    with open(folder / "curves.csv", newline="", encoding="utf-8") as file:
        return [{key: v for key, v in row.items() if key != "seconds"} for row in csv.DictReader(file)]
