"""Images that were read, as the levels that an exported graph takes."""

from __future__ import annotations

import numpy as np

from crossband.pairs.infrared_scaling import InfraredScaling
from crossband.words import LevelType


def visible_levels(image: np.ndarray, type: LevelType) -> np.ndarray:
    """What a file of that type stores for an image (..., H, W, 3) in [0, 1]; nothing is lost of its own."""
    return _quantised(image, type)


def infrared_levels(image: np.ndarray, scaling: InfraredScaling, type: LevelType) -> np.ndarray:
    """Levels that a graph's scaling rule turns into this image (..., H, W) in [0, 1].

    The very levels that were read under "full-range" and "fixed", and degrees under "celsius", but where they
    were clipped. Under rules that look at the whole image they are others, which the rule brings to the same,
    to the 16th bit.
    """
    if scaling.rule not in ("fixed", "celsius"):
        return _quantised(image, type)
    assert scaling.limits is not None
    low, high = scaling.limits
    levels = image.astype(np.float64) * (high - low) + low
    if type == "float32":
        return levels.astype(np.float32)
    # A limit may lie between two levels: what is clipped takes the one beyond it.
    levels = np.where(image <= 0, np.floor(low), np.where(image >= 1, np.ceil(high), np.rint(levels)))
    return np.clip(levels, 0, np.iinfo(type).max).astype(type)


def _quantised(image: np.ndarray, type: LevelType) -> np.ndarray:
    if type == "float32":
        return np.ascontiguousarray(image, np.float32)
    return np.rint(np.clip(image, 0, 1) * np.iinfo(type).max).astype(type)
