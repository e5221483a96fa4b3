"""Classical fusions against OpenCV, scikit-image, plain loops and numbers worked by hand."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage.color import rgb2ycbcr
from torch import Tensor
from torch.nn import functional as F

from crossband.errors import OptionError
from crossband.systems import create, make_training
from crossband.systems.classical.rules import (
    box_mean,
    expand,
    guided_filter,
    guided_fusion,
    laplacian_pyramid_fusion,
    reduce,
    saliency,
)
from references import plain_guided
from tiny_systems import images

NAMES = ("average", "guided", "laplacian", "maximum")


def grey(height: int = 33, width: int = 46, *, seed: int = 0) -> Tensor:
    return torch.rand(1, 1, height, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def inner(image: Tensor, margin: int) -> Tensor:
    return image[..., margin:-margin, margin:-margin]


# --- pictures


@pytest.mark.parametrize("name", NAMES)
def test_two_equal_bands_give_that_band(name: str) -> None:
    _, infrared = images(37, 50)
    visible = infrared.expand(-1, 3, -1, -1)
    assert torch.allclose(create(name)(visible, infrared).fused, visible, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_chroma_is_that_of_the_visible_image(name: str) -> None:
    """Against scikit-image's conversion to Y'CbCr, on values that the sum with infrared cannot clip."""
    visible, infrared = images(20, 31)
    visible, infrared = 0.4 + 0.2 * visible, 0.4 + 0.2 * infrared
    fused = create(name)(visible, infrared).fused
    before, after = (rgb2ycbcr(image.permute(0, 2, 3, 1).numpy()) for image in (visible, fused))
    np.testing.assert_allclose(after[..., 1:], before[..., 1:], atol=1e-3)
    assert not np.allclose(after[..., 0], before[..., 0], atol=1)


def test_average_and_maximum_by_hand() -> None:
    visible = torch.tensor([0.2, 0.6]).reshape(1, 1, 1, 2).expand(1, 3, 1, 2)
    infrared = torch.tensor([0.8, 0.4]).reshape(1, 1, 1, 2)
    for name, expected in (("average", [0.5, 0.5]), ("maximum", [0.8, 0.6])):
        fused = create(name)(visible, infrared).fused
        assert torch.allclose(fused[0, 0, 0], torch.tensor(expected), atol=1e-6)


def test_a_picture_stays_in_range_where_the_new_luma_cannot_be_reached() -> None:
    """Pure blue (luma 0.114) with bright infrared: red and green rise, blue is full already."""
    blue = torch.tensor([0.0, 0.0, 1.0]).reshape(1, 3, 1, 1)
    fused = create("maximum")(blue, torch.ones(1, 1, 1, 1)).fused.flatten()
    assert fused.tolist() == pytest.approx([0.886, 0.886, 1.0], abs=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_a_single_band_is_shown_as_it_is(name: str) -> None:
    visible, infrared = images(12, 9)
    system = create(name)
    assert torch.equal(system(visible=visible).fused, visible)
    assert torch.equal(system(infrared=infrared).fused, infrared.expand(-1, 3, -1, -1))
    assert dict(system.supports) == {"both": "designed", "infrared": "fallback", "visible": "fallback"}


@pytest.mark.parametrize("name", NAMES)
def test_there_is_nothing_to_train_and_nothing_to_segment(name: str) -> None:
    system = create(name)
    assert not list(system.parameters())
    assert system.deployed("both") == []
    assert system.phases() == []
    with pytest.raises(OptionError, match=f"{name} needs no training; use it by its name"):
        make_training(name)
    with pytest.raises(OptionError, match=f"{name} only fuses: it takes no classes"):
        create(name, classes=3)


# --- Laplacian pyramid


def test_reduce_and_expand_equal_opencv_away_from_the_border() -> None:
    image = grey(34, 46)
    pixels = image[0, 0].numpy()
    assert torch.allclose(
        inner(reduce(image), 2), inner(torch.from_numpy(cv2.pyrDown(pixels))[None, None], 2)
    )
    small = grey(17, 23)
    wide = torch.from_numpy(cv2.pyrUp(small[0, 0].numpy()))[None, None]
    assert torch.allclose(inner(expand(small, (34, 46)), 4), inner(wide, 4))


@pytest.mark.parametrize("size", [(1, 1), (2, 1), (5, 8), (31, 64)])
def test_a_constant_survives_reduce_and_expand(size: tuple[int, int]) -> None:
    flat = torch.full((1, 1, *size), 0.3, dtype=torch.float64)
    assert torch.allclose(expand(reduce(flat), size), flat, atol=1e-12)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (3, 2), (33, 46), (64, 97)])
@pytest.mark.parametrize("levels", [1, 4, 12])
def test_the_pyramid_of_one_image_adds_up_to_it(size: tuple[int, int], levels: int) -> None:
    image = grey(*size)
    assert torch.allclose(laplacian_pyramid_fusion(image, image.clone(), levels), image, atol=1e-12)


def test_the_stronger_detail_wins_on_the_mean_of_the_bases() -> None:
    """An image with a fine pattern and a flat one: the pattern stays whole, the brightness is the mean."""
    pattern = 0.5 + 0.1 * (-1.0) ** torch.arange(64).double().expand(1, 1, 64, 64)
    flat = torch.full_like(pattern, 0.9)
    for first, second in ((pattern, flat), (flat, pattern)):
        fused = inner(laplacian_pyramid_fusion(first, second, 3), 16)
        assert fused.mean() == pytest.approx(0.7, abs=1e-3)
        assert torch.allclose(fused - fused.mean(), inner(pattern, 16) - 0.5, atol=1e-3)


def test_levels_are_an_option() -> None:
    visible, infrared = images(64, 64)
    one, four = (create("laplacian", levels=levels)(visible, infrared).fused for levels in (1, 4))
    assert not torch.allclose(one, four, atol=1e-2)
    assert torch.equal(four, create("laplacian")(visible, infrared).fused)
    with pytest.raises(OptionError, match="levels must be 1 or more, not 0"):
        create("laplacian", levels=0)


# --- guided filter


@pytest.mark.parametrize("radius", [1, 4, 60])
def test_a_box_mean_is_the_mean_of_the_pixels_that_are_there(radius: int) -> None:
    image = grey(13, 29)
    wanted = F.avg_pool2d(image, 2 * radius + 1, stride=1, padding=radius, count_include_pad=False)
    assert torch.allclose(box_mean(image, radius), wanted, atol=1e-13)


def test_the_guided_filter_solves_the_regression_of_every_window() -> None:
    """He et al., equations 5, 6 and 8, window by window."""
    guide, image, radius, epsilon = grey(9, 11)[0, 0], grey(9, 11, seed=1)[0, 0], 2, 0.01
    slopes, offsets = torch.empty(9, 11).double(), torch.empty(9, 11).double()

    def window(of: Tensor, row: int, column: int) -> Tensor:
        return of[max(row - radius, 0) : row + radius + 1, max(column - radius, 0) : column + radius + 1]

    places = [(row, column) for row in range(9) for column in range(11)]
    for place in places:
        x, y = window(guide, *place), window(image, *place)
        slopes[place] = ((x * y).mean() - x.mean() * y.mean()) / (x.var(correction=0) + epsilon)
        offsets[place] = y.mean() - slopes[place] * x.mean()
    wanted = torch.empty(9, 11).double()
    for place in places:
        wanted[place] = window(slopes, *place).mean() * guide[place] + window(offsets, *place).mean()
    result = guided_filter(guide[None, None], image[None, None], radius, epsilon)[0, 0]
    assert torch.allclose(result, wanted, atol=1e-12)


def test_saliency_equals_scipy() -> None:
    image = grey()[0, 0].numpy()
    taps = np.exp(-0.5 * (np.arange(-5, 6) / 5) ** 2)
    wanted = np.abs(ndimage.laplace(image, mode="nearest"))
    for axis in (0, 1):
        wanted = ndimage.correlate1d(wanted, taps / taps.sum(), axis=axis, mode="nearest")
    np.testing.assert_allclose(saliency(grey())[0, 0].numpy(), wanted, atol=1e-13)


def test_guided_fusion_takes_each_half_from_the_image_that_is_sharp_there() -> None:
    sharp = grey(128, 256)
    blurred = box_mean(sharp, 3)
    left = (torch.arange(256) < 128).expand_as(sharp)
    first, second = torch.where(left, sharp, blurred), torch.where(left, blurred, sharp)
    error = (guided_fusion(first, second) - sharp).abs()
    # Far from the seam nearly the sharp image; a plain mean is off by half of what the blur removed.
    assert error[..., :64].mean() < 0.1 * ((first + second) / 2 - sharp).abs()[..., :64].mean()
    assert error[..., 192:].mean() < 0.1 * ((first + second) / 2 - sharp).abs()[..., 192:].mean()
    assert torch.allclose(guided_fusion(first, second), guided_fusion(second, first), atol=1e-9)


def test_guided_fusion_is_that_of_the_paper() -> None:
    """Equations 1 to 9 of Li et al. with its numbers, on OpenCV's box filter."""

    def box(image: np.ndarray, radius: int) -> np.ndarray:
        size, border = (2 * radius + 1, 2 * radius + 1), cv2.BORDER_CONSTANT
        sums = cv2.boxFilter(image, -1, size, normalize=False, borderType=border)
        return sums / cv2.boxFilter(np.ones_like(image), -1, size, normalize=False, borderType=border)

    def filtered(guide: np.ndarray, weights: np.ndarray, radius: int, epsilon: float) -> np.ndarray:
        mean, centre = box(guide, radius), box(weights, radius)
        slope = (box(guide * weights, radius) - mean * centre) / (box(guide**2, radius) - mean**2 + epsilon)
        return box(slope, radius) * guide + box(centre - slope * mean, radius)

    # Each is the sharp one in places, so that both weights matter.
    sharp, place = grey(110, 140), torch.linspace(0, 12, 140).sin() > 0
    pair = [torch.where(place, sharp, 0.3 * box_mean(sharp, 2)), torch.where(place, 0.5, 1 - sharp)]
    images = [image[0, 0].double().numpy() for image in pair]
    salient = [saliency(image.double())[0, 0].numpy() for image in pair]
    wanted = np.zeros_like(images[0])
    for kind, (radius, epsilon) in (("base", (45, 0.3)), ("detail", (7, 1e-6))):
        layers = [box(image, 15) if kind == "base" else image - box(image, 15) for image in images]
        first, second = (
            np.clip(filtered(image, (own >= other).astype(float), radius, epsilon), 0, 1)
            for image, own, other in zip(images, salient, reversed(salient), strict=True)
        )
        wanted += (first * layers[0] + second * layers[1]) / (first + second)
    result = guided_fusion(*(image.double() for image in pair))
    np.testing.assert_allclose(result[0, 0].numpy(), np.clip(wanted, 0, 1), atol=1e-6)


