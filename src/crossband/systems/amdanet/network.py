"""AMDANet: one network that segments a pair and fuses it into one picture.

Paper: "AMDANet: Attention-Driven Multi-Perspective Discrepancy Alignment for RGB-Infrared Image Fusion and
Segmentation", ICCV 2025. Its supplement names the modules, the weights of the losses and the threshold, and
has the ablations; formulas, sizes and recipe are those of the published code. None of that code is used
here: this is written from a description in words. Where the sources differ, or the code has a defect, the
defaults are our choice and the preset "as-published" is the code's; docs/systems/amdanet.md lists all.

Two Mix Transformers read the two bands. At every stage the streams are mixed where they disagree (semantic
consistency inference), correct each other locally, and meet in one map globally. A segmentation decoder
reads the four common maps, a fusion decoder the four maps of each band. In training both also work from
masked maps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from crossband.blocks.alignment import Trust
from crossband.blocks.band_input import BandInput
from crossband.blocks.decoders import FusionDecoder, SegmentationDecoder, upsample
from crossband.blocks.encoders import is_mix_transformer
from crossband.blocks.luma import luma
from crossband.blocks.mix_transformer import to_map
from crossband.blocks.pyramid_encoder import LEVELS
from crossband.blocks.stand_in import stand_in
from crossband.errors import OptionError
from crossband.losses.fusion import GradientTarget, MeanOver
from crossband.losses.segmentation import DiceClasses
from crossband.recipe import Recipe
from crossband.systems.amdanet.aligned_encoder import AlignedEncoder, AlignedLevels, LocalKind, TwoGrids
from crossband.systems.amdanet.consistency import ConsistencyGate
from crossband.systems.amdanet.reliability import blend
from crossband.systems.amdanet.training import LossSettings, MaskSite, masked_outputs, training_loss
from crossband.systems.base import Output, Phase, System
from crossband.words import Band, Bands, Support

ABLATIONS: dict[str, dict[str, object]] = {
    "AMDANet": {},
    **{f"alpha 1 = {value}": {"a1": value} for value in (0.3, 0.5, 0.7)},
    **{f"alpha 2 = {value}": {"a2": value} for value in (0.3, 0.6, 0.7)},
    **{f"alpha 3 = {value}": {"a3": value} for value in (0.3, 0.6, 0.7)},
    **{f"tau = {value}": {"tau": value} for value in (0.2, 0.6, 0.8)},
    "w/o local alignment": {"local_alignment": "none"},
    "w/o global alignment": {"global_alignment": False},
    "w/o salient feature enhancement": {"salient_enhancement": False},
    "with CBAM": {"local_alignment": "cbam"},
    "with DANet": {"local_alignment": "danet"},
}
"""The rows of the supplement's tables 1 to 6, as constructor arguments."""

AS_PUBLISHED: dict[str, object] = {
    "swap_streams": True,
    "gate": "batch-any",
    "similarity_scale": 0.1,
    "train_lambda": False,
    "stage2_depth": "published",
    "norm_eps": 0.01,
    "norm_momentum": 0.01,
    "evaluation_norm_eps": 1e-5,
    "masked_in_evaluation": True,
    "dice_ignored_as_zero": True,
    "dice_classes": "all",
    "fusion_mean": "all",
}
"""How the published code differs from the defaults, which are the preset "clean"."""

_RECIPE: dict[str, object] = {
    "epochs": 350,
    "batch_size": 6,
    "optimizer": "adamw",
    "lr": 6.3e-5,
    "weight_decay": 0.01,
    "decay_norms": False,
    "schedule": "poly",
    "schedule_per": "step",
    "power": 0.9,
    "warmup_epochs": 50,
}
RECIPES: dict[str, Mapping[str, object]] = {
    "paper": _RECIPE,
    "as-published": {**_RECIPE, "warmup": "replace", "schedule_lag": 1},
    "quick": {"optimizer": "adamw", "lr": 3e-4, "weight_decay": 0.01, "decay_norms": False},
}
"""The recipe of the published code for MFNet, without and with its learning rate's being a step late."""

