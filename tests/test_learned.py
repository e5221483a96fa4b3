"""``learned``: the fusion whose weights come with the package."""

from __future__ import annotations

import runpy
import socket
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from crossband.errors import WeightsError
from crossband.loading import load
from crossband.pairs.scenes import SCENE_CLASSES, render_scene
from crossband.systems import create
from crossband.systems.cddfuse.learned import WEIGHTS
from crossband.testing import images
from crossband.weights import make_card, save_run
from tiny_systems import one_line

ROOT = Path(__file__).parents[1]


def luma(picture: np.ndarray) -> np.ndarray:
    return picture @ np.array([0.299, 0.587, 0.114])


def test_the_weights_are_small_and_say_where_they_come_from() -> None:
    assert WEIGHTS.stat().st_size < 1_000_000
    with safe_open(WEIGHTS, framework="pt") as file:
        origin = file.metadata()
        assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.float16}  # noqa: SIM118
    assert origin["licence"] == "Apache-2.0"
    assert origin["data"].startswith("scenes,")


def test_it_is_ready_without_a_network_and_the_same_whatever_the_seed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("it asked for a network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    pair, made = images(30, 41), []
    for seed in (0, 1):
        torch.manual_seed(seed)
        system = create("learned")
        assert not any(parameter.requires_grad for parameter in system.parameters())
        made.append(system(*pair).fused)
    assert torch.equal(*made)


def test_it_is_the_light_variant_of_cddfuse_with_these_weights() -> None:
    system, light = create("learned"), create("cddfuse", None, variant="light")
    light.fusion.load_state_dict(system.network.state_dict())
    pair = images(24, 35)
    assert torch.equal(system(*pair).fused, light.eval()(*pair).fused)


def test_by_night_warm_persons_and_lamps_are_bright() -> None:
    """Persons that the visible camera hardly sees, and lamps that infrared hardly does."""
    fuser = load("learned", device="cpu")
    persons, lamps = [], []
    for index in range(6):
        pair = render_scene(seed=7, index=index, size=(120, 160), condition="night")
        assert pair.visible is not None
        assert pair.infrared is not None
        fused = fuser(pair.visible, pair.infrared).fused
        assert fused is not None
        shown, seen = luma(fused / 255), luma(pair.visible)
        warm = (pair.label == SCENE_CLASSES.names.index("person")) & (pair.infrared > 0.7)
        persons.append(shown[warm & (seen < 0.3)])
        lamps.append(shown[(seen > 0.9) & (pair.infrared < 0.5)])
    for pixels in map(np.concatenate, (persons, lamps)):
        assert pixels.size > 100
        assert pixels.mean() > 0.7


def test_weights_that_are_damaged_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "weights.safetensors").write_bytes(WEIGHTS.read_bytes()[:-100])
    monkeypatch.setattr("crossband.systems.cddfuse.learned.WEIGHTS", tmp_path / "weights.safetensors")
    with pytest.raises(WeightsError, match="cannot be read as weights") as caught:
        create("learned")
    one_line(caught.value)


def test_its_file_is_made_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is packed answers as the run does, but for the rounding to half precision."""
    light = create("cddfuse", None, variant="light").eval()
    light.fusion.load_state_dict(create("learned").network.state_dict())
    with torch.no_grad():
        light.fusion.decoder.output[-1].weight.mul_(0.7)
    training = {"data": "scenes", "seed": 3, "recipes": {"fusion": {"epochs": 2}}}
    save_run(tmp_path / "run", light, make_card(light, None, "full-range", training, loss={}))
    packed = tmp_path / "packed.safetensors"
    monkeypatch.setattr(sys, "argv", ["pack_learned.py", str(tmp_path / "run"), "--out", str(packed)])
    runpy.run_path(str(ROOT / "speed" / "pack_learned.py"), run_name="__main__")
    monkeypatch.setattr("crossband.systems.cddfuse.learned.WEIGHTS", packed)
    pair = images(24, 35)
    difference = (create("learned")(*pair).fused - light(*pair).fused).abs().max()
    assert 0 < difference < 0.003
    with safe_open(packed, framework="pt") as file:
        assert file.metadata()["seed"] == "3"
