"""The camera, and the plane shapes that things are cut from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

SHIFT = 3
"""Bits after the point in polygon coordinates, as ``cv2.fillPoly(shift=...)`` takes them."""

_FARTHEST = 1 << 17
_TENTHS = np.linspace(0, 1, 10)
NEAREST = 0.4
"""Points nearer to the camera than this are moved there, in metres."""


@dataclass(frozen=True)
class Camera:
    """A pinhole camera in a street that may bend.

    size: (height, width) in pixels.
    focal: focal length in pixels.
    centre, horizon: column and row of the vanishing point.
    height, x: where the camera is, in metres above the road and right of its middle.
    bend: the street's curvature: its middle lies at ``bend * z**2``.
    """

    size: tuple[int, int]
    focal: float
    centre: float
    horizon: float
    height: float
    x: float
    bend: float

    def project(self, points: np.ndarray) -> np.ndarray:
        """World points (..., 3) in metres to image points (..., 2) as (column, row)."""
        z = np.maximum(points[..., 2], NEAREST)
        scale = self.focal / z
        image = np.empty((*points.shape[:-1], 2))
        image[..., 0] = self.centre + scale * (points[..., 0] + self.bend * z * z - self.x)
        image[..., 1] = self.horizon + scale * (self.height - points[..., 1])
        return image

    def inverse_depths(self, bases: np.ndarray) -> np.ndarray:
        """Coefficients (n, 2) of what upright planes above ground points (n, 4) have as inverse depth.

        The inverse depth, in 1/m, of a plane is linear in the image: at column u, ``a * u + c``.
        """
        ends = np.zeros((len(bases), 2, 3))
        ends[..., 0], ends[..., 2] = bases[:, 0::2], bases[:, 1::2]
        column = self.project(ends)[..., 0]
        near, far = 1 / np.maximum(bases[:, 1], NEAREST), 1 / np.maximum(bases[:, 3], NEAREST)
        run = column[:, 1] - column[:, 0]
        edge_on = np.abs(run) < 1e-6
        slope = np.where(edge_on, 0.0, (far - near) / np.where(edge_on, 1.0, run))
        return np.stack([slope, near - slope * column[:, 0]], axis=1)


def fixed_point(image_points: np.ndarray) -> np.ndarray:
    """Image points as the int32 fixed-point numbers that OpenCV's drawing takes."""
    scaled = np.rint(image_points * (1 << SHIFT))
    return np.clip(scaled, -_FARTHEST, _FARTHEST).astype(np.int32)


def standing(x: float, z: float, shapes: np.ndarray) -> np.ndarray:
    """Shapes (n, k, 2) in metres (right, up) as (n, k, 3) on an upright plane that faces the camera."""
    placed = np.empty((*shapes.shape[:2], 3))
    placed[..., 0] = shapes[..., 0] + x
    placed[..., 1] = shapes[..., 1]
    placed[..., 2] = z
    return placed


def strips(left: np.ndarray, right: np.ndarray, near: np.ndarray, far: np.ndarray) -> np.ndarray:
    """Pieces of the ground along the street, fine enough to follow its bend: (n, 20, 3) in metres."""
    near, far = np.asarray(near, dtype=float)[:, None], np.asarray(far, dtype=float)[:, None]
    z = near * (far / near) ** _TENTHS
    points = np.zeros((len(z), 20, 3))
    points[:, :10, 0] = np.asarray(left, dtype=float)[:, None]
    points[:, 10:, 0] = np.asarray(right, dtype=float)[:, None]
    points[:, :10, 2] = z
    points[:, 10:, 2] = z[:, ::-1]
    return points


def capsules(limbs: np.ndarray) -> np.ndarray:
    """Limbs (n, 6) as (x0, y0, x1, y1, radius0, radius1) to octagons (n, 8, 2).

    An octagon is a thick line with round ends.
    """
    start, end = limbs[:, 0:2], limbs[:, 2:4]
    along = end - start
    along = along / np.maximum(np.hypot(along[:, :1], along[:, 1:]), 1e-9)
    across = np.stack([-along[:, 1], along[:, 0]], axis=1)
    r0, r1 = limbs[:, 4:5], limbs[:, 5:6]
    return np.stack(
        [
            start + across * r0,
            start - (along - 0.5 * across) * r0 * 0.85,
            start - (along + 0.5 * across) * r0 * 0.85,
            start - across * r0,
            end - across * r1,
            end + (along - 0.5 * across) * r1 * 0.85,
            end + (along + 0.5 * across) * r1 * 0.85,
            end + across * r1,
        ],
        axis=1,
    )


def circles(centres: np.ndarray, radii: np.ndarray, corners: int = 14) -> np.ndarray:
    """Centres (n, 2) and radii (n, 2) across and up to polygons (n, corners, 2)."""
    return centres[:, None] + radii[:, None] * _unit_circle(corners)


@cache
def _unit_circle(corners: int) -> np.ndarray:
    angle = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def rectangle(left: float, bottom: float, right: float, top: float) -> np.ndarray:
    """One upright rectangle as shapes (1, 4, 2)."""
    return np.array([[(left, bottom), (right, bottom), (right, top), (left, top)]])