@pytest.mark.parametrize("size", [(1, 1), (3, 70), (60, 50)])
def test_two_flat_images_are_salient_alike_and_give_their_mean(size: tuple[int, int]) -> None:
    dark, bright = torch.full((1, 1, *size), 0.2), torch.full((1, 1, *size), 0.8)
    for pair in ((dark, bright), (bright, dark)):
        assert torch.allclose(guided_fusion(*pair), torch.full((1, 1, *size), 0.5), atol=1e-6)


def test_guided_fusion_in_float32_is_that_of_float64() -> None:
    """On bright and nearly flat images, whose variances are smaller than what float32 squares round to."""
    first, second = 0.9 + 1e-3 * grey(120, 160), 0.8 + 1e-3 * grey(120, 160, seed=1)
    first, second = first.float(), second.float()
    single = guided_fusion(first, second)
    assert single.dtype == torch.float32
    assert torch.allclose(single.double(), guided_fusion(first.double(), second.double()), atol=1e-6)


@pytest.mark.parametrize("size", [(310, 40), (64, 97), (5, 7)])
@pytest.mark.parametrize("at_once", [1 << 21, 40 * 50])
def test_guided_fusion_is_the_plain_one_also_in_strips(
    size: tuple[int, int], at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crossband.systems.classical.rules.AT_ONCE", at_once)
    first, second = grey(*size), grey(*size, seed=1)
    plain = plain_guided.guided_fusion(first, second)
    assert torch.allclose(guided_fusion(first, second), plain, atol=1e-9, rtol=0)
    with_gradients = guided_fusion(first.requires_grad_(), second)
    assert torch.allclose(with_gradients.detach(), plain, atol=1e-9, rtol=0)
