"""What goes wrong with a visible camera. Images are float32 (H, W, 3), sRGB in [0, 1], in and out.

Lengths are shares of the image's height, so that a severity looks alike at every size. Powers of 2 of stops
meet images as float32, whose steps are far above the digit in which machines compute powers differently.
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from crossband.errors import OptionError
from crossband.pairs.corruption.curves import decay, to_linear, to_srgb
from crossband.pairs.corruption.kernels import disk_blur, line_blur, patches, smooth_field
from crossband.pairs.scenes.sensor import gaussian_noise


def overexpose(visible: np.ndarray, stops: float) -> np.ndarray:
    """A visible image as the camera would have taken it with 2 ** stops times the light.

    visible: float32 (H, W, 3), sRGB in [0, 1]. Exposure acts on linear light, where the sensor saturates;
    what was clipped stays clipped, so a later darkening does not bring it back. The sRGB transfer curve is
    that of IEC 61966-2-1. Negative stops under-expose. Raises OptionError unless stops is finite.
    """
    if not np.isfinite(stops):
        raise OptionError(f"stops must be a finite number, not {stops}")
    return to_srgb(np.minimum(to_linear(visible) * 2.0**stops, 1.0))


def low_light(image: np.ndarray, stops: float, rng: np.random.Generator) -> np.ndarray:
    """2 ** -stops of the light, with the sensor's noise, brought half of the way back by its gain.

    The noise is that of a small sensor: a full well of 2,000 electrons, whose shot noise has the square root
    of the signal as its deviation, and 3 electrons of read noise (the affine model of EMVA 1288).
    """
    electrons = 2000 * to_linear(image) * 2.0**-stops
    electrons = electrons + np.sqrt(electrons + 9) * gaussian_noise(image.shape, rng)
    return to_srgb(np.clip(electrons / 2000 * 2.0 ** (stops / 2), 0, 1))


def over_exposure(image: np.ndarray, stops: float, rng: np.random.Generator) -> np.ndarray:
    """2 ** stops times the light; what saturates is white."""
    return overexpose(image, stops)


def glare(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """A light that shines into the lens: a blown-out spot, its halo, and a veil over everything."""
    height, width = image.shape[:2]
    y, x = rng.random() * 0.6 * height, rng.random() * width
    squares = ((np.arange(height)[:, None] - y) ** 2 + (np.arange(width)[None] - x) ** 2) / height**2
    veil = strength * (0.12 + 0.9 / (1 + squares / 0.08**2) + 0.5 / (1 + squares / 0.3**2))
    return to_srgb(np.clip(to_linear(image) + veil[..., None], 0, 1))


def fog(image: np.ndarray, density: float, rng: np.random.Generator) -> np.ndarray:
    """Air light by Koschmieder's law, t J + (1 - t) A, uneven, and denser towards the top of the picture.

    Depth is not known; in pictures from a vehicle or a pole the distance grows with the height in the image.
    """
    height, width = image.shape[:2]
    far = np.linspace(1.0, 0.25, height, dtype=np.float32)[:, None]
    uneven = 1 + 0.25 * smooth_field((height, width), 0.3, rng)
    through = decay(density * far * uneven).astype(np.float32)[..., None]
    return to_srgb(through * to_linear(image) + (1 - through) * 0.62)


def rain(image: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
    """Bright streaks that fall in one slanting direction, in front of a scene with less contrast."""
    height, width = image.shape[:2]
    length = 0.06 * height
    angle = np.pi / 2 + (rng.random() - 0.5) * 0.6
    # A drop every so many pixels of a 480-line picture, so that the picture's size does not thin the rain.
    drops = (rng.random((height, width)) < amount * min(1.0, 240 / height)).astype(np.float32)
    streaks = line_blur(drops, length, angle) * max(1.0, length) * 0.35
    dull = 0.5 * (1 - amount * 8) * (image - 0.5) * 2 + 0.5
    return np.clip(dull + streaks[..., None], 0, 1)


def motion_blur(image: np.ndarray, length: float, rng: np.random.Generator) -> np.ndarray:
    """The camera moved while the shutter was open: a line of light, in linear values."""
    angle = (rng.random() - 0.5) * 0.7
    return to_srgb(line_blur(to_linear(image), length * image.shape[0], angle))


def defocus(image: np.ndarray, radius: float, rng: np.random.Generator) -> np.ndarray:
    """Every point of light becomes a disk, as a lens out of focus makes it."""
    return to_srgb(disk_blur(to_linear(image), radius * image.shape[0]))


def jpeg(image: np.ndarray, quality: float, rng: np.random.Generator) -> np.ndarray:
    """Compressed and decompressed again at that quality, with colours at half resolution."""
    buffer = io.BytesIO()
    eight_bits = np.rint(image * 255).astype(np.uint8)
    Image.fromarray(eight_bits).save(buffer, "JPEG", quality=round(quality), subsampling=2)
    return np.asarray(Image.open(buffer), dtype=np.float32) / 255


def colour_cast(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """A wrong white balance: warm, cold or greenish light, by gains of red, green and blue."""
    casts = np.array([[1.0, 0.0, -1.0], [-1.0, 0.0, 1.0], [-0.6, 0.8, -0.6]])
    gains = (2.0 ** (strength * casts[rng.integers(len(casts))])).astype(np.float32)
    return to_srgb(np.clip(to_linear(image) * gains, 0, 1))


def dirt(image: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Mud on the lens: blurred patches that cover a share of the picture, and let little light through."""
    height, width = image.shape[:2]
    cover = disk_blur(patches((height, width), share, 0.12, rng).astype(np.float32), 0.012 * height)
    mud = np.array([0.09, 0.075, 0.06], np.float32)
    cover = 0.93 * cover[..., None]
    return to_srgb((1 - cover) * to_linear(image) + cover * mud)
