"""Which corruption breaks a training pair: one of those that are not held out for tests."""

from __future__ import annotations

import numpy as np

from crossband.pairs.base import Pair
from crossband.pairs.corruption.catalogue import CORRUPTIONS, SEVERITIES, Corruption

TRAINING_CORRUPTIONS: tuple[str, ...] = tuple(c.name for c in CORRUPTIONS.values() if not c.held_out)
"""The corruptions that training may draw."""
HELD_OUT_CORRUPTIONS: tuple[str, ...] = tuple(c.name for c in CORRUPTIONS.values() if c.held_out)
"""The corruptions that no training draws, so that tests ask about faults that it has not seen."""


def broken(pair: Pair, rng: np.random.Generator) -> Pair:
    """A copy of a pair, one band of which is broken by `drawn_corruption`; the label stays."""
    corruption, severity = drawn_corruption(pair, rng)
    return corruption.apply(pair, severity, rng)


def drawn_corruption(pair: Pair, rng: np.random.Generator) -> tuple[Corruption, int]:
    """One of `TRAINING_CORRUPTIONS`, for a pair, and a severity.

    Either band that is there, each of its corruptions and each severity have equal chances. What moves
    infrared against visible counts as a corruption of infrared, and is drawn for pairs of both alone: the
    label lies on visible, and a lone infrared image that moves would leave it.
    """
    images = {"visible": pair.visible, "infrared": pair.infrared}
    bands = [band for band, image in images.items() if image is not None]
    chosen = bands[rng.integers(len(bands))]

    def fits(corruption: Corruption) -> bool:
        return corruption.band == chosen and (corruption.kind != "pair" or len(bands) == 2)

    names = [name for name in TRAINING_CORRUPTIONS if fits(CORRUPTIONS[name])]
    corruption = CORRUPTIONS[names[rng.integers(len(names))]]
    return corruption, SEVERITIES[rng.integers(len(SEVERITIES))]
