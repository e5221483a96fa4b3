"""The rule by which a run's band monitor tells a pair whose two images are not of one moment.

It is fitted when the monitor is (`crossband.training.match_fitting`) and kept with it. It takes NumPy alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from crossband.pairs.match_statistics import match_statistics


@dataclass(frozen=True)
class MatchRule:
    """How much the statistics of a pair speak against its images being of one moment.

    names: of A statistics (`match_statistics`). weight: (A,), none above 0: the better images match, the
    lower is the score. needed: the score above which they do not match. visible_farthest: how far off the
    visible image by itself may be (`crossband.trained_monitor.image_distances`): one that is broken matches
    nothing, and then it is not infrared that is to be left out.
    """

    names: tuple[str, ...]
    weight: np.ndarray
    needed: float
    visible_farthest: float

    def unmatched(self, visible: np.ndarray, infrared: np.ndarray) -> bool:
        """Whether images are of two moments, as `match_statistics` takes them."""
        found = match_statistics(visible, infrared)
        return bool(self.scores(np.array([found[name] for name in self.names])) > self.needed)

    def scores(self, statistics: np.ndarray) -> np.ndarray:
        """(...) for statistics (..., A)."""
        return statistics @ self.weight

    def to_fields(self) -> dict[str, Any]:
        """The rule as plain data, its numbers to five digits."""
        return {
            "names": list(self.names),
            "weight": [_rounded(value) for value in self.weight],
            "needed": _rounded(self.needed),
            "visible_farthest": _rounded(self.visible_farthest),
        }

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> MatchRule:
        """The rule that `to_fields` gave as data. Raises LookupError, TypeError or ValueError otherwise."""
        rule = cls(
            names=tuple(map(str, fields["names"])),
            weight=np.array(fields["weight"], float),
            needed=float(fields["needed"]),
            visible_farthest=float(fields["visible_farthest"]),
        )
        known = match_statistics(np.zeros((2, 2, 3), np.float32), np.zeros((2, 2), np.float32))
        unknown = sorted(set(rule.names) - known.keys())
        if unknown:
            raise ValueError(f"there is no statistic {unknown[0]!r}")
        if not rule.names or rule.weight.shape != (len(rule.names),):
            raise ValueError("the numbers of its match rule do not fit together")
        if (
            not np.isfinite([*rule.weight, rule.needed, rule.visible_farthest]).all()
            or (rule.weight > 0).any()
        ):
            raise ValueError("its match rule has a weight of the wrong sign, or NaN")
        return rule


def _rounded(value: float) -> float:
    return float(f"{value:.5g}")
