"""MRFS: a segmentation and a fusion of both bands that help each other.

Paper: Zhang, Zuo, Jiang, Guo, Ma, "MRFS: Mutually Reinforcing Image Fusion and Segmentation", CVPR 2024. Its
authors' code (github.com/HaoZhang1018/MRFS) states no licence that we know of, and none of it is used: this
is written from a description in words. The published weights of its encoder, the Mix Transformer, are for
non-commercial use only. Where the code has a defect, the defaults are our choice and the variant
"as-published" is the code's; docs/systems/mrfs.md lists all.

Two Mix Transformers read the two bands. After every stage each band takes from the other what a gate lets
through; both go on to the next stage and to a fusion decoder, and meet in a map for a segmentation decoder.
AMDANet has the same skeleton.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from crossband.blocks.alignment import CycleAttention, GatedMix
from crossband.blocks.band_input import BandInput
from crossband.blocks.decoders import FusionDecoder, SegmentationDecoder, upsample
from crossband.blocks.encoders import is_mix_transformer
from crossband.blocks.mix_transformer import initialise, to_grid, to_map
from crossband.blocks.pyramid import ConvolutionalPyramid, build_pyramid
from crossband.blocks.pyramid_encoder import LEVELS, Padding, check_side
from crossband.blocks.stand_in import stand_in
from crossband.blocks.tied import copy_weights
from crossband.errors import OptionError
from crossband.option_ranges import POSITIVE, SHARE, SHARE_BELOW_1, Range
from crossband.systems.base import NetworkSettings, Output, System
from crossband.systems.registry import in_words
from crossband.words import Bands, Support

# Of the visible and of the infrared encoder: both were meant to be 0 to 7, the blocks of the stage.
PUBLISHED_STAGE2_RATES = (0, 1)


VARIANTS: dict[str, dict[str, Any]] = {
    "mfnet": {},
    "pst900": {},
    "fmb": {},
    "as-published": {
        "stage2_depth": "published",
        "norm_eps": 0.01,
        "norm_momentum": 0.01,
        "evaluation_norm_eps": 1e-5,
        "padding": "none",
    },
}
"""The published code's settings for each benchmark, which are of the loss, and how its network differs."""


@dataclass(frozen=True, kw_only=True)
class MRFSSettings(NetworkSettings):
    """encoder: what finds features in a band, one per band: ``mit_b0`` to ``mit_b5``, ``pvt_v2_*``, or a
    convolutional encoder.
    encoder_weights: what the encoder starts from: None is random, "imagenet" weights that were trained there,
    or the path of a file with such weights.
    stochastic_depth: at which rate a transformer's last block is skipped in training, in [0, 1); those before
    it less often, and 0 skips none.
    stage2_depth: how these rates grow from block to block: as a "ramp" through all stages, or as "published",
    where the code repeats one throughout stage 2 (Mix Transformer only).
    input_normalisation: what encoders are given: images in [0, 1] ("none"), or with the mean and deviation
    that their weights expect ("encoder"); "auto" is none for Mix Transformers, as published, and the
    encoder's for all others.
    decoder_channels: channels of the decoder that predicts the classes; fewer are faster. fusion_channels:
    channels of the decoder that makes the fused picture. dropout: the share of channels that is left out at
    random in training, before the classes; in [0, 1). norm_eps: what the decoders' batch norms add to a
    variance before they divide by its root. norm_momentum: the share by which a batch moves their running
    statistics, in [0, 1]. evaluation_norm_eps: ``norm_eps`` of evaluation; None is the same as in training.

    padding: how images whose sides are no multiples of 32 are taken. "edge" repeats their edge up to one,
    "none" leaves them as they are, as published: what is left over of a map is then not attended to, and
    images have 29 pixels a side or more.
    missing: what stands in the place of a band that is missing: a "copy" of the other, or "zeros".

    Raises OptionError for values that do not go together.
    """

    encoder: str = "mit_b4"
    encoder_weights: str | Path | None = None
    stochastic_depth: float = 0.1
    stage2_depth: Literal["ramp", "published"] = "ramp"
    input_normalisation: Literal["auto", "none", "encoder"] = "auto"
    decoder_channels: int = 512
    fusion_channels: int = 16
    dropout: float = 0.1
    norm_eps: float = 1e-5
    norm_momentum: float = 0.1
    evaluation_norm_eps: float | None = None
    padding: Padding = "edge"
    missing: Literal["copy", "zeros"] = "copy"

    ranges: ClassVar[Mapping[str, Range]] = {
        "stochastic_depth": SHARE_BELOW_1,
        "dropout": SHARE_BELOW_1,
        "norm_eps": POSITIVE,
        "norm_momentum": SHARE,
        "evaluation_norm_eps": POSITIVE,
    }

    def __post_init__(self) -> None:
        if self.stage2_depth == "published" and not is_mix_transformer(self.encoder):
            raise OptionError(
                "mrfs: stage2_depth published (also of the variant as-published) belongs to the Mix "
                f"Transformer; set it to ramp for encoder {self.encoder!r}"
            )


