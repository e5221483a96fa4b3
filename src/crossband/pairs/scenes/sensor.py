"""Seeded patterns and noise that both cameras and both bands draw from."""

from __future__ import annotations

from functools import cache
from statistics import NormalDist

import cv2
import numpy as np

_TILE = 512


@cache
def _normal_quantiles() -> np.ndarray:
    """256 equally likely values of the standard normal distribution, float32 (1, 256)."""
    normal = NormalDist()
    values = np.array([normal.inv_cdf((k + 0.5) / 256) for k in range(256)], dtype=np.float32)
    return (values / values.std())[None]


def gaussian_noise(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Independent noise of mean 0 and deviation 1 from a 256-level normal distribution, float32."""
    count = int(np.prod(shape))
    levels = np.frombuffer(rng.bytes(count), dtype=np.uint8)
    # OpenCV's table look-up is several times faster than numpy's on 8-bit indices.
    return cv2.LUT(levels.reshape(1, -1), _normal_quantiles()).reshape(shape)


@cache
def pattern_tile() -> np.ndarray:
    """A tileable cloudy pattern of mean 0 and deviation 1, float32 (512, 512): noise of a 1/f spectrum.

    Every scene cuts its textures out of this one tile, at its own offset and scale.
    """
    rng = np.random.default_rng(20240229)
    frequency = np.fft.fftfreq(_TILE) * _TILE
    radius = np.hypot(frequency[:, None], frequency[None, : _TILE // 2 + 1])
    spectrum = np.exp(2j * np.pi * rng.random(radius.shape)) / np.maximum(radius, 3.0)
    tile = np.fft.irfft2(spectrum, s=(_TILE, _TILE))
    tile -= tile.mean()
    return (tile / tile.std()).astype(np.float32)


def pattern(size: tuple[int, int], scale: tuple[float, float], rng: np.random.Generator) -> np.ndarray:
    """A cut of the pattern tile, float32 ``size``; scale: tile steps per pixel, down and across."""
    y, x = rng.integers(0, _TILE, size=2)
    rows = (y + np.arange(size[0]) * scale[0]).astype(np.intp) % _TILE
    columns = (x + np.arange(size[1]) * scale[1]).astype(np.intp) % _TILE
    return pattern_tile()[rows][:, columns]


def pattern_at(x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The pattern at positions x and y (float32, same shape, in tile steps), interpolated."""
    dx, dy = rng.integers(0, _TILE, size=2).astype(np.float32)
    return cv2.remap(pattern_tile(), x + dx, y + dy, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
