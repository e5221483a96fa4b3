"""People: thick-limbed figures in several poses, and the same figures printed on posters."""

from __future__ import annotations

import numpy as np

from crossband.pairs.scenes.geometry import capsules, standing
from crossband.pairs.scenes.surfaces import (
    CLOTH,
    COAT,
    HAIR,
    RUBBER,
    SKIN,
    Colour,
    Label,
    Layer,
    Part,
    Surface,
    Thing,
)

_CLOTHES: tuple[Colour, ...] = (
    (0.03, 0.03, 0.035),
    (0.05, 0.06, 0.11),
    (0.16, 0.16, 0.17),
    (0.42, 0.40, 0.36),
    (0.36, 0.05, 0.05),
    (0.06, 0.16, 0.08),
    (0.62, 0.60, 0.57),
    (0.10, 0.18, 0.36),
    (0.34, 0.25, 0.15),
    (0.50, 0.33, 0.05),
)
_SKINS: tuple[Colour, ...] = ((0.52, 0.34, 0.25), (0.38, 0.23, 0.15), (0.19, 0.10, 0.06), (0.09, 0.05, 0.035))
_HAIRS: tuple[Colour, ...] = (
    (0.02, 0.017, 0.015),
    (0.08, 0.05, 0.03),
    (0.30, 0.22, 0.11),
    (0.35, 0.34, 0.33),
)
POSES = ("standing", "walking", "running", "waiting")

Limb = tuple[float, float, float, float, float, float]


def draw_wardrobe(rng: np.random.Generator) -> dict[str, Surface]:
    """Draw what one person looks like: a surface for each of skin, hair, top, bottom and shoe."""
    top, bottom = rng.integers(len(_CLOTHES), size=2)
    upper = COAT if rng.random() < 0.5 else CLOTH
    return {
        "skin": Surface(Label.PERSON, SKIN, _SKINS[int(rng.integers(len(_SKINS)))]),
        "hair": Surface(Label.PERSON, HAIR, _HAIRS[int(rng.integers(len(_HAIRS)))]),
        "top": Surface(Label.PERSON, upper, _CLOTHES[int(top)]),
        "bottom": Surface(Label.PERSON, CLOTH, _CLOTHES[int(bottom)]),
        "shoe": Surface(Label.PERSON, RUBBER._replace(body=0.15), (0.05, 0.045, 0.04)),
    }


