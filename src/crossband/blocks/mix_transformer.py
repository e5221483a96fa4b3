"""The Mix Transformer: the encoder of SegFormer, a pyramid of four levels of transformer blocks.

Paper: Xie et al., "SegFormer: Simple and Efficient Design for Semantic Segmentation with Transformers",
NeurIPS 2021 (arXiv 2105.15203), section 3.1. Written from the paper, under this project's licence. The
weights that its authors publish are not: NVIDIA's source code licence allows no commercial use of them.
`crossband.blocks.encoder_weights` reads them; the timm encoders ``pvt_v2_*`` are the nearest ones whose
weights come without that limit.

Features are passed on as maps (B, C, h, w) in channels-last memory and worked on as grids (B, h, w, C), on
which a linear layer and a layer norm act as they are. One is a view of the other, so nothing is copied.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from timm.layers import DropPath
from torch import Tensor, nn
from torch.nn import functional as F

from crossband.blocks.pyramid_encoder import LEVELS, REDUCTIONS, PyramidEncoder
from crossband.errors import OptionError


@dataclass(frozen=True)
class MixTransformerSize:
    """How many blocks the four levels have, and how many channels. The paper's appendix A."""

    depths: tuple[int, int, int, int]
    channels: tuple[int, int, int, int] = (64, 128, 320, 512)


SIZES = {
    "mit_tiny": MixTransformerSize((1, 1, 1, 1), (8, 16, 40, 64)),  # for tests; not of the paper
    "mit_b0": MixTransformerSize((2, 2, 2, 2), (32, 64, 160, 256)),
    "mit_b1": MixTransformerSize((2, 2, 2, 2)),
    "mit_b2": MixTransformerSize((3, 4, 6, 3)),
    "mit_b3": MixTransformerSize((3, 4, 18, 3)),
    "mit_b4": MixTransformerSize((3, 8, 27, 3)),
    "mit_b5": MixTransformerSize((3, 6, 40, 3)),
}
HEADS = (1, 2, 5, 8)
EXPANSION = 4
# The authors' code gives the norms of the blocks this value, and all others PyTorch's.
BLOCK_NORM_EPS = 1e-6


def to_grid(features: Tensor) -> Tensor:
    """A map (B, C, h, w) as a grid (B, h, w, C); a view if its memory is channels-last, else a copy."""
    return features.permute(0, 2, 3, 1).contiguous()


def to_map(grid: Tensor) -> Tensor:
    """A grid (B, h, w, C) as a map (B, C, h, w), without a copy."""
    return grid.permute(0, 3, 1, 2)


def initialise(module: nn.Module) -> None:
    """Give one layer the authors' random start; for ``network.apply``.

    Linear: truncated normal of deviation 0.02. Convolution: normal of variance 2 / fan-out. Norm: 1. All
    biases: 0.
    """
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
    elif isinstance(module, nn.Conv2d):
        fan_out = math.prod(module.kernel_size) * module.out_channels // module.groups
        nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
    elif isinstance(module, nn.LayerNorm):
        nn.init.ones_(module.weight)
    if isinstance(module, nn.Linear | nn.Conv2d | nn.LayerNorm) and module.bias is not None:
        nn.init.zeros_(module.bias)


class ReducedAttention(nn.Module):
    """Attention whose keys and values come from a smaller copy of their map (the paper's equation 2).

    channels: of both maps. heads: divides them. reduction: side of the squares of the source that become
    one key and one value. bias: of the projections to queries, keys and values.

    ``kv`` makes the keys in its first ``channels`` rows and the values in the others.
    """

    def __init__(self, channels: int, heads: int, reduction: int = 1, *, bias: bool = True):
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(channels, channels, bias=bias)
        self.kv = nn.Linear(channels, 2 * channels, bias=bias)
        self.reduce = nn.Conv2d(channels, channels, reduction, stride=reduction) if reduction > 1 else None
        self.reduce_norm = nn.LayerNorm(channels) if reduction > 1 else None
        self.proj = nn.Linear(channels, channels)

    def attend(self, query: Tensor, source: Tensor) -> Tensor:
        """What each position of ``query`` finds in ``source``, before the last projection.

        query: grid (B, h, w, C). source: grid (B, h', w', C), at least ``reduction`` high and wide; what
        is left over at its lower and right border is not looked at. Returns (B, h, w, C).
        """
        if self.reduce is not None and self.reduce_norm is not None:
            source = self.reduce_norm(to_grid(self.reduce(to_map(source))))
        queries = self.q(query).flatten(1, 2).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        both = self.kv(source).flatten(1, 2).unflatten(-1, (2, self.heads, -1))
        keys, values = both.permute(2, 0, 3, 1, 4).unbind(0)
        found = F.scaled_dot_product_attention(queries, keys, values)
        return found.transpose(1, 2).reshape(query.shape)

    def forward(self, query: Tensor, source: Tensor | None = None) -> Tensor:
        """Attention of a grid (B, h, w, C) to itself, or to another of as many channels."""
        return self.proj(self.attend(query, query if source is None else source))


