"""The visible band: linear light from albedo and illumination, then lens, sensor and tone curve."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np

from crossband.colour import to_srgb
from crossband.pairs.scenes.painting import Geometry
from crossband.pairs.scenes.sensor import gaussian_noise
from crossband.pairs.scenes.shading import Shade
from crossband.pairs.scenes.surfaces import TEXTURE
from crossband.pairs.scenes.weather import CLEAR_AIR, Weather
from crossband.pairs.scenes.world import World

_RESPONSE_STEPS = 4096
_LAMP_TINT = (np.float32(1.0), np.float32(0.84), np.float32(0.58))
_LAMPS_SEEN = 40.0
_DAYLIGHT = 0.15
_LAMP_POWER = 5.0
_LAMP_SIZE = 1.0
_BEAM_POWER = 7.0


@cache
def _response() -> np.ndarray:
    """A camera's answer to linear light 0 to 2: sRGB's transfer with a soft shoulder, uint8 (4096,)."""
    light = np.linspace(0, 2, _RESPONSE_STEPS)
    rolled = np.where(light < 0.7, light, 0.7 + 0.3 * (1 - np.exp(-(light - 0.7) / 0.3)))
    return np.rint(255 * np.clip(to_srgb(rolled), 0, 1)).astype(np.uint8)


def render_visible(
    world: World,
    geometry: Geometry,
    weather: Weather,
    shade: Shade,
    rng: np.random.Generator,
) -> np.ndarray:
    """The visible picture, sRGB uint8 (H, W, 3)."""
    light = _surface_light(world, geometry, weather, shade)
    _add_sky(light, world, geometry, weather, shade)
    if weather.extinction > CLEAR_AIR:
        _add_lit_air(light, geometry, weather)
    exposure = _exposure(light, weather)
    light *= exposure
    _add_glare(light, world, geometry, weather)
    noise = gaussian_noise(light.shape, rng)
    gain = exposure * weather.noise
    picture = np.empty((*light.shape[1:], 3), np.uint8)
    for channel in range(3):
        plane = cv2.GaussianBlur(light[channel], (3, 3), 0.55)
        plane += noise[channel] * (gain + 0.016 * cv2.sqrt(np.maximum(plane, 0, out=plane)))
        plane *= (_RESPONSE_STEPS - 1) / 2
        np.clip(plane, 0, _RESPONSE_STEPS - 1, out=plane)
        picture[..., channel] = _response().take(plane.astype(np.uint16))
    return picture


def _surface_light(world: World, geometry: Geometry, weather: Weather, shade: Shade) -> np.ndarray:
    """Linear light that leaves every surface, planar float32 (3, H, W)."""
    ids, facing = geometry.ids, geometry.facing
    albedo = np.array([s.albedo for s in geometry.surfaces])
    lit_by_day = np.array([s.always_lit for s in geometry.surfaces])
    glow = np.array([s.glow for s in geometry.surfaces]) * np.where(lit_by_day, 1.0, weather.lamps)[:, None]
    openness = facing.any(axis=1) * (0.55 + 0.45 * np.maximum(facing[:, 1], 0))
    sunlit = geometry.towards(weather.sun_direction) * (1 - shade.of_surfaces)
    incoming = openness[:, None] * weather.ambient + sunlit[:, None] * weather.sun
    table = (albedo * incoming + glow).astype(np.float32)

    contrast = geometry.materials[:, TEXTURE].astype(np.float32).take(ids)
    contrast *= shade.grain
    contrast += 1
    np.maximum(contrast, np.float32(0.15), out=contrast)
    light = np.empty((3, *ids.shape), np.float32)
    dark = weather.lamps > 0 and weather.ambient[1] < _DAYLIGHT
    lamplight = _lamplight(world, geometry, weather) if dark else None
    in_sun = weather.ambient + weather.sun * weather.sun_direction[1]
    for channel, tint in enumerate(_LAMP_TINT):
        plane = light[channel]
        table[:, channel].take(ids, out=plane, mode="clip")
        if lamplight is not None:
            street, beam = lamplight
            plane += albedo[:, channel].astype(np.float32).take(ids) * (street * tint + beam)
        if weather.sun.any():
            lost = np.float32(1 - weather.ambient[channel] / in_sun[channel])
            plane *= contrast - contrast * shade.on_ground * lost
        else:
            plane *= contrast
    return light


def _lamplight(world: World, geometry: Geometry, weather: Weather) -> tuple[np.ndarray, np.ndarray]:
    """Light of the street lamps and of the camera's own headlamps on every pixel, float32 (H, W) each.

    Street lamps shine downwards with a cosine; both fall with the square of the distance. A lamp is no
    point: ``_LAMP_SIZE``, in square metres, keeps what touches it from burning.
    """
    camera = world.camera
    z = 1 / geometry.inverse_depth
    columns = ((np.arange(camera.size[1]) - camera.centre) / camera.focal).astype(np.float32)
    rows = ((np.arange(camera.size[0])[:, None] - camera.horizon) / camera.focal).astype(np.float32)
    x, y = columns * z, np.float32(camera.height) - rows * z
    street = np.zeros_like(z)
    for lamp_x, lamp_y, lamp_z in world.lamps[world.lamps[:, 2] < _LAMPS_SEEN].tolist():
        across = x - np.float32(lamp_x + camera.bend * lamp_z**2 - camera.x)
        ahead = z - np.float32(lamp_z)
        below = np.maximum(np.float32(lamp_y) - y, np.float32(0.1))
        below *= below
        across *= across
        ahead *= ahead
        across += ahead
        across += below
        across += np.float32(_LAMP_SIZE)
        across *= across
        below /= across
        street += below
    street *= np.float32(_LAMP_POWER * weather.lamps)
    if not weather.headlamps:
        return street, np.zeros_like(street)
    spread = np.exp(-((columns * np.float32(2.2)) ** 2))
    cutoff = np.exp(-((np.maximum(y - np.float32(0.55), 0) / np.float32(0.5)) ** 2))
    retro = np.array([s.retro for s in geometry.surfaces], dtype=np.float32).take(geometry.ids)
    return street, spread * cutoff * retro * np.float32(_BEAM_POWER) / (z * z + 60)


def _add_sky(light: np.ndarray, world: World, geometry: Geometry, weather: Weather, shade: Shade) -> None:
    """Fill the sky: a gradient from the horizon up, and clouds before it."""
    rows = len(shade.clouds)
    up = np.maximum(world.camera.horizon - np.arange(rows), 0) / max(world.camera.horizon, 1.0)
    share = (up[:, None] ** 0.6).astype(np.float32)
    cover = shade.clouds * np.minimum(1, 3 * share)
    sky = geometry.ids[:rows] == 0
    daylight = weather.sun.mean() + weather.ambient.mean()
    cloud = 0.55 * weather.horizon + 0.3 * weather.zenith.mean() + 0.12 * daylight
    for channel in range(3):
        low, high, white = (np.float32(c[channel]) for c in (weather.horizon, weather.zenith, cloud))
        clear = low + (high - low) * share
        np.copyto(light[channel, :rows], clear + (white - clear) * cover, where=sky)


def _add_lit_air(light: np.ndarray, geometry: Geometry, weather: Weather) -> None:
    """Fog (Koschmieder): what comes from far is dimmed and replaced by the air's own light."""
    passed = np.exp(-np.float32(weather.extinction) / geometry.inverse_depth)
    passed[geometry.ids == 0] = 1.0
    for channel in range(3):
        air = np.float32(weather.horizon[channel])
        light[channel] -= air
        light[channel] *= passed
        light[channel] += air


