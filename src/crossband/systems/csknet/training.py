"""How CSK-Net is trained: a teacher on visible images, then equation 11 of its paper (arXiv 2312.02240).

The visible branch learns from the frozen teacher, the infrared branch and the fused output from the labels,
and the infrared encoder also from a pixel-wise contrastive loss.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from crossband.errors import OptionError
from crossband.losses.distillation import (
    FeatureForm,
    feature_distillation,
    prediction_distillation,
    soft_cross_entropy,
)
from crossband.losses.segmentation import DiceForm, segmentation_loss
from crossband.option_ranges import POSITIVE, Range
from crossband.pairs.batch import Batch
from crossband.systems.base import EpochRow, Output, Phase, Training
from crossband.systems.csknet.additions import copy_folded, copy_plain
from crossband.systems.csknet.contrastive import PixelSampling, pixel_contrast
from crossband.systems.csknet.network import CSKNet, CSKNetFeatures
from crossband.systems.csknet.projection import LevelProjections
from crossband.systems.deeplabv3plus import DeepLabV3Plus, DeepLabV3PlusFeatures, DeepLabV3PlusTraining

ABLATIONS: dict[str, dict[str, Any]] = {
    "CSK-Net": {},
    "w/o contrastive learning": {"contrastive_weight": 0.0},
    "w/o gated spectral unit": {"gated_unit": False},
    "w/o mixed feature exchange": {"exchange": False},
    "w/o contrastive learning and mixed feature exchange": {"contrastive_weight": 0.0, "exchange": False},
}
"""The rows of the paper's table 4, as options of the network and of the loss."""

FIRM: dict[str, Any] = {
    "start": "teacher",
    "infrared_weight": 3.0,
    "fused_teaches_weight": 1.0,
    "distill_features_weight": 0.05,
    "contrastive_weight": 0.1,
}
"""How the variant "firm" trains infrared alone. It is ours and not the paper's; what it brings is in
docs/results/infrared-alone.md."""

CONTRASTED_STAGES = (2, 3, 4, 5)
DISTILLED_STAGES = (4, 5)