@dataclass
class MRFSFeatures:
    """mixed: the (visible, infrared) grids of the four levels. semantic: the segmentation decoder's maps;
    none in a system that only fuses."""

    mixed: list[tuple[Tensor, Tensor]]
    semantic: list[Tensor]


class MRFS(System):
    """MRFS. classes: number of classes, or None for a system that only fuses."""

    name = "mrfs"
    summary, paper = in_words(name)
    built_from = MRFSSettings
    trained_by = "crossband.systems.mrfs.training:MRFSTraining"
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = VARIANTS
    earlier: ClassVar[Mapping[str, Any]] = {"evaluation_norm_eps": None, "padding": "edge"}
    fuses = True
    multiple = 32
    supports: Mapping[Bands, Support] = {"both": "designed", "infrared": "fallback", "visible": "fallback"}

    def __init__(self, classes: int | None, settings: MRFSSettings):
        super().__init__(classes, settings)
        self.segments = classes is not None
        if settings.padding == "none":
            self.multiple = 1
        normalisation = settings.input_normalisation
        if normalisation == "auto":
            normalisation = "none" if is_mix_transformer(settings.encoder) else "encoder"
        self.band_input = BandInput(settings.encoder) if normalisation == "encoder" else None
        of_visible, of_infrared = (
            PUBLISHED_STAGE2_RATES if settings.stage2_depth == "published" else (None, None)
        )
        self.visible = build_pyramid(
            settings.encoder,
            settings.encoder_weights,
            drop_path=settings.stochastic_depth,
            stage2_rate_of=of_visible,
        )
        self.infrared = build_pyramid(
            settings.encoder, None, drop_path=settings.stochastic_depth, stage2_rate_of=of_infrared
        )
        if settings.encoder_weights is not None:
            copy_weights(self.visible, self.infrared)
        channels = self.visible.channels
        norm = {
            "eps": settings.norm_eps,
            "momentum": settings.norm_momentum,
            "evaluation_eps": settings.evaluation_norm_eps,
        }
        self.mixes = nn.ModuleList(GatedMix(width) for width in channels)
        self.cycles = self.segmentation = None
        if classes is not None:
            sizes = zip(channels, self.visible.heads, self.visible.reductions, strict=True)
            self.cycles = nn.ModuleList(CycleAttention(*size) for size in sizes)
            self.segmentation = SegmentationDecoder(
                channels, classes, settings.decoder_channels, dropout=settings.dropout, norm=norm
            )
        self.fusion = FusionDecoder(channels, settings.fusion_channels, norm=norm)
        # The transformer's start; where features are narrow and small, hardly anything would come through it.
        if not isinstance(self.visible, ConvolutionalPyramid):
            for modules in (self.mixes, self.cycles):
                if modules is not None:
                    modules.apply(initialise)

    def run(self, visible: Tensor | None, infrared: Tensor | None, *, features: bool) -> Output:
        pictures = stand_in(visible, infrared, copy=self.settings.missing == "copy")
        check_side(self.name, pictures[0])
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
            output.features = MRFSFeatures(mixed, semantic)
        return output

    def _segment(
        self, mixed: Sequence[tuple[Tensor, Tensor]], size: Sequence[int]
    ) -> tuple[list[Tensor], Tensor | None]:
        """The maps of both bands and the logits; none, and None, in a system that only fuses."""
        if self.cycles is None or self.segmentation is None:
            return [], None
        semantic = [cycle(*grids) for cycle, grids in zip(self.cycles, mixed, strict=True)]
        return semantic, upsample(self.segmentation(semantic), size)

    def deployed(self, bands: Bands) -> list[nn.Module]:
        self.check_bands(bands)
        return [self]

    def encoders(self) -> list[nn.Module]:
        return [self.visible, self.infrared]

    def _prepared(self, image: Tensor) -> Tensor:
        return image.expand(-1, 3, -1, -1) if self.band_input is None else self.band_input(image)
