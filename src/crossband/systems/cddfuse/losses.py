"""The losses of CDDFuse (Zhao et al., CVPR 2023), in the form of its published code.

Stage I, the reconstruction of both grey images by themselves:

    sum over both of [5 S(x, x^) + MSE(x, x^)] + 5 L1(grad V, grad V^) + 2 L_dec

with S(x, x^) = clamp(1 - SSIM, 0, 1) / 2 for each pixel, the form of the library that its code pins: where
images are unlike one another (SSIM below 0), S is 1/2 and has no gradient.

Stage II, the fused image F:

    L1(F, max(V, I)) + 10 L1(|dF|, max(|dV|, |dI|)) + 2 L_dec

The variant ``light`` adds terms of ours, which are metrics of `crossband.metrics.fusion` in forms that have
gradients: `fidelity` (VIF), `difference_correlation` (SCD) and `edge_preservation` (Qabf).

All are computed in float32 or better. Pixels that show no image (``valid`` False) do not count: they are 0
where a derivative looks at them, as are those beyond the border in stage II.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from crossband.losses.fusion import masked_mean, sobel
from crossband.losses.structure import similarity_map
from crossband.metrics.fusion.fidelity import EYE_NOISE, WINDOWS
from crossband.metrics.fusion.filters import gaussian_window
from crossband.metrics.fusion.gradients import ANGLE, STRENGTH
from crossband.tensors import at_least_float32, without_autocast

Pair = tuple[Tensor, Tensor]
SOFT = 1e-2
"""What keeps roots and quotients of gradients, on 0..255, away from 0."""
FLAT = 1e-3
"""The least variance, on 0..255, of a window."""


def decomposition_loss(base: Pair, detail: Pair, valid: Tensor | None = None) -> Tensor:
    """L_dec = CC(detail)^2 / (1.01 + CC(base)), 0 or more: bases alike, details unrelated.

    base, detail: features (B, C, H, W) of both bands. valid: see `correlation`. Returns a scalar.
    """
    return correlation(*detail, valid) ** 2 / (1.01 + correlation(*base, valid))


def correlation(first: Tensor, second: Tensor, valid: Tensor | None = None) -> Tensor:
    """CC: Pearson's correlation over the pixels, in [-1, 1], as a mean over images and channels.

    first, second: (B, C, H, W). valid: bool (B, H, W), the pixels that count, or None for all. A channel that
    is constant correlates with nothing: 0, with a gradient of 0. Returns a scalar.
    """
    first, second = (_centred(at_least_float32(map), valid).flatten(2) for map in (first, second))
    return F.cosine_similarity(first, second, dim=-1).clamp(-1, 1).mean()


def ssim_loss(restored: Tensor, image: Tensor, valid: Tensor | None = None) -> Tensor:
    """clamp(1 - SSIM, 0, 1) / 2 as a mean over the pixels that count; for SSIM see `similarity_map`.

    restored, image: (B, 1, H, W). valid: bool (B, H, W), the pixels that count, or None for all. Returns a
    scalar.
    """
    similarity = similarity_map(restored, image, valid)
    return masked_mean((1 - similarity).clamp(0, 1) / 2, _mask(similarity, valid))


def squared_error(restored: Tensor, image: Tensor, valid: Tensor | None = None) -> Tensor:
    """Mean of (restored - image)^2 over the pixels that count, as a scalar. Arguments as in `ssim_loss`."""
    difference = at_least_float32(restored) - at_least_float32(image)
    return masked_mean(difference**2, _mask(difference, valid))


def edge_loss(restored: Tensor, image: Tensor, valid: Tensor | None = None) -> Tensor:
    """L1 of Sobel derivatives, stage I: mean of |d restored - d image| over pixels and both directions.

    Sobel's masks are divided by 8, and the border is repeated beyond the image, as Kornia's
    ``spatial_gradient`` does. Arguments as in `ssim_loss`; returns a scalar.
    """
    # Derivatives are linear: that of a difference is the difference.
    difference = at_least_float32(restored) - at_least_float32(image)
    mask = _mask(difference, valid)
    padded = F.pad(difference * mask, (1, 1, 1, 1), mode="replicate")
    across, up = (derivative[..., 1:-1, 1:-1].abs() / 8 for derivative in sobel(padded))
    return (masked_mean(across, mask) + masked_mean(up, mask)) / 2


def intensity_loss(fused: Tensor, visible: Tensor, infrared: Tensor, valid: Tensor | None = None) -> Tensor:
    """Mean of |F - max(V, I)| over the pixels that count, stage II. All (B, 1, H, W); returns a scalar."""
    fused, visible, infrared = (at_least_float32(image) for image in (fused, visible, infrared))
    return masked_mean((fused - torch.maximum(visible, infrared)).abs(), _mask(fused, valid))


def joint_gradient_loss(
    fused: Tensor, visible: Tensor, infrared: Tensor, valid: Tensor | None = None
) -> Tensor:
    """Mean of ||dF| - max(|dV|, |dI|)|, stage II, with |d| = |Sx| + |Sy| of the whole `sobel` masks.

    Arguments and result as in `intensity_loss`.
    """
    mask = _mask(fused, valid)
    edges = [_edges(at_least_float32(image) * mask) for image in (fused, visible, infrared)]
    return masked_mean((edges[0] - torch.maximum(edges[1], edges[2])).abs(), mask)


def edge_preservation(
    fused: Tensor, visible: Tensor, infrared: Tensor, valid: Tensor | None = None
) -> Tensor:
    """Qabf of the fused image: the share of the sources' edges that it keeps, in [0, 1]; higher is better.

    As `crossband.metrics.fusion.gradients.gradient_preservation` has it (Xydeas and Petrovic 2000), on
    0..255, but that equal strengths give a ratio of 1, and that strengths and angles have a gradient
    everywhere: `SOFT` is added to the square of a strength and to the size of a divisor. Arguments as in
    `intensity_loss`; returns a scalar, the mean over the images.
    """
    mask = _mask(fused, valid)
    fused, visible, infrared = (at_least_float32(image) * mask for image in (fused, visible, infrared))
    strength, angle = _directed(fused)
    kept = total = torch.zeros_like(strength)
    for source in (visible, infrared):
        own, direction = _directed(source)
        ratio = torch.minimum(own, strength) / torch.maximum(own, strength)
        turn = 1 - (direction - angle).abs() / (math.pi / 2)
        height, slope, centre = STRENGTH
        quality = height * (slope * (ratio - centre)).sigmoid()
        height, slope, centre = ANGLE
        quality = quality * height * (slope * (turn - centre)).sigmoid()
        kept, total = kept + quality * own * mask, total + own * mask
    return (kept.sum(dim=(1, 2, 3)) / total.sum(dim=(1, 2, 3)).clamp(min=SOFT)).mean()


def difference_correlation(
    fused: Tensor, visible: Tensor, infrared: Tensor, valid: Tensor | None = None
) -> Tensor:
    """SCD of the fused image, CC(F - I, V) + CC(F - V, I), in [-2, 2]; higher is better.

    Aslantas and Bendes 2015; for CC see `correlation`. Arguments as in `intensity_loss`; returns a scalar.
    """
    fused, visible, infrared = (at_least_float32(image) for image in (fused, visible, infrared))
    return correlation(fused - infrared, visible, valid) + correlation(fused - visible, infrared, valid)


def fidelity(fused: Tensor, visible: Tensor, infrared: Tensor, valid: Tensor | None = None) -> Tensor:
    """VIF of the fused image: the share of each band's information that it keeps; higher is better.

    As `crossband.metrics.fusion.fidelity.visual_information_fidelity` has it (Sheikh and Bovik 2006), on
    0..255, with `FLAT` as the least variance, and sums over all images of the batch. Pixels that do not count
    are 0 in all three images, and a window that reaches them sees an edge there. Arguments as in
    `intensity_loss`; of less than 41 pixels a side, with the scales that still have a window. Returns (2,),
    the shares of the visible and of the infrared image, 0 or more; the metric is their sum.
    """
    mask = _mask(fused, valid)
    images = [255 * at_least_float32(image) * mask for image in (fused, visible, infrared)]
    maps = torch.cat([image - 255 / 2 for image in images], dim=1)
    kept = held = maps.new_zeros(2)
    for scale, size in enumerate(WINDOWS):
        if scale:
            maps = _windowed(maps, size)[..., ::2, ::2]
        if min(maps.shape[-2:]) < size:
            break
        own, sources = maps[:, :1], maps[:, 1:]
        means, squares, products = (_windowed(image, size) for image in (maps, maps * maps, own * sources))
        variances = (squares - means * means).clamp(min=FLAT)
        covariances = products - means[:, :1] * means[:, 1:]
        gains = covariances.clamp(min=0) / variances[:, 1:]
        noise = (variances[:, :1] - gains * covariances).clamp(min=FLAT) + EYE_NOISE
        kept = kept + (gains * gains * variances[:, 1:] / noise).log1p().sum(dim=(0, 2, 3))
        held = held + (variances[:, 1:] / EYE_NOISE).log1p().sum(dim=(0, 2, 3))
    return kept / held.clamp(min=FLAT)


def _windowed(images: Tensor, size: int) -> Tensor:
    """Means in Gaussian windows inside of the images (B, C, H, W), their deviation a fifth of their size."""
    taps = torch.tensor(gaussian_window(size, size / 5), dtype=images.dtype, device=images.device)
    rows = taps.expand(images.shape[1], 1, 1, size)
    with without_autocast(images):
        across = F.conv2d(images, rows, groups=images.shape[1])
        return F.conv2d(across, rows.transpose(2, 3), groups=images.shape[1])


def _directed(image: Tensor) -> tuple[Tensor, Tensor]:
    """Strength and angle, in (-pi/2, pi/2), of the gradients of (B, 1, H, W)."""
    across, up = (255 * derivative for derivative in sobel(image))
    divisor = across + torch.where(across >= 0, SOFT, -SOFT)
    return (across * across + up * up + SOFT).sqrt(), (up / divisor).atan()


def _edges(image: Tensor) -> Tensor:
    across, up = sobel(image)
    return across.abs() + up.abs()


def _centred(features: Tensor, valid: Tensor | None) -> Tensor:
    """Features less their mean over the pixels that count, and 0 on those that do not."""
    mask = _mask(features, valid)
    means = (features * mask).sum(dim=(-2, -1), keepdim=True)
    count = mask.sum(dim=(-2, -1), keepdim=True).clamp(min=1)
    return (features - means / count) * mask


def _mask(like: Tensor, valid: Tensor | None) -> Tensor:
    """(B, 1, H, W): 1 on the pixels that count, else 0."""
    if valid is None:
        return like.new_ones(like.shape[0], 1, *like.shape[-2:], dtype=at_least_float32(like[:0]).dtype)
    return at_least_float32(valid.unsqueeze(1).to(like.dtype))
