"""CDDFuse's variant ``light`` with weights: the fusion for those who have no model and no pairs to train one.

``learned.safetensors`` holds the network as it was trained on generated scenes (`crossband.pairs.scenes`), in
half precision; ``speed/pack_learned.py`` makes that file of a run. docs/systems/learned.md has the commands,
and docs/results/learned-fuser.md how the pictures compare with those of the classical fusions.
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from crossband.blocks.encoder_weights import read_state_dict
from crossband.systems.base import NetworkSettings
from crossband.systems.cddfuse.network import VARIANTS, CDDFuse, CDDFuseSettings, FusionNetwork
from crossband.systems.luma_fusion import LumaFusion
from crossband.systems.registry import in_words
from crossband.words import Bands

WEIGHTS = Path(__file__).with_name("learned.safetensors")


class Learned(LumaFusion):
    """A small network that weighs the bands pixel by pixel, with the weights that come with the package.

    Raises WeightsError where the package's file of weights is missing or damaged.
    """

    name = "learned"
    summary, paper = in_words(name)

    def __init__(self, classes: int | None, settings: NetworkSettings):
        super().__init__(classes, settings)
        self.network = fusion_network()
        self.network.load_state_dict(read_state_dict(WEIGHTS))
        self.network.requires_grad_(False)

    def fuse(self, visible: Tensor, infrared: Tensor) -> Tensor:
        return self.network(visible, infrared).fused.clamp(0, 1)

    def deployed(self, bands: Bands) -> list[nn.Module]:
        self.check_bands(bands)
        return [self.network] if bands == "both" else []


def fusion_network() -> FusionNetwork:
    """The network of CDDFuse's variant ``light``, with random weights."""
    return CDDFuse(None, CDDFuseSettings(**VARIANTS["light"])).fusion
