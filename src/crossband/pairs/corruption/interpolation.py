"""Bilinear interpolation by the four operations alone, in the same bits on every machine."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Neighbours:
    """The two samples of an axis around each position, and how far it is on the way from one to the other.

    lower, upper: places of samples, int (N,) or of any other shape.
    share: 0 at the lower one, 1 at the upper one, float32 of their shape.
    """

    lower: np.ndarray
    upper: np.ndarray
    share: np.ndarray


def repeating_edges(positions: np.ndarray, count: int) -> Neighbours:
    """The neighbours of positions (in samples, from 0) on an axis of ``count``, whose ends go on outside."""
    inside = np.clip(positions, 0, count - 1)
    lower = inside.astype(np.intp)
    return Neighbours(lower, np.minimum(lower + 1, count - 1), (inside - lower).astype(np.float32))


def going_round(positions: np.ndarray, count: int) -> Neighbours:
    """The neighbours of positions (in samples, 0 or more) on an axis that begins anew after ``count``."""
    lower = positions.astype(np.intp)
    return Neighbours(lower % count, (lower + 1) % count, (positions - lower).astype(np.float32))


def on_grid(image: np.ndarray, rows: Neighbours, columns: Neighbours) -> np.ndarray:
    """An image float32 (H, W) where each of R rows meets each of C columns: float32 (R, C)."""
    lines = _between(image[rows.lower], image[rows.upper], rows.share[:, None])
    return _between(lines.take(columns.lower, axis=1), lines.take(columns.upper, axis=1), columns.share)


def at_points(image: np.ndarray, rows: Neighbours, columns: Neighbours) -> np.ndarray:
    """An image float32 (H, W) at points, whose rows and columns have one shape: float32 of that shape."""
    flat = np.ascontiguousarray(image).reshape(-1)
    above, below = rows.lower * image.shape[1], rows.upper * image.shape[1]
    return _between(
        _between(flat.take(above + columns.lower), flat.take(above + columns.upper), columns.share),
        _between(flat.take(below + columns.lower), flat.take(below + columns.upper), columns.share),
        rows.share,
    )


def _between(lower: np.ndarray, upper: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Fresh arrays ``lower`` and ``upper``, mixed; both are used up."""
    upper -= lower
    upper *= share
    upper += lower
    return upper
