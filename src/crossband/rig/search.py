"""Rough guesses without a start: every zoom and turn in a range, every shift at once by Fourier transforms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from crossband.rig.features import edge_features
from crossband.rig.geometry import Size, corners, normalised, shifted, transform
from crossband.rig.refinement import PicturePair

ZOOMS = tuple(float(zoom) for zoom in np.exp(np.arange(np.log(0.3), np.log(1.5), np.log(1.13))))
"""The width that the infrared camera sees, as a share of what the visible one sees."""
TURNS = (-16.0, -8.0, 0.0, 8.0, 16.0)
"""In degrees."""

_WIDTH = 320
_GRID = 64
"""Longer side of the infrared picture in pixels, and in pooled features."""
_LEAST_OVERLAP = 0.3
_PEAKS = 3


@dataclass(frozen=True)
class Guess:
    """A homography from infrared to visible pixels, and the correlation that speaks for it."""

    score: float
    homography: np.ndarray


def rough_guesses(
    pairs: Sequence[PicturePair],
    *,
    most: int = 24,
    zooms: Sequence[float] = ZOOMS,
    turns: Sequence[float] = TURNS,
) -> list[Guess]:
    """The likeliest similarities (zoom, turn, shift), best first, those near a better one left out.

    pairs: of one rig, all of one size per band; their correlations are added up.
    """
    visible_size, infrared_size = pairs[0][0].size, pairs[0][1].size
    small = min(_WIDTH / max(infrared_size), 1.0)
    step = max(1, round(small * max(infrared_size) / _GRID))
    infrared = [edge_features(*ir.at(small)[:2], pool=0.6 * step, step=step) for _, ir in pairs]
    to_small = pairs[0][1].at(small)[2]
    guesses: list[Guess] = []
    for zoom in zooms:
        # Visible pixels to infrared small pixels.
        shrink = small * infrared_size[1] / (zoom * visible_size[1])
        if shrink * max(visible_size) < 12 * step:
            continue
        for turn in turns:
            way, size = _turning(visible_size, shrink, turn, step)
            scores = _summed_scores(pairs, infrared, min(shrink, 1.0), way, size, step)
            for score, (x, y) in _peaks(scores):
                guesses.append(Guess(score, normalised(way @ shifted(x * step, y * step) @ to_small)))
    return _apart(sorted(guesses, key=lambda guess: -guess.score), infrared_size, most)


def _turning(size: Size, shrink: float, degrees: float, step: int) -> tuple[np.ndarray, Size]:
    """From a frame that holds the turned and shrunk visible picture to its own pixels; the frame's size."""
    angle = np.deg2rad(degrees)
    cosine, sine = float(np.cos(angle)), float(np.sin(angle))
    wide, high = size[1] * shrink, size[0] * shrink
    width = step * int(np.ceil((abs(cosine) * wide + abs(sine) * high) / step))
    height = step * int(np.ceil((abs(sine) * wide + abs(cosine) * high) / step))
    matrix = np.array([[cosine, -sine, 0.0], [sine, cosine, 0.0], [0.0, 0.0, 1.0]])
    matrix[:2] /= shrink
    middle = np.array([(size[1] - 1) / 2, (size[0] - 1) / 2])
    matrix[:2, 2] = middle - matrix[:2, :2] @ np.array([(width - 1) / 2, (height - 1) / 2])
    return matrix, (height, width)


def _summed_scores(
    pairs: Sequence[PicturePair],
    infrared: Sequence[tuple[np.ndarray, np.ndarray]],
    zoom: float,
    way: np.ndarray,
    size: Size,
    step: int,
) -> np.ndarray:
    """The mean correlation over pairs for every shift (y, x) in grid steps; negative ones count from the end."""
    total: np.ndarray | None = None
    for (visible, _), (features, there) in zip(pairs, infrared, strict=True):
        levels, valid, to_zoomed = visible.at(zoom)
        matrix = to_zoomed @ way
        seen = cv2.warpPerspective(levels, matrix, size[::-1], flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
        shown = cv2.warpPerspective(
            valid.astype(np.uint8), matrix, size[::-1], flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
        )
        scores = _correlations(*edge_features(seen, shown > 0, pool=0.6 * step, step=step), features, there)
        total = scores if total is None else total + scores
    assert total is not None
    return total / len(pairs)


def _correlations(
    large: np.ndarray, large_there: np.ndarray, small: np.ndarray, small_there: np.ndarray
) -> np.ndarray:
    """Normalised correlation of features at every shift, less where little overlaps (Padfield 2012)."""
    shape = tuple(cv2.getOptimalDFTSize(a + b) for a, b in zip(large.shape[:2], small.shape[:2], strict=True))

    def spectrum(image: np.ndarray) -> np.ndarray:
        return np.fft.rfft2(image, shape, axes=(0, 1))

    def back(product: np.ndarray) -> np.ndarray:
        return np.fft.irfft2(product, shape)

    shown, framed = spectrum(large_there), spectrum(small_there).conj()
    product = back((spectrum(large) * spectrum(small).conj()).sum(axis=2))
    overlap = back(shown * framed) / small_there.size
    first = back(spectrum((large * large).sum(axis=2)) * framed)
    second = back(shown * spectrum((small * small).sum(axis=2)).conj())
    scores = product / np.sqrt(np.maximum(first, 1e-3) * np.maximum(second, 1e-3))
    scores *= np.sqrt(np.clip(overlap, 0, 1))
    scores[overlap < _LEAST_OVERLAP] = 0
    return scores


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


def _apart(guesses: list[Guess], size: Size, most: int) -> list[Guess]:
    kept: list[tuple[Guess, np.ndarray]] = []
    for guess in guesses:
        around = transform(guess.homography, corners(size))
        near = 0.08 * np.linalg.norm(around[2] - around[0])
        if all(np.abs(around - other).max() > near for _, other in kept):
            kept.append((guess, around))
        if len(kept) == most:
            break
    return [guess for guess, _ in kept]
