"""``crossband align``, and ``--rig`` of the commands that read pairs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fake_trees
from command_line import refused
from crossband.cli import main
from crossband.pairs.writing import write_image
from crossband.rig.geometry import corners, transform
from crossband.rig.rig import read_rig
from crossband.words import IGNORE_INDEX
from unaligned import HOMOGRAPHY, INFRARED_SIZE, VISIBLE_SIZE, write_unaligned

PAIRS = 5


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_unaligned(tmp_path_factory.mktemp("rig") / "pairs", PAIRS, labels=True)


@pytest.fixture(scope="module")
def rig(folder: Path) -> Path:
    """A rig.json by ``crossband align`` itself, with its page beside it."""
    out = folder.parent / "rig.json"
    page = folder.parent / "page.html"
    assert main(["align", *bands(folder), "--out", str(out), "--report", str(page)]) == 0
    return out


def bands(folder: Path) -> list[str]:
    return ["--visible", str(folder / "train" / "visible"), "--infrared", str(folder / "train" / "infrared")]


def test_align_finds_the_rig_and_writes_its_page(rig: Path) -> None:
    found = read_rig(rig)
    assert (found.visible_size, found.infrared_size) == (VISIBLE_SIZE, INFRARED_SIZE)
    assert (found.found_by, found.count) == ("pairs", PAIRS)
    around = corners(INFRARED_SIZE)
    off = np.linalg.norm(transform(found.matrix, around) - transform(HOMOGRAPHY, around), axis=1)
    assert off.max() < 2
    page = (rig.parent / "page.html").read_text()
    assert page.count("data:image/jpeg") == 12
    assert "http" not in page.split("<body>")[1]


def test_align_says_residual_interval_and_parallax(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    points = np.random.default_rng(0).uniform(5, 150, (30, 2))
    rows = np.c_[transform(HOMOGRAPHY, points), points]
    np.savetxt(tmp_path / "points.csv", rows, delimiter=",")
    options = ["--points", str(tmp_path / "points.csv"), "--out", str(tmp_path / "rig.json")]
    depths = ["--baseline", "0.1", "--plane", "20", "--focal", "400"]
    assert main(["align", *bands(folder), *options, *depths]) == 0
    said = capsys.readouterr().out
    assert "by 30 points" in said
    assert "residual: 0.00" in said
    assert "from 13.33 m to 40.00 m" in said
    np.testing.assert_allclose(read_rig(tmp_path / "rig.json").matrix, HOMOGRAPHY, atol=1e-6)


def test_what_was_found_is_written_before_it_is_printed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reader of what is printed, such as ``head``, may have gone."""

    def gone(*_: object, **__: object) -> None:
        raise BrokenPipeError

    points = np.random.default_rng(0).uniform((0, 0), INFRARED_SIZE[::-1], (30, 2))
    rows = np.c_[transform(HOMOGRAPHY, points), points]
    np.savetxt(tmp_path / "points.csv", rows, "%.6f", ",")
    monkeypatch.setattr("builtins.print", gone)
    monkeypatch.setattr("os.dup2", lambda *_: None)
    options = ["--points", str(tmp_path / "points.csv"), "--out", str(tmp_path / "rig.json")]
    assert main(["align", *bands(folder), *options]) == 1
    assert read_rig(tmp_path / "rig.json").count == 30
    assert main(["data", "check", f"folder:{folder}", "--json", str(tmp_path / "report.json")]) == 1
    assert json.loads((tmp_path / "report.json").read_text())["splits"][0]["pairs"] == PAIRS