class MixFFN(nn.Module):
    """A feed-forward layer that sees its neighbours, and so knows where it is (the paper's equation 3)."""

    def __init__(self, channels: int):
        super().__init__()
        hidden = EXPANSION * channels
        self.fc1 = nn.Linear(channels, hidden)
        self.dw = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.fc2 = nn.Linear(hidden, channels)

    def forward(self, grid: Tensor) -> Tensor:
        """(B, h, w, C) -> (B, h, w, C)."""
        return self.fc2(F.gelu(to_grid(self.dw(to_map(self.fc1(grid))))))


class MixBlock(nn.Module):
    """Attention and a feed-forward layer, each on the normed grid and added to it.

    drop_path: the share of training samples that skip each of the two (stochastic depth).
    """

    def __init__(self, channels: int, heads: int, reduction: int, drop_path: float = 0.0):
        super().__init__()
        self.norm1 = nn.LayerNorm(channels, eps=BLOCK_NORM_EPS)
        self.attn = ReducedAttention(channels, heads, reduction)
        self.norm2 = nn.LayerNorm(channels, eps=BLOCK_NORM_EPS)
        self.ffn = MixFFN(channels)
        self.drop_path = DropPath(drop_path)

    def forward(self, grid: Tensor) -> Tensor:
        """(B, h, w, C) -> (B, h, w, C)."""
        grid = grid + self.drop_path(self.attn(self.norm1(grid)))
        return grid + self.drop_path(self.ffn(self.norm2(grid)))


class OverlapEmbed(nn.Module):
    """A strided convolution whose windows overlap, and a norm: the start of a level (section 3.1)."""

    def __init__(self, inputs: int, channels: int, kernel: int, stride: int):
        super().__init__()
        self.proj = nn.Conv2d(inputs, channels, kernel, stride=stride, padding=kernel // 2)
        self.norm = nn.LayerNorm(channels)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C', H, W) -> grid (B, h, w, C), of a stride-th of the size, rounded up."""
        return self.norm(to_grid(self.proj(features)))


class MixTransformer(PyramidEncoder):
    """The Mix Transformer of one size, on images of three channels and at least 29 pixels a side.

    size: depths and channels; `SIZES` has the paper's by name. drop_path: the rate of stochastic depth of
    the last block; it rises to it linearly, from 0 in the first. stage2_rate_of: if a number n, all blocks
    of stage 2 have the rate that the ramp has at its n-th block, counted from 0, as in AMDANet's published
    code.

    Parameters: ``embed1.proj``, ``embed1.norm``, ``stage1.0.norm1``, ``stage1.0.attn.q``, ..., ``norm1``,
    and so on for four levels. One of size B1 has 13,151,424, B4 60,842,688. They start as the authors', but
    that the bias of ``embed1.proj`` is drawn like a linear layer's weight.
    """

    heads = HEADS
    ends_in_norm = True

    def __init__(
        self, size: MixTransformerSize, *, drop_path: float = 0.1, stage2_rate_of: int | None = None
    ):
        super().__init__()
        self.channels = self.embed_channels = size.channels
        rates = depth_rates(size.depths, drop_path, stage2_rate_of)
        inputs = (3, *size.channels[:-1])
        for level, before, channels, heads, reduction, level_rates in zip(
            LEVELS, inputs, size.channels, HEADS, REDUCTIONS, rates, strict=True
        ):
            kernel, stride = (7, 4) if level == 1 else (3, 2)
            blocks = [MixBlock(channels, heads, reduction, rate) for rate in level_rates]
            self.add_module(f"embed{level}", OverlapEmbed(before, channels, kernel, stride))
            self.add_module(f"stage{level}", nn.Sequential(*blocks))
            self.add_module(f"norm{level}", nn.LayerNorm(channels, eps=BLOCK_NORM_EPS))
        self.apply(initialise)
        # Else every token of a black image is 0 in every block, where each norm multiplies gradients by up to
        # 1000: they end beyond float32. The random state is left as it was.
        with torch.random.fork_rng(devices=[]):
            nn.init.trunc_normal_(self.get_parameter("embed1.proj.bias"), std=0.02)

    def embed(self, level: int, features: Tensor) -> Tensor:
        return to_map(getattr(self, f"embed{level}")(features))

    def blocks(self, level: int, features: Tensor) -> Tensor:
        grid = getattr(self, f"stage{level}")(to_grid(features))
        return to_map(getattr(self, f"norm{level}")(grid))


def depth_rates(depths: tuple[int, ...], last: float, stage2_rate_of: int | None = None) -> list[list[float]]:
    """Stochastic depth's rate of every block of every stage: a linear ramp from 0 to ``last``.

    stage2_rate_of: as in `MixTransformer`. Raises OptionError if it is not a block that follows the start
    of stage 2.
    """
    ramp = [last * block / (sum(depths) - 1) for block in range(sum(depths))]
    starts = [sum(depths[:stage]) for stage in range(len(depths))]
    rates = [ramp[start : start + depth] for start, depth in zip(starts, depths, strict=True)]
    if stage2_rate_of is not None:
        if not 0 <= stage2_rate_of < len(ramp) - starts[1]:
            raise OptionError(
                f"stage2_rate_of must be the number of a block from stage 2 on, not {stage2_rate_of}; "
                "AMDANet's published code has 0 and 1"
            )
        rates[1] = [ramp[starts[1] + stage2_rate_of]] * depths[1]
    return rates
