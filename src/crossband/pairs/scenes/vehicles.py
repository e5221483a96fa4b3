"""Cars and bicycles."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from crossband.pairs.scenes.geometry import capsules, circles, standing
from crossband.pairs.scenes.people import draw_wardrobe, dressed_parts, rider
from crossband.pairs.scenes.surfaces import (
    ASPHALT,
    BARE_METAL,
    GLASS,
    PRINT,
    RUBBER,
    SHEET_METAL,
    Colour,
    Label,
    Layer,
    Part,
    Surface,
    Thing,
    Vector,
)

_PAINTS: tuple[Colour, ...] = (
    (0.62, 0.62, 0.63),
    (0.02, 0.02, 0.022),
    (0.12, 0.12, 0.13),
    (0.30, 0.31, 0.33),
    (0.36, 0.03, 0.03),
    (0.04, 0.09, 0.26),
    (0.09, 0.13, 0.08),
    (0.46, 0.40, 0.30),
    (0.05, 0.20, 0.24),
)


class _Body(NamedTuple):
    """A car's side outline, and which of its faces are glass.

    outline: metres from the rear and height, from the rear bumper over the roof to the front bumper.
    glass: the faces between neighbouring points that are windows, as indices.
    waist: height up to which the body has its full width.
    half: half of that width.
    share: how common the body is.
    """

    outline: tuple[tuple[float, float], ...]
    glass: tuple[int, int]
    waist: float
    half: float
    share: float


_HATCHBACK = _Body(
    ((0, 0.25), (0, 0.90), (0.30, 1.42), (0.55, 1.48), (2.0, 1.46), (2.9, 0.95), (3.85, 0.80), (3.95, 0.25)),
    *((1, 4), 1.0, 0.86, 0.35),
)
_SALOON = _Body(
    ((0, 0.25), (0, 0.90), (0.75, 0.97), (1.4, 1.40), (2.6, 1.42), (3.35, 0.95), (4.45, 0.8), (4.55, 0.25)),
    *((2, 4), 1.0, 0.88, 0.30),
)
_ESTATE = _Body(
    ((0, 0.28), (0, 0.98), (0.28, 1.55), (0.5, 1.62), (2.6, 1.62), (3.35, 1.05), (4.3, 0.92), (4.4, 0.28)),
    *((1, 4), 1.06, 0.90, 0.22),
)
_VAN = _Body(
    ((0, 0.3), (0, 1.25), (0.05, 1.95), (0.2, 2.15), (3.7, 2.15), (4.4, 1.25), (4.95, 1.05), (5.0, 0.3)),
    *((1, 4), 1.26, 0.98, 0.13),
)
_BODIES = (_HATCHBACK, _SALOON, _ESTATE, _VAN)
_BONNET, _FRONT = 5, 6


def car(
    eye: tuple[float, float], x: float, z: float, heading: float, driven: bool, rng: np.random.Generator
) -> Thing:
    """A car with its middle at (x, z).

    eye: the camera's place beside the street's middle, and its height, in metres.
    heading: 0 drives away from the camera, pi towards it, pi / 2 to the right.
    driven: warm engine, tyres and exhaust, lights on in the dark; otherwise parked long enough to have
        taken the temperature around it.
    """
    body = _BODIES[int(rng.choice(len(_BODIES), p=[body.share for body in _BODIES]))]
    colour = _PAINTS[int(rng.integers(len(_PAINTS)))]
    warm = float(rng.uniform(0.6, 1.2)) * driven
    shape = np.array(body.outline)
    length, half = float(shape[-1, 0]), body.half
    frame = _Frame(eye, x, z, heading, length)
    width = np.where(shape[:, 1] <= body.waist, half, half - 0.14)
    paint = Surface(Label.CAR, SHEET_METAL, colour, warmth=1.5 * warm)
    glass = Surface(Label.CAR, GLASS, (0.03, 0.035, 0.04), warmth=3.0 * warm)
    tyre = Surface(Label.CAR, RUBBER, (0.025, 0.025, 0.026), warmth=14.0 * warm)
    beneath = Surface(Label.ROAD, ASPHALT, (0.008, 0.008, 0.009), (0, 0, 0), warmth=5.0 * warm)
    rear, front = -0.15, length + 0.15
    shade = np.array([[(rear, 0, -half), (front, 0, -half), (front, 0, half), (rear, 0, half)]])
    parts = [
        Part(frame.world(shade), beneath),
        *_shell(frame, shape, width, body.glass, paint, glass, warm),
        *_flank_details(frame, shape, width, glass, tyre),
        *_end_details(frame, length, half, warm, tyre),
    ]
    return Thing(Layer.STREET, x, z, parts)


class _Frame:
    """A car's own axes (along from the rear, up, across) and where they lie in the world."""

    def __init__(self, eye: tuple[float, float], x: float, z: float, heading: float, length: float):
        self.eye, self.x, self.z, self.length = np.array([eye[0], eye[1], 0.0]), x, z, length
        self.sine, self.cosine = float(np.sin(heading)), float(np.cos(heading))

    def turned(self, along: float, up: float, across: float) -> Vector:
        """A direction in the car's axes as one of the world."""
        return (self.sine * along + self.cosine * across, up, self.cosine * along - self.sine * across)

    def world(self, points: np.ndarray) -> np.ndarray:
        """Points (..., 3) in the car's axes as world points."""
        along, across = points[..., 0] - self.length / 2, points[..., 2]
        placed = np.empty(points.shape)
        placed[..., 0] = self.x + self.sine * along + self.cosine * across
        placed[..., 1] = points[..., 1]
        placed[..., 2] = self.z + self.cosine * along - self.sine * across
        return placed

    def seen(self, normal: Vector, at: np.ndarray) -> bool:
        """Whether a face with this normal through this point, both of the world, turns to the camera."""
        return float(np.dot(self.eye - at, normal)) > 0


