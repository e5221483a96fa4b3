"""A second end for an encoder: a copy of its last stages, which reads the map that they read."""

from __future__ import annotations

import copy
from functools import partial

from torch import Tensor, nn

from crossband.blocks.encoders import encoder_stages, stage_modules


class EncoderTail(nn.Module):
    """A copy of an encoder's stages from one of them on, with weights and batch norms of its own.

    It starts as what is copied: at the same weights, with the same dilation, and with the rates of
    stochastic depth that the blocks have at their place in the encoder.

    encoder: an smp encoder. first: the first stage that is copied, from 1 to 5.
    Raises OptionError for an encoder that does not run as a chain of five stages.
    """

    def __init__(self, encoder: nn.Module, first: int):
        super().__init__()
        stages = encoder_stages(encoder)[first - 1 :]
        self.stages = nn.ModuleList(
            nn.ModuleList(copy.deepcopy(module) for module in stage_modules(layers)) for layers in stages
        )
        # A block is called with what its encoder calls it with, such as its rate of stochastic depth.
        self._arguments = [
            [layer.keywords if isinstance(layer, partial) else {} for layer in layers] for layers in stages
        ]

    def forward(self, features: Tensor) -> list[Tensor]:
        """The map (B, C, h, w) that the first copied stage reads -> the maps that the stages give."""
        maps = []
        for stage, arguments in zip(self.stages, self._arguments, strict=True):
            for module, keywords in zip(stage, arguments, strict=True):  # type: ignore[call-overload]
                features = module(features, **keywords)
            maps.append(features)
        return maps