def _exposure(light: np.ndarray, weather: Weather) -> float:
    """The factor that brings the mean of the picture to mid grey, as far as the camera can go."""
    mean = float(np.minimum(light[1, ::4, ::4], 1.5).mean(dtype=np.float64))
    return float(np.clip(0.20 / max(mean, 1e-4), 0.35, weather.longest_exposure))


def _add_glare(light: np.ndarray, world: World, geometry: Geometry, weather: Weather) -> None:
    """Bloom around what saturates, and the veil of a strong light that shines into the lens."""
    height, width = light.shape[1:]
    small_size = (max(width // 4, 1), max(height // 4, 1))
    scale = (height * width) ** 0.5 / 277
    veil = _veil(world, geometry, weather, small_size) if weather.glare > 0 else None
    for channel, tint in enumerate(_LAMP_TINT):
        excess = np.minimum(np.maximum(light[channel] - np.float32(0.9), 0), np.float32(4))
        if veil is None and not excess.any():
            continue
        small = cv2.resize(excess, small_size, interpolation=cv2.INTER_AREA)
        bloom = cv2.GaussianBlur(small, (0, 0), max(1.2 * scale, 0.3))
        if veil is not None:
            bloom += veil * np.float32(0.4 + 0.6 * tint)
        light[channel] += cv2.resize(bloom, (width, height), interpolation=cv2.INTER_LINEAR)


def _veil(world: World, geometry: Geometry, weather: Weather, small_size: tuple[int, int]) -> np.ndarray:
    """Light that the lens scatters around a glaring source, float32, at a reduced size.

    The source is the sun, of which only the veil is left where something hides it, or the nearest
    oncoming headlamps, or the nearest street lamp.
    """
    camera = world.camera
    height, width = camera.size
    hidden = False
    if weather.sun.any():
        right, up, ahead = weather.sun_direction
        column = camera.centre + camera.focal * right / ahead
        row = camera.horizon - camera.focal * up / ahead
        inside = 0 <= row < height and 0 <= column < width
        hidden = inside and geometry.ids[int(row), int(column)] != 0
    else:
        sources = world.headlamps if len(world.headlamps) else world.lamps
        column, row = camera.project(sources[sources[:, 2].argmin()])
    x = ((np.arange(small_size[0]) + 0.5) * (width / small_size[0]) - column) / camera.focal
    y = ((np.arange(small_size[1]) + 0.5) * (height / small_size[1]) - row) / camera.focal
    square = (x * x)[None] + (y * y)[:, None]
    veil = 0.14 * np.exp(-square / 0.04) + 0.05
    if not hidden:
        veil += np.exp(-square / 0.0025)
    return (weather.glare * veil).astype(np.float32)
