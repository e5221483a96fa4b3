"""The tables of both papers by name, and the choice of tables and rows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import torch

from crossband.errors import OptionError, did_you_mean, quoted
from crossband.reproduce.amdanet_tables import AMDANET_TABLES
from crossband.reproduce.csknet_tables import CSKNET_TABLES
from crossband.reproduce.table import Row, Table
from crossband.systems import create, origin, system_class

TABLES: dict[str, Table] = {table.name: table for table in (*CSKNET_TABLES, *AMDANET_TABLES)}


def find_tables(names: Sequence[str]) -> list[Table]:
    """The tables of some names, "all" being every one.

    Raises OptionError, with the nearest name, for one that does not exist.
    """
    names = [*TABLES] if "all" in names else names
    for name in names:
        if name not in TABLES:
            hint = did_you_mean(name, TABLES)
            raise OptionError(
                f"there is no table {quoted(name)}{hint} (`crossband reproduce list` shows them)"
            )
    return [TABLES[name] for name in dict.fromkeys(names)]


def with_systems(tables: Sequence[Table], names: Sequence[str]) -> list[Table]:
    """The tables with rows for further systems at their ends: ours, or those that other packages add.

    A system has one row for each combination of bands that it was designed for; they share a training. It
    is trained as it stands, under the budget and on the data of the table, and nothing is printed for it.
    Raises OptionError for a system that does not exist, cannot be trained or gives no classes.
    """
    added = [row for name in dict.fromkeys(names) for row in _rows_of(name)]
    return [
        replace(table, rows=(*table.rows, *(row.printed(*[""] * len(table.columns)) for row in added)))
        for table in tables
    ]


def _rows_of(name: str) -> list[Row]:
    system = system_class(name)
    if system.trained_by is None or not system.segments:
        lacks = "is not trained" if system.trained_by is None else "gives no classes"
        raise OptionError(f"--with {name}: {name} {lacks}, and the tables are about trained segmentation")
    with torch.device("meta"):
        supports = create(name, 2).supports
    return [
        Row(
            label=name,
            bands=bands,
            system=name,
            group="Added",
            notes=(f"Not a row of the paper: {name}, from {origin(name)}, with its own defaults.",),
        )
        for bands, support in supports.items()
        if support == "designed"
    ]


def choose_rows(tables: Sequence[Table], patterns: Sequence[str]) -> dict[str, list[int]]:
    """The indices of the rows to fill, by table: those with a label that one of the patterns occurs in.

    patterns: regular expressions, in which case does not matter, that a row's "label bands" is searched for,
    such as ``"^CSK-Net both"``; none chooses every row. Raises OptionError for one that is no expression, and
    for one that occurs in no row.
    """
    if not patterns:
        return {table.name: list(range(len(table.rows))) for table in tables}
    try:
        compiled = [re.compile(pattern, re.IGNORECASE) for pattern in patterns]
    except re.error as error:
        raise OptionError(f"--rows {quoted(error.pattern)} is no regular expression: {error}") from error
    named = {table.name: [f"{row.label} {row.bands}" for row in table.rows] for table in tables}
    for pattern in compiled:
        labels = dict.fromkeys(label for labels in named.values() for label in labels)
        if not any(pattern.search(label) for label in labels):
            raise OptionError(
                f"--rows {quoted(pattern.pattern)} occurs in no row; there are {', '.join(labels)}"
            )
    return {
        name: [
            index for index, label in enumerate(labels) if any(pattern.search(label) for pattern in compiled)
        ]
        for name, labels in named.items()
    }