def test_a_pair_alone_is_refused_and_nothing_is_written(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = [str(folder / "train" / band / "0.png") for band in ("visible", "infrared")]
    options = ["--out", str(tmp_path / "rig.json"), "--report", str(tmp_path / "page.html")]
    said = refused(["align", "--visible", one[0], "--infrared", one[1], "--model", "shift", *options], capsys)
    assert said.startswith("these cameras cannot be aligned: ")
    assert not list(tmp_path.iterdir())


@pytest.fixture
def points(tmp_path: Path) -> list[str]:
    """Points that settle the rig at once."""
    picked = np.random.default_rng(0).uniform((0, 0), INFRARED_SIZE[::-1], (30, 2))
    path = tmp_path / "points.csv"
    np.savetxt(path, np.c_[transform(HOMOGRAPHY, picked), picked], "%.6f", ",")
    return ["--points", str(path)]


@pytest.mark.parametrize("wrong", ["out", "report"])
def test_a_rig_and_its_page_are_written_both_or_neither(
    wrong: str, folder: Path, points: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    places = {"out": tmp_path / "rig.json", "report": tmp_path / "page.html"}
    places[wrong] = tmp_path / "file" / "below"
    options = [word for name, path in places.items() for word in (f"--{name}", str(path))]
    assert "file" in refused(["align", *bands(folder), *points, *options], capsys)
    assert {path.name for path in tmp_path.iterdir()} == {"file", "points.csv"}


@pytest.mark.parametrize(
    ("places", "said"),
    [
        (["--out", "{0}"], "--out {0} is a folder"),
        (["--out", "{0}/rig.json", "--report", "{0}"], "--report {0} is a folder"),
        (["--out", "{0}/rig.json", "--report", "{0}/./rig.json"], "one file, {0}/rig.json"),
    ],
)
def test_places_that_cannot_be_written_to_are_told_before_aligning(
    places: list[str], said: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [part.format(tmp_path) for part in places]
    assert said.format(tmp_path) in refused(["align", *bands(folder), *options], capsys)
    assert not list(tmp_path.iterdir())


def test_points_of_pictures_of_several_sizes_are_refused(
    folder: Path, points: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(folder / "train", tmp_path / "train")
    write_image(tmp_path / "train" / "infrared" / "0.png", np.zeros(VISIBLE_SIZE, np.uint8))
    options = [*points, "--out", str(tmp_path / "rig.json")]
    assert "infrared images are of 2 sizes" in refused(["align", *bands(tmp_path), *options], capsys)


def test_pictures_of_nothing_are_refused_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for band, size in (("visible", VISIBLE_SIZE), ("infrared", INFRARED_SIZE)):
        for number in range(4):
            write_image(tmp_path / "train" / band / f"{number}.png", np.full(size, 70, np.uint8))
    said = refused(["align", *bands(tmp_path), "--out", str(tmp_path / "rig.json")], capsys)
    assert "texture" in said
    assert not (tmp_path / "rig.json").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "align needs --visible and --infrared and --out"),
        (["--visible", "{v}", "--infrared", "nowhere", "--out", "x"], "nowhere"),
        (["--visible", "{v}", "--infrared", "{i}", "--out", "x", "--rig", "y"], "belong to --check"),
        (["--visible", "{v}", "--infrared", "{i}", "--out", "x", "--frame", "infrared"], "belong to --check"),
        (["--check", "folder:x", "--frame", "infrared"], "give --rig too"),
        (["--check", "folder:x", "--out", "rig.json"], "aligns nothing; leave out --out"),
        (["--check", "folder:x", "--report", "page.html"], "aligns nothing; leave out --report"),
        (["--check", "folder:x", "--model", "shift"], "aligns nothing; leave out --model"),
        (["--check", "folder:x", "--pairs", "4"], "aligns nothing; leave out --pairs"),
        (["--check", "folder:x", "--limit", "2"], "aligns nothing; leave out --limit"),
        (["--visible", "{v}", "--infrared", "{i}", "--out", "x", "--focal", "400"], "--baseline and --plane"),
        (["--visible", "{v}", "--infrared", "{i}", "--out", "x", "--plane", "3"], "together"),
        (["--visible", "{v}", "--infrared", "{i}", "--out", "x", "--points", "no.csv"], "no.csv"),
        (
            ["--visible", "{v}", "--infrared", "{i}", "--out", "x", "--points", "p.csv", "--pairs", "4"],
            "leave out --pairs",
        ),
        (["--visible", "{v}", "--infrared", "{i}", "--out", "x", "--visible_lens", "no.npz"], "no.npz"),
        (["--visible", "{v}", "--infrared", "{i}", "--out", "x", "--model", "spline"], "spline"),
        (["--visible", "{v}", "--infrared", "{i}", "--out", "x", "--limit", "-1"], "above 0 pixels, not -1"),
        (["--check", "scenes,train=2,val=1,test=1,size=64x64"], "generated ones are registered"),
        (["--check", "folder:nowhere"], "nowhere"),
    ],
)
def test_what_cannot_be_aligned_is_one_line(
    folder: Path, options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    places = {"v": str(folder / "train" / "visible"), "i": str(folder / "train" / "infrared")}
    assert said in refused(["align", *(option.format(**places) for option in options)], capsys)


def test_check_tells_each_pair(folder: Path, rig: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "crossband align" in refused(["align", "--check", f"folder:{folder}"], capsys)
    assert main(["align", "--check", f"folder:{folder}", "--rig", str(rig), "--frame", "infrared"]) == 0
    said = capsys.readouterr().out
    assert f"of {PAIRS} pairs could be measured" in said
    assert "by more than 3: 0" in said


def test_check_measures_no_pair_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Splits such as ``test_day`` hold pairs of ``test``."""
    fake_trees.mfnet_original(tmp_path)
    assert main(["align", "--check", f"mfnet:{tmp_path}"]) == 0
    assert "of 9 pairs" in capsys.readouterr().out


def test_fused_pictures_are_transparent_where_one_camera_saw_nothing(
    folder: Path, rig: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["fuse", "average", *bands(folder), "--rig", str(rig), "--out", str(tmp_path / "fused")]
    assert main(command) == 0
    picture = np.asarray(Image.open(tmp_path / "fused" / "0.png"))
    assert picture.shape == (*VISIBLE_SIZE, 4)
    assert picture[0, 0, 3] == 0
    assert picture[120, 160, 3] == 255
    made_by = json.loads((tmp_path / "fused" / "manifest.json").read_text())["made_by"]
    assert made_by["rig"].endswith("in the visible frame")
    capsys.readouterr()
    assert "infrared frame" in refused([*command, "--frame", "infrared"], capsys)
    assert main([*command, "--frame", "infrared", "--overwrite"]) == 0
    assert np.asarray(Image.open(tmp_path / "fused" / "0.png")).shape == (*INFRARED_SIZE, 3)


def test_a_single_pair_is_read_through_a_rig(
    folder: Path, rig: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = [
        part
        for band in ("visible", "infrared")
        for part in (f"--{band}", str(folder / "train" / band / "0.png"))
    ]
    command = ["fuse", "average", *one, "--out", str(tmp_path / "fused")]
    assert "--rig" in refused(command, capsys)
    assert "name the rig too" in refused([*command, "--frame", "infrared"], capsys)
    assert "no.json" in refused([*command, "--rig", "no.json"], capsys)
    assert main([*command, "--rig", str(rig)]) == 0
    assert np.asarray(Image.open(tmp_path / "fused" / "0.png")).shape == (*VISIBLE_SIZE, 4)


def test_a_rig_trains_evaluates_and_predicts(folder: Path, rig: Path, tmp_path: Path) -> None:
    source, by_rig = f"folder:{folder}", ["--rig", str(rig)]
    run = str(tmp_path / "run")
    small = ["--encoder", "test_efficientnet", "--network.decoder_channels", "16", "--workers", "0"]
    small += ["--network.band", "infrared"]
    short = ["--recipe.epochs", "1", "--recipe.batch_size", "2", "--hold_out", "0", "--accelerator", "cpu"]
    assert main(["train", "deeplabv3plus", "--data", source, *by_rig, "--out", run, *small, *short]) == 0
    card = json.loads((tmp_path / "run" / "card.json").read_text())
    assert f"rig={rig},frame=visible" in json.dumps(card["training"])
    evaluate = ["evaluate", run, "--data", source, *by_rig, "--split", "train", "--workers", "0"]
    assert main([*evaluate, "--out", str(tmp_path / "scores")]) == 0
    out = tmp_path / "labels"
    assert main(["predict", run, *bands(folder)[2:], *by_rig, "--out", str(out)]) == 0
    label = np.asarray(Image.open(out / "label" / "0.png"))
    assert label.shape == VISIBLE_SIZE
    assert label[0, 0] == IGNORE_INDEX
    assert (label[100:140, 140:180] < IGNORE_INDEX).all()
    assert np.asarray(Image.open(out / "confidence" / "0.png"))[0, 0] == 0
    assert np.asarray(Image.open(out / "overlay" / "0.png")).shape == (*VISIBLE_SIZE, 4)


def test_fused_pictures_are_scored_only_where_both_cameras_see(
    folder: Path, rig: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    score = [
        "evaluate",
        "average",
        "--fusion",
        "--data",
        f"folder:{folder}",
        "--split",
        "train",
        "--workers",
        "0",
    ]
    score += ["--metrics", "EN", "--rig", str(rig), "--out", str(tmp_path / "scores")]
    assert "--frame infrared" in refused(score, capsys)
    assert main([*score, "--frame", "infrared"]) == 0


def test_data_show_and_export_read_through_a_rig(folder: Path, rig: Path, tmp_path: Path) -> None:
    by_rig = ["--rig", str(rig), "--frame", "infrared"]
    assert main(["data", "show", f"folder:{folder}", *by_rig, "--out", str(tmp_path / "sheet.png")]) == 0
    assert main(["data", "export", f"folder:{folder}", *by_rig, "--out", str(tmp_path / "out")]) == 0
    for band in ("visible", "infrared", "label"):
        assert Image.open(tmp_path / "out" / "train" / band / "0.png").size == INFRARED_SIZE[::-1]
    assert main(["data", "check", f"folder:{folder}", *by_rig]) == 0
    assert main(["data", "check", f"folder:{folder}"]) == 1


def test_an_export_says_what_no_label_can(
    folder: Path, rig: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Pixels that one camera saw are 255 in a label; without one, a repeated edge would pass for seen."""
    told = "pairs have pixels that only one camera saw, and no labels"
    unlabelled = tmp_path / "unlabelled"
    shutil.copytree(folder / "train", unlabelled, ignore=shutil.ignore_patterns("label"))
    for number, (source, frame, warned) in enumerate(
        [(folder, "visible", False), (unlabelled, "visible", True), (unlabelled, "infrared", False)]
    ):
        out = ["--rig", str(rig), "--frame", frame, "--out", str(tmp_path / str(number))]
        assert main(["data", "export", f"folder:{source}", *out]) == 0
        assert (told in capsys.readouterr().err) is warned
