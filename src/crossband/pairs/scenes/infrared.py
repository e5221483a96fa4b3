"""The infrared band (8 to 14 um): radiance from temperature and emissivity, then optics, sensor and AGC."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np

from crossband.pairs.scenes.painting import Geometry
from crossband.pairs.scenes.sensor import gaussian_noise
from crossband.pairs.scenes.shading import Shade
from crossband.pairs.scenes.surfaces import EMISSIVITY, MOTTLE
from crossband.pairs.scenes.weather import CLEAR_AIR, Weather
from crossband.pairs.scenes.world import World

_COLDEST, _HOTTEST = -90.0, 140.0
_BODY = 34.0
_AGC_BINS = 512


@cache
def _planck_table() -> np.ndarray:
    """Radiance in 8 to 14 um of a black body at every 0.1 degrees Celsius from -90 to 140, relative to 20.

    Planck's law, integrated over the band.
    """
    celsius = np.linspace(_COLDEST, _HOTTEST, int((_HOTTEST - _COLDEST) * 10) + 1)
    wavelength = np.linspace(8e-6, 14e-6, 121)
    second = 1.438777e-2
    spectral = wavelength**-5.0 / np.expm1(second / (wavelength * (celsius[:, None] + 273.15)))
    radiance = spectral.mean(axis=1)
    return radiance / np.interp(20.0, celsius, radiance)


def band_radiance(celsius: np.ndarray | float) -> np.ndarray:
    """Radiance in 8 to 14 um of a black body, relative to one at 20 degrees Celsius."""
    table = _planck_table()
    return np.interp(celsius, np.linspace(_COLDEST, _HOTTEST, len(table)), table)


PER_KELVIN = float(band_radiance(20.5) - band_radiance(19.5))
"""Relative radiance per kelvin near 20 degrees Celsius."""


def surface_temperatures(geometry: Geometry, weather: Weather, shade: Shade) -> np.ndarray:
    """Temperature of every surface in degrees Celsius, (n,).

    The air's, and what the sun adds, and what the day left stored; blended with a body's where there is
    one; and the surface's own warmth on top.
    """
    _, sun_gain, stored, body, _, _ = geometry.materials.T
    facing_sun = geometry.towards(weather.sun_direction) * (1 - shade.of_surfaces)
    sun = weather.heating * sun_gain * (0.25 + 0.75 * facing_sun)
    surrounding = weather.air + sun + stored * weather.release
    warmth = np.array([surface.warmth for surface in geometry.surfaces])
    return surrounding + body * (_BODY - surrounding) + warmth


def render_infrared(
    world: World,
    geometry: Geometry,
    weather: Weather,
    shade: Shade,
    rng: np.random.Generator,
) -> np.ndarray:
    """The infrared picture after automatic gain control, uint8 (H, W): hot is bright.

    A surface gives off ``emissivity`` of a black body's radiance and mirrors the sky and the street around
    it with the rest.
    """
    ids = geometry.ids
    emissivity, mottle = geometry.materials[:, EMISSIVITY], geometry.materials[:, MOTTLE]
    own = band_radiance(surface_temperatures(geometry, weather, shade))
    sky, street = band_radiance(np.array([weather.air - 0.8 * weather.sky_drop, weather.air]))
    skyward = 0.35 + 0.65 * np.maximum(geometry.facing[:, 1], 0)
    table = emissivity * own + (1 - emissivity) * (skyward * sky + (1 - skyward) * street)
    image = table.astype(np.float32).take(ids)
    image += (mottle * PER_KELVIN).astype(np.float32).take(ids) * shade.grain
    if weather.heating > 2:
        image -= np.float32(0.35 * weather.heating * PER_KELVIN) * shade.on_ground
    _add_sky(image, world, geometry, weather, shade)
    if weather.infrared_extinction > CLEAR_AIR:
        passed = np.exp(-np.float32(weather.infrared_extinction) / geometry.inverse_depth)
        passed[ids == 0] = 1.0
        image = np.float32(street) + (image - np.float32(street)) * passed
    image = cv2.GaussianBlur(image, (0, 0), 0.85)
    image += _sensor_noise(image.shape, rng)
    return _automatic_gain(image)


def _add_sky(image: np.ndarray, world: World, geometry: Geometry, weather: Weather, shade: Shade) -> None:
    """The sky's radiance: near the air's at the horizon, colder higher up, warmer under clouds."""
    rows = len(shade.clouds)
    slope = np.maximum(world.camera.horizon - np.arange(rows), 0) / world.camera.focal
    drop = weather.sky_drop * (0.35 + 0.65 * np.minimum(1, slope / 0.5) ** 0.5)[:, None]
    clear = band_radiance(weather.air - drop).astype(np.float32)
    clouded = band_radiance(weather.air - 0.5 * drop).astype(np.float32)
    np.copyto(image[:rows], clear + (clouded - clear) * shade.clouds, where=geometry.ids[:rows] == 0)


def _sensor_noise(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Temporal noise (NETD 0.08 to 0.2 K), fixed column pattern and slow shading of a microbolometer."""
    netd, columns, shading = rng.uniform((0.08, 0.03, -0.4), (0.20, 0.12, 0.4)).tolist()
    noise = gaussian_noise(shape, rng)
    noise *= np.float32(netd * PER_KELVIN)
    noise += np.float32(columns * PER_KELVIN) * gaussian_noise((1, shape[1]), rng)
    x, y = np.linspace(-1, 1, shape[1]) ** 2, np.linspace(-1, 1, shape[0]) ** 2
    noise += (shading * PER_KELVIN * (x + y[:, None])).astype(np.float32)
    return noise


def _automatic_gain(image: np.ndarray) -> np.ndarray:
    """Radiance to grey values: half a linear stretch, half a plateau equalisation.

    The stretch spans at least 9 K, so that a scene at one temperature stays flat and noisy.

    Plateau equalisation is the histogram equalisation of thermal cameras, with bins clipped so that a
    large uniform sky does not take all grey values (Vickers, Optical Engineering 35(7), 1996).
    """
    sample = image[::3, ::3]
    low, high = np.percentile(sample, (0.5, 99.7))
    least = 9.0 * PER_KELVIN
    if high - low < least:
        middle = (high + low) / 2
        low, high = middle - least / 2, middle + least / 2
    scale = np.float32((_AGC_BINS - 1) / (high - low))
    bins = np.clip((image - np.float32(low)) * scale, 0, _AGC_BINS - 1).astype(np.uint16)
    counts = np.bincount(bins[::2, ::2].ravel(), minlength=_AGC_BINS).astype(np.float64)
    clipped = np.minimum(counts, 3.0 * counts.sum() / _AGC_BINS)
    equalised = np.cumsum(clipped) / clipped.sum()
    linear = np.linspace(0, 1, _AGC_BINS)
    curve = np.rint(255 * (0.5 * linear + 0.5 * equalised)).astype(np.uint8)
    return curve.take(bins)
