"""SegMiF: a fusion network that is told what is where, and a segmentation of the fused picture.

Paper: Liu, Liu, Wu, Ma, Liu, Zhong, Luo, Fan, "Multi-interactive Feature Learning and a Full-time
Multi-modality Benchmark for Image Fusion and Segmentation", ICCV 2023 (arXiv 2308.02097). The design, its
sizes and its recipe are those of the authors' public code, github.com/JinyuanLiu-CV/SegMiF, which we know
from a description in words; nothing of it is used here. We did not check the licences of that code and of its
weights. The published Mix Transformer weights are non-commercial (see `crossband.blocks.mix_transformer`).

The segmentation network's first two stages look at the visible image; the fusion network makes one grey
picture of luma, infrared and these two maps; it gets the visible image's colour, and the segmentation network
classifies it. Both networks are trained in turns. docs/systems/segmif.md lists what is left open, and how we
decided.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
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
from crossband.losses.segmentation import cross_entropy
from crossband.pairs.batch import Batch
from crossband.recipe import Recipe
from crossband.systems.base import Output, Phase, System
from crossband.systems.segmif.pseudo_target import TargetKind, imitation_loss, likeness_loss, pseudo_target
from crossband.systems.segmif.semantic_fusion import HEAD_WIDTH, SemanticFusion
from crossband.words import Bands, Support

ROUNDS = 7
SEMANTIC_LEVELS = (1, 2)

_FUSION: Mapping[str, Any] = {
    "batch_size": 2,
    "optimizer": "adamw",
    "weight_decay": 0.01,
    "schedule_per": "step",
    "power": 1.0,
}
_SEGMENTATION: Mapping[str, Any] = {
    **_FUSION,
    "epochs": 26,  # 10,000 steps on MFNet's 784 images
    "lr": 8e-5,
    "decay_norms": False,
    "warmup_steps": 3000,
    "horizon": 16.0,
    "groups": {"head": {"lr": 8e-4}},
}


def _rounds(
    fusion: Mapping[str, Any], segmentation: Callable[[int], Mapping[str, Any]], **first: Any
) -> dict[str, Any]:
    """Recipes of every phase: the fusion's rate is divided by the round; ``first`` is of the first alone."""
    recipes: dict[str, Any] = {}
    for number in range(1, ROUNDS + 1):
        own = {**fusion, "lr": fusion["lr"] / number, **(first if number == 1 else {})}
        recipes |= {f"fusion-{number}": own, f"segmentation-{number}": dict(segmentation(number))}
    return recipes


def _one_decay(number: int, *, lr: float, **fields: Any) -> dict[str, Any]:
    """The part in one round of a polynomial decay of power 0.9 that goes on through all rounds."""
    left = ROUNDS - number + 1
    return {**fields, "lr": lr * (left / ROUNDS) ** 0.9, "power": 0.9, "horizon": float(left)}


PHASE_RECIPES: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    # 6,000 steps in the first round and 4,000 in the others, of a decay over 20,000.
    "paper": _rounds(
        {**_FUSION, "lr": 1e-4, "epochs": 10, "horizon": 5.0},
        lambda number: _SEGMENTATION,
        epochs=15,
        horizon=10 / 3,
    ),
    # 203 epochs of segmentation in seven rounds. A fusion by SGD at that rate would not get far in the time.
    "common": _rounds(
        {**_FUSION, "batch_size": 8, "lr": 1e-3, "epochs": 8}, partial(_one_decay, lr=5e-3, epochs=29)
    ),
    "quick": _rounds(
        {"lr": 1e-3, "epochs": 2, "warmup_steps": 5},
        partial(_one_decay, lr=1e-3, epochs=3, warmup_steps=5),
        epochs=4,
    ),
}
RECIPES: Mapping[str, Mapping[str, Any]] = {
    "paper": _FUSION,
    "quick": {"optimizer": "adamw", "lr": 1e-3, "weight_decay": 0.01, "decay_norms": False},
}
AUGMENTATIONS: Mapping[str, Mapping[str, Any]] = {
    "paper": {
        "crop": (320, 480),
        "scale": (0.5, 2.0),
        "brightness": 0.125,
        "contrast": 0.5,
        "saturation": 0.5,
    }
}


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
    def semantics(self, picture: Tensor) -> list[Tensor]:
        """The maps of the first two levels, as in evaluation whatever the mode, and without gradient."""
        maps, features = [], self.band_input(picture)
        with _evaluating(self.encoder):
            for level in SEMANTIC_LEVELS:
                features = self.encoder.blocks(level, self.encoder.embed(level, features))
                maps.append(features)
        return maps


