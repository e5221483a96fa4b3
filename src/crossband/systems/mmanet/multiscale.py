"""Cross-entropy at several resolutions at once, as ESANet (ICRA 2021) and MMANet (CVPR 2023) are trained."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from crossband.losses.segmentation import cross_entropy
from crossband.tensors import at_least_float32
from crossband.words import IGNORE_INDEX


def multiscale_cross_entropy(
    scales: Sequence[Tensor],
    label: Tensor,
    *,
    weights: Tensor | None = None,
    ignore_index: int = IGNORE_INDEX,
) -> list[Tensor]:
    """The cross-entropy of each scale with the label at its size: the nearest pixels, nothing blended.

    Each is ``sum_i w(y_i) (-log p_i(y_i)) / sum_i w(y_i)`` over the pixels that count, in float32 or better.

    scales: (B, C, h, w) float each. label: (B, H, W) int64, ids in 0..C-1 or ignore_index.
    weights: (C,), w of each class; None weighs all alike.
    Returns scalars, in the scales' order; zero, with a graph, where no pixel counts.
    """
    losses = []
    for logits in scales:
        small = F.interpolate(label[:, None].float(), logits.shape[-2:], mode="nearest")[:, 0].long()
        if weights is None:
            losses.append(cross_entropy(logits, small, ignore_index=ignore_index))
            continue
        weights = weights.to(logits.device)
        pixels = F.cross_entropy(
            at_least_float32(logits), small, weight=weights, ignore_index=ignore_index, reduction="none"
        )
        ignored = small == ignore_index
        total = torch.where(ignored, 0, weights[small.masked_fill(ignored, 0)]).sum()
        losses.append(pixels.sum() / torch.where(total > 0, total, 1))
    return losses
