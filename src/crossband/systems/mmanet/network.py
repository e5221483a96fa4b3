"""MMANet: both bands, or either alone, taught by a network that always has both.

Paper: Wei, Luo, Luo, "MMANet: Margin-Aware Distillation and Modality-Aware Regularization for Incomplete
Multimodal Learning", CVPR 2023 (arXiv 2304.08028). Body: ESANet (ICRA 2021, arXiv 2011.06961), see
`esanet.py`. The authors' code is public (shicaiwei123/MMANet-CVPR2023, MIT; the licence of its
weights is not stated there). Nothing of it is copied: this is written from formulas and held against what the
code does. docs/systems/mmanet.md lists where the sources differ, or the code has a defect.

An encoder per band; after the first convolution and after each stage their maps are weighed by channel and
added. The visible encoder goes on from the sum, the infrared one from its own map. In training each pair of
a batch may lose a band. A frozen teacher that never does shows the student how pixels relate (MAD), and a
second decoder, for training only, works on the pairs that lack what costs most (MAR).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from crossband.blocks.band_input import BandInput
from crossband.blocks.encoder_weights import load_encoder_weights
from crossband.blocks.encoders import encoder_stages, five_stage_encoder, run_stage, smp_name, unread_modules
from crossband.blocks.tied import copy_weights
from crossband.errors import OptionError
from crossband.recipe import Recipe
from crossband.systems.base import Output, Phase, System
from crossband.systems.mmanet.esanet import (
    ContextModule,
    ConvNormRelu,
    Decoded,
    Decoder,
    SqueezeExcitation,
    decoder_widths,
)
from crossband.systems.mmanet.training import Uncertainty, Weak, plain_phase, taught_phase
from crossband.words import Bands, Support

ABLATIONS: dict[str, dict[str, object]] = {
    "MMANet": {},
    "w/o margin-aware distillation": {"distillation_weight": 0.0},
    "w/o modality-aware regularisation": {"regularisation_weight": 0.0},
    "modality dropout alone": {"distillation_weight": 0.0, "regularisation_weight": 0.0},
    "full modalities (ESANet)": {"modality_dropout": False},
}
"""The method's parts, as constructor arguments; the last row is the teacher by itself."""

DRAWS = ((True, False), (False, True), (True, True))
"""Of a pair in training, with equal chances: whether its visible and its infrared band are there."""

_RECIPE: dict[str, object] = {
    "epochs": 300,
    "batch_size": 8,
    "optimizer": "sgd",
    "lr": 0.01,
    "momentum": 0.9,
    "nesterov": True,
    "weight_decay": 1e-4,
    "schedule": "one-cycle",
    "schedule_per": "epoch",
}
RECIPES: dict[str, Mapping[str, object]] = {
    "paper": _RECIPE,
    "cityscapes": {**_RECIPE, "optimizer": "adam", "lr": 1e-4},
}
"""Of the published code for NYUv2 and for Cityscapes."""
AUGMENTATIONS: dict[str, Mapping[str, object]] = {
    "paper": {"crop": (480, 640), "scale": (1.0, 1.4), "brightness": 0.1, "saturation": 0.1},
    "cityscapes": {"crop": (512, 1024), "scale": (0.5, 2.0), "brightness": 0.1, "saturation": 0.1},
}


