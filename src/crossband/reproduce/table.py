"""The words in which a published table is declared: data only, no code per table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from crossband.words import Bands

Measure = Literal["mean_iou", "mean_class_accuracy"]


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


@dataclass(frozen=True)
class Cell:
    """A figure as it is printed: in percent, a number of parameters in millions.

    text: empty where nothing is printed. note: a footnote of ours. source: what the figure is cited as, if
    that is not the table.
    """

    text: str = ""
    note: str = ""
    source: str = ""


@dataclass(frozen=True)
class Row:
    """A line of a table: a system with its switches, run on some bands.

    label: as the paper has it. group: the heading that the paper prints beside several rows.
    options: of the network, ``encoder`` among them, and of the loss. variants: the variant of the system that
        a benchmark takes, by its key.
    at_test: options of the network that only change what the trained network is asked for. Rows that
        differ in these alone share a training.
    recipe: the named recipe that stands for the paper's (``paper`` is the system's own).
    published: the figures in the order of the table's columns; a text is a `Cell` without a note.
    parameters: the printed number of parameters, for tables that print it. notes: footnotes of the row.
    """

    label: str
    bands: Bands
    system: str
    options: Mapping[str, Any] = field(default_factory=dict)
    published: tuple[str | Cell, ...] = ()
    group: str = ""
    parameters: Cell = Cell()
    variants: Mapping[str, str] = field(default_factory=dict)
    at_test: Mapping[str, Any] = field(default_factory=dict)
    recipe: str = "paper"
    notes: tuple[str, ...] = ()

    def printed(self, *published: str | Cell) -> Row:
        """The row with the figures that one of several tables prints for it."""
        return replace(self, published=published)

    @property
    def cells(self) -> tuple[Cell, ...]:
        """The figures, each as a `Cell`."""
        return tuple(Cell(cell) if isinstance(cell, str) else cell for cell in self.published)


@dataclass(frozen=True)
class Table:
    """A published table.

    name: such as ``csknet/table-3``. source: what its cells are cited as.
    protocol: the one whose mean IoU is held against the printed one; protocol_note: how that is known.
    uses: how the paper uses the benchmarks of its columns, by key. notes: footnotes of the table as a whole.
    prints_parameters: whether it has a column of them.

    Raises ValueError for a row that has not one figure per column, and for a benchmark that has no use.
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
    prints_parameters: bool = False

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row.published) != len(self.columns):
                raise ValueError(
                    f"{self.name} has {len(self.columns)} columns, but {row.label!r} has "
                    f"{len(row.published)} figures"
                )
        if missing := set(self.benchmarks) - set(self.uses):
            raise ValueError(f"{self.name} does not say how {', '.join(sorted(missing))} is used")

    @property
    def benchmarks(self) -> list[str]:
        """The benchmarks of its columns, in their order."""
        return list(dict.fromkeys(column.benchmark for column in self.columns))

    def cell(self, row: Row, column: Column) -> Cell:
        """What is printed where a row and a column meet."""
        return row.cells[self.columns.index(column)]

    def parameters(self, row: Row) -> Cell:
        """The number of parameters that is printed for a row; empty where the table has none."""
        return row.parameters if self.prints_parameters else Cell()