@dataclass(frozen=True, kw_only=True)
class CSKNetTraining(Training[CSKNet]):
    """infrared_supervision: where the infrared head gets its labels, and the contrastive loss its hard
        pixels. "alone", on a pass of the infrared branch alone, which is what is deployed without visible
        images; "exchanged", on the features of the pair's pass, which carry visible information.

    start: what both branches start from. "encoder", the encoder weights and random decoders; "teacher", all
        that the teacher has learnt. fused_teaches_weight: weight of a soft cross-entropy that makes the lone
        infrared head predict what the fused head predicts; 0 is the paper's, which has no such term.

    distill_tap: "post" compares the visible stages with the teacher's after the exchange, "pre" before it.
    distill_form: "kl_ce" for equation 8, the divergence from the teacher's predictions and their
        cross-entropy, or "soft_hard", the cross-entropy with its predictions and with its classes; see
        `prediction_distillation`. distill_features_form: "published" for equation 9, or "normalised", which
        is ours: the channels of both maps are brought to one scale before they are compared, so that large
        features make no large loss; see `feature_distillation`. distill_predictions_weight: weight of
        learning what the teacher predicts, equation 8; 0 leaves it out. distill_features_weight: weight of
        having the teacher's features, equation 9; 0 leaves it out. infrared_weight: weight of the classes'
        loss (equation 7) of the infrared head, beside that of the fused head, whose weight is 1.

    contrastive_weight: weight of equation 10, by which pixels of one class get features alike and those of
        others do not; 0 leaves its projection heads out of training altogether.
    contrastive_temperature: what similarities are divided by, above 0; the smaller, the more the most
        similar pixels count. contrastive_anchors: most pixels of a batch that are compared with others.
        contrastive_per_class: most pixels that are drawn from a class of an image. contrastive_hard_fraction:
        the share of positives and of negatives that is kept, the hardest; see `pixel_contrast`.
        contrastive_branches: "infrared", or "both" for the pixels of both branches in one pool. projection:
        "per-level" projects the maps of each level by a head of their own, "concat" joins the levels first;
        see `LevelProjections`. projection_width: how many numbers of a pixel are compared.

    dice_form: see `DeepLabV3PlusTraining`.
    """

    ranges: ClassVar[Mapping[str, Range]] = {"contrastive_temperature": POSITIVE}
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {"firm": FIRM}
    earlier: ClassVar[Mapping[str, Any]] = {"infrared_supervision": "exchanged"}

    infrared_supervision: Literal["alone", "exchanged"] = "alone"
    infrared_weight: float = 1.0
    start: Literal["encoder", "teacher"] = "encoder"
    fused_teaches_weight: float = 0.0
    distill_tap: Literal["post", "pre"] = "post"
    distill_form: Literal["kl_ce", "soft_hard"] = "kl_ce"
    distill_features_form: FeatureForm = "published"
    distill_predictions_weight: float = 1.0
    distill_features_weight: float = 1.0
    contrastive_weight: float = 1.0
    contrastive_temperature: float = 0.1
    contrastive_anchors: int = 1024
    contrastive_per_class: int = 100
    contrastive_hard_fraction: float = 0.1
    contrastive_branches: Literal["infrared", "both"] = "infrared"
    projection: Literal["per-level", "concat"] = "per-level"
    projection_width: int = 128
    dice_form: DiceForm = "per-class"

    def __post_init__(self) -> None:
        _ = self.sampling  # whose values are checked where it is made

    @property
    def sampling(self) -> PixelSampling:
        return PixelSampling(
            anchors=self.contrastive_anchors,
            per_class=self.contrastive_per_class,
            hard_fraction=self.contrastive_hard_fraction,
        )

    def phases(self, system: CSKNet) -> list[Phase]:
        """Phase 1, "teacher": a DeepLabV3+ on visible images. Phase 2, "csknet": equation 11."""
        if self.infrared_supervision == "exchanged" and system.infrared_in_pair is not None:
            raise OptionError(
                f"csknet: infrared_norms {system.settings.infrared_norms} needs infrared_supervision alone, "
                "or nothing trains the norms of infrared alone; use infrared_norms shared with exchanged"
            )
        teacher = system.baseline("visible")
        # The teacher starts where the student starts: at the encoder's ImageNet weights, if it has any.
        copy_folded(system.visible.encoder, teacher.network.encoder)
        students = nn.ModuleDict({"system": system})
        projections = None
        if self.contrastive_weight > 0:
            channels = [system.visible.encoder.out_channels[stage] for stage in CONTRASTED_STAGES]
            projections = LevelProjections(channels, self.projection_width, form=self.projection)
            students["projections"] = projections

        def loss(batch: Batch) -> dict[str, Tensor]:
            return self._loss(system, batch, teacher, projections)

        def prepare(epoch: int, epochs: int, rows: Sequence[EpochRow]) -> None:
            if epoch == 0 and self.start == "teacher":
                for branch in system.branches():
                    copy_plain(teacher.network, branch)

        return [
            DeepLabV3PlusTraining(dice_form=self.dice_form).phase("teacher", teacher),
            Phase(
                "csknet",
                trained=students,
                keeps=system,
                loss=loss,
                frozen=(teacher,),
                prepare=prepare,
                start_from="loss.start teacher" if self.start == "teacher" else None,
                validate=("both", "infrared"),
            ),
        ]

    def _loss(
        self, system: CSKNet, batch: Batch, teacher: DeepLabV3Plus, projections: nn.Module | None
    ) -> dict[str, Tensor]:
        """The named terms of equation 11, weighted. With one band missing, those that are still defined."""
        visible, infrared, label = batch.visible, batch.infrared, batch.label
        assert label is not None
        output: Output = system(visible, infrared, features=True)
        features: CSKNetFeatures | None = output.features
        terms: dict[str, Tensor] = {}
        if visible is not None and infrared is not None:
            assert output.logits is not None
            terms |= _named(segmentation_loss(output.logits, label, dice_form=self.dice_form), "fused")
        infrared_logits = self._infrared_logits(system, batch, output)
        if infrared_logits is not None:
            losses = segmentation_loss(infrared_logits, label, dice_form=self.dice_form)
            terms |= _named({name: self.infrared_weight * loss for name, loss in losses.items()}, "infrared")
        if self.fused_teaches_weight and infrared_logits is not None and visible is not None:
            assert output.logits is not None
            taught_by_fused = soft_cross_entropy(infrared_logits, output.logits)
            terms["distill_fused"] = self.fused_teaches_weight * taught_by_fused
        if visible is not None:
            with torch.no_grad():
                taught: Output = teacher(visible=visible, features=True)
            assert taught.logits is not None
            terms["distill_predictions"] = self.distill_predictions_weight * prediction_distillation(
                output.branches["visible"], taught.logits, form=self.distill_form
            )
            if features is not None:
                terms["distill_features"] = self.distill_features_weight * self._distillation(
                    features, taught.features
                )
        if projections is not None and features is not None:
            assert infrared_logits is not None
            prediction = infrared_logits.argmax(dim=1)
            terms["contrast"] = self.contrastive_weight * self._contrast(
                features, system.pad_label(label), system.pad_label(prediction), projections
            )
        return terms

    def _infrared_logits(self, system: CSKNet, batch: Batch, output: Output) -> Tensor | None:
        """What the infrared head says where it gets its labels; None without infrared images."""
        if batch.visible is None or self.infrared_supervision == "exchanged":
            return output.branches.get("infrared")
        if batch.infrared is None:
            return None
        return system(infrared=batch.infrared, features=False).logits

    def _distillation(self, features: CSKNetFeatures, taught: DeepLabV3PlusFeatures) -> Tensor:
        """Equation 9: the visible stages 4 and 5 and the visible decoder against the teacher's."""
        maps = features.before if self.distill_tap == "pre" else features.after
        student = [maps[stage - 1][0] for stage in DISTILLED_STAGES]
        teacher = [taught.stages[stage - 1] for stage in DISTILLED_STAGES]
        return feature_distillation(
            [*student, features.decoder[0]], [*teacher, taught.decoder], form=self.distill_features_form
        )

    def _contrast(
        self, features: CSKNetFeatures, label: Tensor, prediction: Tensor, projections: nn.Module
    ) -> Tensor:
        """Equation 10, as the mean over the levels that are contrasted.

        label, prediction: (B, H, W), of the padded size.
        """
        maps = [features.after[stage - 1] for stage in CONTRASTED_STAGES]
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