class SegMiF(System):
    """SegMiF. classes: number of classes; a picture cannot be fused without the segmentation's features.

    encoder, encoder_weights: ``mit_b0`` to ``mit_b5``, ``pvt_v2_*``, or a convolutional encoder.
    stochastic_depth: of transformers. decoder_channels, dropout: of the segmentation's head. fusion_width:
    channels of the fusion network, a multiple of 8.

    semantics: the picture whose features guide the fusion, in training and afterwards: the "visible" image,
    or the "target" of the fusion in the visible image's colour. target: see `pseudo_target`.
    shared_interaction: one attention for both of its places, as published. published_extras: also hold the
    published network's weights that nothing reads (see `dead`).

    rounds: how often fusion and segmentation are trained in turns, 1 to 7. fusion_weight (divided by the
    round), ssim_weight, ce_weight: of the fusion's losses from the second round on.

    Raises OptionError for values that do not exist.
    """

    name = "segmif"
    summary = "SegMiF: a fused picture made with the segmentation's features, and its classes"
    paper = "Liu et al., ICCV 2023, arXiv 2308.02097"
    fuses = True
    multiple = 32
    supports: Mapping[Bands, Support] = {"both": "designed", "infrared": "fallback", "visible": "fallback"}
    recipes: ClassVar[Mapping[str, Mapping[str, Any]]] = RECIPES
    phase_recipes: ClassVar[Mapping[str, Mapping[str, Mapping[str, Any]]]] = PHASE_RECIPES
    augmentations: ClassVar[Mapping[str, Mapping[str, Any]]] = AUGMENTATIONS

    def __init__(
        self,
        classes: int | None,
        *,
        encoder: str = "mit_b3",
        encoder_weights: str | Path | None = None,
        stochastic_depth: float = 0.1,
        decoder_channels: int = 256,
        dropout: float = 0.1,
        fusion_width: int = 64,
        semantics: Literal["visible", "target"] = "visible",
        target: TargetKind = "saliency",
        shared_interaction: bool = True,
        published_extras: bool = True,
        rounds: int = ROUNDS,
        fusion_weight: float = 0.4,
        ssim_weight: float = 1.1,
        ce_weight: float = 0.8,
    ):
        super().__init__()
        classes = self.need_classes(classes)
        self.check_choice("semantics", semantics, ("visible", "target"))
        self.check_choice("target", target, ("saliency", "maximum"))
        self.check_choice("rounds", rounds, tuple(range(1, ROUNDS + 1)))
        if fusion_width < 1 or fusion_width % HEAD_WIDTH:
            raise OptionError(f"segmif: fusion_width must be a multiple of {HEAD_WIDTH}, not {fusion_width}")
        self.guide = semantics
        self.target: TargetKind = target
        self.rounds = rounds
        self.fusion_weight, self.ssim_weight, self.ce_weight = fusion_weight, ssim_weight, ce_weight
        self.segmenter = SegFormer(
            classes,
            encoder,
            encoder_weights,
            decoder_channels,
            dropout=dropout,
            stochastic_depth=stochastic_depth,
            unused_classifier=published_extras,
        )
        self.fusion = SemanticFusion(
            self.segmenter.encoder.channels,
            fusion_width,
            shared_interaction=shared_interaction,
            unused_interaction=published_extras,
        )

    def run(self, visible: Tensor | None, infrared: Tensor | None, *, features: bool) -> Output:
        visible, infrared = stand_in(visible, infrared)
        grey = self.fuse(visible, infrared)
        picture = with_luma(visible, grey)
        output = Output(self.segmenter(picture), picture)
        if features:
            output.features = {"grey": grey}
        return output

    def fuse(self, visible: Tensor, infrared: Tensor) -> Tensor:
        """The fused grey picture (B, 1, H, W) of both bands, about in [0, 1] but not clipped to it.

        visible: (B, 3, H, W), infrared: (B, 1, H, W), of a size that is a multiple of ``multiple``.
        """
        brightness, seen = luma(visible), visible
        if self.guide == "target":
            seen = with_luma(visible, pseudo_target(brightness, infrared, kind=self.target))
        return self.fusion(brightness, infrared, self.segmenter.semantics(seen))

    def phases(self, recipe: Recipe) -> list[Phase]:
        """``fusion-1``, ``segmentation-1``, ``fusion-2``, ...: each network learns while the other rests."""
        phases = []
        for number in range(1, self.rounds + 1):
            phases += [
                Phase(
                    f"fusion-{number}",
                    trained=self.fusion,
                    keeps=self,
                    loss=partial(self._fusion_loss, number),
                    recipe=recipe,
                    frozen=(self.segmenter,),
                    # The classes of a picture whose segmentation is not trained yet say nothing about it.
                    chooses="loss",
                ),
                Phase(
                    f"segmentation-{number}",
                    trained=self.segmenter,
                    keeps=self,
                    loss=self._segmentation_loss,
                    recipe=recipe,
                    frozen=(self.fusion,),
                    groups={"head": self.segmenter.head},
                ),
            ]
        return phases

    def deployed(self, bands: Bands) -> list[nn.Module]:
        self.check_bands(bands)
        return [self]

    def dead(self) -> list[nn.Module]:
        """The second attention, if the first is used twice, and a classifier; none without the extras."""
        second = self.fusion.interaction2 if self.fusion.shared_interaction else None
        return [module for module in (second, self.segmenter.classifier) if module is not None]

    def _fusion_loss(self, number: int, batch: Batch) -> dict[str, Tensor]:
        """Of the first round, against the target alone; of round r > 1,

        (fusion_weight / r) [MSE + ssim_weight (1 - SSIM)] + ce_weight CE of the classes in the picture.
        """
        visible, infrared = stand_in(batch.visible, batch.infrared)
        height, width = visible.shape[-2:]
        padded, valid = self.pad(visible), batch.valid
        assert padded is not None
        grey = self.fuse(padded, self.pad(infrared))  # type: ignore[arg-type]
        target = pseudo_target(luma(visible), infrared, valid, kind=self.target)
        if number == 1:
            return imitation_loss(grey[..., :height, :width], target, valid)
        likeness = likeness_loss(grey[..., :height, :width], target, valid, ssim_weight=self.ssim_weight)
        terms = {name: self.fusion_weight / number * term for name, term in likeness.items()}
        return terms | {"ce": self.ce_weight * self._cross_entropy(with_luma(padded, grey), batch)}

    def _segmentation_loss(self, batch: Batch) -> dict[str, Tensor]:
        """Cross-entropy of the classes in the picture that the resting fusion network makes."""
        visible, infrared = (self.pad(band) for band in stand_in(batch.visible, batch.infrared))
        assert visible is not None
        assert infrared is not None
        with torch.no_grad():
            picture = with_luma(visible, self.fuse(visible, infrared))
        # Casts of the encoder's weights that autocast kept there would carry no gradient here.
        torch.clear_autocast_cache()
        return {"ce": self._cross_entropy(picture, batch)}

    def _cross_entropy(self, picture: Tensor, batch: Batch) -> Tensor:
        label = batch.label
        assert label is not None
        return cross_entropy(self.segmenter(picture)[..., : label.shape[-2], : label.shape[-1]], label)


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
