"""Points that both cameras show, picked by hand or found on a checkerboard, and the geometry they give."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from crossband.errors import OptionError, quoted
from crossband.rig.geometry import PARAMETERS, Model, Size, corners, fit_points, transform
from crossband.rig.resampling import jackknife_errors, median_interval, worst_corner
from crossband.text import semicolons_told

COLUMNS = ("visible_x", "visible_y", "infrared_x", "infrared_y")
SPARE_POINTS = 2
"""So many more than the model needs, without which nothing would tell how good they are."""
_MOST_BYTES = 1 << 24


@dataclass(frozen=True)
class PointFit:
    """A homography from infrared to visible pixels, by points.

    distances: (N,) in infrared pixels, of each point from where the homography puts it. interval: 95 %, of
    their median. corner_errors: (4,) the standard error of each corner of the infrared picture, in infrared
    pixels, by leaving out points.
    """

    homography: np.ndarray
    model: Model
    distances: np.ndarray
    interval: tuple[float, float]
    corner_errors: np.ndarray

    @property
    def residual(self) -> float:
        """The median distance in infrared pixels."""
        return float(np.median(self.distances))

    @property
    def uncertainty(self) -> float:
        """The bound of the worst corner in infrared pixels (`worst_corner`)."""
        return worst_corner(self.corner_errors, len(self.distances))


def read_points(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Points of the visible and of the infrared picture, (N, 2) each, from a CSV of one point a line.

    Its columns are ``visible_x,visible_y,infrared_x,infrared_y``, in this order where no header names them.
    Raises OptionError, naming the file and the line, for anything else.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise OptionError(f"{path}: more than {_MOST_BYTES >> 20} MiB of points; give some hundred")
        lines = list(csv.reader(path.read_text(encoding="utf-8-sig").splitlines(), skipinitialspace=True))
    except OSError as error:
        raise OptionError(f"{path}: cannot be read ({error.strerror}); correct the path") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise OptionError(f"{path}: is no CSV of points ({error})") from error
    order, named = [0, 1, 2, 3], False
    rows: list[list[float]] = []
    for number, line in enumerate(lines, start=1):
        if not line:
            continue
        if not rows and set(COLUMNS) <= set(line):
            order, named = [line.index(name) for name in COLUMNS], True
            continue
        try:
            if not named and any(line[len(COLUMNS) :]):
                raise ValueError
            rows.append([float(line[place]) for place in order])
        except (ValueError, IndexError):
            raise OptionError(
                f"{path}: line {number} is {quoted(','.join(line))}; write {','.join(COLUMNS)} as numbers"
                f"{semicolons_told(line)}"
            ) from None
    points = np.array(rows, float).reshape(-1, 4)
    if not np.isfinite(points).all():
        raise OptionError(f"{path}: a point is not finite; remove it")
    return points[:, :2], points[:, 2:]


def fit_point_pairs(visible: np.ndarray, infrared: np.ndarray, model: Model, size: Size) -> PointFit:
    """The geometry that points give. size: of the infrared picture.

    Distances in the visible picture are what is least, as its pixels are the finer ones. Raises OptionError
    for fewer points than the model needs and `SPARE_POINTS`, or points on one line.
    """
    needed = PARAMETERS[model] // 2 + SPARE_POINTS
    if len(visible) < needed:
        one = "an affine" if model == "affine" else f"a {model}"
        raise OptionError(
            f"{len(visible)} points are too few for {one}; give {needed} or more, spread over the picture"
        )
    homography = fit_points(infrared, visible, model)
    back = np.linalg.inv(homography)
    distances = np.linalg.norm(transform(back, visible) - infrared, axis=1)
    around = corners(size)
    moved = []
    for left_out in np.array_split(np.random.default_rng(0).permutation(len(visible)), min(len(visible), 40)):
        kept = np.setdiff1d(np.arange(len(visible)), left_out)
        moved.append(transform(back @ fit_points(infrared[kept], visible[kept], model), around))
    return PointFit(
        homography, model, distances, median_interval(distances), jackknife_errors(np.array(moved))
    )
