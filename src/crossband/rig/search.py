"""Rough guesses without a start: zooms and turns in a range, and every shift by Fourier transforms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from crossband.rig.features import Picture, edge_features
from crossband.rig.geometry import Size, corners, normalised, shifted, transform
from crossband.rig.refinement import PicturePair

_ZOOMS = tuple(float(zoom) for zoom in np.exp(np.arange(np.log(0.3), np.log(1.5), np.log(1.13))))
"""The width that the infrared camera sees, as a share of what the visible one sees."""
_TURNS = (-16.0, -8.0, 0.0, 8.0, 16.0)
"""In degrees."""

_WIDTH = 320
_GRID = 64
"""Longer side of the infrared picture in pixels, and in pooled features."""
_LEAST_OVERLAP = 0.3
_PEAKS = 3
_MOST = 24


@dataclass(frozen=True)
class Guess:
    """A homography from infrared to visible pixels, and the correlation that speaks for it."""

    score: float
    homography: np.ndarray


def rough_guesses(pairs: Sequence[PicturePair]) -> list[Guess]:
    """The likeliest similarities (zoom, turn, shift), best first, up to 24, those near a better one left out.

    pairs: of one rig, all of one size per band; their correlations are added up.
    """
    visible_size, infrared_size = pairs[0][0].size, pairs[0][1].size
    small = min(_WIDTH / max(infrared_size), 1.0)
    step = max(1, round(small * max(infrared_size) / _GRID))
    infrared = [_grid_features(ir, small, np.eye(3), ir.at(small)[0].shape, step) for _, ir in pairs]
    to_small = pairs[0][1].at(small)[2]
    guesses: list[Guess] = []
    for zoom in _ZOOMS:
        # Visible pixels to those of the small infrared picture.
        shrink = small * infrared_size[1] / (zoom * visible_size[1])
        if shrink * max(visible_size) < 12 * step:
            continue
        from_small, size = _shrunk(visible_size, shrink, step)
        visible = [_grid_features(picture, min(shrink, 1.0), from_small, size, step) for picture, _ in pairs]
        spectra = [_Spectra(*features, _padded(size, infrared[0][1].shape, step)) for features in infrared]
        for turn in _TURNS:
            way, grid = _turning((size[0] // step, size[1] // step), turn)
            scores = np.mean(
                [
                    one.correlations(*_turned(*features, turn, way, grid))
                    for features, one in zip(visible, spectra, strict=True)
                ],
                axis=0,
            )
            # From the grid of the turned picture, whose points are the middles of squares, to its pixels.
            to_pixels = np.array([[step, 0, (step - 1) / 2], [0, step, (step - 1) / 2], [0, 0, 1.0]])
            turned = from_small @ to_pixels @ way
            for score, (x, y) in _peaks(scores):
                whole = turned @ shifted(x, y) @ np.linalg.inv(to_pixels) @ to_small
                guesses.append(Guess(score, normalised(whole)))
    return _apart(sorted(guesses, key=lambda guess: -guess.score), infrared_size)


Features = tuple[np.ndarray, np.ndarray]


def _shrunk(size: Size, shrink: float, step: int) -> tuple[np.ndarray, Size]:
    """From a picture made smaller to its own pixels, and the size of the smaller one: whole steps."""
    height, width = (max(step, step * int(side * shrink // step)) for side in size)
    first = (1 / shrink - 1) / 2
    return np.array([[1 / shrink, 0, first], [0, 1 / shrink, first], [0, 0, 1.0]]), (height, width)


def _grid_features(picture: Picture, zoom: float, way: np.ndarray, size: Size, step: int) -> Features:
    """The pooled edges of a picture seen through a way to its own pixels. zoom: near that of the way."""
    levels, valid, to_zoomed = picture.at(zoom)
    if not np.array_equal(way, np.eye(3)):
        matrix = to_zoomed @ way
        levels = cv2.warpPerspective(
            levels, matrix, size[::-1], flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        )
        there = cv2.warpPerspective(
            valid.astype(np.uint8), matrix, size[::-1], flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
        )
        valid = there > 0
    return edge_features(levels, valid, pool=0.6 * step, step=step)


def _turning(grid: Size, degrees: float) -> tuple[np.ndarray, Size]:
    """From a frame that holds a turned grid to the grid, and the frame's size."""
    angle = np.deg2rad(degrees)
    cosine, sine = float(np.cos(angle)), float(np.sin(angle))
    width = int(np.ceil(abs(cosine) * grid[1] + abs(sine) * grid[0]))
    height = int(np.ceil(abs(sine) * grid[1] + abs(cosine) * grid[0]))
    matrix = np.array([[cosine, -sine, 0.0], [sine, cosine, 0.0], [0.0, 0.0, 1.0]])
    middle = np.array([(grid[1] - 1) / 2, (grid[0] - 1) / 2])
    matrix[:2, 2] = middle - matrix[:2, :2] @ np.array([(width - 1) / 2, (height - 1) / 2])
    return matrix, (height, width)


