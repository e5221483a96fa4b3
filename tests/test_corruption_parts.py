"""What corruptions are made of, held against OpenCV and scipy: curves, interpolation, blurs and warps."""

from __future__ import annotations

import numpy as np

from crossband import colour
from crossband.pairs.corruption.curves import decay, to_linear, to_srgb


def test_curves_are_those_of_srgb_and_the_exponential() -> None:
    levels = np.linspace(0, 1, 300_001)
    for ours, theirs in ((to_linear, colour.to_linear), (to_srgb, colour.to_srgb)):
        np.testing.assert_allclose(ours(levels), theirs(levels), rtol=0, atol=1e-7)
        assert (np.diff(ours(levels)) >= 0).all()
        assert ours(np.float32([[0.0, 1.0]])).tolist() == [[0.0, 1.0]]
    depths = np.linspace(-1, 10, 10_001)
    np.testing.assert_allclose(decay(depths), np.exp(-depths), rtol=0, atol=1e-7)
