"""FMI's windows of 8-bit pictures, on a CPU: whole numbers as long as they are exact, logarithms at the end.

It gives what `feature_information.window_scores` gives, to rounding. The masses of a window of levels h are
h / S with S = sum h, so all products of two windows' masses and sums are whole numbers over S T.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

WINDOW: Final = 3
PIXELS: Final = WINDOW**2
LEVELS: Final = 256
# Windows worked on at once: what belongs to them stays within a processor's cache.
CHUNK: Final = 1 << 13
# A key of 32 bits holds a step's height (at most (9 * 255)^2 < 2^23), the next level, and whose step it is.
_LEVEL_BITS: Final = 8
_PAYLOAD_BITS: Final = _LEVEL_BITS + 1
_PAYLOAD: Final = (1 << _PAYLOAD_BITS) - 1
# Below any square of a mass that is not 0, and its logarithm is finite.
_NEXT_TO_NOTHING: Final = 1e-300

_LEVEL = np.arange(LEVELS, dtype=np.float64)
_LEVEL_LOGS: Final = _LEVEL * np.log(np.maximum(_LEVEL, 1))
_ODD: Final = np.arange(1, 2 * PIXELS - 2, 2, dtype=np.int32)


def mean_scores(fused: np.ndarray, *sources: np.ndarray) -> list[float]:
    """The mean over all windows of 2 I / (H_S + H_F) of levels, uint8 (H, W), with those of each source."""
    height, width = (side - WINDOW + 1 for side in fused.shape)
    rows = max(1, CHUNK // width)
    totals = [0.0] * len(sources)
    for top in range(0, height, rows):
        own, *others = (_Windows.of(levels[top : top + rows + WINDOW - 1]) for levels in (fused, *sources))
        steps = _Steps.of(own.heights, own.total, 1)
        for number, other in enumerate(others):
            totals[number] += float(_scores(other, own, steps).sum())
    return [total / (height * width) for total in totals]


@dataclass(frozen=True)
class _Windows:
    """Windows of levels, uint8 (9, N), each down its columns, and what is taken of them.

    heights: above the least level, or all 1 in a flat window. total: S, their sum, and spread: 9 sum h^2 -
    S^2, int32 (N,). entropy: in nats, float64 (N,).
    """

    levels: np.ndarray
    heights: np.ndarray
    total: np.ndarray
    spread: np.ndarray
    entropy: np.ndarray

    @classmethod
    def of(cls, picture: np.ndarray) -> _Windows:
        """All windows of uint8 (H, W)."""
        height, width = (side - WINDOW + 1 for side in picture.shape)
        levels = np.empty((PIXELS, height, width), np.uint8)
        for index in range(PIXELS):
            right, down = divmod(index, WINDOW)
            levels[index] = picture[down : down + height, right : right + width]
        levels = levels.reshape(PIXELS, -1)
        low, high = levels.min(0), levels.max(0)
        heights = levels - low
        heights += low == high
        total = heights.sum(0, dtype=np.int32)
        squares = np.multiply(heights, heights, dtype=np.uint16).sum(0, dtype=np.int32)
        spread = PIXELS * squares - total**2
        entropy = np.log(total) - cv2.LUT(heights, _LEVEL_LOGS).sum(0) / total
        # All in one pixel: exactly 0, whatever rounding says.
        entropy[total == high - low] = 0
        return cls(levels, heights, total, spread, entropy)


@dataclass(frozen=True)
class _Steps:
    """The eight steps of windows' cumulated heights, and the moments of the index i = 0..8.

    heights: cumulated, from 0, and payload: the level that follows a step and the bit of whose it is, as they
    stand in a key: uint32 (8, N). level: that before all steps. total: S. mean, square: S times those of i,
    int32 (N,).
    """

    heights: np.ndarray
    payload: np.ndarray
    level: np.ndarray
    total: np.ndarray
    mean: np.ndarray
    square: np.ndarray

    @classmethod
    def of(cls, heights: np.ndarray, total: np.ndarray, whose: int) -> _Steps:
        payload = heights[1:].astype(np.uint32)
        sums = np.empty_like(payload)
        sums[0] = heights[0]
        for step in range(1, len(sums)):
            np.add(sums[step - 1], payload[step - 1], out=sums[step])
        last = len(sums)
        mean = last * total - np.add.reduce(sums.view(np.int32), 0)
        square = last**2 * total - np.einsum("k,kn->n", _ODD, sums.view(np.int32))
        sums <<= _PAYLOAD_BITS
        payload <<= 1
        payload |= whose
        return cls(sums, payload, heights[0], total, mean, square)

    @property
    def variance(self) -> np.ndarray:
        """S^2 times the variance of i, int32 (N,)."""
        return self.total * self.square - self.mean**2

    def keys(self, other: _Steps, out: np.ndarray) -> None:
        """Put the steps as they are among those of another distribution, laid along 0..S T."""
        np.multiply(self.heights, other.total.view(np.uint32), out=out)
        out |= self.payload


def _scores(source: _Windows, fused: _Windows, steps: _Steps) -> np.ndarray:
    """2 I / (H_S + H_F) per window, float64 (N,)."""
    products = np.multiply(source.heights, fused.heights, dtype=np.uint16).sum(0, dtype=np.int32)
    whole = source.total * fused.total
    covariance = PIXELS * products - whole
    # Counted backwards, the lower bound of two distributions is the upper bound.
    # (By bits: several times as quick as np.where.)
    backwards = 0 - (covariance < 0).view(np.uint8)
    heights = source.heights ^ ((source.heights ^ source.heights[::-1]) & backwards)
    source_steps = _Steps.of(heights, source.total, 0)
    mass, product, apart = _upper_bound(source_steps, steps)
    norms = np.sqrt(source.spread.astype(np.float64) * fused.spread)
    share = _share(np.abs(covariance), norms, apart, source_steps, steps)
    rest = 1 - share
    entropies = source.entropy + fused.entropy
    # The product's terms in all 81 cells, less those in the cells of the bound, which hold the mixture; the
    # logarithm of S T, by which the masses here are too large, is taken out of the sums.
    joint = rest * (entropies + _sum_of_logs(product) / whole) + share * np.log(whole)
    joint -= rest * np.log(np.abs(rest) + _NEXT_TO_NOTHING) * (1 - product.sum(0) / whole)
    product *= rest
    product += mass * share
    joint -= _sum_of_logs(product) / whole
    score = np.zeros_like(entropies)
    np.divide(2 * (entropies - joint), entropies, out=score, where=entropies > 0)
    score[(source.levels == fused.levels).all(0)] = 1
    return score


def _sum_of_logs(masses: np.ndarray) -> np.ndarray:
    """sum q log|q| over (cells, N): (N,)."""
    squares = np.square(masses)
    squares += _NEXT_TO_NOTHING
    return np.einsum("kn,kn->n", masses, np.log(squares, out=squares)) / 2


def _upper_bound(source: _Steps, fused: _Steps) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Frechet's upper bound as its at most 17 cells (i, j): their masses and h_i g_j, both times S T.

    Returns int32 and float64 (17, N), and the sum of mass (i - j)^2, int32 (N,). Both distributions are laid
    along 0..S T; between two neighbouring steps of either lies the mass of one cell.
    """
    steps = PIXELS - 1
    keys = np.empty((2 * steps, len(source.total)), np.uint32)
    source.keys(fused, keys[:steps])
    # The second one's steps downwards, so that the whole rises and then falls.
    fused.keys(source, keys[: steps - 1 : -1])
    keys = _sorted(keys)
    heights = (keys >> _PAYLOAD_BITS).view(np.int32)
    mass = np.empty((len(keys) + 1, keys.shape[1]), np.int32)
    mass[0] = heights[0]
    np.subtract(heights[1:], heights[:-1], out=mass[1:-1])
    np.subtract(source.total * fused.total, heights[-1], out=mass[-1])
    levels = np.empty(keys.shape, np.uint16)
    np.bitwise_and(keys, _PAYLOAD, out=levels, casting="unsafe")
    whose = levels & 1
    # The levels of the cell, one in each byte: a step replaces that of its own distribution.
    levels >>= 1
    levels *= LEVELS - (LEVELS - 1) * whose
    kept = (LEVELS - 1) * (1 + (LEVELS - 1) * whose)
    signs = 1 - 2 * whose.astype(np.int8)
    cells, apart = np.empty(mass.shape, np.uint16), np.zeros(mass.shape, np.int8)
    cells[0] = source.level
    cells[0] <<= _LEVEL_BITS
    cells[0] |= fused.level
    for cell in range(len(keys)):
        np.bitwise_and(cells[cell], kept[cell], out=cells[cell + 1])
        cells[cell + 1] |= levels[cell]
        np.add(apart[cell], signs[cell], out=apart[cell + 1])
    product = (cells >> _LEVEL_BITS) * (cells & (LEVELS - 1))
    apart *= apart
    return mass, product.astype(np.float64), np.einsum("kn,kn->n", mass, apart.astype(np.int32))


