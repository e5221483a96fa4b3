"""Colours that are told apart, also by eyes that lack one kind of cone. NumPy is imported where it is used.

What such eyes see is simulated as G. M. Machado, M. M. Oliveira and L. A. F. Fernandes have it ("A
physiologically-based model for simulation of color vision deficiency", IEEE TVCG 15(6), 2009; the published
matrices of severity 1.0, for linear sRGB). Two colours differ by their distance in CIELAB (CIE 1976, white
D65): about 2 can just be seen, side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import product
from typing import TYPE_CHECKING

from crossband.colour import to_linear

if TYPE_CHECKING:
    import numpy as np

Colour = tuple[int, int, int]

VISIONS: dict[str, tuple[tuple[float, float, float], ...]] = {
    "normal": ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
    "protanopia": (
        (0.152286, 1.052583, -0.204868),
        (0.114503, 0.786281, 0.099216),
        (-0.003882, -0.048116, 1.051998),
    ),
    "deuteranopia": (
        (0.367322, 0.860646, -0.227968),
        (0.280085, 0.672501, 0.047413),
        (-0.011820, 0.042940, 0.968881),
    ),
    "tritanopia": (
        (1.255528, -0.076749, -0.178779),
        (-0.078411, 0.930809, 0.147602),
        (0.004733, 0.691367, 0.303900),
    ),
}
"""What each vision makes of linear sRGB: a matrix from the colour to the one that looks alike."""

# IEC 61966-2-1: linear sRGB to CIE XYZ.
_XYZ = ((0.4124, 0.3576, 0.1805), (0.2126, 0.7152, 0.0722), (0.0193, 0.1192, 0.9505))
_STEP = 17
"""Of the grid of colours that are chosen from: 16 levels a channel."""
_DARKEST, _LIGHTEST = 20, 97
"""The lightness (CIELAB L*) of chosen colours."""


def as_seen(colours: np.ndarray, vision: str) -> np.ndarray:
    """Colours as an eye sees them, in CIELAB. colours: sRGB 0..255, (..., 3). Gives float64 (..., 3)."""
    import numpy as np

    linear = to_linear(np.asarray(colours, dtype=np.float64) / 255)
    seen = np.clip(linear @ np.array(VISIONS[vision]).T, 0, 1)
    scaled = seen @ np.array(_XYZ).T / np.sum(_XYZ, axis=1)
    # CIE 15:2004, 8.2.1.1.
    bent = np.where(scaled > (6 / 29) ** 3, np.cbrt(scaled), scaled / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = np.moveaxis(bent, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def least_differences(colours: Sequence[Colour]) -> dict[str, float]:
    """By vision, how far the two colours are apart that are most alike; infinite for fewer than two."""
    import numpy as np

    found = {}
    for vision in VISIONS:
        seen = as_seen(np.array(colours, dtype=np.float64).reshape(-1, 3), vision)
        apart = np.linalg.norm(seen[:, None] - seen[None], axis=-1)
        np.fill_diagonal(apart, np.inf)
        found[vision] = float(apart.min(initial=np.inf))
    return found


@cache
def distinct_colours(count: int, apart_from: tuple[Colour, ...]) -> tuple[Colour, ...]:
    """``count`` sRGB colours, each as far as can be from all before it and from those of ``apart_from``.

    Far is meant for the vision that tells them apart worst. So the first ones do not depend on how many there
    are, and are further apart than the last. The colours are chosen from a grid by farthest-point sampling
    (T. F. Gonzalez, Theoretical Computer Science 38, 1985). Raises ValueError for more than the grid has.
    """
    import numpy as np

    grid = np.array(list(product(range(0, 256, _STEP), repeat=3)), dtype=np.float64)
    lightness = as_seen(grid, "normal")[:, 0]
    grid = grid[(lightness > _DARKEST) & (lightness < _LIGHTEST)]
    if count > len(grid):
        raise ValueError(f"there are {len(grid)} colours to choose from, not {count}")
    seen = np.stack([as_seen(grid, vision) for vision in VISIONS])
    before = np.array(apart_from, dtype=np.float64).reshape(-1, 1, 3)
    nearest = np.full(len(grid), np.inf)
    for colour in before:
        there = np.stack([as_seen(colour, vision) for vision in VISIONS])
        nearest = np.minimum(nearest, np.linalg.norm(seen - there, axis=-1).min(axis=0))
    chosen: list[Colour] = []
    for _ in range(count):
        place = int(nearest.argmax())
        red, green, blue = (int(level) for level in grid[place])
        chosen.append((red, green, blue))
        nearest = np.minimum(nearest, np.linalg.norm(seen - seen[:, place : place + 1], axis=-1).min(axis=0))
    return tuple(chosen)
