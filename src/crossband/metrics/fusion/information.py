"""Entropy and mutual information of grey levels: EN, MI, NMI.

All come from histograms of the 256 levels of 8 bits. Pictures that are not 8-bit are rounded to the nearest
level, half to even.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from crossband.errors import OptionError
from crossband.metrics.fusion.images import LEVELS, FusedPair, Image, Reduction, as_fused_pair


def entropy(fused: Image | FusedPair, *, data_range: float | None = None, log_base: float = 2) -> Tensor:
    """EN: the entropy of the fused picture's grey levels, -sum p log p. Higher is better.

    fused, data_range: as in `FusedPair`, which may be given itself. log_base: 2 for bits, e for nats.

    Returns float64 () or (B,), in 0..8 bits. Always defined; 0 for a flat picture. Roberts et al. 2008,
    "Assessment of image fusion procedures using entropy, image quality, and multispectral classification".
    """
    pair = as_fused_pair(fused, data_range=data_range)
    return pair.result(_entropy(_histogram(pair, 0)) / _logarithm(log_base))


def mutual_information(
    fused: Image | FusedPair,
    visible: Image | None = None,
    infrared: Image | None = None,
    *,
    data_range: float | None = None,
    log_base: float = 2,
    merge_top_levels: bool = False,
    reduction: Reduction = "sum",
) -> Tensor:
    """MI: what the grey levels of the fused picture tell about those of each source. Higher is better.

    I(S; F) = H(S) + H(F) - H(S, F), from the 256 x 256 joint histogram.

    fused, visible, infrared, data_range: as in `FusedPair`, which may be given in place of the first three.
    log_base: 2 for bits, e for nats: published values differ by the factor ln 2 in just this.
    merge_top_levels: count levels 254 and 255 as one in the joint histogram, but not in H(S) and H(F): what
        8-bit saturation does in a much used MATLAB toolbox. Values come out too high.
    reduction: over the sources; "none" gives (visible, infrared).

    Returns float64 () or (B,), with "none" (2,) or (B, 2); at least 0. Always defined. Qu, Zhang, Yan 2002,
    "Information measure for performance of image fusion".
    """
    pair = as_fused_pair(fused, visible, infrared, data_range)
    unit = _logarithm(log_base)
    return pair.reduced(torch.stack(_mutual_information(pair, merge_top_levels), -1) / unit, reduction)


def normalised_mutual_information(
    fused: Image | FusedPair,
    visible: Image | None = None,
    infrared: Image | None = None,
    *,
    data_range: float | None = None,
    reduction: Reduction = "sum",
) -> Tensor:
    """NMI: mutual information over the mean entropy of its two pictures. Higher is better.

    2 I(S; F) / (H(S) + H(F)) per source: Hossny, Nahavandi, Creighton 2008, "Comments on 'Information measure
    for performance of image fusion'". It does not depend on the base of the logarithm.

    Arguments as in `mutual_information`. Returns float64, 0..1 per source, so 0..2 for the sum. NaN for a
    source if both it and the fused picture are flat: there is nothing to share.
    """
    pair = as_fused_pair(fused, visible, infrared, data_range)
    own = _entropy(_histogram(pair, 0))
    parts = []
    for index, shared in enumerate(_mutual_information(pair, merge_top_levels=False), start=1):
        # 0 / 0 is NaN.
        parts.append(2 * shared / (_entropy(_histogram(pair, index)) + own))
    return pair.reduced(torch.stack(parts, -1), reduction)


def _logarithm(base: float) -> float:
    if not (base > 0 and base != 1):
        raise OptionError(
            f"log_base is {base}, but a logarithm's base is positive and not 1: use 2 or math.e"
        )
    return math.log(base)


def _mutual_information(pair: FusedPair, merge_top_levels: bool) -> list[Tensor]:
    """I(S; F) in nats for visible and infrared, each (B,)."""

    def compute() -> list[Tensor]:
        own = _entropy(_histogram(pair, 0))
        joint = (_entropy(_joint_histogram(pair, index, merge_top_levels)) for index in (1, 2))
        # Rounding leaves an exact 0 slightly negative.
        return [
            (_entropy(_histogram(pair, index)) + own - together).clamp_min(0)
            for index, together in zip((1, 2), joint, strict=True)
        ]

    return pair.once(("mutual information", merge_top_levels), compute)


def _levels(pair: FusedPair, index: int) -> Tensor:
    """The 8-bit levels of fused (0), visible (1) or infrared (2): int32 (B, H * W)."""

    def compute() -> Tensor:
        grey = pair.fused if index == 0 else pair.sources[index - 1]
        return grey.round().int().flatten(1)

    return pair.once(("levels", index), compute)


def _histogram(pair: FusedPair, index: int) -> Tensor:
    return pair.once(("histogram", index), lambda: _counts(_levels(pair, index), LEVELS))


def _joint_histogram(pair: FusedPair, index: int, merge_top_levels: bool) -> Tensor:
    own, other = _levels(pair, 0), _levels(pair, index)
    if merge_top_levels:
        own, other = own.clamp_max(LEVELS - 2), other.clamp_max(LEVELS - 2)
    return _counts(own * LEVELS + other, LEVELS**2)


def _counts(codes: Tensor, kinds: int) -> Tensor:
    """How often each code 0..kinds-1 occurs in every row of (B, N): int64 (B, kinds)."""
    rows = len(codes)
    if rows > 1:
        codes = codes + kinds * torch.arange(rows, device=codes.device)[:, None]
    return torch.bincount(codes.flatten(), minlength=rows * kinds).reshape(rows, kinds)


def _entropy(counts: Tensor) -> Tensor:
    """In nats, of counts (B, kinds): (B,) float64."""
    return torch.special.entr(counts.double() / counts.sum(1, keepdim=True)).sum(1)
