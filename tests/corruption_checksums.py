"""Checksums of every corruption that draws, as a module and as a command that prints them as JSON."""

from __future__ import annotations

import json
from hashlib import sha256

import numpy as np

from crossband.pairs.base import Pair
from crossband.pairs.corruption import CORRUPTIONS

DRAWN = tuple(name for name, corruption in CORRUPTIONS.items() if corruption.change is not None)
SIZES = ((96, 128), (264, 96))
"""Small enough to be quick; the second is so high that rain and halo go through a Fourier transform."""


def textured_pair(height: int, width: int) -> Pair:
    """Blocks of 8 pixels with noise of 8 bits on a ramp, drawn in whole numbers; two corners are flat."""
    rng = np.random.default_rng([height, width])
    blocks = rng.integers(0, 200, (height // 8, width // 8, 4)).repeat(8, axis=0).repeat(8, axis=1)
    levels = blocks + rng.integers(-30, 31, (height, width, 4)) + np.arange(width)[:, None] // 2
    levels[:32, :32], levels[-32:, -32:] = 0, 255
    image = np.clip(levels, 0, 255).astype(np.float32) / 255
    return Pair(f"{height} x {width}", image[..., :3], np.ascontiguousarray(image[..., 3]))


def checksums() -> dict[str, str]:
    """By corruption, 16 digits of the SHA-256 of its band in severities 1, 3 and 5 of both pairs."""
    sums = {}
    for name in DRAWN:
        corruption = CORRUPTIONS[name]
        told = sha256()
        for size in SIZES:
            for severity in (1, 3, 5):
                broken = corruption.apply(textured_pair(*size), severity, np.random.default_rng(severity))
                told.update(getattr(broken, corruption.band).astype("<f4").tobytes())
        sums[name] = told.hexdigest()[:16]
    return sums


if __name__ == "__main__":
    print(json.dumps(checksums()))