def _turned(features: np.ndarray, there: np.ndarray, degrees: float, way: np.ndarray, size: Size) -> Features:
    """Features of a turned picture from those of the picture: in new places, their directions turned."""
    if degrees == 0:
        return features, there
    linear = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    moved = cv2.warpPerspective(features, way, size[::-1], flags=linear)
    shown = (cv2.warpPerspective(there, way, size[::-1], flags=linear) > 0.5).astype(np.float32)
    out = moved.copy()
    for first, times in ((1, 2), (3, 4)):
        angle = -np.deg2rad(degrees) * times
        a, b = moved[..., first], moved[..., first + 1]
        out[..., first] = np.cos(angle) * a - np.sin(angle) * b
        out[..., first + 1] = np.sin(angle) * a + np.cos(angle) * b
    return out * shown[..., None], shown


def _padded(size: Size, other: Sequence[int], step: int) -> tuple[int, int]:
    """A shape of Fourier transforms that holds a picture at any turn, and the other one beside it."""
    sizes = [_turning((size[0] // step, size[1] // step), turn)[1] for turn in _TURNS]
    down, across = (max(lengths) for lengths in zip(*sizes, strict=True))
    return cv2.getOptimalDFTSize(down + other[0]), cv2.getOptimalDFTSize(across + other[1])


class _Spectra:
    """The Fourier transforms of an infrared picture's features, which every turn of the visible one meets."""

    def __init__(self, features: np.ndarray, there: np.ndarray, shape: tuple[int, int]):
        self.shape, self.area = shape, there.size
        self.features = self._of(features).conj()
        self.there = self._of(there).conj()
        self.energy = self._of(np.einsum("hwc,hwc->hw", features, features)).conj()

    def correlations(self, features: np.ndarray, there: np.ndarray) -> np.ndarray:
        """Normalised correlation at every shift (y, x), less where little overlaps (Padfield 2012).

        Negative shifts count from the end.
        """
        shown = self._of(there)
        product = self._back(np.einsum("hwc,hwc->hw", self._of(features), self.features))
        overlap = self._back(shown * self.there) / self.area
        first = self._back(self._of(np.einsum("hwc,hwc->hw", features, features)) * self.there)
        second = self._back(shown * self.energy)
        scores = product / np.sqrt(np.maximum(first, 1e-3) * np.maximum(second, 1e-3))
        scores *= np.sqrt(np.clip(overlap, 0, 1))
        scores[overlap < _LEAST_OVERLAP] = 0
        return scores

    def _of(self, image: np.ndarray) -> np.ndarray:
        return np.fft.rfft2(image, self.shape, axes=(0, 1))

    def _back(self, product: np.ndarray) -> np.ndarray:
        return np.fft.irfft2(product, self.shape)


def _peaks(scores: np.ndarray) -> list[tuple[float, tuple[int, int]]]:
    """The highest scores that are not beside each other, and their shifts (x, y) in grid steps."""
    left, peaks = scores.copy(), []
    height, width = scores.shape
    for _ in range(_PEAKS):
        row, column = (int(part) for part in np.unravel_index(np.argmax(left), left.shape))
        if left[row, column] <= 0:
            break
        # The picture comes first in the frame and the padding after it, as long as the other picture.
        x, y = _signed(column, width), _signed(row, height)
        peaks.append((float(left[row, column]), (x, y)))
        rows, columns = np.arange(row - 3, row + 4) % height, np.arange(column - 3, column + 4) % width
        left[np.ix_(rows, columns)] = 0
    return peaks


def _signed(place: int, length: int) -> int:
    return place if place <= length // 2 else place - length


def _apart(guesses: list[Guess], size: Size) -> list[Guess]:
    kept: list[tuple[Guess, np.ndarray]] = []
    for guess in guesses:
        around = transform(guess.homography, corners(size))
        near = 0.08 * np.linalg.norm(around[2] - around[0])
        if all(np.abs(around - other).max() > near for _, other in kept):
            kept.append((guess, around))
        if len(kept) == _MOST:
            break
    return [guess for guess, _ in kept]
