"""Points, corners and homographies. A point is (x, y): x to the right, y down, pixel centres at integers."""

from __future__ import annotations

from typing import Literal

import numpy as np

from crossband.errors import OptionError, quoted

Model = Literal["shift", "affine", "homography"]
PARAMETERS: dict[str, int] = {"shift": 2, "affine": 6, "homography": 8}
"""Free numbers of each model; half as many points are the fewest that settle it."""

Size = tuple[int, int]
"""(height, width) in pixels."""


def transform(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points (..., 2) through a homography (3, 3); infinite where it sends a point to infinity."""
    moved = points @ matrix[:, :2].T + matrix[:, 2]
    with np.errstate(divide="ignore", invalid="ignore"):
        return moved[..., :2] / moved[..., 2:]


def corners(size: Size) -> np.ndarray:
    """The centres of the four corner pixels of a picture, clockwise from the top left: (4, 2)."""
    right, bottom = size[1] - 1.0, size[0] - 1.0
    return np.array([[0.0, 0.0], [right, 0.0], [right, bottom], [0.0, bottom]])


def shifted(x: float, y: float) -> np.ndarray:
    return np.array([[1.0, 0.0, x], [0.0, 1.0, y], [0.0, 0.0, 1.0]])


def resized(before: Size, after: Size) -> np.ndarray:
    """From the pixels of a picture to those of the same picture at another size: their areas agree."""
    y, x = after[0] / before[0], after[1] / before[1]
    return np.array([[x, 0.0, (x - 1) / 2], [0.0, y, (y - 1) / 2], [0.0, 0.0, 1.0]])


def normalised(matrix: np.ndarray) -> np.ndarray:
    """The same homography with 1 in its last place."""
    return matrix / matrix[2, 2]


def small_step(step: np.ndarray) -> np.ndarray:
    """The homography of a few small numbers, 0 being the identity: 2 (shift), 6 (affine) or 8."""
    full = np.zeros(9)
    if len(step) == 2:
        full[[2, 5]] = step
    else:
        full[: len(step)] = step
    return np.eye(3) + full.reshape(3, 3)


def is_sound(matrix: np.ndarray, size: Size) -> bool:
    """Whether a homography keeps a picture whole: no corner behind the camera, no side turned over."""
    if not np.isfinite(matrix).all():
        return False
    depth = corners(size) @ matrix[2, :2] + matrix[2, 2]
    if not (depth > 1e-3 * np.abs(depth).max()).all():
        return False
    around = transform(matrix, corners(size))
    sides = np.roll(around, -1, axis=0) - around
    turned = sides[:, 0] * np.roll(sides[:, 1], -1) - sides[:, 1] * np.roll(sides[:, 0], -1)
    return bool((turned > 0).all())


def distortion(matrix: np.ndarray, size: Size) -> float:
    """How far a homography is from a turn, zoom and shift: at the corners, as a share of the width."""
    here, there = corners(size), transform(matrix, corners(size))
    similar = fit_similarity(here, there)
    zoom = np.sqrt(abs(np.linalg.det(similar[:2, :2])))
    off = np.linalg.norm(transform(similar, here) - there, axis=1).max()
    return float(off / max(zoom * max(size), 1e-9))


def fit_similarity(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The turn, zoom and shift that takes source points nearest to target points, by least squares."""
    a, b = source - source.mean(axis=0), target - target.mean(axis=0)
    length = max(float((a * a).sum()), 1e-12)
    cosine = float((a * b).sum()) / length
    sine = float((a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum()) / length
    matrix = np.array([[cosine, -sine, 0.0], [sine, cosine, 0.0], [0.0, 0.0, 1.0]])
    matrix[:2, 2] = target.mean(axis=0) - matrix[:2, :2] @ source.mean(axis=0)
    return matrix


def fit_points(source: np.ndarray, target: np.ndarray, model: Model) -> np.ndarray:
    """The homography of a model that takes source points (N, 2) nearest to target points, least squares.

    A homography is fitted by Gauss-Newton on the distances in the target, from the linear solution in
    normalised coordinates (Hartley 1997). OpenCV's ``findHomography`` does the same on points rounded
    to 32 bits, and stops early: 0.08 pixels away at the corners of 4000 x 4000 (`python speed/rig.py
    fit`). Raises OptionError for too few points, or points on one line.
    """
    needed = PARAMETERS[model] // 2
    if len(source) < needed:
        raise OptionError(f"{len(source)} points, but a model {quoted(model)} needs {needed} or more")
    if model == "shift":
        return shifted(*(target - source).mean(axis=0))
    if np.linalg.matrix_rank(source - source.mean(axis=0), tol=1e-6 * np.abs(source).max()) < 2:
        raise OptionError("the points lie on one line; pick some beside it")
    before, after = _conditioner(source), _conditioner(target)
    a, b = transform(before, source), transform(after, target)
    if model == "affine":
        rows = np.c_[a, np.ones(len(a))]
        matrix = np.vstack([np.linalg.lstsq(rows, b, rcond=None)[0].T, [0.0, 0.0, 1.0]])
    else:
        matrix = _fit_homography(a, b)
    return normalised(np.linalg.inv(after) @ matrix @ before)


def _conditioner(points: np.ndarray) -> np.ndarray:
    """Shift and zoom to a mean of 0 and a mean distance of the square root of 2."""
    centre = points.mean(axis=0)
    spread = max(float(np.linalg.norm(points - centre, axis=1).mean()), 1e-9)
    zoom = np.sqrt(2) / spread
    return np.array([[zoom, 0.0, -zoom * centre[0]], [0.0, zoom, -zoom * centre[1]], [0.0, 0.0, 1.0]])


def _fit_homography(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    ones, zeros = np.ones((len(a), 1)), np.zeros((len(a), 3))
    first = np.c_[a, ones, zeros, -b[:, :1] * a, -b[:, :1]]
    second = np.c_[zeros, a, ones, -b[:, 1:] * a, -b[:, 1:]]
    matrix = np.linalg.svd(np.vstack([first, second]))[2][-1].reshape(3, 3)
    for _ in range(20):
        matrix = matrix / matrix.flat[np.abs(matrix).argmax()]
        moved = a @ matrix[:, :2].T + matrix[:, 2]
        x, y, w = moved.T
        slope = np.zeros((2 * len(a), 9))
        point = np.c_[a, ones] / w[:, None]
        slope[0::2, 0:3], slope[1::2, 3:6] = point, point
        slope[0::2, 6:], slope[1::2, 6:] = -point * (x / w)[:, None], -point * (y / w)[:, None]
        rest = (b - moved[:, :2] / w[:, None]).ravel()
        step = np.linalg.lstsq(slope, rest, rcond=None)[0]
        matrix = matrix + step.reshape(3, 3)
        if np.abs(step).max() < 1e-12:
            break
    return matrix
