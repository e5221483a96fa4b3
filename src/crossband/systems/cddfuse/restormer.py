"""Attention between channels, and the blocks that CDDFuse makes of it.

``RestormerBlock``: Zamir et al., "Restormer: Efficient Transformer for High-Resolution Image Restoration",
CVPR 2022 (MDTA and GDFN). ``BaseBlock``: the base extractor of CDDFuse (Zhao et al., CVPR 2023). The weights
of the attention are channels x channels within a head, so that its cost is linear in the pixels. No layer has
a bias but the norms. Written here from a description in words.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crossband.tensors import at_least_float32, without_autocast

EXPANSION = 2


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of a map (B, C, H, W), with weight and bias."""

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, H, W) -> the same, of mean 0 and variance 1 in each pixel before weight and bias."""
        return super().forward(features.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ChannelAttention(nn.Module):
    """Attention in which a head's channels attend to one another (MDTA).

    A 1 x 1 and a 3 x 3 convolution make queries, keys and values, each (heads, C / heads, HW). With queries
    and keys of length 1 over the pixels, A = softmax(q k^T t), t trained per head, and the result is a 1 x 1
    convolution of A v.

    full: whether the 3 x 3 convolution mixes channels, as in CDDFuse's base block, or is depthwise.
    """

    def __init__(self, channels: int, heads: int, *, full: bool = False):
        super().__init__()
        self.heads = heads
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.point = nn.Conv2d(channels, 3 * channels, 1, bias=False)
        groups = 1 if full else 3 * channels
        self.around = nn.Conv2d(3 * channels, 3 * channels, 3, padding=1, groups=groups, bias=False)
        self.project = nn.Conv2d(channels, channels, 1, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        made = self.around(self.point(features))
        query, key, value = made.flatten(2).unflatten(1, (3, self.heads, -1)).unbind(1)
        # Sums over all pixels: half precision would overflow in the lengths and lose the small products.
        with without_autocast(features):
            query, key = at_least_float32(query), at_least_float32(key)
            lengths = _length(query) * _length(key).transpose(-1, -2)
            weights = (query @ key.transpose(-1, -2) / lengths * self.temperature).softmax(dim=-1)
        mixed = weights.to(value.dtype) @ value
        return self.project(mixed.flatten(1, 2).unflatten(2, features.shape[-2:]))


class GatedFeedForward(nn.Module):
    """1 x 1 to 2 ``hidden`` channels, a 3 x 3 in groups, GELU(first half) times second half, 1 x 1 back.

    per_group: channels that a group of the 3 x 3 convolution mixes; 1 is Restormer's depthwise one (GDFN).
    """

    def __init__(self, channels: int, hidden: int, *, per_group: int = 1):
        super().__init__()
        self.expand = nn.Conv2d(channels, 2 * hidden, 1, bias=False)
        self.around = nn.Conv2d(
            2 * hidden, 2 * hidden, 3, padding=1, groups=2 * hidden // per_group, bias=False
        )
        self.project = nn.Conv2d(hidden, channels, 1, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        gate, passed = self.around(self.expand(features)).chunk(2, dim=1)
        return self.project(F.gelu(gate) * passed)


class _Block(nn.Module):
    """Attention and a feed-forward layer, each on the normed map and added to it."""

    def __init__(self, channels: int, attention: nn.Module, feed_forward: nn.Module):
        super().__init__()
        self.norm1 = ChannelNorm(channels)
        self.attention = attention
        self.norm2 = ChannelNorm(channels)
        self.feed_forward = feed_forward

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        features = features + self.attention(self.norm1(features))
        return features + self.feed_forward(self.norm2(features))


class RestormerBlock(_Block):
    """Restormer's block, its feed-forward layer twice as wide. 45,256 parameters at 64 channels, 8 heads."""

    def __init__(self, channels: int, heads: int):
        super().__init__(
            channels, ChannelAttention(channels, heads), GatedFeedForward(channels, EXPANSION * channels)
        )


class BaseBlock(_Block):
    """CDDFuse's base block: the attention's 3 x 3 convolution mixes all channels, that of the feed-forward
    layer two each. 363,016 parameters at 64 channels and 8 heads."""

    def __init__(self, channels: int, heads: int):
        super().__init__(
            channels,
            ChannelAttention(channels, heads, full=True),
            GatedFeedForward(channels, channels, per_group=2),
        )


def _length(vectors: Tensor) -> Tensor:
    """Euclidean length over the last dimension, never 0."""
    return torch.linalg.vector_norm(vectors, dim=-1, keepdim=True).clamp(min=1e-12)
