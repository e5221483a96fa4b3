"""Windows that slide over maps, the same on a CPU and on a GPU."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional


def gaussian_window(size: int, sigma: float) -> tuple[float, ...]:
    """The weights of a Gaussian of an odd size, summing to 1; its outer product is the 2-D window."""
    weights = [math.exp(-((i - size // 2) ** 2) / (2 * sigma**2)) for i in range(size)]
    total = math.fsum(weights)
    return tuple(weight / total for weight in weights)


def uniform_window(size: int) -> tuple[float, ...]:
    """The weights of a mean over an odd number of pixels."""
    return (1 / size,) * size


def weighted_windows(
    maps: Tensor, weights: tuple[float, ...], across: tuple[float, ...] | None = None
) -> Tensor:
    """The weighted sum in every window that lies inside of the map.

    maps: (..., H, W), float. weights: an odd number n of them, down the rows of a window. across: m of them
    along its columns, by default the same. Neither is flipped.

    Returns (..., H - n + 1, W - m + 1), new memory; empty if the map is smaller than the window.
    """
    across = weights if across is None else across
    height, width = maps.shape[-2] - len(weights) + 1, maps.shape[-1] - len(across) + 1
    if height < 1 or width < 1:
        return maps.new_empty(*maps.shape[:-2], max(height, 0), max(width, 0))
    if maps.device.type == "cpu":
        return by_opencv(maps, weights, across)
    return by_shifts(maps, weights, across)


def by_opencv(maps: Tensor, weights: tuple[float, ...], across: tuple[float, ...]) -> Tensor:
    """`weighted_windows` of maps on the CPU, none of them smaller than a window.

    A tenth of the time of PyTorch's convolution, which has no fast path for float64 there.
    """
    import cv2
    import numpy as np

    sources = maps.reshape(-1, *maps.shape[-2:]).contiguous().numpy()
    results = np.empty_like(sources)
    kernels = np.array(across), np.array(weights)
    for source, result in zip(sources, results, strict=True):
        cv2.sepFilter2D(source, -1, *kernels, dst=result, borderType=cv2.BORDER_REPLICATE)
    above, left = len(weights) // 2, len(across) // 2
    whole = torch.from_numpy(results).reshape(maps.shape)
    return whole[..., above : maps.shape[-2] - above, left : maps.shape[-1] - left]


def by_shifts(maps: Tensor, weights: tuple[float, ...], across: tuple[float, ...]) -> Tensor:
    """`weighted_windows` of maps on any device, none of them smaller than a window.

    Sums of shifted maps: unlike a convolution they are not rounded to TF32 by a GPU.
    """
    for axis, along in ((-2, weights), (-1, across)):
        length = maps.shape[axis] - len(along) + 1
        total = along[0] * maps.narrow(axis, 0, length)
        for start, weight in enumerate(along[1:], start=1):
            total.add_(maps.narrow(axis, start, length), alpha=weight)
        maps = total
    return maps


class Moments(NamedTuple):
    """Means and variances of some maps, and covariances of the first with each other one, per window."""

    means: list[Tensor]
    variances: list[Tensor]
    covariances: list[Tensor]


def window_moments(maps: Sequence[Tensor], weights: tuple[float, ...]) -> Moments:
    """The moments in every window that lies inside of the maps, each (..., H, W).

    Variances are E[x^2] - E[x]^2, so maps should be centred near 0; rounding can leave them below 0.
    """
    means = [weighted_windows(grey, weights) for grey in maps]

    def central(first: int, second: int) -> Tensor:
        moment = weighted_windows(maps[first] * maps[second], weights)
        return moment.addcmul_(means[first], means[second], value=-1)

    others = range(1, len(maps))
    return Moments(means, [central(i, i) for i in (0, *others)], [central(0, i) for i in others])


def padded(maps: Tensor, margin: int, border: str) -> Tensor:
    """Maps (B, H, W) with a margin on all sides, of "zero" or of "replicate"d pixels."""
    if border == "zero":
        return functional.pad(maps, (margin,) * 4)
    return functional.pad(maps[:, None], (margin,) * 4, mode="replicate")[:, 0]


def sobel(maps: Tensor, border: str) -> tuple[Tensor, Tensor]:
    """Sobel's differences right minus left and lower minus upper, of the size of the maps (B, H, W).

    border: what lies outside, "zero" or "replicate".
    """
    wide, smooth, step = padded(maps, 1, border), (1.0, 2.0, 1.0), (-1.0, 0.0, 1.0)
    return weighted_windows(wide, smooth, step), weighted_windows(wide, step, smooth)
