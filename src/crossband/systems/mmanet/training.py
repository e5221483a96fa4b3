"""How MMANet is trained: four cross-entropies, margin-aware distillation, modality-aware regularisation.

Wei, Luo, Luo, CVPR 2023 (arXiv 2304.08028); sources and licences: see the network's module.

    L = L_seg                                for the first epochs
    L = L_seg + k L_MAD + a L_MAR            from then on
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from crossband.blocks.tied import copy_weights
from crossband.errors import OptionError
from crossband.option_ranges import NOT_NEGATIVE, Range
from crossband.pairs.batch import Batch
from crossband.systems.base import EpochRow, Output, Phase, Training
from crossband.systems.mmanet.esanet import Decoded, Decoder, bin_means
from crossband.systems.mmanet.margin import margin_aware_distillation, prediction_entropy
from crossband.systems.mmanet.multiscale import multiscale_cross_entropy
from crossband.systems.mmanet.network import MMANet, MMANetFeatures
from crossband.words import IGNORE_INDEX, Band

ABLATIONS: dict[str, dict[str, object]] = {
    "MMANet": {},
    "w/o margin-aware distillation": {"distillation_weight": 0.0},
    "w/o modality-aware regularisation": {"regularisation_weight": 0.0},
    "modality dropout alone": {"distillation_weight": 0.0, "regularisation_weight": 0.0},
    "full modalities (ESANet)": {"modality_dropout": False},
}
"""The method's parts, as options of the network and of the loss; the last row is the teacher by itself."""

LONE_BANDS: tuple[Band, ...] = ("infrared", "visible")
DISTILLED_GRID = (30, 40)
"""Rows and columns to which larger maps are averaged before they are compared."""

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


@dataclass
class _State:
    """What changes from epoch to epoch: whether there are MAD and MAR, and which band MAR works on."""

    weak: Band
    taught: bool = True


