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
    if scaling.rule == "percentile":
        assert scaling.limits is not None
        return _quantised(_spread(image, scaling.limits), type)
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


def _spread(images: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    """Images (..., H, W) that were scaled between two percentiles, so that the percentiles are limits again.

    Each mostly lies between two pixels, of which the outer one was clipped to it. What was clipped is put as
    far outside as makes the percentile what it was, and the whole is brought into [0, 1].
    """
    made = np.array(images, np.float64, order="C")
    for image in made.reshape(-1, *images.shape[-2:]):
        # Rounded, since a place that misses a pixel by the error of a product would put others far outside.
        places = (round((image.size - 1) * limit / 100, 6) for limit in limits)
        (below, low), (above, high) = (divmod(place, 1) for place in places)
        if below == above:
            # No pixel lies between the two.
            continue
        ordered = np.sort(image, axis=None)
        first, last = ordered[int(below) : int(below) + 2], ordered[int(above) : int(above) + 2]
        if low > 0 and first[0] <= 0 < first[1]:
            image[image <= 0] = -low * first[1] / (1 - low)
        if high > 0 and last[0] < 1 <= last[1]:
            image[image >= 1] = (1 - (1 - high) * last[0]) / high
        least, most = min(0.0, image.min()), max(1.0, image.max())
        image[:] = (image - least) / (most - least)
    return made


def _quantised(image: np.ndarray, type: LevelType) -> np.ndarray:
    if type == "float32":
        return np.ascontiguousarray(image, np.float32)
    return np.rint(np.clip(image, 0, 1) * np.iinfo(type).max).astype(type)
