"""Tables of numbers as text, and numbers as files keep them."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence


def text_table(header: Sequence[str], rows: Sequence[Sequence[str]], left: int) -> str:
    """A plain-text table whose first ``left`` columns are left-aligned and the others right."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for column, title in enumerate(header):
        table.add_column(title, justify="left" if column < left else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    buffer = io.StringIO()
    # As wide as the text needs: whoever prints it knows the terminal, a file has none.
    Console(file=buffer, width=10_000, markup=False, highlight=False, emoji=False, no_color=True).print(table)
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines() if line.strip())


def or_none(value: float) -> float | None:
    """The value, or None where it is not finite: JSON has no word for that."""
    return value if math.isfinite(value) else None
