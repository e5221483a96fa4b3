"""How well a pair is registered that should be: by how much its parts would move, each by itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crossband.rig.evidence import local_agreement
from crossband.rig.features import Picture
from crossband.rig.refinement import Level

_WIDTH, _STEP, _POOL = 320, 2, 1.6
_SMALLEST = 96
"""Pixels of the shorter side below which nothing can be said."""
_FEWEST_CELLS = 6
_LEAST_SHARE = 0.35
"""Of the cells, so many have to move alike before their shift is believed. Of pairs that do not belong
together about one in five do, by chance."""


@dataclass(frozen=True)
class Misfit:
    """By how much a pair is off its registration.

    shift: x, y in pixels, how far to the right and down the visible image shows what the infrared one shows;
    None where the bands share too little to tell. rest: the median distance in pixels of the parts that
    tell from where they should be. share: of the parts, those that tell.
    """

    shift: tuple[float, float] | None
    rest: float
    share: float

    @property
    def distance(self) -> float:
        """Length of the shift in pixels; NaN where it is not known."""
        return float("nan") if self.shift is None else float(np.hypot(*self.shift))


def misfit(visible: Picture, infrared: Picture) -> Misfit:
    """Measure how well two bands of one size lie on each other, within an eighth of the picture.

    Each cell of the infrared picture looks for its best place; the largest group of cells that move alike
    tells.
    """
    if min(infrared.size) < _SMALLEST or visible.size != infrared.size:
        return Misfit(None, float("nan"), 0.0)
    agreement = local_agreement(
        Level([(visible, infrared)], _WIDTH, _STEP, _POOL), np.eye(3), intervals=False
    )
    if agreement.cells < _FEWEST_CELLS:
        return Misfit(None, float("nan"), 0.0)
    apart = np.linalg.norm(agreement.offsets[:, None] - agreement.offsets[None], axis=2)
    alike = apart <= agreement.tolerance
    group = alike[np.argmax(alike.sum(axis=1))]
    share = float(group.mean())
    if share < _LEAST_SHARE:
        return Misfit(None, float("nan"), share)
    x, y = np.median(agreement.offsets[group], axis=0)
    rest = float(np.median(np.linalg.norm(agreement.offsets[group], axis=1)))
    return Misfit((float(x), float(y)), rest, share)
