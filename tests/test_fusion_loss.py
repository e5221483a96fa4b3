"""The fusion loss: against PyTorch's convolution, formulas worked by hand, and what padding may change."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms.functional import adjust_contrast

from crossband.losses.fusion import (
    chroma,
    colour_loss,
    fusion_loss,
    gradient_loss,
    intensity_loss,
    sobel,
    stretch_contrast,
)


def pictures(height: int = 9, width: int = 12, batch: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    fused, visible = torch.rand(2, batch, 3, height, width, generator=generator, dtype=torch.float64)
    infrared = torch.rand(batch, 1, height, width, generator=generator, dtype=torch.float64)
    return fused, visible, infrared


def one_pixel(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64).view(1, -1, 1, 1)


def test_sobel_is_the_correlation_with_its_kernels() -> None:
    image = pictures()[0]
    kernels = torch.tensor(
        [[[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]], [[1, 2, 1], [0, 0, 0], [-1, -2, -1]]], dtype=torch.float64
    )
    for result, kernel in zip(sobel(image), kernels, strict=True):
        wanted = F.conv2d(image, kernel.expand(3, 1, 3, 3), padding=1, groups=3)
        assert torch.allclose(result, wanted, atol=1e-12)


def test_chroma_of_primary_colours() -> None:
    red, blue, grey = one_pixel(1, 0, 0), one_pixel(0, 0, 1), one_pixel(0.3, 0.3, 0.3)
    assert [value.item() for value in chroma(red)] == pytest.approx(
        [0.5 - 0.564 * 0.299, 0.5 + 0.713 * 0.701]
    )
    assert [value.item() for value in chroma(blue)] == pytest.approx(
        [0.5 + 0.564 * 0.886, 0.5 - 0.713 * 0.114]
    )
    assert [value.item() for value in chroma(grey)] == pytest.approx([0.5, 0.5])


def test_a_grey_pair_that_agrees_costs_its_fused_picture_nothing() -> None:
    grey = torch.rand(2, 1, 7, 8, generator=torch.Generator().manual_seed(1))
    infrared = grey**0.8
    terms = fusion_loss(infrared.expand(-1, 3, -1, -1), grey.expand(-1, 3, -1, -1), infrared)
    assert {name: value.item() for name, value in terms.items()} == pytest.approx(
        {"intensity": 0, "gradient": 0, "colour": 0}, abs=1e-6
    )


def test_terms_by_hand() -> None:
    """One row of two pixels; beyond the border all is 0, so Sx sees each pixel's neighbour, doubled."""
    visible = torch.tensor([0.0, 1.0]).view(1, 1, 1, 2).expand(-1, 3, -1, -1)
    infrared = torch.tensor([0.5, 0.2]).view(1, 1, 1, 2)
    fused = torch.tensor([0.25, 0.5]).view(1, 1, 1, 2).expand(-1, 3, -1, -1)
    terms = fusion_loss(fused, visible, infrared)
    # max(V, R) = (.5, 1): |.25 - .5| and |.5 - 1|.
    assert terms["intensity"].item() == pytest.approx(0.5 * (0.25 + 0.5) / 2)
    # Sx of F, V and R are 2 (.5, -.25), 2 (1, 0), 2 (.2, -.5); the maximum is 2 (1, 0). Sy is 0.
    assert terms["gradient"].item() == pytest.approx(0.5 * 2 * (0.5 + 0.25) / 2)
    assert terms["colour"].item() == 0
    larger = fusion_loss(fused, visible, infrared, gradient_target="magnitude")
    # Now 2 (1, -.5).
    assert larger["gradient"].item() == pytest.approx(0.5 * 2 * (0.5 + 0.25) / 2)
    steep = fusion_loss(fused.flip(-1), visible.flip(-1), infrared.flip(-1))
    # Sx of F, V and R are 2 (.25, -.5), 2 (0, -1), 2 (.5, -.2): signed 2 (.5, -.2), by magnitude 2 (.5, -1).
    assert steep["gradient"].item() == pytest.approx(0.5 * 2 * (0.25 + 0.3) / 2)
    steep = fusion_loss(fused.flip(-1), visible.flip(-1), infrared.flip(-1), gradient_target="magnitude")
    assert steep["gradient"].item() == pytest.approx(0.5 * 2 * (0.25 + 0.5) / 2)


def test_brightening_is_a_power_and_colour_is_that_of_the_visible_image() -> None:
    red, dark = one_pixel(0.5, 0, 0), one_pixel(0.0)
    bright = 0.5**0.8
    terms = fusion_loss(one_pixel(0, 0, 0), red, dark)
    assert terms["intensity"].item() == pytest.approx(0.5 * bright / 3)
    assert terms["colour"].item() == pytest.approx(bright * (0.564 * 0.299 + 0.713 * 0.701))
    assert fusion_loss(one_pixel(0, 0, 0), red, dark, gamma=2)["intensity"].item() == pytest.approx(0.125 / 3)


def test_weights_multiply_their_terms() -> None:
    plain = fusion_loss(*pictures(), intensity_weight=1)
    weighted = fusion_loss(*pictures(), intensity_weight=2, gradient_weight=3, colour_weight=5)
    ratios = {name: (weighted[name] / plain[name]).item() for name in plain}
    assert ratios == pytest.approx({"intensity": 2, "gradient": 3, "colour": 5})
    default = fusion_loss(*pictures())
    assert (default["intensity"] / plain["intensity"]).item() == pytest.approx(0.5)


