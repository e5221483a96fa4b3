"""A picture to aim at, made from a pair, and losses of a fused picture against it.

SegMiF (ICCV 2023) trains its fusion on ready-made target images that are not published. Ours weighs both
bands by their saliency, which stands in for them: how far a grey value is from all others of its image.

All functions work on grey images (B, 1, H, W), in float32 or better. valid: bool (B, H, W), False on pixels
that show no image, or None if every pixel does.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from crossband.losses.fusion import masked_mean, sobel
from crossband.losses.structure import structural_similarity
from crossband.tensors import at_least_float32, without_autocast

TargetKind = Literal["saliency", "maximum"]
LEVELS = 256


def global_contrast(image: Tensor, valid: Tensor | None = None) -> Tensor:
    """Saliency of every pixel: the mean distance of its grey value to those of all pixels of its image.

    S(p) = sum_j h_j |p - j| over a histogram h of 256 grey values (Zhai and Shah, "Visual attention detection
    in video sequences using spatiotemporal cues", 2006, eq. 7), scaled for each image so that its lowest is
    0 and its highest 1. An image of one grey value is 0.

    image: in [0, 1]. Returns (B, 1, H, W), without gradient.
    """
    levels = (at_least_float32(image.detach()).clamp(0, 1) * (LEVELS - 1)).round().long().flatten(1)
    # One more level takes the pixels that do not count.
    counted = levels if valid is None else torch.where(valid.flatten(1), levels, LEVELS)
    precise = at_least_float32(image[:0]).dtype
    ones = torch.ones_like(counted, dtype=precise)
    counts = ones.new_zeros(image.shape[0], LEVELS + 1).scatter_add(1, counted, ones)
    histogram = counts[:, :LEVELS]
    grey = torch.arange(LEVELS, dtype=precise, device=image.device)
    distances = (grey.unsqueeze(0) - grey.unsqueeze(1)).abs()
    with without_autocast(image):
        contrast = histogram / histogram.sum(dim=1, keepdim=True).clamp(min=1) @ distances
    occurs = histogram > 0
    lowest = torch.where(occurs, contrast, torch.inf).amin(dim=1, keepdim=True)
    highest = torch.where(occurs, contrast, -torch.inf).amax(dim=1, keepdim=True)
    scaled = (contrast - lowest) / (highest - lowest).clamp(min=1e-6)
    # Pixels that do not count may have values that occur nowhere else.
    return scaled.nan_to_num().clamp(0, 1).gather(1, levels).view(image.shape)


def pseudo_target(
    luma: Tensor, infrared: Tensor, valid: Tensor | None = None, *, kind: TargetKind = "saliency"
) -> Tensor:
    """M, the grey picture that a fused one should look like, in [0, 1] and without gradient.

    "saliency": M = w I + (1 - w) V with w = 1/2 + (S_I - S_V) / 2, S the `global_contrast` of each.
    "maximum": max(I, V). luma: V, the visible image's. infrared: I. Both in [0, 1].
    """
    luma, infrared = at_least_float32(luma.detach()), at_least_float32(infrared.detach())
    if kind == "maximum":
        return torch.maximum(luma, infrared)
    weight = 0.5 + 0.5 * (global_contrast(infrared, valid) - global_contrast(luma, valid))
    return weight * infrared + (1 - weight) * luma


def imitation_loss(fused: Tensor, target: Tensor, valid: Tensor | None = None) -> dict[str, Tensor]:
    """L1 of values and of the strength of edges: ``{"intensity": mean |F - M|, "gradient": ...}``.

    The gradient's is mean | (|Sx F| + |Sy F|) - (|Sx M| + |Sy M|) |, which does not ask on which side of an
    edge it is brighter. Means are over the valid pixels; all others are 0 in both pictures.
    """
    fused, target, mask = _masked(fused, target, valid)
    return {
        "intensity": masked_mean((fused - target).abs(), mask),
        "gradient": masked_mean((_edges(fused) - _edges(target)).abs(), mask),
    }


def likeness_loss(
    fused: Tensor, target: Tensor, valid: Tensor | None = None, *, ssim_weight: float = 1.1
) -> dict[str, Tensor]:
    """``{"intensity": mean (F - M)^2, "structure": ssim_weight (1 - SSIM(F, M))}`` over the valid pixels."""
    similarity = structural_similarity(fused, target, valid)
    fused, target, mask = _masked(fused, target, valid)
    return {
        "intensity": masked_mean((fused - target) ** 2, mask),
        "structure": ssim_weight * (1 - similarity),
    }


def _edges(image: Tensor) -> Tensor:
    across, up = sobel(image)
    return across.abs() + up.abs()


def _masked(fused: Tensor, target: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    fused, target = at_least_float32(fused), at_least_float32(target)
    if valid is None:
        return fused, target, None
    mask = valid.unsqueeze(1).to(fused.dtype)
    return fused * mask, target * mask, mask
