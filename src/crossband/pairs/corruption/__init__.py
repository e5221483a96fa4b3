"""What goes wrong with cameras, as seeded changes to pairs; labels stay true."""

from crossband.pairs.corruption.band_states import BAND_STATES, InState, Noisy, RandomlyMissing
from crossband.pairs.corruption.catalogue import (
    CORRUPTIONS,
    SEVERITIES,
    CorruptedPairs,
    Corruption,
    NamedCorruption,
    find_corruption,
)
from crossband.pairs.corruption.drawing import (
    HELD_OUT_CORRUPTIONS,
    TRAINING_CORRUPTIONS,
    broken,
    drawn_corruption,
)
from crossband.pairs.corruption.visible import overexpose

__all__ = [
    "BAND_STATES",
    "CORRUPTIONS",
    "HELD_OUT_CORRUPTIONS",
    "SEVERITIES",
    "TRAINING_CORRUPTIONS",
    "CorruptedPairs",
    "Corruption",
    "InState",
    "NamedCorruption",
    "Noisy",
    "RandomlyMissing",
    "broken",
    "drawn_corruption",
    "find_corruption",
    "overexpose",
]
