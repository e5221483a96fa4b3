"""How test sets are drawn again for intervals (`crossband.metrics.resampling`). Nothing heavy is imported."""

from __future__ import annotations

from crossband.errors import OptionError

REPLICATES = 2000
LEAST_REPLICATES = 100
LEVEL = 0.95


def check_interval(*, replicates: int = REPLICATES, level: float = LEVEL) -> None:
    """Raise OptionError for a level that is none, and for too few draws to tell an interval of it.

    A bound is a quantile of the draws: one of them at least lies beyond it, on either side.
    """
    if not 0 < level < 1:
        raise OptionError(f"the level of an interval lies between 0 and 1, not {level}")
    least = max(LEAST_REPLICATES, round(2 / (1 - level)))
    if replicates < least:
        raise OptionError(
            f"replicates must be at least {least} for an interval of level {level}, not {replicates}: its "
            "bounds are quantiles of that many draws, which fewer do not tell"
        )


def check_drawing(pairs: int, *, replicates: int = REPLICATES, block: int = 1) -> None:
    """Raise OptionError for numbers below 1, and where so many pairs leave nothing to draw from."""
    if replicates < 1 or block < 1:
        raise OptionError(f"replicates and block must be at least 1, not {replicates} and {block}")
    if pairs <= block:
        raise OptionError(
            f"{pairs} pairs in blocks of {block} leave nothing to draw from: at least two blocks are needed"
        )
