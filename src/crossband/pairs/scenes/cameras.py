"""Two cameras of every scene's own: texture, tone, sharpness, noise, glare and how well they are aligned.

By default one visible and one infrared camera draw all scenes (`visible.py`, `infrared.py`). Here their 8-bit
pictures are drawn on as another two would have given them. No range was fitted to a data set.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from crossband.pairs.scenes.painting import Geometry
from crossband.pairs.scenes.sensor import gaussian_noise, pattern
from crossband.pairs.scenes.weather import Weather


class Pictures(NamedTuple):
    """Visible sRGB uint8 (H, W, 3) and infrared uint8 (H, W) of a scene."""

    visible: np.ndarray
    infrared: np.ndarray


def by_other_cameras(
    drawn: Pictures, geometry: Geometry, weather: Weather, rng: np.random.Generator
) -> Pictures:
    """The pictures as two cameras that are drawn by ``rng`` would have given them.

    The visible one stays in place, and so does the label; infrared is moved by up to 0.6 % of the width and
    1 % of its size.
    """
    visible, infrared = (image.astype(np.float32) / np.float32(255) for image in drawn)
    cloth, heat = _texture(geometry, rng), _texture(geometry, rng)
    visible *= 1 + np.float32(rng.uniform(0, 0.35)) * cloth[..., None]
    infrared += np.float32(rng.uniform(0, 0.07)) * heat
    if weather.lamps:
        _add_lamps(visible, rng)
    if rng.random() < 0.3:
        _warm_the_sky(infrared, geometry, rng)
    visible = _tone(_focus(visible, rng), gain=(-1.0, 0.5), gamma=(-0.6, 0.6), veil=0.3, rng=rng)
    infrared = _tone(
        _enhanced(_focus(infrared, rng), rng), gain=(-1.6, 0.4), gamma=(-0.5, 0.8), veil=0.15, rng=rng
    )
    infrared = _moved(infrared, rng)
    visible += np.float32(rng.uniform(0, 0.03)) * gaussian_noise(visible.shape, rng)
    infrared += np.float32(rng.uniform(0, 0.03)) * gaussian_noise(infrared.shape, rng)
    return Pictures(*(np.rint(255 * np.clip(image, 0, 1)).astype(np.uint8) for image in (visible, infrared)))


def _texture(geometry: Geometry, rng: np.random.Generator) -> np.ndarray:
    """Noise of a 1/f spectrum, another one on every surface and none in the sky, float32 (H, W).

    Natural images have about this spectrum (Field, J. Opt. Soc. Am. A 4(12), 1987).
    """
    size, count = geometry.ids.shape, len(geometry.surfaces)
    grain = float(rng.uniform(0.7, 2.5))
    turn, strength = rng.uniform(0, 2 * np.pi, count), rng.random(count)
    strength[0] = 0
    # Two cuts, in other shares for every surface: one cut would go on across their edges.
    shares = (strength * np.cos(turn)).astype(np.float32), (strength * np.sin(turn)).astype(np.float32)
    return sum(
        (pattern(size, (grain, grain), rng) * share.take(geometry.ids) for share in shares),
        np.zeros(size, np.float32),
    )


def _add_lamps(visible: np.ndarray, rng: np.random.Generator) -> None:
    """Up to five bare lamps, each a burnt disc in a glow that falls off slowly."""
    height, width = visible.shape[:2]
    rows, columns = np.arange(height, dtype=np.float32)[:, None], np.arange(width, dtype=np.float32)
    for _ in range(int(rng.integers(0, 6))):
        row, column, radius, glow, warm = rng.uniform((0, 0, 0.004, 0.05, 0), (0.7, 1, 0.025, 0.5, 1))
        square = (rows - np.float32(row * height)) ** 2 + (columns - np.float32(column * width)) ** 2
        spread = np.float32((radius * width) ** 2 + 1)
        light = np.exp(-square / spread) + np.float32(glow) / (1 + square / (9 * spread))
        for channel, tint in enumerate((1.0, 1 - 0.15 * warm, 1 - 0.5 * warm)):
            visible[..., channel] += np.float32(1.5 * tint) * light


def _warm_the_sky(infrared: np.ndarray, geometry: Geometry, rng: np.random.Generator) -> None:
    """Low clouds: a sky about as warm as what lies beneath it."""
    sky = geometry.ids == 0
    if sky.any() and not sky.all():
        level = infrared[~sky].mean() + np.float32(rng.uniform(-0.2, 0.3))
        infrared[sky] += np.float32(0.8) * (level - infrared[sky])


def _focus(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Out of focus by up to 1.3 pixels, every other time."""
    sigma = float(rng.uniform(-1.3, 1.3))
    return cv2.GaussianBlur(image, (0, 0), sigma) if sigma > 0.2 else image


def _enhanced(infrared: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Detail enhancement of thermal cameras: local contrast raised up to twofold, every other time."""
    amount, reach = float(rng.uniform(-1, 1)), float(rng.uniform(0.01, 0.06))
    if amount <= 0:
        return infrared
    low = cv2.GaussianBlur(infrared, (0, 0), max(reach * infrared.shape[1], 0.5))
    return infrared + np.float32(amount) * (infrared - low)


def _tone(
    image: np.ndarray,
    *,
    gain: tuple[float, float],
    gamma: tuple[float, float],
    veil: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """Exposure and tone curve: gain and gamma in powers of two, and a veil of stray light, even over all."""
    stops, bend, stray = rng.uniform((gain[0], gamma[0], -veil), (gain[1], gamma[1], veil))
    bright = np.clip(np.float32(2.0**stops) * image, 0, 1)
    lift = np.float32(max(stray, 0))
    return lift + (1 - lift) * cv2.pow(bright, float(2.0**bend))


def _moved(infrared: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Misaligned: moved by up to 0.6 % of the width each way and up to 1 % larger or smaller."""
    height, width = infrared.shape
    right, down, growth = rng.uniform((-0.006, -0.006, -0.01), (0.006, 0.006, 0.01))
    scale = 1 + growth
    across = right * width + (1 - scale) * width / 2
    along = down * width + (1 - scale) * height / 2
    return cv2.warpAffine(
        infrared,
        np.array([[scale, 0, across], [0, scale, along]]),
        (width, height),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
