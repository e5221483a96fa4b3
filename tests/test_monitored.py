"""Bands that look broken are dropped: by a predictor, in folders of results, and in scores."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from crossband.band_monitor import bands_left, faults_of
from crossband.cli import main
from crossband.evaluation import evaluate
from crossband.loading import load
from crossband.pairs.base import Pair, PairFiles, Pairs
from crossband.pairs.corruption import InState
from crossband.pairs.opening import open_pairs
from crossband.pairs.writing import write_image
from crossband.pictures import to_uint8
from crossband.predicting import predict_files
from crossband.predictor import Predictor
from crossband.weights import make_card, save_run
from tiny_systems import TINY, build

DATA = "scenes,train=2,val=1,test=4,size=64x96"


@pytest.fixture(scope="module")
def pairs() -> Pairs:
    return open_pairs(DATA, "test")


@pytest.fixture(scope="module")
def run(pairs: Pairs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of random weights, whose answers on both bands and on one differ."""
    assert pairs.classes is not None
    folder = tmp_path_factory.mktemp("run")
    torch.manual_seed(0)
    system = build("csknet", len(pairs.classes), **TINY)
    save_run(folder, system, make_card(system, pairs.classes, "full-range", {}))
    return folder


@pytest.fixture(scope="module")
def plain(run: Path) -> Predictor:
    return load(run, device="cpu")


@pytest.fixture(scope="module")
def watching(run: Path) -> Predictor:
    return load(run, device="cpu", monitor=True)


def blackened(pair: Pair, *bands: str) -> Pair:
    return replace(pair, **{band: np.zeros_like(getattr(pair, band)) for band in bands})


def test_what_is_left_is_whole_and_something_the_system_runs_on() -> None:
    every = ("both", "infrared", "visible")
    assert bands_left("both", [], every) == "both"
    assert bands_left("both", ["visible"], every) == "infrared"
    assert bands_left("both", ["infrared"], every) == "visible"
    assert bands_left("both", ["visible", "infrared"], every) == "both"
    assert bands_left("both", ["visible"], ("both", "visible")) == "both"
    assert bands_left("both", ["visible"], ("infrared",)) == "both"
    assert bands_left("infrared", ["infrared"], every) == "infrared"


def test_faults_are_told_of_bands_that_are_there(pairs: Pairs) -> None:
    pair = pairs[0]
    assert faults_of(pair.visible, pair.infrared) == {}
    assert faults_of(None, pair.infrared) == {}
    broken = blackened(pair, "visible")
    assert faults_of(broken.visible, broken.infrared) == {"visible": "black"}
    assert faults_of(pair.visible, np.ones_like(pair.infrared)) == {"infrared": "saturated"}


def test_a_broken_band_is_dropped(plain: Predictor, watching: Predictor, pairs: Pairs) -> None:
    pair = blackened(pairs[0], "visible")
    found, alone = watching.predict(pair), plain.predict(replace(pair, visible=None))
    assert (found.bands, found.support, found.faults) == ("infrared", "designed", {"visible": "black"})
    np.testing.assert_array_equal(found.labels, alone.labels)
    np.testing.assert_array_equal(found.confidence, alone.confidence)
    assert found.pair is pair
    np.testing.assert_array_equal(np.asarray(found.overlay()), np.asarray(alone.overlay()))
    unwatched = plain.predict(pair)
    assert (unwatched.bands, unwatched.faults) == ("both", {})
    assert not np.array_equal(unwatched.confidence, found.confidence)


def test_nothing_is_dropped_where_nothing_is_left(
    plain: Predictor, watching: Predictor, pairs: Pairs
) -> None:
    pair = blackened(pairs[0], "visible", "infrared")
    found = watching.predict(pair)
    assert (found.bands, set(found.faults)) == ("both", {"visible", "infrared"})
    np.testing.assert_array_equal(found.confidence, plain.predict(pair).confidence)


