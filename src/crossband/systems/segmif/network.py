"""SegMiF: a fusion network that is told what is where, and a segmentation of the fused picture.

Paper: Liu, Liu, Wu, Ma, Liu, Zhong, Luo, Fan, "Multi-interactive Feature Learning and a Full-time
Multi-modality Benchmark for Image Fusion and Segmentation", ICCV 2023 (arXiv 2308.02097). The design, its
sizes and its recipe are those of the authors' public code, github.com/JinyuanLiu-CV/SegMiF, which we know
from a description in words; nothing of it is used here. We did not check the licences of that code and of its
weights. The published Mix Transformer weights are non-commercial (see `crossband.blocks.mix_transformer`).

The segmentation network's first two stages look at a grey picture that stands for the pair, the fusion's
target; the fusion network makes one grey picture of luma, infrared and these two maps; it gets the visible
image's colour, and the segmentation network classifies it. Both networks are trained in turns.
docs/systems/segmif.md lists what is left open, and how we decided.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from crossband.blocks.band_input import BandInput
from crossband.blocks.decoders import SegmentationDecoder, upsample
from crossband.blocks.luma import luma, with_luma
from crossband.blocks.mix_transformer import to_grid
from crossband.blocks.pyramid import build_pyramid
from crossband.blocks.stand_in import stand_in
from crossband.errors import OptionError
from crossband.option_ranges import SHARE_BELOW_1, Range
from crossband.systems.base import NetworkSettings, Output, System
from crossband.systems.registry import in_words
from crossband.systems.segmif.pseudo_target import TargetKind, pseudo_target
from crossband.systems.segmif.semantic_fusion import HEAD_WIDTH, Interaction, SemanticFusion
from crossband.words import Bands, Support

SEMANTIC_LEVELS = (1, 2)


class SegFormer(nn.Module):
    """A pyramid and SegFormer's head of linear layers, on pictures in [0, 1]; see `build_pyramid`.

    unused_classifier: also hold a classifier of the last level that nothing reads.
    """

    def __init__(
        self,
        classes: int,
        encoder: str,
        encoder_weights: str | Path | None,
        width: int,
        *,
        dropout: float,
        stochastic_depth: float,
        unused_classifier: bool,
    ):
        super().__init__()
        self.band_input = BandInput(encoder)
        self.encoder = build_pyramid(encoder, encoder_weights, drop_path=stochastic_depth)
        channels = self.encoder.channels
        self.head = SegmentationDecoder(channels, classes, width, dropout=dropout, mixing_bias=False)
        unused = nn.Conv2d(channels[-1], classes, 1, bias=False) if unused_classifier else None
        self.classifier = unused

    def forward(self, picture: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> logits (B, classes, H, W)."""
        maps = self.encoder(self.band_input(picture))
        return upsample(self.head([to_grid(each) for each in maps]), picture.shape[-2:])

    @torch.no_grad()
    def semantics(self, image: Tensor) -> list[Tensor]:
        """The maps of the first two levels, as in evaluation whatever the mode, and without gradient.

        image: (B, 3, H, W), normalised or not: as the encoder is to get it.
        """
        maps, features = [], image
        with _evaluating(self.encoder):
            for level in SEMANTIC_LEVELS:
                features = self.encoder.blocks(level, self.encoder.embed(level, features))
                maps.append(features)
        return maps


@dataclass(frozen=True, kw_only=True)
class SegMiFSettings(NetworkSettings):
    """encoder: what finds features in the pictures for the classes: ``mit_b0`` to ``mit_b5``, ``pvt_v2_*``,
    or a convolutional encoder.
    encoder_weights: what the encoder starts from: None is random, "imagenet" weights that were trained there,
    or the path of a file with such weights.
    stochastic_depth: at which rate a transformer's last block is skipped in training, in [0, 1); those before
    it less often, and 0 skips none. decoder_channels: channels of the head that predicts the classes; fewer
    are faster. dropout: the share of that head's channels that is left out at random in training, in [0, 1).
    fusion_width: channels of the network that makes the fused picture, a multiple of 8.

    semantics: the picture whose features guide the fusion, in training and afterwards: the fusion's target as
    a "grey-target", in three channels and not normalised, as published; the "visible" image, or the "target"
    with the visible image's colour, both with the encoder's mean and deviation. target: the grey
    picture that a fused one should look like: the bands weighted by "saliency", or their "maximum"; the
    training aims at it too (`pseudo_target`). interaction: see `SemanticFusion`. shared_interaction: whether
    the two places where bands and classes meet have the same weights, as published, or each its own.
    published_extras: whether the network also holds the published one's weights that nothing reads (see
    `dead`); they change no result, only the count.

    Raises OptionError for a width that does not fit.
    """

    encoder: str = "mit_b3"
    encoder_weights: str | Path | None = None
    stochastic_depth: float = 0.1
    decoder_channels: int = 256
    dropout: float = 0.1
    fusion_width: int = 64
    semantics: Literal["grey-target", "visible", "target"] = "grey-target"
    target: TargetKind = "saliency"
    interaction: Interaction = "replaces"
    shared_interaction: bool = True
    published_extras: bool = True

    ranges: ClassVar[Mapping[str, Range]] = {"stochastic_depth": SHARE_BELOW_1, "dropout": SHARE_BELOW_1}

    def __post_init__(self) -> None:
        if self.fusion_width < 1 or self.fusion_width % HEAD_WIDTH:
            raise OptionError(
                f"segmif: fusion_width must be a multiple of {HEAD_WIDTH}, not {self.fusion_width}"
            )


