"""A network that fuses luma and infrared, and asks a segmentation network's features where to look.

Paper: Liu et al., "Multi-interactive Feature Learning and a Full-time Multi-modality Benchmark for Image
Fusion and Segmentation" (SegMiF), ICCV 2023. Written from a description in words of the published code.

The attention of `SemanticInteraction` is linear in the pixels: its keys and values meet in small matrices, in
which all pixels are summed up, and no pixel is compared with another.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crossband.blocks.decoders import upsample
from crossband.blocks.mix_transformer import initialise, to_grid, to_map
from crossband.tensors import at_least_float32, without_autocast

HEAD_WIDTH = 8
Interaction = Literal["replaces", "adds"]


class DilatedDenseBlock(nn.Module):
    """DRDB: dilated 3 x 3 convolutions, each on all maps before it, and a residual.

    x + ReLU(1 x 1 of [x, d_1, ..., d_n]) with d_i = ReLU(3 x 3, dilation 2, of [x, d_1, ..., d_{i-1}]).
    With 64 channels, growth 32 and five convolutions it has 198,880 parameters.
    """

    def __init__(self, channels: int, growth: int, convolutions: int = 5):
        super().__init__()
        self.grow = nn.ModuleList(
            nn.Conv2d(channels + index * growth, growth, 3, padding=2, dilation=2)
            for index in range(convolutions)
        )
        self.shrink = nn.Conv2d(channels + convolutions * growth, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        maps = x
        for convolution in self.grow:
            maps = torch.cat([maps, F.relu(convolution(maps))], dim=1)
        return x + F.relu(self.shrink(maps))


class SemanticInteraction(nn.Module):
    """HIA, the hierarchical interactive attention of both bands and a semantic map.

    Of the visible map V, the infrared one I and the semantic one S, each goes through its own linear layer
    and ReLU and is split into two halves y and u. With C(t) = softmax over rows of k^T v / sqrt(d), where k
    and v are linear in t, per head of d = 8 channels (the sums are over all pixels):

        p_m = y_S C(y_m),  o_m = u_m C(u_S),  out_m = LayerNorm(x_m + linear [p_m; o_m])   for m = V, I

    k^T v grows with the number of pixels, as published, so that the softmax is sharp for large images. It is
    computed in float32 whatever the precision. As k = t K and v = t U, k^T v is K^T (t^T t) U, and the last
    linear layer can be applied to the small matrices C: neither k, v, p nor o is ever made. 66,304 parameters
    for 64 channels. It starts as the Mix Transformer's linear layers do: with small weights, so that no
    softmax is near a choice, and without biases. channels: a multiple of 8, the width of a head.
    """

    def __init__(self, channels: int):
        super().__init__()
        for source in ("visible", "infrared", "semantic"):
            self.add_module(f"{source}_halves", nn.Linear(channels, 2 * channels))
            self.add_module(f"{source}_kv", nn.Linear(channels, 2 * channels, bias=False))
        for band in ("visible", "infrared"):
            self.add_module(f"{band}_end", nn.Linear(2 * channels, channels))
            self.add_module(f"{band}_norm", nn.LayerNorm(channels))
        self.apply(initialise)

    def forward(self, visible: Tensor, infrared: Tensor, semantic: Tensor) -> tuple[Tensor, Tensor]:
        """Three grids (B, h, w, C) -> the two bands' grids, of the same shape."""
        semantic_y, semantic_u = self._halves("semantic", semantic)
        common = self._context("semantic", semantic_u)
        results = []
        for band, grid in (("visible", visible), ("infrared", infrared)):
            y, u = self._halves(band, grid)
            end: nn.Linear = getattr(self, f"{band}_end")
            of_semantic, of_band = end.weight.chunk(2, dim=1)
            found = _matmul(semantic_y, _through(self._context(band, y), of_semantic))
            found = found + _matmul(u, _through(common, of_band)) + end.bias
            results.append(getattr(self, f"{band}_norm")(grid + found))
        return results[0], results[1]

    def _halves(self, source: str, grid: Tensor) -> tuple[Tensor, Tensor]:
        y, u = F.relu(getattr(self, f"{source}_halves")(grid)).chunk(2, dim=-1)
        return y, u

    def _context(self, source: str, grid: Tensor) -> Tensor:
        """C(t) of a grid (B, h, w, C): (B, heads, d, d), columns that sum to 1."""
        with without_autocast(grid):
            tokens = at_least_float32(grid).flatten(1, 2)
            gram = tokens.transpose(1, 2) @ tokens
            both: nn.Linear = getattr(self, f"{source}_kv")
            keys, values = at_least_float32(both.weight).unflatten(0, (2, -1, HEAD_WIDTH)).unbind()
            products = torch.einsum("hkc,bce,hve->bhkv", keys, gram, values)
            return (products / math.sqrt(HEAD_WIDTH)).softmax(dim=-2)


