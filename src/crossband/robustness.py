"""What goes wrong with a camera, and what a system loses by it.

The corruptions themselves are `crossband.pairs.corruption`. A band that is absent is None and no corruption;
`crossband.evaluation` scores that as a combination of bands.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from crossband.pairs.base import Pair, Pairs
from crossband.pairs.corruption import CorruptedPairs, overexpose

__all__ = ["CorruptedPairs", "overexpose", "overexposed"]


def overexposed(pairs: Pairs, stops: float) -> CorruptedPairs:
    """The pairs with every visible image over-exposed by so many stops. See `overexpose`."""

    def corrupt(pair: Pair, rng: np.random.Generator) -> Pair:
        if pair.visible is None:
            return pair
        return replace(pair, visible=overexpose(pair.visible, stops))

    return CorruptedPairs(pairs, corrupt)
