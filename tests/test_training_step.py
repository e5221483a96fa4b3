"""A training step of CSK-Net's second phase, and one of AMDANet, against the formulas written plainly.

Same weights, batch and seed, float64: the loss and the gradient of every parameter are equal.
"""

import math

import pytest
import torch
from torch import Tensor, nn

from crossband.pairs.batch import Batch
from crossband.systems.base import Phase
from crossband.systems.csknet.contrastive import DEFAULT_SAMPLING, sample_pixels
from references.reference_amdanet import ReferenceAMDANet
from references.reference_amdanet_step import step_loss
from references.reference_csknet_step import ReferencePhase
from tiny_amdanet import amdanet
from tiny_systems import CLASSES, build, labelled, randomise_norms


def total(phase: Phase, batch: Batch, seed: int) -> Tensor:
    torch.manual_seed(seed)
    return torch.stack(list(phase.loss(batch).values())).sum()


def wide(batch: Batch) -> Batch:
    """In float64."""
    assert batch.visible is not None
    assert batch.infrared is not None
    return Batch(batch.visible.double(), batch.infrared.double(), label=batch.label)


def check_gradients(ours: nn.Module, reference: nn.Module) -> None:
    """Every parameter has the reference's gradient but for the last digits, and most have one."""
    wanted = dict(reference.named_parameters())
    moved = 0
    for name, parameter in ours.named_parameters():
        gradient, true = parameter.grad, wanted[name].grad
        assert (gradient is None) == (true is None), name
        if gradient is None or true is None:
            continue
        scale = true.abs().max().item()
        moved += scale > 0
        assert (gradient - true).abs().max().item() <= 1e-9 * scale + 1e-13, name
    assert moved > 0.8 * len(wanted)


def test_csknet() -> None:
    torch.manual_seed(0)
    system = build("csknet", CLASSES, encoder="efficientnet-b0", decoder_channels=16).double()
    _, phase = system.phases()
    (teacher,) = phase.frozen
    for module in (phase.trained, teacher):
        randomise_norms(module)
    teacher.double().eval().requires_grad_(False)
    phase.trained.double().train()
    reference = ReferencePhase(
        CLASSES,
        "efficientnet-b0",
        lambda label, prediction: sample_pixels(label, prediction, DEFAULT_SAMPLING),
        decoder_channels=16,
    ).double()
    reference.students.load_state_dict(phase.trained.state_dict())
    reference.teacher.load_state_dict(teacher.network.state_dict())
    batch = wide(labelled(48, 64, classes=CLASSES))
    ours = total(phase, batch, seed=1)
    torch.manual_seed(1)
    theirs = reference.train()(batch.visible, batch.infrared, batch.label)
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-12)
    ours.backward()
    theirs.backward()
    check_gradients(phase.trained, reference.students)
    norms = {k: v for k, v in reference.students.state_dict().items() if "running" in k}
    assert len(norms) > 100
    state = phase.trained.state_dict()
    assert all(torch.allclose(state[key], value, rtol=1e-9, atol=1e-12) for key, value in norms.items())


@pytest.mark.parametrize(
    ("case", "below"), [("shared maps masked", True), ("maps of both bands masked", False)]
)
def test_amdanet(case: str, below: bool) -> None:
    seed = next(seed for seed in range(99) if _first_draw(seed) == below)
    system = amdanet().train()
    reference = ReferenceAMDANet(CLASSES, "mit_tiny", decoder_channels=16).double().train()
    reference.load_state_dict(system.state_dict())
    (phase,) = system.phases()
    batch = wide(labelled(64, 96, classes=CLASSES))
    assert batch.visible is not None
    assert batch.infrared is not None
    assert batch.label is not None
    ours = total(phase, batch, seed)
    torch.manual_seed(seed)
    theirs = step_loss(reference, batch.visible, batch.infrared, batch.label)
    assert math.isfinite(ours.item())
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-12), case
    ours.backward()
    theirs.backward()
    check_gradients(system, reference)


def _first_draw(seed: int) -> bool:
    torch.manual_seed(seed)
    return bool(torch.rand(()) < 0.5)