def test_the_terms_are_those_functions() -> None:
    fused, visible, infrared = pictures()
    bright = visible**0.8
    terms = fusion_loss(fused, visible, infrared)
    assert terms["intensity"] == 0.5 * intensity_loss(fused, bright, infrared)
    assert terms["gradient"] == gradient_loss(fused, bright, infrared)
    assert terms["colour"] == colour_loss(fused, bright)


@pytest.mark.parametrize("side", ["right and below", "all around"])
def test_a_padded_pair_costs_what_the_pair_costs(side: str) -> None:
    margins = (0, 5, 0, 4) if side == "right and below" else (2, 3, 1, 3)
    plain = fusion_loss(*pictures())
    padded = [F.pad(image, margins, value=0.7) for image in pictures()]
    valid = F.pad(torch.ones(2, 9, 12), margins).bool()
    terms = fusion_loss(*padded, valid=valid)
    for name in ("intensity", "colour"):
        assert terms[name].item() == pytest.approx(plain[name].item())
    # The edge between image and padding is an edge to zeros, like a picture's own border.
    assert terms["gradient"].item() == pytest.approx(plain["gradient"].item())
    # As published: the sum is that of the pair and a little more (the edges), the count that of the padding.
    published = fusion_loss(*padded, valid=valid, mean_over="all")
    share = 9 * 12 / valid[0].numel()
    for name in ("intensity", "colour"):
        assert published[name].item() == pytest.approx(plain[name].item() * share)
    assert published["gradient"].item() >= plain["gradient"].item() * share


def test_nothing_valid_costs_nothing() -> None:
    fused, visible, infrared = pictures()
    fused.requires_grad_()
    terms = fusion_loss(fused, visible, infrared, valid=torch.zeros(2, 9, 12, dtype=torch.bool))
    total = sum(terms.values())
    assert total == 0
    total.backward()
    assert not fused.grad.any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    halves = [image.to(dtype) for image in pictures()]
    terms = fusion_loss(*halves)
    wanted = fusion_loss(*(image.float() for image in halves))
    for name, value in terms.items():
        assert value.dtype == torch.float32
        assert value == wanted[name]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"infrared": torch.rand(2, 3, 9, 12)}, r"infrared must be \(2, 1, 9, 12\), not \(2, 3, 9, 12\)"),
        ({"visible": torch.rand(2, 3, 9, 11)}, r"visible must be \(2, 3, 9, 12\)"),
        ({"valid": torch.ones(2, 1, 9, 12).bool()}, r"valid must be \(2, 9, 12\)"),
    ],
)
def test_shapes_that_disagree_are_refused(change: dict[str, Tensor], message: str) -> None:
    arguments = dict(zip(("fused", "visible", "infrared"), pictures(), strict=True))
    with pytest.raises(ValueError, match=message):
        fusion_loss(**{**arguments, **change})


def test_mean_of_a_black_pair_is_its_brightness() -> None:
    fused = torch.full((1, 3, 6, 6), 0.25)
    terms = fusion_loss(fused, torch.zeros(1, 3, 6, 6), torch.zeros(1, 1, 6, 6))
    assert terms["intensity"].item() == pytest.approx(0.125)
    # Only at the border, where zeros lie beyond: 4 x (1, 3/4) of .25 along each side, 6 pixels of 36 each.
    edge = 2 * 0.25 * (4 * 4 + 2 * 3) / 36
    assert terms["gradient"].item() == pytest.approx(edge)
    assert math.isclose(terms["colour"].item(), 0, abs_tol=1e-7)


@pytest.mark.parametrize("factor", [0.4, 1.0, 1.7])
def test_contrast_is_stretched_as_torchvision_does(factor: float) -> None:
    infrared = pictures()[2]
    stretched = stretch_contrast(infrared, factor)
    for ours, image in zip(stretched, infrared, strict=True):
        assert torch.allclose(ours, adjust_contrast(image, factor), atol=1e-12)
    fused, visible, _ = pictures()
    terms = fusion_loss(fused, visible, infrared, contrast=factor)
    wanted = fusion_loss(fused, visible, stretched)
    assert all(terms[name].item() == pytest.approx(wanted[name].item()) for name in terms)


@pytest.mark.parametrize("contrast", [0.4, 1.7])
def test_padding_neither_moves_the_mean_of_a_stretch_nor_is_stretched(contrast: float) -> None:
    plain = fusion_loss(*pictures(), contrast=contrast)
    padded = [F.pad(image, (2, 3, 1, 3), value=0.7) for image in pictures()]
    valid = F.pad(torch.ones(2, 9, 12), (2, 3, 1, 3)).bool()
    terms = fusion_loss(*padded, valid=valid, contrast=contrast)
    assert all(terms[name].item() == pytest.approx(plain[name].item()) for name in plain)
    # As published, the padding's zeros are part of the mean that values are moved away from.
    published = fusion_loss(*padded, valid=valid, contrast=contrast, mean_over="all")
    dark = F.pad(pictures()[2], (2, 3, 1, 3))
    stretched = stretch_contrast(dark, contrast) * valid.unsqueeze(1)
    wanted = fusion_loss(*padded[:2], stretched, valid=valid, mean_over="all")
    assert all(published[name].item() == pytest.approx(wanted[name].item()) for name in wanted)
    assert not torch.allclose(stretched[..., 1:10, 2:14], stretch_contrast(pictures()[2], contrast))
