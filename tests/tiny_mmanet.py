"""MMANets that are small enough for tests, their loss, and draws of modality dropout to order."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from crossband.pairs.batch import Batch
from crossband.systems.base import Phase
from crossband.systems.mmanet.network import DRAWS, MMANet
from tiny_systems import labelled, tiny

SEGMENTATION = {"ce", "ce_8", "ce_16", "ce_32"}


def mmanet(**options: Any) -> MMANet:
    system = tiny("mmanet", **options)
    assert isinstance(system, MMANet)
    return system


def prepared(system: MMANet) -> Phase:
    """The last phase, its teacher frozen as training has it."""
    phase = system.phases()[-1]
    for module in phase.frozen:
        module.eval().requires_grad_(False)
    return phase


def terms_of(phase: Phase, batch: Batch, seed: int = 0) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    return dict(phase.loss(batch))


def seed_of(drawn: list[tuple[int, int]]) -> int:
    """A seed under which a batch loses just these bands: (visible, infrared), 1 for what is there."""
    system = mmanet()
    for seed in range(500):
        torch.manual_seed(seed)
        if [DRAWS[choice] for choice in torch.randint(3, (len(drawn),))] != drawn:
            continue
        batch = labelled(32, 32, batch=len(drawn))
        torch.manual_seed(seed)
        output = system(batch.visible, batch.infrared, features=True)
        assert output.features.present.tolist() == [list(pair) for pair in drawn]
        return seed
    raise AssertionError
