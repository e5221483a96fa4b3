"""A folder of results as one zip archive, without what names the machine that made it."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

from crossband.locks import LOCK_NAME
from crossband.pairs.base import Classes
from crossband.pairs.reading import read_label
from crossband.pairs.writing import csv_text, replacing
from crossband.pictures import class_shares
from crossband.result_folder import FAILURES_NAME, MANIFEST_NAME, RESULTS_NAME
from crossband.serve.refusing import without_places
from crossband.words import IGNORE_INDEX

SHARES_NAME = "shares.csv"
_OURS = (MANIFEST_NAME, RESULTS_NAME, LOCK_NAME)
"""What tells of folders and times of this machine."""


def write_archive(folder: Path, out: Path, classes: Classes | None, names: Mapping[Path, str]) -> None:
    """Put results into one archive. names: what the images are called, by their paths here.

    Raises OptionError if it cannot be written.
    """
    with replacing(out) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            place = path.relative_to(folder).as_posix()
            if place == FAILURES_NAME:
                archive.writestr(place, without_places(path.read_text(encoding="utf-8"), names))
            elif place not in _OURS:
                # Pictures are packed already.
                archive.write(path, place)
        if classes is not None:
            archive.writestr(SHARES_NAME, _shares(folder / "label", classes))


def _shares(labels: Path, classes: Classes) -> str:
    """The share of each class in the area of each pair, in per cent."""
    columns = ("pair", *_columns(classes), "ignored")
    rows = []
    for path in sorted(labels.rglob("*.png")):
        shares = dict(class_shares(read_label(path, classes)))
        row: dict[str, object] = {"pair": path.relative_to(labels).with_suffix("").as_posix()}
        for number, name in (*enumerate(columns[1:-1]), (IGNORE_INDEX, "ignored")):
            row[name] = f"{100 * shares.get(number, 0.0):.3f}"
        rows.append(row)
    return csv_text(columns, rows)


def _columns(classes: Classes) -> list[str]:
    """The columns of classes: their names, told apart from the columns that are none."""
    others = {"pair", "ignored"}
    taken, columns = others | set(classes.names), []
    for name in classes.names:
        column = name
        while name in others and column in taken:
            column += " (class)"
        columns.append(column)
    return columns
