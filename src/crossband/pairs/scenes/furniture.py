"""What stands along the street: lamp posts, bollards, traffic signs and signals, advertising panels."""

from __future__ import annotations

import numpy as np

from crossband.pairs.scenes.geometry import capsules, circles, rectangle, standing
from crossband.pairs.scenes.people import draw_wardrobe, figure
from crossband.pairs.scenes.surfaces import (
    BARE_METAL,
    PRINT,
    Colour,
    Label,
    Layer,
    Part,
    Surface,
    Thing,
    tinted,
)

_BLUE: Colour = (0.02, 0.10, 0.42)
_RED: Colour = (0.48, 0.02, 0.025)
_BLACK: Colour = (0.02, 0.02, 0.02)
_WHITE: Colour = (0.72, 0.72, 0.70)
_YELLOW: Colour = (0.70, 0.48, 0.03)
_STEEL = Surface(Label.POLE, BARE_METAL, (0.17, 0.18, 0.18))


def lamp_post(x: float, z: float, height: float) -> Thing:
    """A street lamp whose arm reaches over the road."""
    reach = -1.4 * float(np.sign(x))
    over = height + 0.2
    limbs = [
        (0, 0.05, 0, height, 0.11, 0.07),
        (0, height, reach, over, 0.055, 0.05),
        (reach, over, reach * 1.35, over, 0.11, 0.09),
    ]
    stem, arm, head = standing(x, z, capsules(np.array(limbs)))
    lamp = Surface(Label.POLE, PRINT, (0.5, 0.5, 0.45), glow=(9.0, 6.6, 3.6), warmth=3.0)
    parts = [Part(stem[None], _STEEL), Part(arm[None], _STEEL), Part(head[None], lamp)]
    return Thing(Layer.STREET, x, z, parts)


def bollard(x: float, z: float) -> Thing:
    """A low post with a bright band."""
    post, band = rectangle(-0.09, 0, 0.09, 0.95), rectangle(-0.09, 0.72, 0.09, 0.86)
    bright = _STEEL._replace(albedo=_WHITE, material=PRINT, retro=5.0)
    return Thing(
        Layer.STREET,
        x,
        z,
        [
            Part(standing(x, z, post), _STEEL._replace(albedo=(0.06, 0.06, 0.065))),
            Part(standing(x, z, band), bright),
        ],
    )


def _plates(kind: int) -> list[tuple[np.ndarray, Colour]]:
    """The painted outlines of one of seven traffic signs around its middle, in metres, back to front."""
    middle = np.zeros((1, 2))

    def disc(radius: float, corners: int = 16) -> np.ndarray:
        return circles(middle, np.full((1, 2), radius), corners)

    def triangle(size: float, flip: float) -> np.ndarray:
        corners = np.array([(-0.5, -0.36), (0.5, -0.36), (0.0, 0.52)]) * size * np.array([1.0, flip])
        return middle[None] + corners[None]

    if kind == 0:
        return [
            (disc(0.38), _RED),
            (disc(0.28), _WHITE),
            (rectangle(-0.12, -0.14, 0.12, 0.14), _BLACK),
        ]
    if kind == 1:
        return [(triangle(0.95, 1.0), _RED), (triangle(0.62, 1.0), _WHITE)]
    if kind == 2:
        shaft, head = rectangle(-0.06, -0.22, 0.06, 0.05), np.array([[(-0.18, 0), (0.18, 0), (0, 0.24)]])
        return [(disc(0.38), _BLUE), (shaft, _WHITE), (head, _WHITE)]
    if kind == 3:
        return [(disc(0.40, 8), _RED), (rectangle(-0.26, -0.07, 0.26, 0.07), _WHITE)]
    if kind == 4:
        return [
            (rectangle(-0.36, -0.36, 0.36, 0.36), _BLUE),
            (rectangle(-0.12, -0.24, -0.03, 0.24), _WHITE),
            (rectangle(-0.03, 0.02, 0.16, 0.22), _WHITE),
        ]
    if kind == 5:
        return [(triangle(0.9, -1.0), _RED), (triangle(0.55, -1.0), _WHITE)]
    return [
        (rectangle(-0.75, -0.4, 0.75, 0.4), _YELLOW),
        (rectangle(-0.6, -0.02, 0.4, 0.06), _BLACK),
        (rectangle(-0.6, -0.24, 0.1, -0.16), _BLACK),
        (rectangle(-0.6, 0.18, 0.55, 0.26), _BLACK),
    ]


