"""What the reports of all evaluations share: lines, numbers, and the four files of one name."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

from crossband.pairs.writing import write_text
from crossband.report.page import Page
from crossband.text import counted


def or_none(value: float) -> float | None:
    """The value, or None where it is not finite: JSON has no word for that."""
    return value if math.isfinite(value) else None


def pairs_line(split: str, pairs: int, by_condition: Mapping[str, int]) -> str:
    """Which split, how many pairs of which condition: ``Split test: 3 pairs (2 day, 1 night)``."""
    conditions = ", ".join(f"{count} {name}" for name, count in by_condition.items())
    return f"Split {split}: {counted(pairs, 'pair')}{f' ({conditions})' if conditions else ''}"


def write_files(folder: Path, name: str, *, text: str, document: object, table: str, page: Page) -> None:
    """Write ``NAME.json``, ``.csv``, ``.txt`` and ``.html`` into a folder, each whole or not at all.

    Raises OptionError if one cannot be written, ValueError for a document with NaN in it.
    """
    told = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False)
    html = page.html()
    write_text(folder / f"{name}.json", told + "\n")
    write_text(folder / f"{name}.csv", table)
    write_text(folder / f"{name}.txt", text)
    write_text(folder / f"{name}.html", html)
