"""The learning curves of a run: one row per phase and epoch, in ``curves.csv``."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any, get_args

from crossband.errors import OptionError, first_line
from crossband.pairs.writing import csv_text, plain_cell, write_text
from crossband.systems.base import EpochRow
from crossband.words import Bands

CURVES_NAME = "curves.csv"
SCORE = "val_miou_"
"""Before the combination of bands, the name of a column of scores."""
VALIDATION_LOSS = "val_loss"
_FIXED = ("phase", "epoch", "lr", "seconds")


def row_to_dict(row: EpochRow) -> dict[str, Any]:
    """A row as it stands in the file and in a checkpoint: the columns by name."""
    values = {"phase": row.phase, "epoch": row.epoch, "lr": row.lr, **row.losses}
    values |= {f"{SCORE}{bands}": score for bands, score in row.scores.items()}
    if row.validation_loss is not None:
        values[VALIDATION_LOSS] = row.validation_loss
    return {**values, "seconds": row.seconds}


def row_from_dict(values: dict[str, Any]) -> EpochRow:
    """What `row_to_dict` made, or what a file says in its place. Raises ValueError for anything else."""
    missing = [name for name in _FIXED if name not in values]
    if missing:
        raise ValueError(f"it has no {missing[0]}")
    scores: dict[Bands, float] = {}
    losses: dict[str, float] = {}
    for name, value in values.items():
        if name.startswith(SCORE):
            bands = name.removeprefix(SCORE)
            if bands not in get_args(Bands):
                raise ValueError(f"it has a column {name}")
            scores[bands] = float(value)  # type: ignore[index]
        elif name not in (*_FIXED, VALIDATION_LOSS):
            losses[name] = float(value)
    loss = values.get(VALIDATION_LOSS)
    return EpochRow(
        phase=str(values["phase"]),
        epoch=int(values["epoch"]),
        lr=float(values["lr"]),
        losses=losses,
        scores=scores,
        validation_loss=None if loss is None else float(loss),
        seconds=float(values["seconds"]),
    )


def write_curves(folder: Path, rows: list[EpochRow]) -> None:
    """Write the rows of all phases; what a phase does not have stays empty."""
    lines = [row_to_dict(row) for row in rows]
    columns = list(dict.fromkeys(name for line in lines for name in line))
    write_text(folder / CURVES_NAME, csv_text(columns, lines))


def read_curves(folder: Path) -> list[EpochRow]:
    """The rows of a run's ``curves.csv``. Raises OptionError, naming the file, for one that is damaged."""
    path = folder / CURVES_NAME
    try:
        with open(path, newline="", encoding="utf-8") as file:
            lines = list(csv.DictReader(file, strict=True))
        return [
            row_from_dict({name: plain_cell(value) for name, value in line.items() if name and value})
            for line in lines
        ]
    except (ValueError, TypeError, AttributeError, csv.Error, OSError) as error:
        raise OptionError(
            f"{path} holds no learning curves ({first_line(error)}); train the run again in another folder"
        ) from error
