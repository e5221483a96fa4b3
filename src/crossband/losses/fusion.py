"""Losses of a fused picture against the pair that it was made from.

L_fus of AMDANet (ICCV 2025), as in its published code, which has it from MRFS (CVPR 2024):

    L_fus = 0.5 L_int + L_grad + L_col

against V = Vis^gamma, the brightened visible image, and R, the infrared one, whose contrast MRFS stretches;
weights and gamma differ from benchmark to benchmark there. All are computed in float32 or
better whatever the precision of the picture, and are 0 or more.

Pixels that show no image (``valid`` False) are 0 in the picture and in its sources; the pixels beyond a
picture's border are 0 too, so that a padded pair gets the loss of the pair itself. The published code
divides by the number of all pixels (``mean_over="all"``), which makes the loss smaller where more is padded.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from crossband.colour import weighted_sum
from crossband.tensors import at_least_float32

GradientTarget = Literal["signed", "magnitude"]
MeanOver = Literal["valid", "all"]


def fusion_loss(
    fused: Tensor,
    visible: Tensor,
    infrared: Tensor,
    *,
    valid: Tensor | None = None,
    gamma: float = 0.8,
    contrast: float = 1.0,
    intensity_weight: float = 0.5,
    gradient_weight: float = 1.0,
    colour_weight: float = 1.0,
    gradient_target: GradientTarget = "signed",
    mean_over: MeanOver = "valid",
) -> dict[str, Tensor]:
    """The weighted terms of L_fus: ``{"intensity": ..., "gradient": ..., "colour": ...}``.

    fused, visible: (B, 3, H, W) in [0, 1]. infrared: (B, 1, H, W) in [0, 1]. valid: bool (B, H, W), or None
    if every pixel is. gamma: the power to which the visible image is raised first, V = Vis^gamma; below 1 it
    becomes brighter. contrast: of the infrared image, see `stretch_contrast`; 1 leaves it as it is.
    gradient_target: see `gradient_loss`. mean_over: whether means are over the valid pixels or over all.
    Raises ValueError if the shapes disagree.
    """
    _check_shapes(fused, visible, infrared, valid)
    fused, visible, infrared = (at_least_float32(image) for image in (fused, visible, infrared))
    bright = (visible**gamma).clamp(0, 1)
    mask = shown = None
    if valid is not None:
        mask = shown = valid.unsqueeze(1).to(fused.dtype)
        fused, bright, infrared = fused * shown, bright * shown, infrared * shown
        if mean_over == "all":
            mask = None
    if contrast != 1:
        infrared = stretch_contrast(infrared, contrast, mask)
        # Where no image is shown, a stretch may make 0 something else.
        infrared = infrared if shown is None else infrared * shown
    return {
        "intensity": intensity_weight * intensity_loss(fused, bright, infrared, mask),
        "gradient": gradient_weight * gradient_loss(fused, bright, infrared, mask, target=gradient_target),
        "colour": colour_weight * colour_loss(fused, bright, mask),
    }


def intensity_loss(fused: Tensor, bright: Tensor, infrared: Tensor, mask: Tensor | None = None) -> Tensor:
    """L_int = mean |F - max(V, R)|, per colour channel.

    fused, bright: F and V, (B, 3, H, W). infrared: R, (B, 1, H, W). mask: (B, 1, H, W), 1 on the pixels that
    the mean is over, or None for all. Returns a scalar.
    """
    return masked_mean((fused - torch.maximum(bright, infrared)).abs(), mask)


def gradient_loss(
    fused: Tensor,
    bright: Tensor,
    infrared: Tensor,
    mask: Tensor | None = None,
    *,
    target: GradientTarget = "signed",
) -> Tensor:
    """L_grad = 1/2 mean |Sx F - t(Sx V, Sx R)| + 1/2 mean |Sy F - t(Sy V, Sy R)|, per colour channel.

    target: t. "signed" is the larger value, as published: a strong edge from bright to dark loses to a weak
    one from dark to bright. "magnitude" is the value of larger magnitude, the visible one in a tie.
    Arguments and result as in `intensity_loss`; the gradients are those of `sobel`.
    """
    losses = []
    for of_fused, of_bright, of_infrared in zip(sobel(fused), sobel(bright), sobel(infrared), strict=True):
        if target == "signed":
            wanted = torch.maximum(of_bright, of_infrared)
        else:
            wanted = torch.where(of_bright.abs() >= of_infrared.abs(), of_bright, of_infrared)
        losses.append(masked_mean((of_fused - wanted).abs(), mask))
    return (losses[0] + losses[1]) / 2


def colour_loss(fused: Tensor, bright: Tensor, mask: Tensor | None = None) -> Tensor:
    """L_col = mean |Cb(F) - Cb(V)| + mean |Cr(F) - Cr(V)|. Arguments and result as in `intensity_loss`."""
    # Chroma is linear: that of a difference is the difference, and the offsets of 0.5 cancel.
    blue, red = chroma(fused - bright)
    return masked_mean((blue - 0.5).abs(), mask) + masked_mean((red - 0.5).abs(), mask)


def stretch_contrast(image: Tensor, factor: float, mask: Tensor | None = None) -> Tensor:
    """clip(c I + (1 - c) mean I) to [0, 1], the mean over each image; c is the factor.

    image: (B, 1, H, W) in [0, 1]. mask: (B, 1, H, W), 1 on the pixels that the mean is over, or None for all.
    """
    weight = torch.ones_like(image) if mask is None else mask
    total = weight.sum(dim=(2, 3), keepdim=True).clamp(min=1)
    mean = (image * weight).sum(dim=(2, 3), keepdim=True) / total
    return (factor * image + (1 - factor) * mean).clamp(0, 1)


def sobel(image: Tensor) -> tuple[Tensor, Tensor]:
    """Sx and Sy of each channel (B, C, H, W), zeros beyond the border: differences to the right and upwards.

    Sx = [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]], Sy = [[1, 2, 1], [0, 0, 0], [-1, -2, -1]], as correlations.
    """
    padded = F.pad(image, (1, 1, 1, 1))
    right = padded[..., 2:] - padded[..., :-2]
    up = padded[..., :-2, :] - padded[..., 2:, :]
    sx = right[..., :-2, :] + 2 * right[..., 1:-1, :] + right[..., 2:, :]
    sy = up[..., :-2] + 2 * up[..., 1:-1] + up[..., 2:]
    return sx, sy


def chroma(image: Tensor) -> tuple[Tensor, Tensor]:
    """Cb and Cr of a colour image (B, 3, H, W) in [0, 1], each (B, 1, H, W) and 0.5 where there is no colour.

    Y = .299 R + .587 G + .114 B, Cb = .564 (B - Y) + .5, Cr = .713 (R - Y) + .5 (ITU-R BT.601, rounded).
    """
    red, green, blue = image.split(1, dim=1)
    luma = weighted_sum(red, green, blue)
    return 0.564 * (blue - luma) + 0.5, 0.713 * (red - luma) + 0.5


def masked_mean(values: Tensor, mask: Tensor | None) -> Tensor:
    """Mean over all values, or over those of the pixels where the mask is 1; 0 if there is none."""
    if mask is None:
        return values.mean()
    return (values * mask).sum() / (mask.sum() * values.shape[1]).clamp(min=1)


def _check_shapes(fused: Tensor, visible: Tensor, infrared: Tensor, valid: Tensor | None) -> None:
    batch, _, height, width = fused.shape
    wanted = {"fused": 3, "visible": 3, "infrared": 1}
    for (name, channels), image in zip(wanted.items(), (fused, visible, infrared), strict=True):
        if image.shape != (batch, channels, height, width):
            raise ValueError(
                f"{name} must be ({batch}, {channels}, {height}, {width}), not {tuple(image.shape)}"
            )
    if valid is not None and valid.shape != (batch, height, width):
        raise ValueError(f"valid must be ({batch}, {height}, {width}), not {tuple(valid.shape)}")
