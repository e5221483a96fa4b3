"""Mutual information of the two bands' levels, and how it changes with the homography.

Edges say where something begins in both bands; levels say that what is of one kind in one band is mostly of
one kind in the other, whichever is bright. Mutual information of the joint histogram measures that without
knowing which level goes with which (Viola and Wells 1997, Maes 1997). Climbing it is maximum likelihood with
a density that is read from the pictures themselves (Roche 2000): the slope at a pixel is how much likelier
its visible level becomes, given the infrared one, as the level changes.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from crossband.rig.geometry import PARAMETERS, Model, shifted
from crossband.rig.refinement import FEWEST_PIXELS, Level, PicturePair, Slope

_BINS = 32
_BLUR = 1.0
"""Standard deviation in bins of the window by which the joint histogram is made smooth (Parzen)."""
_SMOOTHING = 1.0
"""Standard deviation in pixels of the Gaussian before levels are compared: without it, levels between pixels
are smoother than those at pixels, and whole shifts look better than they are."""
_LEAST_ENTROPY = 1e-3
_ASKED = (320, 2, 1.5)
_AROUND = 0.06
"""Of the longer side: how far from a homography the places lie that it is held against."""
_PLACES = 8


class InformationLevel(Level):
    """`Level` that scores by mutual information in place of edges.

    The score of a pair is the share of the infrared levels' entropy that the visible levels tell, in [0, 1].
    """

    def score(self, homography: np.ndarray) -> float:
        """The score of a homography, infrared to visible: the mean over pairs."""
        seen = [self.visible(index, homography, self.margin) for index in range(len(self.pairs))]
        return self.slope(seen, np.eye(3), "shift").score

    def features(self, levels: np.ndarray, valid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Levels in bins, (h, w, 1), thinned to the grid, and where they are."""
        smooth = cv2.GaussianBlur(levels, (0, 0), max(_SMOOTHING, self.pool))
        inner = cv2.erode(valid.astype(np.uint8), np.ones((7, 7), np.uint8), borderType=cv2.BORDER_REPLICATE)
        height, width = (length // self.step for length in smooth.shape)
        cut = slice(height * self.step), slice(width * self.step)
        smooth, inner = (
            cv2.resize(image[cut], (width, height), interpolation=cv2.INTER_AREA)
            for image in (smooth, inner.astype(np.float32))
        )
        bins = np.clip(smooth * ((_BINS - 1) / 255), 0, _BINS - 1.001)
        return bins[..., None], (inner > 0.99).astype(np.float32)

    def slope_of(
        self,
        index: int,
        features: np.ndarray,
        there: np.ndarray,
        inside: np.ndarray,
        model: Model,
        keep: np.ndarray | None = None,
    ) -> Slope:
        infrared, visible, both = self.overlaid(index, features, there, inside)
        if keep is not None:
            both = both * keep
        count = PARAMETERS[model]
        used = both > 0
        if used.sum() < FEWEST_PIXELS:
            return Slope(-1.0, np.zeros(count), np.zeros((count, count)))
        visible = visible.reshape(both.shape)
        a, b = infrared[..., 0][used], visible[used]
        joint = joint_histogram(a, b)
        of_a, of_b = joint.sum(axis=1), joint.sum(axis=0)
        entropy = float(-(of_a * np.log(of_a)).sum())
        if entropy < _LEAST_ENTROPY:
            return Slope(0.0, np.zeros(count), np.zeros((count, count)))
        likelihood = np.log(joint) - np.log(of_b)
        score = float((joint * (likelihood - np.log(of_a)[:, None])).sum()) / entropy
        # How a pixel's log likelihood changes with its visible level.
        change = _looked_up(np.gradient(likelihood, axis=1), infrared[..., 0], visible)[used]
        x, y = (one.reshape(both.shape)[used] for one in self.differences(visible))
        ways = self.ways(model)[used]
        pull = (ways[:, 0] * x[:, None] + ways[:, 1] * y[:, None]) * change[:, None]
        pull = pull.astype(np.float64)
        scale = 1 / (len(a) * entropy)
        return Slope(score, scale * pull.sum(axis=0), scale * (pull.T @ pull))


def joint_histogram(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """How often levels meet, as a density of sum 1 without zeros: (bins, bins) for a and b.

    a, b: (n,), levels in bins, from 0 to below the last one. Each pixel is shared among the four nearest
    bins, so that the histogram changes smoothly with the levels.
    """
    first, second = a.astype(np.int64), b.astype(np.int64)
    right, below = a - first, b - second
    counts = np.zeros(_BINS * _BINS)
    for down, share in ((0, 1 - right), (1, right)):
        for along, other in ((0, 1 - below), (1, below)):
            place = (first + down) * _BINS + second + along
            counts += np.bincount(place, share * other, _BINS * _BINS)
    smooth = cv2.GaussianBlur(counts.reshape(_BINS, _BINS), (0, 0), _BLUR, borderType=cv2.BORDER_REFLECT)
    smooth += 1e-6 * len(a)
    return np.asarray(smooth / smooth.sum())


def _looked_up(table: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Values of a table at rows a and columns b, each (h, w), bilinear between its places."""
    return np.asarray(cv2.remap(table.astype(np.float32), b, a, cv2.INTER_LINEAR))


def information_gain(pairs: Sequence[PicturePair], homography: np.ndarray) -> float:
    """By how much the levels tell more of each other under a homography than beside it.

    The mean share of the infrared levels' entropy that the visible levels tell, less the largest of those at
    eight places around, as a share of the first: above 0 where the homography is a summit, up to 1. Levels
    are another witness than the edges that it was found by.
    """
    level = InformationLevel(pairs, *_ASKED)
    away = _AROUND * max(pairs[0][1].size)
    turns = np.arange(_PLACES) * (2 * np.pi / _PLACES)
    here = level.score(homography)
    beside = max(level.score(homography @ shifted(away * np.cos(t), away * np.sin(t))) for t in turns)
    return (here - beside) / max(here, 1e-9)
