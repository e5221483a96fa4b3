"""DeepLabV3+: one band, one encoder. The baseline of every table, and CSK-Net's teacher.

Paper: Chen et al., "Encoder-Decoder with Atrous Separable Convolution for Semantic Image Segmentation",
ECCV 2018 (arXiv 1802.02611). Network: segmentation-models-pytorch (MIT). Recipe: the one that CSK-Net's
paper (arXiv 2312.02240, section 3.1) trains all of its baselines with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import segmentation_models_pytorch as smp
from torch import Tensor, nn

from crossband.blocks.band_input import BandInput
from crossband.blocks.encoder_weights import load_encoder_weights
from crossband.blocks.encoders import explaining, smp_name, unread_modules
from crossband.losses.segmentation import DiceForm, segmentation_loss
from crossband.pairs.batch import Batch
from crossband.systems.base import NetworkSettings, Output, Phase, System, Training
from crossband.systems.registry import in_words
from crossband.words import Band, Bands, Support

OUTPUT_STRIDE = 16


def build_network(
    classes: int, encoder: str, encoder_weights: str | Path | None, decoder_channels: int = 256
) -> smp.DeepLabV3Plus:
    """smp's DeepLabV3+ with output stride 16 for three-channel input.

    encoder_weights: None for a random start, "imagenet", or the path of a local file.
    Raises OptionError for an encoder that does not exist or cannot be dilated, WeightsError for weights.
    """
    name = smp_name(encoder)
    with explaining(
        encoder,
        f"cannot be run at output stride {OUTPUT_STRIDE}, which DeepLabV3+ needs",
        "use a ResNet, MobileNet or EfficientNet, such as resnet34 or efficientnet-b3",
    ):
        network = smp.DeepLabV3Plus(
            name,
            encoder_weights=None,
            encoder_output_stride=OUTPUT_STRIDE,
            decoder_channels=decoder_channels,
            classes=classes,
        )
    if encoder_weights is not None:
        load_encoder_weights(network.encoder, name, encoder_weights)
    return network


def read_maps(maps: Sequence[Tensor]) -> list[Tensor]:
    """Of an encoder's maps, the image first, those that the decoder reads: of strides 4 and 16."""
    return [maps[2], maps[-1]]


def decoded(network: smp.DeepLabV3Plus, read: Sequence[Tensor]) -> Tensor:
    """The decoder's output, of `read_maps`."""
    fine, coarse = read
    return network.decoder([None, None, fine, coarse])


@dataclass(frozen=True, kw_only=True)
class DeepLabV3PlusSettings(NetworkSettings):
    """band: the one band that it reads, "visible" or "infrared". encoder: what finds features: any
    convolutional encoder of smp or timm that can run at output stride 16. encoder_weights: what the encoder
    starts from: None is random, "imagenet" weights that were trained there, or the path of a file with such
    weights.
    decoder_channels: channels of the decoder; fewer are faster.
    """

    band: Band = "visible"
    encoder: str = "efficientnet-b3"
    encoder_weights: str | Path | None = None
    decoder_channels: int = 256


@dataclass
class DeepLabV3PlusFeatures:
    """stages: the maps of the encoder's five stages. decoder: the decoder's output, before the classes."""

    stages: list[Tensor]
    decoder: Tensor


class DeepLabV3Plus(System):
    """DeepLabV3+ on one band.

    With EfficientNet-B3 and 9 classes it has 11,682,241 parameters, 592,896 of them in a part of smp's
    encoder that segmentation never uses.
    """

    name = "deeplabv3plus"
    summary, paper = in_words(name)
    built_from = DeepLabV3PlusSettings
    trained_by = "crossband.systems.deeplabv3plus:DeepLabV3PlusTraining"
    multiple = OUTPUT_STRIDE

    def __init__(self, classes: int | None, settings: DeepLabV3PlusSettings):
        super().__init__(classes, settings)
        classes = self.need_classes(classes)
        self.band: Band = settings.band
        self.supports: Mapping[Bands, Support] = {settings.band: "designed"}
        self.band_input = BandInput(settings.encoder)
        self.network = build_network(
            classes, settings.encoder, settings.encoder_weights, settings.decoder_channels
        )

    def run(self, visible: Tensor | None, infrared: Tensor | None, *, features: bool) -> Output:
        image = visible if visible is not None else infrared
        assert image is not None
        maps = self.network.encoder(self.band_input(image))
        decoded = self.network.decoder(maps)
        output = Output(logits=self.network.segmentation_head(decoded))
        if features:
            output.features = DeepLabV3PlusFeatures(maps[1:], decoded)
        return output

    def nearby(self, visible: Tensor | None, infrared: Tensor | None) -> list[Tensor]:
        image = visible if visible is not None else infrared
        assert image is not None
        return read_maps(self.network.encoder(self.band_input(image)))

    def complete(self, bands: Bands, maps: list[Tensor]) -> Output:
        return Output(self.network.segmentation_head(decoded(self.network, maps)))

    def deployed(self, bands: Bands) -> list[nn.Module]:
        self.check_bands(bands)
        return [self]

    def dead(self) -> list[nn.Module]:
        return unread_modules(self.network.encoder)

    def encoders(self) -> list[nn.Module]:
        return [self.network.encoder]


@dataclass(frozen=True, kw_only=True)
class DeepLabV3PlusTraining(Training[DeepLabV3Plus]):
    """dice_form: how Dice, which the loss is made of beside the cross-entropy, counts classes: "per-class" is
    its mean over the classes present, so that small classes count as much as large ones; "global" one ratio
    over all pixels, as CSK-Net's equation 7 prints it."""

    dice_form: DiceForm = "per-class"

    def phases(self, system: DeepLabV3Plus) -> list[Phase]:
        return [self.phase("segmentation", system)]

    def phase(self, name: str, system: DeepLabV3Plus) -> Phase:
        """The one phase, under the name that it has in another system's training."""

        def loss(batch: Batch) -> dict[str, Tensor]:
            assert batch.label is not None
            logits = system(**{system.band: getattr(batch, system.band)}, features=False).logits
            return segmentation_loss(logits, batch.label, dice_form=self.dice_form)

        return Phase(name, trained=system, keeps=system, loss=loss, validate=(system.band,))
