"""Numbers that an option may have, and options held against them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from crossband.errors import OptionError


@dataclass(frozen=True)
class Range:
    """The numbers from low to high. above: without low itself. below: without high itself.

    >>> 0.0 in Range(0, 1), 1.0 in Range(0, 1, below=True), math.nan in Range()
    (True, False, False)
    >>> print(Range(), Range(above=True), Range(0, 1, below=True), sep=", ")
    be 0 or more, be above 0, lie in [0, 1)
    """

    low: float = 0
    high: float = math.inf
    above: bool = False
    below: bool = False

    def __contains__(self, value: float) -> bool:
        # Written so that NaN fails too.
        over = value > self.low if self.above else value >= self.low
        return over and value < math.inf and (value < self.high if self.below else value <= self.high)

    def __str__(self) -> str:
        """What a value must do, for messages."""
        if self.high < math.inf:
            return f"lie in {'(' if self.above else '['}{self.low}, {self.high}{')' if self.below else ']'}"
        return f"be above {self.low}" if self.above else f"be {self.low} or more"


NOT_NEGATIVE = Range()
POSITIVE = Range(above=True)
AT_LEAST_1 = Range(1)
SHARE = Range(0, 1)
SHARE_BELOW_1 = Range(0, 1, below=True)
"""Of what is left out at random: something must stay."""

_BY_ENDING = {"_channels": AT_LEAST_1, "_width": AT_LEAST_1, "_weight": NOT_NEGATIVE}
"""PyTorch builds a layer of no channels without a word, and a negative weight makes its loss larger."""


def check_ranges(before: str, options: Any, ranges: Mapping[str, Range]) -> None:
    """Raise OptionError, naming the option, for a number of a dataclass that is not in its range.

    before: what stands before a name in messages: "recipe.", "cen: ". ranges: by name; names that end in
    ``_channels``, ``_width`` and ``_weight`` have one without being there. None is in every range.
    """
    for field in fields(options):
        value, allowed = getattr(options, field.name), _range_of(field.name, ranges)
        if allowed is not None and value is not None and value not in allowed:
            raise OptionError(f"{before}{field.name} must {allowed}, not {value}")


def _range_of(name: str, ranges: Mapping[str, Range]) -> Range | None:
    if name in ranges:
        return ranges[name]
    return next((allowed for ending, allowed in _BY_ENDING.items() if name.endswith(ending)), None)
