"""Numbers and tables as text for a terminal."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Sequence

DASH = "–"
"""Stands where a number does not exist."""

_MARKS = re.compile(r"[\\|<*`]")


def decimal(value: float, digits: int) -> str:
    """A number with so many decimals, none of them a negative zero, or a dash for NaN."""
    return DASH if math.isnan(value) else f"{value:z.{digits}f}"


def percent(share: float) -> str:
    """A share in [0, 1] as percent with two decimals, or a dash for NaN."""
    return decimal(100 * share, 2)


def semicolons_told(cells: Sequence[str]) -> str:
    """What an error adds where a row of a CSV file is one cell with semicolons in it; else nothing."""
    if len(cells) != 1 or ";" not in cells[0]:
        return ""
    return "; its cells are parted by semicolons, as spreadsheets of some languages do: part them by commas"


def counted(number: int, noun: str, plural: str = "") -> str:
    """A number of things: ``1 pair``, ``2 pairs``. plural: of the noun, if it is not the noun and an s."""
    return f"{number} {noun if number == 1 else plural or f'{noun}s'}"


def listed(words: Sequence[str]) -> str:
    """Words as a sentence lists them: ``a``, ``a and b``, ``a, b and c``."""
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def spoken_time(seconds: float) -> str:
    """A length of time as one says it: ``40 s``, ``12 min`` or ``3 h 20 min``."""
    if seconds < 90:
        return f"{round(seconds)} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02} min"


def text_table(header: Sequence[str], rows: Sequence[Sequence[str]], align: str = "") -> str:
    """A table with a rule below its header, as wide as its texts need.

    Every text is taken as text, never as markup, and double-width characters count as two.
    align: one letter per column, l or r; without it the first column is left and all others are right.
    Raises ValueError for a row whose length is not the header's, or for another number of letters.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    sides = align or "l" + "r" * (len(header) - 1)
    for title, side in zip(header, sides, strict=True):
        table.add_column(Text(title), justify="left" if side == "l" else "right", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(cell) for cell, _ in zip(row, sides, strict=True)))
    buffer = io.StringIO()
    # As wide as the text needs: whoever prints it knows the terminal, a file has none.
    Console(file=buffer, width=10_000, no_color=True).print(table)
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines() if line.strip())


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown, whose columns are all to the left.

    Cells are texts: what would part them, or be read as HTML, code or emphasis, is escaped.
    """
    escaped = [[_MARKS.sub(r"\\\g<0>", cell) for cell in row] for row in (header, *rows)]
    lines = [f"| {' | '.join(row)} |" for row in escaped]
    return "\n".join([lines[0], "|" + "---|" * len(header), *lines[1:]])
