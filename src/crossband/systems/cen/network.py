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
from crossband.errors import OptionError
from crossband.losses.segmentation import cross_entropy
from crossband.pairs.batch import Batch
from crossband.recipe import Recipe
from crossband.systems.base import Output, Phase, System
from crossband.systems.cen.refinenet import RefineNetDecoder
from crossband.systems.cen.sparsity import halved_sparsity
from crossband.words import Bands, Support

OUTPUT_STRIDE = 32
LEVELS = 4
OUTPUTS = 3
"""Visible, infrared and their ensemble: each has a loss, and the published code adds the penalty to each."""

_RECIPE: dict[str, object] = {
    "epochs": 200,
    "batch_size": 8,
    "lr": 5e-4,
    "weight_decay": 1e-5,
    "nesterov": False,
    "schedule": "drops",
    "drops": (1.0, 0.5, 0.2),
    "groups": {"decoder": {"lr": 3e-3, "drops": (1.0, 0.5, 0.7 / 3)}},
}
RECIPES: dict[str, Mapping[str, object]] = {
    "paper": _RECIPE,
    "as-published": {**_RECIPE, "epochs": 300, "batch_size": 6},
    # The decoder has no norms: at the high rate of a short run it needs its gradients clipped.
    "quick": {"groups": {"decoder": {"clip_norm": 1.0}}},
}
"""The rates of the published code, over the epochs of CSK-Net's comparison and over the code's own."""

AUGMENTATIONS: dict[str, Mapping[str, object]] = {
    "paper": {"crop": (480, 480), "scale": (0.5, 2.0)},
    "as-published": {"crop": (500, 500), "scale": (0.5, 2.0)},
}


class StreamEnsemble(nn.Module):
    """The weighted sum of two streams' logits, with weights that a softmax of two trained scalars gives."""

    def __init__(self) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(2))

    def forward(self, visible: Tensor, infrared: Tensor) -> Tensor:
        """Two times logits (B, C, h, w) -> logits. Only ``alpha`` gets a gradient through it."""
        of_visible, of_infrared = self.alpha.softmax(dim=0).unbind()
        return of_visible * visible.detach() + of_infrared * infrared.detach()


