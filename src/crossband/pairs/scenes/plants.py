"""Trees and hedges."""

from __future__ import annotations

import numpy as np

from crossband.pairs.scenes.geometry import circles, standing
from crossband.pairs.scenes.surfaces import (
    BARK,
    FOLIAGE,
    Label,
    Layer,
    Part,
    Surface,
    Thing,
    tinted,
)

_CLUMPS = 8
_BARK = Surface(Label.VEGETATION, BARK, (0.09, 0.065, 0.045))


def tree(layer: Layer, x: float, z: float, rng: np.random.Generator) -> Thing:
    """A trunk and a crown of leaf clumps, darker below."""
    height, spread, stem, shade, autumn = rng.uniform((4, 1.2, 1.7, 0.55, 0.7), (9, 2.4, 2.6, 1.3, 2.0))
    level = np.sort(rng.uniform(0, 1, _CLUMPS))
    sideways, size = rng.uniform(-0.65, 0.65, _CLUMPS), rng.uniform(0.45, 0.75, (_CLUMPS, 1))
    ragged = rng.uniform(0.8, 1.15, (_CLUMPS, 16, 1))
    top = stem + spread * 0.4 + level * (height - stem)
    centres = np.stack([sideways * spread * (1.1 - 0.6 * level), top], axis=1)
    outlines = circles(np.zeros((_CLUMPS, 2)), spread * size * np.array([[1.0, 0.85]]), 16)
    crown = standing(x, z, centres[:, None] + outlines * ragged)
    trunk = standing(x, z, np.array([[(-0.16, 0), (0.16, 0), (0.1, top[0]), (-0.1, top[0])]]))
    leaf = tinted((0.075 * autumn, 0.15, 0.035), shade)
    parts = [Part(trunk, _BARK)]
    for clump, share in zip(crown, level, strict=True):
        parts.append(Part(clump[None], Surface(Label.VEGETATION, FOLIAGE, tinted(leaf, 0.6 + 0.6 * share))))
    return Thing(layer, x, z, parts)


def hedge(x: float, z: float, length: float, rng: np.random.Generator) -> Thing:
    """A hedge or a row of bushes across the view, about as high as a person's chest."""
    steps = 14
    tops = rng.uniform(0.7, 1.3) + 0.2 * rng.uniform(-1, 1, steps)
    outline = np.empty((1, steps + 2, 2))
    outline[0, :, 0] = [*np.linspace(0, length, steps), length + 0.1, -0.1]
    outline[0, :, 1] = [*tops, 0.0, 0.0]
    leaf = tinted((0.07, 0.12, 0.04), rng.uniform(0.6, 1.3))
    upper = Surface(Label.VEGETATION, FOLIAGE, leaf)
    lower = upper._replace(albedo=tinted(leaf, 0.6))
    parts = [
        Part(standing(x, z, outline), upper),
        Part(standing(x, z, outline * np.array([1.0, 0.45])), lower),
    ]
    return Thing(Layer.STREET, x, z, parts)
