"""From a seed to a pair: world, weather, and both bands of the same geometry."""

from __future__ import annotations

import numpy as np

from crossband.pairs.base import Pair
from crossband.pairs.scenes.cameras import Pictures, by_other_cameras
from crossband.pairs.scenes.infrared import render_infrared
from crossband.pairs.scenes.kept import Drawn, KeptScenes
from crossband.pairs.scenes.painting import paint
from crossband.pairs.scenes.shading import draw_shade
from crossband.pairs.scenes.visible import render_visible
from crossband.pairs.scenes.weather import CONDITIONS, draw_weather
from crossband.pairs.scenes.world import build_world

KEPT = KeptScenes()


def render(seed: int, index: int, size: tuple[int, int], condition: str | None, *, varied: bool) -> Pair:
    """Render one scene; see ``crossband.pairs.scenes.render_scene``. Scenes are kept, to be given again."""
    drawn = KEPT.get(
        (seed, index, size, condition, varied), lambda: _draw(seed, index, size, condition, varied=varied)
    )
    return Pair(
        name=f"{seed}-{index}-{drawn.condition}",
        visible=drawn.visible.astype(np.float32) / np.float32(255),
        infrared=drawn.infrared.astype(np.float32) / np.float32(255),
        label=drawn.label.copy(),
        condition=drawn.condition,
    )


def _draw(seed: int, index: int, size: tuple[int, int], condition: str | None, *, varied: bool) -> Drawn:
    """Draw one scene, from seed and index alone.

    The world, the weather, the noise of each band and the cameras have random numbers of their own each:
    neither the condition, nor the size, nor the cameras change what stands in the street.
    """
    place, air, light, heat, lens = (np.random.default_rng([seed, index, stream]) for stream in range(5))
    drawn = CONDITIONS[int(air.integers(len(CONDITIONS)))]
    world = build_world(size, place)
    weather = draw_weather(condition or drawn, air)
    geometry = paint(world)
    shade = draw_shade(world, geometry, weather, air)
    pictures = Pictures(
        render_visible(world, geometry, weather, shade, light),
        render_infrared(world, geometry, weather, shade, heat),
    )
    if varied:
        pictures = by_other_cameras(pictures, geometry, weather, lens)
    return Drawn(pictures.visible, pictures.infrared, geometry.labels(), weather.condition)