_AUGMENTATION: dict[str, object] = {"crop": (480, 640), "scale": (0.5, 1.75)}
AUGMENTATIONS: dict[str, Mapping[str, object]] = {"paper": _AUGMENTATION, "as-published": _AUGMENTATION}

# Of the visible and of the infrared encoder: both were meant to be 0 to 7, the blocks of the stage.
PUBLISHED_STAGE2_RATES = (0, 1)
Pictures = tuple[Tensor, Tensor]


class AMDANet(System):
    """AMDANet. classes: number of classes, or None for a system that only fuses.

    encoder, encoder_weights: ``mit_b0`` to ``mit_b5``, ``pvt_v2_*``, or a convolutional encoder; one per
    band, unless share_encoder. stochastic_depth: of transformers. stage2_depth: "ramp" for rates that rise
    through all stages, "published" for those of the code, which repeats one throughout stage 2 (Mix
    Transformer only). input_normalisation: "none" gives the encoder [0, 1], "encoder" what its weights
    expect, "auto" is none for Mix Transformers, as published, and the encoder's for all others.
    decoder_channels, fusion_channels: widths of the decoders. dropout: of the segmentation decoder's
    channels. norm_eps, norm_momentum, evaluation_norm_eps: of the decoders' batch norms; see `HeadNorm`.

    gate, tau, similarity_scale, swap_streams, train_lambda: see `SemanticConsistency`.
    local_alignment, global_alignment, salient_enhancement: see `AlignedEncoder`.

    a1, a2, a3: weights of L_seg, L_fus and L_cr in the loss. dice_weight, dice_classes,
    dice_ignored_as_zero: of Dice in L_seg, and see `smoothed_dice`. fusion_gamma, intensity_weight,
    gradient_weight, colour_weight, gradient_target, fusion_mean: see `fusion_loss`.
    masked_ce_weight, masked_dice_weight, masked_fusion_weight: of the parts of L_cr. mask_keep, mask_site:
    see `masked_outputs`. masked_in_evaluation: decode masked maps in evaluation too, for nothing.

    reliability_gate, reconstruction: options of our own for bands that fail, see
    `crossband.systems.amdanet.reliability`; with either, a missing band is what the system was trained for.
    broken_weight, reconstruction_weight, reliability_weight: of their losses.

    Raises OptionError for values that do not exist or do not go together.
    """

    name = "amdanet"
    summary = "AMDANet: classes and a fused picture from both bands"
    paper = "AMDANet, ICCV 2025"
    fuses = True
    multiple = 32
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"clean": {}, "as-published": AS_PUBLISHED}
    recipes: ClassVar[Mapping[str, Mapping[str, Any]]] = RECIPES
    augmentations: ClassVar[Mapping[str, Mapping[str, Any]]] = AUGMENTATIONS

    def __init__(
        self,
        classes: int | None,
        *,
        encoder: str = "mit_b4",
        encoder_weights: str | Path | None = None,
        share_encoder: bool = False,
        stochastic_depth: float = 0.1,
        stage2_depth: Literal["ramp", "published"] = "ramp",
        input_normalisation: Literal["auto", "none", "encoder"] = "auto",
        decoder_channels: int = 512,
        fusion_channels: int = 16,
        dropout: float = 0.1,
        norm_eps: float = 1e-5,
        norm_momentum: float = 0.1,
        evaluation_norm_eps: float | None = None,
        gate: ConsistencyGate = "sample",
        tau: float = 0.4,
        similarity_scale: float = 1.0,
        swap_streams: bool = False,
        train_lambda: bool = True,
        local_alignment: LocalKind = "local",
        global_alignment: bool = True,
        salient_enhancement: bool = True,
        a1: float = 1.0,
        a2: float = 0.5,
        a3: float = 0.5,
        dice_weight: float = 2.0,
        dice_classes: DiceClasses = "present",
        dice_ignored_as_zero: bool = False,
        fusion_gamma: float = 0.8,
        intensity_weight: float = 0.5,
        gradient_weight: float = 1.0,
        colour_weight: float = 1.0,
        gradient_target: GradientTarget = "signed",
        fusion_mean: MeanOver = "valid",
        masked_ce_weight: float = 0.5,
        masked_dice_weight: float = 1.0,
        masked_fusion_weight: float = 0.5,
        mask_keep: float = 0.85,
        mask_site: MaskSite = "code",
        masked_in_evaluation: bool = False,
        reliability_gate: bool = False,
        reconstruction: bool = False,
        broken_weight: float = 0.5,
        reconstruction_weight: float = 0.25,
        reliability_weight: float = 0.25,
    ):
        super().__init__()
        self.check_choice("stage2_depth", stage2_depth, ("ramp", "published"))
        self.check_choice("input_normalisation", input_normalisation, ("auto", "none", "encoder"))
        self.check_choice("gate", gate, ("sample", "batch-any", "always"))
        self.check_choice("local_alignment", local_alignment, ("local", "none", "cbam", "danet"))
        self.check_choice("dice_classes", dice_classes, ("present", "all"))
        self.check_choice("gradient_target", gradient_target, ("signed", "magnitude"))
        self.check_choice("fusion_mean", fusion_mean, ("valid", "all"))
        self.check_choice("mask_site", mask_site, ("code", "modality"))
        if not 0 < mask_keep <= 1:
            raise OptionError(f"amdanet: mask_keep is the share that stays, in (0, 1], not {mask_keep}")
        mix_transformer = is_mix_transformer(encoder)
        if stage2_depth == "published" and not mix_transformer:
            raise OptionError(
                "amdanet: stage2_depth published (also of the preset as-published) belongs to the Mix "
                f"Transformer; set it to ramp for encoder {encoder!r}"
            )
        self.restores = reliability_gate or reconstruction
        if self.restores and swap_streams:
            raise OptionError(
                "amdanet: swap_streams runs a band through the other's encoder, so that reliability_gate and "
                "reconstruction cannot tell whose features are whose; leave one of them out"
            )
        designed: Support = "designed" if self.restores else "fallback"
        self.supports: Mapping[Bands, Support] = {
            "both": "designed",
            "infrared": designed,
            "visible": designed,
        }
        self.segments = classes is not None
        self.masked_in_evaluation = masked_in_evaluation
        self.loss_settings = LossSettings(
            a1=a1,
            a2=a2,
            a3=a3,
            dice_weight=dice_weight,
            dice_classes=dice_classes,
            dice_ignored_as_zero=dice_ignored_as_zero,
            fusion={
                "gamma": fusion_gamma,
                "intensity_weight": intensity_weight,
                "gradient_weight": gradient_weight,
                "colour_weight": colour_weight,
                "gradient_target": gradient_target,
                "mean_over": fusion_mean,
            },
            masked_ce_weight=masked_ce_weight,
            masked_dice_weight=masked_dice_weight,
            masked_fusion_weight=masked_fusion_weight,
            mask_keep=mask_keep,
            mask_site=mask_site,
            broken_weight=broken_weight,
            reconstruction_weight=reconstruction_weight,
            reliability_weight=reliability_weight,
        )
        if input_normalisation == "auto":
            input_normalisation = "none" if mix_transformer else "encoder"
        self.band_input = BandInput(encoder) if input_normalisation == "encoder" else None
        self.enc = AlignedEncoder(
            encoder,
            encoder_weights,
            stochastic_depth=stochastic_depth,
            stage2_rates_of=PUBLISHED_STAGE2_RATES if stage2_depth == "published" else None,
            share_encoder=share_encoder,
            consistency={
                "gate": gate,
                "tau": tau,
                "similarity_scale": similarity_scale,
                "swap_streams": swap_streams,
                "train_lambda": train_lambda,
            },
            local_alignment=local_alignment,
            global_alignment=global_alignment if self.segments else None,
            salient_enhancement=salient_enhancement,
            reliability_gate=reliability_gate,
            reconstruction=reconstruction,
        )
        norm = {"eps": norm_eps, "momentum": norm_momentum, "evaluation_eps": evaluation_norm_eps}
        self.seg = None
        if classes is not None:
            self.seg = SegmentationDecoder(
                self.enc.channels, classes, decoder_channels, dropout=dropout, norm=norm
            )
        self.fus = FusionDecoder(self.enc.channels, fusion_channels, norm=norm)

    def run(self, visible: Tensor | None, infrared: Tensor | None, *, features: bool) -> Output:
        levels, pictures, reliability = self.encode(visible, infrared)
        logits = self.segment(levels.shared, pictures[0].shape[-2:])
        output = Output(logits, self.fuse(levels.aligned, pictures), reliability=reliability)
        if self.masked_in_evaluation and not self.training:
            masked, _ = masked_outputs(self, levels, pictures)
            if features and masked is not None:
                output.branches = {"masked": masked}
        if features:
            output.features = {"levels": levels, "pictures": pictures}
        return output

    def encode(
        self, visible: Tensor | None, infrared: Tensor | None, present: Trust | None = None
    ) -> tuple[AlignedLevels, Pictures, dict[Band, Tensor]]:
        """The aligned levels, the pictures that the fusion decoder gets, and the reliability of both bands.

        visible: (B, 3, H, W), infrared: (B, 1, H, W), one of them None if it is missing. present: see
        `AlignedEncoder`. The reliability is empty without a gate.
        """
        pictures = stand_in(visible, infrared)
        if not self.restores:
            levels = self.enc(*(self._prepared(picture) for picture in pictures))
            return levels, pictures, {}
        levels = self.enc(self._prepared(visible), self._prepared(infrared), present)
        if levels.trust[0] is None:
            return levels, pictures, {}
        size = pictures[0].shape[-2:]
        weights = [
            torch.stack([upsample(to_map(grid), size) for grid in grids]).mean(dim=0)
            for grids in zip(*(trust for trust in levels.trust if trust is not None), strict=True)
        ]
        instead = pictures[1].expand(-1, 3, -1, -1), luma(pictures[0])
        pictures = blend(pictures[0], instead[0], weights[0]), blend(pictures[1], instead[1], weights[1])
        if not self.enc.reliability_gate:
            return levels, pictures, {}
        return levels, pictures, {"visible": weights[0], "infrared": weights[1]}

    def segment(self, shared: Sequence[Tensor], size: Sequence[int]) -> Tensor | None:
        """Logits (B, C, H, W) from the four shared grids; None for a system that only fuses."""
        return None if self.seg is None else upsample(self.seg(shared), size)

    def fuse(self, aligned: Sequence[TwoGrids], pictures: Pictures) -> Tensor:
        """The fused picture (B, 3, H, W) from the four aligned grids of both bands and their pictures."""
        return self.fus([x for x, _ in aligned], [y for _, y in aligned], *pictures)

    def phases(self, recipe: Recipe) -> list[Phase]:
        """One phase, on `training_loss`, validated on every combination of bands that it trains for."""
        validate: tuple[Bands, ...] = ("both", "infrared", "visible") if self.restores else ("both",)
        return [
            Phase(
                "amdanet",
                trained=self,
                keeps=self,
                loss=lambda batch: training_loss(self, batch),
                recipe=recipe,
                validate=validate,
            )
        ]

    def deployed(self, bands: Bands) -> list[nn.Module]:
        self.check_bands(bands)
        if bands == "both" or not self.restores:
            return [self]
        own = self.enc.rgb if bands == "visible" else self.enc.ir
        kinds = ["local", "global"]
        if self.enc.reconstruction:
            kinds.append("infrared_from_visible" if bands == "visible" else "visible_from_infrared")
        parts = [self.enc.part(kind, level) for kind in kinds for level in LEVELS if self.enc.has(kind)]
        return [own, *parts, *(decoder for decoder in (self.seg, self.fus) if decoder is not None)]

    def _prepared(self, image: Tensor | None) -> Tensor | None:
        if image is None:
            return None
        return image.expand(-1, 3, -1, -1) if self.band_input is None else self.band_input(image)
