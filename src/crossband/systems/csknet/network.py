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
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

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
from crossband.losses.distillation import feature_distillation, prediction_distillation
from crossband.losses.segmentation import DiceForm, segmentation_loss
from crossband.pairs.batch import Batch
from crossband.recipe import Recipe
from crossband.systems import create
from crossband.systems.base import Output, Phase, System
from crossband.systems.csknet.contrastive import PixelSampling, pixel_contrast
from crossband.systems.csknet.gated_unit import GatedSpectralUnit
from crossband.systems.csknet.projection import LevelProjections
from crossband.systems.deeplabv3plus import OUTPUT_STRIDE, DeepLabV3Plus, build_network
from crossband.words import Bands, Support

ABLATIONS: dict[str, dict[str, object]] = {
    "CSK-Net": {},
    "w/o contrastive learning": {"contrastive_weight": 0.0},
    "w/o gated spectral unit": {"gated_unit": False},
    "w/o mixed feature exchange": {"exchange": False},
    "w/o contrastive learning and mixed feature exchange": {"contrastive_weight": 0.0, "exchange": False},
}
"""The rows of the paper's table 4, as constructor arguments."""

CONTRASTED_STAGES = (2, 3, 4, 5)
DISTILLED_STAGES = (4, 5)


class CSKNet(System):
    """CSK-Net. The defaults are our reading of the paper; every other reading is an argument.

    classes, encoder, encoder_weights, decoder_channels: as in DeepLabV3Plus, for both branches.

    share_decoder: which of the decoder's convolutions the branches share: "aspp" (all up to the upsampling;
        the default, whose 14.22 M parameters come nearest to the published 14.24 M), "all" or "none".
    private_from_stage: 4 or 5 gives each branch its own convolutions from that stage on; None shares all
        five (the only reading within the published count).

    exchange: whether the branches exchange features at all. exchange_mode, exchange_threshold: see
        `small_gammas`. exchange_site: "stage", after each stage by its last batch norm, or "dw_bn", after
        every depthwise batch norm as CEN does. exchange_direction: "both" or "to-infrared".
        exchange_stages: after which stages channels are exchanged. spatial_stages: after which odd columns
        are swapped, following the channels (the two do not commute); () turns that off.

    gated_unit: False adds the two decoder outputs instead. gated_unit_hidden_kernel, gated_unit_gate_kernel,
        gated_unit_width, gated_unit_bias: see `GatedSpectralUnit`.

    distill_tap: "post" compares the visible stages with the teacher's after the exchange, "pre" before it.
    distill_form: see `prediction_distillation`. distill_predictions_weight, distill_features_weight: of the
        losses of equations 8 and 9.

    contrastive_weight: of equation 10; 0 leaves its projection heads out of training altogether.
    contrastive_temperature, contrastive_anchors, contrastive_per_class, contrastive_hard_fraction: see
        `pixel_contrast`. contrastive_branches: "infrared", or "both" for the pixels of both branches in one
        pool. projection: "per-level" or "concat", see `LevelProjections`; projection_width: of embeddings.

    dice_form: see `DeepLabV3Plus`.

    Raises OptionError for values that do not exist and for encoders that cannot be run stage by stage.
    """

    name = "csknet"
    summary = "CSK-Net: both bands by exchange and gated fusion, or infrared alone at the baseline's cost"
    paper = "Sikdar et al., 2023, arXiv 2312.02240"
    multiple = OUTPUT_STRIDE
    supports: Mapping[Bands, Support] = {"both": "designed", "infrared": "designed", "visible": "fallback"}

    def __init__(
        self,
        classes: int | None,
        *,
        encoder: str = "efficientnet-b3",
        encoder_weights: str | Path | None = None,
        decoder_channels: int = 256,
        share_decoder: Literal["aspp", "all", "none"] = "aspp",
        private_from_stage: Literal[4, 5] | None = None,
        exchange: bool = True,
        exchange_mode: Threshold = "quantile",
        exchange_threshold: float = 0.10,
        exchange_site: Literal["stage", "dw_bn"] = "stage",
        exchange_direction: Direction = "both",
        exchange_stages: Sequence[int] = (1, 2, 3, 4, 5),
        spatial_stages: Sequence[int] = (4, 5),
        gated_unit: bool = True,
        gated_unit_hidden_kernel: int = 3,
        gated_unit_gate_kernel: int = 1,
        gated_unit_width: int | None = None,
        gated_unit_bias: bool = True,
        distill_tap: Literal["post", "pre"] = "post",
        distill_form: Literal["kl_ce", "soft_hard"] = "kl_ce",
        distill_predictions_weight: float = 1.0,
        distill_features_weight: float = 1.0,
        contrastive_weight: float = 1.0,
        contrastive_temperature: float = 0.1,
        contrastive_anchors: int = 1024,
        contrastive_per_class: int = 100,
        contrastive_hard_fraction: float = 0.1,
        contrastive_branches: Literal["infrared", "both"] = "infrared",
        projection: Literal["per-level", "concat"] = "per-level",
        projection_width: int = 128,
        dice_form: DiceForm = "per-class",
    ):
        super().__init__()
        classes = self.need_classes(classes)
        self.check_choice("share_decoder", share_decoder, ("aspp", "all", "none"))
        self.check_choice("private_from_stage", private_from_stage, (None, 4, 5))
        self.check_choice("exchange_mode", exchange_mode, ("quantile", "absolute"))
        self.check_choice("exchange_site", exchange_site, ("stage", "dw_bn"))
        self.check_choice("exchange_direction", exchange_direction, ("both", "to-infrared"))
        self.check_choice("distill_tap", distill_tap, ("post", "pre"))
        self.check_choice("distill_form", distill_form, ("kl_ce", "soft_hard"))
        self.check_choice("contrastive_branches", contrastive_branches, ("infrared", "both"))
        self.check_choice("projection", projection, ("per-level", "concat"))
        self.check_choice("dice_form", dice_form, ("per-class", "global"))
        highest = 1.0 if exchange_mode == "quantile" else math.inf
        if not 0 <= exchange_threshold <= highest:
            raise OptionError(
                f"csknet: exchange_threshold must lie in [0, {highest}] for exchange_mode {exchange_mode}, "
                f"not {exchange_threshold}"
            )
        if contrastive_temperature <= 0:
            raise OptionError(
                f"csknet: contrastive_temperature must be above 0, not {contrastive_temperature}"
            )
        for stage in (*exchange_stages, *spatial_stages):
            self.check_choice("exchange_stages and spatial_stages", stage, (1, 2, 3, 4, 5))
        self.classes, self.encoder, self.decoder_channels = classes, encoder, decoder_channels
        self.exchange = exchange
        self.exchange_mode, self.exchange_threshold = exchange_mode, exchange_threshold
        self.exchange_site, self.exchange_direction = exchange_site, exchange_direction
        self.exchange_stages, self.spatial_stages = tuple(exchange_stages), tuple(spatial_stages)
        self.distill_tap, self.distill_form = distill_tap, distill_form
        self.distill_predictions_weight = distill_predictions_weight
        self.distill_features_weight = distill_features_weight
        self.contrastive_weight, self.contrastive_temperature = contrastive_weight, contrastive_temperature
        self.contrastive_branches = contrastive_branches
        self.sampling = PixelSampling(
            anchors=contrastive_anchors,
            per_class=contrastive_per_class,
            hard_fraction=contrastive_hard_fraction,
        )
        self.projection, self.projection_width = projection, projection_width
        self.dice_form = dice_form

        self.band_input = BandInput(encoder)
        self.visible = build_network(classes, encoder, encoder_weights, decoder_channels)
        self.infrared = build_network(classes, encoder, None, decoder_channels)
        # Both sets of batch norms start from the same (ImageNet) values.
        copy_weights(self.visible.encoder, self.infrared.encoder)
        self._tie_branches(share_decoder, private_from_stage)
        by_stage = exchange and exchange_site == "stage"
        check_exchangeable(self.visible.encoder, encoder, self.exchange_stages if by_stage else ())
        if exchange and exchange_site == "dw_bn":
            check_depthwise(encoder_stages(self.visible.encoder))

        width = decoder_channels
        self.gated_unit = None
        if gated_unit:
            width = gated_unit_width or decoder_channels
            self.gated_unit = GatedSpectralUnit(
                decoder_channels,
                width,
                hidden_kernel=gated_unit_hidden_kernel,
                gate_kernel=gated_unit_gate_kernel,
                bias=gated_unit_bias,
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
        before, after = self._encode(visible, infrared)
        decoded_visible = self.visible.decoder([visible, *(maps[0] for maps in after)])
        decoded_infrared = self.infrared.decoder([infrared, *(maps[1] for maps in after)])
        fused = (
            decoded_infrared + decoded_visible
            if self.gated_unit is None
            else self.gated_unit(decoded_infrared, decoded_visible)
        )
        output = Output(self.fused_head(fused))
        if features:
            output.branches = {
                "infrared": self.infrared.segmentation_head(decoded_infrared),
                "visible": self.visible.segmentation_head(decoded_visible),
            }
            output.features = {
                "before": before,
                "after": after,
                "decoder": (decoded_visible, decoded_infrared),
            }
        return output

    def _encode(
        self, visible: Tensor, infrared: Tensor
    ) -> tuple[list[tuple[Tensor, Tensor]], list[tuple[Tensor, Tensor]]]:
        """(visible, infrared) maps of the five stages, before and after their exchange."""
        before, after = [], []
        pairs_of_layers = zip(
            encoder_stages(self.visible.encoder), encoder_stages(self.infrared.encoder), strict=True
        )
        for stage, (visible_layers, infrared_layers) in enumerate(pairs_of_layers, start=1):
            exchanges = self.exchange and stage in self.exchange_stages
            if exchanges and self.exchange_site == "dw_bn":
                visible, infrared = run_stage_pair(
                    visible_layers, infrared_layers, visible, infrared, self._exchange_channels
                )
            else:
                visible, infrared = run_stage(visible_layers, visible), run_stage(infrared_layers, infrared)
            before.append((visible, infrared))
            if exchanges and self.exchange_site == "stage":
                channels = visible.shape[1]
                visible, infrared = self._exchange_channels(
                    visible,
                    infrared,
                    last_norm(visible_layers, channels),
                    last_norm(infrared_layers, channels),
                )
            if self.exchange and stage in self.spatial_stages:
                visible, infrared = exchange_columns(visible, infrared, self.exchange_direction)
            after.append((visible, infrared))
        return before, after

    def _exchange_channels(
        self, visible: Tensor, infrared: Tensor, visible_norm: _BatchNorm, infrared_norm: _BatchNorm
    ) -> tuple[Tensor, Tensor]:
        return exchange_channels(
            visible,
            infrared,
            small_gammas(visible_norm.weight, self.exchange_mode, self.exchange_threshold),
            small_gammas(infrared_norm.weight, self.exchange_mode, self.exchange_threshold),
            self.exchange_direction,
        )

    def deployed(self, bands: Bands) -> list[nn.Module]:
        self.check_bands(bands)
        return {"both": [self], "infrared": [self.infrared], "visible": [self.visible]}[bands]

    def dead(self) -> list[nn.Module]:
        return [*unread_modules(self.visible.encoder), *unread_modules(self.infrared.encoder)]

    def infrared_system(self) -> DeepLabV3Plus:
        """The infrared branch as a DeepLabV3+ of its own, with a copy of its weights."""
        alone = create(
            "deeplabv3plus",
            classes=self.classes,
            band="infrared",
            encoder=self.encoder,
            decoder_channels=self.decoder_channels,
            dice_form=self.dice_form,
        )
        assert isinstance(alone, DeepLabV3Plus)
        copy_weights(self.infrared, alone.network)
        return alone.train(self.training)

    def phases(self, recipe: Recipe) -> list[Phase]:
        """Phase 1, "teacher": a DeepLabV3+ on visible images. Phase 2, "csknet": equation 11."""
        teacher = DeepLabV3Plus(
            self.classes,
            band="visible",
            encoder=self.encoder,
            decoder_channels=self.decoder_channels,
            dice_form=self.dice_form,
        )
        # The teacher starts where the student starts: at the encoder's ImageNet weights, if it has any.
        copy_weights(self.visible.encoder, teacher.network.encoder)
        students = nn.ModuleDict({"system": self})
        projections = None
        if self.contrastive_weight > 0:
            channels = [self.visible.encoder.out_channels[stage] for stage in CONTRASTED_STAGES]
            projections = LevelProjections(channels, self.projection_width, form=self.projection)
            students["projections"] = projections

        def loss(batch: Batch) -> dict[str, Tensor]:
            return self._loss(batch, teacher, projections)

        return [
            teacher.phase("teacher", recipe),
            Phase(
                "csknet",
                trained=students,
                keeps=self,
                loss=loss,
                recipe=recipe,
                frozen=(teacher,),
                validate=("both", "infrared"),
            ),
        ]

    def _loss(self, batch: Batch, teacher: DeepLabV3Plus, projections: nn.Module | None) -> dict[str, Tensor]:
        """The named terms of equation 11, weighted. With one band missing, those that are still defined."""
        visible, infrared, label = batch.visible, batch.infrared, batch.label
        assert label is not None
        output = self(visible, infrared, features=True)
        terms: dict[str, Tensor] = {}
        if visible is not None and infrared is not None:
            assert output.logits is not None
            terms |= _named(segmentation_loss(output.logits, label, dice_form=self.dice_form), "fused")
        if infrared is not None:
            logits = output.branches["infrared"]
            terms |= _named(segmentation_loss(logits, label, dice_form=self.dice_form), "infrared")
        if visible is not None:
            with torch.no_grad():
                taught = teacher(visible=visible, features=True)
            terms["distill_predictions"] = self.distill_predictions_weight * prediction_distillation(
                output.branches["visible"], taught.logits, form=self.distill_form
            )
            if output.features:
                maps = output.features["before" if self.distill_tap == "pre" else "after"]
                student = [maps[stage - 1][0] for stage in DISTILLED_STAGES] + [output.features["decoder"][0]]
                teacher_maps = [taught.features["stages"][stage - 1] for stage in DISTILLED_STAGES]
                terms["distill_features"] = self.distill_features_weight * feature_distillation(
                    student, [*teacher_maps, taught.features["decoder"]]
                )
        if projections is not None and output.features:
            terms["contrast"] = self.contrastive_weight * self._contrast(output, label, projections)
        return terms

    def _contrast(self, output: Output, label: Tensor, projections: nn.Module) -> Tensor:
        """Equation 10, as the mean over the levels that are contrasted."""
        maps = [output.features["after"][stage - 1] for stage in CONTRASTED_STAGES]
        label = self.pad_label(label)
        prediction = output.branches["infrared"].argmax(dim=1)
        prediction = self.pad_label(prediction)
        if self.contrastive_branches == "infrared":
            levels = [infrared for _, infrared in maps]
        else:
            levels = [torch.cat(pair) for pair in maps]
            label, prediction = label.repeat(2, 1, 1), prediction.repeat(2, 1, 1)
        losses = [
            pixel_contrast(
                embeddings,
                label,
                prediction=prediction,
                temperature=self.contrastive_temperature,
                sampling=self.sampling,
            )
            for embeddings in projections(levels)
        ]
        return torch.stack(losses).mean()


def _named(terms: Mapping[str, Tensor], branch: str) -> dict[str, Tensor]:
    return {f"{name}_{branch}": value for name, value in terms.items()}
