"""AMDANet: one network that segments a pair and fuses it into one picture.

Paper: "AMDANet: Attention-Driven Multi-Perspective Discrepancy Alignment for RGB-Infrared Image Fusion and
Segmentation", ICCV 2025. Its supplement names the modules, the weights of the losses and the threshold, and
has the ablations; formulas, sizes and recipe are those of the published code. None of that code is used
here: this is written from a description in words. Where the sources differ, or the code has a defect, the
defaults are our choice and the variant "as-published" is the code's; docs/systems/amdanet.md lists all.

Two Mix Transformers read the two bands. At every stage the streams are mixed where they disagree (semantic
consistency inference), correct each other locally, and meet in one map globally. A segmentation decoder
reads the four common maps, a fusion decoder the four maps of each band. In training both also work from
masked maps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
from crossband.blocks.pyramid_encoder import LEVELS, Padding, check_side
from crossband.blocks.stand_in import stand_in
from crossband.errors import OptionError
from crossband.option_ranges import NOT_NEGATIVE, POSITIVE, SHARE, SHARE_BELOW_1, Range
from crossband.systems.amdanet.aligned_encoder import AlignedEncoder, AlignedLevels, LocalKind, TwoGrids
from crossband.systems.amdanet.consistency import ConsistencyGate
from crossband.systems.amdanet.local_alignment import AlignmentStart
from crossband.systems.amdanet.reliability import blend
from crossband.systems.base import NetworkSettings, Output, System
from crossband.systems.registry import in_words
from crossband.words import Band, Bands, Support

VARIANTS: dict[str, dict[str, Any]] = {
    "clean": {},
    "as-published": {
        "swap_streams": True,
        "gate": "batch-any",
        "similarity_scale": 0.1,
        "train_lambda": False,
        "stage2_depth": "published",
        "alignment_start": "published",
        "alignment_scaling": False,
        "norm_eps": 0.01,
        "norm_momentum": 0.01,
        "evaluation_norm_eps": 1e-5,
        "masked_in_evaluation": True,
        "padding": "none",
    },
}
"""The defaults, and how the published code's network differs from them."""

# Of the visible and of the infrared encoder: both were meant to be 0 to 7, the blocks of the stage.
PUBLISHED_STAGE2_RATES = (0, 1)
MaskSite = Literal["code", "modality"]
Pictures = tuple[Tensor, Tensor]


