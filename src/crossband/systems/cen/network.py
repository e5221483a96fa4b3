"""CEN: two streams with the same convolutions, which trade channels inside every block of their encoders.

Papers: Wang, Huang, Sun, Xu, Rong, Huang, "Deep Multimodal Fusion by Channel Exchanging", NeurIPS 2020
(arXiv 2011.05005), and Wang, Sun, Huang, He, Tao, "Channel Exchanging Networks for Multimodal and Multitask
Dense Image Prediction", TPAMI 2022 (arXiv 2112.02252). None of the authors' code (yikaiw/CEN, its folder
semantic_segmentation) is used here: this is written from a description of it in words and formulas. The
licences of their code and weights were not checked. Where paper and code differ, the values are the code's;
docs/systems/cen.md lists every decision.

Both streams run through one RefineNet: all convolutions are shared, each stream has its own batch norms in
the encoder. Where a stream's batch norm scales a channel below a threshold, the channel is replaced by the
other stream's. The prediction is a weighted sum of the two streams' logits. Either stream also runs alone,
without exchange; the authors did not design that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from crossband.blocks.band_input import BandInput
from crossband.blocks.decoders import upsample
from crossband.blocks.encoder_weights import load_encoder_weights
from crossband.blocks.encoders import encoder_stages, five_stage_encoder, smp_name, unread_modules
from crossband.blocks.exchange import exchange_channels, small_gammas
from crossband.blocks.norm_site import check_sites, run_stage_pair, site_norms
from crossband.blocks.tied import copy_weights, tie
from crossband.option_ranges import NOT_NEGATIVE, SHARE_BELOW_1, Range
from crossband.systems.base import NetworkSettings, Output, System
from crossband.systems.cen.refinenet import RefineNetDecoder
from crossband.systems.registry import in_words
from crossband.words import Bands, Support

OUTPUT_STRIDE = 32
LEVELS = 4


class StreamEnsemble(nn.Module):
    """The weighted sum of two streams' logits, with weights that a softmax of two trained scalars gives."""

    def __init__(self) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(2))

    def forward(self, visible: Tensor, infrared: Tensor) -> Tensor:
        """Two times logits (B, C, h, w) -> logits. Only ``alpha`` gets a gradient through it."""
        of_visible, of_infrared = self.alpha.softmax(dim=0).unbind()
        return of_visible * visible.detach() + of_infrared * infrared.detach()


@dataclass(frozen=True, kw_only=True)
class CENSettings(NetworkSettings):
    """encoder: what finds features in both streams, which start alike. Any ResNet, RegNet, MobileNet or
        EfficientNet of smp or timm; see `crossband.blocks.norm_site` for where each exchanges channels.
    encoder_weights: what both streams start from: None is random, "imagenet" weights that were trained there,
        or the path of a file with such weights.
    decoder_channels: channels of the decoder's three finer levels, which take most of the memory; the
        coarsest has twice as many.
    dropout: the share of values in the two coarsest maps and before the classes that is left out at random in
        training, in [0, 1).
    inplace_relu: whether a residual unit adds its input after the first ReLU, as the published code computes,
        or the input itself; see `refinenet.ResidualUnits`.

    exchange: whether the streams exchange channels at all. exchange_threshold: a channel whose batch norm
        scales it by less than this, |gamma|, is replaced by the other stream's; 0 replaces none.
    freeze_bn: keep the encoders' batch norms at the statistics they start with, as published; their scales
        and shifts are trained all the same. False lets each stream collect its own band's statistics.
    """

    encoder: str = "resnet50"
    encoder_weights: str | Path | None = None
    decoder_channels: int = 256
    dropout: float = 0.5
    inplace_relu: bool = True
    exchange: bool = True
    exchange_threshold: float = 0.02
    freeze_bn: bool = False

    ranges: ClassVar[Mapping[str, Range]] = {"dropout": SHARE_BELOW_1, "exchange_threshold": NOT_NEGATIVE}


@dataclass
class CENFeatures:
    """stages: the (visible, infrared) maps of the encoder's five stages."""

    stages: list[tuple[Tensor, Tensor]]