def _sorted(keys: np.ndarray) -> np.ndarray:
    """Columns that rise and then fall, (a power of two, N), in ascending order: Batcher's bitonic merge."""
    half = len(keys) // 2
    while half:
        pairs, merged = keys.reshape(-1, 2, half, keys.shape[1]), np.empty_like(keys)
        into = merged.reshape(pairs.shape)
        np.minimum(pairs[:, 0], pairs[:, 1], out=into[:, 0])
        np.maximum(pairs[:, 0], pairs[:, 1], out=into[:, 1])
        keys, half = merged, half // 2
    return keys


def _share(
    covariance: np.ndarray, norms: np.ndarray, apart: np.ndarray, source: _Steps, fused: _Steps
) -> np.ndarray:
    """The bound's share p in the mixture, float64 (N,); 0 where nothing can be correlated.

    covariance, norms: their quotient is the correlation of the masses. apart: S T times E[(i - j)^2] under
    the bound, which gives its E[i j].
    """
    together = (fused.total * source.square + source.total * fused.square - apart) / 2
    bound = (together - source.mean * fused.mean) * norms
    spreads = np.sqrt(source.variance.astype(np.float64) * fused.variance) * covariance
    defined = (spreads > 0) & (norms > 0)
    return np.divide(spreads, bound, out=np.zeros_like(bound), where=defined)
