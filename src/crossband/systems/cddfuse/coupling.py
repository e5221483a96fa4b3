"""The detail layer of CDDFuse: an affine coupling of two halves of the channels, which can be inverted."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from crossband.tensors import at_least_float32


class DetailLayer(nn.Module):
    """Mix the channels, then let each half change the other (Zhao et al., CDDFuse, CVPR 2023).

    [z1; z2] = W z + b, z2 <- z2 + phi(z1), z1 <- z1 * exp(rho(z2)) + eta(z2). Whatever phi, rho and eta are,
    z2 and then z1 can be computed back, so that a chain of such layers loses nothing. 18,176 parameters at 64
    channels. The exponential is taken in float32: that of 12 is beyond float16.

    channels: of the map, an even number.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.mix = nn.Conv2d(channels, channels, 1)
        self.phi = Bottleneck(channels // 2)
        self.rho = Bottleneck(channels // 2)
        self.eta = Bottleneck(channels // 2)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        # What a layer gives may be of a wider type than the weights of the one after it, without autocast.
        first, second = self.mix(features.to(self.mix.weight.dtype)).chunk(2, dim=1)
        second = second + self.phi(first)
        first = first * at_least_float32(self.rho(second)).exp() + self.eta(second)
        return torch.cat((first, second.to(first.dtype)), dim=1)


class Bottleneck(nn.Module):
    """1 x 1 to twice the channels, ReLU6, depthwise 3 x 3 on a mirrored border, ReLU6, 1 x 1 back."""

    def __init__(self, channels: int):
        super().__init__()
        hidden = 2 * channels
        self.expand = nn.Conv2d(channels, hidden, 1, bias=False)
        self.around = nn.Conv2d(hidden, hidden, 3, groups=hidden, bias=False)
        self.project = nn.Conv2d(hidden, channels, 1, bias=False)
        self.activation = nn.ReLU6()

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        wide = self.activation(self.expand(features))
        return self.project(self.activation(self.around(mirrored(wide))))


def mirrored(features: Tensor) -> Tensor:
    """A map (B, C, H, W) with one more pixel on every side, mirrored at the outermost ones.

    As padding with "reflect", but also for a side of a single pixel, which is repeated, and with a gradient
    that CUDA computes deterministically.
    """
    for dim in (-2, -1):
        size = features.shape[dim]
        before = features.narrow(dim, min(1, size - 1), 1)
        after = features.narrow(dim, max(size - 2, 0), 1)
        features = torch.cat((before, features, after), dim=dim)
    return features
