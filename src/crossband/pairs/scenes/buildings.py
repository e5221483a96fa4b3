"""Rows of houses with windows, roofs, shop fronts and vents."""

from __future__ import annotations

import numpy as np

from crossband.pairs.scenes.street import Street
from crossband.pairs.scenes.surfaces import (
    GLASS,
    IRON,
    MASONRY,
    PRINT,
    ROOF_TILE,
    TO_CAMERA,
    Colour,
    Label,
    Layer,
    Part,
    Surface,
    Thing,
    Vector,
    tinted,
)

_WALLS: tuple[Colour, ...] = (
    (0.30, 0.13, 0.09),
    (0.48, 0.36, 0.24),
    (0.58, 0.52, 0.42),
    (0.33, 0.32, 0.31),
    (0.62, 0.60, 0.56),
    (0.44, 0.23, 0.15),
    (0.26, 0.29, 0.33),
    (0.55, 0.44, 0.22),
    (0.38, 0.42, 0.36),
)
_ROW_ENDS = 85.0
_DETAILED = 55.0
_GLASS = Surface(Label.BUILDING, GLASS, (0.05, 0.065, 0.08))


def buildings(street: Street, rng: np.random.Generator) -> list[Thing]:
    """Houses on both sides of a street, with gaps between some and around its side street."""
    houses = []
    for side in (-1, 1):
        z = max(1.0, float(rng.uniform(-4, 5)))
        open_end = True
        while z < _ROW_ENDS:
            length, height, setback, shade = rng.uniform((8, 5.5, 0, 0.7), (20, 21, 1.2, 1.15))
            gap = float(rng.uniform(1.5, 9)) if rng.random() < 0.35 else 0.0
            colour = tinted(_WALLS[int(rng.integers(len(_WALLS)))], shade)
            blocked = street.side_street and z < street.crossing + 9.5 and z + length > street.crossing - 0.5
            if blocked:
                length = street.crossing - 0.5 - z
            if length > 4:
                x = side * (street.wall(side) + setback)
                houses.append(_house(x, side, (z, z + length), height, colour, open_end, rng))
            z = street.crossing + 9.5 if blocked else z + length + gap
            open_end = blocked or gap > 0
    return houses


def _house(
    x: float,
    side: int,
    span: tuple[float, float],
    height: float,
    colour: Colour,
    open_end: bool,
    rng: np.random.Generator,
) -> Thing:
    """One house: the wall along the street, the end wall that faces the camera, and perhaps a roof.

    open_end: whether nothing adjoins the end wall, so that it has windows.
    """
    near, far = span
    depth, rise, slate, pitched = rng.uniform((8, 2, 0.5, 0), (12, 4, 1.3, 1))
    thing = Thing(Layer.BESIDE, x, near)
    end = _Wall((x, near, x + side * depth, near), TO_CAMERA)
    front = _Wall((x, near, x, far), (-float(side), 0.0, 0.0))
    brick = Surface(Label.BUILDING, MASONRY, colour, TO_CAMERA)
    if pitched < 0.6 and height < 11:
        middle, ridge = x + side * depth / 2, height + rise
        slope = np.array([[(x, height, near), (x, height, far), (middle, ridge, far), (middle, ridge, near)]])
        gable = np.array([[(x, height, near), (x + side * depth, height, near), (middle, ridge, near)]])
        tile = Surface(Label.BUILDING, ROOF_TILE, tinted((0.20, 0.10, 0.07), slate), (-0.6 * side, 0.8, 0.0))
        thing.parts += [Part(slope, tile, front.base), Part(gable, brick, end.base)]
    front_draw, end_draw = rng.random((2, 80))
    if open_end:
        _dress(end, height, colour, end_draw, detailed=near < _DETAILED)
    else:
        end.add_one(0, end.length, 0, height, brick)
    _dress(front, height, colour, front_draw, detailed=near < _DETAILED)
    thing.parts += [*end.parts(), *front.parts()]
    return thing


