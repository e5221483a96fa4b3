"""The street: its cross-section, the ground with its markings, and what closes the view."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crossband.pairs.scenes.geometry import circles, strips
from crossband.pairs.scenes.surfaces import (
    ASPHALT,
    CONCRETE,
    FOLIAGE,
    GRASS,
    IRON,
    MASONRY,
    PAINT_ON_ASPHALT,
    TO_CAMERA,
    UP,
    Colour,
    Label,
    Layer,
    Part,
    Surface,
    Thing,
    tinted,
)

_FARTHEST = 160.0
_Span = tuple[float, float, float, float]


@dataclass(frozen=True)
class Street:
    """The cross-section of a street, in metres from its middle.

    road: half its width. walk: width of each sidewalk. verges: width of the green left and right, between
    the sidewalk and the houses. crossing: where a side street or a zebra crossing lies ahead, and which of
    the two there are. bend: its middle lies at ``bend * z**2``.
    """

    road: float
    walk: float
    verges: tuple[float, float]
    crossing: float
    side_street: bool
    zebra: bool
    bend: float

    def verge(self, side: int) -> float:
        """Width of the green on a side (-1 left, 1 right)."""
        return self.verges[(side + 1) // 2]

    def wall(self, side: int) -> float:
        """How far from the middle the houses stand on a side."""
        return self.road + self.walk + self.verge(side)


def draw_street(rng: np.random.Generator) -> Street:
    """Draw the cross-section of a street."""
    green = np.where(rng.random(2) < 0.4, rng.uniform(1.5, 5.0, 2), 0.3)
    return Street(
        road=float(rng.uniform(3.2, 5.2)),
        walk=float(rng.uniform(2.2, 3.8)),
        verges=(float(green[0]), float(green[1])),
        crossing=float(rng.uniform(10, 28)),
        side_street=bool(rng.random() < 0.4),
        zebra=bool(rng.random() < 0.4),
        bend=float(rng.uniform(-1, 1) ** 3 * 0.0025),
    )


def ground(street: Street, rng: np.random.Generator) -> Thing:
    """Grass, sidewalks, kerbs, the road with its markings, repairs and manholes."""
    thing = Thing(Layer.GROUND, 0.0, _FARTHEST)

    tone, tint = rng.uniform(0.07, 0.15), rng.uniform(0.95, 1.12)
    asphalt: Colour = (tone, tone, tone * tint)
    paving = tinted((0.30, 0.285, 0.26), rng.uniform(0.6, 1.3))
    road, walk = street.road, street.walk
    _lay(thing, [(-300, 300, 0.5, 900)], Surface(Label.VEGETATION, GRASS, (0.09, 0.14, 0.04), UP))
    _lay(thing, [(-road - walk, road + walk, 0.5, 700)], Surface(Label.SIDEWALK, CONCRETE, paving, UP))
    joints = [
        (side * (road + 0.22), side * (road + walk), z, z + 0.05)
        for side in (-1, 1)
        for z in np.arange(2.5, 14, 1.5)
    ]
    _lay(thing, joints, Surface(Label.SIDEWALK, CONCRETE, tinted(paving, 0.6), UP))
    kerb = road + 0.22
    _lay(thing, [(-kerb, kerb, 0.5, 300)], Surface(Label.SIDEWALK, CONCRETE, tinted(paving, 1.4), UP))
    _lay(thing, [(-road, road, 0.5, 700)], Surface(Label.ROAD, ASPHALT, asphalt, UP))
    width = float(rng.uniform(6, 9))
    if street.side_street:
        across = (-80, 80, street.crossing, street.crossing + width)
        _lay(thing, [across], Surface(Label.ROAD, ASPHALT, tinted(asphalt, 1.06), UP))
    draw = rng.random((3, 5))
    for x, z, length, breadth, shade in draw:
        left, near = -road + x * (2 * road - 1.5), 3 + 27 * z
        repair = (left, min(left + 0.6 + breadth, road), near, near + 1.5 + 7 * length)
        _lay(thing, [repair], Surface(Label.ROAD, ASPHALT, tinted(asphalt, 0.65 + 0.6 * shade), UP))
    _mark(thing, street, rng)
    draw = rng.random((3, 3))
    lids = circles(
        np.stack([(2 * draw[:, 0] - 1) * (road - 0.5), 4 + 18 * draw[:, 1]], axis=1),
        np.full((3, 2), 0.36),
        12,
    )
    for lid, warm in zip(lids, 16 * draw[:, 2] - 3, strict=True):
        outline = np.stack([lid[:, 0], np.zeros(12), lid[:, 1]], axis=1)
        iron = Surface(Label.ROAD, IRON, tinted(asphalt, 0.6), UP, warmth=max(0.0, float(warm)))
        thing.parts.append(Part(outline[None], iron))
    return thing


def _lay(thing: Thing, spans: list[_Span], surface: Surface) -> None:
    """Add pieces of ground, as (left, right, near, far) in metres."""
    thing.parts.append(Part(strips(*np.array(spans, dtype=float).T), surface))


def _mark(thing: Thing, street: Street, rng: np.random.Generator) -> None:
    """Road markings: paint that has the road's temperature."""
    wear, start, dash, edge = (
        rng.uniform(0.32, 0.75),
        rng.uniform(0.6, 4),
        rng.uniform(2, 4),
        rng.uniform(0.3, 0.5),
    )
    has_edge, has_arrow = rng.random(2) < (0.6, 0.5)
    marking = Surface(Label.ROAD, PAINT_ON_ASPHALT, (wear, wear, wear * 0.95), UP, retro=2.0)
    road, crossing = street.road, street.crossing
    clear = [z for z in np.arange(start, 90, 2.2 * dash) if abs(z + dash / 2 - crossing - 2) > 6]
    _lay(thing, [(-0.08, 0.08, z, z + dash) for z in clear], marking)
    if has_edge:
        _lay(
            thing,
            [(side * (road - edge), side * (road - edge - 0.12), 0.5, 150) for side in (-1, 1)],
            marking,
        )
    if street.zebra:
        near = crossing - 4.2
        _lay(thing, [(x, x + 0.5, near, near + 3) for x in np.arange(-road + 0.3, road - 0.6, 1.0)], marking)
        _lay(thing, [(0.15, road - 0.2, near - 1.4, near - 1.0)], marking)
    elif has_arrow:
        x, z = road / 2, 5 + 6 * edge
        _lay(
            thing,
            [
                (x - 0.1, x + 0.1, z, z + 2.2),
                (x - 0.3, x - 0.1, z + 1.6, z + 2.2),
                (x + 0.1, x + 0.3, z + 1.6, z + 2.2),
            ],
            marking,
        )


def backdrop(bend: float, rng: np.random.Generator) -> list[Thing]:
    """The skyline that closes the view: far roofs and tree tops."""
    steps = 48
    things = []
    for depth, tall, surface in (
        (_FARTHEST + 60, 26.0, Surface(Label.BUILDING, MASONRY, (0.34, 0.33, 0.34), TO_CAMERA)),
        (_FARTHEST + 20, 13.0, Surface(Label.VEGETATION, FOLIAGE, (0.06, 0.10, 0.04))),
    ):
        x = np.linspace(-260, 260, steps)
        tops = tall * rng.uniform(0.3, 1.0, steps)
        if surface.label == Label.BUILDING:
            x, tops = np.repeat(x, 2)[1:], np.repeat(tops, 2)[:-1]
        outline = np.zeros((1, len(x) + 2, 3))
        outline[0, :, 0] = np.concatenate([x, [260.0, -260.0]]) - bend * depth**2
        outline[0, :-2, 1] = tops
        outline[0, :, 2] = depth
        things.append(Thing(Layer.BACKDROP, 0.0, depth, [Part(outline, surface)]))
    return things
