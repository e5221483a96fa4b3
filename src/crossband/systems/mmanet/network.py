"""MMANet: both bands, or either alone, taught by a network that always has both.

Paper: Wei, Luo, Luo, "MMANet: Margin-Aware Distillation and Modality-Aware Regularization for Incomplete
Multimodal Learning", CVPR 2023 (arXiv 2304.08028). Body: ESANet (ICRA 2021, arXiv 2011.06961), see
`esanet.py`. The authors' code is public (shicaiwei123/MMANet-CVPR2023, MIT; the licence of its
weights is not stated there). Nothing of it is copied: this is written from formulas and held against what the
code does. docs/systems/mmanet.md lists where the sources differ, or the code has a defect.

An encoder per band; after the first convolution and after each stage their maps are weighed by channel and
added. The visible encoder goes on from the sum, the infrared one from its own map. In training each pair of
a batch may lose a band. A frozen teacher that never does shows the student how pixels relate (MAD), and a
second decoder, for training only, works on the pairs that lack what costs most (MAR).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from crossband.blocks.band_input import BandInput
from crossband.blocks.encoder_weights import load_encoder_weights
from crossband.blocks.encoders import encoder_stages, five_stage_encoder, run_stage, smp_name, unread_modules
from crossband.errors import OptionError
from crossband.systems.base import NetworkSettings, Output, System
from crossband.systems.mmanet.esanet import (
    ContextModule,
    ConvNormRelu,
    Decoded,
    Decoder,
    SqueezeExcitation,
    decoder_widths,
)
from crossband.systems.registry import in_words
from crossband.words import Bands, Support

DRAWS = ((True, False), (False, True), (True, True))
"""Of a pair in training, with equal chances: whether its visible and its infrared band are there."""


@dataclass(frozen=True, kw_only=True)
class MMANetSettings(NetworkSettings):
    """encoder: any convolutional encoder that runs in five stages, one per band, with weights of their own.
    encoder_weights: what both start from: None is random, "imagenet" weights that were trained there, or the
        path of a file with such weights. The infrared encoder has a single input channel; its first filters
        are the sums of the loaded ones over the colours.
    decoder_channels: channels of the context module and of the decoder's first step; later steps have fewer.
    context_bins: into how many rows and columns the context module divides the image, for each of its grids;
        1 is a mean over all of it.
    modality_dropout: whether pairs lose a band in training. False is the teacher, which is ESANet, by itself;
        it was never shown one band alone.

    Raises OptionError for grids of no cells.
    """

    encoder: str = "resnet50"
    encoder_weights: str | Path | None = None
    decoder_channels: int = 512
    context_bins: tuple[int, ...] = (1, 5)
    modality_dropout: bool = True

    def __post_init__(self) -> None:
        if min(self.context_bins, default=0) < 1:
            bins = list(self.context_bins)
            raise OptionError(f"mmanet: context_bins must be one number or more, each 1 or more, not {bins}")


@dataclass
class MMANetFeatures:
    """present: bool (B, 2), which pairs have their visible and their infrared band. context: the context
    module's map. skips: at 1/16, 1/8 and 1/4. decoder: the first step's output. logits: of the padded size.
    sides: coarser logits, at 1/8, 1/16 and 1/32."""

    present: Tensor
    context: Tensor
    skips: list[Tensor]
    decoder: Tensor
    logits: Tensor
    sides: list[Tensor]


class MMANet(System):
    """MMANet. Raises OptionError for encoders that do not run in five stages."""

    name = "mmanet"
    summary, paper = in_words(name)
    built_from = MMANetSettings
    trained_by = "crossband.systems.mmanet.training:MMANetTraining"
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "nyuv2": {},
        "cityscapes": {"context_bins": (1, 2, 4, 8)},
    }
    multiple = 32

    def __init__(self, classes: int | None, settings: MMANetSettings):
        super().__init__(classes, settings)
        classes, encoder, width = self.need_classes(classes), settings.encoder, settings.decoder_channels
        alone: Support = "designed" if settings.modality_dropout else "fallback"
        self.supports: Mapping[Bands, Support] = {"both": "designed", "infrared": alone, "visible": alone}
        self.band_input = BandInput(encoder)
        self.visible, self.infrared = (five_stage_encoder(encoder, channels=channels) for channels in (3, 1))
        if settings.encoder_weights is not None:
            load_encoder_weights(self.visible, smp_name(encoder), settings.encoder_weights)
            _start_from(self.infrared, self.visible)
        channels: Sequence[int] = self.visible.out_channels[1:]  # type: ignore[index, assignment]
        self.visible_gates = nn.ModuleList(map(SqueezeExcitation, channels))
        self.infrared_gates = nn.ModuleList(map(SqueezeExcitation, channels))
        self.skips = nn.ModuleList(
            ConvNormRelu(inputs, outputs, 1)
            for inputs, outputs in zip(channels[3:0:-1], decoder_widths(width), strict=True)
        )
        self.context = ContextModule(channels[4], width, settings.context_bins)
        self.decoder = Decoder(classes, width)

    def run(self, visible: Tensor | None, infrared: Tensor | None, *, features: bool) -> Output:
        present = None
        if visible is not None and infrared is not None and self.training and self.settings.modality_dropout:
            choice = torch.randint(len(DRAWS), (len(visible),), device=visible.device)
            present = torch.tensor(DRAWS, device=visible.device)[choice]
        maps = self.encode(visible, infrared, present)
        context = self.context(maps[4])
        skips = [skip(x) for skip, x in zip(self.skips, maps[3:0:-1], strict=True)]
        decoded: Decoded = self.decoder(context, skips, sides=features)
        output = Output(decoded.logits)
        if features:
            if present is None:
                given = torch.tensor([visible is not None, infrared is not None], device=context.device)
                present = given.expand(len(context), 2)
            output.features = MMANetFeatures(
                present, context, skips, decoded.first, decoded.logits, decoded.sides
            )
        return output

    def encode(
        self, visible: Tensor | None, infrared: Tensor | None, present: Tensor | None = None
    ) -> list[Tensor]:
        """The fused maps of the first convolution and of the four stages, at 1/2 to 1/32.

        visible: (B, 3, H, W), infrared: (B, 1, H, W), H and W multiples of 32. The encoder of a band that is
        None does not run. present: bool (B, 2), which pairs have their visible and their infrared band,
        where both are given; None for all.
        """
        x = None if visible is None else self.band_input(visible)
        y = None if infrared is None else self._normalise_infrared(infrared)
        maps = []
        stages = zip(encoder_stages(self.visible), encoder_stages(self.infrared), strict=True)
        for level, (visible_layers, infrared_layers) in enumerate(stages):
            summands = []
            if x is not None:
                x = run_stage(visible_layers, x)
                summands.append(self.visible_gates[level](_kept(x, present, 0)))
            if y is not None:
                y = run_stage(infrared_layers, y)
                summands.append(self.infrared_gates[level](_kept(y, present, 1)))
            maps.append(summands[0] if len(summands) == 1 else summands[0] + summands[1])
            if x is not None:
                x = maps[-1]
        return maps

    def _normalise_infrared(self, infrared: Tensor) -> Tensor:
        """One channel, with the mean of the colours' means and deviations."""
        return (infrared - self.band_input.mean.mean()) / self.band_input.std.mean()

    def deployed(self, bands: Bands) -> list[nn.Module]:
        """Infrared alone runs neither the visible encoder nor its gates, and visible alone the reverse.

        Counted as published, with the decoder's side outputs, which inference does not call.
        """
        self.check_bands(bands)
        if bands == "both":
            return [self]
        own = (
            (self.infrared, self.infrared_gates)
            if bands == "infrared"
            else (self.visible, self.visible_gates)
        )
        return [*own, self.context, self.skips, self.decoder]

    def dead(self) -> list[nn.Module]:
        return [*unread_modules(self.visible), *unread_modules(self.infrared)]

    def encoders(self) -> list[nn.Module]:
        return [self.visible, self.infrared]


def _start_from(encoder: nn.Module, colour: nn.Module) -> None:
    """Give a one-channel encoder the weights of a three-channel one, its first filters summed over colour."""
    ours, theirs = encoder.state_dict(), colour.state_dict()
    state = {
        key: value if value.shape == ours[key].shape else value.sum(dim=1, keepdim=True)
        for key, value in theirs.items()
    }
    nn.Module.load_state_dict(encoder, state)


def _kept(x: Tensor, present: Tensor | None, band: int) -> Tensor:
    """A band's map (B, C, h, w), exactly 0 for the pairs that lost it. Gates let zeros through as zeros."""
    return x if present is None else x * present[:, band, None, None, None]