def _shell(
    frame: _Frame,
    shape: np.ndarray,
    width: np.ndarray,
    windows: tuple[int, int],
    paint: Surface,
    glass: Surface,
    warm: float,
) -> list[Part]:
    """The faces of the body that turn to the camera, far ones first; the engine warms bonnet and front."""
    sides = np.empty((2, len(shape), 3))
    sides[..., :2], sides[0, :, 2], sides[1, :, 2] = shape, -width, width
    left, right = frame.world(sides)
    faces = np.stack([left[:-1], right[:-1], right[1:], left[1:]], axis=1)
    run, rise = np.diff(shape, axis=0).T
    slant = np.hypot(run, rise)
    surfaces = [glass if index in windows else paint for index in range(len(faces))]
    surfaces[_BONNET] = paint._replace(warmth=18.0 * warm)
    surfaces[_FRONT] = paint._replace(warmth=13.0 * warm)
    candidates = [
        (face, surface, frame.turned(-up / size, along / size, 0.0))
        for face, surface, along, up, size in zip(
            faces, surfaces, run.tolist(), rise.tolist(), slant.tolist(), strict=True
        )
    ]
    candidates += [(left, paint, frame.turned(0, 0, -1)), (right, paint, frame.turned(0, 0, 1))]
    shown = [
        Part(face[None], surface._replace(facing=normal))
        for face, surface, normal in candidates
        if frame.seen(normal, face[0])
    ]
    return sorted(shown, key=lambda part: -float(part.outlines[..., 2].sum() / part.outlines.shape[1]))


def _flank_details(
    frame: _Frame, shape: np.ndarray, width: np.ndarray, glass: Surface, tyre: Surface
) -> list[Part]:
    """Side windows and wheels, on the flank that is seen."""
    widest, narrowest = float(width.max()), float(width.min())
    for side in (-1, 1):
        normal = frame.turned(0, 0, side)
        hubs = np.array([(0.20 * frame.length, 0.32), (0.81 * frame.length, 0.32)])
        radii = np.array([(0.33, 0.33), (0.33, 0.33), (0.18, 0.18), (0.18, 0.18)])
        rims = np.full((4, 12, 3), side * widest)
        rims[..., :2] = circles(np.concatenate([hubs, hubs]), radii, 12)
        wheels = frame.world(rims)
        if not frame.seen(normal, wheels[0, 0]):
            continue
        top = shape[shape[:, 1] > 1.2 * shape[1, 1]]
        low, high = shape[1, 1] + 0.06, top[:, 1].min() - 0.04
        start, end = top[:, 0].min(), top[:, 0].max()
        upper, lower = side * narrowest, side * (0.3 * narrowest + 0.7 * widest)
        window = np.array(
            [
                (start - 0.1, low, lower),
                (end + 0.45, low, lower),
                (end, high, upper),
                (start + 0.1, high, upper),
            ]
        )
        cap = tyre._replace(material=BARE_METAL, albedo=(0.3, 0.3, 0.3))
        return [
            Part(frame.world(window)[None], glass._replace(facing=normal)),
            Part(wheels[:2], tyre),
            Part(wheels[2:], cap),
        ]
    return []


