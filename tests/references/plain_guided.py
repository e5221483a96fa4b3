"""Guided fusion as its paper reads, on PyTorch's own operations and of the whole image at once."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


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
    laplacian = image.new_tensor([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]])[None, None]
    magnitude = F.conv2d(F.pad(image, (1, 1, 1, 1), mode="replicate"), laplacian).abs()
    taps = torch.exp(-0.5 * (torch.arange(-5, 6, dtype=image.dtype, device=image.device) / 5) ** 2)
    taps = taps / taps.sum()
    rows = F.conv2d(F.pad(magnitude, (5, 5, 0, 0), mode="replicate"), taps[None, None, None])
    return F.conv2d(F.pad(rows, (0, 0, 5, 5), mode="replicate"), taps[None, None, :, None])