def traffic_sign(x: float, z: float, rng: np.random.Generator) -> Thing:
    """A sign on a post: its paint has the plate's temperature, so only the visible band reads it."""
    height, kind = float(rng.uniform(2.1, 2.8)), int(rng.integers(7))
    scale = float(rng.uniform(1.0, 1.35))
    post = rectangle(-0.06, 0, 0.06, height + 0.3)
    parts = [Part(standing(x, z, post), _STEEL)]
    for shape, colour in _plates(kind):
        plate = Surface(Label.SIGN, PRINT, colour, retro=6.0)
        lifted = shape * scale + np.array([0.0, height])
        parts.append(Part(standing(x, z, lifted), plate))
    return Thing(Layer.STREET, x, z, parts)


def traffic_signal(x: float, z: float, rng: np.random.Generator) -> Thing:
    """A signal head on a post, with one lamp lit."""
    at, lit = 2.6, int(rng.choice(3, p=[0.45, 0.1, 0.45]))
    box = Surface(Label.SIGN, PRINT, (0.02, 0.022, 0.02), warmth=1.5)
    parts = [
        Part(standing(x, z, rectangle(-0.08, 0, 0.08, at)), _STEEL),
        Part(standing(x, z, rectangle(-0.22, at, 0.22, at + 1.05)), box),
    ]
    lenses = circles(np.array([(0, at + 0.85), (0, at + 0.53), (0, at + 0.2)]), np.full((3, 2), 0.12), 10)
    glows: tuple[Colour, ...] = ((0.95, 0.03, 0.02), (0.90, 0.45, 0.02), (0.04, 0.85, 0.28))
    for index, polygon in enumerate(standing(x, z, lenses)):
        on = index == lit
        lens = box._replace(
            albedo=tinted(glows[index], 0.03),
            glow=tinted(glows[index], float(on)),
            always_lit=True,
            warmth=6.0 * on,
        )
        parts.append(Part(polygon[None], lens))
    return Thing(Layer.STREET, x, z, parts)


def advertising_panel(x: float, z: float, rng: np.random.Generator) -> Thing:
    """A poster in a frame, life-size person on it: a person to the visible band, a cold plate to infrared."""
    frame = Surface(Label.SIGN, BARE_METAL, (0.10, 0.10, 0.11))
    tone = rng.uniform(0.15, 0.6, 3)
    paper: Colour = (float(tone[0]), float(tone[1]), float(tone[2]))
    backlight = 0.25 * float(rng.random() < 0.5)

    def printed(surface: Surface) -> Surface:
        glow = tinted(surface.albedo, backlight)
        return Surface(Label.SIGN, PRINT, surface.albedo, glow=glow, warmth=1.0)

    limbs, worn = figure(("standing", "walking", "waiting")[int(rng.integers(3))], rng)
    size = float(rng.uniform(1.45, 1.7))
    shapes = capsules(np.array(limbs) * size) + np.array([float(rng.uniform(-0.15, 0.15)), 0.55])
    wardrobe = {name: printed(surface) for name, surface in draw_wardrobe(rng).items()}
    parts = [
        Part(standing(x, z, rectangle(-0.1, 0, 0.1, 0.5)), _STEEL),
        Part(standing(x, z, rectangle(-0.7, 0.4, 0.7, 2.5)), frame),
        Part(standing(x, z, rectangle(-0.62, 0.48, 0.62, 2.42)), printed(frame._replace(albedo=paper))),
    ]
    for polygon, name in zip(standing(x, z, shapes), worn, strict=True):
        parts.append(Part(polygon[None], wardrobe[name]))
    return Thing(Layer.STREET, x, z, parts)
