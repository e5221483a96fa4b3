"""What goes wrong with an infrared camera. Images are float32 (H, W) in [0, 1], in and out.

Lengths are shares of the image's height, so that a severity looks alike at every size.
"""

from __future__ import annotations

import numpy as np

from crossband.pairs.corruption.kernels import disk_blur, exact_mean, gaussian_blur
from crossband.pairs.scenes.sensor import gaussian_noise


def contrast_collapse(image: np.ndarray, kept: float, rng: np.random.Generator) -> np.ndarray:
    """Thermal crossover: things and their surroundings come to one temperature, and noise is what is left.

    kept: the share of the contrast that is left.
    """
    middle = exact_mean(image)
    return np.clip(middle + kept * (image - middle) + 0.01 * gaussian_noise(image.shape, rng), 0, 1)


def saturation(image: np.ndarray, gain: float, rng: np.random.Generator) -> np.ndarray:
    """The gain stands too high: all that is warm is white."""
    return np.minimum(image * gain, 1)


def fixed_pattern(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Every element of the sensor has a gain and an offset of its own, as after a stale correction."""
    gains = 1 + strength * gaussian_noise(image.shape, rng)
    return np.clip(image * gains + strength * gaussian_noise(image.shape, rng), 0, 1)


def column_noise(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Every column's amplifier has an offset of its own: vertical stripes."""
    return np.clip(image + strength * gaussian_noise(image.shape[1:], rng), 0, 1)


def dead_pixels(image: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """A share of the elements tells black or white, whatever it sees."""
    dead = rng.random(image.shape)
    return np.where(dead < share / 2, 0, np.where(dead < share, 1, image))


def dead_rows(image: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """A share of the rows is black."""
    rows = rng.permutation(image.shape[0])[: max(1, round(share * image.shape[0]))]
    broken = image.copy()
    broken[rows] = 0
    return broken


def blur(image: np.ndarray, radius: float, rng: np.random.Generator) -> np.ndarray:
    """The lens is out of focus, as one of germanium is when it grows warm or cold."""
    return disk_blur(image, radius * image.shape[0])


def halo(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Dark rims around hot things and bright ones around cold things, as ferroelectric sensors make them."""
    around = gaussian_blur(image, 0.05 * image.shape[0])
    return np.clip(image - strength * (around - exact_mean(image)), 0, 1)
