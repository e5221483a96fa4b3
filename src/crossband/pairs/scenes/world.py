"""One scene: what stands where, and which surface every pixel sees."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crossband.pairs.scenes import furniture, people, plants, street, vehicles
from crossband.pairs.scenes.buildings import buildings
from crossband.pairs.scenes.geometry import Camera
from crossband.pairs.scenes.surfaces import Label, Layer, Thing


@dataclass(frozen=True)
class World:
    """A scene before light and heat.

    things: in painting order.
    lamps, headlamps: where street lamps and the lights of oncoming cars are, (n, 3) in metres.
    casters: what stands and throws a shadow, as (x, z, half width, height).
    walls: fronts of houses, as (x, near z, far z, height).
    """

    camera: Camera
    things: list[Thing]
    lamps: np.ndarray
    headlamps: np.ndarray
    casters: np.ndarray
    walls: np.ndarray


def draw_camera(size: tuple[int, int], section: street.Street, rng: np.random.Generator) -> Camera:
    """Draw where the camera is, on a vehicle or at the roadside, and where it looks."""
    height, width = size
    look, tilt, eye, lane = rng.uniform((-0.5, 0.36, 1.35, 0), (0.5, 0.5, 2.1, 1)).tolist()
    return Camera(
        size=size,
        focal=0.92 * (width * height * 4 / 3) ** 0.5,
        centre=width * (0.5 + 0.2 * look),
        horizon=height * tilt,
        height=eye,
        x=section.road * (1.1 * lane - 0.35),
        bend=section.bend,
    )


def build_world(size: tuple[int, int], rng: np.random.Generator) -> World:
    """Draw a scene. The same generator state gives the same scene at every size."""
    section = street.draw_street(rng)
    camera = draw_camera(size, section, rng)
    things = [*street.backdrop(section.bend, rng), street.ground(section, rng)]
    houses = buildings(section, rng)
    posts, lamps = _furniture(section, rng)
    cars, headlamps = _cars(camera, section, rng)
    standing = [*posts, *_plants(section, rng), *cars, *_people(section, rng)]
    things += sorted([*houses, *standing], key=lambda thing: (thing.layer, -thing.z))
    casters = np.array([(t.x, t.z, *_bulk(t)) for t in standing if t.layer == Layer.STREET])
    walls = np.array([(t.x, *_front(t)) for t in houses]).reshape(-1, 4)
    return World(camera, things, lamps, headlamps, casters.reshape(-1, 4), walls)


def _front(house: Thing) -> tuple[float, float, float]:
    """Near and far end and height of a house's front, its last wall."""
    points = house.parts[-1].base or (house.x, house.z, house.x, house.z)
    return points[1], points[3], max(float(part.outlines[..., 1].max()) for part in house.parts)


def _bulk(thing: Thing) -> tuple[float, float]:
    """Half width and height of a thing's shadow, in metres, by what it is."""
    label = thing.parts[-1].surface.label
    if label == Label.PERSON:
        return 0.22, 1.7
    if label == Label.CAR:
        return 0.95, 1.35
    if label == Label.VEGETATION:
        return (1.5, 4.5) if len(thing.parts) > 2 else (1.5, 0.9)
    return (0.15, 2.6) if label == Label.SIGN else (0.1, 2.0)


def _furniture(section: street.Street, rng: np.random.Generator) -> tuple[list[Thing], np.ndarray]:
    """Lamp posts, signs, signals, panels and bollards along both kerbs; and where the lamps are."""
    things, lamps = [], []
    height = float(rng.uniform(4.8, 7.0))
    kerb = section.road + 0.5
    for side in (-1, 1):
        z, step = rng.uniform((7, 16), (16, 26))
        while z < 70:
            things.append(furniture.lamp_post(side * kerb, z, height))
            lamps.append((side * (kerb - 1.6), height + 0.15, z))
            z += step
    for side, near, kind in zip(rng.choice([-1, 1], 5), rng.random(5), rng.random(5), strict=True):
        x, z = float(side) * (kerb + 0.1), 6 + 28 * float(near)
        make = furniture.traffic_sign if kind < 0.62 else furniture.traffic_signal
        things.append(make(x, z, rng))
    if rng.random() < 0.55:
        x = float(rng.choice([-1, 1])) * (section.road + section.walk * 0.75)
        things.append(furniture.advertising_panel(x, float(rng.uniform(7, 18)), rng))
    if rng.random() < 0.35:
        x, z = float(rng.choice([-1, 1])) * (kerb - 0.1), float(rng.uniform(5, 12))
        things += [furniture.bollard(x, z + 1.6 * place) for place in range(4)]
    return things, np.array(lamps)


