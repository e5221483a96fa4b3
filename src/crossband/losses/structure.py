"""Structural similarity as a loss: differentiable, over the pixels that show an image.

Window and constants are those of the metric, `crossband.metrics.fusion.structure`. The rest is not the same:
the metric takes no gradient, leaves out windows that reach beyond the border, and works in place for speed.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from crossband.losses.fusion import masked_mean
from crossband.metrics.fusion.structure import DEVIATION, K1, K2, WINDOW
from crossband.tensors import at_least_float32, without_autocast

# Of values in [0, 1].
C1, C2 = K1**2, K2**2


def structural_similarity(first: Tensor, second: Tensor, valid: Tensor | None = None) -> Tensor:
    """The mean of `similarity_map` over the valid pixels, at most 1, which is that of equal images.

    Arguments as there. Returns a scalar; 1, with a graph, if no pixel is valid.
    """
    mask = None if valid is None else valid.unsqueeze(1).to(torch.promote_types(first.dtype, torch.float32))
    return 1 - masked_mean(1 - similarity_map(first, second, valid), mask)


def similarity_map(first: Tensor, second: Tensor, valid: Tensor | None = None) -> Tensor:
    """SSIM in a Gaussian window of 11 x 11 and deviation 1.5 around every pixel, in [-1, 1].

    (2 m_1 m_2 + C1)(2 cov + C2) / ((m_1^2 + m_2^2 + C1)(var_1 + var_2 + C2)) for values in [0, 1] (Wang,
    Bovik, Sheikh, Simoncelli 2004, eq. 13). A window counts the valid pixels inside of the image and no
    others, so that neither border nor padding has a part in it, and an image may be smaller than it.

    first, second: (B, C, H, W), float. valid: bool (B, H, W), or None if every pixel is. Returns
    (B, C, H, W) in float32 or better. Raises ValueError if the shapes disagree.
    """
    if first.shape != second.shape or (valid is not None and valid.shape != (len(first), *first.shape[2:])):
        shape = None if valid is None else tuple(valid.shape)
        raise ValueError(
            "both images must be (B, C, H, W) and valid (B, H, W), "
            f"not {tuple(first.shape)}, {tuple(second.shape)} and {shape}"
        )
    with without_autocast(first):
        first, second = at_least_float32(first), at_least_float32(second)
        mask = torch.ones_like(first) if valid is None else valid.unsqueeze(1).expand_as(first).to(first)
        # Squares of differences from the middle lose fewer digits than those of the values.
        first, second = (first - 0.5) * mask, (second - 0.5) * mask
        seen = torch.cat([mask, first, second, first * first, second * second, first * second])
        weight, *sums = _smoothed(seen).chunk(6)
        m1, m2, m11, m22, m12 = (total / weight.clamp(min=1e-12) for total in sums)
        spread = (m11 - m1 * m1).clamp(min=0) + (m22 - m2 * m2).clamp(min=0)
        covariance = m12 - m1 * m2
        m1, m2 = m1 + 0.5, m2 + 0.5
        likeness = (2 * m1 * m2 + C1) / (m1 * m1 + m2 * m2 + C1)
        return likeness * (2 * covariance + C2) / (spread + C2)


def _smoothed(image: Tensor) -> Tensor:
    """Sums weighted by the window around every pixel, with zeros beyond the border."""
    place = torch.arange(WINDOW, dtype=image.dtype, device=image.device) - WINDOW // 2
    taps = torch.exp(-0.5 * (place / DEVIATION) ** 2)
    kernel = (taps / taps.sum()).expand(image.shape[1], 1, 1, WINDOW)
    groups, reach = image.shape[1], WINDOW // 2
    rows = F.conv2d(image, kernel, padding=(0, reach), groups=groups)
    return F.conv2d(rows, kernel.transpose(2, 3), padding=(reach, 0), groups=groups)
