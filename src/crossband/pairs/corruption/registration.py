"""What goes wrong between two cameras: the infrared image no longer lies on the visible one.

Labels are drawn on the visible image, and stay. Images are float32 (H, W) in [0, 1], in and out; what comes
from outside repeats the edge.
"""

from __future__ import annotations

import math

import cv2
import numpy as np


def shift(image: np.ndarray, length: float, rng: np.random.Generator) -> np.ndarray:
    """Moved by a share of the height, in a random direction."""
    angle = 2 * math.pi * rng.random()
    step = length * image.shape[0]
    return _warped(
        image, np.array([[1, 0, step * math.cos(angle)], [0, 1, step * math.sin(angle)], [0, 0, 1]])
    )


def homography(image: np.ndarray, reach: float, rng: np.random.Generator) -> np.ndarray:
    """Each corner moved by up to a share of the sides, on its own."""
    height, width = image.shape
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    moved = corners + reach * (2 * rng.random((4, 2)) - 1) * [width, height]
    return _warped(image, cv2.getPerspectiveTransform(corners, moved.astype(np.float32)))


def scale(image: np.ndarray, growth: float, rng: np.random.Generator) -> np.ndarray:
    """Enlarged or made smaller about the middle, by a share."""
    factor = 1 + growth if rng.random() < 0.5 else 1 / (1 + growth)
    y, x = (image.shape[0] - 1) / 2, (image.shape[1] - 1) / 2
    return _warped(image, np.array([[factor, 0, x - factor * x], [0, factor, y - factor * y], [0, 0, 1]]))


def _warped(image: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    return cv2.warpPerspective(
        image,
        matrix,
        image.shape[::-1],
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