class MMANet(System):
    """MMANet. classes: number of classes.

    encoder, encoder_weights: any convolutional encoder that runs in five stages, one per band, with weights
    of their own. The infrared one has a single input channel; its first filters are the sums of the loaded
    ones over the colours. decoder_channels: width of the context module and of the decoder's first step.
    context_bins: rows of the context module's grids.

    modality_dropout: False trains one phase, on whole pairs: the teacher, which is ESANet, by itself.
    distillation_weight, regularisation_weight: k of MAD and a of MAR, here those for NYUv2; 0 leaves out
    what only that term needs (teacher, second decoder). The preset "cityscapes" has the other published
    pair, and the context module of that network.
    max_rows: most pixels of a batch that MAD compares; time and memory grow with its square.
    uncertainty: by what MAD weighs pixels, the entropy of the teacher's class probabilities ("logits"), or of
    the softmax of its decoder's first map ("feature"), as the published code does.
    warmup_epochs: for so many epochs there is neither MAD nor MAR; at most a quarter of the phase.
    weak: the band whose pairs MAR works on when it is all that is left: "mined" finds it on the validation
    pairs in the last part of the warm-up; "infrared" is what the published code assumes.
    class_weights: of the cross-entropy, one per class; None weighs all alike.

    Raises OptionError for values that do not exist and encoders that do not run in five stages.
    """

    name = "mmanet"
    summary = "MMANet: both bands or either alone, with modality dropout and a teacher that has both"
    paper = "Wei et al., CVPR 2023, arXiv 2304.08028"
    multiple = 32
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "nyuv2": {},
        "cityscapes": {
            "distillation_weight": 10.0,
            "regularisation_weight": 0.1,
            "context_bins": (1, 2, 4, 8),
        },
    }
    recipes: ClassVar[Mapping[str, Mapping[str, Any]]] = RECIPES
    augmentations: ClassVar[Mapping[str, Mapping[str, Any]]] = AUGMENTATIONS
    class_weights: Tensor | None

    def __init__(
        self,
        classes: int | None,
        *,
        encoder: str = "resnet50",
        encoder_weights: str | Path | None = None,
        decoder_channels: int = 512,
        context_bins: Sequence[int] = (1, 5),
        modality_dropout: bool = True,
        distillation_weight: float = 4.0,
        regularisation_weight: float = 0.2,
        max_rows: int = 4096,
        uncertainty: Uncertainty = "logits",
        warmup_epochs: int = 11,
        weak: Weak = "mined",
        class_weights: Sequence[float] | None = None,
    ):
        super().__init__()
        classes = self.need_classes(classes)
        self.check_choice("uncertainty", uncertainty, ("logits", "feature"))
        self.check_choice("weak", weak, ("mined", "infrared", "visible"))
        for name, value, least in (
            ("distillation_weight", distillation_weight, 0),
            ("regularisation_weight", regularisation_weight, 0),
            ("warmup_epochs", warmup_epochs, 0),
            ("max_rows", max_rows, 2),
            ("decoder_channels", decoder_channels, 1),
            ("context_bins", min(context_bins, default=0), 1),
        ):
            if not least <= value < math.inf:
                raise OptionError(f"mmanet: {name} must be {least} or more, not {value}")
        if class_weights is not None and (
            len(class_weights) != classes or not all(0 <= weight < math.inf for weight in class_weights)
        ):
            raise OptionError(
                f"mmanet: class_weights must be {classes} numbers of 0 or more, one per class, "
                f"not {list(class_weights)}"
            )
        alone: Support = "designed" if modality_dropout else "fallback"
        self.supports: Mapping[Bands, Support] = {"both": "designed", "infrared": alone, "visible": alone}
        self.modality_dropout = modality_dropout
        self.distillation_weight, self.regularisation_weight = distillation_weight, regularisation_weight
        self.max_rows, self.uncertainty = max_rows, uncertainty
        self.warmup_epochs, self.weak = warmup_epochs, weak
        self.body: dict[str, Any] = {
            "classes": classes,
            "encoder": encoder,
            "decoder_channels": decoder_channels,
            "context_bins": tuple(context_bins),
            "class_weights": class_weights,
        }
        weights = None if class_weights is None else torch.tensor(class_weights, dtype=torch.float32)
        self.register_buffer("class_weights", weights, persistent=False)

        self.band_input = BandInput(encoder)
        self.visible, self.infrared = (five_stage_encoder(encoder, channels=channels) for channels in (3, 1))
        if encoder_weights is not None:
            load_encoder_weights(self.visible, smp_name(encoder), encoder_weights)
            _start_from(self.infrared, self.visible)
        channels: Sequence[int] = self.visible.out_channels[1:]  # type: ignore[index, assignment]
        self.visible_gates = nn.ModuleList(map(SqueezeExcitation, channels))
        self.infrared_gates = nn.ModuleList(map(SqueezeExcitation, channels))
        widths = decoder_widths(decoder_channels)
        self.skips = nn.ModuleList(
            ConvNormRelu(inputs, outputs, 1) for inputs, outputs in zip(channels[3:0:-1], widths, strict=True)
        )
        self.context = ContextModule(channels[4], decoder_channels, context_bins)
        self.decoder = Decoder(classes, decoder_channels)

    def run(self, visible: Tensor | None, infrared: Tensor | None, *, features: bool) -> Output:
        present = None
        if visible is not None and infrared is not None and self.training and self.modality_dropout:
            choice = torch.randint(len(DRAWS), (len(visible),), device=visible.device)
            present = torch.tensor(DRAWS, device=visible.device)[choice]
        maps = self.encode(visible, infrared, present)
        context = self.context(maps[4])
        skips = [skip(x) for skip, x in zip(self.skips, maps[3:0:-1], strict=True)]
        decoded: Decoded = self.decoder(context, skips, sides=features)
        output = Output(decoded.logits)
        if features:
            if present is None:
                given = torch.tensor([visible is not None, infrared is not None], device=context.device)
                present = given.expand(len(context), 2)
            output.features = {
                "present": present,
                "maps": maps,
                "context": context,
                "skips": skips,
                "decoder": decoded.first,
                "logits": decoded.logits,
                "sides": decoded.sides,
            }
        return output

    def encode(
        self, visible: Tensor | None, infrared: Tensor | None, present: Tensor | None = None
    ) -> list[Tensor]:
        """The fused maps of the first convolution and of the four stages, at 1/2 to 1/32.

        visible: (B, 3, H, W), infrared: (B, 1, H, W), H and W multiples of 32. The encoder of a band that is
        None does not run. present: bool (B, 2), which pairs have their visible and their infrared band,
        where both are given; None for all.
        """
        x = None if visible is None else self.band_input(visible)
        y = None if infrared is None else self._normalise_infrared(infrared)
        maps = []
        stages = zip(encoder_stages(self.visible), encoder_stages(self.infrared), strict=True)
        for level, (visible_layers, infrared_layers) in enumerate(stages):
            summands = []
            if x is not None:
                x = run_stage(visible_layers, x)
                summands.append(self.visible_gates[level](_kept(x, present, 0)))
            if y is not None:
                y = run_stage(infrared_layers, y)
                summands.append(self.infrared_gates[level](_kept(y, present, 1)))
            maps.append(summands[0] if len(summands) == 1 else summands[0] + summands[1])
            if x is not None:
                x = maps[-1]
        return maps

    def _normalise_infrared(self, infrared: Tensor) -> Tensor:
        """One channel, with the mean of the colours' means and deviations."""
        return (infrared - self.band_input.mean.mean()) / self.band_input.std.mean()

    def phases(self, recipe: Recipe) -> list[Phase]:
        """First a teacher, an MMANet without modality dropout; or one phase only, of the teacher's kind."""
        if not self.modality_dropout:
            return [plain_phase("segmentation", self, recipe)]
        phases, teacher, regularisation = [], None, None
        if self.distillation_weight > 0:
            teacher = MMANet(**self.body, modality_dropout=False)
            # The teacher starts where the student starts: at the encoders' ImageNet weights, if any.
            copy_weights(self.visible, teacher.visible)
            copy_weights(self.infrared, teacher.infrared)
            phases.append(plain_phase("teacher", teacher, recipe))
        if self.regularisation_weight > 0:
            regularisation = Decoder(self.body["classes"], self.body["decoder_channels"])
        return [*phases, taught_phase("mmanet", self, teacher, regularisation, recipe)]

    def deployed(self, bands: Bands) -> list[nn.Module]:
        """Infrared alone runs neither the visible encoder nor its gates, and visible alone the reverse.

        Counted as published, with the decoder's side outputs, which inference does not call.
        """
        self.check_bands(bands)
        if bands == "both":
            return [self]
        own = (
            (self.infrared, self.infrared_gates)
            if bands == "infrared"
            else (self.visible, self.visible_gates)
        )
        return [*own, self.context, self.skips, self.decoder]

    def dead(self) -> list[nn.Module]:
        return [*unread_modules(self.visible), *unread_modules(self.infrared)]


def _start_from(encoder: nn.Module, colour: nn.Module) -> None:
    """Give a one-channel encoder the weights of a three-channel one, its first filters summed over colour."""
    ours, theirs = encoder.state_dict(), colour.state_dict()
    state = {
        key: value if value.shape == ours[key].shape else value.sum(dim=1, keepdim=True)
        for key, value in theirs.items()
    }
    nn.Module.load_state_dict(encoder, state)


def _kept(x: Tensor, present: Tensor | None, band: int) -> Tensor:
    """A band's map (B, C, h, w), exactly 0 for the pairs that lost it. Gates let zeros through as zeros."""
    return x if present is None else x * present[:, band, None, None, None]
