"""Blurs and random fields that corruptions are made of."""

from __future__ import annotations

import math

import cv2
import numpy as np

from crossband.pairs.scenes.sensor import pattern_at


def direction(angle: float) -> tuple[float, float]:
    """Cosine and sine, rounded to float32: what machines compute differently is far below that."""
    return float(np.float32(math.cos(angle))), float(np.float32(math.sin(angle)))


def line_blur(image: np.ndarray, length: float, angle: float) -> np.ndarray:
    """The mean along a line of ``length`` pixels at ``angle`` (radians, from the x axis), edges repeated."""
    reach = max(1, math.ceil(length / 2))
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1), np.float32)
    steps = np.linspace(-length / 2, length / 2, 8 * reach + 1)
    _add_points(kernel, reach + steps * math.sin(angle), reach + steps * math.cos(angle))
    return _filtered(image, kernel)


def disk_blur(image: np.ndarray, radius: float) -> np.ndarray:
    """The mean over a disk of ``radius`` pixels, whose rim is weighed by how much of a pixel it covers."""
    reach = max(1, math.ceil(radius))
    offsets = np.arange(-reach, reach + 1)
    kernel = np.clip(radius + 0.5 - np.hypot(offsets[:, None], offsets[None]), 0, 1)
    return _filtered(image, kernel.astype(np.float32))


def smooth_field(size: tuple[int, int], scale: float, rng: np.random.Generator) -> np.ndarray:
    """Cloudy noise of mean about 0 and deviation about 1, float32 ``size``.

    scale: how coarse it is, as a share of the image's height.
    """
    step = 24 / max(1.0, scale * size[0])
    rows, columns = np.indices(size, dtype=np.float32) * step
    return pattern_at(columns, rows, rng)


def patches(size: tuple[int, int], share: float, scale: float, rng: np.random.Generator) -> np.ndarray:
    """Random blobs that cover a share of the picture, bool ``size``."""
    field = smooth_field(size, scale, rng)
    return field > np.quantile(field, 1 - share)


def _add_points(kernel: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> None:
    """Add points between pixels to the four around each, by their distances."""
    top, left = np.floor(rows).astype(int), np.floor(columns).astype(int)
    down, right = rows - top, columns - left
    limit = kernel.shape[0] - 1
    for y, x, weight in (
        (top, left, (1 - down) * (1 - right)),
        (top, left + 1, (1 - down) * right),
        (top + 1, left, down * (1 - right)),
        (top + 1, left + 1, down * right),
    ):
        np.add.at(kernel, (np.clip(y, 0, limit), np.clip(x, 0, limit)), weight)


def _filtered(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    return cv2.filter2D(image.astype(np.float32), -1, kernel / kernel.sum(), borderType=cv2.BORDER_REPLICATE)
