"""How test sets are drawn again for intervals (`crossband.metrics.resampling`). Nothing heavy is imported."""

from __future__ import annotations

from crossband.errors import OptionError

REPLICATES = 2000
LEVEL = 0.95


def check_drawing(pairs: int, *, replicates: int = REPLICATES, level: float = LEVEL, block: int = 1) -> None:
    """Raise OptionError for numbers that give no intervals on so many pairs."""
    if replicates < 1 or block < 1:
        raise OptionError(f"replicates and block must be at least 1, not {replicates} and {block}")
    if not 0 < level < 1:
        raise OptionError(f"the level of an interval lies between 0 and 1, not {level}")
    if pairs <= block:
        raise OptionError(
            f"{pairs} pairs in blocks of {block} leave nothing to draw from: at least two blocks are needed"
        )
