"""How sure a geometry is, by leaving out and by drawing anew what it was found from."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

_RESAMPLES = 200
_AT_ONCE = 2.4977
"""Standard errors beyond which, to one side, lies one of 160 normal draws: one of 20 for four
corners in two directions together (Bonferroni)."""


def jackknife_errors(corners: np.ndarray) -> np.ndarray:
    """The standard error of each corner, both directions together: (4,).

    corners: (n, 4, 2), where they lie with each of n parts left out.
    """
    off = corners - corners.mean(axis=0)
    errors: np.ndarray = np.sqrt((off**2).sum(axis=(0, 2)) * (len(off) - 1) / len(off))
    return errors


def worst_corner(errors: np.ndarray, parts: int) -> float:
    """The bound of the worst corner: 19 times out of 20 all four are to lie within it.

    errors: (4,), standard errors. parts: from how many parts they were found, by leaving each out: of few, an
    error is itself known badly, which Student's t allows for (`student_t`). It knows by how much the parts
    differ, and not of an error that all of them share; docs/rig.md tells how often it held.
    """
    return float(student_t(_AT_ONCE, parts - 1) * errors.max())


def student_t(normal: float, freedom: int) -> float:
    """The quantile of Student's t distribution where the normal distribution has ``normal``.

    freedom: its degrees, 3 or more, where it is right to a per cent. Source: M. Abramowitz and I. A. Stegun,
    Handbook of Mathematical Functions, 26.7.5.
    """
    z, inverse = normal, 1 / freedom
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return sum(term * inverse**power for power, term in enumerate(terms))


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
