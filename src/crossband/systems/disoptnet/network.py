"""DisOptNet: infrared alone, taught by a network that sees the visible image.

Paper: Kang et al., "DisOptNet: Distilling Semantic Knowledge From Optical Images for Weather-Independent
Building Segmentation", IEEE TGRS 2022 (10.1109/TGRS.2022.3165209). There the band is radar; here it is
infrared. Its authors' code (github.com/jiankang1991/TGRS_DisOptNet) states no licence that we know of, and
none of it is used: this is written from a description in words. The encoder and the decoders are those of
segmentation-models-pytorch (MIT).

A DeepLabV3+ reads infrared. Beside its last two stages, a copy of them with weights of its own and a second
decoder learn to give what a frozen teacher makes of the visible image; an excited fusion of both decoders'
outputs makes the prediction. The visible image is needed in training only.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from segmentation_models_pytorch.base import SegmentationHead
from segmentation_models_pytorch.base import initialization as smp_initialization
from torch import Tensor, nn

from crossband.blocks.band_input import BandInput
from crossband.blocks.encoders import check_exchangeable, unread_modules
from crossband.blocks.tied import copy_weights
from crossband.losses.distillation import SoftMean, feature_distillation, soft_cross_entropy
from crossband.losses.segmentation import DiceForm, segmentation_loss
from crossband.pairs.batch import Batch
from crossband.recipe import Recipe
from crossband.systems import create
from crossband.systems.base import Output, Phase, System
from crossband.systems.deeplabv3plus import OUTPUT_STRIDE, DeepLabV3Plus, build_network
from crossband.systems.disoptnet.encoder_tail import EncoderTail
from crossband.systems.disoptnet.excited_fusion import ExcitedFusion
from crossband.words import Band, Bands, Support

Deploy = Literal["fused", "student"]

FIRST_COPIED_STAGE = 4
# No class: the teacher's predictions have no pixels that do not count.
NOTHING_IGNORED = -1


class DisOptNet(System):
    """DisOptNet. classes, encoder, encoder_weights, decoder_channels: as in DeepLabV3Plus.

    deploy: what is the prediction and is counted as deployed. "fused" is the published network; "student"
        is the DeepLabV3+ within it alone, which is what the 11.68 M parameters count that CSK-Net's paper
        gives for it. Training is the same and so are the weights (where ``kept_epoch`` is "last"); set
        `deploy` on a trained system to change it.
    distill_predictions_weight: of the losses between the imitating head's predictions and the teacher's.
    distill_features_weight: of the loss between maps. Both are 1 as published; 0 leaves the losses out.
    soft_mean: see `soft_cross_entropy`; "places" is the published code's.
    kept_epoch: whose weights the second phase keeps, the "last" one's as published, or the "best" one's by
        validation.
    dice_form: see `DeepLabV3Plus`.

    Raises OptionError for values that do not exist and for encoders that cannot be cut into stages.
    """

    name = "disoptnet"
    summary = "DisOptNet: infrared alone, taught by a network that sees the visible image"
    paper = "Kang et al., IEEE TGRS 2022"
    multiple = OUTPUT_STRIDE
    supports: Mapping[Bands, Support] = {"infrared": "designed"}
    recipes: ClassVar[Mapping[str, Mapping[str, Any]]] = {"paper": {"schedule_per": "step"}}
    phase_recipes: ClassVar[Mapping[str, Mapping[str, Mapping[str, Any]]]] = {
        "paper": {"teacher": {"batch_size": 16}}
    }
    augmentations: ClassVar[Mapping[str, Mapping[str, Any]]] = {"paper": {"crop": (512, 512)}}

    def __init__(
        self,
        classes: int | None,
        *,
        encoder: str = "efficientnet-b3",
        encoder_weights: str | Path | None = None,
        decoder_channels: int = 256,
        deploy: Deploy = "fused",
        distill_predictions_weight: float = 1.0,
        distill_features_weight: float = 1.0,
        soft_mean: SoftMean = "all",
        kept_epoch: Literal["last", "best"] = "last",
        dice_form: DiceForm = "per-class",
    ):
        super().__init__()
        classes = self.need_classes(classes)
        self.check_choice("deploy", deploy, ("fused", "student"))
        self.check_choice("soft_mean", soft_mean, ("all", "places"))
        self.check_choice("kept_epoch", kept_epoch, ("last", "best"))
        self.check_choice("dice_form", dice_form, ("per-class", "global"))
        self.classes, self.encoder, self.decoder_channels = classes, encoder, decoder_channels
        self.deploy, self.kept_epoch = deploy, kept_epoch
        self.distill_predictions_weight = distill_predictions_weight
        self.distill_features_weight = distill_features_weight
        self.soft_mean: SoftMean = soft_mean
        self.dice_form: DiceForm = dice_form

        self.band_input = BandInput(encoder)
        self.student = build_network(classes, encoder, encoder_weights, decoder_channels)
        check_exchangeable(self.student.encoder, encoder, ())
        self.tail = EncoderTail(self.student.encoder, FIRST_COPIED_STAGE)
        self.imitating_decoder = copy.deepcopy(self.student.decoder)
        self.imitating_head = SegmentationHead(decoder_channels, classes, kernel_size=1, upsampling=4)
        self.fusion = ExcitedFusion(decoder_channels)
        self.fused_head = SegmentationHead(decoder_channels, classes, kernel_size=1, upsampling=4)
        # Random starts of their own, as smp draws them.
        for decoder in (self.imitating_decoder, self.fusion):
            smp_initialization.initialize_decoder(decoder)
        for head in (self.imitating_head, self.fused_head):
            smp_initialization.initialize_head(head)

    def run(self, visible: Tensor | None, infrared: Tensor | None, *, features: bool) -> Output:
        assert infrared is not None
        image = self.band_input(infrared)
        if self.deploy == "student" and not features:
            return Output(self.student(image))
        maps = self.student.encoder(image)
        copied = self.tail(maps[FIRST_COPIED_STAGE - 1])
        decoded = self.student.decoder(maps)
        imitated = self.imitating_decoder([*maps[:FIRST_COPIED_STAGE], *copied])
        fused = self.fused_head(self.fusion(decoded, imitated))
        if not features:
            return Output(fused)
        student = self.student.segmentation_head(decoded)
        return Output(
            logits=fused if self.deploy == "fused" else student,
            branches={"student": student, "imitating": self.imitating_head(imitated), "fused": fused},
            features={"imitating": [*copied, imitated]},
        )

    def deployed(self, bands: Bands) -> list[nn.Module]:
        self.check_bands(bands)
        return [self] if self.deploy == "fused" else [self.student]

    def dead(self) -> list[nn.Module]:
        return unread_modules(self.student.encoder)

    def student_system(self) -> DeepLabV3Plus:
        """The student as a DeepLabV3+ of its own on infrared, with a copy of its weights."""
        alone = self._baseline("infrared")
        copy_weights(self.student, alone.network)
        return alone.train(self.training)

    def phases(self, recipe: Recipe) -> list[Phase]:
        """Phase 1, "teacher": a DeepLabV3+ on visible images. Phase 2, "disoptnet": see the loss."""
        teacher = self._baseline("visible")
        # The teacher starts where the student starts: at the encoder's ImageNet weights, if it has any.
        copy_weights(self.student.encoder, teacher.network.encoder)
        return [
            teacher.phase("teacher", recipe),
            Phase(
                "disoptnet",
                trained=self,
                keeps=self,
                loss=lambda batch: self._loss(batch, teacher),
                recipe=recipe,
                frozen=(teacher,),
                validate=("infrared",),
                reads="both",
                chooses="last" if self.kept_epoch == "last" else "score",
            ),
        ]

    def _baseline(self, band: Band) -> DeepLabV3Plus:
        """A DeepLabV3+ on one band, like the student, from a random start."""
        system = create(
            "deeplabv3plus",
            classes=self.classes,
            band=band,
            encoder=self.encoder,
            decoder_channels=self.decoder_channels,
            dice_form=self.dice_form,
        )
        assert isinstance(system, DeepLabV3Plus)
        return system

    def _loss(self, batch: Batch, teacher: DeepLabV3Plus) -> dict[str, Tensor]:
        """L(s, y) + L(f, y) + [L(o, argmax T) + H(p_T, p_o)] + mean of the squared errors of three maps.

        s, o, f: logits of the student, of the imitating head and of the fused one; T: the teacher's; L is
        cross-entropy plus Dice. The maps are the copied stages' and the imitating decoder's output. The
        imitating head never sees a label.
        """
        visible, infrared, label = batch.visible, batch.infrared, batch.label
        assert label is not None
        assert visible is not None
        output = self(infrared=infrared, features=True)
        with torch.no_grad():
            taught = teacher(visible=visible, features=True)
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
            targets = [*taught.features["stages"][FIRST_COPIED_STAGE - 1 :], taught.features["decoder"]]
            terms["distill_features"] = self.distill_features_weight * feature_distillation(
                output.features["imitating"], targets
            )
        return terms
