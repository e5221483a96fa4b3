"""Training for cameras that break (``--robust``): what it adds to the augmentation, and where it can."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from crossband.pairs.base import Pairs
from crossband.systems.base import Phase
from crossband.words import BANDS

ROBUST: Mapping[str, float] = {"corrupted": 0.5, "band_dropout": 0.2, "broken_epochs": 0.5}
"""The fields of `Augmentation` that ``--robust`` sets, unless they are given."""


def runs_on_either_band(phase: Phase) -> bool:
    """Whether band dropout makes sense; a teacher that reads one band never goes without it."""
    return set(BANDS) <= set(phase.keeps.supports)


def can_drop_bands(phases: Iterable[Phase], pairs: Pairs) -> bool:
    """Whether a training can go without a band now and then.

    It takes a system that runs on either band, pairs of both, and labels: without these, what is learnt is a
    picture of both bands.
    """
    return (
        any(map(runs_on_either_band, phases)) and set(pairs.bands) == set(BANDS) and pairs.classes is not None
    )
