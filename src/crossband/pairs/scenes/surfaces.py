"""What a scene is made of: surfaces with class, colour, material and heat, and things built from them."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

import numpy as np

from crossband.pairs.base import Classes

Colour = tuple[float, float, float]
Vector = tuple[float, float, float]


class Label(IntEnum):
    """The ids of ``SCENE_CLASSES``, by name."""

    ROAD = 0
    SIDEWALK = 1
    BUILDING = 2
    VEGETATION = 3
    SKY = 4
    PERSON = 5
    CAR = 6
    BICYCLE = 7
    POLE = 8
    SIGN = 9


# Near the colours of Cityscapes, and told apart by colour-blind eyes (`crossband.colour_vision`).
SCENE_CLASSES = Classes(
    names=tuple(label.name.lower() for label in Label),
    palette=(
        (210, 116, 171),
        (191, 14, 170),
        (35, 45, 68),
        (143, 198, 103),
        (37, 182, 255),
        (208, 38, 81),
        (0, 50, 204),
        (105, 8, 12),
        (137, 115, 4),
        (232, 199, 4),
    ),
)


class Material(NamedTuple):
    """How a material meets light and heat.

    emissivity: in 8 to 14 um, at near-normal view.
    sun_gain: kelvin gained per unit of solar heating, facing the sun.
    stored: kelvin above the air on a clear night (below it where negative: light things that face the
        cold sky cool under the air).
    body: 1 for what a body heats fully, 0 for what follows the air.
    texture, mottle: contrast of the fine pattern, relative in the visible, in kelvin in the infrared.
    """

    emissivity: float
    sun_gain: float
    stored: float
    body: float = 0.0
    texture: float = 0.05
    mottle: float = 0.15


EMISSIVITY, TEXTURE, MOTTLE = (Material._fields.index(name) for name in ("emissivity", "texture", "mottle"))

ASPHALT = Material(0.95, 1.0, 5.0, texture=0.1, mottle=0.3)
PAINT_ON_ASPHALT = Material(0.94, 1.0, 5.0, texture=0.1, mottle=0.3)
IRON = Material(0.90, 1.0, 4.0, texture=0.12, mottle=0.2)
CONCRETE = Material(0.94, 0.7, 3.5, texture=0.09, mottle=0.28)
MASONRY = Material(0.93, 0.75, 2.5, texture=0.09, mottle=0.28)
ROOF_TILE = Material(0.92, 0.8, -1.5, texture=0.14, mottle=0.3)
GLASS = Material(0.84, 0.15, 0.5, texture=0.05, mottle=0.2)
FOLIAGE = Material(0.97, 0.15, -1.0, texture=0.4, mottle=0.7)
GRASS = Material(0.97, 0.25, -2.5, texture=0.25, mottle=0.55)
BARK = Material(0.95, 0.3, 0.8, texture=0.2, mottle=0.4)
SHEET_METAL = Material(0.90, 0.45, -1.8, texture=0.02, mottle=0.2)
BARE_METAL = Material(0.75, 0.3, -1.0, texture=0.04, mottle=0.2)
RUBBER = Material(0.95, 0.4, 0.5, texture=0.05, mottle=0.2)
PRINT = Material(0.90, 0.3, -1.0, texture=0.03, mottle=0.2)
SKIN = Material(0.98, 0.05, 0.0, body=0.92, texture=0.03, mottle=0.2)
CLOTH = Material(0.95, 0.12, 0.0, body=0.48, texture=0.08, mottle=0.5)
COAT = Material(0.95, 0.12, 0.0, body=0.30, texture=0.08, mottle=0.5)
HAIR = Material(0.96, 0.15, 0.0, body=0.60, texture=0.08, mottle=0.3)
AIR = Material(1.0, 0.0, 0.0, texture=0.0, mottle=0.0)

UP: Vector = (0.0, 1.0, 0.0)
TO_CAMERA: Vector = (0.0, 0.0, -1.0)
ROUND: Vector = (0.0, 0.55, -0.45)
"""The facing of a rounded thing seen from the street: some of the sky, some of the side."""


class Surface(NamedTuple):
    """One uniform piece of a thing.

    albedo: linear reflectance per channel, 0 to 1.
    facing: the surface's normal; x to the right, y up, z away from the camera.
    warmth: kelvin above what the material would have by itself (an engine, a vent).
    glow: radiance given off while lit, in units of a white surface in full sun.
    always_lit: whether it glows by day too (a traffic signal), or only with the street lamps.
    retro: how strongly it sends the headlamps' light back (road signs).
    """

    label: Label
    material: Material
    albedo: Colour
    facing: Vector = ROUND
    warmth: float = 0.0
    glow: Colour = (0.0, 0.0, 0.0)
    always_lit: bool = False
    retro: float = 1.0


def tinted(colour: Colour, shade: float) -> Colour:
    """A colour made darker or lighter, short of white."""
    red, green, blue = colour
    return (min(red * shade, 0.95), min(green * shade, 0.95), min(blue * shade, 0.95))


class Part(NamedTuple):
    """Polygons of one surface, painted together.

    outlines: (n, k, 3) corners in metres. Where polygons of a part overlap in the picture, the even-odd
        rule cuts a hole, so a ring is two circles.
    base: the ground points (x0, z0, x1, z1) above which an upright wall stands; None for what faces the
        camera where its thing stands.
    """

    outlines: np.ndarray
    surface: Surface
    base: tuple[float, float, float, float] | None = None


class Layer(IntEnum):
    """What is painted first. Within a layer, the farther thing is painted first."""

    BACKDROP = 0
    GROUND = 1
    BESIDE = 2
    STREET = 3


@dataclass
class Thing:
    """Something that stands in the scene, as parts painted in order.

    x, z: where it stands, in metres to the right of and ahead of the camera's foot.
    """

    layer: Layer
    x: float
    z: float
    parts: list[Part] = field(default_factory=list)
