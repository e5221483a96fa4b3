"""What goes wrong with a camera, as seeded changes to pairs: what a system loses is then measured.

A band that is absent is None and no corruption; `crossband.evaluation` scores that as a combination of bands.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from crossband.errors import OptionError
from crossband.pairs.base import Pair, Pairs


def overexpose(visible: np.ndarray, stops: float) -> np.ndarray:
    """A visible image as the camera would have taken it with 2 ** stops times the light.

    visible: float32 (H, W, 3), sRGB in [0, 1]. Exposure acts on linear light, where the sensor saturates;
    what was clipped stays clipped, so a later darkening does not bring it back. The sRGB transfer curve is
    that of IEC 61966-2-1. Negative stops under-expose. Raises OptionError unless stops is finite.
    """
    if not np.isfinite(stops):
        raise OptionError(f"stops must be a finite number, not {stops}")
    light = np.where(visible <= 0.04045, visible / 12.92, ((visible + 0.055) / 1.055) ** 2.4)
    light = np.minimum(light * 2.0**stops, 1.0)
    curve = 1.055 * np.maximum(light, 0.0031308) ** (1 / 2.4) - 0.055
    return np.where(light <= 0.0031308, light * 12.92, curve).astype(np.float32)


class CorruptedPairs(Pairs):
    """A list of pairs, each changed by ``corrupt`` when it is read; labels stay true.

    corrupt: a function of the pair and a generator that depends on ``seed`` and the pair's place alone, so
        that every reading gives the same pair.
    """

    def __init__(self, pairs: Pairs, corrupt: Callable[[Pair, np.random.Generator], Pair], *, seed: int = 0):
        self.pairs = pairs
        self.corrupt = corrupt
        self.seed = seed
        self.source = pairs.source
        self.split = pairs.split
        self.classes = pairs.classes
        self.bands = pairs.bands

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Pair:
        return self.corrupt(self.pairs[index], np.random.default_rng([self.seed, index]))

    def name(self, index: int) -> str:
        return self.pairs.name(index)

    def condition(self, index: int) -> str | None:
        return self.pairs.condition(index)


def overexposed(pairs: Pairs, stops: float) -> CorruptedPairs:
    """The pairs with every visible image over-exposed by so many stops. See `overexpose`."""

    def corrupt(pair: Pair, rng: np.random.Generator) -> Pair:
        if pair.visible is None:
            return pair
        return replace(pair, visible=overexpose(pair.visible, stops))

    return CorruptedPairs(pairs, corrupt)
