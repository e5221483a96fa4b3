"""Systems that are small enough to build, run and train in tests, and inputs for them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from crossband.pairs.batch import Batch
from crossband.systems import create, system_class, system_options
from crossband.systems.base import Output, Phase, System
from crossband.systems.csknet.network import CSKNet
from crossband.words import IGNORE_INDEX

TINY: dict[str, Any] = {"encoder": "mobilenetv3_small_050", "decoder_channels": 16}
TINY_OPTIONS: dict[str, dict[str, Any]] = {
    "cddfuse": {"width": 8, "heads": 2, "blocks": 1},
    "segmif": {"fusion_width": 8, "rounds": 2},
}
"""What else makes a system small, by name."""
CLASSES = 5


def tiny(name: str, **options: Any) -> System:
    """A system with the smallest encoder, from a fixed random start, in training mode.

    It has five classes, or none if it only fuses.
    """
    torch.manual_seed(0)
    smallest = {key: value for key, value in TINY.items() if key in system_options(name)}
    classes = CLASSES if system_class(name).segments else None
    return create(name, classes=classes, **{**smallest, **TINY_OPTIONS.get(name, {}), **options})


def csknet(**options: Any) -> CSKNet:
    system = tiny("csknet", **options)
    assert isinstance(system, CSKNet)
    return system


def images(height: int, width: int, *, batch: int = 2, seed: int = 0) -> tuple[Tensor, Tensor]:
    """A visible (B, 3, H, W) and an infrared (B, 1, H, W) image in [0, 1] that have nothing in common."""
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.rand(batch, 3, height, width, generator=generator),
        torch.rand(batch, 1, height, width, generator=generator),
    )


def answer(output: Output) -> Tensor:
    """What a system is asked for: its logits, or the fused picture of one that only fuses."""
    result = output.fused if output.logits is None else output.logits
    assert result is not None
    return result


def labelled(height: int = 64, width: int = 96, *, batch: int = 2, seed: int = 0) -> Batch:
    """A batch whose label holds every class in blocks, and some ignored pixels."""
    visible, infrared = images(height, width, batch=batch, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    blocks = torch.randint(0, CLASSES, (batch, height // 16, width // 16), generator=generator)
    label = blocks.repeat_interleave(16, dim=1).repeat_interleave(16, dim=2)
    label[:, :5, :7] = IGNORE_INDEX
    return Batch(visible=visible, infrared=infrared, label=label, valid=None)


@contextmanager
def resting(phase: Phase) -> Iterator[None]:
    """What a phase freezes, frozen; another phase may train it afterwards."""
    stopped = [p for module in phase.frozen for p in module.parameters() if p.requires_grad]
    for module in phase.frozen:
        module.eval().requires_grad_(False)
        module.zero_grad()
    yield
    for parameter in stopped:
        parameter.requires_grad_(True)


def randomise_norms(module: nn.Module, seed: int = 0) -> None:
    """Give every batch norm scales, shifts and statistics of its own, as after a long training."""
    generator = torch.Generator().manual_seed(seed)
    for norm in module.modules():
        if isinstance(norm, _BatchNorm):
            norm.weight.data.uniform_(0.5, 1.5, generator=generator)
            norm.bias.data.normal_(0, 0.1, generator=generator)
            assert norm.running_mean is not None
            assert norm.running_var is not None
            norm.running_mean.normal_(0, 0.1, generator=generator)
            norm.running_var.uniform_(0.5, 1.5, generator=generator)


def one_line(error: BaseException) -> str:
    """The text of an error, which must be fit for a terminal."""
    text = str(error)
    assert "\n" not in text
    assert len(text) < 600
    return text
