"""The words in which a published table is declared: data only, no code per table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from crossband.words import Bands

Measure = Literal["mean_iou", "mean_class_accuracy"]

PARAMETERS = "parameters"
"""The key of a row's published number of parameters, among its notes."""
LABEL = "label"
"""The key of what is to be said of a whole row, among its notes."""


@dataclass(frozen=True)
class Use:
    """How a paper uses a benchmark.

    options: of the source, such as ``{"ignore": "none"}``; what the user writes in ``--data`` wins.
    validation: the official split that chooses the checkpoint; where the data lacks it, and where this is
        None, a part of the training split is held out.
    recipes, augmentations: by system, what its own recipe and augmentation are changed to on this benchmark.
    note: what must be known of the paper's use and of ours.
    """

    options: Mapping[str, str] = field(default_factory=dict)
    validation: str | None = None
    recipes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    augmentations: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True)
class Column:
    """What a table prints for every row. heading: the paper's own. digits: decimals that it prints."""

    benchmark: str
    heading: str = "mIoU"
    measure: Measure = "mean_iou"
    digits: int = 2

    @property
    def key(self) -> str:
        """The column's name in the cells of a row: ``msrs``, or ``mfnet mAP``."""
        return self.benchmark if self.measure == "mean_iou" else f"{self.benchmark} {self.heading}"


@dataclass(frozen=True)
class Row:
    """A line of a table: a system with its switches, run on some bands.

    label: as the paper has it. group: the heading that the paper prints beside several rows.
    options: of the network, ``encoder`` among them, and of the loss; options_on: further ones by benchmark.
    at_test: options of the network that only change what the trained network is asked for. Rows that
        differ in these alone share a training.
    recipe: the named recipe that stands for the paper's (``paper`` is the system's own).
    published: what is printed, by the key of the column, in percent. parameters: the same, in millions.
    sources: where a cell comes from, by key, if it is not the table. notes: footnotes, by key.
    """

    label: str
    system: str
    bands: Bands
    published: Mapping[str, str]
    group: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    options_on: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    at_test: Mapping[str, Any] = field(default_factory=dict)
    recipe: str = "paper"
    parameters: str = ""
    sources: Mapping[str, str] = field(default_factory=dict)
    notes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def options_for(self, benchmark: str) -> dict[str, Any]:
        """The options of network and loss on a benchmark."""
        return {**self.options, **self.options_on.get(benchmark, {})}


@dataclass(frozen=True)
class Table:
    """A published table.

    name: such as ``csknet/table-3``. source: what its cells are cited as.
    protocol: the one whose mean IoU is held against the printed one; protocol_note: how that is known.
    uses: the benchmarks of its columns, by key. notes: footnotes of the table as a whole.
    """

    name: str
    title: str
    paper: str
    source: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    protocol: str
    protocol_note: str
    uses: Mapping[str, Use]
    notes: tuple[str, ...] = ()

    @property
    def benchmarks(self) -> list[str]:
        """The benchmarks of its columns, in their order."""
        return list(dict.fromkeys(column.benchmark for column in self.columns))
