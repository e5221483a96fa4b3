"""Late mean: one DeepLabV3+ per band, and the mean of their logits. And a benchmark of two classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from crossband.blocks.band_input import BandInput
from crossband.losses.segmentation import DiceForm, segmentation_loss
from crossband.pairs.base import Classes
from crossband.pairs.batch import Batch
from crossband.pairs.benchmarks import Benchmark, Layout, Split
from crossband.systems.base import NetworkSettings, Output, Phase, System, Training
from crossband.systems.deeplabv3plus import OUTPUT_STRIDE, build_network
from crossband.words import Bands, Support


@dataclass(frozen=True, kw_only=True)
class LateMeanSettings(NetworkSettings):
    """encoder, encoder_weights, decoder_channels: as in DeepLabV3Plus, for both branches."""

    encoder: str = "efficientnet-b3"
    encoder_weights: str | Path | None = None
    decoder_channels: int = 256


class LateMean(System):
    name = "latemean"
    summary = "the mean of two DeepLabV3+, one per band"
    paper = "none"
    built_from = LateMeanSettings
    trained_by = "latemean:LateMeanTraining"
    multiple = OUTPUT_STRIDE
    supports: Mapping[Bands, Support] = {"both": "designed", "infrared": "fallback", "visible": "fallback"}

    def __init__(self, classes: int | None, settings: LateMeanSettings):
        super().__init__(classes, settings)
        size = settings.encoder, settings.encoder_weights, settings.decoder_channels
        self.band_input = BandInput(settings.encoder)
        self.visible = build_network(self.need_classes(classes), *size)
        self.infrared = build_network(self.need_classes(classes), *size)

    def run(self, visible: Tensor | None, infrared: Tensor | None, *, features: bool) -> Output:
        branches = {}
        if visible is not None:
            branches["visible"] = self.visible(self.band_input(visible))
        if infrared is not None:
            branches["infrared"] = self.infrared(self.band_input(infrared))
        logits = sum(branches.values()) / len(branches)
        return Output(logits, branches=branches if features else {})

    def deployed(self, bands: Bands) -> list[nn.Module]:
        self.check_bands(bands)
        return {"both": [self], "infrared": [self.infrared], "visible": [self.visible]}[bands]

    def encoders(self) -> list[nn.Module]:
        return [self.visible.encoder, self.infrared.encoder]


@dataclass(frozen=True, kw_only=True)
class LateMeanTraining(Training[LateMean]):
    """dice_form: see `DeepLabV3PlusTraining`."""

    dice_form: DiceForm = "per-class"

    def phases(self, system: LateMean) -> list[Phase]:
        def loss(batch: Batch) -> dict[str, Tensor]:
            assert batch.label is not None
            logits = system(batch.visible, batch.infrared, features=False).logits
            return segmentation_loss(logits, batch.label, dice_form=self.dice_form)

        return [Phase("segmentation", trained=system, keeps=system, loss=loss)]


YARD = Benchmark(
    key="yard",
    title="Yard",
    classes=Classes(names=("ground", "object"), palette=((0, 0, 0), (255, 255, 255))),
    layouts=(Layout("authors", "{split}/rgb/{name}", "{split}/ir/{name}", "{split}/mask/{name}"),),
    splits={"train": Split((4,)), "test": Split((2,))},
    resolution=(32, 48),
    infrared="8 bits",
    citation="none",
    url="none",
    terms="states none",
    quirks=("It is generated.",),
)
