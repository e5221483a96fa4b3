"""Systems that are small enough to build, run and train in tests, and inputs for them."""

from __future__ import annotations

import copy
from typing import Any

import torch

from crossband.systems import create, make_training, network_options, split_options, system_class
from crossband.systems.base import System
from crossband.systems.csknet.network import CSKNet
from crossband.testing import answer, images, labelled, randomise_norms, resting

__all__ = ["answer", "images", "labelled", "randomise_norms", "resting"]

TINY: dict[str, Any] = {"encoder": "test_efficientnet", "decoder_channels": 16}
TINY_OPTIONS: dict[str, dict[str, Any]] = {
    "cddfuse": {"width": 8, "heads": 2, "blocks": 1},
    # One hidden unit of an excitation, as with 16 channels, may be dead from the start.
    "disoptnet": {"decoder_channels": 64},
    # Its tests know by name where the branches meet in this encoder.
    "cen": {"encoder": "mobilenetv3_small_050"},
    # On the smallest encoder's first map its gates have one hidden unit, which is dead from this start.
    "mmanet": {"encoder": "mobilenetv3_small_050"},
    "segmif": {"fusion_width": 8, "rounds": 2},
}
"""What else makes a system small, by name."""
CLASSES = 5


_made: dict[tuple[str, str], tuple[System, torch.Tensor]] = {}
"""Systems by name and options, and the random state that making them left; a copy takes half of the time."""


def tiny(name: str, **options: Any) -> System:
    """A system with the smallest encoder, from a fixed random start, in training mode.

    It has five classes, or none if it only fuses. options: of the network, and of the loss for its `phases`.
    """
    key = name, repr(sorted(options.items()))
    if key not in _made:
        torch.manual_seed(0)
        smallest = {key: value for key, value in TINY.items() if key in network_options(name)}
        classes = CLASSES if system_class(name).segments else None
        system = build(name, classes, **{**smallest, **TINY_OPTIONS.get(name, {}), **options})
        _made[key] = system, torch.get_rng_state()
    system, random_state = _made[key]
    torch.set_rng_state(random_state)
    return copy.deepcopy(system)


def build(name: str, classes: int | None, **options: Any) -> System:
    """A system, and for its `phases` a training: from options of the network and of the loss."""
    network, loss = split_options(name, options)
    system = create(name, classes, **network)
    if system.trained_by is not None:
        system.given_training = make_training(name, variant=network.get("variant"), **loss)
    return system


def csknet(**options: Any) -> CSKNet:
    system = tiny("csknet", **options)
    assert isinstance(system, CSKNet)
    return system


def one_line(error: BaseException) -> str:
    """The text of an error, which must be fit for a terminal."""
    text = str(error)
    assert "\n" not in text
    assert len(text) < 600
    return text
