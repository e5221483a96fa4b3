"""Qabf: how well the edges of the sources arrive in the fused picture."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from crossband.errors import OptionError
from crossband.metrics.fusion.filters import sobel
from crossband.metrics.fusion.images import PEAK, FusedPair, Image, Reduction, as_fused_pair

Border = Literal["zero", "replicate"]

# Xydeas and Petrovic's sigmoids of strength and of angle: height, slope, centre.
STRENGTH = (0.9994, 15.0, 0.5)
ANGLE = (0.9879, 22.0, 0.8)


def gradient_preservation(
    fused: Image | FusedPair,
    visible: Image | None = None,
    infrared: Image | None = None,
    *,
    data_range: float | None = None,
    peak: float = PEAK,
    border: Border = "zero",
    wrap_angles: bool = False,
    reduction: Reduction = "sum",
) -> Tensor:
    """Qabf: the share of the sources' edges that the fused picture keeps. Higher is better.

    With Sobel's gradients of strength g and angle a = atan(sy / sx) (pi / 2 where sx is 0): G = min(g_S, g_F)
    / max(g_S, g_F), A = 1 - |a_S - a_F| / (pi / 2), Q = 0.9994 / (1 + exp(-15 (G - 0.5))) * 0.9879 / (1 +
    exp(-22 (A - 0.8))), and Qabf = sum(Q_A g_A + Q_B g_B) / sum(g_A + g_B). Xydeas, Petrovic 2000, "Objective
    image fusion performance measure".

    As in all public code, equal strengths give G = g_F, not 1; on 0..255 that is seen only where both are 0.
    Zeros outside of the picture, also a habit of all, make edges of its borders.

    fused, visible, infrared, data_range: as in `FusedPair`, which may be given in place of the first three.
    peak: the value that white has; 1 for tables computed on 0..1, where equal strengths lower the score and
    rounding decides which are equal. border: what lies outside. wrap_angles: measure angles around the half
    circle, so that they differ by at most pi / 2 (no public code does). reduction: "sum" is Qabf; "none"
    gives the parts that visible and infrared add to it, whose sum it is; "mean" is half of it.

    Returns float64 in 0..1. NaN if both sources are flat: there is no edge to keep.
    """
    pair = as_fused_pair(fused, visible, infrared, data_range)
    if border not in ("zero", "replicate"):
        raise OptionError(f"border is {border!r}: use zero or replicate")
    own = _edges(pair, 0, border, peak)
    kept, strengths = [], []
    for index in (1, 2):
        source = _edges(pair, index, border, peak)
        quality = _preserved(source, own, wrap_angles).mul_(source.strength)
        kept.append(quality.double().sum((-2, -1)))
        strengths.append(source.strength.double().sum((-2, -1)))
    shares = torch.stack(kept, -1) / torch.stack(strengths, -1).sum(-1, keepdim=True)
    nothing = pair.flat[:, 1:].all(1, keepdim=True)
    return pair.reduced(shares.masked_fill(nothing, torch.nan), reduction)


class _Edges(NamedTuple):
    """Strength g >= 0 and angle a in -pi/2..pi/2 of the gradient, (B, H, W) each."""

    strength: Tensor
    angle: Tensor


def _edges(pair: FusedPair, index: int, border: Border, peak: float) -> _Edges:
    grey = (pair.fused, *pair.sources)[index]
    right, down = sobel(grey if peak == PEAK else grey / (PEAK / peak), border)
    strength = (right * right).addcmul_(down, down).sqrt_()
    # The sign of the angle decides which neighbours the vertical direction, pi / 2, is close to.
    angle = _arctangent(down.div_(right.neg_())).masked_fill_(right == 0, torch.pi / 2)
    return _Edges(strength, angle)


def _arctangent(slopes: Tensor) -> Tensor:
    """On a CPU by NumPy, whose arctangent in float64 takes a tenth of the time of PyTorch's."""
    if slopes.device.type != "cpu":
        return slopes.atan()
    return torch.from_numpy(np.arctan(slopes.numpy()))


def _preserved(source: _Edges, fused: _Edges, wrap_angles: bool) -> Tensor:
    """Q per pixel."""
    strength = torch.minimum(source.strength, fused.strength)
    stronger = torch.maximum(source.strength, fused.strength)
    equal = (strength == stronger).to(strength.dtype)
    # 0 / 0 counts as 0, which is g_F. Interpolating by 0 or 1 is several times as quick as torch.where.
    strength.div_(stronger.clamp_min(torch.finfo(strength.dtype).tiny)).lerp_(stronger, equal)
    turn = (source.angle - fused.angle).abs_().div_(torch.pi / 2)
    if wrap_angles:
        turn = torch.minimum(turn, 2 - turn)
    height, slope, centre = STRENGTH
    below = strength.sub_(centre).mul_(-slope).exp_().add_(1)
    angle_height, slope, centre = ANGLE
    # 1 - turn - centre, times -slope
    below *= turn.sub_(1 - centre).mul_(slope).exp_().add_(1)
    return below.reciprocal_().mul_(height * angle_height)
