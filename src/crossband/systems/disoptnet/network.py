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
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from segmentation_models_pytorch.base import SegmentationHead
from segmentation_models_pytorch.base import initialization as smp_initialization
from torch import Tensor, nn

from crossband.blocks.band_input import BandInput
from crossband.blocks.encoders import check_exchangeable, unread_modules
from crossband.blocks.tied import copy_weights
from crossband.errors import OptionError
from crossband.option_types import check_types, types_of
from crossband.systems.base import NetworkSettings, Output, System
from crossband.systems.deeplabv3plus import (
    OUTPUT_STRIDE,
    DeepLabV3Plus,
    DeepLabV3PlusSettings,
    build_network,
)
from crossband.systems.disoptnet.encoder_tail import EncoderTail
from crossband.systems.disoptnet.excited_fusion import ExcitedFusion
from crossband.systems.registry import in_words
from crossband.words import Band, Bands, Support

Deploy = Literal["fused", "student"]

FIRST_COPIED_STAGE = 4
PLAIN_HEAD_KERNEL = 1
"""Of a DeepLabV3+'s own head."""


@dataclass(frozen=True, kw_only=True)
class DisOptNetSettings(NetworkSettings):
    """encoder, encoder_weights, decoder_channels: as in `DeepLabV3PlusSettings`.

    deploy: what is the prediction and is counted as deployed. "fused" is the published network; "student" is
        the DeepLabV3+ within it alone, which is what the 11.68 M parameters count that CSK-Net's paper gives
        for it. Training is the same and so are the weights (where ``kept_epoch`` is "last").
    head_kernel: side of the convolution that is each of the three heads. 3 is the published network's; 1 is
        that of the teacher, and of the DeepLabV3+ with 11.68 M.
    """

    encoder: str = "efficientnet-b3"
    encoder_weights: str | Path | None = None
    decoder_channels: int = 256
    deploy: Deploy = "fused"
    head_kernel: Literal[1, 3] = 3


@dataclass
class DisOptNetFeatures:
    """tail: the maps of the copied stages. decoder: the imitating decoder's output."""

    tail: list[Tensor]
    decoder: Tensor


class DisOptNet(System):
    """DisOptNet. Raises OptionError for encoders that cannot be cut into stages."""

    name = "disoptnet"
    summary, paper = in_words(name)
    built_from = DisOptNetSettings
    trained_by = "crossband.systems.disoptnet.training:DisOptNetTraining"
    earlier: ClassVar[Mapping[str, Any]] = {"head_kernel": PLAIN_HEAD_KERNEL}
    multiple = OUTPUT_STRIDE
    supports: Mapping[Bands, Support] = {"infrared": "designed"}

    def __init__(self, classes: int | None, settings: DisOptNetSettings):
        super().__init__(classes, settings)
        classes, encoder, width = self.need_classes(classes), settings.encoder, settings.decoder_channels
        self.band_input = BandInput(encoder)
        self.student = build_network(classes, encoder, settings.encoder_weights, width)

        def head() -> SegmentationHead:
            return SegmentationHead(width, classes, kernel_size=settings.head_kernel, upsampling=4)

        if settings.head_kernel != PLAIN_HEAD_KERNEL:
            self.student.segmentation_head = head()
            smp_initialization.initialize_head(self.student.segmentation_head)
        check_exchangeable(self.student.encoder, encoder, ())
        self.tail = EncoderTail(self.student.encoder, FIRST_COPIED_STAGE)
        self.imitating_decoder = copy.deepcopy(self.student.decoder)
        self.imitating_head = head()
        self.fusion = ExcitedFusion(width)
        self.fused_head = head()
        # Random starts of their own, as smp draws them.
        for decoder in (self.imitating_decoder, self.fusion):
            smp_initialization.initialize_decoder(decoder)
        for head in (self.imitating_head, self.fused_head):
            smp_initialization.initialize_head(head)

    @property
    def deploy(self) -> Deploy:
        """What is the prediction, of a trained system too: set it and the settings follow.

        Setting it to another value than "fused" and "student" raises OptionError.
        """
        return self.settings.deploy

    @deploy.setter
    def deploy(self, deploy: Deploy) -> None:
        checked = check_types(self.name, types_of(DisOptNetSettings), {"deploy": deploy})
        self.settings = replace(self.settings, **checked)

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
            features=DisOptNetFeatures(copied, imitated),
        )

    def deployed(self, bands: Bands) -> list[nn.Module]:
        self.check_bands(bands)
        return [self] if self.deploy == "fused" else [self.student]

    def dead(self) -> list[nn.Module]:
        return unread_modules(self.student.encoder)

    def encoders(self) -> list[nn.Module]:
        return [self.student.encoder]

    def baseline(self, band: Band) -> DeepLabV3Plus:
        """A DeepLabV3+ on one band, like the student but for its head, from a random start."""
        settings: DisOptNetSettings = self.settings
        return DeepLabV3Plus(
            self.classes,
            DeepLabV3PlusSettings(
                band=band, encoder=settings.encoder, decoder_channels=settings.decoder_channels
            ),
        )

    def student_system(self) -> DeepLabV3Plus:
        """The student as a DeepLabV3+ of its own on infrared, with a copy of its weights.

        Raises OptionError for a student with another head than a DeepLabV3+ has.
        """
        if self.settings.head_kernel != PLAIN_HEAD_KERNEL:
            raise OptionError(
                f"disoptnet: a student whose head_kernel is {self.settings.head_kernel} is no deeplabv3plus; "
                f'set deploy to "student", or train with head_kernel {PLAIN_HEAD_KERNEL}'
            )
        alone = self.baseline("infrared")
        copy_weights(self.student, alone.network)
        return alone.train(self.training)