def _plants(section: street.Street, rng: np.random.Generator) -> list[Thing]:
    """Street trees, trees behind the houses' line, and hedges on the verges."""
    things = []
    for side in (-1, 1):
        verge = section.verge(side)
        if verge > 1 or rng.random() < 0.45:
            x = section.road + (section.walk + verge / 2 if verge > 1 else 0.9)
            z, step = rng.uniform((8, 9), (18, 18))
            while z < 60:
                things.append(plants.tree(Layer.STREET, side * (x + float(rng.uniform(-0.2, 0.2))), z, rng))
                z += step
        if verge > 1:
            left = side * (section.road + section.walk + 0.2) - (side < 0) * verge
            things += [plants.hedge(left, z, verge * 0.9, rng) for z in rng.uniform(6, 40, 3).tolist()]
    for side, x, z in zip(rng.choice([-1, 1], 3), rng.uniform(3, 14, 3), rng.uniform(14, 80, 3), strict=True):
        things.append(plants.tree(Layer.BESIDE, float(side * (section.wall(side) + x)), float(z), rng))
    return things


def _cars(camera: Camera, section: street.Street, rng: np.random.Generator) -> tuple[list[Thing], np.ndarray]:
    """Cold cars at the kerbs, warm cars in the lanes and across the side street; and oncoming headlamps."""
    things, headlamps = [], []

    def place(x: float, z: float, heading: float, driven: bool) -> None:
        eye = (camera.x - section.bend * z * z, camera.height)
        things.append(vehicles.car(eye, x, z, heading, driven, rng))

    for side in (-1, 1):
        z = float(rng.uniform(6, 20))
        for _ in range(int(rng.integers(0, 4))):
            turn = float(rng.normal(0, 0.03))
            place(side * (section.road - 1.05), z, turn if side > 0 else np.pi + turn, False)
            z += float(rng.uniform(5.4, 11))
    lane = max(section.road / 2 - 0.6, 1.1)
    taken: list[float] = []
    for oncoming, ahead in rng.random((int(rng.integers(1, 4)), 2)):
        z = 10 + 45 * float(ahead)
        if any(abs(z - other) < 7 for other in taken):
            continue
        taken.append(z)
        place(-lane if oncoming < 0.5 else lane, z, np.pi if oncoming < 0.5 else 0.0, True)
        if oncoming < 0.5:
            headlamps.append((-lane, 0.7, z - 2.2))
    if section.side_street and rng.random() < 0.5:
        place(float(rng.uniform(-6, 6)), section.crossing + 3.0, float(rng.choice([-1, 1])) * np.pi / 2, True)
    return things, np.array(headlamps).reshape(-1, 3)


def _people(section: street.Street, rng: np.random.Generator) -> list[Thing]:
    """People on the sidewalks and on the road, alone and in pairs; bicycles with and without riders."""
    things = []
    groups = int(rng.integers(2, 7)) if rng.random() < 0.96 else 0
    for near, across, crossing, mate in rng.random((groups, 4)):
        z = 5.5 * (38 / 5.5) ** float(near)
        if crossing < 0.3:
            x = section.road * (2 * across - 1)
        else:
            side = 1 if across < 0.5 else -1
            x = side * (section.road + section.walk * (0.2 + 0.75 * ((2 * across) % 1)))
        things.append(people.person(float(x), z, rng))
        if mate < 0.25:
            things.append(people.person(float(x) + 0.62, z + 0.2, rng))
    for near, side, ridden in rng.random((int(rng.integers(1, 4)), 3)):
        x = section.road - 0.6 if ridden < 0.5 else section.road + section.walk * 0.6
        z = 6 * (22 / 6) ** float(near)
        things.append(vehicles.bicycle(x if side < 0.5 else -x, z, bool(ridden < 0.5), rng))
    return things