def figure(pose: str, rng: np.random.Generator) -> tuple[list[Limb], list[str]]:
    """The limbs of a person of height 1 standing at the origin, back to front, and what each wears."""
    stride = {"standing": 0.02, "walking": 0.13, "running": 0.22, "waiting": 0.03}[pose]
    sideways = pose in ("walking", "running") and rng.random() < 0.7
    stride *= 1.0 if sideways else 0.35
    lean = 0.04 if pose == "running" else 0.0
    hips = 0.03 if sideways else 0.05
    shoulders = 0.05 if sideways else 0.125
    swing = stride * 0.9 + 0.02
    bend = 0.05 if pose == "running" else 0.015
    raised = 0.16 if pose == "running" else 0.04
    elbow = 0.62 if pose != "waiting" else 0.64
    limbs: list[Limb] = [
        (-shoulders * 0.8 + lean, 0.80, -shoulders - swing * 0.8, elbow, 0.036, 0.030),
        (-shoulders - swing * 0.8, elbow, -shoulders - swing * 0.7 + bend, 0.48, 0.030, 0.022),
        (-hips, 0.50, -hips - stride * 0.5 + bend, 0.26, 0.062, 0.045),
        (-hips - stride * 0.5 + bend, 0.26, -hips - stride, 0.04 + raised * stride, 0.045, 0.030),
        (
            -hips - stride,
            0.025 + raised * stride,
            -hips - stride + 0.05,
            0.02 + raised * stride,
            0.026,
            0.022,
        ),
        (hips, 0.50, hips + stride * 0.6, 0.27, 0.062, 0.045),
        (hips + stride * 0.6, 0.27, hips + stride, 0.04, 0.045, 0.030),
        (hips + stride, 0.025, hips + stride + 0.05, 0.02, 0.026, 0.022),
        (0.0, 0.50, lean, 0.77, 0.095 if not sideways else 0.082, 0.115 if not sideways else 0.085),
        (lean, 0.80, lean * 1.3, 0.87, 0.040, 0.036),
        (lean * 1.4, 0.905, lean * 1.5, 0.94, 0.052, 0.056),
        (lean * 1.4 - 0.01, 0.935, lean * 1.5 - 0.005, 0.955, 0.054, 0.050),
        (shoulders * 0.8 + lean, 0.80, shoulders + swing * 0.8, elbow, 0.036, 0.030),
        (shoulders + swing * 0.8, elbow, shoulders + swing + 0.02, 0.49, 0.030, 0.022),
    ]
    worn = [
        *("top", "top", "bottom", "bottom", "shoe", "bottom", "bottom", "shoe"),
        *("top", "skin", "skin", "hair", "top", "skin"),
    ]
    extra = rng.random(3)
    if extra[0] < 0.25:
        limbs.insert(8, (0.0, 0.50, 0.0, 0.36, 0.10, 0.125))
        worn.insert(8, "top")
    if extra[1] < 0.3:
        x = shoulders + swing + 0.03
        limbs.append((x, 0.43, x + 0.01, 0.33, 0.045, 0.06))
        worn.append("shoe")
    if extra[2] < 0.5:
        limbs = [(-x0, y0, -x1, y1, r0, r1) for x0, y0, x1, y1, r0, r1 in limbs]
    return limbs, worn


def rider(rng: np.random.Generator) -> tuple[list[Limb], list[str]]:
    """The limbs of someone who rides a bicycle (in metres, saddle at 0.95), seen from the side."""
    crank = rng.uniform(-0.12, 0.12)
    limbs: list[Limb] = [
        (-0.22, 0.98, 0.10, 0.72 + crank, 0.095, 0.075),
        (0.10, 0.72 + crank, 0.0, 0.30 + crank, 0.075, 0.050),
        (-0.22, 0.98, 0.10, 0.68 - crank, 0.095, 0.075),
        (0.10, 0.68 - crank, 0.02, 0.24 - crank, 0.075, 0.050),
        (0.0, 0.22 - crank, 0.10, 0.22 - crank, 0.045, 0.038),
        (-0.22, 1.0, 0.02, 1.42, 0.15, 0.16),
        (0.02, 1.42, 0.28, 1.22, 0.062, 0.05),
        (0.28, 1.22, 0.46, 1.05, 0.05, 0.04),
        (0.08, 1.60, 0.11, 1.66, 0.095, 0.10),
        (0.07, 1.66, 0.10, 1.70, 0.095, 0.09),
    ]
    worn = ["bottom", "bottom", "bottom", "bottom", "shoe", "top", "top", "skin", "skin", "hair"]
    return limbs, worn


def dressed_parts(
    x: float, z: float, shapes: np.ndarray, worn: list[str], wardrobe: dict[str, Surface]
) -> list[Part]:
    """Limb outlines (n, 8, 2) in metres around (x, z), each in what it wears."""
    polygons = standing(x, z, shapes)
    return [Part(polygon[None], wardrobe[name]) for polygon, name in zip(polygons, worn, strict=True)]


def person(x: float, z: float, rng: np.random.Generator) -> Thing:
    """A grown-up or a child in one of ``POSES``."""
    height = float(rng.uniform(1.55, 1.9) if rng.random() < 0.88 else rng.uniform(1.05, 1.45))
    limbs, worn = figure(POSES[int(rng.integers(len(POSES)))], rng)
    stout = np.array([1, 1, 1, 1, *[rng.uniform(1.0, 1.25)] * 2])
    shapes = capsules(np.array(limbs) * stout * height)
    return Thing(Layer.STREET, x, z, dressed_parts(x, z, shapes, worn, draw_wardrobe(rng)))
