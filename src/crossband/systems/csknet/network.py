"""CSK-Net: one network for both bands and for infrared alone.

Paper: Sikdar, Teotia, Sundaram, "Contrastive Learning-Based Spectral Knowledge Distillation for
Multi-Modality and Missing Modality Scenarios in Semantic Segmentation" (arXiv 2312.02240). No code of the
authors is public; this is written from the paper. Where it is silent, the choices are those of DisOptNet
(TGRS 2022), whose recipe it shares, and PiPa (ACM MM 2023), whose contrastive sampling it cites; each is a
constructor argument, and docs/systems/csknet.md lists them.

Two DeepLabV3+ branches share their convolutions and keep their own batch norms. Between the encoder's
stages they exchange features; their decoders' outputs meet in a Gated Spectral Unit. The visible branch
learns from a frozen teacher that was trained on visible images, the infrared branch and the fused output
from the labels, and the infrared encoder also from a pixel-wise contrastive loss. Infrared alone runs the
infrared branch and nothing else, at exactly a DeepLabV3+'s cost.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import segmentation_models_pytorch as smp
import torch
from segmentation_models_pytorch.base import SegmentationHead
from segmentation_models_pytorch.base import initialization as smp_initialization
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from crossband.blocks.band_input import BandInput
from crossband.blocks.encoders import (
    check_exchangeable,
    encoder_stages,
    last_norm,
    run_stage,
    stage_modules,
    unread_modules,
)
from crossband.blocks.exchange import Direction, Threshold, exchange_channels, exchange_columns, small_gammas
from crossband.blocks.norm_site import check_depthwise, run_stage_pair
from crossband.blocks.tied import copy_weights, tie
from crossband.errors import OptionError
from crossband.option_ranges import AT_LEAST_1, NOT_NEGATIVE, SHARE, Range
from crossband.systems.base import NetworkSettings, Output, System
from crossband.systems.csknet.additions import add_to_shared, copy_folded
from crossband.systems.csknet.gated_unit import GatedSpectralUnit
from crossband.systems.deeplabv3plus import (
    OUTPUT_STRIDE,
    DeepLabV3Plus,
    DeepLabV3PlusSettings,
    build_network,
    decoded,
    read_maps,
)
from crossband.systems.registry import in_words
from crossband.words import Band, Bands, Support

TwoMaps = tuple[Tensor, Tensor]


@dataclass(frozen=True, kw_only=True)
class CSKNetSettings(NetworkSettings):
    """The defaults are our reading of the paper; every other reading is an argument.

    encoder, encoder_weights, decoder_channels: as in `DeepLabV3PlusSettings`, for both branches.

    share_decoder: which of the decoder's convolutions the branches share: "aspp" (all up to the upsampling;
        the default, whose 14.22 M parameters come nearest to the published 14.24 M), "all" or "none".
    private_from_stage: 4 or 5 gives each branch its own convolutions from that stage on; None shares all
        five (the only reading within the published count).

    band_rank: how freely each branch may depart from the convolutions that it shares: the rank of what it
        adds to each of its own (see `BandAddition`). 0 adds nothing, which is the paper's. What is deployed
        has plain convolutions with either.

    infrared_norms: what the infrared branch's batch norms have of their own when it runs in a pair, against
        when it runs alone: nothing ("shared"), or running statistics ("own-statistics"). Alone it costs the
        same with each.

    exchange: whether the branches exchange features at all. exchange_mode: which channels of a band are
        redundant and give way to the other's: "quantile", those whose batch-norm scale lies below a quantile
        of its layer's, or "absolute", below a value. exchange_threshold: that quantile or value; see
        `small_gammas`. exchange_site: "stage", after each stage by its last batch norm, or "dw_bn", after
        every depthwise batch norm as CEN does. exchange_direction: "both" bands get channels of the other, or
        only infrared of the visible one ("to-infrared"). exchange_stages: after which stages channels are
        exchanged. spatial_stages: after which odd columns are swapped, following the channels (the two do not
        commute); () turns that off. exchange_dropout: which share of the training pairs exchanges nothing, in
        [0, 1], drawn anew for each pair of each step; 0 is the paper's.

    gated_unit: whether learnt gates weigh what the two decoders give, or it is just added.
        gated_unit_hidden_kernel: side in pixels of that unit's convolution of each map, an odd number; the
        paper names none. gated_unit_gate_kernel: side in pixels of its convolution that makes a gate, an odd
        number; the paper names none. gated_unit_width: channels of the fused map; None is as many as the
        decoders'. gated_unit_bias: whether its convolutions have biases; see `GatedSpectralUnit`.

    Raises OptionError for values that do not go together.
    """

    encoder: str = "efficientnet-b3"
    encoder_weights: str | Path | None = None
    decoder_channels: int = 256
    share_decoder: Literal["aspp", "all", "none"] = "aspp"
    private_from_stage: Literal[4, 5] | None = None
    band_rank: int = 0
    infrared_norms: Literal["shared", "own-statistics"] = "shared"
    exchange: bool = True
    exchange_mode: Threshold = "quantile"
    exchange_threshold: float = 0.10
    exchange_site: Literal["stage", "dw_bn"] = "stage"
    exchange_direction: Direction = "both"
    exchange_stages: tuple[Literal[1, 2, 3, 4, 5], ...] = (1, 2, 3, 4, 5)
    spatial_stages: tuple[Literal[1, 2, 3, 4, 5], ...] = (4, 5)
    exchange_dropout: float = 0.0
    gated_unit: bool = True
    gated_unit_hidden_kernel: int = 3
    gated_unit_gate_kernel: int = 1
    gated_unit_width: int | None = None
    gated_unit_bias: bool = True

    ranges: ClassVar[Mapping[str, Range]] = {
        "band_rank": NOT_NEGATIVE,
        "exchange_dropout": SHARE,
        "gated_unit_hidden_kernel": AT_LEAST_1,
        "gated_unit_gate_kernel": AT_LEAST_1,
    }

    def __post_init__(self) -> None:
        highest = 1.0 if self.exchange_mode == "quantile" else math.inf
        if not 0 <= self.exchange_threshold <= highest:
            raise OptionError(
                f"csknet: exchange_threshold must lie in [0, {highest}] for exchange_mode "
                f"{self.exchange_mode}, not {self.exchange_threshold}"
            )
        if self.exchange_dropout and not self.exchange:
            raise OptionError(
                "csknet: exchange_dropout leaves out exchanges, of which there are none with exchange false; "
                "set one of the two"
            )


@dataclass
class CSKNetFeatures:
    """before, after: the (visible, infrared) maps of the five stages, before and after their exchange.
    decoder: the (visible, infrared) decoder outputs."""

    before: list[TwoMaps]
    after: list[TwoMaps]
    decoder: TwoMaps


class CSKNet(System):
    """CSK-Net. Raises OptionError for encoders that cannot be run stage by stage."""

    name = "csknet"
    summary, paper = in_words(name)
    built_from = CSKNetSettings
    trained_by = "crossband.systems.csknet.training:CSKNetTraining"
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {"firm": {"infrared_norms": "own-statistics"}}
    multiple = OUTPUT_STRIDE
    supports: Mapping[Bands, Support] = {"both": "designed", "infrared": "designed", "visible": "fallback"}

    def __init__(self, classes: int | None, settings: CSKNetSettings):
        super().__init__(classes, settings)
        classes, encoder, width = self.need_classes(classes), settings.encoder, settings.decoder_channels
        self.band_input = BandInput(encoder)
        self.visible = build_network(classes, encoder, settings.encoder_weights, width)
        self.infrared = build_network(classes, encoder, None, width)
        # Both sets of batch norms start from the same (ImageNet) values.
        copy_weights(self.visible.encoder, self.infrared.encoder)
        self._tie_branches(settings.share_decoder, settings.private_from_stage)
        if settings.band_rank:
            unread = unread_modules(self.visible.encoder)
            add_to_shared(self.visible, self.infrared, settings.band_rank, unread=unread)
        self.infrared_in_pair: smp.DeepLabV3Plus | None = None
        if settings.infrared_norms != "shared":
            # A copy draws no random start, so that all that follows starts alike with each choice.
            self.infrared_in_pair = deepcopy(self.infrared)
            tie(self.infrared, self.infrared_in_pair, norms=True)
        by_stage = settings.exchange and settings.exchange_site == "stage"
        check_exchangeable(self.visible.encoder, encoder, settings.exchange_stages if by_stage else ())
        if settings.exchange and settings.exchange_site == "dw_bn":
            check_depthwise(encoder_stages(self.visible.encoder))
        self.gated_unit = None
        if settings.gated_unit:
            inputs, width = width, settings.gated_unit_width or width
            self.gated_unit = GatedSpectralUnit(
                inputs,
                width,
                hidden_kernel=settings.gated_unit_hidden_kernel,
                gate_kernel=settings.gated_unit_gate_kernel,
                bias=settings.gated_unit_bias,
            )
        self.fused_head = SegmentationHead(width, classes, kernel_size=1, upsampling=4)
        smp_initialization.initialize_head(self.fused_head)

    def _tie_branches(self, share_decoder: str, private_from_stage: int | None) -> None:
        private: list[nn.Module] = []
        if private_from_stage is not None:
            for layers in encoder_stages(self.visible.encoder)[private_from_stage - 1 :]:
                private.extend(stage_modules(layers))
        tie(self.visible.encoder, self.infrared.encoder, private=private)
        if share_decoder == "all":
            tie(self.visible.decoder, self.infrared.decoder)
        elif share_decoder == "aspp":
            tie(self.visible.decoder.aspp, self.infrared.decoder.aspp)

    def run(self, visible: Tensor | None, infrared: Tensor | None, *, features: bool) -> Output:
        if visible is None:
            assert infrared is not None
            logits = self.infrared(self.band_input(infrared))
            return Output(logits, branches={"infrared": logits} if features else {})
        if infrared is None:
            logits = self.visible(self.band_input(visible))
            return Output(logits, branches={"visible": logits} if features else {})
        visible, infrared = self.band_input(visible), self.band_input(infrared)
        paired = self._paired
        before, after = self._encode(visible, infrared, paired)
        decoded_visible = self.visible.decoder([visible, *(maps[0] for maps in after)])
        decoded_infrared = paired.decoder([infrared, *(maps[1] for maps in after)])
        output = Output(self._fused(decoded_visible, decoded_infrared))
        if features:
            output.branches = {
                "infrared": paired.segmentation_head(decoded_infrared),
                "visible": self.visible.segmentation_head(decoded_visible),
            }
            output.features = CSKNetFeatures(before, after, (decoded_visible, decoded_infrared))
        return output

    def nearby(self, visible: Tensor | None, infrared: Tensor | None) -> list[Tensor]:
        if visible is not None and infrared is not None:
            images = self.band_input(visible), self.band_input(infrared)
            _, after = self._encode(*images, self._paired)
            return [
                stage
                for band in (0, 1)
                for stage in read_maps([images[band], *(maps[band] for maps in after)])
            ]
        image = visible if visible is not None else infrared
        assert image is not None
        branch = self.infrared if visible is None else self.visible
        return read_maps(branch.encoder(self.band_input(image)))

    def complete(self, bands: Bands, maps: list[Tensor]) -> Output:
        if bands == "both":
            return Output(self._fused(decoded(self.visible, maps[:2]), decoded(self._paired, maps[2:])))
        branch = self.infrared if bands == "infrared" else self.visible
        return Output(branch.segmentation_head(decoded(branch, maps)))

    @property
    def _paired(self) -> smp.DeepLabV3Plus:
        """The infrared branch beside the visible one."""
        return self.infrared if self.infrared_in_pair is None else self.infrared_in_pair

    def _fused(self, visible: Tensor, infrared: Tensor) -> Tensor:
        """The logits of both branches' decoder outputs."""
        if self.gated_unit is None:
            return self.fused_head(infrared + visible)
        return self.fused_head(self.gated_unit(infrared, visible))

    def _encode(
        self, visible: Tensor, infrared: Tensor, infrared_branch: smp.DeepLabV3Plus
    ) -> tuple[list[tuple[Tensor, Tensor]], list[tuple[Tensor, Tensor]]]:
        """(visible, infrared) maps of the five stages, before and after their exchange."""
        settings: CSKNetSettings = self.settings
        apart = self._drawn_apart(visible)
        meet = partial(self._exchange_channels, apart)
        before, after = [], []
        pairs_of_layers = zip(
            encoder_stages(self.visible.encoder), encoder_stages(infrared_branch.encoder), strict=True
        )
        for stage, (visible_layers, infrared_layers) in enumerate(pairs_of_layers, start=1):
            exchanges = settings.exchange and stage in settings.exchange_stages
            if exchanges and settings.exchange_site == "dw_bn":
                visible, infrared = run_stage_pair(visible_layers, infrared_layers, visible, infrared, meet)
            else:
                visible, infrared = run_stage(visible_layers, visible), run_stage(infrared_layers, infrared)
            before.append((visible, infrared))
            if exchanges and settings.exchange_site == "stage":
                channels = visible.shape[1]
                visible, infrared = meet(
                    visible,
                    infrared,
                    last_norm(visible_layers, channels),
                    last_norm(infrared_layers, channels),
                )
            if settings.exchange and stage in settings.spatial_stages:
                swapped = exchange_columns(visible, infrared, settings.exchange_direction)
                visible, infrared = _own_where(apart, (visible, infrared), swapped)
            after.append((visible, infrared))
        return before, after

    def _drawn_apart(self, images: Tensor) -> Tensor | None:
        """Which pairs of a batch (B, ...) exchange nothing in this step, bool (B, 1, 1, 1); None for none."""
        settings: CSKNetSettings = self.settings
        if not (self.training and settings.exchange and settings.exchange_dropout):
            return None
        return torch.rand(len(images), 1, 1, 1, device=images.device) < settings.exchange_dropout

    def _exchange_channels(
        self,
        apart: Tensor | None,
        visible: Tensor,
        infrared: Tensor,
        visible_norm: _BatchNorm,
        infrared_norm: _BatchNorm,
    ) -> TwoMaps:
        settings: CSKNetSettings = self.settings
        mode, threshold = settings.exchange_mode, settings.exchange_threshold
        exchanged = exchange_channels(
            visible,
            infrared,
            small_gammas(visible_norm.weight, mode, threshold),
            small_gammas(infrared_norm.weight, mode, threshold),
            settings.exchange_direction,
        )
        return _own_where(apart, (visible, infrared), exchanged)

    def deployed(self, bands: Bands) -> list[nn.Module]:
        self.check_bands(bands)
        return {"both": [self], "infrared": [self.infrared], "visible": [self.visible]}[bands]

    def dead(self) -> list[nn.Module]:
        return [module for branch in self.branches() for module in unread_modules(branch.encoder)]

    def branches(self) -> list[smp.DeepLabV3Plus]:
        """Its DeepLabV3+ networks: visible, infrared, and infrared in a pair if that is apart."""
        return [self.visible, self.infrared, *filter(None, [self.infrared_in_pair])]

    def encoders(self) -> list[nn.Module]:
        return [self.visible.encoder, self.infrared.encoder]

    def baseline(self, band: Band) -> DeepLabV3Plus:
        """A DeepLabV3+ on one band, like either branch, from a random start."""
        settings: CSKNetSettings = self.settings
        return DeepLabV3Plus(
            self.classes,
            DeepLabV3PlusSettings(
                band=band, encoder=settings.encoder, decoder_channels=settings.decoder_channels
            ),
        )

    def infrared_system(self) -> DeepLabV3Plus:
        """The infrared branch as a DeepLabV3+ of its own, with a copy of its weights.

        PyTorch's random state stays as it is.
        """
        with torch.random.fork_rng(devices=[]):
            alone = self.baseline("infrared")
        copy_folded(self.infrared, alone.network)
        return alone.train(self.training)

    def folded(self) -> CSKNet:
        settings: CSKNetSettings = self.settings
        if not settings.band_rank:
            return self
        whole = deepcopy(self)
        with torch.random.fork_rng(devices=[]):
            for name in ("visible", "infrared", "infrared_in_pair"):
                branch = getattr(self, name)
                if branch is not None:
                    plain = self.baseline("infrared").network.to(self.fused_head[0].weight)
                    copy_folded(branch, plain)
                    setattr(whole, name, plain.train(self.training))
        if whole.infrared_in_pair is not None:
            tie(whole.infrared, whole.infrared_in_pair, norms=True)
        return whole


def _own_where(apart: Tensor | None, own: TwoMaps, exchanged: TwoMaps) -> TwoMaps:
    """The maps after an exchange, and one's own of the pairs that exchange nothing."""
    if apart is None:
        return exchanged
    return torch.where(apart, own[0], exchanged[0]), torch.where(apart, own[1], exchanged[1])
