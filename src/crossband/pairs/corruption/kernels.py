"""Blurs, means and random fields that corruptions are made of, in the same bits on every machine.

The order in which a filter adds its products depends on the processor, and so does the last digit of a sum of
fractions. Here images and weights are whole numbers of 22 bits each: every sum stays below 2 ** 53, up to
which float64 holds all whole numbers, so that every order gives the same one.
"""

from __future__ import annotations

import math
from functools import cache

import cv2
import numpy as np

from crossband.pairs.corruption.curves import decay
from crossband.pairs.corruption.interpolation import going_round, on_grid
from crossband.pairs.scenes.sensor import pattern_tile

_UNIT = 2.0**22


def direction(angle: float) -> tuple[float, float]:
    """Cosine and sine, rounded to float32: what machines compute differently is far below that."""
    return float(np.float32(math.cos(angle))), float(np.float32(math.sin(angle)))


def exact_mean(image: np.ndarray) -> float:
    """The mean of an image float32 in [0, 1], in steps of 2 ** -24: a sum of whole numbers."""
    return int(np.rint(image * 2.0**24).sum(dtype=np.int64)) / (2**24 * image.size)


def line_blur(image: np.ndarray, length: float, angle: float) -> np.ndarray:
    """The mean along a line of ``length`` pixels at ``angle`` (radians, from the x axis), edges repeated.

    image: float32 (H, W) or (H, W, 3) in [0, 1], and so is the result.
    """
    reach = max(1, math.ceil(length / 2))
    weights = np.zeros((2 * reach + 1, 2 * reach + 1))
    steps = np.linspace(-length / 2, length / 2, 8 * reach + 1)
    across, down = direction(angle)
    _add_points(weights, reach + steps * down, reach + steps * across)
    return _filtered(image, weights)


def disk_blur(image: np.ndarray, radius: float) -> np.ndarray:
    """The mean over a disk of ``radius`` pixels, whose rim is weighed by how much of a pixel it covers.

    image: float32 (H, W) or (H, W, 3) in [0, 1], and so is the result.
    """
    reach = max(1, math.ceil(radius))
    squares = np.arange(-reach, reach + 1) ** 2
    return _filtered(image, np.clip(radius + 0.5 - np.sqrt(squares[:, None] + squares[None]), 0, 1))


def gaussian_blur(image: np.ndarray, deviation: float) -> np.ndarray:
    """The Gaussian mean with a deviation of that many pixels, cut off at 4 deviations, edges repeated.

    image: float32 (H, W) in [0, 1], and so is the result.
    """
    reach = round(8 * deviation + 1) // 2
    weights = decay(np.arange(-reach, reach + 1) ** 2 / (2 * deviation**2))
    return _filtered(_filtered(image, weights[None]), weights[:, None])


def smooth_field(size: tuple[int, int], scale: float, rng: np.random.Generator) -> np.ndarray:
    """Cloudy noise of mean about 0 and deviation about 1, float32 ``size``.

    scale: how coarse it is, as a share of the image's height.
    """
    tile = _tile()
    step = np.float32(24 / max(1.0, scale * size[0]))
    across, down = rng.integers(0, tile.shape[0], size=2).astype(np.float32)
    rows, columns = (np.arange(n, dtype=np.float32) * step for n in size)
    return on_grid(
        tile, going_round(rows + down, tile.shape[0]), going_round(columns + across, tile.shape[1])
    )


def patches(size: tuple[int, int], share: float, scale: float, rng: np.random.Generator) -> np.ndarray:
    """Random blobs that cover a share of the picture, bool ``size``."""
    field = smooth_field(size, scale, rng)
    bare = int((1 - share) * (field.size - 1))
    return field > np.partition(field, bare, axis=None)[bare]


@cache
def _tile() -> np.ndarray:
    """The scenes' pattern in steps of 2 ** -20, float32 (512, 512).

    It comes from a Fourier transform, which machines compute with differences of some 3e-15. All get the
    same steps, as no value comes out on another step for less than 3e-13.
    """
    return np.rint(pattern_tile() * 2.0**20) / 2.0**20


def _add_points(weights: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> None:
    """Add points between pixels to the four around each, by their distances."""
    top, left = np.floor(rows).astype(int), np.floor(columns).astype(int)
    down, right = rows - top, columns - left
    limit = weights.shape[0] - 1
    for y, x, weight in (
        (top, left, (1 - down) * (1 - right)),
        (top, left + 1, (1 - down) * right),
        (top + 1, left, down * (1 - right)),
        (top + 1, left + 1, down * right),
    ):
        np.add.at(weights, (np.clip(y, 0, limit), np.clip(x, 0, limit)), weight)


def _filtered(image: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The mean under a window of weights, edges repeated, float32; image: float32 in [0, 1]."""
    whole_weights = np.rint(weights * (_UNIT / math.fsum(weights.flat)))
    whole_image = np.rint(image * _UNIT).astype(np.float64)
    # Many weights go through a Fourier transform, which is off by about a hundredth of a whole number.
    sums = np.rint(cv2.filter2D(whole_image, -1, whole_weights, borderType=cv2.BORDER_REPLICATE))
    return (sums / (whole_weights.sum() * _UNIT)).astype(np.float32)
