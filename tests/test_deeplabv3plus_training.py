"""DeepLabV3+ learns, on either band."""

from __future__ import annotations

import pytest
import torch

from crossband.systems import create
from crossband.words import Band
from overfitting import SCENE_CLASS_COUNT, fit, four_scenes, mean_iou
from tiny_systems import TINY


@pytest.mark.slow
@pytest.mark.parametrize("band", ["visible", "infrared"])
def test_it_overfits_four_scenes(band: Band) -> None:
    batch = four_scenes()
    torch.manual_seed(0)
    system = create(
        "deeplabv3plus",
        classes=SCENE_CLASS_COUNT,
        band=band,
        encoder=TINY["encoder"],
        decoder_channels=64,
    )
    (phase,) = system.phases()
    fit(phase, batch, 150, 1e-2)
    assert mean_iou(system, batch, band) > 0.8