@dataclass(frozen=True, kw_only=True)
class AMDANetSettings(NetworkSettings):
    """encoder: what finds features in a band: ``mit_b0`` to ``mit_b5``, ``pvt_v2_*``, or a convolutional
    encoder; one per band, unless share_encoder. encoder_weights: what it starts from: None is random,
    "imagenet" weights that were trained there, or the path of a file with such weights.
    share_encoder: whether both bands go through one encoder, and not each through its own. stochastic_depth:
    at which rate a transformer's last block is skipped in training, in [0, 1); those before it less often,
    and 0 skips none. stage2_depth: how these rates grow from block to block: as a "ramp" through all stages,
    or as "published", where the code repeats one throughout stage 2 (Mix Transformer only).
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

    gate: which pairs the semantic consistency module mixes: "sample" those whose bands disagree, each by
    itself, "batch-any" the whole batch if one does, "always" all. tau: the agreement below which bands
    disagree; it is a mean cosine, 1 where features are alike and 0 where they have nothing in common.
    similarity_scale: factor of the agreement before it is compared with tau; below 1 more pairs disagree.
    swap_streams: whether what was mixed for one band goes on in the place of the other. train_lambda: whether
    the strength of the mixture, which starts at 0.5, is trained; see `SemanticConsistency`. local_alignment,
    alignment_start, alignment_scaling,
    global_alignment: see `AlignedEncoder`. salient_enhancement: whether each band's salient features are
    enhanced before the bands are aligned globally; see `GlobalAlignment`.

    mask_keep: the share of a map's values that stay in training's second pass, in which the others are set to
    0; in (0, 1]. mask_site: with "code" and probability 1/2, the four shared maps are masked for the
    segmentation decoder, and the fused picture stays as it is; else the maps of both bands are masked for the
    fusion decoder, and the logits differ from the first ones by their dropout only. With "modality", the maps
    of one band, drawn evenly, are masked before they are aligned, and both decoders run on what the alignment
    makes of that; the encoder's way goes on without masks.
    masked_in_evaluation: whether the second pass is made in evaluation too, as in the published code, but
    not in a compiled or exported graph; no result depends on it.

    reliability_gate: whether both bands are weighed at every position by how far they are to be believed;
    ours.
    reconstruction: whether the features of a band that is missing, or not to be believed, are predicted from
    the other's; ours. With either, a missing band is what the system was trained for.

    Raises OptionError for values that do not go together.
    """

    encoder: str = "mit_b4"
    encoder_weights: str | Path | None = None
    share_encoder: bool = False
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
    gate: ConsistencyGate = "sample"
    tau: float = 0.4
    similarity_scale: float = 1.0
    swap_streams: bool = False
    train_lambda: bool = True
    local_alignment: LocalKind = "local"
    alignment_start: AlignmentStart = "identity"
    alignment_scaling: bool = False
    global_alignment: bool = True
    salient_enhancement: bool = True
    mask_keep: float = 0.85
    mask_site: MaskSite = "code"
    masked_in_evaluation: bool = False
    reliability_gate: bool = False
    reconstruction: bool = False

    ranges: ClassVar[Mapping[str, Range]] = {
        "stochastic_depth": SHARE_BELOW_1,
        "dropout": SHARE_BELOW_1,
        "norm_eps": POSITIVE,
        "norm_momentum": SHARE,
        "evaluation_norm_eps": POSITIVE,
        "similarity_scale": NOT_NEGATIVE,
        "mask_keep": Range(0, 1, above=True),
    }

    def __post_init__(self) -> None:
        if self.stage2_depth == "published" and not is_mix_transformer(self.encoder):
            raise OptionError(
                "amdanet: stage2_depth published (also of the variant as-published) belongs to the Mix "
                f"Transformer; set it to ramp for encoder {self.encoder!r}"
            )
        if self.restores and self.swap_streams:
            raise OptionError(
                "amdanet: swap_streams runs a band through the other's encoder, so that reliability_gate and "
                "reconstruction cannot tell whose features are whose; leave one of them out"
            )

    @property
    def restores(self) -> bool:
        """Whether it has an option for bands that fail."""
        return self.reliability_gate or self.reconstruction


@dataclass
class AMDANetFeatures:
    """levels: the aligned levels. pictures: the visible and the infrared picture of the padded size."""

    levels: AlignedLevels
    pictures: Pictures


