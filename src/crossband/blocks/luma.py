"""The brightness of a colour image."""

from __future__ import annotations

from torch import Tensor

from crossband.colour import weighted_sum


def luma(visible: Tensor) -> Tensor:
    """Y' of ITU-R BT.601. visible: (B, 3, H, W), sRGB in [0, 1]. Gives (B, 1, H, W) in [0, 1]."""
    return weighted_sum(*visible.split(1, dim=1))


def with_luma(visible: Tensor, grey: Tensor) -> Tensor:
    """The visible image (B, 3, H, W) with another luma (B, 1, H, W), both in [0, 1]; so is the result, in
    the visible image's type.

    In Y'CbCr that changes red, green and blue by the same amount, so the picture keeps the visible image's
    chroma as far as [0, 1] allows.
    """
    return (visible + (grey.to(visible.dtype) - luma(visible))).clamp(0, 1)
