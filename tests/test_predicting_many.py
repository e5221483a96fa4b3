"""Many pairs at once and large images in tiles: what comes out is what one whole image at a time gives."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from command_line import refused
from crossband.cli import main
from crossband.errors import OptionError, PairError
from crossband.loading import load
from crossband.pairs.base import Classes, Pair, PairFiles
from crossband.predictor import Predictor
from crossband.runtime.pytorch import PyTorchRuntime
from crossband.runtime.tiling import Tiling, blended
from crossband.systems.base import Output
from crossband.systems.deeplabv3plus import DeepLabV3Plus
from crossband.weights import make_card, save_run
from crossband.words import Bands
from tiny_systems import CLASSES, csknet, tiny

NAMES = Classes(tuple("abcde")[:CLASSES], ((0, 0, 0),) * CLASSES)


def pair(number: int, size: tuple[int, int] = (32, 48)) -> Pair:
    rng = np.random.default_rng(number)
    return Pair(str(number), rng.random((*size, 3), np.float32), rng.random(size, np.float32))


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    torch.manual_seed(0)
    system = csknet()
    return Predictor(system, make_card(system, NAMES, "full-range", {}), device="cpu")


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_several_at_once_are_one_by_one(predictor: Predictor, batch_size: int) -> None:
    pairs = [pair(n) for n in range(4)] + [pair(4, (40, 40)), pair(5)]
    pairs[2].infrared = None
    one_by_one = [predictor.predict(given) for given in pairs]
    together = list(predictor.predict_many(iter(pairs), batch_size=batch_size))
    assert [result.pair.name for result in together] == [str(n) for n in range(6)]
    for ours, wanted in zip(together, one_by_one, strict=True):
        assert ours.bands == wanted.bands
        np.testing.assert_array_equal(ours.labels, wanted.labels)
        np.testing.assert_allclose(ours.confidence, wanted.confidence, atol=1e-5)


def test_what_is_run_at_once_is_of_one_size_and_no_more_than_was_asked_for(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs, answer = [], predictor.runtime.answer
    monkeypatch.setattr(
        predictor.runtime, "answer", lambda v, i: runs.append((v is None, i.shape)) or answer(v, i)
    )
    pairs = [pair(0), pair(1), pair(2), pair(3, (16, 16)), pair(4, (16, 16)), pair(5, (16, 16))]
    pairs[5].visible = None
    list(predictor.predict_many(pairs, batch_size=2))
    sizes = [(False, (2, 32, 48)), (False, (1, 32, 48)), (False, (2, 16, 16)), (True, (1, 16, 16))]
    assert runs == sizes


def test_a_bad_pair_does_not_spoil_its_batch(predictor: Predictor, tmp_path: Path) -> None:
    bad = pair(1)
    assert bad.infrared is not None
    bad.infrared = bad.infrared[:-1]
    pairs = [pair(0), bad, PairFiles("lost", tmp_path / "lost.png", None), pair(3)]
    results = list(predictor.answers(pairs, batch_size=4))
    assert [item for item, _ in results] == pairs
    assert [isinstance(result, PairError) for _, result in results] == [False, True, True, False]
    np.testing.assert_array_equal(results[3][1].labels, predictor.predict(pairs[3]).labels)
    assert len(list(predictor.predict_many(pairs, batch_size=4, on_error="skip"))) == 2
    with pytest.raises(PairError, match="'1': one band is 48 x 31"):
        list(predictor.predict_many(pairs, batch_size=4))


def test_an_endless_stream_is_read_only_a_little_ahead(predictor: Predictor) -> None:
    taken = []

    def stream():
        for number in count():
            taken.append(number)
            yield pair(number)

    results = predictor.predict_many(stream(), batch_size=2, workers=2)
    for _ in range(3):
        next(results)
    results.close()
    assert len(taken) <= 3 + 2 + 2 * 2 + 1


def test_the_first_image_settles_the_scaling_whatever_the_threads_do(tmp_path: Path) -> None:
    files = []
    for number, high in enumerate((100, 255, 180)):
        image = np.linspace(0, high, 32 * 48).reshape(32, 48).astype(np.uint16) * 200
        Image.fromarray(image).save(tmp_path / f"{number}.png")
        files.append(PairFiles(str(number), None, tmp_path / f"{number}.png"))
    many, single = load("average", device="cpu"), load("average", device="cpu")
    list(many.predict_many(files, batch_size=3, workers=3))
    single(infrared=files[0].infrared)
    assert many.scaling == single.scaling


@pytest.mark.parametrize(
    "options",
    [{"batch_size": 0}, {"workers": -1}, {"batch_size": 1.5}, {"workers": "2"}, {"on_error": "ignore"}],
)
def test_options_that_make_no_sense_are_refused(predictor: Predictor, options: dict[str, Any]) -> None:
    name = next(iter(options))
    with pytest.raises(OptionError, match=name if name == "on_error" else name.replace("_", " ")):
        list(predictor.predict_many([pair(0)], **options))


# --- tiles


def local(visible: np.ndarray | None, infrared: np.ndarray | None) -> Output:
    """A system that sees single pixels."""
    assert visible is not None
    assert infrared is not None
    image = torch.from_numpy(np.ascontiguousarray(visible)).permute(0, 3, 1, 2)
    weight = torch.from_numpy(np.ascontiguousarray(infrared))[:, None]
    return Output(logits=image * 3, fused=image, reliability={"visible": weight})


@pytest.mark.parametrize("size", [(128, 700), (700, 128), (391, 517), (130, 130)])
@pytest.mark.parametrize("overlap", [1, 40, 64])
def test_where_pixels_stand_alone_tiles_are_the_whole(size: tuple[int, int], overlap: int) -> None:
    given = pair(0, size)
    assert given.visible is not None
    assert given.infrared is not None
    images = given.visible[None], given.infrared[None]
    strips = list(blended(local, *images, Tiling(128, overlap)))
    whole = local(*images)
    assert next(top for top, _ in strips) == 0
    for part in ("logits", "fused"):
        joined = torch.cat([getattr(output, part) for _, output in strips], 2)
        assert torch.allclose(joined, getattr(whole, part), atol=1e-5)
    joined = torch.cat([output.reliability["visible"] for _, output in strips], 2)
    assert torch.allclose(joined, whole.reliability["visible"], atol=1e-5)


def test_tiles_of_a_network_are_nearly_the_whole() -> None:
    """AMDANet gives labels, a picture and reliabilities; its reach is larger than the tiles."""
    torch.manual_seed(0)
    system = tiny("amdanet").eval()
    given = pair(0, (200, 300))
    images = given.visible[None], given.infrared[None]
    whole = PyTorchRuntime(system, "cpu").answer(*images)
    tiled = PyTorchRuntime(system, "cpu", tiling=Tiling(128, 64)).answer(*images)
    assert tiled.labels.shape == (1, 200, 300)
    assert tiled.fused.shape == (1, 200, 300, 3)
    assert tiled.reliability.keys() == whole.reliability.keys()
    assert np.abs(tiled.fused.astype(int) - whole.fused).mean() < 8
    fitting = PyTorchRuntime(system, "cpu", tiling=Tiling(300, 64)).answer(*images)
    np.testing.assert_array_equal(fitting.labels, whole.labels)


DIVIDED = [("deeplabv3plus", "visible"), ("csknet", "both"), ("csknet", "infrared"), ("csknet", "visible")]


@pytest.mark.parametrize(("name", "bands"), DIVIDED)
def test_a_network_that_is_divided_gives_what_it_gives_undivided(name: str, bands: Bands) -> None:
    system = tiny(name).eval()
    generator = torch.Generator().manual_seed(0)
    visible, infrared = (torch.rand((2, channels, 64, 96), generator=generator) for channels in (3, 1))
    given = (visible if bands != "infrared" else None, infrared if bands != "visible" else None)
    with torch.inference_mode():
        maps = system.nearby(*given)
        assert maps is not None
        made = system.complete(bands, maps).logits
        assert made is not None
        torch.testing.assert_close(made, system(*given).logits)


class Means(torch.nn.Module):
    """In the place of an encoder: means over squares, which see nothing beside them."""

    def __init__(self, channels: Sequence[int]):
        super().__init__()
        self.channels = channels

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        grey = image.mean(dim=1, keepdim=True)
        strides = (1, 2, 4, 8, 16, 16)
        return [
            torch.nn.functional.avg_pool2d(grey, stride).expand(-1, channels, -1, -1)
            for stride, channels in zip(strides, self.channels, strict=True)
        ]


@pytest.mark.parametrize(("side", "overlap"), [(128, 1), (130, 64), (200, 100)])
@pytest.mark.parametrize("size", [(128, 700), (391, 517)])
def test_a_divided_network_sees_the_whole_image_in_tiles(
    side: int, overlap: int, size: tuple[int, int]
) -> None:
    """Its decoder pools the whole image, and reaches further than a tile."""
    torch.manual_seed(0)
    system = tiny("deeplabv3plus", band="infrared").eval()
    assert isinstance(system, DeepLabV3Plus)
    system.network.encoder = Means(system.network.encoder.out_channels)
    infrared = pair(0, size).infrared
    assert infrared is not None
    whole = PyTorchRuntime(system, "cpu").answer(None, infrared[None])
    tiled = PyTorchRuntime(system, "cpu", tiling=Tiling(side, overlap)).answer(None, infrared[None])
    np.testing.assert_array_equal(tiled.labels, whole.labels)
    np.testing.assert_allclose(tiled.confidence, whole.confidence, atol=1e-6)


@pytest.mark.parametrize(("side", "overlap"), [(64, 32), (256, 0), (256, 129)])
def test_tiles_that_make_no_sense_are_refused(side: int, overlap: int) -> None:
    with pytest.raises(OptionError, match="tile"):
        Tiling(side, overlap)


# --- the commands


def test_the_command_takes_batches_tiles_and_precisions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    system = csknet()
    save_run(tmp_path / "run", system, make_card(system, NAMES, "full-range", {}))
    for number in range(3):
        image = np.random.default_rng(number).integers(0, 256, (140, 150), np.uint8)
        (tmp_path / "ir").mkdir(exist_ok=True)
        Image.fromarray(image).save(tmp_path / "ir" / f"{number}.png")
    command = ["predict", str(tmp_path / "run"), "--infrared", str(tmp_path / "ir"), "--device", "cpu"]
    assert main([*command, "--out", str(tmp_path / "one")]) == 0
    assert main([*command, "--out", str(tmp_path / "three"), "--batch_size", "3"]) == 0
    for number in range(3):
        one, three = (
            np.asarray(Image.open(tmp_path / out / "label" / f"{number}.png")) for out in ("one", "three")
        )
        np.testing.assert_array_equal(one, three)
    capsys.readouterr()
    tiles = ["--tile", "128", "--overlap", "32", "--precision", "bfloat16"]
    assert main([*command, "--out", str(tmp_path / "tiles"), *tiles]) == 0
    assert "bfloat16: " in (printed := capsys.readouterr().out)
    assert "% of the labels of pair '0' are those of float32" in printed
    # Results that were computed otherwise are not mixed.
    assert main([*command, "--out", str(tmp_path / "one"), *tiles]) == 2
    assert "precision float32, not bfloat16" in capsys.readouterr().err
    for whole in ([], ["--tile", "0"]):
        said = refused([*command, "--out", str(tmp_path / "whole"), "--overlap", "32", *whole], capsys)
        assert said == "--overlap is of tiles, and no image is cut into any: leave it out, or give --tile"


def test_how_infrared_is_shown_is_for_pairs_of_which_no_visible_image_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    system = csknet()
    save_run(tmp_path / "run", system, make_card(system, NAMES, "full-range", {}))
    source = ["--data", "scenes,train=0,val=0,test=2,size=32x48", "--split", "test", "--device", "cpu"]
    command = ["predict", str(tmp_path / "run"), *source]
    for shown in (["--colours", "iron"], ["--display", "agc"]):
        said = refused([*command, *shown, "--out", str(tmp_path / "out")], capsys)
        assert "every pair has a visible one" in said
    alone = ["--colours", "iron", "--bands", "infrared", "--out", str(tmp_path / "out")]
    assert main([*command, *alone]) == 0
    # Which of them a monitor leaves out is not known before.
    assert main([*command, "--colours", "iron", "--monitor", "--out", str(tmp_path / "monitored")]) == 0


def test_agreement_is_of_the_band_that_is_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    system = tiny("deeplabv3plus", band="infrared")
    save_run(tmp_path / "run", system, make_card(system, NAMES, "full-range", {}))
    command = ["predict", str(tmp_path / "run"), "--data", "scenes,train=0,val=0,test=1,size=32x48"]
    options = ["--split", "test", "--precision", "bfloat16", "--device", "cpu"]
    assert main([*command, *options, "--out", str(tmp_path / "out")]) == 0
    assert "bfloat16: " in capsys.readouterr().out


def test_large_images_are_cut_unless_it_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crossband.cli.using.LARGE", 40 * 50 - 1)
    system = csknet()
    save_run(tmp_path / "run", system, make_card(system, NAMES, "full-range", {}))
    for name, size in {"ir": (40, 50), "vis": (40, 50), "small": (40, 40)}.items():
        (tmp_path / name).mkdir()
        Image.fromarray(np.zeros(size, np.uint8)).save(tmp_path / name / "0.png")

    def tiles_of(kind: str, run: str, infrared: str, *more: str) -> str:
        out = tmp_path / f"{kind}-{infrared}-{len(more)}"
        asked = ["--infrared", str(tmp_path / infrared), "--device", "cpu", "--out", str(out), *more]
        assert main([kind, run, *asked]) == 0
        tiles: str = json.loads((out / "manifest.json").read_text())["made_by"]["tiles"]
        return tiles

    run = str(tmp_path / "run")
    assert tiles_of("predict", run, "ir") == "1024 pixels, overlap 128"
    assert "note: images of 50 x 40 pixels are run in tiles of 1024" in capsys.readouterr().err
    assert tiles_of("predict", run, "ir", "--tile", "0") == "none"
    assert tiles_of("predict", run, "small") == "none"
    assert tiles_of("predict", run, "ir", "--runtime", "onnxruntime", "--workers", "1") == "none"
    assert tiles_of("fuse", "average", "ir", "--visible", str(tmp_path / "vis")) == "none"
    assert "in tiles" not in capsys.readouterr().err
