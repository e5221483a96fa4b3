"""Mutual information of the two bands' levels: another witness than their edges.

Edges say where something begins in both bands; levels say that what is of one kind in one band is mostly of
one kind in the other, whichever is bright. Mutual information of the joint histogram measures that without
knowing which level goes with which (Viola and Wells 1997, Maes 1997). As a hill to climb it was worse than
the edges (docs/rig.md); as a witness it is independent of them.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from crossband.rig.geometry import shifted
from crossband.rig.refinement import FEWEST_PIXELS, Level, PicturePair

BINS = 32
_BLUR = 1.0
"""Standard deviation in bins of the window by which the joint histogram is made smooth (Parzen)."""
_SMOOTHING = 1.0
"""Standard deviation in pixels of the Gaussian before levels are compared: without it, levels between pixels
are smoother than those at pixels, and whole shifts look better than they are."""
_SURROUNDINGS = 12.0
"""Standard deviation in pixels of the window that levels are held against: a lamp at night, or the sky, would
fill the histogram otherwise."""
_SPREAD = 2.5
"""Standard deviations of the surroundings, to either side, over which the bins are spread."""
_NOISE = 3.0
"""Levels of 255; surroundings that vary by less are not made more of."""
_LEAST_ENTROPY = 1e-3
_ASKED = (320, 2, 1.5)
_AROUND = 0.06
"""Of the longer side: how far from a homography the places lie that it is held against."""
_PLACES = 8


class InformationLevel(Level):
    """`Level` of the pictures' levels, each against its surroundings, in place of their edges."""

    def told(self, homography: np.ndarray) -> float:
        """The share of the infrared levels' entropy that the visible levels tell, in [0, 1]: the mean over
        pairs. homography: infrared to visible.
        """
        shares = []
        for index in range(len(self.pairs)):
            features = self.visible(index, homography, self.margin)
            infrared, visible, both = self.overlaid(index, *features, np.eye(3))
            used = both > 0
            enough = used.sum() >= FEWEST_PIXELS
            a, b = infrared[..., 0][used], visible.reshape(both.shape)[used]
            shares.append(share_told(joint_histogram(a, b)) if enough else 0.0)
        return float(np.mean(shares))

    def features(self, levels: np.ndarray, valid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Levels against their surroundings in bins, (h, w, 1), thinned to the grid, and where they are."""
        away = levels - cv2.GaussianBlur(levels, (0, 0), _SURROUNDINGS)
        around = np.sqrt(cv2.GaussianBlur(away * away, (0, 0), _SURROUNDINGS) + _NOISE**2)
        smooth = cv2.GaussianBlur(away / around, (0, 0), max(_SMOOTHING, self.pool))
        inner = cv2.erode(valid.astype(np.uint8), np.ones((7, 7), np.uint8), borderType=cv2.BORDER_REPLICATE)
        height, width = (length // self.step for length in smooth.shape)
        cut = slice(height * self.step), slice(width * self.step)
        smooth, inner = (
            cv2.resize(image[cut], (width, height), interpolation=cv2.INTER_AREA)
            for image in (smooth, inner.astype(np.float32))
        )
        bins = np.clip((smooth / _SPREAD + 1) * ((BINS - 1) / 2), 0, BINS - 1.001).astype(np.float32)
        return bins[..., None], (inner > 0.99).astype(np.float32)


def joint_histogram(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """How often levels meet, as a density of sum 1 without zeros: (bins, bins) for a and b.

    a, b: (n,), levels in bins, from 0 to below the last one. Each pixel is shared among the four nearest
    bins, so that the histogram changes smoothly with the levels.
    """
    first, second = a.astype(np.int64), b.astype(np.int64)
    right, below = a - first, b - second
    counts = np.zeros(BINS * BINS)
    for down, share in ((0, 1 - right), (1, right)):
        for along, other in ((0, 1 - below), (1, below)):
            place = (first + down) * BINS + second + along
            counts += np.bincount(place, share * other, BINS * BINS)
    table: np.ndarray = counts.reshape(BINS, BINS)
    smooth: np.ndarray = cv2.GaussianBlur(table, (0, 0), _BLUR, borderType=cv2.BORDER_REFLECT)
    filled: np.ndarray = smooth + 1e-6 * len(a)
    return filled / filled.sum()


def share_told(joint: np.ndarray) -> float:
    """The share of the entropy of a density's rows that its columns tell: 0 where there is next to none."""
    of_a, of_b = joint.sum(axis=1, keepdims=True), joint.sum(axis=0, keepdims=True)
    entropy = float(-(of_a * np.log(of_a)).sum())
    return float((joint * np.log(joint / (of_a * of_b))).sum()) / entropy if entropy > _LEAST_ENTROPY else 0.0


def information_gain(pairs: Sequence[PicturePair], homography: np.ndarray) -> float:
    """By how much the levels tell more of each other under a homography than beside it.

    The mean share of the infrared levels' entropy that the visible levels tell, less the largest of those at
    eight places around, as a share of the first: above 0 where the homography is a summit, up to 1. Levels
    are another witness than the edges that it was found by.
    """
    level = InformationLevel(pairs, *_ASKED)
    away = _AROUND * max(pairs[0][1].size)
    turns = np.arange(_PLACES) * (2 * np.pi / _PLACES)
    here = level.told(homography)
    beside = max(level.told(homography @ shifted(away * np.cos(t), away * np.sin(t))) for t in turns)
    return (here - beside) / max(here, 1e-9)
