"""The conditions: what light falls on a scene, what it is seen through, and how warm it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Weather:
    """Light, air and heat of one scene.

    ambient, sun: linear light from the sky and from the sun (zero where it does not reach), per channel.
    sun_direction: unit vector towards the sun; x to the right, y up, z ahead.
    zenith, horizon: colour of the sky overhead and above the horizon; the horizon's is also the fog's.
    clouds: share of the sky that is clouded.
    lamps: brightness of everything that glows only in the dark: 1 at night, 0 by day.
    headlamps: whether the camera's own vehicle lights the road.
    glare: strength of a light that shines into the lens: the sun, or headlamps where there is no sun.
    extinction, infrared_extinction: share of light lost per metre of air (Beer-Lambert), 1/m.
    air: temperature in degrees Celsius. sky_drop: kelvin that the clear zenith appears below the air.
    heating: kelvin that the sun adds to asphalt that faces it. release: how far the stored heat of the day
        shows, from 0 (everything at the air's temperature) to 1 (a clear night).
    noise: read noise of the visible camera, as linear light at an exposure of 1.
    longest_exposure: how far the exposure may be raised.
    """

    condition: str
    ambient: np.ndarray
    sun: np.ndarray
    sun_direction: np.ndarray
    zenith: np.ndarray
    horizon: np.ndarray
    clouds: float
    lamps: float = 0.0
    headlamps: bool = False
    glare: float = 0.0
    extinction: float = 0.0015
    infrared_extinction: float = 0.0015
    air: float
    sky_drop: float
    heating: float
    release: float
    noise: float
    longest_exposure: float


CLEAR_AIR = 0.004
"""Extinction, 1/m, up to which air is not drawn: a street is too short to show it."""
_DARK = np.zeros(3)


def _colour(red: float, green: float, blue: float) -> np.ndarray:
    return np.array([red, green, blue])


def _sun_at(azimuth: float, elevation: float) -> np.ndarray:
    """Unit vector to the sun; azimuth 0 is straight ahead, positive to the right; in radians."""
    flat = np.cos(elevation)
    return _colour(np.sin(azimuth) * flat, np.sin(elevation), np.cos(azimuth) * flat)


def _day(draw: np.ndarray) -> Weather:
    """A clear day with sun and shadows, or, one time in four, an overcast one."""
    clear, strength, warmth, turn, height = bool(draw[0] < 0.75), *draw[1:]
    return Weather(
        condition="day",
        ambient=_colour(0.24, 0.27, 0.33) if clear else _colour(0.50, 0.51, 0.53),
        sun=_colour(0.95, 0.88, 0.78) * (0.8 + 0.3 * strength) if clear else _DARK,
        sun_direction=_sun_at(2 * np.pi * turn, 0.45 + 0.65 * height),
        zenith=_colour(0.16, 0.33, 0.72) if clear else _colour(0.55, 0.58, 0.62),
        horizon=_colour(0.62, 0.74, 0.90) if clear else _colour(0.72, 0.74, 0.76),
        clouds=0.15 + 0.5 * strength if clear else 1.0,
        air=8 + 20 * warmth,
        sky_drop=42.0 if clear else 12.0,
        heating=10 + 14 * strength if clear else 3.0,
        release=0.35,
        noise=0.004,
        longest_exposure=2.5,
    )


def _dusk(draw: np.ndarray) -> Weather:
    """Dusk: what the sun warmed and what the sky cools meet near one temperature (thermal crossover)."""
    strength, warmth = draw[1], draw[2]
    return Weather(
        condition="dusk",
        ambient=_colour(0.075, 0.075, 0.115) * (0.6 + strength),
        sun=_colour(0.05, 0.025, 0.01),
        sun_direction=_sun_at(2 * np.pi * draw[3], 0.08),
        zenith=_colour(0.05, 0.07, 0.17) * (0.6 + strength),
        horizon=_colour(0.48, 0.25, 0.14) * (0.6 + strength),
        clouds=0.2 + 0.5 * strength,
        lamps=0.45,
        headlamps=bool(draw[4] < 0.4),
        air=6 + 18 * warmth,
        sky_drop=25.0,
        heating=1.0,
        release=0.25,
        noise=0.0022,
        longest_exposure=3.5,
    )


def _night(draw: np.ndarray) -> Weather:
    """Night: street lamps, lit windows, headlamps on every other vehicle that carries the camera."""
    clear, strength, warmth = bool(draw[0] < 0.75), draw[1], draw[2]
    return Weather(
        condition="night",
        ambient=_colour(0.0030, 0.0032, 0.0050) * (0.4 + 1.6 * strength),
        sun=_DARK,
        sun_direction=_sun_at(0.0, 0.5),
        zenith=_colour(0.0016, 0.0020, 0.0048) * (0.5 + strength),
        horizon=_colour(0.010, 0.009, 0.012) * (0.5 + strength),
        clouds=0.6 * draw[0],
        lamps=1.0,
        headlamps=bool(draw[3] < 0.5),
        air=-2 + 20 * warmth,
        sky_drop=38.0 if clear else 12.0,
        heating=0.0,
        release=1.0 if clear else 0.6,
        noise=0.0014,
        longest_exposure=6.0,
    )


def _fog(draw: np.ndarray) -> Weather:
    """Fog by day, 45 to 140 m of visibility; it dims the infrared less than the visible."""
    thickness, strength, warmth = 0.022 + 0.045 * draw[0], draw[1], draw[2]
    grey = 0.30 + 0.35 * strength
    return Weather(
        condition="fog",
        ambient=_colour(0.90, 0.90, 0.92) * grey,
        sun=_DARK,
        sun_direction=_sun_at(0.0, 0.5),
        zenith=_colour(0.97, 0.99, 1.02) * grey,
        horizon=_colour(0.97, 0.99, 1.02) * grey,
        clouds=0.0,
        lamps=0.6,
        extinction=thickness,
        infrared_extinction=0.3 * thickness,
        air=1 + 12 * warmth,
        sky_drop=5.0,
        heating=0.5,
        release=0.3,
        noise=0.004,
        longest_exposure=2.5,
    )


def _glare(draw: np.ndarray) -> Weather:
    """A low sun ahead; or, one time in three, headlamps that shine into the lens at night."""
    strength, warmth = draw[1], draw[2]
    if draw[0] < 0.65:
        return Weather(
            condition="glare",
            ambient=_colour(0.17, 0.165, 0.18),
            sun=_colour(0.8, 0.62, 0.42),
            sun_direction=_sun_at(0.4 * (draw[3] - 0.5), 0.10 + 0.16 * draw[4]),
            zenith=_colour(0.28, 0.38, 0.62),
            horizon=_colour(1.0, 0.82, 0.58),
            clouds=0.3 * strength,
            glare=2.0 + 2.5 * strength,
            extinction=0.004,
            air=4 + 18 * warmth,
            sky_drop=35.0,
            heating=6.0,
            release=0.4,
            noise=0.004,
            longest_exposure=1.6,
        )
    return Weather(
        condition="glare",
        ambient=_colour(0.004, 0.004, 0.006),
        sun=_DARK,
        sun_direction=_sun_at(0.0, 0.5),
        zenith=_colour(0.002, 0.0025, 0.005),
        horizon=_colour(0.012, 0.011, 0.014),
        clouds=0.4,
        lamps=1.0,
        headlamps=True,
        glare=1.2 + strength,
        extinction=0.003,
        air=2 + 16 * warmth,
        sky_drop=34.0,
        heating=0.0,
        release=0.8,
        noise=0.0014,
        longest_exposure=4.0,
    )


_DRAWS: dict[str, Callable[[np.ndarray], Weather]] = {
    "day": _day,
    "dusk": _dusk,
    "night": _night,
    "fog": _fog,
    "glare": _glare,
}
CONDITIONS = tuple(_DRAWS)


def draw_weather(condition: str, rng: np.random.Generator) -> Weather:
    """Draw the weather of one scene under a condition of ``CONDITIONS``."""
    return _DRAWS[condition](rng.random(5))