class CEN(System):
    """CEN. Raises OptionError for encoders that cannot exchange inside blocks."""

    name = "cen"
    summary, paper = in_words(name)
    built_from = CENSettings
    trained_by = "crossband.systems.cen.training:CENTraining"
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {"as-published": {"freeze_bn": True}}
    multiple = OUTPUT_STRIDE
    supports: Mapping[Bands, Support] = {"both": "designed", "infrared": "fallback", "visible": "fallback"}

    def __init__(self, classes: int | None, settings: CENSettings):
        super().__init__(classes, settings)
        classes = self.need_classes(classes)
        self.band_input = BandInput(settings.encoder)
        self.visible = _build_encoder(settings.encoder)
        self.infrared = _build_encoder(settings.encoder)
        if settings.encoder_weights is not None:
            load_encoder_weights(self.visible, smp_name(settings.encoder), settings.encoder_weights)
        copy_weights(self.visible, self.infrared)
        tie(self.visible, self.infrared)
        self.decoder = RefineNetDecoder(
            self.visible.out_channels[-LEVELS:],  # type: ignore[arg-type, index]
            classes,
            settings.decoder_channels,
            dropout=settings.dropout,
            inplace_relu=settings.inplace_relu,
        )
        self.ensemble = StreamEnsemble()
        self.train()

    def train(self, mode: bool = True) -> CEN:
        super().train(mode)
        if self.settings.freeze_bn:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def run(self, visible: Tensor | None, infrared: Tensor | None, *, features: bool) -> Output:
        if visible is None or infrared is None:
            band, encoder, image = (
                ("infrared", self.infrared, infrared)
                if visible is None
                else ("visible", self.visible, visible)
            )
            assert image is not None
            logits = upsample(self.decoder(encoder(self.band_input(image))[-LEVELS:]), image.shape[-2:])
            return Output(logits, branches={band: logits} if features else {})
        size = visible.shape[-2:]
        maps = self._encode(self.band_input(visible), self.band_input(infrared))
        # The decoder has no batch norm: it takes both streams as one batch.
        both = self.decoder([torch.cat(pair) for pair in maps[-LEVELS:]])
        streams = both[: visible.shape[0]], both[visible.shape[0] :]
        output = Output(upsample(self.ensemble(*streams), size))
        if features:
            output.branches = {
                "visible": upsample(streams[0], size),
                "infrared": upsample(streams[1], size),
            }
            output.features = CENFeatures(maps)
        return output

    def _encode(self, visible: Tensor, infrared: Tensor) -> list[tuple[Tensor, Tensor]]:
        """(visible, infrared) maps of the encoder's five stages."""
        if not self.settings.exchange:
            return list(zip(self.visible(visible)[1:], self.infrared(infrared)[1:], strict=True))
        maps = []
        for layers in zip(encoder_stages(self.visible), encoder_stages(self.infrared), strict=True):
            visible, infrared = run_stage_pair(*layers, visible, infrared, self._exchange_channels)
            maps.append((visible, infrared))
        return maps

    def _exchange_channels(
        self, visible: Tensor, infrared: Tensor, visible_norm: _BatchNorm, infrared_norm: _BatchNorm
    ) -> tuple[Tensor, Tensor]:
        return exchange_channels(
            visible,
            infrared,
            small_gammas(visible_norm.weight, "absolute", self.settings.exchange_threshold),
            small_gammas(infrared_norm.weight, "absolute", self.settings.exchange_threshold),
        )

    def exchanged(self) -> dict[str, tuple[int, int]]:
        """Per stream, how many channels the other one's replace now, and of how many."""
        counts = {}
        for stream, encoder in (("visible", self.visible), ("infrared", self.infrared)):
            masks = [
                small_gammas(gamma, "absolute", self.settings.exchange_threshold) for gamma in gammas(encoder)
            ]
            counts[stream] = (sum(int(mask.sum()) for mask in masks), sum(mask.numel() for mask in masks))
        return counts

    def deployed(self, bands: Bands) -> list[nn.Module]:
        self.check_bands(bands)
        if bands == "both":
            return [self]
        return [self.infrared if bands == "infrared" else self.visible, self.decoder]

    def dead(self) -> list[nn.Module]:
        return [*unread_modules(self.visible), *unread_modules(self.infrared)]

    def encoders(self) -> list[nn.Module]:
        return [self.visible, self.infrared]


def _build_encoder(encoder: str) -> nn.Module:
    """An encoder of five stages whose blocks can exchange channels. Raises OptionError for any other."""
    network = five_stage_encoder(encoder)
    check_sites(encoder_stages(network), encoder)
    return network


def gammas(encoder: nn.Module) -> list[Tensor]:
    """The scales that decide which channels are exchanged, of all stages."""
    return [norm.weight for layers in encoder_stages(encoder) for norm in site_norms(layers)]
