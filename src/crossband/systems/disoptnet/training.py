"""How DisOptNet is trained: a teacher on visible images, then a student on infrared that imitates it.

Kang et al., IEEE TGRS 2022; sources and licences are those of `crossband.systems.disoptnet.network`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from crossband.blocks.tied import copy_weights
from crossband.losses.distillation import SoftMean, feature_distillation, soft_cross_entropy
from crossband.losses.segmentation import DiceForm, segmentation_loss
from crossband.pairs.batch import Batch
from crossband.systems.base import Output, Phase, Training
from crossband.systems.deeplabv3plus import DeepLabV3Plus, DeepLabV3PlusFeatures, DeepLabV3PlusTraining
from crossband.systems.disoptnet.network import FIRST_COPIED_STAGE, DisOptNet, DisOptNetFeatures

# No class: the teacher's predictions have no pixels that do not count.
NOTHING_IGNORED = -1


@dataclass(frozen=True, kw_only=True)
class DisOptNetTraining(Training[DisOptNet]):
    """distill_predictions_weight: weight of learning what the teacher predicts; 1 as published, 0 leaves it
    out.
    distill_features_weight: weight of having the teacher's features; 1 as published, 0 leaves it out.
    soft_mean: whether the soft cross-entropy is a mean over "all" pixels of a batch, or over the "places" of
    a picture and summed over the batch, as in the published code; see `soft_cross_entropy`.
    kept_epoch: whose weights the second phase keeps, the "last" one's as published, or the "best" one's by
        validation.
    dice_form: see `DeepLabV3PlusTraining`.
    """

    distill_predictions_weight: float = 1.0
    distill_features_weight: float = 1.0
    soft_mean: SoftMean = "all"
    kept_epoch: Literal["last", "best"] = "last"
    dice_form: DiceForm = "per-class"

    recipes: ClassVar[Mapping[str, Mapping[str, Any]]] = {"paper": {"schedule_per": "step"}}
    phase_recipes: ClassVar[Mapping[str, Mapping[str, Mapping[str, Any]]]] = {
        "paper": {"teacher": {"batch_size": 16}}
    }
    augmentations: ClassVar[Mapping[str, Mapping[str, Any]]] = {"paper": {"crop": (512, 512)}}

    def phases(self, system: DisOptNet) -> list[Phase]:
        """Phase 1, "teacher": a DeepLabV3+ on visible images. Phase 2, "disoptnet": see the loss."""
        teacher = system.baseline("visible")
        # The teacher starts where the student starts: at the encoder's ImageNet weights, if it has any.
        copy_weights(system.student.encoder, teacher.network.encoder)
        return [
            DeepLabV3PlusTraining(dice_form=self.dice_form).phase("teacher", teacher),
            Phase(
                "disoptnet",
                trained=system,
                keeps=system,
                loss=lambda batch: self._loss(system, batch, teacher),
                frozen=(teacher,),
                validate=("infrared",),
                reads="both",
                chooses="last" if self.kept_epoch == "last" else "score",
            ),
        ]

    def _loss(self, system: DisOptNet, batch: Batch, teacher: DeepLabV3Plus) -> dict[str, Tensor]:
        """L(s, y) + L(f, y) + [L(o, argmax T) + H(p_T, p_o)] + mean of the squared errors of three maps.

        s, o, f: logits of the student, of the imitating head and of the fused one; T: the teacher's; L is
        cross-entropy plus Dice. The maps are the copied stages' and the imitating decoder's output. The
        imitating head never sees a label.
        """
        visible, infrared, label = batch.visible, batch.infrared, batch.label
        assert label is not None
        assert visible is not None
        output: Output = system(infrared=infrared, features=True)
        with torch.no_grad():
            taught: Output = teacher(visible=visible, features=True)
        assert taught.logits is not None
        terms: dict[str, Tensor] = {}
        for head in ("student", "fused"):
            losses = segmentation_loss(output.branches[head], label, dice_form=self.dice_form)
            terms |= {f"{name}_{head}": loss for name, loss in losses.items()}
        if self.distill_predictions_weight > 0:
            imitating = output.branches["imitating"]
            losses = segmentation_loss(
                imitating,
                taught.logits.argmax(dim=1),
                ignore_index=NOTHING_IGNORED,
                dice_form=self.dice_form,
            )
            losses["soft"] = soft_cross_entropy(imitating, taught.logits, mean_over=self.soft_mean)
            weight = self.distill_predictions_weight
            terms |= {f"{name}_imitating": weight * loss for name, loss in losses.items()}
        if self.distill_features_weight > 0:
            own: DisOptNetFeatures = output.features
            aim: DeepLabV3PlusFeatures = taught.features
            terms["distill_features"] = self.distill_features_weight * feature_distillation(
                [*own.tail, own.decoder], [*aim.stages[FIRST_COPIED_STAGE - 1 :], aim.decoder]
            )
        return terms