class CEN(System):
    """CEN. classes: number of classes.

    encoder, encoder_weights: of both streams, which start alike. Any ResNet, RegNet, MobileNet or
        EfficientNet of smp or timm; see `crossband.blocks.norm_site` for where each exchanges channels.
    decoder_channels: width of the decoder's three finer levels; the coarsest has twice as many.
    dropout: of values in the two coarsest maps and before the classes.
    inplace_relu: see `refinenet.ResidualUnits`; True is what the published code computes.

    exchange: whether the streams exchange channels at all. exchange_threshold: of |gamma|, below which a
        channel is replaced by the other stream's.
    sparsity_weight: lambda, of the penalty in each of the three losses; its effect is three times that.
    freeze_bn: keep the encoders' batch norms at the statistics they start with, as published; their scales
        and shifts are trained all the same. False lets each stream collect its own band's statistics.

    Raises OptionError for values that do not exist and for encoders that cannot exchange inside blocks.
    """

    name = "cen"
    summary = "CEN: two RefineNet streams that exchange channels by the scales of their batch norms"
    paper = "Wang et al., TPAMI 2022, arXiv 2112.02252"
    multiple = OUTPUT_STRIDE
    supports: Mapping[Bands, Support] = {"both": "designed", "infrared": "fallback", "visible": "fallback"}
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"as-published": {"freeze_bn": True}}
    recipes: ClassVar[Mapping[str, Mapping[str, Any]]] = RECIPES
    augmentations: ClassVar[Mapping[str, Mapping[str, Any]]] = AUGMENTATIONS

    def __init__(
        self,
        classes: int | None,
        *,
        encoder: str = "resnet50",
        encoder_weights: str | Path | None = None,
        decoder_channels: int = 256,
        dropout: float = 0.5,
        inplace_relu: bool = True,
        exchange: bool = True,
        exchange_threshold: float = 0.02,
        sparsity_weight: float = 2e-4,
        freeze_bn: bool = False,
    ):
        super().__init__()
        classes = self.need_classes(classes)
        if not 0 <= dropout < 1:
            raise OptionError(f"cen: dropout must lie in [0, 1), not {dropout}")
        for argument, value in (
            ("exchange_threshold", exchange_threshold),
            ("sparsity_weight", sparsity_weight),
        ):
            # Written so that NaN fails too.
            if not 0 <= value < float("inf"):
                raise OptionError(f"cen: {argument} must be 0 or more, not {value}")
        self.exchange = exchange
        self.exchange_threshold = exchange_threshold
        self.sparsity_weight = sparsity_weight
        self.freeze_bn = freeze_bn
        self.band_input = BandInput(encoder)
        self.visible = _build_encoder(encoder)
        self.infrared = _build_encoder(encoder)
        if encoder_weights is not None:
            load_encoder_weights(self.visible, smp_name(encoder), encoder_weights)
        copy_weights(self.visible, self.infrared)
        tie(self.visible, self.infrared)
        self.decoder = RefineNetDecoder(
            self.visible.out_channels[-LEVELS:],  # type: ignore[arg-type, index]
            classes,
            decoder_channels,
            dropout=dropout,
            inplace_relu=inplace_relu,
        )
        self.ensemble = StreamEnsemble()
        self.train()

    def train(self, mode: bool = True) -> CEN:
        super().train(mode)
        if self.freeze_bn:
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
        streams = self.decoder([torch.cat(pair) for pair in maps[-LEVELS:]]).chunk(2)
        output = Output(upsample(self.ensemble(*streams), size))
        if features:
            output.branches = {
                "visible": upsample(streams[0], size),
                "infrared": upsample(streams[1], size),
            }
            output.features = {"stages": maps}
        return output

    def _encode(self, visible: Tensor, infrared: Tensor) -> list[tuple[Tensor, Tensor]]:
        """(visible, infrared) maps of the encoder's five stages."""
        if not self.exchange:
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
            small_gammas(visible_norm.weight, "absolute", self.exchange_threshold),
            small_gammas(infrared_norm.weight, "absolute", self.exchange_threshold),
        )

    def exchanged(self) -> dict[str, tuple[int, int]]:
        """Per stream, how many channels the other one's replace now, and of how many."""
        counts = {}
        for stream, encoder in (("visible", self.visible), ("infrared", self.infrared)):
            masks = [small_gammas(gamma, "absolute", self.exchange_threshold) for gamma in _gammas(encoder)]
            counts[stream] = (sum(int(mask.sum()) for mask in masks), sum(mask.numel() for mask in masks))
        return counts

    def phases(self, recipe: Recipe) -> list[Phase]:
        """One phase. Its group "decoder" is the decoder and the weights of the ensemble."""
        return [
            Phase(
                "segmentation",
                trained=self,
                keeps=self,
                loss=self._loss,
                recipe=recipe,
                groups={"decoder": nn.ModuleList([self.decoder, self.ensemble])},
            )
        ]

    def deployed(self, bands: Bands) -> list[nn.Module]:
        self.check_bands(bands)
        if bands == "both":
            return [self]
        return [self.infrared if bands == "infrared" else self.visible, self.decoder]

    def dead(self) -> list[nn.Module]:
        return [*unread_modules(self.visible), *unread_modules(self.infrared)]

    def _loss(self, batch: Batch) -> dict[str, Tensor]:
        """Cross-entropy of each stream and of the ensemble, and the penalty of all three.

        With one band missing nothing is exchanged: only the other stream's cross-entropy is left.
        """
        visible, infrared, label = batch.visible, batch.infrared, batch.label
        assert label is not None
        output = self(visible, infrared, features=True)
        terms = {f"ce_{band}": cross_entropy(logits, label) for band, logits in output.branches.items()}
        if visible is not None and infrared is not None:
            assert output.logits is not None
            terms["ce_ensemble"] = cross_entropy(output.logits, label)
            if self.exchange and self.sparsity_weight > 0:
                penalty = halved_sparsity(_gammas(self.visible), _gammas(self.infrared))
                terms["sparsity"] = OUTPUTS * self.sparsity_weight * penalty
        return terms


def _build_encoder(encoder: str) -> nn.Module:
    """An encoder of five stages whose blocks can exchange channels. Raises OptionError for any other."""
    network = five_stage_encoder(encoder)
    check_sites(encoder_stages(network), encoder)
    return network


def _gammas(encoder: nn.Module) -> list[Tensor]:
    """The scales that decide which channels are exchanged, of all stages."""
    return [norm.weight for layers in encoder_stages(encoder) for norm in site_norms(layers)]
