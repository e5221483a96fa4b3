"""Scores of single pixels and their neighbours, and correlations over the whole picture.

SD, SF, AG look at the fused picture alone; SCD, CC, MSE, PSNR compare it with its sources. All on 0..255.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from crossband.errors import OptionError
from crossband.metrics.fusion.images import FLAT_VARIANCE, PEAK, FusedPair, Image, Reduction, as_fused_pair


def standard_deviation(
    fused: Image | FusedPair, *, data_range: float | None = None, saturating: bool = False
) -> Tensor:
    """SD: the standard deviation (of the population) of the fused picture. Higher is better.

    fused, data_range: as in `FusedPair`, which may be given itself. Returns float64 () or (B,), in 0..127.5,
    or 0..16 if saturating. Always defined. The formula is that of statistics; no paper on fusion is its
    origin.

    saturating: compute it in 8-bit arithmetic, as MATLAB does if the picture is uint8: what lies below the
        mean counts as the mean, and no squared difference counts more than 255. It is not the standard
        deviation, but published tables have it.
    """
    pair = as_fused_pair(fused, data_range=data_range)
    if not saturating:
        return pair.result(pair.fused.double().flatten(1).std(1, correction=0))
    mean = pair.fused.mean((-2, -1), keepdim=True)
    above = (pair.fused - mean + 0.5).floor().clamp(0, PEAK)
    return pair.result((above**2).clamp_max(PEAK).mean((-2, -1)).sqrt())


def spatial_frequency(
    fused: Image | FusedPair,
    *,
    data_range: float | None = None,
    peak: float = PEAK,
    over: Literal["differences", "pixels"] = "differences",
) -> Tensor:
    """SF: how much neighbours differ, sqrt(RF^2 + CF^2). Higher is better.

    RF^2 and CF^2 are the mean squared differences of horizontal and of vertical neighbours: Eskicioglu,
    Fisher 1995, "Image quality measures and their performance".

    fused, data_range: as in `FusedPair`, which may be given itself. peak: the value that white has; 1 for
    tables whose SF was computed on 0..1. over: what the sums are divided by, the number of differences or
    that of pixels.

    Returns float64 () or (B,), in 0..peak * sqrt(2). NaN for pictures of one row or one column.
    """
    pair = as_fused_pair(fused, data_range=data_range)
    if over not in ("differences", "pixels"):
        raise OptionError(f"over is {over!r}: use differences or pixels")
    grey = pair.fused.double()
    total = torch.zeros(len(grey), dtype=torch.float64, device=grey.device)
    for axis in (-2, -1):
        step = grey.diff(dim=axis).flatten(1)
        # No difference at all: 0 / 0 is NaN.
        total = total + (step**2).sum(1) / (step.shape[1] if over == "differences" else grey[0].numel())
    return pair.result(total.sqrt() * (peak / PEAK) if min(grey.shape[1:]) > 1 else total * torch.nan)


def average_gradient(
    fused: Image | FusedPair,
    *,
    data_range: float | None = None,
    over: Literal["pixels", "inner"] = "pixels",
) -> Tensor:
    """AG: the mean of sqrt((dx^2 + dy^2) / 2). Higher is better.

    dx, dy: central differences, one-sided at the borders. Cui et al. 2015, "Detail preserved fusion of
    visible and infrared images using regional saliency extraction and multi-scale image decomposition".

    fused, data_range: as in `FusedPair`, which may be given itself. over: what the sum is divided by,
    "pixels" H W or "inner" (H - 1)(W - 1).

    Returns float64 () or (B,), in 0..255. NaN for pictures of one row or one column.
    """
    pair = as_fused_pair(fused, data_range=data_range)
    if over not in ("pixels", "inner"):
        raise OptionError(f"over is {over!r}: use pixels or inner")
    grey = pair.fused.double()
    height, width = grey.shape[1:]
    if min(height, width) < 2:
        return pair.result(grey.new_full((len(grey),), torch.nan))
    squares = sum(part**2 for part in torch.gradient(grey, dim=(1, 2)))
    total = torch.as_tensor(squares / 2).sqrt().sum((-2, -1))
    return pair.result(total / (height * width if over == "pixels" else (height - 1) * (width - 1)))


def sum_of_correlations_of_differences(
    fused: Image | FusedPair,
    visible: Image | None = None,
    infrared: Image | None = None,
    *,
    data_range: float | None = None,
    reduction: Reduction = "sum",
) -> Tensor:
    """SCD: what was added to one source resembles the other: r(A, F - B) + r(B, F - A). Higher is better.

    r: Pearson's correlation over the whole picture. Aslantas, Bendes 2015, "A new image quality metric for
    image fusion: the sum of the correlations of differences".

    fused, visible, infrared, data_range: as in `FusedPair`, which may be given in place of the first three.
    reduction: over the sources; "none" gives (r of visible, r of infrared).

    Returns float64, -1..1 per source, so -2..2 for the sum. NaN if a source is flat, or if the fused picture
    equals a source up to a constant.
    """
    pair = as_fused_pair(fused, visible, infrared, data_range)
    spread = _spread(pair).covariance
    parts = (_correlation(spread, 1, 4), _correlation(spread, 2, 3))
    return pair.reduced(torch.stack(parts, -1), reduction)


def correlation_coefficient(
    fused: Image | FusedPair,
    visible: Image | None = None,
    infrared: Image | None = None,
    *,
    data_range: float | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """CC: Pearson's correlation of the fused picture with each source. Higher is better.

    Arguments as in `sum_of_correlations_of_differences`. Returns float64 in -1..1; NaN if the fused picture
    or a source is flat. Deshmukh, Bhosale 2010, "Image fusion and image quality assessment of fused images".
    """
    pair = as_fused_pair(fused, visible, infrared, data_range)
    spread = _spread(pair).covariance
    return pair.reduced(torch.stack([_correlation(spread, 0, i) for i in (1, 2)], -1), reduction)


def mean_squared_error(
    fused: Image | FusedPair,
    visible: Image | None = None,
    infrared: Image | None = None,
    *,
    data_range: float | None = None,
    peak: float = PEAK,
    reduction: Reduction = "mean",
) -> Tensor:
    """MSE: the mean squared difference from each source. Lower is better.

    peak: the value that white has, whatever data_range is: 255, or 1 for tables of 0..1 values. Other
    arguments as in `sum_of_correlations_of_differences`. Returns float64 in 0..peak^2. Always defined.
    """
    pair = as_fused_pair(fused, visible, infrared, data_range)
    return pair.reduced(_squared_error(pair) * (peak / PEAK) ** 2, reduction)


def peak_signal_to_noise_ratio(
    fused: Image | FusedPair,
    visible: Image | None = None,
    infrared: Image | None = None,
    *,
    data_range: float | None = None,
    peak: Literal["white", "fused"] = "white",
    error: Literal["mean", "root-over-pixels"] = "mean",
    offset: float = 0,
    reduction: Reduction | Literal["error"] = "error",
) -> Tensor:
    """PSNR: 10 log10(peak^2 / MSE) in dB. Higher is better.

    peak: 255, or the maximum of the "fused" picture. error: the mean squared error, or sqrt(sum d^2) / (H W),
    which one toolbox takes for it. offset: dB to add, 20 log10(255) for tables that took a peak of 255 on
    0..1 values. reduction: "error" is the ratio of the mean error, which is not the "mean" of the sources'
    ratios. Other arguments as in `sum_of_correlations_of_differences`.

    Returns float64. Infinite if there is no error; NaN if the peak is 0 (a black fused picture). Jagalingam,
    Hegde 2015, "A review of quality metrics for fused image".
    """
    pair = as_fused_pair(fused, visible, infrared, data_range)
    errors = _squared_error(pair)
    if error == "root-over-pixels":
        errors = (errors / pair.fused[0].numel()).sqrt()
    elif error != "mean":
        raise OptionError(f"error is {error!r}: use mean or root-over-pixels")
    if peak not in ("white", "fused"):
        raise OptionError(f"peak is {peak!r}: use white or fused")
    top = pair.fused.amax((-2, -1)).double() if peak == "fused" else torch.full_like(errors[:, 0], PEAK)
    top = torch.where(top > 0, top, torch.nan)[:, None]
    if reduction == "error":
        errors = errors.mean(-1, keepdim=True)
    ratios = 10 * (top**2 / errors).log10() + offset
    return pair.reduced(ratios, "sum" if reduction == "error" else reduction)


class _Spread(NamedTuple):
    """Means (B, 5) and covariances (B, 5, 5) of F, A, B, F - A and F - B; A visible, B infrared."""

    mean: Tensor
    covariance: Tensor


def _spread(pair: FusedPair) -> _Spread:
    def compute() -> _Spread:
        grey = [picture.flatten(1) for picture in (pair.fused, *pair.sources)]
        maps = torch.empty(len(grey[0]), 5, grey[0].shape[1], dtype=torch.float64, device=grey[0].device)
        for row, picture in enumerate(grey):
            maps[:, row] = picture
        torch.sub(maps[:, :1], maps[:, 1:3], out=maps[:, 3:])
        mean = maps.mean(-1, keepdim=True)
        maps -= mean
        return _Spread(mean[..., 0], maps @ maps.mT / maps.shape[-1])

    return pair.once("spread", compute)


def _correlation(covariance: Tensor, first: int, second: int) -> Tensor:
    """Pearson's r of two maps, (B,); NaN if one of them is flat."""
    variances = covariance.diagonal(dim1=-2, dim2=-1)[:, [first, second]]
    defined = (variances > FLAT_VARIANCE).all(1)
    r = covariance[:, first, second] / variances.prod(1).sqrt()
    return torch.where(defined, r.clamp(-1, 1), torch.nan)


def _squared_error(pair: FusedPair) -> Tensor:
    """The mean squared difference from visible and infrared, (B, 2)."""
    mean, covariance = _spread(pair)
    return covariance.diagonal(dim1=-2, dim2=-1)[:, 3:] + mean[:, 3:] ** 2
