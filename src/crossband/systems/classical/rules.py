"""Fusions of two grey images that need no training: functions on tensors.

All take and give float (B, 1, H, W) in [0, 1], any size from 1 x 1, and work on any device.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

_BINOMIAL = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)
_SALIENCY_REACH = 6
AT_ONCE = 1 << 21
"""Pixels of an image that are fused at once. Of more, every map would be fetched from the system anew."""


def laplacian_pyramid_fusion(first: Tensor, second: Tensor, levels: int = 4) -> Tensor:
    """The stronger detail of the two at every level of a Laplacian pyramid, on the mean of their bases.

    Burt and Adelson, "The Laplacian Pyramid as a Compact Image Code", IEEE Trans. Communications 1983, with
    the choice of the larger magnitude that Burt introduced for fusion. levels: of detail; an image too small
    for so many gets fewer.
    """
    details, low = [], (first, second)
    for _ in range(levels):
        if min(low[0].shape[-2:]) < 2:
            break
        lower = reduce(low[0]), reduce(low[1])
        size = low[0].shape[-2:]
        detail = low[0] - expand(lower[0], size), low[1] - expand(lower[1], size)
        details.append(torch.where(detail[0].abs() >= detail[1].abs(), *detail))
        low = lower
    fused = (low[0] + low[1]) / 2
    for chosen in reversed(details):
        fused = expand(fused, chosen.shape[-2:]) + chosen
    return fused.clamp(0, 1)


def reduce(image: Tensor) -> Tensor:
    """Burt and Adelson's REDUCE: blur with the binomial kernel of five, keep every second row and column."""
    kernel = image.new_tensor(_BINOMIAL)
    padded = F.pad(image, (2, 2, 2, 2), mode="replicate")
    return F.conv2d(padded, torch.outer(kernel, kernel)[None, None], stride=2)


def expand(image: Tensor, size: tuple[int, int] | torch.Size) -> Tensor:
    """Burt and Adelson's EXPAND to (height, width): rows and columns between, interpolated by the kernel.

    size: such that `reduce` of it has the image's size. A constant stays constant, up to the border.
    """
    kernel = 2 * image.new_tensor(_BINOMIAL)
    padded = F.pad(image, (1, 1, 1, 1), mode="replicate")
    wide = F.conv_transpose2d(padded, torch.outer(kernel, kernel)[None, None], stride=2)
    # The first pixel lies two behind the padding's, whose own kernel reaches two further out.
    return wide[..., 4 : 4 + size[0], 4 : 4 + size[1]]


