"""MRFS: a segmentation and a fusion of both bands that help each other.

Paper: Zhang, Zuo, Jiang, Guo, Ma, "MRFS: Mutually Reinforcing Image Fusion and Segmentation", CVPR 2024. Its
authors' code (github.com/HaoZhang1018/MRFS) states no licence that we know of, and none of it is used: this
is written from a description in words. The published weights of its encoder, the Mix Transformer, are for
non-commercial use only. Where the code has a defect, the defaults are our choice and the preset
"as-published" is the code's; docs/systems/mrfs.md lists all.

Two Mix Transformers read the two bands. After every stage each band takes from the other what a gate lets
through; both go on to the next stage and to a fusion decoder, and meet in a map for a segmentation decoder.
AMDANet has the same skeleton.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from crossband.blocks.alignment import CycleAttention, GatedMix
from crossband.blocks.band_input import BandInput
from crossband.blocks.decoders import FusionDecoder, SegmentationDecoder, upsample
from crossband.blocks.encoders import is_mix_transformer
from crossband.blocks.mix_transformer import initialise, to_grid, to_map
from crossband.blocks.pyramid import ConvolutionalPyramid, build_pyramid
from crossband.blocks.pyramid_encoder import LEVELS
from crossband.blocks.stand_in import stand_in
from crossband.blocks.tied import copy_weights
from crossband.errors import OptionError
from crossband.losses.fusion import GradientTarget, MeanOver, fusion_loss
from crossband.losses.segmentation import cross_entropy
from crossband.pairs.batch import Batch, bands_of
from crossband.recipe import Recipe
from crossband.systems.base import Output, Phase, System
from crossband.words import Bands, Support

PRESETS: dict[str, dict[str, object]] = {
    "mfnet": {},
    "pst900": {"fusion_contrast": 1.8},
    "fmb": {"fusion_gamma": 0.8, "fusion_contrast": 1.0, "gradient_weight": 1.0},
    "as-published": {
        "stage2_depth": "published",
        "norm_eps": 0.01,
        "norm_momentum": 0.01,
        "fusion_mean": "all",
    },
}
"""What the published code sets for each benchmark, and how it differs from the defaults on all of them."""

_RECIPE: dict[str, object] = {
    "epochs": 300,
    "batch_size": 6,
    "optimizer": "adamw",
    "lr": 6e-5,
    "weight_decay": 0.01,
    "decay_norms": False,
    "schedule": "poly",
    "schedule_per": "step",
    "power": 0.9,
    "warmup_epochs": 10,
}
RECIPES: dict[str, Mapping[str, object]] = {
    "paper": _RECIPE,
    "as-published": {**_RECIPE, "warmup_epochs": 5000, "warmup": "replace", "schedule_lag": 1},
    "quick": {"optimizer": "adamw", "lr": 3e-4, "weight_decay": 0.01, "decay_norms": False},
}
"""The published code's recipe with a warm-up that ends, and as it is: its rate rises over 5000 epochs."""

_AUGMENTATION: dict[str, object] = {"crop": (480, 640), "scale": (0.5, 1.75)}

# Of the visible and of the infrared encoder: both were meant to be 0 to 7, the blocks of the stage.
PUBLISHED_STAGE2_RATES = (0, 1)


