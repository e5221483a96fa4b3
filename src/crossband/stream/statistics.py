"""How fast a stream is, what it dropped, and how long each stage takes."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

import numpy as np

from crossband.text import counted
from crossband.words import Band

_KEPT = 2000
"""Durations of a stage that percentiles are taken of: the last ones."""


class Statistics:
    """Counts and durations of a stream. results: those given. dropped: pairs that were not run.

    unused: moments of which the frames could not be used.
    """

    def __init__(self) -> None:
        self.results = self.dropped = self.unused = 0
        self._first: int | None = None
        self._last = 0
        self._stages: dict[str, deque[int]] = {}

    def note(self, stage: str, nanoseconds: int) -> None:
        """One more duration of a stage."""
        self._stages.setdefault(stage, deque(maxlen=_KEPT)).append(nanoseconds)

    def result(self, now: int) -> None:
        """One more result."""
        self.results += 1
        self._first = now if self._first is None else self._first
        self._last = now

    @property
    def rate(self) -> float | None:
        """Results a second, None before there are two."""
        if self._first is None or self._last <= self._first:
            return None
        return (self.results - 1) * 1e9 / (self._last - self._first)

    def percentiles(self) -> dict[str, tuple[float, float, float]]:
        """Milliseconds of each stage: median, 95 % and 99 %."""
        return {
            stage: (float(low), float(high), float(most))
            for stage, kept in self._stages.items()
            for low, high, most in [np.percentile(np.array(kept) / 1e6, (50, 95, 99))]
        }

    def text(self, dropped: Mapping[str, int], damaged: Mapping[Band, int] | None = None) -> str:
        """Some lines to print. dropped: frames by camera that were not taken in time. damaged: those that
        could not be read."""
        rate = "" if self.rate is None else f", {self.rate:.3g} a second"
        frames = ", ".join(f"{count} {band}" for band, count in dropped.items())
        lines = [
            f"{self.results} results{rate}; dropped: {self.dropped} pairs"
            + (f", {frames} frames" if frames else "")
        ]
        if damaged:
            told = ", ".join(f"{count} {band}" for band, count in damaged.items())
            lines.append(f"damaged: {told} frames were passed over")
        if self.unused:
            lines.append(f"{counted(self.unused, 'moment')} without a result, though frames came")
        for stage, (low, high, most) in self.percentiles().items():
            lines.append(f"{stage}: {low:.1f} ms (median), {high:.1f} (95 %), {most:.1f} (99 %)")
        return "\n".join(lines)
