"""A small AMDANet for tests of what it computes."""

from typing import Any

import torch

from crossband.systems.amdanet import AMDANet
from tiny_systems import CLASSES, build, randomise_norms


def amdanet(classes: int | None = CLASSES, **options: Any) -> AMDANet:
    """A small one whose layers all have a say, in float64 and evaluation, without randomness in training.

    Its local alignment is the published one: at an identity start its layers would have none.
    """
    torch.manual_seed(0)
    defaults = {
        **{"encoder": "mit_tiny", "decoder_channels": 16, "stochastic_depth": 0.0, "dropout": 0.0},
        "alignment_start": "published",
    }
    system = build("amdanet", classes, **{**defaults, **options})
    assert isinstance(system, AMDANet)
    for parameter in system.parameters():
        if parameter.ndim > 1:
            parameter.data.normal_(0, 0.3)
    randomise_norms(system)
    return system.double().eval()