def guided_fusion(
    first: Tensor,
    second: Tensor,
    *,
    base_radius: int = 15,
    coarse: tuple[int, float] = (45, 0.3),
    fine: tuple[int, float] = (7, 1e-6),
) -> Tensor:
    """Two scales, each a mean of both images with weights that a guided filter fits to their edges.

    Li, Kang, Hu, "Image Fusion With Guided Filtering", IEEE Trans. Image Processing 2013. Base: average over
    a square of ``base_radius`` (31 x 31); detail: the rest. Where no image is more salient than this one
    (`saliency`), its weight is 1 before filtering, elsewhere 0. coarse, fine: (radius, epsilon) of the filter
    of the weights of the bases and of the details. The defaults are the paper's.
    """
    if torch.compiler.is_compiling():
        # A graph is for any size, of which none of it may depend.
        return _guided_fusion(first, second, base_radius, coarse, fine)
    height, rows = first.shape[-2], max(1, AT_ONCE // first.shape[-1])
    # What a pixel's value depends on: the weights' box of a box, and the saliency that they come from.
    reach = max(base_radius, 2 * max(coarse[0], fine[0]) + _SALIENCY_REACH)
    strips = []
    for top in range(0, height, rows):
        above, below = max(0, top - reach), min(height, top + rows + reach)
        part = _guided_fusion(
            first[..., above:below, :], second[..., above:below, :], base_radius, coarse, fine
        )
        strips.append(part[..., top - above : top - above + rows, :])
    return torch.cat(strips, -2)


def _guided_fusion(
    first: Tensor, second: Tensor, base_radius: int, coarse: tuple[int, float], fine: tuple[int, float]
) -> Tensor:
    # The fine filter divides by variances about as small as the rounding of float32 squares.
    images = first.double(), second.double()
    salient = saliency(images[0]), saliency(images[1])
    maps = (salient[0] >= salient[1]).double(), (salient[1] >= salient[0]).double()
    bases = box_mean(images[0], base_radius), box_mean(images[1], base_radius)
    details = images[0] - bases[0], images[1] - bases[1]
    fused = _weighted(maps, images, bases, coarse) + _weighted(maps, images, details, fine)
    return fused.clamp(0, 1).to(first.dtype)


def _weighted(
    maps: tuple[Tensor, Tensor],
    guides: tuple[Tensor, Tensor],
    layers: tuple[Tensor, Tensor],
    filter: tuple[int, float],
) -> Tensor:
    """The mean of two layers, weighted by two maps that are filtered along their images' edges."""
    first, second = (
        guided_filter(guide, weights, *filter).clamp(0, 1)
        for guide, weights in zip(guides, maps, strict=True)
    )
    total = first + second
    share = torch.where(total > 0, first / total.clamp(min=1e-12), 0.5)
    return share * layers[0] + (1 - share) * layers[1]


def guided_filter(guide: Tensor, image: Tensor, radius: int, epsilon: float) -> Tensor:
    """Smooth an image so that it keeps the edges of a guide.

    He, Sun, Tang, "Guided Image Filtering", ECCV 2010: in every square of ``radius`` the result is the linear
    function of the guide that is nearest to the image; epsilon keeps its slope small.
    """
    guide_mean, image_mean = box_mean(guide, radius), box_mean(image, radius)
    covariance = box_mean(guide * image, radius) - guide_mean * image_mean
    variance = (box_mean(guide * guide, radius) - guide_mean**2).clamp(min=0)
    slope = covariance / (variance + epsilon)
    offset = image_mean - slope * guide_mean
    return box_mean(slope, radius) * guide + box_mean(offset, radius)


def box_mean(image: Tensor, radius: int) -> Tensor:
    """The mean over the square of ``radius`` around every pixel, over the part of it inside the image.

    By running sums, so the radius costs nothing; give float64 where small differences matter.
    """
    if _opencv_can(image):
        return _opencv_box_mean(image, radius)
    for dim in (-1, -2):
        size = image.shape[dim]
        place = torch.arange(size, device=image.device)
        start, end = (place - radius).clamp(min=0), (place + radius + 1).clamp(max=size)
        sums = torch.cat((torch.zeros_like(image.narrow(dim, 0, 1)), image.cumsum(dim)), dim)
        window = sums.index_select(dim, end) - sums.index_select(dim, start)
        image = window / (end - start).to(image.dtype).reshape(-1, *(1,) * (-1 - dim))
    return image


def saliency(image: Tensor) -> Tensor:
    """Magnitude of the Laplacian, smoothed by a Gaussian of 11 x 11 and deviation 5 (Li et al., eq. 3)."""
    taps = torch.exp(-0.5 * (torch.arange(-5, 6, dtype=image.dtype, device=image.device) / 5) ** 2)
    taps = taps / taps.sum()
    if _opencv_can(image):
        return _opencv_saliency(image, taps)
    laplacian = image.new_tensor([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]])[None, None]
    magnitude = F.conv2d(F.pad(image, (1, 1, 1, 1), mode="replicate"), laplacian).abs()
    rows = F.conv2d(F.pad(magnitude, (5, 5, 0, 0), mode="replicate"), taps[None, None, None])
    return F.conv2d(F.pad(rows, (0, 0, 5, 5), mode="replicate"), taps[None, None, :, None])


def _opencv_can(image: Tensor) -> bool:
    """Whether OpenCV can filter an image in PyTorch's stead.

    On a CPU, PyTorch has no quick convolution in float64, and its running sums down the columns of a large
    image read memory in the slowest order. A graph that is traced, and gradients, need PyTorch.
    """
    return (
        image.device.type == "cpu"
        and image.dtype in (torch.float32, torch.float64)
        and not image.requires_grad
        and not torch.compiler.is_compiling()
    )


def _opencv_box_mean(image: Tensor, radius: int) -> Tensor:
    height, width = image.shape[-2:]
    side = (2 * radius + 1,) * 2
    sums = _each(
        image, lambda plane: cv2.boxFilter(plane, -1, side, None, (-1, -1), False, cv2.BORDER_CONSTANT)
    )
    return sums.div_(_inside(height, radius, image)[:, None]).div_(_inside(width, radius, image))


def _inside(size: int, radius: int, like: Tensor) -> Tensor:
    """How many of the 2 radius + 1 places around each of ``size`` are inside: (size,)."""
    place = torch.arange(size)
    return ((place + radius + 1).clamp(max=size) - (place - radius).clamp(min=0)).to(like.dtype)


def _opencv_saliency(image: Tensor, taps: Tensor) -> Tensor:
    weights = taps.numpy()

    def smoothed(plane: np.ndarray) -> np.ndarray:
        magnitude = np.abs(cv2.Laplacian(plane, -1, ksize=1, borderType=cv2.BORDER_REPLICATE))
        return cv2.sepFilter2D(magnitude, -1, weights, weights, borderType=cv2.BORDER_REPLICATE)

    return _each(image, smoothed)


def _each(image: Tensor, filtered: Callable[[np.ndarray], np.ndarray]) -> Tensor:
    """Every plane (H, W) of a tensor (..., H, W), filtered."""
    planes = image.detach().reshape(-1, *image.shape[-2:]).contiguous().numpy()
    return torch.from_numpy(np.stack([filtered(plane) for plane in planes])).reshape(image.shape)
