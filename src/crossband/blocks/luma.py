"""The brightness of a colour image."""

from __future__ import annotations

from torch import Tensor

LUMA = (0.299, 0.587, 0.114)
"""ITU-R BT.601 weights of red, green and blue."""


def luma(visible: Tensor) -> Tensor:
    """Y' of ITU-R BT.601. visible: (B, 3, H, W), sRGB in [0, 1]. Gives (B, 1, H, W) in [0, 1]."""
    red, green, blue = visible.split(1, dim=1)
    return LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue


def with_luma(visible: Tensor, grey: Tensor) -> Tensor:
    """The visible image (B, 3, H, W) with another luma (B, 1, H, W), both in [0, 1]; so is the result.

    In Y'CbCr that changes red, green and blue by the same amount, so the picture keeps the visible image's
    chroma as far as [0, 1] allows.
    """
    return (visible + (grey - luma(visible))).clamp(0, 1)
