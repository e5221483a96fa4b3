"""AMDANet's training step written down as its formulas read, in plain eager PyTorch.

What ours must equal, gradient for gradient, and outrun: `reference_amdanet.py` in training mode, its mutual
feature masks, and a1 L_seg + a2 L_fus + a3 L_cr of the published code, at the defaults of `AMDANetTraining`,
without dropout and stochastic depth. The masks are drawn as ours draws them, so that one seed gives both the
same. A second pass of a decoder on maps that no mask has touched is made where it would differ by dropout, in
the segmentation decoder, and not where it could not, in the fusion decoder.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

try:
    from reference_amdanet import ReferenceAMDANet
except ImportError:
    from references.reference_amdanet import ReferenceAMDANet

A1, A2, A3 = 1.0, 0.5, 0.5
KEEP = 0.85
GAMMA = 0.8
IGNORED = 255
SMOOTH = 1e-5
SOBEL_X = ((-1.0, 0.0, 1.0), (-2.0, 0.0, 2.0), (-1.0, 0.0, 1.0))
SOBEL_Y = ((1.0, 2.0, 1.0), (0.0, 0.0, 0.0), (-1.0, -2.0, -1.0))


def step_loss(network: ReferenceAMDANet, visible: Tensor, infrared: Tensor, label: Tensor) -> Tensor:
    """The loss of a batch: (B, 3, H, W) and (B, 1, H, W) in [0, 1], (B, H, W). Every pixel is valid."""
    size = visible.shape[2:]
    infrared = infrared.repeat(1, 3, 1, 1)
    x, y, shared = network.enc(visible, infrared)
    logits = _enlarged(network.seg(shared), size)
    fused = network.fus(x, y, visible, infrared)
    if torch.rand(()) < 0.5:
        masked_logits = _enlarged(network.seg([m * mask(m) for m in shared]), size)
        masked_fused = fused
    else:
        pairs = [(a * mask(a), b * mask(b)) for a, b in zip(x, y, strict=True)]
        masked_logits = _enlarged(network.seg(shared), size)
        masked_fused = network.fus([a for a, _ in pairs], [b for _, b in pairs], visible, infrared)
    segmentation = cross_entropy(logits, label) + 2 * dice(logits, label)
    masked = (
        cross_entropy(masked_logits, label) / 2
        + dice(masked_logits, label)
        + fusion_loss(masked_fused, visible, infrared) / 2
    )
    return A1 * segmentation + A2 * fusion_loss(fused, visible, infrared) + A3 * masked


def mask(features: Tensor) -> Tensor:
    """1 with probability `KEEP`, else 0, for each element of a map (B, C, h, w), drawn place by place."""
    batch, channels, height, width = features.shape
    return features.new_empty(batch, height, width, channels).bernoulli_(KEEP).permute(0, 3, 1, 2)


def cross_entropy(logits: Tensor, label: Tensor) -> Tensor:
    return F.cross_entropy(logits, label, ignore_index=IGNORED)


def dice(logits: Tensor, label: Tensor) -> Tensor:
    """D of the classes that the label shows, over the pixels that count."""
    counted = (label != IGNORED)[:, None]
    truth = F.one_hot(label.masked_fill(label == IGNORED, 0), logits.shape[1]).permute(0, 3, 1, 2) * counted
    probability = logits.softmax(dim=1) * counted
    overlap = (probability * truth).sum(dim=(0, 2, 3))
    total = (probability + truth).sum(dim=(0, 2, 3))
    losses = 1 - (2 * overlap + SMOOTH) / (total + SMOOTH)
    return losses[truth.sum(dim=(0, 2, 3)) > 0].mean()


def fusion_loss(fused: Tensor, visible: Tensor, infrared: Tensor) -> Tensor:
    """L_fus = 0.5 L_int + L_grad + L_col; the infrared image has three channels."""
    bright = (visible**GAMMA).clamp(0, 1)
    intensity = F.l1_loss(fused, torch.maximum(bright, infrared))
    gradients = [
        F.l1_loss(_sobel(fused, kernel), torch.maximum(_sobel(bright, kernel), _sobel(infrared, kernel)))
        for kernel in (SOBEL_X, SOBEL_Y)
    ]
    (blue, red), (true_blue, true_red) = _chroma(fused), _chroma(bright)
    colour = F.l1_loss(blue, true_blue) + F.l1_loss(red, true_red)
    return 0.5 * intensity + (gradients[0] + gradients[1]) / 2 + colour


def _sobel(image: Tensor, kernel: tuple[tuple[float, ...], ...]) -> Tensor:
    weight = image.new_tensor(kernel).expand(3, 1, 3, 3)
    return F.conv2d(image, weight, padding=1, groups=3)


def _chroma(image: Tensor) -> tuple[Tensor, Tensor]:
    red, green, blue = image.split(1, dim=1)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    return 0.564 * (blue - luma) + 0.5, 0.713 * (red - luma) + 0.5


def _enlarged(logits: Tensor, size: torch.Size) -> Tensor:
    return F.interpolate(logits, size=size, mode="bilinear", align_corners=False)