def _end_details(frame: _Frame, length: float, half: float, warm: float, tyre: Surface) -> list[Part]:
    """Tyres, lights, plate, and grille or exhaust, on the end that is seen."""
    front = frame.cosine < 0
    along = length + 0.01 if front else -0.01
    normal = frame.turned(1.0 if front else -1.0, 0.0, 0.0)
    glow: Colour = (0.0, 0.0, 0.0)
    if warm:
        glow = (6.0, 5.4, 4.4) if front else (0.55, 0.02, 0.015)
    lens: Colour = (0.55, 0.55, 0.55) if front else (0.30, 0.015, 0.012)
    lamp = Surface(Label.CAR, PRINT, lens, glow=glow, warmth=4.0 * warm, retro=3.0)
    plate = Surface(Label.CAR, PRINT, (0.6, 0.6, 0.5), retro=4.0)
    patches = [
        ([(0.05 - half, 0.27 - half, 0.0, 0.3), (half - 0.27, half - 0.05, 0.0, 0.3)], tyre),
        ([(0.02 - half, half - 0.02, 0.28, 0.42)], tyre._replace(warmth=6.0 * warm)),
        ([(0.06 - half, 0.38 - half, 0.62, 0.78), (half - 0.38, half - 0.06, 0.62, 0.78)], lamp),
        ([(-0.25, 0.25, 0.46, 0.57)], plate),
    ]
    if front:
        grille = Surface(Label.CAR, PRINT, (0.02, 0.02, 0.02), warmth=24.0 * warm)
        patches.append(([(-0.42, 0.42, 0.59, 0.73)], grille))
    elif warm:
        exhaust = Surface(Label.CAR, BARE_METAL, (0.05, 0.05, 0.05), warmth=70.0 * warm)
        patches.append(([(half - 0.45, half - 0.33, 0.24, 0.32)], exhaust))
    spans = np.array([span for group, _ in patches for span in group])
    corners = np.full((len(spans), 4, 3), along)
    corners[:, :, 1] = spans[:, [2, 2, 3, 3]]
    corners[:, :, 2] = spans[:, [0, 1, 1, 0]]
    placed = frame.world(corners)
    if not frame.seen(normal, placed[0, 0]):
        return []
    parts, first = [], 0
    for group, surface in patches:
        parts.append(Part(placed[first : first + len(group)], surface._replace(facing=normal)))
        first += len(group)
    return parts


def bicycle(x: float, z: float, ridden: bool, rng: np.random.Generator) -> Thing:
    """A bicycle seen from the side or askew, alone or with a rider."""
    width = float(rng.uniform(0.55, 1.0)) * (1 if rng.random() < 0.5 else -1)
    paint = _PAINTS[int(rng.integers(len(_PAINTS)))]
    metal = Surface(Label.BICYCLE, SHEET_METAL, paint)
    tyre = Surface(Label.BICYCLE, RUBBER, (0.025, 0.025, 0.026), warmth=2.5 * ridden)
    squeeze = np.array([width, 1.0])
    hubs = np.array([(-0.52, 0.34), (0.52, 0.34)])
    parts = []
    for hub in hubs:
        rings = circles(np.stack([hub, hub]), np.array([[0.345, 0.345], [0.275, 0.275]]), 16)
        parts.append(Part(standing(x, z, rings * squeeze), tyre))
    tubes = capsules(
        np.array(
            [
                (-0.52, 0.34, -0.05, 0.30, 0.022, 0.022),
                (-0.05, 0.30, -0.20, 0.85, 0.024, 0.024),
                (-0.05, 0.30, 0.40, 0.80, 0.026, 0.026),
                (-0.17, 0.76, 0.38, 0.84, 0.026, 0.026),
                (-0.52, 0.34, -0.18, 0.78, 0.020, 0.020),
                (0.52, 0.34, 0.38, 0.98, 0.024, 0.024),
                (0.34, 1.02, 0.50, 1.04, 0.024, 0.024),
                (-0.32, 0.93, -0.10, 0.92, 0.045, 0.030),
            ]
        )
    )
    parts += [Part(tube[None], metal) for tube in standing(x, z, tubes * squeeze)]
    thing = Thing(Layer.STREET, x, z, parts)
    if ridden:
        limbs, worn = rider(rng)
        shapes = capsules(np.array(limbs)) * squeeze
        thing.parts += dressed_parts(x, z, shapes, worn, draw_wardrobe(rng))
    return thing
