"""Which surface every pixel sees: a world painted from back to front."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from crossband.pairs.scenes.geometry import SHIFT, Camera, fixed_point
from crossband.pairs.scenes.surfaces import AIR, Label, Layer, Surface
from crossband.pairs.scenes.world import World

_SKY = Surface(Label.SKY, AIR, (0.0, 0.0, 0.0))


@dataclass(frozen=True)
class Geometry:
    """Which surface every pixel sees, and the surfaces' properties as tables.

    ids: intp (H, W), an index into ``surfaces``; 0 is the sky.
    surfaces: every surface, in painting order.
    ground: ids in [ground[0], ground[1]) lie on the ground.
    bases: for every surface, the ground points (x0, z0, x1, z1) that it stands on, in metres.
    """

    camera: Camera
    ids: np.ndarray
    surfaces: list[Surface]
    ground: tuple[int, int]
    bases: np.ndarray

    @cached_property
    def facing(self) -> np.ndarray:
        """The normal of every surface, (n, 3)."""
        return np.array([surface.facing for surface in self.surfaces])

    def towards(self, direction: np.ndarray) -> np.ndarray:
        """Cosine between every surface's normal and a unit vector, 0 where it turns away, (n,)."""
        x, y, z = self.facing.T
        return np.maximum(x * direction[0] + y * direction[1] + z * direction[2], 0)

    @cached_property
    def materials(self) -> np.ndarray:
        """The fields of every surface's ``Material``, (n, 6)."""
        return np.array([surface.material for surface in self.surfaces])

    @cached_property
    def on_ground(self) -> np.ndarray:
        """Whether a pixel sees the ground, bool (H, W)."""
        return (self.ids >= self.ground[0]) & (self.ids < self.ground[1])

    @cached_property
    def inverse_depth(self) -> np.ndarray:
        """1 / distance of every pixel along the view axis, float32 (H, W), 1/m; nearly 0 in the sky."""
        height, width = self.ids.shape
        slope, offset = self.camera.inverse_depths(self.bases).astype(np.float32).T
        depth = slope.take(self.ids)
        depth *= np.arange(width, dtype=np.float32)
        depth += offset.take(self.ids)
        down = (np.arange(height, dtype=np.float32) - self.camera.horizon) / (
            self.camera.focal * self.camera.height
        )
        np.copyto(depth, down[:, None], where=self.on_ground)
        return np.maximum(depth, np.float32(1e-4), out=depth)

    def labels(self) -> np.ndarray:
        """Class ids, uint8 (H, W)."""
        return np.array([surface.label for surface in self.surfaces], dtype=np.uint8).take(self.ids)

    def at_feet(self, image: np.ndarray) -> np.ndarray:
        """The values of an (H, W) image where every surface's base meets the ground, (n,).

        A base outside the picture takes the nearest pixel.
        """
        height, width = self.ids.shape
        feet = np.zeros((len(self.bases), 3))
        feet[:, 0], feet[:, 2] = self.bases[:, 0::2].mean(axis=1), self.bases[:, 1::2].mean(axis=1)
        column, row = self.camera.project(feet).T
        rows = np.minimum(np.maximum(row, 0), height - 1).astype(np.intp)
        return image[rows, np.minimum(np.maximum(column, 0), width - 1).astype(np.intp)]


def paint(world: World) -> Geometry:
    """Paint a world from back to front (painter's algorithm)."""
    height, width = world.camera.size
    surfaces, outlines = [_SKY], []
    bases: list[tuple[float, float, float, float]] = [(0.0, 1e4, 0.0, 1e4)]
    ground = (0, 0)
    for thing in world.things:
        here = (thing.x, thing.z, thing.x, thing.z)
        if thing.layer == Layer.GROUND:
            ground = (len(surfaces), len(surfaces) + len(thing.parts))
        for part in thing.parts:
            surfaces.append(part.surface)
            outlines.append(part.outlines)
            bases.append(part.base or here)
    corners = fixed_point(world.camera.project(np.concatenate([o.reshape(-1, 3) for o in outlines])))
    ends = np.cumsum([o.shape[0] * o.shape[1] for o in outlines])
    starts = np.concatenate([[0], ends[:-1]])
    lowest, highest = np.minimum.reduceat(corners, starts), np.maximum.reduceat(corners, starts)
    limit = np.array([width, height]) << SHIFT
    shown = ((highest >= 0) & (lowest <= limit)).all(axis=1)
    ids = np.zeros(world.camera.size, dtype=np.uint16)
    for part_id in np.flatnonzero(shown).tolist():
        count, points, _ = outlines[part_id].shape
        polygons = corners[starts[part_id] : ends[part_id]].reshape(count, points, 2)
        cv2.fillPoly(ids, list(polygons), part_id + 1, shift=SHIFT)
    return Geometry(world.camera, ids.astype(np.intp), surfaces, ground, np.array(bases))
