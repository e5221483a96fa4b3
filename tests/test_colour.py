"""The numbers of sRGB, against Pillow and scikit-image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from crossband.colour import LUMA, LUMA_THOUSANDTHS, to_linear, to_srgb, weighted_sum


def test_luma_is_pillow_s_grey() -> None:
    colours = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    grey = np.asarray(Image.fromarray(colours).convert("L"), dtype=float)
    planes = colours.astype(np.float64).transpose(2, 0, 1)
    assert np.abs(weighted_sum(*planes) - grey).max() < 0.51
    tensors = torch.from_numpy(planes)
    assert torch.equal(weighted_sum(*tensors), torch.from_numpy(weighted_sum(*planes)))


def test_the_weights_are_the_same_in_thousandths() -> None:
    assert tuple(weight / 1000 for weight in LUMA_THOUSANDTHS) == LUMA
    assert sum(LUMA_THOUSANDTHS) == 1000


def test_linear_light_is_scikit_image_s_and_back() -> None:
    skimage = pytest.importorskip("skimage.color")
    srgb = np.linspace(0, 1, 3 * 333).reshape(1, -1, 3)
    light = to_linear(srgb)
    assert np.allclose(light @ skimage.colorconv.xyz_from_rgb.T, skimage.rgb2xyz(srgb), atol=1e-12)
    assert np.allclose(to_srgb(light), srgb, atol=1e-6)


def test_half_grey_and_types() -> None:
    assert to_linear(np.float32([0.5])) == pytest.approx(0.21404114)
    assert to_linear(np.zeros(2, np.float32)).dtype == to_srgb(np.zeros(2, np.float32)).dtype == np.float32
    assert to_srgb(np.array([0.0, 1.0])).tolist() == pytest.approx([0, 1])
