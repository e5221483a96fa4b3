"""AMDANet's two decoders: SegFormer's for classes, and one that paints the fused picture.

Segmentation: Xie et al., "SegFormer", NeurIPS 2021 (arXiv 2105.15203), equation 4, with a 1 x 1 convolution
where theirs has a linear layer. Fusion: as in AMDANet's published code, which has it from MRFS (CVPR 2024).

Both compute what their formulas say in another order. A 1 x 1 convolution, a sum over levels and bilinear
upsampling are linear and commute: so each level is brought to its last width at its own resolution, and
nothing wide is made at the finest one. Batch norms are folded into the layer before them in evaluation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crossband.blocks.mix_transformer import to_grid, to_map
from crossband.blocks.pyramid_encoder import LEVELS

PICTURE_CHANNELS = 6


class HeadNorm(nn.BatchNorm2d):
    """A batch norm that may have another eps in evaluation than in training.

    AMDANet's published training script gives its heads' norms an eps that its test script does not.
    """

    def __init__(
        self, channels: int, *, eps: float = 1e-5, momentum: float = 0.1, evaluation_eps: float | None = None
    ):
        super().__init__(channels, eps=eps, momentum=momentum)
        self.evaluation_eps = eps if evaluation_eps is None else evaluation_eps

    def after(self, layer: Callable[[Tensor, Tensor], Tensor], weight: Tensor, bias: Tensor | None) -> Tensor:
        """The normed result (B, C, H, W) of a layer; in evaluation the layer is given the norm's part to do.

        layer: makes the result from a weight (C, ...) and a bias (C,), in both of which it is linear.
        """
        assert bias is not None
        if self.training:
            return self(layer(weight, bias))
        assert self.running_mean is not None
        assert self.running_var is not None
        scale = self.weight * torch.rsqrt(self.running_var + self.evaluation_eps)
        shape = (-1,) + (1,) * (weight.ndim - 1)
        return layer(weight * scale.view(shape), (bias - self.running_mean) * scale + self.bias)


class SegmentationDecoder(nn.Module):
    """Four grids -> logits at the first one's resolution.

    Each level is embedded in ``width`` channels and brought to level 1's resolution; the four, in the order
    4, 3, 2, 1, go through a 1 x 1 convolution, a norm and a ReLU, a dropout of whole channels, and a
    1 x 1 convolution to classes.

    channels: of the four grids. norm: arguments of `HeadNorm`. mixing_bias: whether the first 1 x 1
    convolution has a bias beside the norm's, as AMDANet's has and SegFormer's has not.
    """

    def __init__(
        self,
        channels: Sequence[int],
        classes: int,
        width: int = 512,
        *,
        dropout: float = 0.1,
        norm: dict[str, Any] | None = None,
        mixing_bias: bool = True,
    ):
        super().__init__()
        for level, inputs in zip(LEVELS, channels, strict=True):
            self.add_module(f"embed{level}", nn.Linear(inputs, width))
        self.fuse_conv = nn.Conv2d(4 * width, width, 1, bias=mixing_bias)
        self.fuse_bn = HeadNorm(width, **(norm or {}))
        self.dropout = nn.Dropout2d(dropout)
        self.classify = nn.Conv2d(width, classes, 1)
        initialise_head(self)

    def forward(self, grids: Sequence[Tensor]) -> Tensor:
        """Four grids (B, h, w, C), finest first -> (B, classes, h, w) of the finest."""
        embeds: list[nn.Linear] = [getattr(self, f"embed{level}") for level in LEVELS]

        def fuse(weight: Tensor, bias: Tensor) -> Tensor:
            slices = weight.flatten(1).chunk(4, dim=1)[::-1]
            # An upsampled constant is that constant, so that all biases can be added at level 1.
            for embed, part in zip(embeds, slices, strict=True):
                bias = bias + part @ embed.bias
            total = F.linear(grids[0], slices[0] @ embeds[0].weight, bias)
            for grid, embed, part in zip(grids[1:], embeds[1:], slices[1:], strict=True):
                coarse = to_map(F.linear(grid, part @ embed.weight))
                total += to_grid(upsample(coarse, total.shape[1:3]))
            return to_map(total)

        weight, bias = self.fuse_conv.weight, self.fuse_conv.bias
        fused = self.fuse_bn.after(fuse, weight, weight.new_zeros(len(weight)) if bias is None else bias)
        return self.classify(self.dropout(F.relu(fused, inplace=True)))


class FusionDecoder(nn.Module):
    """Two times four grids and the pictures -> one colour picture.

    Each grid goes through its own 1 x 1 convolution to ``width`` channels, a norm and a ReLU, and is brought
    to the picture's resolution. These, by level and visible first, and the pictures (visible, and infrared
    three times) go through a 3 x 3 convolution, a norm and a ReLU, and a 1 x 1 convolution and sigmoid.

    channels: of the four grids of each band. norm: arguments of `HeadNorm`.
    """

    def __init__(self, channels: Sequence[int], width: int = 16, *, norm: dict[str, Any] | None = None):
        super().__init__()
        self.width = width
        for level, inputs in zip(LEVELS, channels, strict=True):
            for band in ("rgb", "ir"):
                self.add_module(f"point{level}_{band}_conv", nn.Conv2d(inputs, width, 1))
                self.add_module(f"point{level}_{band}_bn", HeadNorm(width, **(norm or {})))
        self.conv = nn.Conv2d(8 * width + PICTURE_CHANNELS, width, 3, padding=1)
        self.bn = HeadNorm(width, **(norm or {}))
        self.out = nn.Conv2d(width, 3, 1)
        initialise_head(self)

    def forward(
        self,
        visible_grids: Sequence[Tensor],
        infrared_grids: Sequence[Tensor],
        visible: Tensor,
        infrared: Tensor,
    ) -> Tensor:
        """Four grids (B, h, w, C) per band, finest first, and pictures -> (B, 3, H, W) in (0, 1).

        visible: (B, 3, H, W). infrared: (B, 1, H, W).
        """
        pictures = torch.cat([visible, infrared], dim=1).contiguous(memory_format=torch.channels_last)
        levels = [
            torch.cat([self._point(level, "rgb", of_visible), self._point(level, "ir", of_infrared)], dim=1)
            for level, of_visible, of_infrared in zip(LEVELS, visible_grids, infrared_grids, strict=True)
        ]

        def mix(weight: Tensor, bias: Tensor) -> Tensor:
            *slices, last = weight.split([2 * self.width] * 4 + [PICTURE_CHANNELS], dim=1)
            # The infrared picture counts three times: once, with the sum of the three kernels.
            of_pictures = torch.cat([last[:, :3], last[:, 3:].sum(dim=1, keepdim=True)], dim=1)
            finest = upsample(levels[0], pictures.shape[-2:])
            mixed = F.conv2d(finest, slices[0], padding=1) + F.conv2d(pictures, of_pictures, bias, padding=1)
            # Level by level added to planes that lie in one piece, as the matrix products make them.
            mixed = mixed.contiguous()
            for level, part in zip(levels[1:], slices[1:], strict=True):
                mixed = upsampled_convolution(level, part, mixed)
            return mixed

        mixed = F.relu(self.bn.after(mix, self.conv.weight, self.conv.bias), inplace=True)
        return torch.sigmoid(self.out(mixed))

    def _point(self, level: int, band: str, grid: Tensor) -> Tensor:
        convolution: nn.Conv2d = getattr(self, f"point{level}_{band}_conv")
        norm: HeadNorm = getattr(self, f"point{level}_{band}_bn")
        pointed = norm.after(
            lambda weight, bias: to_map(F.linear(grid, weight.flatten(1), bias)),
            convolution.weight,
            convolution.bias,
        )
        return F.relu(pointed)


def upsample(coarse: Tensor, size: Sequence[int]) -> Tensor:
    """A map (B, C, h, w) at another size, bilinear, pixel centres at halves."""
    return F.interpolate(coarse, size=tuple(size), mode="bilinear", align_corners=False)


def upsampled_convolution(coarse: Tensor, weight: Tensor, added: Tensor) -> Tensor:
    """``added + conv2d(upsample(coarse, size), weight, padding=1)`` without making the upsampled map.

    coarse: (B, I, h, w). weight: (O, I, 3, 3). added: (B, O, H, W), whose size it is. Returns (B, O, H, W).

    Upsampling is a matrix along each side. So the channels are mixed first, for each of the nine taps, at
    the coarse resolution; then one matrix along each side upsamples, shifts and sums the three taps of that
    side. For large factors that is a fraction of the convolution's cost and of its memory.
    """
    (height, width), size = coarse.shape[-2:], added.shape[-2:]
    taps = torch.einsum("bihw,oiyx->boyhxw", coarse, weight).reshape(-1, 3 * height, 3 * width)
    down, across = _taps_matrix(taps, height, size[0]), _taps_matrix(taps, width, size[1])
    planes = torch.baddbmm(
        added.flatten(0, 1), down.expand(taps.shape[0], -1, -1), taps @ across.transpose(0, 1)
    )
    return planes.view(added.shape)


def _taps_matrix(like: Tensor, coarse: int, fine: int) -> Tensor:
    """(fine, 3 coarse): linear upsampling of a line, shifted by -1, 0 and 1 with zeros beyond its ends."""
    identity = torch.eye(coarse, dtype=like.dtype, device=like.device)
    upsampled = F.interpolate(identity[None], size=fine, mode="linear", align_corners=False)[0]
    padded = F.pad(upsampled, (1, 1))
    return torch.cat([padded[:, shift : shift + fine] for shift in range(3)]).transpose(0, 1)


def initialise_head(head: nn.Module) -> None:
    """The published random start of a head: Kaiming-normal convolutions; all else is PyTorch's own."""
    for module in head.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
