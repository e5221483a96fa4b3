"""RefineNet's decoder, as CEN has it: with 3 x 3 convolutions throughout and without batch norms.

Paper: Lin et al., "RefineNet: Multi-Path Refinement Networks for High-Resolution Semantic Segmentation",
CVPR 2017 (arXiv 1611.06612), section 3.2; widths, biases and the order of the layers are CEN's (see
`crossband.systems.cen.network`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_WINDOW = (5, 1, 2)
"""Of the pooling: kernel, stride and padding, which keep the size."""


def _conv(inputs: int, outputs: int, *, bias: bool = False) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1, bias=bias)


class ResidualUnits(nn.Module):
    """RCU: ``count`` times ``x = x + k3(ReLU(k3(ReLU(x))))``, the first convolution with a bias.

    inplace_relu: what the published code computes. Its first ReLU overwrites x before x is added, so that
    the sum is ``ReLU(x) + ...``.
    """

    def __init__(self, channels: int, count: int, *, inplace_relu: bool):
        super().__init__()
        self.inplace_relu = inplace_relu
        self.first = nn.ModuleList(_conv(channels, channels, bias=True) for _ in range(count))
        self.second = nn.ModuleList(_conv(channels, channels) for _ in range(count))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> the same."""
        for first, second in zip(self.first, self.second, strict=True):
            positive = F.relu(x)
            x = (positive if self.inplace_relu else x) + second(F.relu(first(positive)))
        return x


class _WidePooling(torch.autograd.Function):
    """`max_pool2d` over 5 x 5 at stride 1, with the same values and gradients, in half of the memory.

    PyTorch keeps the input, which the gradient needs the shape of and no more, and places of 8 bytes. Most of
    what a training of CEN keeps at the finest level would be these.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        pooled, places = F.max_pool2d(x, *_WINDOW, return_indices=True)
        ctx.save_for_backward(places.int())
        return pooled

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (gradient,) = gradients
        (places,) = ctx.saved_tensors
        # The input has the shape of the gradient, and its values are not looked at.
        kernel, stride, padding = _WINDOW
        return torch.ops.aten.max_pool2d_with_indices_backward(
            gradient, gradient, [kernel], [stride], [padding], [1], False, places.long()
        )


def wide_pooling(x: Tensor) -> Tensor:
    """The greatest value of 5 x 5 around each, (B, C, h, w) -> the same shape."""
    # Exporters know PyTorch's own operator.
    return _WidePooling.apply(x) if torch.is_grad_enabled() and x.requires_grad else F.max_pool2d(x, *_WINDOW)


class ChainedPooling(nn.Module):
    """CRP: ``t = x``, then ``count`` times ``t = k3(maxpool5x5(t)); x = x + t``, at stride 1."""

    def __init__(self, channels: int, count: int):
        super().__init__()
        self.convolutions = nn.ModuleList(_conv(channels, channels) for _ in range(count))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> the same."""
        top = x
        for convolution in self.convolutions:
            top = convolution(wide_pooling(top))
            x = x + top
        return x


class RefineLevel(nn.Module):
    """One level: adapt the encoder's map, add what the coarser level found, pool context, refine.

    inputs: channels of the encoder's map. width: of the level. merges: whether there is a coarser level.
    """

    def __init__(self, inputs: int, width: int, *, merges: bool, inplace_relu: bool):
        super().__init__()
        self.reduce = _conv(inputs, width)
        self.adapt = ResidualUnits(width, 2, inplace_relu=inplace_relu)
        self.merge = _conv(width, width) if merges else None
        self.pool = ChainedPooling(width, 4)
        self.refine = ResidualUnits(width, 3, inplace_relu=inplace_relu)

    def forward(self, features: Tensor, coarser: Tensor | None) -> Tensor:
        """(B, inputs, h, w), and (B, width, h', w') of the coarser level or None -> (B, width, h, w)."""
        x = self.adapt(self.reduce(features))
        if self.merge is not None:
            assert coarser is not None
            x = self.merge(x) + F.interpolate(coarser, x.shape[-2:], mode="bilinear", align_corners=True)
        return self.refine(self.pool(F.relu(x)))


class RefineNetDecoder(nn.Module):
    """Four maps of an encoder -> logits at the finest one's resolution.

    channels: of the four maps, finest first. width: of the three finer levels; the coarsest has twice that.
    dropout: of single values of the two coarsest maps, and before the last convolution.
    inplace_relu: see `ResidualUnits`.
    """

    def __init__(
        self,
        channels: Sequence[int],
        classes: int,
        width: int = 256,
        *,
        dropout: float = 0.5,
        inplace_relu: bool = True,
    ):
        super().__init__()
        widths = (width, width, width, 2 * width)
        self.levels = nn.ModuleList(
            RefineLevel(inputs, own, merges=index < 3, inplace_relu=inplace_relu)
            for index, (inputs, own) in enumerate(zip(channels, widths, strict=True))
        )
        # What levels 2 to 4 hand to the next finer one.
        self.hand_on = nn.ModuleList(_conv(own, width) for own in widths[1:])
        self.dropout = nn.Dropout(dropout)
        self.classify = _conv(width, classes, bias=True)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Four maps (B, C, h, w), finest first -> (B, classes, h, w) of the finest."""
        fine, second, *coarse = maps
        maps = (fine, second, *(self.dropout(each) for each in coarse))
        x = self.levels[3](maps[3], None)
        for index in (2, 1, 0):
            x = self.levels[index](maps[index], self.hand_on[index](x))
        return self.classify(self.dropout(x))