def test_in_a_batch_each_pair_is_judged_by_itself(watching: Predictor, pairs: Pairs) -> None:
    given = [pairs[0], blackened(pairs[1], "visible"), blackened(pairs[2], "infrared"), pairs[3]]
    together = list(watching.predict_many(given, batch_size=4))
    assert [one.bands for one in together] == ["both", "infrared", "visible", "both"]
    assert [one.pair.name for one in together] == [pair.name for pair in given]
    for one, pair in zip(together, given, strict=True):
        np.testing.assert_allclose(one.confidence, watching.predict(pair).confidence, atol=1e-5)


def test_scores_are_those_of_the_band_that_is_left(plain: Predictor, pairs: Pairs) -> None:
    dark = InState(pairs, "black visible")

    def score(shown: Pairs, bands: str, monitor: bool) -> np.ndarray:
        found = evaluate(plain.system, shown, bands=[bands], monitor=monitor, batch_size=2)  # type: ignore[list-item]
        return found.results[bands].confusion.numpy()  # type: ignore[index]

    np.testing.assert_array_equal(score(dark, "both", True), score(pairs, "infrared", False))
    np.testing.assert_array_equal(score(pairs, "both", True), score(pairs, "both", False))
    assert not np.array_equal(score(dark, "both", False), score(dark, "both", True))


def rows(folder: Path) -> list[list[str]]:
    with open(folder / "faults.csv", newline="", encoding="utf-8") as file:
        return list(csv.reader(file))[1:]


def files_in(folder: Path, pairs: Pairs) -> list[PairFiles]:
    """The pairs as files; the visible image of the second is black."""
    files = []
    for index in range(len(pairs)):
        pair = blackened(pairs[index], "visible") if index == 1 else pairs[index]
        paths = [folder / band / f"{index}.png" for band in ("visible", "infrared")]
        for path, image in zip(paths, (pair.visible, pair.infrared), strict=True):
            assert image is not None
            write_image(path, to_uint8(image))
        files.append(PairFiles(str(index), *paths))
    return files


def test_a_folder_of_results_tells_of_faults_and_keeps_them(
    plain: Predictor, watching: Predictor, pairs: Pairs, tmp_path: Path
) -> None:
    files, out = files_in(tmp_path, pairs), tmp_path / "out"
    outcome = predict_files(watching, files[:2], out)
    assert outcome.faults == [("1", "visible", "black", True)]
    assert rows(out) == [["1", "visible", "black", "True"]]
    assert predict_files(watching, files, out, resume=True).faults == []
    assert rows(out) == [["1", "visible", "black", "True"]]
    predict_files(plain, files, out, overwrite=True)
    assert not (out / "faults.csv").exists()


def test_the_commands_take_a_monitor(
    run: Path, pairs: Pairs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files_in(tmp_path, pairs)
    sides = ["--visible", str(tmp_path / "visible"), "--infrared", str(tmp_path / "infrared")]
    out = ["--out", str(tmp_path / "out"), "--device", "cpu", "--runtime", "torch"]
    assert main(["predict", str(run), *sides, *out, "--monitor"]) == 0
    assert "band monitor: visible black in 1 (dropped)" in capsys.readouterr().out
    assert main(["predict", str(run), *sides, *out, "--resume"]) == 2
    assert "monitor True" in capsys.readouterr().err
    scoring = ["robustness", str(run), "--data", DATA, "--limit", "1", "--workers", "0", "--device", "cpu"]
    scoring += [
        "--corruptions",
        "held-out",
        "--severities",
        "5",
        "--monitor",
        "--out",
        str(tmp_path / "scores"),
    ]
    assert main(scoring) == 0
    assert "with a band monitor" in capsys.readouterr().out
    (told,) = json.loads((tmp_path / "scores" / "robustness.json").read_text()).values()
    assert told["monitor"] is True
    assert {key.partition("/")[0] for key in told["scores"]} >= {"fog", "halo", "homography"}
