"""Bands that are there and tell nothing, or the wrong thing; and pixels that are missing at random.

A band that is absent is None, and no state of these: a system is then asked for the other band alone.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from crossband.colour import weighted_sum
from crossband.errors import OptionError
from crossband.pairs.base import Pair, Pairs, PairView
from crossband.pairs.scenes.sensor import gaussian_noise
from crossband.words import Band


def _black(band: Band) -> Callable[[Pair, Pair], Pair]:
    def change(pair: Pair, first: Pair) -> Pair:
        if band == "visible":
            return pair if pair.visible is None else replace(pair, visible=np.zeros_like(pair.visible))
        return pair if pair.infrared is None else replace(pair, infrared=np.zeros_like(pair.infrared))

    return change


def _frozen(band: Band) -> Callable[[Pair, Pair], Pair]:
    def change(pair: Pair, first: Pair) -> Pair:
        ours, theirs = (p.visible if band == "visible" else p.infrared for p in (pair, first))
        if ours is None or theirs is None or ours.shape != theirs.shape:
            return pair
        return replace(pair, visible=theirs) if band == "visible" else replace(pair, infrared=theirs)

    return change


def _exchanged(pair: Pair, first: Pair) -> Pair:
    if pair.visible is None or pair.infrared is None:
        return pair
    grey = np.repeat(pair.infrared[..., None], 3, axis=2)
    return replace(pair, visible=grey, infrared=weighted_sum(*np.moveaxis(pair.visible, 2, 0)))


BAND_STATES: Mapping[str, Callable[[Pair, Pair], Pair]] = {
    "black visible": _black("visible"),
    "black infrared": _black("infrared"),
    "frozen visible": _frozen("visible"),
    "frozen infrared": _frozen("infrared"),
    "exchanged": _exchanged,
}
"""By name, from a pair and the first pair of the list to the pair as it is then seen."""


class InState(PairView):
    """A list of pairs, each in one of `BAND_STATES`; "frozen" shows the band of the first pair throughout."""

    def __init__(self, pairs: Pairs, state: str):
        super().__init__(pairs)
        if state not in BAND_STATES:
            raise OptionError(f"unknown band state {state!r}: use one of {', '.join(BAND_STATES)}")
        self.state = state

    def __getitem__(self, index: int) -> Pair:
        first = super().__getitem__(0) if self.state.startswith("frozen") else Pair("", None, None)
        return BAND_STATES[self.state](super().__getitem__(index), first)


class RandomlyMissing(PairView):
    """A list of pairs in whose band a share of the pixels is black, drawn for every pair from its name.

    One of the settings of Liao et al. (CVPR 2025 workshops, arXiv 2503.18445).
    """

    def __init__(self, pairs: Pairs, band: Band, share: float, *, seed: int = 0):
        super().__init__(pairs)
        if not 0 <= share <= 1:
            raise OptionError(f"the share of missing pixels lies in [0, 1], not {share}")
        self.band: Band = band
        self.share = share
        self.seed = seed

    def __getitem__(self, index: int) -> Pair:
        pair = super().__getitem__(index)
        missing = _generator(self.seed, self.band, pair).random(pair.size) < self.share
        if self.band == "visible" and pair.visible is not None:
            return replace(pair, visible=np.where(missing[..., None], np.float32(0), pair.visible))
        if self.band == "infrared" and pair.infrared is not None:
            return replace(pair, infrared=np.where(missing, np.float32(0), pair.infrared))
        return pair


class Noisy(PairView):
    """A list of pairs with white Gaussian noise of one deviation on both bands."""

    def __init__(self, pairs: Pairs, deviation: float, *, seed: int = 0):
        super().__init__(pairs)
        self.deviation = deviation
        self.seed = seed

    def __getitem__(self, index: int) -> Pair:
        pair = super().__getitem__(index)

        def noisy(image: np.ndarray | None, band: str) -> np.ndarray | None:
            if image is None:
                return None
            noise = gaussian_noise(image.shape, _generator(self.seed, f"noise/{band}", pair))
            return np.clip(image + np.float32(self.deviation) * noise, 0, 1)

        return replace(
            pair, visible=noisy(pair.visible, "visible"), infrared=noisy(pair.infrared, "infrared")
        )


def _generator(seed: int, what: str, pair: Pair) -> np.random.Generator:
    return np.random.default_rng([seed, zlib.crc32(f"{what}/{pair.name}".encode())])
