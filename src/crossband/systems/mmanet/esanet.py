"""ESANet's parts around its encoders: squeeze-and-excitation, context module, decoder with side outputs.

Seichter, Koehler, Lewandowski, Wengefeld, Gross, "Efficient RGB-D Semantic Segmentation for Indoor Scene
Analysis", ICRA 2021 (arXiv 2011.06961), in the variant that MMANet (CVPR 2023) runs. Written from formulas
and sizes; nothing of the published code is copied.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

NORM_EPS = 1e-3
"""Of the residual blocks' batch norms; all others have PyTorch's."""


class SqueezeExcitation(nn.Module):
    """x * sigmoid(W2 relu(W1 mean(x))), one weight a channel. What is 0 stays exactly 0.

    channels: of x. reduction: how many times narrower the hidden layer is; it has four channels at least, the
    published number for 64, since one alone may never be above 0.
    """

    def __init__(self, channels: int, reduction: int = 16):
        super().__init__()
        hidden = max(4, channels // reduction)
        self.squeeze = nn.Conv2d(channels, hidden, 1)
        self.excite = nn.Conv2d(hidden, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> the same."""
        mean = x.mean(dim=(2, 3), keepdim=True)
        return x * self.excite(F.relu(self.squeeze(mean))).sigmoid()


class ConvNormRelu(nn.Sequential):
    """A convolution that keeps the size, without bias; a batch norm; a ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int):
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        )


def bin_means(x: Tensor, bins: tuple[int, int]) -> Tensor:
    """Means over a grid of bins: the values of `torch.nn.AdaptiveAvgPool2d`, as two matrix products.

    CUDA has no deterministic backward pass of the pooling layer. x: (B, C, h, w); bins: their rows and
    columns, which overlap where h or w is no multiple. Returns (B, C, *bins).
    """
    down, across = (_bin_shares(size, count, x) for size, count in zip(x.shape[-2:], bins, strict=True))
    return down @ (x @ across.T)


def _bin_shares(size: int, bins: int, like: Tensor) -> Tensor:
    """(bins, size): the weight of each position in each bin's mean."""
    bin_ids = torch.arange(bins, device=like.device)[:, None]
    positions = torch.arange(size, device=like.device)
    starts, ends = bin_ids * size // bins, ((bin_ids + 1) * size + bins - 1) // bins
    inside = ((positions >= starts) & (positions < ends)).to(like.dtype)
    return inside / inside.sum(dim=1, keepdim=True)


class ContextModule(nn.Module):
    """Pyramid pooling: the input, and its means over coarser and coarser grids, in one map.

    channels: of the input. width: of the output. bins: rows (and columns) of each grid; each brings an equal
    share of ``channels``.
    """

    def __init__(self, channels: int, width: int, bins: Sequence[int] = (1, 5)):
        super().__init__()
        self.bins = tuple(bins)
        share = max(1, channels // len(self.bins))
        self.branches = nn.ModuleList(ConvNormRelu(channels, share, 1) for _ in self.bins)
        self.merge = ConvNormRelu(channels + share * len(self.bins), width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, h, w) -> (B, width, h, w)."""
        maps = [x]
        for count, branch in zip(self.bins, self.branches, strict=True):
            means = branch(bin_means(x, (count, count)))
            maps.append(F.interpolate(means, x.shape[-2:], mode="nearest"))
        return self.merge(torch.cat(maps, dim=1))


class NonBottleneck1D(nn.Module):
    """A residual block of 3 x 1 and 1 x 3 convolutions, twice (ERFNet, Romera et al., 2018)."""

    def __init__(self, channels: int):
        super().__init__()

        def column() -> nn.Module:
            return nn.Conv2d(channels, channels, (3, 1), padding=(1, 0))

        def row() -> nn.Module:
            return nn.Conv2d(channels, channels, (1, 3), padding=(0, 1))

        self.layers = nn.Sequential(
            column(),
            nn.ReLU(inplace=True),
            row(),
            nn.BatchNorm2d(channels, eps=NORM_EPS),
            nn.ReLU(inplace=True),
            column(),
            nn.ReLU(inplace=True),
            row(),
            nn.BatchNorm2d(channels, eps=NORM_EPS),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> the same."""
        return F.relu(self.layers(x) + x)


class LearnedUpsampling(nn.Module):
    """Twice as large: each pixel four times, then a 3 x 3 depthwise convolution that starts out bilinear."""

    def __init__(self, channels: int):
        super().__init__()
        self.smooth = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        tent = torch.tensor([1.0, 2.0, 1.0])
        with torch.no_grad():
            self.smooth.weight.copy_((tent[:, None] * tent / 16).expand_as(self.smooth.weight))
            assert self.smooth.bias is not None
            self.smooth.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, 2 h, 2 w)."""
        return self.smooth(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class DecoderModule(nn.Module):
    """One step of the decoder: 3 x 3, three residual blocks, twice as large, plus the skip.

    ``side`` makes logits of what is not yet enlarged; the decoder calls it in training only.
    """

    def __init__(self, inputs: int, width: int, classes: int):
        super().__init__()
        self.body = nn.Sequential(ConvNormRelu(inputs, width, 3), *(NonBottleneck1D(width) for _ in range(3)))
        self.side = nn.Conv2d(width, classes, 1)
        self.enlarge = LearnedUpsampling(width)

    def forward(self, x: Tensor, skip: Tensor) -> tuple[Tensor, Tensor]:
        """x: (B, inputs, h, w). skip: (B, width, 2 h, 2 w). Returns the map before and after enlarging."""
        inner = self.body(x)
        return inner, self.enlarge(inner) + skip


class Decoded(NamedTuple):
    """What `Decoder` returns.

    logits: (B, classes, H, W). sides: coarser logits, at 1/8, 1/16 and 1/32 of H and W, or none.
    first: the first step's output, (B, width, H / 16, W / 16).
    """

    logits: Tensor
    sides: list[Tensor]
    first: Tensor


class Decoder(nn.Module):
    """Three `DecoderModule`s of width, width / 2 and width / 4 channels, and a head that enlarges twice."""

    def __init__(self, classes: int, width: int = 512):
        super().__init__()
        widths = decoder_widths(width)
        inputs = (width, *widths[:-1])
        self.steps = nn.ModuleList(
            DecoderModule(before, after, classes) for before, after in zip(inputs, widths, strict=True)
        )
        self.head = nn.Conv2d(widths[-1], classes, 3, padding=1)
        self.enlarge = nn.Sequential(LearnedUpsampling(classes), LearnedUpsampling(classes))

    def forward(self, context: Tensor, skips: Sequence[Tensor], *, sides: bool) -> Decoded:
        """context: (B, width, H / 32, W / 32). skips: of each step's width, at 1/16, 1/8 and 1/4.

        sides: whether to compute the coarser logits.
        """
        x, coarse, outputs = context, [], []
        for module, skip in zip(self.steps, skips, strict=True):
            step = cast(DecoderModule, module)
            inner, x = step(x, skip)
            if sides:
                coarse.append(step.side(inner))
            outputs.append(x)
        return Decoded(self.enlarge(self.head(x)), coarse[::-1], outputs[0])


def decoder_widths(width: int) -> tuple[int, int, int]:
    """Channels of the decoder's three steps, which are also those of the skips at 1/16, 1/8 and 1/4."""
    return width, max(1, width // 2), max(1, width // 4)
