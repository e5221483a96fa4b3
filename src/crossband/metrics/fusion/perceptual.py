"""Scores built on the contrast sensitivity of human sight: Qcb and Qcv.

Both stretch all three pictures to the integers 0..255 first, so they do not see a change of brightness or
contrast of a whole picture.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from crossband.metrics.fusion.filters import sobel, weighted_windows
from crossband.metrics.fusion.images import FusedPair, Image, Reduction, as_fused_pair, stretched

# Chen and Blum: difference-of-Gaussians sensitivity exp(-(r / f0)^2) - a exp(-(r / f1)^2), and z of the
# masking c^3 / (c^2 + z).
DOG = (15.3870, 1.3456, 0.7622)
MASKING = 1e-4
# Cycles of the highest frequency over a picture of N pixels: N / 30 for Qcb, N / 8 for Qcv.
CHEN_BLUM_SCALE = 30
CHEN_VARSHNEY_SCALE = 8
CONTRAST_RADIUS = 15
BLOCK = 16


def chen_blum_quality(
    fused: Image | FusedPair,
    visible: Image | None = None,
    infrared: Image | None = None,
    *,
    data_range: float | None = None,
) -> Tensor:
    """Qcb: how well the contrast that the eye sees in the sources is kept. Higher is better.

    The pictures are filtered by a contrast sensitivity (difference of Gaussians in frequency). Contrast is
    c = |G2 / G4 - 1|, of Gaussians with sigma 2 and 4 (31 x 31, zeros outside), masked as c' = c^3 / (c^2 +
    1e-4). A source keeps Q = min(c'_S, c'_F) / max(c'_S, c'_F), weighed by c'_S^2 / (c'_A^2 + c'_B^2) in each
    pixel. Chen, Blum 2009, "A new automated quality assessment algorithm for image fusion".

    fused, visible, infrared, data_range: as in `FusedPair`, which may be given in place of the first three.
    There are no values per source.

    Returns float64 in 0..1. NaN if a picture is flat, for it has no contrast to stretch; and if a pixel has
    no contrast at all in both sources, or in a source and the fused picture: the formula then is 0 / 0.
    """
    pair = as_fused_pair(fused, visible, infrared, data_range)
    spectra, radius = _spectra(pair, CHEN_BLUM_SCALE)
    high, low, share = DOG
    sensitivity = torch.exp(-((radius / high) ** 2)) - share * torch.exp(-((radius / low) ** 2))
    maps = functional.pad(_from_spectra(spectra, sensitivity, pair), (CONTRAST_RADIUS,) * 4)
    narrow, wide = (weighted_windows(maps, _density(sigma)) for sigma in (2, 4))
    contrast = narrow.div_(wide).sub_(1).abs_()
    squares = contrast * contrast
    own, first, second = contrast.mul_(squares).div_(squares.add_(MASKING))
    kept, weights = torch.zeros_like(own), torch.zeros_like(own)
    for source in (first, second):
        weight = source * source
        weights += weight
        kept += weight.mul_(torch.minimum(source, own)).div_(torch.maximum(source, own))
    quality = kept.div_(weights).double().mean((-2, -1))
    return pair.result(quality.masked_fill(pair.flat.any(1), torch.nan))


def chen_varshney_quality(
    fused: Image | FusedPair,
    visible: Image | None = None,
    infrared: Image | None = None,
    *,
    data_range: float | None = None,
    reduction: Reduction = "sum",
) -> Tensor:
    """Qcv: visible differences from the sources, where these are salient. Lower is better.

    Each difference source - fused is filtered by the contrast sensitivity 2.6 (0.0192 + 0.144 r)
    exp(-(0.144 r)^1.1), and squared; its mean D over every block of 16 x 16 pixels is weighed by L, the
    block's sum of the source's Sobel gradients to the power 5: sum(L_A D_A + L_B D_B) / sum(L_A + L_B).
    Blocks that reach over the border are filled with zeros. Chen, Varshney 2007, "A human perception inspired
    quality metric for image fusion based on regional information"; 0.144 is the number of the public code,
    where Mannos, Sakrison 1974 have 0.114.

    fused, visible, infrared, data_range: as in `FusedPair`, which may be given in place of the first three.
    reduction: "sum" is Qcv; "none" gives the parts that visible and infrared add to it, whose sum it is.

    Returns float64, 0 or more, without a bound. NaN if a picture is flat, for it has no contrast to stretch.
    """
    pair = as_fused_pair(fused, visible, infrared, data_range)
    levels = _levels(pair)
    spectra, radius = _spectra(pair, CHEN_VARSHNEY_SCALE)
    sensitivity = 2.6 * (0.0192 + 0.144 * radius) * torch.exp(-((0.144 * radius) ** 1.1))
    differences = _blocks(_from_spectra(spectra[1:] - spectra[:1], sensitivity, pair) ** 2) / BLOCK**2
    right, down = sobel(levels[1:].flatten(0, 1), "zero")
    # To the power 5, by the square, which takes a small part of the time of a power.
    square = (right * right).addcmul_(down, down)
    saliency = _blocks(square.sqrt().mul_(square).mul_(square).reshape(levels[1:].shape))
    parts = (saliency * differences).sum(-1) / saliency.sum((0, -1))
    return pair.reduced(parts.mT.masked_fill(pair.flat.any(1, keepdim=True), torch.nan), reduction)


def _levels(pair: FusedPair) -> Tensor:
    """Fused, visible and infrared stretched to the integers 0..255, (3, B, H, W).

    Ties are rounded up: a stretched value is never negative, and so "half away from zero" is the same.
    """
    return pair.once(
        "stretched levels",
        lambda: (stretched(torch.stack((pair.fused, *pair.sources))) + 0.5).floor(),
    )


def _spectra(pair: FusedPair, scale: int) -> tuple[Tensor, Tensor]:
    """Half the spectra of the levels, (3, B, H, W), and the radius of each frequency in the unit of scale."""
    levels = _levels(pair)
    height, width = levels.shape[-2:]
    vertical = torch.fft.fftfreq(height, device=levels.device, dtype=levels.dtype) * 2 * height / scale
    horizontal = torch.fft.rfftfreq(width, device=levels.device, dtype=levels.dtype) * 2 * width / scale
    spectra = pair.once("spectra", lambda: torch.fft.rfft2(levels))
    return spectra, torch.hypot(vertical[:, None], horizontal)


def _from_spectra(spectra: Tensor, gain: Tensor, pair: FusedPair) -> Tensor:
    return torch.fft.irfft2(spectra * gain, s=pair.fused.shape[-2:])


def _density(sigma: float) -> tuple[float, ...]:
    """The normal density at -15..15: its tails are cut, and not made up for, so it sums to less than 1."""
    return tuple(
        math.exp(-(i**2) / (2 * sigma**2)) / (math.sqrt(2 * math.pi) * sigma)
        for i in range(-CONTRAST_RADIUS, CONTRAST_RADIUS + 1)
    )


def _blocks(maps: Tensor) -> Tensor:
    """Sums over the blocks of maps (..., H, W), zeros beyond the border: float64 (..., blocks)."""
    height, width = maps.shape[-2:]
    wide = functional.pad(maps.double(), (0, -width % BLOCK, 0, -height % BLOCK))
    return wide.unflatten(-1, (-1, BLOCK)).sum(-1).unflatten(-2, (-1, BLOCK)).sum(-2).flatten(-2)
