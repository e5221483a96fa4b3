"""What goes wrong between two cameras: the infrared image no longer lies on the visible one.

Labels are drawn on the visible image, and stay. Images are float32 (H, W) in [0, 1], in and out; what comes
from outside repeats the edge.
"""

from __future__ import annotations

import math

import numpy as np

from crossband.pairs.corruption.interpolation import at_points, on_grid, repeating_edges
from crossband.pairs.corruption.kernels import direction

_LINES = 16
"""Lines at a time: what is computed stays in the processor's cache, which takes a quarter of the time."""


def shift(image: np.ndarray, length: float, rng: np.random.Generator) -> np.ndarray:
    """Moved by a share of the height, in a random direction."""
    across, down = direction(2 * math.pi * rng.random())
    step = length * image.shape[0]
    rows, columns = (np.arange(n) - step * part for n, part in zip(image.shape, (down, across), strict=True))
    return _on_grid(image, rows, columns)


def homography(image: np.ndarray, reach: float, rng: np.random.Generator) -> np.ndarray:
    """Each corner moved by up to a share of the sides, on its own."""
    height, width = image.shape
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    moved = (corners + reach * (2 * rng.random((4, 2)) - 1) * [width, height]).astype(np.float32)
    (a, b, c), (d, e, f), (g, h, i) = _onto_unit_square(moved.tolist())
    x = np.arange(width, dtype=np.float64)

    def lines(start: int) -> np.ndarray:
        y = np.arange(start, min(start + _LINES, height), dtype=np.float64)[:, None]
        below = g * x + (h * y + i)
        columns = width * (a * x + (b * y + c)) / below
        rows = height * (d * x + (e * y + f)) / below
        return at_points(image, repeating_edges(rows, height), repeating_edges(columns, width))

    return np.concatenate([lines(start) for start in range(0, height, _LINES)])


def scale(image: np.ndarray, growth: float, rng: np.random.Generator) -> np.ndarray:
    """Enlarged or made smaller about the middle, by a share."""
    factor = 1 + growth if rng.random() < 0.5 else 1 / (1 + growth)
    rows, columns = ((np.arange(n) - (n - 1) / 2) / factor + (n - 1) / 2 for n in image.shape)
    return _on_grid(image, rows, columns)


def _on_grid(image: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    height, width = image.shape
    return on_grid(image, repeating_edges(rows, height), repeating_edges(columns, width))


def _onto_unit_square(corners: list[list[float]]) -> tuple[tuple[float, float, float], ...]:
    """The homography, up to a factor, that maps four corners (x, y) to (0, 0), (1, 0), (1, 1) and (0, 1).

    Heckbert (1989), section 2.2.3: the closed form of the square's map to the corners, and its adjugate.
    """
    (x0, y0), (x1, y1), (x2, y2), (x3, y3) = corners
    right_x, right_y, left_x, left_y = x1 - x2, y1 - y2, x3 - x2, y3 - y2
    skew_x, skew_y = x0 - x1 + x2 - x3, y0 - y1 + y2 - y3
    area = right_x * left_y - left_x * right_y
    g = (skew_x * left_y - left_x * skew_y) / area
    h = (right_x * skew_y - skew_x * right_y) / area
    a, b, c = x1 - x0 + g * x1, x3 - x0 + h * x3, x0
    d, e, f = y1 - y0 + g * y1, y3 - y0 + h * y3, y0
    return (
        (e - f * h, c * h - b, b * f - c * e),
        (f * g - d, a - c * g, c * d - a * f),
        (d * h - e * g, b * g - a * h, a * e - b * d),
    )
