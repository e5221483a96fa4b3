"""Images of every kind in, labels out: what a Predictor takes, what it refuses, and what it writes."""

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from crossband.errors import BandError, OptionError, PairError
from crossband.loading import load
from crossband.pairs.base import PairFiles
from crossband.pairs.matching import match_images
from crossband.predicting import predict_files
from crossband.predictor import Predictor
from crossband.systems.base import Output
from crossband.training.engine import train
from crossband.weights import load_run
from tiny_runs import tiny_options


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    options = tiny_options(
        tmp_path_factory.mktemp("predictor") / "run",
        "csknet",
        recipe={"epochs": 1, "batch_size": 4, "lr": 0.05},
    )
    system, card = load_run(train(options, quiet=True))
    # A rule under which 8-bit, 16-bit and float arrays of the same numbers mean the same.
    return Predictor(system, replace(card, infrared_scaling="fixed(0, 255)"), device="cpu")


@pytest.fixture
def visible() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (37, 53, 3), np.uint8)


@pytest.fixture
def infrared() -> np.ndarray:
    return np.random.default_rng(2).integers(0, 256, (37, 53), np.uint8)


def save(image: np.ndarray, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)
    return path


def test_labels_and_confidence_are_those_of_the_softmax(
    predictor: Predictor, visible: np.ndarray, infrared: np.ndarray
) -> None:
    """Worked out here from the system's own logits."""
    result = predictor(visible, infrared)
    with torch.inference_mode():
        logits = predictor.system(
            torch.from_numpy(visible.transpose(2, 0, 1).copy())[None] / 255,
            torch.from_numpy(infrared)[None, None] / 255,
        ).logits[0]
    exponents = np.exp(logits.numpy() - logits.numpy().max(axis=0))
    softmax = exponents / exponents.sum(axis=0)
    assert result.labels.dtype == np.uint8
    assert result.confidence.dtype == np.float32
    np.testing.assert_array_equal(result.labels, softmax.argmax(axis=0))
    np.testing.assert_allclose(result.confidence, softmax.max(axis=0), rtol=1e-5)
    assert (result.bands, result.support, result.fused) == ("both", "designed", None)


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (33, 7), (16, 32), (50, 65)])
def test_any_size(predictor: Predictor, size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    result = predictor(rng.random((*size, 3)), rng.integers(0, 256, size, np.uint8))
    assert result.labels.shape == result.confidence.shape == size
    assert 0 < result.confidence.min() <= result.confidence.max() <= 1
    assert result.overlay().size == size[::-1]


def test_the_same_image_in_every_form_gives_the_same_labels(
    predictor: Predictor, visible: np.ndarray, infrared: np.ndarray, tmp_path: Path
) -> None:
    expected = predictor(visible, infrared)
    visible_path, infrared_path = save(visible, tmp_path / "v.png"), save(infrared, tmp_path / "i.png")
    deep = visible.astype(np.uint16) * 257
    swapped = deep.astype(deep.dtype.newbyteorder())
    arrays = visible / 255, deep, swapped
    for same_visible in (str(visible_path), visible_path, Image.open(visible_path), *arrays):
        assert np.array_equal(predictor(same_visible, infrared).labels, expected.labels)
    three_channels = np.repeat(infrared[..., None], 3, axis=2)
    for same_infrared in (
        infrared_path,
        Image.open(infrared_path),
        infrared[..., None],
        three_channels,
        Image.fromarray(three_channels),
        infrared.astype(np.uint16),
        infrared.astype(swapped.dtype),
        Image.fromarray(infrared.astype(np.uint16)),
        infrared.astype(np.float64),
    ):
        assert np.array_equal(predictor(visible, same_infrared).labels, expected.labels)
    packed = save(np.dstack([visible, infrared]), tmp_path / "packed.png")
    assert np.array_equal(predictor(packed, packed).labels, expected.labels)


@pytest.mark.parametrize(
    ("suffix", "orientation"),
    # Pillow turns the pixels of a TIFF itself; 13.0 reads such that lie on their side wrongly.
    [("png", 1), ("png", 3), ("png", 6), ("jpg", 3), ("jpg", 8), ("tif", 3)],
)
def test_a_pil_image_is_turned_as_its_file_is(
    predictor: Predictor, infrared: np.ndarray, tmp_path: Path, suffix: str, orientation: int
) -> None:
    path, turned = tmp_path / f"image.{suffix}", Image.Exif()
    turned[0x0112] = orientation
    Image.fromarray(infrared).save(path, exif=turned)
    for band in ("visible", "infrared"):
        read = predictor(**{band: path})
        assert read.labels is not None
        assert read.labels.shape == (infrared.shape if orientation < 5 else infrared.shape[::-1])
        for opened in (Image.open(path), Image.open(path).convert("L")):
            given = predictor(**{band: opened})
            np.testing.assert_array_equal(given.labels, read.labels)
            np.testing.assert_array_equal(given.confidence, read.confidence)


def test_grey_visible_images_of_any_depth(predictor: Predictor, infrared: np.ndarray) -> None:
    colour = predictor(visible=np.repeat(infrared[..., None], 3, axis=2))
    deep = infrared.astype(np.uint16) * 257
    for grey in (infrared, deep, Image.fromarray(infrared), Image.fromarray(deep)):
        assert np.array_equal(predictor(visible=grey).labels, colour.labels)


def test_one_band_alone_does_not_look_like_a_black_second_one(
    predictor: Predictor, visible: np.ndarray, infrared: np.ndarray
) -> None:
    alone = predictor(infrared=infrared)
    assert (alone.bands, alone.support) == ("infrared", "designed")
    assert not np.array_equal(alone.confidence, predictor(np.zeros_like(visible), infrared).confidence)
    assert predictor(visible=visible).support == "fallback"


def test_bands_are_those_that_were_asked_for_however_it_is_called(
    predictor: Predictor, visible: np.ndarray, infrared: np.ndarray
) -> None:
    asked = Predictor(predictor.system, predictor.card, device="cpu", bands="infrared")
    alone = predictor(infrared=infrared).labels
    pair = asked.pair_of(visible, infrared)
    (of_many,) = asked.predict_many([(visible, infrared)])
    for result in (asked(visible, infrared), asked.predict(pair), asked.judged(pair), of_many):
        assert result.bands == "infrared"
        assert np.array_equal(result.labels, alone)
    with pytest.raises(PairError, match="visible alone, and infrared was asked for"):
        asked(visible)


@pytest.mark.parametrize(
    ("bad_visible", "bad_infrared", "message"),
    [
        (np.zeros((8, 8, 4), np.uint8), None, "drop an alpha channel"),
        (np.zeros((8, 8), np.int32), None, "uint8, uint16, or float"),
        (np.full((8, 8, 3), 1.5), None, r"within \[0, 1\]"),
        (np.full((8, 8, 3), np.nan), None, "without NaN"),
        (None, np.full((8, 8), np.nan), "64 infrared values are NaN"),
        (
            None,
            np.dstack([np.zeros((8, 8)), np.ones((8, 8)), np.ones((8, 8))]),
            "false colours.*bands exchanged",
        ),
        (None, np.zeros((8, 8, 2)), "three equal ones"),
        (np.zeros((8, 8, 3), np.uint8), np.zeros((8, 9), np.uint8), "one band is 8 x 8 and the other 9 x 8"),
    ],
)
def test_what_cannot_be_used_is_said(
    predictor: Predictor,
    bad_visible: np.ndarray | None,
    bad_infrared: np.ndarray | None,
    message: str,
) -> None:
    with pytest.raises(PairError, match=message):
        predictor(bad_visible, bad_infrared)


@pytest.mark.parametrize(
    "given",
    [
        *({"monitor": "no"}, {"monitor": 1}, {"bands": "ir"}, {"precision": "half"}, {"runtime": "openvno"}),
        *({"tiling": 1024}, {"rig": 5}, {"infrared_scaling": 5}),
        {"false_colour": "ironbow"},
    ],
)
def test_arguments_that_mean_nothing_are_refused(given: dict[str, Any]) -> None:
    (name, value) = next(iter(given.items()))
    with pytest.raises(OptionError, match=f"{name} must be .*, not {value!r}"):
        load("average", device="cpu", **given)


@pytest.mark.parametrize("name", ["load", "predict_files", "fuse_files"])
def test_what_has_moved_is_found_under_its_old_name_with_a_word(name: str) -> None:
    module = "crossband.loading" if name == "load" else "crossband.predicting"
    with pytest.warns(DeprecationWarning, match=rf"{module}\.{name}"):
        old = getattr(importlib.import_module("crossband.predictor"), name)
    assert old is getattr(importlib.import_module(module), name)


def test_no_band_at_all_and_devices_that_are_not_there(predictor: Predictor) -> None:
    with pytest.raises(BandError, match="no band was given"):
        predictor()
    for device in ("abacus", "cuda:99", "meta", "hpu"):
        with pytest.raises(OptionError, match=f"cannot compute on device {device}") as caught:
            Predictor(predictor.system, predictor.card, device=device)
        assert "\n" not in str(caught.value)


class TestFiles:
    @pytest.fixture
    def tree(self, tmp_path: Path) -> Path:
        """Five pairs of three sizes, some in folders of their own, suffixes and their case mixed."""
        rng = np.random.default_rng(3)
        names = ["b.png", "a.JPG", "trip/1.png", "trip/deep/1.tif", "z.png"]
        sizes = [(20, 30), (20, 30), (33, 17), (33, 17), (1, 5)]
        for name, size in zip(names, sizes, strict=True):
            save(rng.integers(0, 256, (*size, 3), np.uint8), tmp_path / "in" / "visible" / name)
            other = str(Path(name).with_suffix(".png"))
            save(rng.integers(0, 256, size, np.uint8), tmp_path / "in" / "infrared" / other)
        return tmp_path / "in"

    @pytest.mark.parametrize("workers", [0, 3])
    def test_names_folders_and_sizes_are_kept(
        self, predictor: Predictor, tree: Path, tmp_path: Path, workers: int
    ) -> None:
        files = match_images(tree / "visible", tree / "infrared")
        told: list[tuple[int, int]] = []
        predict_files(
            predictor, files, tmp_path / "out", workers=workers, progress=lambda *step: told.append(step)
        )
        assert told == [(done, 5) for done in range(6)]
        for kind in ("label", "overlay", "confidence"):
            folder = tmp_path / "out" / kind
            written = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
            assert written == {"a.png", "b.png", "trip/1.png", "trip/deep/1.png", "z.png"}
        for file in files:
            expected = predictor(file.visible, file.infrared)
            label = Image.open(tmp_path / "out" / "label" / f"{file.name}.png")
            assert label.mode == "P"
            assert np.array_equal(np.asarray(label), expected.labels)
            confidence = Image.open(tmp_path / "out" / "confidence" / f"{file.name}.png")
            assert np.abs(np.asarray(confidence) / 255 - expected.confidence).max() <= 0.5 / 255 + 1e-6

    def test_the_palette_shows_the_colours_of_the_classes(
        self, predictor: Predictor, tree: Path, tmp_path: Path
    ) -> None:
        predict_files(predictor, match_images(None, tree / "infrared"), tmp_path / "out")
        label = Image.open(tmp_path / "out" / "label" / "b.png")
        ids, colours = np.asarray(label), np.asarray(label.convert("RGB"))
        palette = np.array(predictor.card.classes.palette, np.uint8)
        assert np.array_equal(colours, palette[ids])

    def test_two_files_of_different_names_make_one_pair(
        self, predictor: Predictor, visible: np.ndarray, infrared: np.ndarray, tmp_path: Path
    ) -> None:
        files = match_images(
            save(visible, tmp_path / "left.png"), save(infrared, tmp_path / "elsewhere" / "right.png")
        )
        predict_files(predictor, files, tmp_path / "out")
        assert [path.name for path in (tmp_path / "out" / "label").iterdir()] == ["left.png"]

    def test_a_damaged_file_is_named_and_no_half_file_is_left(
        self, predictor: Predictor, tree: Path, tmp_path: Path
    ) -> None:
        damaged = tree / "infrared" / "trip" / "1.png"
        damaged.write_bytes(damaged.read_bytes()[:80])
        with pytest.raises(PairError, match=r"trip.1\.png"):
            predict_files(predictor, match_images(None, tree / "infrared"), tmp_path / "out")
        for path in (tmp_path / "out").rglob("*.png"):
            Image.open(path).load()

    def test_labels_of_a_folder_of_pairs_are_never_replaced(
        self, predictor: Predictor, tree: Path, infrared: np.ndarray
    ) -> None:
        truth = save(infrared, tree / "label" / "b.png")
        before = truth.read_bytes()
        with pytest.raises(OptionError, match="holds image pairs"):
            predict_files(predictor, match_images(None, tree / "infrared"), tree)
        assert truth.read_bytes() == before
        assert not (tree / "overlay").exists()

    def test_an_out_that_cannot_be_written_is_named(
        self, predictor: Predictor, tree: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "out").write_text("a file")
        with pytest.raises(OptionError, match="out is a file, not a folder"):
            predict_files(predictor, match_images(None, tree / "infrared"), tmp_path / "out")

    def test_negative_workers_are_refused(self, predictor: Predictor, tmp_path: Path) -> None:
        with pytest.raises(OptionError, match="workers"):
            predict_files(predictor, [PairFiles("a", None, None)], tmp_path, workers=-1)


@pytest.mark.shared_data
def test_real_images_in_one_file_or_two(predictor: Predictor, shared_data: Path, tmp_path: Path) -> None:
    """A 4-channel street image of MFNet: given as one file, or split into two, it is the same pair."""
    packed = next((shared_data / "mfnet_samples").rglob("*.png"))
    image = np.asarray(Image.open(packed))
    assert image.shape == (480, 640, 4)
    two = predictor(save(image[..., :3], tmp_path / "v.png"), save(image[..., 3], tmp_path / "i.png"))
    one = predictor(packed, packed)
    assert np.array_equal(one.labels, two.labels)
    assert one.labels.shape == (480, 640)


def test_nan_is_not_turned_into_a_class(
    predictor: Predictor, visible: np.ndarray, infrared: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = Output(logits=torch.full((1, 3, 37, 53), torch.nan))
    monkeypatch.setattr(predictor.system, "forward", lambda *bands: broken)
    with pytest.raises(OptionError, match="csknet gave NaN for pair 'pair': its training diverged"):
        predictor(visible, infrared)