@dataclass(frozen=True, kw_only=True)
class MMANetTraining(Training[MMANet]):
    """distillation_weight: weight k of MAD, by which features become those of the teacher, which sees both
        bands. It is that for NYUv2 (the variant "cityscapes" has the other published one); 0 leaves MAD and
        the teacher out.
    regularisation_weight: weight a of MAR, which trains a second decoder on pairs that have lost the stronger
        band. It is that for NYUv2 too; 0 leaves MAR and that decoder out.
    max_rows: most pixels of a batch that MAD compares; time and memory grow with its square.
    uncertainty: by what MAD weighs pixels, the entropy of the teacher's class probabilities ("logits"), or of
        the softmax of its decoder's first map ("feature"), as the published code does.
    warmup_epochs: for so many epochs there is neither MAD nor MAR; at most a quarter of the phase.
    weak: the band whose pairs MAR works on when it is all that is left: "mined" finds it on the validation
        pairs in the last part of the warm-up; "infrared" is what the published code assumes.
    class_weights: how much the pixels of each class count in the cross-entropy, one number per class; None
        counts all alike.

    The recipes are the published code's for NYUv2 ("paper") and for Cityscapes. Raises OptionError for
    class weights below 0.
    """

    ranges: ClassVar[Mapping[str, Range]] = {"max_rows": Range(2), "warmup_epochs": NOT_NEGATIVE}
    recipes: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": _RECIPE,
        "cityscapes": {**_RECIPE, "optimizer": "adam", "lr": 1e-4},
    }
    augmentations: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {"crop": (480, 640), "scale": (1.0, 1.4), "brightness": 0.1, "saturation": 0.1},
        "cityscapes": {"crop": (512, 1024), "scale": (0.5, 2.0), "brightness": 0.1, "saturation": 0.1},
    }
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "cityscapes": {"distillation_weight": 10.0, "regularisation_weight": 0.1}
    }

    distillation_weight: float = 4.0
    regularisation_weight: float = 0.2
    max_rows: int = 4096
    uncertainty: Literal["logits", "feature"] = "logits"
    warmup_epochs: int = 11
    weak: Literal["mined", "infrared", "visible"] = "mined"
    class_weights: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        weights = list(self.class_weights or ())
        if not all(0 <= weight < math.inf for weight in weights):
            raise OptionError(f"mmanet: class_weights must be numbers of 0 or more, not {weights}")

    def phases(self, system: MMANet) -> list[Phase]:
        """First a teacher, an MMANet without modality dropout; or one phase only, of the teacher's kind.

        Raises OptionError for class weights that are not as many as the classes.
        """
        classes = system.need_classes(system.classes)
        if self.class_weights is not None and len(self.class_weights) != classes:
            raise OptionError(
                f"mmanet: class_weights must be {classes} numbers, one per class, "
                f"not {list(self.class_weights)}"
            )
        settings = system.settings
        if not settings.modality_dropout:
            return [self._plain_phase("segmentation", system)]
        phases, teacher, regularisation = [], None, None
        if self.distillation_weight > 0:
            teacher = MMANet(classes, replace(settings, modality_dropout=False, encoder_weights=None))
            # The teacher starts where the student starts: at the encoders' ImageNet weights, if any.
            copy_weights(system.visible, teacher.visible)
            copy_weights(system.infrared, teacher.infrared)
            phases.append(self._plain_phase("teacher", teacher))
        if self.regularisation_weight > 0:
            regularisation = Decoder(classes, settings.decoder_channels)
        return [*phases, self._taught_phase(system, teacher, regularisation)]

    def _plain_phase(self, name: str, system: MMANet) -> Phase:
        """A phase of L_seg alone."""

        def loss(batch: Batch) -> dict[str, Tensor]:
            assert batch.label is not None
            output = system(batch.visible, batch.infrared, features=True)
            return self._segmentation(system, output, batch.label)

        return Phase(name, trained=system, keeps=system, loss=loss)

    def _taught_phase(self, system: MMANet, teacher: MMANet | None, regularisation: Decoder | None) -> Phase:
        """The phase of the whole loss; a term whose module is None is left out.

        It is validated on each band alone too, which is how the weak one is found.
        """
        state = _State(weak="visible" if self.weak == "visible" else "infrared")
        students = nn.ModuleDict({"system": system})
        if regularisation is not None:
            students["regularisation"] = regularisation

        def loss(batch: Batch) -> dict[str, Tensor]:
            visible, infrared, label = batch.visible, batch.infrared, batch.label
            assert label is not None
            output = system(visible, infrared, features=True)
            terms = self._segmentation(system, output, label)
            # Without both bands the teacher has nothing to teach.
            if state.taught and teacher is not None and visible is not None and infrared is not None:
                with torch.no_grad():
                    taught = teacher(visible, infrared, features=True)
                term = self._distillation(output.features, taught.features)
                terms["distill"] = self.distillation_weight * term
            if state.taught and regularisation is not None:
                term = self._weak_band(output.features, system.pad_label(label), regularisation, state.weak)
                terms["regularise"] = self.regularisation_weight * term
            return terms

        def prepare(epoch: int, epochs: int, rows: Sequence[EpochRow]) -> None:
            warmup = warmup_length(self.warmup_epochs, epochs)
            state.taught = epoch >= warmup
            if self.weak == "mined":
                state.weak = weak_band(rows, warmup)

        return Phase(
            "mmanet",
            trained=students,
            keeps=system,
            loss=loss,
            frozen=() if teacher is None else (teacher,),
            validate=("both", *LONE_BANDS),
            prepare=prepare,
        )

    def _segmentation(self, system: MMANet, output: Output, label: Tensor) -> dict[str, Tensor]:
        """L_seg by scale: cross-entropy at the full size, 1/8, 1/16 and 1/32. label: (B, H, W)."""
        assert output.logits is not None
        features: MMANetFeatures = output.features
        full = self._cross_entropies([output.logits], label)
        coarse = self._cross_entropies(features.sides, system.pad_label(label))
        return dict(zip(("ce", "ce_8", "ce_16", "ce_32"), [*full, *coarse], strict=True))

    def _distillation(self, own: MMANetFeatures, taught: MMANetFeatures) -> Tensor:
        """L_MAD: the sum over the context module's map (1/32) and the skips at 1/16 and 1/8.

        Maps of more than 30 rows or 40 columns are averaged down to these first.
        """
        uncertain = taught.decoder if self.uncertainty == "feature" else taught.logits
        losses = []
        for student, teacher in zip(_compared(own), _compared(taught), strict=True):
            grid = tuple(map(min, student.shape[-2:], DISTILLED_GRID))
            losses.append(
                margin_aware_distillation(
                    _pooled(student, grid),
                    _pooled(teacher, grid),
                    prediction_entropy(_pooled(uncertain, grid)),
                    max_rows=self.max_rows,
                )
            )
        return torch.stack(losses).sum()

    def _weak_band(self, features: MMANetFeatures, label: Tensor, decoder: Decoder, weak: Band) -> Tensor:
        """L_MAR: L_seg of the second decoder on the pairs that have the weak band and nothing else.

        It decodes all pairs and only these count: so its batch norms never see a single pair, and it takes
        part in every step on every device. label: (B, H, W), of the padded size. Returns a scalar; zero, with
        a graph, without such pairs.
        """
        wanted = torch.tensor([weak == "visible", weak == "infrared"], device=label.device)
        lacking = (features.present == wanted).all(dim=1)
        counted = label.masked_fill(~lacking[:, None, None], IGNORE_INDEX)
        decoded: Decoded = decoder(features.context, features.skips, sides=True)
        return torch.stack(self._cross_entropies([decoded.logits, *decoded.sides], counted)).sum()

    def _cross_entropies(self, scales: Sequence[Tensor], label: Tensor) -> list[Tensor]:
        """`multiscale_cross_entropy` under the weights of the classes."""
        weights = None
        if self.class_weights is not None:
            weights = torch.tensor(self.class_weights, dtype=torch.float32, device=label.device)
        return multiscale_cross_entropy(scales, label, weights=weights)


def warmup_length(epochs: int, phase: int) -> int:
    """The epochs without MAD and MAR: so many, but at most a quarter of the phase, rounded up."""
    return min(epochs, math.ceil(phase / 4), phase - 1)


def weak_band(rows: Sequence[EpochRow], warmup: int) -> Band:
    """The band with which alone most is lost: argmax_c sum_e (mIoU_both - mIoU_c)^2.

    The sum is over the epochs from six tenths of the warm-up to the one before its last: the 7th to the 10th
    of 11.
    rows: those of the phase's earlier epochs. Infrared, as the published code assumes, if no such
    epoch was validated, or in a tie.
    """
    first = math.ceil(0.6 * warmup)
    last = max(first, warmup - 1)
    distance: dict[Band, float] = dict.fromkeys(LONE_BANDS, 0.0)
    for row in rows:
        if not first <= row.epoch <= last or "both" not in row.scores:
            continue
        for band in LONE_BANDS:
            lost = row.scores["both"] - row.scores[band]
            distance[band] += 0.0 if math.isnan(lost) else lost**2
    return max(LONE_BANDS, key=lambda band: distance[band])


def _compared(features: MMANetFeatures) -> list[Tensor]:
    return [features.context, *features.skips[:2]]


def _pooled(x: Tensor, grid: tuple[int, ...]) -> Tensor:
    return x if tuple(x.shape[-2:]) == grid else bin_means(x, (grid[0], grid[1]))
