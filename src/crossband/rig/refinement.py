"""From a rough guess to the homography under which the edges of both bands agree best.

The score of a homography is the normalised correlation of the two bands' edge features where they overlap,
its mean over all pairs. It is climbed by Gauss-Newton steps, as the enhanced correlation coefficient is
(Evangelidis and Psarakis 2008), with five channels in place of the intensities, which do not match. OpenCV's
``findTransformECC`` climbs for one pair; here all pairs of a rig climb together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from crossband.rig.features import Picture, edge_features
from crossband.rig.geometry import (
    PARAMETERS,
    Model,
    Size,
    corners,
    normalised,
    shifted,
    small_step,
    transform,
)

PicturePair = tuple[Picture, Picture]
"""Visible and infrared."""

_LEAST_SCORE = 0.05
"""A correlation below this does not flatten the assumed curvature further, which would make steps too long.
"""
FEWEST_PIXELS = 60


@dataclass
class Slope:
    """The score of a homography, and how it changes: the mean over pairs.

    score: in [-1, 1]. gradient: (n,) and curvature: (n, n), minus the second derivative, by the parameters of
    `small_step` in the level's own coordinates.
    """

    score: float
    gradient: np.ndarray
    curvature: np.ndarray


class Level:
    """One resolution of all pairs: the infrared features, and the visible ones on request.

    Coordinates: "small" pixels are those of the infrared picture made smaller; "unit" ones have 0 in its
    middle and 1 at the end of its longer side; "grid" ones count the features that are kept.
    """

    def __init__(self, pairs: Sequence[PicturePair], width: int, step: int, pool: float):
        """width: of the longer side in small pixels, at most the infrared picture's own. step, pool: as in
        `edge_features`."""
        self.pairs, self.step, self.pool = list(pairs), step, pool
        infrared = [pair[1] for pair in self.pairs]
        zoom = min(width / max(infrared[0].size), 1.0)
        self.to_small = infrared[0].at(zoom)[2]
        self.size: Size = infrared[0].at(zoom)[0].shape
        self.infrared = [self.features(*picture.at(zoom)[:2]) for picture in infrared]
        half = max(self.size) / 2
        height, width = self.infrared[0][1].shape
        rows, columns = np.mgrid[:height, :width].astype(np.float32)
        middle = (self.size[1] - 1) / 2, (self.size[0] - 1) / 2
        self.unit_to_small = np.array([[half, 0, middle[0]], [0, half, middle[1]], [0, 0, 1.0]])
        first = (step - 1) / 2
        x = (columns * step + first - middle[0]) / half
        y = (rows * step + first - middle[1]) / half
        one, zero = np.ones_like(x), np.zeros_like(x)
        self._ways = np.stack(
            [
                np.stack([x, y, one, zero, zero, zero, -x * x, -x * y], -1),
                np.stack([zero, zero, zero, x, y, one, -x * y, -y * y], -1),
            ],
            axis=2,
        )
        self._grid_per_unit = half / step
        self.margin = step * max(2, round(0.12 * max(self.size) / step))

    def ways(self, model: Model) -> np.ndarray:
        """How the x and y of each grid point move with each parameter, in unit coordinates: (h, w, 2, n)."""
        kept = {"shift": [2, 5], "affine": range(6), "homography": range(8)}[model]
        return self._ways[..., list(kept)]

    def moved(self, homography: np.ndarray, step: np.ndarray) -> np.ndarray:
        """The homography, infrared to visible, after a small step in unit coordinates."""
        return self._after(homography, small_step(step))

    def visible(self, index: int, homography: np.ndarray, margin: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """The visible features of a pair as the infrared camera would see them, ``margin`` small pixels
        wider.
        """
        from_small = homography @ np.linalg.inv(self.to_small)
        picture = self.pairs[index][0]
        zoom = min(1.0, 1 / _pixels_per_pixel(from_small, self.size))
        levels, valid, way = picture.at(2.0 ** (round(4 * np.log2(zoom)) / 4))
        matrix = way @ from_small @ shifted(-margin, -margin)
        size = self.size[1] + 2 * margin, self.size[0] + 2 * margin
        seen = cv2.warpPerspective(levels, matrix, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
        there = cv2.warpPerspective(
            valid.astype(np.uint8), matrix, size, flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
        )
        return self.features(seen, there > 0)

    def features(self, levels: np.ndarray, valid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What is compared of a picture, (h, w, channels) on the grid, and where it is: float32 (h, w)."""
        return edge_features(levels, valid, pool=self.pool, step=self.step)

    def refined(
        self, homography: np.ndarray, model: Model, *, rounds: int = 3, steps: int = 6
    ) -> tuple[np.ndarray, float]:
        """Climb from a homography, infrared to visible, to the nearest best one: it and its score.

        rounds: how often the visible features are made anew. steps: at most, between two of those.
        """
        score = -1.0
        for _ in range(rounds):
            seen = [self.visible(index, homography, self.margin) for index in range(len(self.pairs))]
            inside, score, far = self._climb(seen, model, steps)
            homography = self._after(homography, inside)
            if far < 0.05 * self.step:
                break
        return homography, score

    def overlap(self, homography: np.ndarray) -> float:
        """The share of the infrared pictures that the visible ones cover."""
        shares = []
        for index, (_, shown) in enumerate(self.infrared):
            there = self.visible(index, homography)[1]
            shares.append(float((there * shown).sum()) / max(float(shown.sum()), 1.0))
        return float(np.mean(shares))

    def _after(self, homography: np.ndarray, inside: np.ndarray) -> np.ndarray:
        inside = self.unit_to_small @ inside @ np.linalg.inv(self.unit_to_small)
        return normalised(homography @ np.linalg.inv(self.to_small) @ inside @ self.to_small)

    def _climb(
        self, seen: Sequence[tuple[np.ndarray, np.ndarray]], model: Model, steps: int
    ) -> tuple[np.ndarray, float, float]:
        """Levenberg-Marquardt within visible features that are there already; the way made, in unit
        coordinates, its score, and how far it moves the corners, in small pixels."""
        inside, damping = np.eye(3), 1e-3
        here = self.slope(seen, inside, model)
        for _ in range(steps):
            lifted = here.curvature + damping * np.diag(np.diag(here.curvature))
            step = np.linalg.solve(lifted + 1e-9 * np.eye(len(lifted)), here.gradient)
            step *= min(1.0, 0.25 / max(float(np.abs(step).max()), 1e-12))
            tried = inside @ small_step(step)
            far = self._corner_motion(small_step(step))
            there = self.slope(seen, tried, model)
            if there.score > here.score:
                inside, here, damping = tried, there, max(damping / 4, 1e-4)
            else:
                damping = 8 * max(damping, 1e-3)
            if far < 0.01 * self.step or damping > 100:
                break
        return inside, here.score, self._corner_motion(inside)

    def _corner_motion(self, inside: np.ndarray) -> float:
        unit = transform(np.linalg.inv(self.unit_to_small), corners(self.size))
        return float(np.abs(transform(inside, unit) - unit).max() * self.unit_to_small[0, 0])

    def slope(self, seen: Sequence[tuple[np.ndarray, np.ndarray]], inside: np.ndarray, model: Model) -> Slope:
        """The score and its derivatives, the mean over pairs. seen: `visible` with the level's margin."""
        parts = [self.slope_of(index, *features, inside, model) for index, features in enumerate(seen)]
        return Slope(
            float(np.mean([part.score for part in parts])),
            np.mean([part.gradient for part in parts], axis=0),
            np.mean([part.curvature for part in parts], axis=0),
        )

    def overlaid(
        self, index: int, features: np.ndarray, there: np.ndarray, inside: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Infrared and visible features on one grid, each (h, w, 5), and where both are: float32 (h, w)."""
        grid = self._grid_matrix(inside)
        infrared, shown = self.infrared[index]
        size = shown.shape[::-1]
        warped = cv2.warpPerspective(features, grid, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
        both = cv2.warpPerspective(there, grid, size, flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP)
        return infrared, warped, both * shown

    def slope_of(
        self,
        index: int,
        features: np.ndarray,
        there: np.ndarray,
        inside: np.ndarray,
        model: Model,
        keep: np.ndarray | None = None,
    ) -> Slope:
        """One pair's score and its derivatives. keep: float32 (h, w), 0 where the infrared grid does not
        count.
        """
        infrared, visible, both = self.overlaid(index, features, there, inside)
        if keep is not None:
            both = both * keep
        count = PARAMETERS[model]
        if both.sum() < FEWEST_PIXELS:
            return Slope(-1.0, np.zeros(count), np.zeros((count, count)))
        energy = [float(_dot(image, image).ravel() @ both.ravel()) for image in (infrared, visible)]
        if min(energy) <= 0:
            return Slope(0.0, np.zeros(count), np.zeros((count, count)))
        a, b = infrared / float(np.sqrt(energy[0])), visible / float(np.sqrt(energy[1]))
        score = float(_dot(a, b).ravel() @ both.ravel())
        x, y = self.differences(b)
        rest = a - score * b
        pull = np.stack([_dot(rest, x), _dot(rest, y)], -1) * both[..., None]
        own = np.stack([_dot(b, x), _dot(b, y)], -1) * both[..., None]
        tensor = np.empty((*both.shape, 2, 2), np.float32)
        tensor[..., 0, 0] = _dot(x, x) * both
        tensor[..., 1, 1] = _dot(y, y) * both
        tensor[..., 0, 1] = tensor[..., 1, 0] = _dot(x, y) * both
        ways = self.ways(model)
        flat = ways.reshape(-1, count)
        gradient = flat.T.astype(np.float64) @ pull.reshape(-1).astype(np.float64)
        length = flat.T.astype(np.float64) @ own.reshape(-1).astype(np.float64)
        square = flat.T @ (tensor @ ways).reshape(-1, count)
        curvature = max(score, _LEAST_SCORE) * (square.astype(np.float64) - np.outer(length, length))
        return Slope(score, gradient, curvature)

    def differences(self, features: np.ndarray) -> list[np.ndarray]:
        return [
            cv2.Sobel(features, cv2.CV_32F, *way, ksize=3, scale=self._grid_per_unit / 8)
            for way in ((1, 0), (0, 1))
        ]

    def _grid_matrix(self, inside: np.ndarray) -> np.ndarray:
        """From grid points to those of features with a margin, through a small way in unit coordinates."""
        first = (self.step - 1) / 2
        to_small = np.array([[self.step, 0, first], [0, self.step, first], [0, 0, 1.0]])
        wider = shifted(self.margin, self.margin)
        around = self.unit_to_small @ inside @ np.linalg.inv(self.unit_to_small)
        return np.linalg.inv(to_small) @ wider @ around @ to_small


def _dot(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The sum over channels of a product, (h, w)."""
    return np.einsum("hwc,hwc->hw", first, second)


def _pixels_per_pixel(matrix: np.ndarray, size: Size) -> float:
    """How many pixels of the target, along a side, one of the source covers in the picture's middle."""
    middle = np.array([(size[1] - 1) / 2, (size[0] - 1) / 2])
    right, down = (
        transform(matrix, middle + away) - transform(matrix, middle - away)
        for away in (np.array([0.5, 0.0]), np.array([0.0, 0.5]))
    )
    return float(np.sqrt(max(abs(right[0] * down[1] - right[1] * down[0]), 1e-6)))
