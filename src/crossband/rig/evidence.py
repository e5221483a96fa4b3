"""What speaks for a homography, beyond that it is the best one that was found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from crossband.rig.geometry import Model, corners, transform
from crossband.rig.refinement import Level, Slope
from crossband.rig.resampling import jackknife_errors, median_interval

FEWEST_PAIRS = 4
"""From so many pairs on, whole pairs are left out; below, blocks of the pictures."""

_BLOCKS = 4
_CELLS = (4, 5)
"""Rows and columns of the cells that are asked one by one."""
_WITHIN = 2.0
"""Grid steps within which a cell's own best shift agrees with the homography."""
_UNKNOWN = (float("nan"), float("nan"))

Seen = Sequence[tuple[np.ndarray, np.ndarray]]


def parts_of(pairs: int) -> int:
    """Of how many parts `corner_errors` leaves out each: the pairs, or the blocks of too few of them."""
    return pairs if pairs >= FEWEST_PAIRS else pairs * _BLOCKS**2


def corner_errors(level: Level, homography: np.ndarray, model: Model) -> np.ndarray:
    """How far each corner of the infrared picture may be off, (4,): its standard error in infrared pixels.

    The jackknife: one Gauss-Newton step from the homography for each pair that is left out, or for each block
    of a picture where there are fewer than `FEWEST_PAIRS`. Both directions together.
    """
    seen = [level.visible(index, homography, level.margin) for index in range(len(level.pairs))]
    parts = [level.slope_of(index, *features, np.eye(3), model) for index, features in enumerate(seen)]
    if len(parts) >= FEWEST_PAIRS:
        rests = [[other for other in parts if other is not part] for part in parts]
    else:
        rests = _without_blocks(level, seen, parts, model)
    around = corners(level.pairs[0][1].size)
    moved = []
    for rest in rests:
        curvature = np.sum([part.curvature for part in rest], axis=0)
        floor = 1e-6 * np.trace(curvature) * np.eye(len(curvature))
        step = np.linalg.solve(curvature + floor, np.sum([part.gradient for part in rest], axis=0))
        moved.append(transform(np.linalg.inv(homography) @ level.moved(homography, step), around))
    return jackknife_errors(np.array(moved))


def _without_blocks(level: Level, seen: Seen, parts: list[Slope], model: Model) -> list[list[Slope]]:
    rests = []
    for index, (features, there) in enumerate(seen):
        others = [part for other, part in enumerate(parts) if other != index]
        for block in np.ndindex(_BLOCKS, _BLOCKS):
            keep = np.ones(level.infrared[index][1].shape, np.float32)
            keep[_part(keep.shape, block, (_BLOCKS, _BLOCKS))] = 0
            rests.append([*others, level.slope_of(index, features, there, np.eye(3), model, keep)])
    return rests


