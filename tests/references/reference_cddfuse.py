"""The SSIM term of CDDFuse (CVPR 2023) by its formula, pixel by pixel; independent of `crossband`."""

from __future__ import annotations

import torch
from torch import Tensor


def ssim(x: Tensor, y: Tensor, row: int, column: int) -> Tensor:
    """SSIM of two images (H, W) around a pixel, in the part of an 11 x 11 Gaussian that lies inside."""
    rows = slice(max(row - 5, 0), row + 6)
    columns = slice(max(column - 5, 0), column + 6)
    down = torch.arange(x.shape[0])[rows].to(x) - row
    across = torch.arange(x.shape[1])[columns].to(x) - column
    weight = torch.exp(-(down[:, None] ** 2 + across[None] ** 2) / (2 * 1.5**2))
    weight = weight / weight.sum()
    a, b = x[rows, columns], y[rows, columns]
    mean_a, mean_b = (weight * a).sum(), (weight * b).sum()
    var_a, var_b = (weight * (a - mean_a) ** 2).sum(), (weight * (b - mean_b) ** 2).sum()
    covariance = (weight * (a - mean_a) * (b - mean_b)).sum()
    numerator = (2 * mean_a * mean_b + 0.01**2) * (2 * covariance + 0.03**2)
    return numerator / ((mean_a**2 + mean_b**2 + 0.01**2) * (var_a + var_b + 0.03**2))


def ssim_loss(x: Tensor, y: Tensor) -> Tensor:
    """The mean of clamp(1 - SSIM, 0, 1) / 2 over the pixels of two images (H, W)."""
    height, width = x.shape
    values = [ssim(x, y, row, column) for row in range(height) for column in range(width)]
    return ((1 - torch.stack(values)).clamp(0, 1) / 2).mean()