@dataclass
class SegMiFFeatures:
    """grey: the fused grey picture (B, 1, H, W), not clipped to [0, 1]."""

    grey: Tensor


class SegMiF(System):
    """SegMiF. classes: number of classes; a picture cannot be fused without the segmentation's features."""

    name = "segmif"
    summary, paper = in_words(name)
    built_from = SegMiFSettings
    trained_by = "crossband.systems.segmif.training:SegMiFTraining"
    earlier: ClassVar[Mapping[str, Any]] = {"semantics": "visible", "interaction": "adds"}
    fuses = True
    needs_labels = True
    multiple = 32
    supports: Mapping[Bands, Support] = {"both": "designed", "infrared": "fallback", "visible": "fallback"}

    def __init__(self, classes: int | None, settings: SegMiFSettings):
        super().__init__(classes, settings)
        self.segmenter = SegFormer(
            self.need_classes(classes),
            settings.encoder,
            settings.encoder_weights,
            settings.decoder_channels,
            dropout=settings.dropout,
            stochastic_depth=settings.stochastic_depth,
            unused_classifier=settings.published_extras,
        )
        self.fusion = SemanticFusion(
            self.segmenter.encoder.channels,
            settings.fusion_width,
            interaction=settings.interaction,
            shared_interaction=settings.shared_interaction,
            unused_interaction=settings.published_extras,
        )

    def run(self, visible: Tensor | None, infrared: Tensor | None, *, features: bool) -> Output:
        visible, infrared = stand_in(visible, infrared)
        grey = self.fuse(visible, infrared)
        picture = with_luma(visible, grey)
        output = Output(self.segmenter(picture), picture)
        if features:
            output.features = SegMiFFeatures(grey)
        return output

    def fuse(self, visible: Tensor, infrared: Tensor, valid: Tensor | None = None) -> Tensor:
        """The fused grey picture (B, 1, H, W) of both bands, about in [0, 1] but not clipped to it.

        visible: (B, 3, H, W), infrared: (B, 1, H, W), of a size that is a multiple of ``multiple``. valid:
        bool (B, H, W), the pixels that show an image, or None if all do.
        """
        semantics = self.segmenter.semantics(self._guide(visible, infrared, valid))
        return self.fusion(luma(visible), infrared, semantics)

    def _guide(self, visible: Tensor, infrared: Tensor, valid: Tensor | None) -> Tensor:
        """What the encoder gets, to say what is where: (B, 3, H, W)."""
        if self.settings.semantics == "visible":
            return self.segmenter.band_input(visible)
        target = pseudo_target(luma(visible), infrared, valid, kind=self.settings.target).to(visible.dtype)
        if self.settings.semantics == "grey-target":
            return target.expand(-1, 3, -1, -1)
        return self.segmenter.band_input(with_luma(visible, target))

    def deployed(self, bands: Bands) -> list[nn.Module]:
        self.check_bands(bands)
        return [self]

    def dead(self) -> list[nn.Module]:
        """The second attention, if the first is used twice, and a classifier; none without the extras."""
        second = self.fusion.interaction2 if self.fusion.shared_interaction else None
        return [module for module in (second, self.segmenter.classifier) if module is not None]

    def encoders(self) -> list[nn.Module]:
        return [self.segmenter.encoder]


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """A module in evaluation mode, for a while."""
    training = [part for part in module.modules() if part.training]
    for part in training:
        part.training = False
    try:
        yield
    finally:
        for part in training:
            part.training = True
