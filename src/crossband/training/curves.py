"""The learning curves of a run: one row per phase and epoch, in ``curves.csv``."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

from crossband.pairs.writing import csv_text, plain_cell, write_text

CURVES_NAME = "curves.csv"


def write_curves(folder: Path, rows: list[dict[str, Any]]) -> None:
    """Write the rows of all phases; what a phase does not have stays empty."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    write_text(folder / CURVES_NAME, csv_text(columns, rows))


def read_curves(folder: Path) -> list[dict[str, Any]]:
    """The rows of a run's ``curves.csv``: phase, epoch, lr, losses, validation scores, seconds."""
    types: dict[str, Callable[[str], Any]] = {"phase": plain_cell, "epoch": int}
    with open(folder / CURVES_NAME, newline="", encoding="utf-8") as file:
        return [
            {key: types.get(key, float)(value) for key, value in row.items() if value != ""}
            for row in csv.DictReader(file)
        ]
