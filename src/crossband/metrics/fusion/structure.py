"""Structural similarity: SSIM and MS-SSIM."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from crossband.errors import OptionError
from crossband.metrics.fusion.filters import (
    Moments,
    gaussian_window,
    padded,
    uniform_window,
    window_moments,
)
from crossband.metrics.fusion.images import CENTRE, PEAK, FusedPair, Image, Reduction, as_fused_pair

Window = Literal["gaussian", "uniform"]
Border = Literal["crop", "replicate"]

K1, K2 = 0.01, 0.03
WINDOW, DEVIATION = 11, 1.5
GAUSSIAN = gaussian_window(WINDOW, DEVIATION)
UNIFORM = uniform_window(7)
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
# The least that is as wide as the Gaussian window after four halvings.
SMALLEST_SIDE = 161


def structural_similarity(
    fused: Image | FusedPair,
    visible: Image | None = None,
    infrared: Image | None = None,
    *,
    data_range: float | None = None,
    dynamic_range: float = PEAK,
    window: Window = "gaussian",
    border: Border = "crop",
    reduction: Reduction = "sum",
) -> Tensor:
    """SSIM: likeness of means, contrasts and structure with each source. Higher is better.

    The mean over all windows of (2 m_S m_F + C1)(2 cov + C2) / ((m_S^2 + m_F^2 + C1)(var S + var F + C2)), C1
    = (0.01 L)^2, C2 = (0.03 L)^2. Wang, Bovik, Sheikh, Simoncelli 2004, "Image quality assessment: from error
    visibility to structural similarity", eq. 13.

    fused, visible, infrared, data_range: as in `FusedPair`, which may be given in place of the first three.
    dynamic_range: L of the formula, for values on 0..255. It is 255; values computed with 1 or 2, as much
        published code does unawares, are near to 1 for any picture and cannot be compared with others.
    window: "gaussian", 11 x 11 with sigma 1.5 (the paper), or "uniform", 7 x 7 with the sample covariance.
    border: "crop", windows lie inside of the picture (the paper), or "replicate" its border pixels.
    reduction: over the sources; "none" gives (visible, infrared).

    Returns float64, -1..1 per source, so -2..2 for the sum. NaN for pictures smaller than the window.
    """
    pair = as_fused_pair(fused, visible, infrared, data_range)
    if window not in ("gaussian", "uniform"):
        raise OptionError(f"window is {window!r}: use gaussian or uniform")
    if border not in ("crop", "replicate"):
        raise OptionError(f"border is {border!r}: use crop or replicate")
    moments = pair.once(("structure", window, border), lambda: _moments(pair.centred, window, border))
    parts = []
    for index in (1, 2):
        likeness, contrast = _terms(moments, index, dynamic_range)
        parts.append(likeness.mul_(contrast).double().mean((-2, -1)))
    return pair.reduced(torch.stack(parts, -1), reduction)


def multi_scale_structural_similarity(
    fused: Image | FusedPair,
    visible: Image | None = None,
    infrared: Image | None = None,
    *,
    data_range: float | None = None,
    dynamic_range: float = PEAK,
    reduction: Reduction = "sum",
) -> Tensor:
    """MS-SSIM: SSIM's contrast and structure at five scales, and its means at the coarsest. Higher is better.

    The product over the scales of the mean of (2 cov + C2) / (var S + var F + C2), at the last scale of the
    whole of SSIM, to the powers 0.0448, 0.2856, 0.3001, 0.2363, 0.1333. Wang, Simoncelli, Bovik 2003,
    "Multiscale structural similarity for image quality assessment", eq. 7. A scale is half the one before, by
    the mean of 2 x 2 pixels; an odd number of rows or columns gets one of zeros in front, as in
    pytorch-msssim.

    A negative factor counts as 0, so a source that the fused picture contradicts at one scale adds exactly 0.

    Arguments as in `structural_similarity`. Returns float64, 0..1 per source. NaN for pictures whose fifth
    scale is smaller than the window: a side of less than 161.
    """
    pair = as_fused_pair(fused, visible, infrared, data_range)
    maps = torch.stack((pair.fused, *pair.sources))
    product = torch.ones(len(pair.fused), 2, dtype=torch.float64, device=maps.device)
    if min(maps.shape[-2:]) < SMALLEST_SIDE:
        return pair.reduced(product * torch.nan, reduction)
    for scale, weight in enumerate(SCALE_WEIGHTS):
        if scale:
            maps = _halved(maps)
            moments = _moments((maps - CENTRE).unbind())
        else:
            moments = pair.once(("structure", "gaussian", "crop"), lambda: _moments(pair.centred))
        for index in (1, 2):
            likeness, contrast = _terms(moments, index, dynamic_range)
            if scale == len(SCALE_WEIGHTS) - 1:
                contrast = likeness * contrast
            product[:, index - 1] *= contrast.double().mean((-2, -1)).clamp_min(0) ** weight
    return pair.reduced(product, reduction)


def _halved(maps: Tensor) -> Tensor:
    odd_height, odd_width = (side % 2 for side in maps.shape[-2:])
    maps = functional.pad(maps, (odd_width, 0, odd_height, 0))
    # Several times as quick as avg_pool2d in float64.
    rows = maps[..., ::2, :] + maps[..., 1::2, :]
    return (rows[..., ::2] + rows[..., 1::2]).div_(4)


def _moments(maps: Sequence[Tensor], window: Window = "gaussian", border: Border = "crop") -> Moments:
    """Of fused, visible and infrared, (B, H, W) each, less CENTRE; the means are not."""
    weights = GAUSSIAN if window == "gaussian" else UNIFORM
    if border == "replicate":
        maps = [padded(grey, len(weights) // 2, border) for grey in maps]
    moments = window_moments(maps, weights)
    for mean in moments.means:
        mean += CENTRE
    if window == "uniform":
        for moment in (*moments.variances, *moments.covariances):
            moment *= len(weights) ** 2 / (len(weights) ** 2 - 1)
    return moments


def _terms(moments: Moments, index: int, dynamic_range: float) -> tuple[Tensor, Tensor]:
    """Likeness of means, and of contrast and structure, of the fused picture with a source, per window."""
    c1, c2 = (K1 * dynamic_range) ** 2, (K2 * dynamic_range) ** 2
    means, variances, covariances = moments
    mine, theirs = means[0], means[index]
    likeness = (mine * theirs).mul_(2).add_(c1).div_((mine * mine).addcmul_(theirs, theirs).add_(c1))
    contrast = (covariances[index - 1] * 2).add_(c2).div_((variances[0] + variances[index]).add_(c2))
    return likeness, contrast
