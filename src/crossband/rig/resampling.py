"""How sure a geometry is, by leaving out and by drawing anew what it was found from."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

_RESAMPLES = 200
_WITHIN = 1.96
"""Standard errors within which 19 of 20 lie, were the parts independent."""


def jackknife_errors(corners: np.ndarray) -> np.ndarray:
    """The standard error of each corner, both directions together: (4,).

    corners: (n, 4, 2), where they lie with each of n parts left out.
    """
    off = corners - corners.mean(axis=0)
    errors: np.ndarray = np.sqrt((off**2).sum(axis=(0, 2)) * (len(off) - 1) / len(off))
    return errors


def worst_corner(errors: np.ndarray) -> float:
    """The bound of the worst corner: 1.96 standard errors, which hold more seldom than 19 times out of 20.

    errors: (4,). It knows by how much the parts differ, and not of an error that all of them share;
    docs/rig.md tells how often it held.
    """
    return float(_WITHIN * errors.max())


def median_interval(
    parts: np.ndarray, distances: Callable[[np.ndarray], np.ndarray] | None = None
) -> tuple[float, float]:
    """The 95 % interval of a median by the bootstrap.

    parts: (n,), drawn with replacement. distances: of the parts that were drawn; None takes themselves.
    """
    draw = np.random.default_rng(0)
    drawn = (draw.choice(parts, len(parts)) for _ in range(_RESAMPLES))
    medians = [np.median(part if distances is None else distances(part)) for part in drawn]
    low, high = np.percentile(medians, (2.5, 97.5))
    return float(low), float(high)
