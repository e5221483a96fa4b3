"""Visual information fidelity in the pixel domain: VIF, and its fusion variant VIFF.

At each of four scales the fused picture is modelled as gain times source plus noise, window by window, and
the information that the source and the fused picture share is compared with what the source holds.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from crossband.metrics.fusion.filters import gaussian_window, weighted_windows, window_moments
from crossband.metrics.fusion.images import PEAK, FusedPair, Image, Reduction, as_fused_pair

# Windows of the scales, finest first; sigma is a fifth of the size.
WINDOWS = (17, 9, 5, 3)
# The least that leaves a window at the fourth scale.
SMALLEST_SIDE = 41
# Variance of the eye's noise on 0..255.
EYE_NOISE = 2.0
# Variances below are taken for 0: the rounding of flat windows.
TINY = 1e-10
HAN_NOISE = 0.005 * PEAK**2
HAN_WEIGHTS = (1 / 2.15, 0.0, 0.15 / 2.15, 1 / 2.15)
HAN_OFFSET = 1e-7


def visual_information_fidelity(
    fused: Image | FusedPair,
    visible: Image | None = None,
    infrared: Image | None = None,
    *,
    data_range: float | None = None,
    saturating: bool = False,
    reduction: Reduction = "sum",
) -> Tensor:
    """VIF: the share of each source's information that the fused picture keeps. Higher is better.

    sum log(1 + g^2 s / (v + 2)) / sum log(1 + s / 2) over all windows of four scales: s the variance of the
    source in a window, g = cov / s the gain, v = var F - g cov the variance that the gain does not explain, 2
    the noise of the eye on 0..255. Windows are Gaussian (17, 9, 5, 3 pixels, sigma a fifth) and lie inside of
    the picture; before each further scale both pictures are filtered by its window and halved. Sheikh, Bovik
    2006, "Image information and visual quality", in the pixel-domain form (VIFp) that the authors released.

    fused, visible, infrared, data_range: as in `FusedPair`, which may be given in place of the first three.
    saturating: cut the products of the first scale at 255, as 8-bit arithmetic does (for audits of tables).
    reduction: over the sources; "none" gives (visible, infrared).

    Returns float64; a source is at 1 for the source itself, above for one of more contrast. NaN where a
    source is flat, for it holds no information, and for pictures of less than 41 pixels a side.
    """
    pair = as_fused_pair(fused, visible, infrared, data_range)
    kept = held = torch.zeros(len(pair.fused), 2, dtype=torch.float64, device=pair.fused.device)
    for scale in _scales(pair, saturating, pair.fused.dtype):
        shared, source = [], []
        for index in (0, 1):
            variance, gain, noise = _model(scale, index)
            shared.append(_total_log(gain.square_().mul_(variance).div_(noise.add_(EYE_NOISE))))
            source.append(_total_log(variance / EYE_NOISE))
        kept, held = kept + torch.stack(shared, -1), held + torch.stack(source, -1)
    return pair.reduced((kept / held).masked_fill(_undefined(pair, pair.flat[:, 1:]), torch.nan), reduction)


def visual_information_fidelity_for_fusion(
    fused: Image | FusedPair,
    visible: Image | None = None,
    infrared: Image | None = None,
    *,
    data_range: float | None = None,
) -> Tensor:
    """VIFF: information of the less preserved source in each window that the fused picture keeps.

    Per window the source with the smaller gain is taken; per scale sum(log10(1 + g^2 s / (v + n)) + c)
    / sum(log10(1 + s / n) + c) with n = 0.005 * 255^2 and c = 1e-7; the scales weigh 1, 0, 0.15 and 1, over
    2.15. s, g, v and the windows are those of `visual_information_fidelity`. Han, Cai, Cao, Xu 2013, "A new
    image fusion performance metric based on visual information fidelity". Higher is better. What CDDFuse's
    code calls VIFF is `visual_information_fidelity`.

    Arguments as there; there are no values per source. Returns float64, 0 or more. NaN if both sources are
    flat, and for pictures of less than 41 pixels a side.
    """
    pair = as_fused_pair(fused, visible, infrared, data_range)
    total = torch.zeros(len(pair.fused), dtype=torch.float64, device=pair.fused.device)
    # Always float64: in almost flat windows the rounding of float32 would decide which gain is smaller.
    scales = _scales(pair, saturating=False, dtype=torch.float64)
    for scale, weight in zip(scales, HAN_WEIGHTS, strict=True):
        if not weight:
            continue
        # In the authors' order, infrared first: with equal gains the second source is taken.
        (first, gain, noise), (second, other_gain, other_noise) = _model(scale, 1), _model(scale, 0)
        seen = scale.fused > 0
        gain, other_gain = gain * (seen & (first > 0)), other_gain * (seen & (second > 0))
        takes_first = gain < other_gain
        variance = torch.where(takes_first, first, second)
        gain = torch.where(takes_first, gain, other_gain)
        noise = torch.where(takes_first, noise, other_noise)
        shared = (1 + gain**2 * variance / (noise + HAN_NOISE)).log10() + HAN_OFFSET
        source = (1 + variance / HAN_NOISE).log10() + HAN_OFFSET
        total = total + weight * shared.double().sum((-2, -1)) / source.double().sum((-2, -1))
    return pair.result(total.masked_fill(_undefined(pair, pair.flat[:, 1:].all(1)), torch.nan))


class _Scale(NamedTuple):
    """Variance of the fused picture, and variance and covariance of each source, per window (B, h, w)."""

    fused: Tensor
    variances: list[Tensor]
    covariances: list[Tensor]


def _undefined(pair: FusedPair, sources: Tensor) -> Tensor:
    """sources, or all of them where the pictures are too small."""
    return sources | (min(pair.fused.shape[1:]) < SMALLEST_SIDE)


def _scales(pair: FusedPair, saturating: bool, dtype: torch.dtype) -> list[_Scale]:
    def compute() -> list[_Scale]:
        maps = [grey.to(dtype) for grey in pair.centred]
        scales = []
        for number, size in enumerate(WINDOWS):
            window = gaussian_window(size, size / 5)
            if number:
                maps = [weighted_windows(grey, window)[..., ::2, ::2].contiguous() for grey in maps]
            if saturating and not number:
                variances, covariances = _saturated_moments(pair, window, dtype)
            else:
                _, variances, covariances = window_moments(maps, window)
            fused, *sources = (
                functional.threshold(variance, TINY, 0, inplace=True) for variance in variances
            )
            scales.append(_Scale(fused, sources, covariances))
        return scales

    return pair.once(("fidelity scales", saturating, dtype), compute)


def _saturated_moments(
    pair: FusedPair, window: tuple[float, ...], dtype: torch.dtype
) -> tuple[list[Tensor], list[Tensor]]:
    """Variances and covariances from products that are cut at 255, of means that are not."""
    maps = [grey.to(dtype) for grey in (pair.fused, *pair.sources)]
    means = [weighted_windows(grey, window) for grey in maps]

    def central(first: int, second: int) -> Tensor:
        product = (maps[first] * maps[second]).clamp_max_(PEAK)
        return weighted_windows(product, window) - means[first] * means[second]

    return [central(i, i) for i in range(3)], [central(0, i) for i in (1, 2)]


def _model(scale: _Scale, index: int) -> tuple[Tensor, Tensor, Tensor]:
    """Variance s of a source, gain g and unexplained variance v of the fused picture, per window.

    A negative gain counts as 0. Where the source is flat, s is 0, and the gain is of no account.
    """
    variance, covariance = scale.variances[index], scale.covariances[index]
    gain = covariance.clamp_min(0).div_(variance + TINY)
    noise = torch.addcmul(scale.fused, gain, covariance, value=-1).clamp_min_(TINY)
    return variance, gain, noise


def _total_log(values: Tensor) -> Tensor:
    """sum log(1 + x) over the windows x of (B, h, w): float64 (B,).

    One logarithm for the product of eight, which is far from the limits of float64.
    """
    flat = values.double().flatten(1) + 1
    return functional.pad(flat, (0, -flat.shape[1] % 8), value=1).unflatten(1, (8, -1)).prod(1).log().sum(1)
