"""What one camera of a rig saw, as the other would have seen it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from crossband.rig.geometry import Size, transform
from crossband.rig.rig import Rig
from crossband.words import Band

_AWAY = -1e6
"""The coordinate of what the other camera has behind it."""
_FINE = 1.4
"""Pixels of the source to one of the result, from which on the source is made smaller first."""


@dataclass(frozen=True)
class Warp:
    """For each pixel of one camera, where the other camera has it.

    x, y: float32 (H, W), in pixels of the other one. valid: bool (H, W), whether it lies within its picture.
    pixels: how many of its pixels, along a side, one covers in the middle.
    """

    x: np.ndarray
    y: np.ndarray
    valid: np.ndarray
    pixels: float


@lru_cache(maxsize=4)
def warp_of(rig: Rig, band: Band) -> Warp:
    """The way that brings pictures of a band into the other band's frame, which itself stays as it is.

    Through both lenses where the rig has them: a frame is the camera's own picture, with its distortion.
    """
    frame: Band = "infrared" if band == "visible" else "visible"
    height, width = rig.size(frame)
    rows, columns = np.mgrid[:height, :width]
    points = np.stack([columns.ravel(), rows.ravel()], 1).astype(np.float64)
    here, there = rig.lens(frame), rig.lens(band)
    if here is not None:
        points = here.straightened(points)
    matrix = rig.matrix if band == "visible" else np.linalg.inv(rig.matrix)
    # Of the side on which the middle of the infrared picture lies.
    ahead = points @ matrix[2, :2] + matrix[2, 2]
    middle = _middle(rig, frame) @ matrix[2] > 0
    points = transform(matrix, points)
    points[(ahead > 0) != middle] = _AWAY
    points = np.nan_to_num(points, nan=_AWAY, posinf=_AWAY, neginf=_AWAY)
    if there is not None:
        points = _bent_near(there.bent, points, rig.size(band))
    x, y = (points[:, side].reshape(height, width).astype(np.float32) for side in (0, 1))
    limits = rig.size(band)
    valid = (x >= -0.5) & (x <= limits[1] - 0.5) & (y >= -0.5) & (y <= limits[0] - 0.5)
    across = np.hypot(*(np.diff(part, axis=1)[height // 2, width // 2 - 1] for part in (x, y)))
    down = np.hypot(*(np.diff(part, axis=0)[height // 2 - 1, width // 2] for part in (x, y)))
    return Warp(x, y, valid, float(np.sqrt(across * down)))


def _middle(rig: Rig, frame: Band) -> np.ndarray:
    """A point of the frame that both cameras see: the middle of the infrared picture."""
    height, width = rig.infrared_size
    point = np.array([(width - 1) / 2, (height - 1) / 2])
    if frame == "visible":
        point = transform(rig.matrix, point)
    return np.append(point, 1.0)


def _bent_near(bend: Callable[[np.ndarray], np.ndarray], points: np.ndarray, size: Size) -> np.ndarray:
    """Points through a lens; those far outside the picture stay there, where polynomials fold back."""
    near = (np.abs(points / [size[1], size[0]] - 0.5) < 0.75).all(axis=1)
    bent = np.full_like(points, _AWAY)
    bent[near] = bend(points[near])
    return bent


def warped(image: np.ndarray, warp: Warp) -> np.ndarray:
    """An image of floats, (h, w) or (h, w, 3), in the other camera's frame; its edge repeats outside of it.

    Bilinear, after a mean over areas where the result has fewer pixels.
    """
    x, y = warp.x, warp.y
    if warp.pixels > _FINE:
        height, width = image.shape[:2]
        size = max(round(width / warp.pixels), 1), max(round(height / warp.pixels), 1)
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        x, y = (
            (part + 0.5) * (after / before) - 0.5
            for part, after, before in zip((x, y), size, (width, height), strict=True)
        )
    moved = cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    # Interpolation may leave [0, 1] by a rounding error.
    return np.clip(moved, image.min(), image.max())


def warped_label(label: np.ndarray, warp: Warp, outside: int) -> np.ndarray:
    """A label of class ids, (h, w), in the other camera's frame: nearest neighbour, ``outside`` beyond it."""
    moved = cv2.remap(
        label, warp.x, warp.y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT, borderValue=outside
    )
    return np.where(warp.valid, moved, outside).astype(label.dtype)
