"""Encoders by name as pyramids of four levels: Mix Transformer, PVT v2, and convolutional networks.

PVT v2: Wang et al., "PVT v2: Improved Baselines with Pyramid Vision Transformer", Computational Visual Media
2022 (arXiv 2106.13797), network and weights of timm (Apache-2.0). It has the Mix Transformer's levels,
channels and reductions, and weights that may be used for any purpose. Convolutional networks are those of
`crossband.blocks.encoders`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import timm
import torch
from timm.models.regnet import RegStage
from torch import Tensor, nn

from crossband.blocks.encoder_weights import load_encoder_weights
from crossband.blocks.encoders import Layer, encoder_stages, five_stage_encoder, is_mix_transformer, smp_name
from crossband.blocks.mix_transformer import SIZES, MixTransformer, to_grid, to_map
from crossband.blocks.pyramid_encoder import LEVELS, PyramidEncoder
from crossband.errors import OptionError

__all__ = ["ConvolutionalPyramid", "PyramidEncoder", "PyramidVisionTransformer", "build_pyramid", "heads_for"]

HEAD_WIDTH = 64
_ADVICE = "use mit_b1, pvt_v2_b1, resnet34 or efficientnet-b3"


def build_pyramid(
    encoder: str,
    encoder_weights: str | Path | None = None,
    *,
    drop_path: float = 0.1,
    stage2_rate_of: int | None = None,
) -> PyramidEncoder:
    """An encoder as a pyramid, for images of three channels.

    encoder: ``mit_b0`` to ``mit_b5`` (or ``mit_tiny``, for tests), any ``pvt_v2_*`` of timm, or a
    convolutional encoder that runs as a chain of five stages, such as ``resnet34``, ``efficientnet-b3`` or
    ``mobilenet_v2``; of its stages, the first two are one level.
    encoder_weights: None for a random start, "imagenet", or the path of a local file.
    drop_path: highest rate of stochastic depth in a transformer; a convolutional encoder keeps its own.
    stage2_rate_of: as in `MixTransformer`, and for it alone.

    Raises OptionError for an encoder that does not exist or is no such pyramid, WeightsError for weights
    that cannot be had or do not fit.
    """
    bare = encoder.removeprefix("tu-")
    if is_mix_transformer(bare):
        if bare not in SIZES:
            raise OptionError(f"there is no encoder {encoder!r}; Mix Transformers are {', '.join(SIZES)}")
        network = MixTransformer(SIZES[bare], drop_path=drop_path, stage2_rate_of=stage2_rate_of)
        if encoder_weights is not None:
            load_encoder_weights(network, bare, encoder_weights)
        return network
    if stage2_rate_of is not None:
        raise OptionError(
            f"stage2_rate_of belongs to the Mix Transformer; leave it out for encoder {encoder!r}"
        )
    if bare.startswith("pvt_v2_"):
        return PyramidVisionTransformer(smp_name(bare), encoder_weights, drop_path)
    return ConvolutionalPyramid(smp_name(encoder), encoder_weights)


def heads_for(channels: int) -> int:
    """The number of heads that divides the channels and makes a head nearest to 64 wide, by ratio.

    24 channels: 1; 136: 2; 384: 6; 1536: 24.
    """
    divisors = [count for count in range(1, channels + 1) if channels % count == 0]
    return min(divisors, key=lambda count: abs(math.log(channels / count / HEAD_WIDTH)))


class PyramidVisionTransformer(PyramidEncoder):
    """timm's PVT v2, entered between a stage's overlapping patch embedding and its blocks.

    name: smp's name for it, ``tu-pvt_v2_b0`` and so on. Other arguments: as in `build_pyramid`.
    """

    ends_in_norm = True
    network: Any  # nn.Module says of its children only that they may be tensors

    def __init__(self, name: str, encoder_weights: str | Path | None, drop_path: float):
        super().__init__()
        network = timm.create_model(name.removeprefix("tu-"), num_classes=0, drop_path_rate=drop_path)
        if encoder_weights is not None:
            load_encoder_weights(network, name, encoder_weights)
        self.network = network
        self.channels = tuple(stage.norm.normalized_shape[0] for stage in self.network.stages)
        self.embed_channels = self.channels
        self.heads = tuple(stage.blocks[0].attn.num_heads for stage in self.network.stages)

    def embed(self, level: int, features: Tensor) -> Tensor:
        embedding = self.network.patch_embed if level == 1 else self.network.stages[level - 1].downsample
        return to_map(embedding(features))

    def blocks(self, level: int, features: Tensor) -> Tensor:
        # Not the stage's own forward: it ends with a copy out of channels-last memory.
        stage = self.network.stages[level - 1]
        grid = to_grid(features)
        tokens = grid.flatten(1, 2)
        for block in stage.blocks:
            tokens = block(tokens, grid.shape[1:3])
        return to_map(stage.norm(tokens).reshape(grid.shape))


class ConvolutionalPyramid(PyramidEncoder):
    """A convolutional encoder of five stages; its first two are the first level, each other one is a level.

    A level is cut after the last layer that makes the map smaller: the layers up to there are its embedding,
    the others, if there are any, its blocks. Layers that take part in no feature are left out.

    name: smp's name for it. encoder_weights: as in `build_pyramid`.
    """

    def __init__(self, name: str, encoder_weights: str | Path | None):
        super().__init__()
        encoder = five_stage_encoder(name, advice=_ADVICE)
        stages = encoder_stages(encoder)
        if encoder_weights is not None:
            load_encoder_weights(encoder, name, encoder_weights)
        encoder.eval()
        channels, embed_channels = [], []
        features = torch.zeros(1, 3, 64, 64)
        for level, layers in zip(LEVELS, [[*stages[0], *stages[1]], *stages[2:]], strict=True):
            modules = [module for layer in layers for module in _single_layers(layer)]
            maps = _run(modules, features)
            sizes = [features.shape[-1], *(each.shape[-1] for each in maps)]
            end = max(index for index in range(1, len(sizes)) if sizes[index] < sizes[index - 1])
            self.add_module(f"embed{level}", nn.Sequential(*modules[:end]))
            self.add_module(f"stage{level}", nn.Sequential(*modules[end:]))
            features = maps[-1]
            embed_channels.append(maps[end - 1].shape[1])
            channels.append(features.shape[1])
        self.channels, self.embed_channels = tuple(channels), tuple(embed_channels)
        self.heads = tuple(heads_for(count) for count in channels)
        self.train()

    def embed(self, level: int, features: Tensor) -> Tensor:
        return getattr(self, f"embed{level}")(features)

    def blocks(self, level: int, features: Tensor) -> Tensor:
        return getattr(self, f"stage{level}")(features)


class _Bound(nn.Module):
    """A block with the arguments that its encoder calls it with."""

    def __init__(self, layer: partial):
        super().__init__()
        self.block = layer.func
        self.arguments = layer.keywords

    def forward(self, features: Tensor) -> Tensor:
        return self.block(features, **self.arguments)


def _single_layers(layer: Layer) -> Iterator[nn.Module]:
    """The layers that a layer of `encoder_stages` is a chain of."""
    # Exactly a Sequential: some of timm's subclasses do more than call their layers in turn.
    if type(layer) is nn.Sequential or isinstance(layer, RegStage):
        for child in layer.children():
            yield from _single_layers(child)
    else:
        yield _Bound(layer) if isinstance(layer, partial) else layer  # type: ignore[misc]


@torch.no_grad()
def _run(modules: list[nn.Module], features: Tensor) -> list[Tensor]:
    """The maps after each module of a chain."""
    maps = []
    for module in modules:
        features = module(features)
        maps.append(features)
    return maps
