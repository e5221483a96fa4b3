"""What a new user gets wrong first: the line must blame what is wrong, and say the mend."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import crossband as cb
from command_line import refused
from crossband.errors import OptionError, PairError


def test_a_tensor_given_for_an_image() -> None:
    predictor = cb.load("average", device="cpu")
    with pytest.raises(PairError, match=r"visible is a torch tensor of shape \(3, 8, 9\): give an array"):
        predictor(visible=torch.rand(3, 8, 9))
    with pytest.raises(PairError, match=r"infrared is a torch tensor of shape \(1, 8, 9\)"):
        predictor(infrared=torch.rand(1, 8, 9))


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_an_image_without_pixels(dtype: type) -> None:
    predictor = cb.load("average", device="cpu", infrared_scaling="full-range")
    with pytest.raises(PairError, match=r"visible of shape \(0, 9, 3\) has no pixels"):
        predictor(visible=np.zeros((0, 9, 3), dtype))
    with pytest.raises(PairError, match=r"infrared of shape \(8, 0\) has no pixels"):
        predictor(infrared=np.zeros((8, 0), dtype))


def test_infrared_in_the_alpha_channel_of_an_image() -> None:
    predictor = cb.load("average", device="cpu")
    packed = np.full((8, 9, 4), 100, np.uint8)
    assert predictor(visible=Image.fromarray(packed)).fused is not None
    packed[0, 0, 3] = 7
    with pytest.raises(PairError, match=r"alpha channel varies.*getchannel"):
        predictor(visible=Image.fromarray(packed))


def test_a_list_given_for_a_source_of_pairs() -> None:
    with pytest.raises(OptionError, match=r"pairs is a list: give what `crossband\.open_pairs` opens"):
        cb.evaluate(cb.load("average", device="cpu").system, ["a.png"], bands=["both"])


@pytest.mark.parametrize("command", ["predict", "fuse"])
def test_a_name_given_for_a_run(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--visible", "nowhere.png", "--out", str(tmp_path / "out")]
    line = refused([command, "csknet", *arguments], capsys)
    assert "csknet must be trained before it is used" in line
    assert "nowhere" not in line
    assert "run folder missing is not there" in refused([command, "missing", *arguments], capsys)


@pytest.mark.parametrize(
    ("system", "why"), [("csknet", "it does not fuse"), ("segmif", "it fuses by what it segments")]
)
def test_training_without_labels_what_cannot(
    system: str, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["train", system, "--data", "scenes", "--out", str(tmp_path / "run"), "--without_labels"]
    line = refused(arguments, capsys)
    message = f"{system} cannot be trained without labels, since {why}; these can: amdanet, cddfuse, mrfs"
    assert line.removesuffix("\n").endswith(message)
    for able in ("amdanet", "cddfuse", "mrfs"):
        cb.create(able, None)
    with pytest.raises(cb.CrossbandError, match="segments, so it needs"):
        cb.create("segmif", None)
    assert not (tmp_path / "run").exists()
