"""The picture that a fusion is aimed at, and the losses against it, beside formulas and torchmetrics."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics.functional.image import structural_similarity_index_measure as reference_similarity

from crossband.losses.structure import similarity_map, structural_similarity
from crossband.systems.segmif.pseudo_target import (
    global_contrast,
    imitation_loss,
    likeness_loss,
    pseudo_target,
)


def grey(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def left_half(height: int, width: int, batch: int = 2) -> Tensor:
    valid = torch.zeros(batch, height, width, dtype=torch.bool)
    valid[..., : width // 2] = True
    return valid


# --- saliency


def plain_contrast(levels: list[int]) -> list[float]:
    """Each grey value's distance to those of all pixels, scaled to [0, 1]."""
    sums = [sum(abs(level - other) for other in levels) for level in levels]
    return [(value - min(sums)) / (max(sums) - min(sums)) for value in sums]


def test_saliency_is_the_distance_to_all_other_pixels() -> None:
    levels = torch.randint(0, 256, (3, 1, 7, 9), generator=torch.Generator().manual_seed(0))
    salient = global_contrast(levels / 255)
    for each, found in zip(levels, salient, strict=True):
        wanted = torch.tensor(plain_contrast(each.flatten().tolist()))
        assert torch.allclose(found.flatten(), wanted, atol=1e-6)


def test_saliency_by_hand() -> None:
    # Black, black, black, white: 255 / 4 each for black, 3 * 255 / 4 for white.
    assert global_contrast(torch.tensor([[[[0.0, 0.0], [0.0, 1.0]]]])).tolist() == [[[[0, 0], [0, 1]]]]
    assert global_contrast(torch.full((1, 1, 3, 3), 0.3)).tolist() == torch.zeros(1, 1, 3, 3).tolist()
    assert global_contrast(torch.full((1, 1, 1, 1), 1.0)).item() == 0


def test_saliency_counts_only_valid_pixels() -> None:
    image = grey(2, 1, 8, 12)
    valid = left_half(8, 12)
    other = image.clone()
    other[..., 6:] = grey(2, 1, 8, 6, seed=1)
    alone = global_contrast(image[..., :6])
    for padded in (image, other):
        assert torch.equal(global_contrast(padded, valid)[..., :6], alone)
    nothing = global_contrast(image, torch.zeros_like(valid))
    assert torch.equal(nothing, torch.zeros_like(image))


def test_the_target_weighs_the_more_salient_band_more() -> None:
    luma, infrared = grey(2, 1, 8, 12), grey(2, 1, 8, 12, seed=1)
    weight = 0.5 + 0.5 * (global_contrast(infrared) - global_contrast(luma))
    target = pseudo_target(luma, infrared)
    assert torch.allclose(target, weight * infrared + (1 - weight) * luma)
    assert (target >= torch.minimum(luma, infrared) - 1e-6).all()
    assert (target <= torch.maximum(luma, infrared) + 1e-6).all()
    # A hot spot before an even visible image is taken as it is; all else is the mean.
    spot, even = torch.zeros(1, 1, 4, 4), torch.full((1, 1, 4, 4), 0.4)
    spot[..., 1, 1] = 1
    wanted = torch.full((4, 4), 0.2)
    wanted[1, 1] = 1
    assert torch.allclose(pseudo_target(even, spot)[0, 0], wanted)


def test_the_other_target_is_the_maximum() -> None:
    luma, infrared = grey(2, 1, 8, 12), grey(2, 1, 8, 12, seed=1)
    assert torch.equal(pseudo_target(luma, infrared, kind="maximum"), torch.maximum(luma, infrared))


def test_the_target_has_no_gradient_and_is_float32_in_half_precision() -> None:
    luma, infrared = grey(1, 1, 8, 8).requires_grad_(), grey(1, 1, 8, 8, seed=1)
    for dtype in (torch.bfloat16, torch.float16):
        with torch.autocast("cpu", dtype=dtype):
            target = pseudo_target(luma, infrared)
        assert not target.requires_grad
        assert target.dtype == torch.float32
        assert torch.equal(target, pseudo_target(luma, infrared))


# --- structural similarity


@pytest.mark.parametrize("channels", [1, 3])
def test_similarity_is_torchmetrics_where_windows_lie_inside(channels: int) -> None:
    """torchmetrics mirrors the image at its border; we count what is there. So the inner pixels agree."""
    first = grey(2, channels, 24, 30).double()
    second = (first + 0.3 * grey(2, channels, 24, 30, seed=1)).clamp(0, 1)
    _, full = reference_similarity(first, second, data_range=1.0, return_full_image=True)
    found = similarity_map(first, second)
    assert found.dtype == torch.float64
    inner = (..., slice(5, -5), slice(5, -5))
    assert torch.allclose(found[inner], full[inner], atol=1e-9)
    assert structural_similarity(first, second).item() == pytest.approx(found.mean().item())