def _part(shape: Sequence[int], place: Sequence[int], count: Sequence[int]) -> tuple[slice, slice]:
    rows, columns = (
        slice(number * length // parts, (number + 1) * length // parts)
        for length, number, parts in zip(shape, place, count, strict=True)
    )
    return rows, columns


@dataclass(frozen=True)
class Agreement:
    """Whether each cell of the infrared picture, by itself, lies best where the homography puts it.

    cells: those with something to see in both bands. share: of those, how many agree. residual: the median
    distance in infrared pixels by which a cell would move, and its 95 % interval. offsets: (cells, 2), x, y
    of each cell's best shift. tolerance: the longest offset that agrees. Both in infrared pixels.
    """

    cells: int
    share: float
    residual: float
    interval: tuple[float, float]
    offsets: np.ndarray
    tolerance: float


def local_agreement(level: Level, homography: np.ndarray, *, intervals: bool = True) -> Agreement:
    """Let every cell of the infrared picture look for itself around where a homography puts it.

    intervals: whether the residual's interval is wanted; it is NaN otherwise.
    """
    margin = level.margin // level.step
    width = 2 * margin + 1
    # (pairs, cells, height, width) of correlations; NaN where a pair shows nothing in a cell.
    surfaces = np.full((len(level.pairs), _CELLS[0] * _CELLS[1], width, width), np.nan, np.float32)
    for index in range(len(level.pairs)):
        features, there = level.visible(index, homography, level.margin)
        infrared, shown = level.infrared[index]
        for number, cell in enumerate(np.ndindex(*_CELLS)):
            part = _part(shown.shape, cell, _CELLS)
            around = tuple(slice(side.start, side.stop + 2 * margin) for side in part)
            surface = _shift_scores(infrared[part], shown[part], features[around], there[around])
            if surface is not None:
                surfaces[index, number] = surface
    used = np.flatnonzero(~np.isnan(surfaces[:, :, 0, 0]).all(axis=0))
    surfaces = surfaces[:, used]
    pixel = level.step / level.to_small[0, 0]
    offsets = _best_shifts(surfaces) * pixel
    distances = np.linalg.norm(offsets, axis=1)
    return Agreement(
        cells=len(used),
        share=float((distances <= _WITHIN * pixel).mean()) if len(used) else 0.0,
        residual=float(np.median(distances)) if len(used) else float("nan"),
        interval=_interval(surfaces, distances, pixel) if len(used) and intervals else _UNKNOWN,
        offsets=offsets,
        tolerance=_WITHIN * pixel,
    )


def _interval(surfaces: np.ndarray, distances: np.ndarray, pixel: float) -> tuple[float, float]:
    """The 95 % interval of the median distance: pairs drawn anew, or cells where the pairs are few."""
    if len(surfaces) < FEWEST_PAIRS:
        return median_interval(distances)

    def of_pairs(drawn: np.ndarray) -> np.ndarray:
        seen = surfaces[drawn]
        seen = seen[:, ~np.isnan(seen[:, :, 0, 0]).all(axis=0)]
        return np.linalg.norm(_best_shifts(seen), axis=1) * pixel

    return median_interval(np.arange(len(surfaces)), of_pairs)


def _best_shifts(surfaces: np.ndarray) -> np.ndarray:
    """x, y of the best shift of each cell in grid steps, (cells, 2), to a fraction of one by parabolas."""
    summed = np.nansum(surfaces, axis=0)
    middle = summed.shape[-1] // 2
    found = []
    for surface in summed:
        row, column = (int(part) for part in np.unravel_index(np.argmax(surface), surface.shape))
        x = column - middle + _vertex(surface[row], column)
        found.append((x, row - middle + _vertex(surface[:, column], row)))
    return np.array(found, float).reshape(-1, 2)


def _vertex(line: np.ndarray, place: int) -> float:
    """Where the parabola through the highest value and its neighbours has its top, from that value on."""
    if not 0 < place < len(line) - 1:
        return 0.0
    left, top, right = (float(line[place + away]) for away in (-1, 0, 1))
    bend = left - 2 * top + right
    return 0.5 * (left - right) / bend if bend < 0 else 0.0


def _shift_scores(
    small: np.ndarray, small_there: np.ndarray, large: np.ndarray, large_there: np.ndarray
) -> np.ndarray | None:
    """Correlation of a cell at each place of a larger part; None where either shows too little."""
    margin = (large.shape[0] - small.shape[0]) // 2
    middle = large_there[margin : margin + small.shape[0], margin : margin + small.shape[1]]
    if (small_there * middle).mean() < 0.5:
        return None
    masked = small * small_there[..., None]
    energy = float((masked * masked).sum())
    if energy <= 0:
        return None
    product = sum(
        cv2.matchTemplate(a, b, cv2.TM_CCORR)
        for a, b in zip(cv2.split(large), cv2.split(masked), strict=True)
    )
    square = np.einsum("hwc,hwc->hw", large, large)
    other = cv2.matchTemplate(square, np.ascontiguousarray(small_there), cv2.TM_CCORR)
    overlap = cv2.matchTemplate(large_there, np.ascontiguousarray(small_there), cv2.TM_CCORR)
    scores = product / np.sqrt(energy * np.maximum(other, 1e-2 * energy))
    return np.where(overlap > 0.5 * small_there.sum(), scores, 0)