def _through(context: Tensor, weight: Tensor) -> Tensor:
    """(B, C, C') that does to a row of C channels what a context and then a linear layer (C', C) do."""
    with without_autocast(context):
        slices = at_least_float32(weight).unflatten(1, (-1, HEAD_WIDTH))
        return torch.einsum("bhkv,ohv->bhko", context, slices).flatten(1, 2)


def _matmul(grid: Tensor, matrices: Tensor) -> Tensor:
    """Every row of a grid (B, h, w, C) times the matrix (B, C, C') of its image."""
    return (grid.flatten(1, 2) @ matrices.to(grid.dtype)).unflatten(1, grid.shape[1:3])


class SemanticFusion(nn.Module):
    """SegMiF's fusion network: luma, infrared and two semantic maps -> one grey picture.

    Per band a 3 x 3 convolution, and two rounds of a dense block and the interaction with a semantic map;
    then three 3 x 3 convolutions on both. A PReLU with one weight, which all share, follows the 3 x 3
    convolutions.

    semantic_channels: of the two semantic maps. width: 64 as published. interaction: whether what it gives
    "replaces" the maps that went in, as published (it has them within), or "adds" to them.
    shared_interaction: both rounds use one interaction. unused_interaction: keep the second one all the same,
    as the published network does.
    """

    def __init__(
        self,
        semantic_channels: Sequence[int],
        width: int = 64,
        *,
        interaction: Interaction = "replaces",
        shared_interaction: bool = True,
        unused_interaction: bool = True,
    ):
        super().__init__()
        self.interaction: Interaction = interaction
        self.shared_interaction = shared_interaction
        self.activation = nn.PReLU()
        self.visible_stem = nn.Conv2d(1, width, 3, padding=1)
        self.infrared_stem = nn.Conv2d(1, width, 3, padding=1)
        for band in ("visible", "infrared"):
            for number in (1, 2):
                self.add_module(f"{band}_dense{number}", DilatedDenseBlock(width, width // 2))
        self.semantic1 = nn.Conv2d(semantic_channels[0], width, 1)
        self.semantic2 = nn.Conv2d(semantic_channels[1], width, 1)
        self.interaction1 = SemanticInteraction(width)
        second = unused_interaction or not shared_interaction
        self.interaction2 = SemanticInteraction(width) if second else None
        self.mix1 = nn.Conv2d(2 * width, width, 3, padding=1)
        self.mix2 = nn.Conv2d(width, width // 2, 3, padding=1)
        self.mix3 = nn.Conv2d(width // 2, 1, 3, padding=1)
        # The picture starts in the middle of its range: one below 0 is black and has no gradient of classes.
        assert self.mix3.bias is not None
        nn.init.constant_(self.mix3.bias, 0.5)

    def forward(self, luma: Tensor, infrared: Tensor, semantic: Sequence[Tensor]) -> Tensor:
        """(B, 1, H, W), twice, and two maps (B, C, h, w) of any size -> (B, 1, H, W), about in [0, 1]."""
        size = luma.shape[-2:]
        x = self.activation(self.visible_stem(luma))
        y = self.activation(self.infrared_stem(infrared))
        for number, seen in zip((1, 2), semantic, strict=True):
            x = getattr(self, f"visible_dense{number}")(x)
            y = getattr(self, f"infrared_dense{number}")(y)
            # A 1 x 1 convolution and bilinear upsampling commute; the small map is the cheaper one.
            meaning = upsample(getattr(self, f"semantic{number}")(seen), size)
            own = None if self.shared_interaction or number == 1 else self.interaction2
            found = (own or self.interaction1)(to_grid(x), to_grid(y), to_grid(meaning))
            # In one piece: in channels-last memory, gradients of narrow dilated convolutions are not finite
            # in bfloat16 on CPUs.
            of_x, of_y = (to_map(grid).contiguous() for grid in found)
            x, y = (x + of_x, y + of_y) if self.interaction == "adds" else (of_x, of_y)
        fused = torch.cat([x, y], dim=1)
        for convolution in (self.mix1, self.mix2, self.mix3):
            fused = self.activation(convolution(fused))
        return fused