class MRFS(System):
    """MRFS. classes: number of classes, or None for a system that only fuses.

    encoder, encoder_weights: ``mit_b0`` to ``mit_b5``, ``pvt_v2_*``, or a convolutional encoder; one per
    band. stochastic_depth: of transformers. stage2_depth: "ramp" for rates that rise through all stages,
    "published" for those of the code, which repeats one throughout stage 2 (Mix Transformer only).
    input_normalisation: "none" gives the encoder [0, 1], "encoder" what its weights expect, "auto" is none
    for Mix Transformers, as published, and the encoder's for all others.
    decoder_channels, fusion_channels: widths of the decoders. dropout: of the segmentation decoder's
    channels. norm_eps, norm_momentum: of the decoders' batch norms.

    missing: what stands in the place of a band that is missing: a "copy" of the other, or "zeros".

    fusion_weight: of L_fus in the loss. fusion_gamma, fusion_contrast, intensity_weight, gradient_weight,
    colour_weight, gradient_target, fusion_mean: see `fusion_loss`. The defaults are those for MFNet; presets
    have those for others.

    Raises OptionError for values that do not exist or do not go together.
    """

    name = "mrfs"
    summary = "MRFS: classes and a fused picture from both bands"
    paper = "Zhang et al., CVPR 2024"
    fuses = True
    multiple = 32
    supports: Mapping[Bands, Support] = {"both": "designed", "infrared": "fallback", "visible": "fallback"}
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = PRESETS
    recipes: ClassVar[Mapping[str, Mapping[str, Any]]] = RECIPES
    augmentations: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": _AUGMENTATION,
        "as-published": _AUGMENTATION,
    }

    def __init__(
        self,
        classes: int | None,
        *,
        encoder: str = "mit_b4",
        encoder_weights: str | Path | None = None,
        stochastic_depth: float = 0.1,
        stage2_depth: Literal["ramp", "published"] = "ramp",
        input_normalisation: Literal["auto", "none", "encoder"] = "auto",
        decoder_channels: int = 512,
        fusion_channels: int = 16,
        dropout: float = 0.1,
        norm_eps: float = 1e-5,
        norm_momentum: float = 0.1,
        missing: Literal["copy", "zeros"] = "copy",
        fusion_weight: float = 0.1,
        fusion_gamma: float = 0.5,
        fusion_contrast: float = 1.7,
        intensity_weight: float = 0.5,
        gradient_weight: float = 0.2,
        colour_weight: float = 1.0,
        gradient_target: GradientTarget = "signed",
        fusion_mean: MeanOver = "valid",
    ):
        super().__init__()
        self.check_choice("stage2_depth", stage2_depth, ("ramp", "published"))
        self.check_choice("input_normalisation", input_normalisation, ("auto", "none", "encoder"))
        self.check_choice("missing", missing, ("copy", "zeros"))
        self.check_choice("gradient_target", gradient_target, ("signed", "magnitude"))
        self.check_choice("fusion_mean", fusion_mean, ("valid", "all"))
        mix_transformer = is_mix_transformer(encoder)
        if stage2_depth == "published" and not mix_transformer:
            raise OptionError(
                "mrfs: stage2_depth published (also of the preset as-published) belongs to the Mix "
                f"Transformer; set it to ramp for encoder {encoder!r}"
            )
        self.segments = classes is not None
        self.copies_missing = missing == "copy"
        self.fusion_weight = fusion_weight
        self.fusion_settings: dict[str, Any] = {
            "gamma": fusion_gamma,
            "contrast": fusion_contrast,
            "intensity_weight": intensity_weight,
            "gradient_weight": gradient_weight,
            "colour_weight": colour_weight,
            "gradient_target": gradient_target,
            "mean_over": fusion_mean,
        }
        if input_normalisation == "auto":
            input_normalisation = "none" if mix_transformer else "encoder"
        self.band_input = BandInput(encoder) if input_normalisation == "encoder" else None
        of_visible, of_infrared = PUBLISHED_STAGE2_RATES if stage2_depth == "published" else (None, None)
        self.visible = build_pyramid(
            encoder, encoder_weights, drop_path=stochastic_depth, stage2_rate_of=of_visible
        )
        self.infrared = build_pyramid(encoder, None, drop_path=stochastic_depth, stage2_rate_of=of_infrared)
        if encoder_weights is not None:
            copy_weights(self.visible, self.infrared)
        channels = self.visible.channels
        norm = {"eps": norm_eps, "momentum": norm_momentum}
        self.mixes = nn.ModuleList(GatedMix(width) for width in channels)
        self.cycles = self.segmentation = None
        if classes is not None:
            sizes = zip(channels, self.visible.heads, self.visible.reductions, strict=True)
            self.cycles = nn.ModuleList(CycleAttention(*size) for size in sizes)
            self.segmentation = SegmentationDecoder(
                channels, classes, decoder_channels, dropout=dropout, norm=norm
            )
        self.fusion = FusionDecoder(channels, fusion_channels, norm=norm)
        # The transformer's start; where features are narrow and small, hardly anything would come through it.
        if not isinstance(self.visible, ConvolutionalPyramid):
            for modules in (self.mixes, self.cycles):
                if modules is not None:
                    modules.apply(initialise)

    def run(self, visible: Tensor | None, infrared: Tensor | None, *, features: bool) -> Output:
        pictures = stand_in(visible, infrared, copy=self.copies_missing)
        x, y = (self._prepared(picture) for picture in pictures)
        mixed: list[tuple[Tensor, Tensor]] = []
        for level, mix in zip(LEVELS, self.mixes, strict=True):
            x = self.visible.blocks(level, self.visible.embed(level, x))
            y = self.infrared.blocks(level, self.infrared.embed(level, y))
            mixed.append(mix(to_grid(x), to_grid(y)))
            x, y = (to_map(grid) for grid in mixed[-1])
        of_visible, of_infrared = zip(*mixed, strict=True)
        fused = self.fusion(of_visible, of_infrared, *pictures)
        semantic, logits = self._segment(mixed, fused.shape[-2:])
        output = Output(logits, fused)
        if features:
            output.features = {"mixed": mixed, "semantic": semantic}
        return output

    def _segment(
        self, mixed: Sequence[tuple[Tensor, Tensor]], size: Sequence[int]
    ) -> tuple[list[Tensor], Tensor | None]:
        """The maps of both bands and the logits; none, and None, in a system that only fuses."""
        if self.cycles is None or self.segmentation is None:
            return [], None
        semantic = [cycle(*grids) for cycle, grids in zip(self.cycles, mixed, strict=True)]
        return semantic, upsample(self.segmentation(semantic), size)

    def phases(self, recipe: Recipe) -> list[Phase]:
        """One phase, on cross-entropy and 0.1 L_fus."""
        return [Phase("mrfs", trained=self, keeps=self, loss=self._loss, recipe=recipe)]

    def deployed(self, bands: Bands) -> list[nn.Module]:
        self.check_bands(bands)
        return [self]

    def _prepared(self, image: Tensor) -> Tensor:
        return image.expand(-1, 3, -1, -1) if self.band_input is None else self.band_input(image)

    def _loss(self, batch: Batch) -> dict[str, Tensor]:
        """CE(l) + 0.1 L_fus(f). Without a label, or with one band missing, the part that is still defined."""
        visible, infrared = batch.visible, batch.infrared
        label = batch.label if self.segments else None
        output = self(visible, infrared, features=False)
        terms: dict[str, Tensor] = {}
        if label is not None:
            assert output.logits is not None
            terms["ce"] = cross_entropy(output.logits, label)
        if visible is not None and infrared is not None:
            assert output.fused is not None
            parts = fusion_loss(output.fused, visible, infrared, valid=batch.valid, **self.fusion_settings)
            terms |= {name: self.fusion_weight * part for name, part in parts.items()}
        if not terms:
            raise OptionError(
                f"mrfs: without labels it is trained on the fused picture alone, which takes both bands, and "
                f"not {bands_of(visible, infrared)} alone; leave out augmentation.band_dropout"
            )
        return terms
