"""What goes wrong with a camera, as seeded changes to pairs: what a system loses is then measured.

A band that is absent is None and no corruption; `crossband.evaluation` scores that as a combination of bands.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from crossband.colour import to_linear, to_srgb
from crossband.errors import OptionError
from crossband.pairs.base import Pair, Pairs, PairView


def overexpose(visible: np.ndarray, stops: float) -> np.ndarray:
    """A visible image as the camera would have taken it with 2 ** stops times the light.

    visible: float32 (H, W, 3), sRGB in [0, 1]. Exposure acts on linear light, where the sensor saturates;
    what was clipped stays clipped, so a later darkening does not bring it back. The sRGB transfer curve is
    that of IEC 61966-2-1. Negative stops under-expose. Raises OptionError unless stops is finite.
    """
    if not np.isfinite(stops):
        raise OptionError(f"stops must be a finite number, not {stops}")
    return to_srgb(np.minimum(to_linear(visible) * 2.0**stops, 1.0)).astype(np.float32)


class CorruptedPairs(PairView):
    """A list of pairs, each changed by ``corrupt`` when it is read; labels stay true.

    corrupt: a function of the pair and a generator that depends on ``seed`` and the pair's place alone, so
        that every reading gives the same pair.
    """

    def __init__(self, pairs: Pairs, corrupt: Callable[[Pair, np.random.Generator], Pair], *, seed: int = 0):
        super().__init__(pairs)
        self.corrupt = corrupt
        self.seed = seed

    def __getitem__(self, index: int) -> Pair:
        return self.corrupt(super().__getitem__(index), np.random.default_rng([self.seed, index]))


def overexposed(pairs: Pairs, stops: float) -> CorruptedPairs:
    """The pairs with every visible image over-exposed by so many stops. See `overexpose`."""

    def corrupt(pair: Pair, rng: np.random.Generator) -> Pair:
        if pair.visible is None:
            return pair
        return replace(pair, visible=overexpose(pair.visible, stops))

    return CorruptedPairs(pairs, corrupt)
