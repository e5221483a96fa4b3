"""Rigs whose geometry is known: generated scenes, their infrared images warped by one homography."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from crossband.pairs.base import Pair
from crossband.pairs.opening import open_pairs
from crossband.pairs.writing import write_image, write_label
from crossband.rig.rig import Rig

VISIBLE_SIZE = (240, 320)
INFRARED_SIZE = (160, 208)
# From infrared to visible pixels: the infrared camera sees about three quarters, turned by two degrees.
HOMOGRAPHY = np.array([[1.21, -0.045, 34.0], [0.038, 1.19, 21.0], [2.0e-5, -3.0e-5, 1.0]])


@lru_cache(maxsize=4)
def scenes(count: int, seed: int = 5) -> list[Pair]:
    height, width = VISIBLE_SIZE
    pairs = open_pairs(f"scenes,seed={seed},train={count},val=1,test=1,size={height}x{width}", "train")
    return [pairs[index] for index in range(count)]


def seen_by_infrared(image: np.ndarray, homography: np.ndarray = HOMOGRAPHY) -> np.ndarray:
    """An image of the visible camera's frame as the infrared camera sees it."""
    return cv2.warpPerspective(
        image, homography, INFRARED_SIZE[::-1], flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    )


def unaligned(count: int, seed: int = 5) -> list[tuple[np.ndarray, np.ndarray]]:
    """Pairs of two sizes: visible (H, W, 3) and infrared (h, w), in [0, 1]."""
    made = []
    for pair in scenes(count, seed):
        assert pair.visible is not None
        assert pair.infrared is not None
        made.append((pair.visible, seen_by_infrared(pair.infrared)))
    return made


def write_unaligned(folder: Path, count: int, *, labels: bool = False, seed: int = 5) -> Path:
    """A folder of pairs as `folder:` opens it, of two sizes; labels lie on the visible images."""
    pairs = scenes(count, seed)
    for number, (visible, infrared) in enumerate(unaligned(count, seed)):
        write_image(folder / "train" / "visible" / f"{number}.png", np.rint(visible * 255).astype(np.uint8))
        write_image(folder / "train" / "infrared" / f"{number}.png", np.rint(infrared * 255).astype(np.uint8))
        label = pairs[number].label
        if labels and label is not None:
            palette = [(index, 0, 0) for index in range(32)]
            write_label(folder / "train" / "label" / f"{number}.png", label, palette)
    return folder


def a_rig(**changes: Any) -> Rig:
    """The rig of these pictures, as `crossband align` would find it. changes: other values of its fields."""
    found: dict[str, Any] = {
        "homography": tuple(tuple(float(value) for value in row) for row in HOMOGRAPHY),
        "model": "homography",
        "visible_size": VISIBLE_SIZE,
        "infrared_size": INFRARED_SIZE,
        "found_by": "pairs",
        "count": 5,
        "residual": 0.3,
        "interval": (0.2, 0.9),
        "uncertainty": 1.1,
    }
    return Rig(**(found | changes))
