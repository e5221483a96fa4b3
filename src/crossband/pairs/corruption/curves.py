"""The sRGB curve and the exponential, by the four operations and the square root alone.

These five are rounded in one way only by every processor that keeps to IEEE 754. The powers and exponentials
of NumPy and of C libraries are not: they differ between processors in the last digit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

_BLOCK = 2**14
"""Values at a time: a block stays in the processor's cache, which takes half the time."""
_POWER_OF_LIGHT = (
    0.0001145708,
    -0.0018453145,
    0.0133250102,
    -0.0596809319,
    0.2261288853,
    0.8917526045,
    -0.0795245602,
    0.0097297432,
)
"""s ** 4.8, from the constant on, for s from 0.3 to 1: the least largest error, 8e-9."""
_POWER_OF_SRGB = (
    -0.0013422768,
    0.0164866257,
    -0.1022321988,
    0.7644336451,
    0.3976163047,
    -0.0873188676,
    0.0123567750,
)
"""s ** (10 / 3), from the constant on, for s from 0.486 to 1: the least largest error, 8e-9."""
_HALVINGS = 5
_EXPONENTIAL = (1.0, 1.0, 1 / 2, 1 / 6, 1 / 24, 1 / 120, 1 / 720)


def to_linear(srgb: np.ndarray) -> np.ndarray:
    """The light, in [0, 1], that sRGB values in [0, 1] stand for (IEC 61966-2-1), float32 of their shape.

    As `crossband.colour.to_linear` within 1e-7, in the same bits everywhere. srgb: float32 or float64.
    """
    return _by_blocks(_linear, srgb)


def to_srgb(light: np.ndarray) -> np.ndarray:
    """The sRGB values of linear light in [0, 1] (IEC 61966-2-1), float32 of its shape; 1 is 1.

    As `crossband.colour.to_srgb` within 1e-7, in the same bits everywhere. light: float32 or float64.
    """
    return _by_blocks(_srgb, light)


def decay(depth: np.ndarray) -> np.ndarray:
    """exp(-depth) for depths from -1 to 10, float64 of their shape. Within 1e-7, in the same bits everywhere.

    depth: float32 or float64. The series is that of an exponent 32 times as small, and is squared five times.
    """
    left = _polynomial(depth.astype(np.float64) / -(2.0**_HALVINGS), _EXPONENTIAL)
    for _ in range(_HALVINGS):
        left *= left
    return left


def _linear(srgb: np.ndarray) -> np.ndarray:
    curve = _polynomial(np.sqrt((srgb + 0.055) / 1.055), _POWER_OF_LIGHT)
    return np.where(srgb <= 0.04045, srgb / 12.92, curve)


def _srgb(light: np.ndarray) -> np.ndarray:
    eighth = np.sqrt(np.sqrt(np.sqrt(np.maximum(light, 0.0031308))))
    curve = 1.055 * _polynomial(eighth, _POWER_OF_SRGB) - 0.055
    return np.where(light <= 0.0031308, 12.92 * light, curve)


def _by_blocks(curve: Callable[[np.ndarray], np.ndarray], values: np.ndarray) -> np.ndarray:
    given = np.ascontiguousarray(values).reshape(-1)
    result = np.empty(given.shape, np.float32)
    for start in range(0, given.size, _BLOCK):
        block = slice(start, start + _BLOCK)
        result[block] = curve(given[block].astype(np.float64))
    return result.reshape(values.shape)


def _polynomial(values: np.ndarray, coefficients: Sequence[float]) -> np.ndarray:
    """The polynomial with these coefficients, from the constant on, at float64 values (Horner's rule)."""
    result = np.full_like(values, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        result *= values
        result += coefficient
    return result
