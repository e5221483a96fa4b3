"""One homography for a rig, from pictures that were never aligned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from crossband.rig.evidence import Agreement, corner_errors, local_agreement, parts_of
from crossband.rig.features import Picture
from crossband.rig.geometry import Model, Size, corners, distortion, is_sound, normalised, shifted, transform
from crossband.rig.information import information_gain
from crossband.rig.refinement import Level, PicturePair
from crossband.rig.resampling import worst_corner
from crossband.rig.search import rough_guesses

FINEST = 1.0
"""Infrared pixels: what all pairs share, leaving pairs out does not tell. With 120 pairs of RoadScene,
corners that were said to be known to 0.7 were off by up to 0.9 (docs/rig.md)."""
_SEARCH_PAIRS = 4
"""So many of them are searched without a start."""
_MOST_DISTORTION = 0.3
"""See `distortion`. What is further from a similarity is no picture of two cameras side by side."""

_MOST_MOVES = 3

# (width, step, pool) of the levels, coarse to fine.
_FIRST, _SECOND, _THIRD, _LAST = (320, 5, 4.0), (320, 3, 2.4), (640, 3, 2.2), (640, 2, 1.5)
_ASKED = (320, 2, 1.6)


@dataclass(frozen=True)
class Estimate:
    """A homography from infrared to visible pixels, and what speaks for it.

    score: the mean correlation of the bands' edges under it. corner_errors: (4,),
    see `corner_errors`. agreement: of the cells of the infrared picture. information: `information_gain`.
    """

    homography: np.ndarray
    model: Model
    score: float
    corner_errors: np.ndarray
    agreement: Agreement
    pairs: int
    information: float

    @property
    def uncertainty(self) -> float:
        """The bound of the worst corner in infrared pixels (`worst_corner`), `FINEST` or more."""
        return max(worst_corner(self.corner_errors, parts_of(self.pairs)), FINEST)


def estimate(
    pairs: Sequence[PicturePair], model: Model = "homography", *, start: np.ndarray | None = None
) -> Estimate | None:
    """The homography under which the edges of both bands agree best over all pairs; None if none is sound.

    pairs: visible and infrared of one rig, each band of one size. start: a homography, infrared to visible,
    to begin from in place of a search.
    """
    if not all(any(_has_edges(pair[side]) for pair in pairs) for side in (0, 1)):
        return None
    if start is None:
        some = pairs[:: max(1, len(pairs) // _SEARCH_PAIRS)][:_SEARCH_PAIRS]
        start = _searched(some, model)
        if start is None:
            return None
    homography = start
    asked = Level(pairs, *_ASKED)
    for _ in range(_MOST_MOVES):
        for settings in (_SECOND, _THIRD, _LAST):
            level = Level(pairs, *settings)
            homography, score = level.refined(homography, model)
        agreement = local_agreement(asked, homography)
        elsewhere = _common_shift(agreement)
        if elsewhere is None:
            break
        homography = normalised(homography @ shifted(*elsewhere))
    if not _plausible(homography, pairs[0][1].size):
        return None
    return Estimate(
        homography=homography,
        model=model,
        score=score,
        corner_errors=corner_errors(level, homography, model),
        agreement=agreement,
        pairs=len(pairs),
        information=information_gain(pairs, homography),
    )


def _has_edges(picture: Picture) -> bool:
    return bool(np.ptp(picture.levels) > 0)


def _common_shift(agreement: Agreement) -> np.ndarray | None:
    """x, y by which most cells would move alike, as where a pattern repeats and was caught one period off."""
    if not agreement.cells or agreement.share > 0.5:
        return None
    middle = np.median(agreement.offsets, axis=0)
    together = np.linalg.norm(agreement.offsets - middle, axis=1) <= agreement.tolerance
    return middle if together.mean() > 0.5 else None


def _searched(pairs: Sequence[PicturePair], model: Model) -> np.ndarray | None:
    """The best homography without a start, to a pixel or so."""
    level = Level(pairs, *_FIRST)
    starts = [guess.homography for guess in rough_guesses(pairs)]
    gentle: Model = "affine" if model == "homography" else model
    if model == "shift":
        starts = [_only_shift(start, pairs[0][1].size) for start in starts]
    best = _climbed(level, starts, gentle, most=16, rounds=1)
    best = _climbed(level, best, model, most=8, rounds=1)
    best = _climbed(Level(pairs, *_SECOND), best, model, most=3, rounds=2)
    best = _climbed(Level(pairs, *_THIRD), best, model, most=1, rounds=2)
    return best[0] if best else None


def _only_shift(homography: np.ndarray, size: Size) -> np.ndarray:
    """The shift that takes the picture's middle where a homography takes it."""
    middle = corners(size).mean(axis=0)
    return shifted(*(transform(homography, middle) - middle))


def _climbed(
    level: Level, starts: Sequence[np.ndarray], model: Model, *, most: int, rounds: int
) -> list[np.ndarray]:
    """The best of some homographies after each has climbed, the best first; those that meet count once."""
    size = level.pairs[0][1].size
    found = []
    for start in starts:
        homography, score = level.refined(start, model, rounds=rounds, steps=8)
        if _plausible(homography, size):
            found.append((score * np.sqrt(level.overlap(homography)), homography))
    kept: list[np.ndarray] = []
    for _, homography in sorted(found, key=lambda one: -one[0]):
        around = transform(homography, corners(size))
        near = 0.03 * np.linalg.norm(around[2] - around[0])
        if all(np.abs(transform(other, corners(size)) - around).max() > near for other in kept):
            kept.append(homography)
    return kept[:most]


def _plausible(homography: np.ndarray, size: Size) -> bool:
    return is_sound(homography, size) and distortion(homography, size) < _MOST_DISTORTION
