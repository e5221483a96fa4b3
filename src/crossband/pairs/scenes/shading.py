"""What both bands take from the sun and the surfaces: shadows and the fine pattern."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from crossband.pairs.scenes.geometry import SHIFT, Camera, fixed_point
from crossband.pairs.scenes.painting import Geometry
from crossband.pairs.scenes.sensor import pattern, pattern_at
from crossband.pairs.scenes.weather import Weather
from crossband.pairs.scenes.world import World

_GRAIN_OF_GROUND = 12.0
"""Steps of the pattern tile per metre of road."""
_GRAIN_OF_IMAGE = 416.0
"""Steps of the pattern tile per unit of the image plane (a pixel is 1 / focal)."""


@dataclass(frozen=True)
class Shade:
    """Shadow and pattern of a scene.

    on_ground: share of the sun kept from every pixel of the ground, float32 (H, W); 0 elsewhere.
    of_surfaces: share of the sun kept from every surface, (n,).
    grain: the surface pattern, in deviations, float32 (H, W).
    clouds: how far a cloud covers the sky, 0 to 1, float32 (rows down to the horizon, W).
    """

    on_ground: np.ndarray
    of_surfaces: np.ndarray
    grain: np.ndarray
    clouds: np.ndarray


def draw_shade(world: World, geometry: Geometry, weather: Weather, rng: np.random.Generator) -> Shade:
    """Throw the shadows and draw the pattern. A standing thing is in the shadow that its foot is in."""
    shadow = ground_shadow(world, weather)
    of_surfaces = 0.9 * geometry.at_feet(shadow)
    of_surfaces[geometry.ground[0] : geometry.ground[1]] = 0
    return Shade(
        on_ground=shadow * geometry.on_ground,
        of_surfaces=of_surfaces,
        grain=surface_grain(world, geometry, rng),
        clouds=cloud_cover(world, weather, rng),
    )


def ground_shadow(world: World, weather: Weather) -> np.ndarray:
    """Share of the sun that is kept from the ground, float32 (H, W): thrown by walls and by what stands."""
    mask = np.zeros(world.camera.size, np.uint8)
    if not weather.sun.any():
        return mask.astype(np.float32)
    reach = -weather.sun_direction[[0, 2]] / max(weather.sun_direction[1], 0.12)
    quads = []
    if len(world.walls):
        x, near, far, height = world.walls.T
        quads.append(_thrown(x, near, x, far, height, reach))
    if len(world.casters):
        x, z, half, height = world.casters.T
        quads.append(_thrown(x - half, z, x + half, z, height, reach))
    for polygon in _on_ground(world.camera, np.concatenate(quads)):
        cv2.fillConvexPoly(mask, polygon, 255, shift=SHIFT)
    soft = cv2.GaussianBlur(mask, (3, 3), 0)
    return soft.astype(np.float32) * np.float32(1 / 255)


def _thrown(
    x0: np.ndarray, z0: np.ndarray, x1: np.ndarray, z1: np.ndarray, height: np.ndarray, reach: np.ndarray
) -> np.ndarray:
    """Ground quads (n, 4, 2) between the feet of upright things and the shadows of their tops."""
    feet = np.stack([np.stack([x0, z0], axis=1), np.stack([x1, z1], axis=1)], axis=1)
    tips = feet[:, ::-1] + (height[:, None] * reach)[:, None]
    return np.concatenate([feet, tips], axis=1)


def _on_ground(camera: Camera, quads: np.ndarray) -> list[np.ndarray]:
    """Ground quads (n, 4, 2) as image polygons."""
    points = np.zeros((*quads.shape[:2], 3))
    points[..., 0], points[..., 2] = quads[..., 0], np.maximum(quads[..., 1], 0.6)
    return list(fixed_point(camera.project(points)))


def surface_grain(world: World, geometry: Geometry, rng: np.random.Generator) -> np.ndarray:
    """The pattern of every pixel's surface, in deviations, float32 (H, W).

    On the ground it lies in the plane of the road, elsewhere in that of the image.
    """
    camera = world.camera
    height, width = camera.size
    scale = _GRAIN_OF_IMAGE / camera.focal
    grain = pattern(camera.size, (scale, scale), rng)
    top = max(int(camera.horizon) + 2, 0)
    if top >= height:
        return grain
    z = (camera.focal * camera.height) / (np.arange(top, height) - camera.horizon)
    x = (np.arange(width) - camera.centre) / camera.focal
    across = (z[:, None] * x).astype(np.float32) * np.float32(_GRAIN_OF_GROUND)
    along = np.broadcast_to((z * _GRAIN_OF_GROUND).astype(np.float32)[:, None], across.shape)
    laid = pattern_at(across, along, rng)
    np.copyto(grain[top:], laid, where=geometry.on_ground[top:])
    return grain


def cloud_cover(world: World, weather: Weather, rng: np.random.Generator) -> np.ndarray:
    """How far clouds, stretched along the horizon, cover the sky: 0 to 1, float32 (rows, W)."""
    height, width = world.camera.size
    rows = min(max(int(world.camera.horizon) + 2, 0), height)
    step = 240 / height
    cover = pattern((rows, width), (1.6 * step, 0.6 * step), rng)
    cover = cover * np.float32(0.6) + np.float32(1.44 * weather.clouds - 0.72)
    return np.minimum(np.maximum(cover, 0), 1)