class AMDANet(System):
    """AMDANet. classes: number of classes, or None for a system that only fuses."""

    name = "amdanet"
    summary, paper = in_words(name)
    built_from = AMDANetSettings
    trained_by = "crossband.systems.amdanet.training:AMDANetTraining"
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = VARIANTS
    earlier: ClassVar[Mapping[str, Any]] = {"alignment_start": "published", "padding": "edge"}
    fuses = True
    multiple = 32

    def __init__(self, classes: int | None, settings: AMDANetSettings):
        super().__init__(classes, settings)
        self.restores = settings.restores
        alone: Support = "designed" if self.restores else "fallback"
        self.supports: Mapping[Bands, Support] = {"both": "designed", "infrared": alone, "visible": alone}
        self.segments = classes is not None
        if settings.padding == "none":
            self.multiple = 1
        normalisation = settings.input_normalisation
        if normalisation == "auto":
            normalisation = "none" if is_mix_transformer(settings.encoder) else "encoder"
        self.band_input = BandInput(settings.encoder) if normalisation == "encoder" else None
        self.enc = AlignedEncoder(
            settings.encoder,
            settings.encoder_weights,
            stochastic_depth=settings.stochastic_depth,
            stage2_rates_of=PUBLISHED_STAGE2_RATES if settings.stage2_depth == "published" else None,
            share_encoder=settings.share_encoder,
            consistency={
                "gate": settings.gate,
                "tau": settings.tau,
                "similarity_scale": settings.similarity_scale,
                "swap_streams": settings.swap_streams,
                "train_lambda": settings.train_lambda,
            },
            local_alignment=settings.local_alignment,
            alignment_start=settings.alignment_start,
            alignment_scaling=settings.alignment_scaling,
            global_alignment=settings.global_alignment if self.segments else None,
            salient_enhancement=settings.salient_enhancement,
            reliability_gate=settings.reliability_gate,
            reconstruction=settings.reconstruction,
        )
        norm = {
            "eps": settings.norm_eps,
            "momentum": settings.norm_momentum,
            "evaluation_eps": settings.evaluation_norm_eps,
        }
        self.seg = None
        if classes is not None:
            self.seg = SegmentationDecoder(
                self.enc.channels, classes, settings.decoder_channels, dropout=settings.dropout, norm=norm
            )
        self.fus = FusionDecoder(self.enc.channels, settings.fusion_channels, norm=norm)

    def run(self, visible: Tensor | None, infrared: Tensor | None, *, features: bool) -> Output:
        levels, pictures, reliability = self.encode(visible, infrared)
        logits = self.segment(levels.shared, pictures[0].shape[-2:])
        output = Output(logits, self.fuse(levels.aligned, pictures), reliability=reliability)
        # A compiled graph has no use for it, and an exported one cannot hold the draw.
        if self.settings.masked_in_evaluation and not (self.training or torch.compiler.is_compiling()):
            masked, _ = self.masked(levels, pictures)
            if features and masked is not None:
                output.branches = {"masked": masked}
        if features:
            output.features = AMDANetFeatures(levels, pictures)
        return output

    def encode(
        self, visible: Tensor | None, infrared: Tensor | None, present: Trust | None = None
    ) -> tuple[AlignedLevels, Pictures, dict[Band, Tensor]]:
        """The aligned levels, the pictures that the fusion decoder gets, and the reliability of both bands.

        visible: (B, 3, H, W), infrared: (B, 1, H, W), one of them None if it is missing. present: see
        `AlignedEncoder`. The reliability is empty without a gate.
        """
        pictures = stand_in(visible, infrared)
        check_side(self.name, pictures[0])
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

    def masked(self, levels: AlignedLevels, pictures: Pictures) -> tuple[Tensor | None, Tensor | None]:
        """Mutual feature mask learning: logits and fused picture of one masked pass, of the padded size.

        A share 1 - mask_keep of the elements is set to 0, without making the others larger. What is masked
        is drawn: see `AMDANetSettings.mask_site`. The fused picture is None where it stays as it is.
        """
        settings: AMDANetSettings = self.settings
        size = pictures[0].shape[-2:]

        def thinned(grid: Tensor) -> Tensor:
            return grid * torch.empty_like(grid).bernoulli_(settings.mask_keep)

        first = bool(torch.rand(()) < 0.5)
        if settings.mask_site == "modality":
            aligned: list[TwoGrids] = []
            shared: list[Tensor] = []
            for level, (x, y), trust in zip(LEVELS, levels.unaligned, levels.trust, strict=True):
                x, y = (thinned(x), y) if first else (x, thinned(y))
                x, y, common = self.enc.align(level, x, y, trust)
                aligned.append((x, y))
                shared += [] if common is None else [common]
            return self.segment(shared, size), self.fuse(aligned, pictures)
        if first and self.segments:
            return self.segment([thinned(grid) for grid in levels.shared], size), None
        aligned = [(thinned(x), thinned(y)) for x, y in levels.aligned]
        return self.segment(levels.shared, size), self.fuse(aligned, pictures)

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

    def encoders(self) -> list[nn.Module]:
        return [self.enc.rgb, self.enc.ir]

    def _prepared(self, image: Tensor | None) -> Tensor | None:
        if image is None:
            return None
        return image.expand(-1, 3, -1, -1) if self.band_input is None else self.band_input(image)