class _Wall:
    """An upright wall above two ground points (x0, z0, x1, z1), and the rectangles on it."""

    def __init__(self, base: tuple[float, float, float, float], facing: Vector):
        self.base, self.facing = base, facing
        self.length = abs(base[2] - base[0]) + abs(base[3] - base[1])
        self._rectangles: list[np.ndarray] = []
        self._surfaces: list[Surface] = []

    def add(self, rectangles: np.ndarray, surface: Surface) -> None:
        """Add rectangles (n, 4): from and to along the wall, bottom and top, in metres."""
        self._rectangles.append(rectangles)
        self._surfaces.append(surface._replace(facing=self.facing))

    def add_one(self, start: float, end: float, bottom: float, top: float, surface: Surface) -> None:
        """Add one rectangle."""
        self.add(np.array([[start, end, bottom, top]]), surface)

    def parts(self) -> list[Part]:
        """Everything on the wall, in the order in which it was added."""
        start, end, bottom, top = np.concatenate(self._rectangles).T
        x0, z0, x1, z1 = self.base
        corners = np.empty((len(start), 4, 3))
        for corner, (along, up) in enumerate(((start, bottom), (end, bottom), (end, top), (start, top))):
            corners[:, corner, 0] = x0 + along * ((x1 - x0) / self.length)
            corners[:, corner, 1] = up
            corners[:, corner, 2] = z0 + along * ((z1 - z0) / self.length)
        parts, first = [], 0
        for rectangles, surface in zip(self._rectangles, self._surfaces, strict=True):
            parts.append(Part(corners[first : first + len(rectangles)], surface, self.base))
            first += len(rectangles)
        return parts


def _dress(wall: _Wall, height: float, colour: Colour, draw: np.ndarray, detailed: bool) -> None:
    """Lay out a wall: plinth, cornice, windows of which some are lit, a door, perhaps a shop and a vent.

    draw: 80 numbers in [0, 1) that settle it.
    """
    base = Surface(Label.BUILDING, MASONRY, colour)
    wall.add_one(0, wall.length, 0, height, base)
    spacing, storey = 2.2 + 1.2 * draw[0], 2.9 + 0.6 * draw[1]
    wide, tall = spacing * (0.35 + 0.25 * draw[2]), storey * (0.42 + 0.18 * draw[3])
    columns, floors = int(wall.length / spacing), int((height - 0.8) / storey)
    if columns * floors:
        _add_windows(
            wall, (columns, floors), (spacing, storey, wide, tall), base, draw[4], draw[16:], detailed
        )
    if not detailed:
        return
    wall.add_one(0, wall.length, 0, 0.7, base._replace(albedo=tinted(colour, 0.6)))
    wall.add_one(0, wall.length, height - 0.5, height, base._replace(albedo=tinted(colour, 1.25)))
    middle = wall.length * (0.25 + 0.5 * draw[5])
    wood = Surface(Label.BUILDING, PRINT, tinted((0.16, 0.10, 0.07), 0.5 + draw[6]))
    wall.add_one(middle - 0.55, middle + 0.55, 0, 2.2, wood)
    if draw[7] < 0.3:
        board: Colour = (0.05 + 0.4 * draw[8], 0.05 + 0.4 * draw[9], 0.05 + 0.4 * draw[10])
        shop = Surface(Label.BUILDING, PRINT, board, glow=tinted(board, 0.35))
        wall.add_one(0.4, wall.length - 0.4, 2.6, 3.2, shop)
    if draw[11] < 0.4:
        start, level = draw[12] * (wall.length - 1), 0.4 + draw[13] * (height - 1.5)
        vent = Surface(Label.BUILDING, IRON, tinted(colour, 0.7), warmth=5 + 15 * draw[14])
        wall.add_one(start, start + 0.5 + 0.5 * draw[15], level, level + 0.5, vent)


def _add_windows(
    wall: _Wall,
    grid: tuple[int, int],
    measures: tuple[float, float, float, float],
    base: Surface,
    lit_share: float,
    draw: np.ndarray,
    detailed: bool,
) -> None:
    """Windows in a grid of (columns, floors): the lit ones glow, and none of them is warm.

    measures: column spacing, storey height, window width and height, in metres.
    """
    columns, floors = grid
    spacing, storey, wide, tall = measures
    left = (wall.length - columns * spacing + spacing - wide) / 2 + spacing * np.arange(columns)
    bottom = 0.95 + storey * np.arange(floors)
    rectangles = np.empty((floors * columns, 4))
    rectangles[:, 0], rectangles[:, 2] = np.tile(left, floors), np.repeat(bottom, columns)
    rectangles[:, 1], rectangles[:, 3] = rectangles[:, 0] + wide, rectangles[:, 2] + tall
    kind = np.resize(draw, len(rectangles))
    lit = 0.05 + 0.4 * lit_share
    if detailed:
        sills = rectangles + np.array([-0.1, 0.1, -0.16, 0.0])
        sills[:, 3] = rectangles[:, 2]
        wall.add(sills, base._replace(albedo=tinted(base.albedo, 1.35)))
    for chosen, glow in (
        (kind >= lit, (0.0, 0.0, 0.0)),
        (kind < 0.5 * lit, (0.16, 0.10, 0.04)),
        ((kind >= 0.5 * lit) & (kind < lit), (0.09, 0.08, 0.06)),
    ):
        if chosen.any():
            wall.add(rectangles[chosen], _GLASS._replace(glow=glow))