def test_equal_images_are_alike_whatever_their_size() -> None:
    for size in ((1, 1), (3, 20), (40, 40)):
        image = grey(2, 1, *size)
        assert structural_similarity(image, image).item() == pytest.approx(1, abs=1e-5)
        assert structural_similarity(image, 1 - image).item() < 0.9


def test_a_window_at_the_border_counts_what_is_inside() -> None:
    """Of one pixel there are only means: (2 a b + C1) / (a^2 + b^2 + C1)."""
    first, second = torch.full((1, 1, 1, 1), 0.2), torch.full((1, 1, 1, 1), 0.6)
    wanted = (2 * 0.2 * 0.6 + 1e-4) / (0.04 + 0.36 + 1e-4)
    assert structural_similarity(first, second).item() == pytest.approx(wanted, rel=1e-5)


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match=r"not \(1, 1, 4, 4\), \(1, 1, 4, 5\) and None"):
        structural_similarity(grey(1, 1, 4, 4), grey(1, 1, 4, 5))
    with pytest.raises(ValueError, match=r"valid \(B, H, W\)"):
        structural_similarity(grey(1, 1, 4, 4), grey(1, 1, 4, 4), torch.ones(1, 4, 5, dtype=torch.bool))


# --- the losses


def sobel_by_convolution(image: Tensor) -> tuple[Tensor, Tensor]:
    across = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]])[None, None]
    return F.conv2d(image, across, padding=1), F.conv2d(image, -across.transpose(2, 3), padding=1)


def test_imitation_is_l1_of_values_and_gradients() -> None:
    fused, target = grey(2, 1, 9, 13), grey(2, 1, 9, 13, seed=1)
    terms = imitation_loss(fused, target)
    assert terms["intensity"].item() == pytest.approx(F.l1_loss(fused, target).item())
    edges = [sum(each.abs() for each in sobel_by_convolution(image)) for image in (fused, target)]
    assert terms["gradient"].item() == pytest.approx(F.l1_loss(*edges).item(), rel=1e-5)


def test_likeness_is_mse_and_similarity() -> None:
    fused, target = grey(2, 1, 24, 30), grey(2, 1, 24, 30, seed=1)
    terms = likeness_loss(fused, target, ssim_weight=1.1)
    assert terms["intensity"].item() == pytest.approx(F.mse_loss(fused, target).item())
    similarity = structural_similarity(fused, target).item()
    assert terms["structure"].item() == pytest.approx(1.1 * (1 - similarity))
    assert likeness_loss(fused, target, ssim_weight=0.0)["structure"].item() == 0


@pytest.mark.parametrize("loss", [imitation_loss, likeness_loss])
def test_a_padded_pair_has_the_loss_of_the_pair(loss: Any) -> None:
    fused, target = grey(2, 1, 20, 40), grey(2, 1, 20, 40, seed=1)
    fused.requires_grad_()
    cropped = loss(fused[..., :20], target[..., :20])
    padded = loss(fused, target, left_half(20, 40))
    for name, term in cropped.items():
        assert padded[name].item() == pytest.approx(term.item(), rel=1e-5)
    sum(padded.values()).backward()
    assert fused.grad is not None
    assert not fused.grad[..., 20:].any()
    nothing = loss(fused, target, torch.zeros(2, 20, 40, dtype=torch.bool))
    assert all(term.item() == 0 for term in nothing.values())


@pytest.mark.parametrize("loss", [imitation_loss, likeness_loss])
def test_a_perfect_picture_costs_nothing(loss: Any) -> None:
    target = pseudo_target(grey(2, 1, 20, 30), grey(2, 1, 20, 30, seed=1))
    assert all(abs(term.item()) < 1e-5 for term in loss(target, target).values())


@pytest.mark.parametrize("loss", [imitation_loss, likeness_loss])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_losses_are_computed_in_float32(loss: Any, dtype: torch.dtype) -> None:
    fused, target = grey(2, 1, 20, 30).to(dtype), grey(2, 1, 20, 30, seed=1)
    with torch.autocast("cpu", dtype=dtype):
        terms = loss(fused, target)
    for name, term in loss(fused.float(), target).items():
        assert terms[name].dtype == torch.float32
        assert terms[name].item() == term.item()
