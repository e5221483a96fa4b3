"""Batches of images: results are never mixed unseen, a bad pair ends nothing, and a rerun goes on."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from crossband.cli import main
from crossband.errors import OptionError, PairError
from crossband.loading import load
from crossband.pairs.base import Classes, Pair, PairFiles
from crossband.pairs.folder import default_palette
from crossband.pairs.matching import match_images
from crossband.predicting import fuse_files
from crossband.predictor import Predictor
from crossband.result_folder import FAILURES_NAME, MANIFEST_NAME, RESULTS_NAME, read_manifest, read_results
from crossband.weights import make_card, save_run
from tiny_systems import tiny


@pytest.fixture
def images(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for band, shape in (("visible", (24, 32, 3)), ("infrared", (24, 32))):
        (tmp_path / band).mkdir()
        for number in range(4):
            Image.fromarray(rng.integers(0, 256, shape, np.uint8)).save(tmp_path / band / f"{number}.png")
    return tmp_path


def fuse(images: Path, *more: str, system: str = "average", out: str = "out") -> int:
    bands = ["--visible", str(images / "visible"), "--infrared", str(images / "infrared")]
    return main(["fuse", system, *bands, "--out", str(images / out), *more])


def written(images: Path, out: str = "out") -> list[str]:
    return sorted(path.name for path in (images / out).iterdir())


def test_a_folder_of_results_says_what_made_it(images: Path) -> None:
    assert fuse(images, "--infrared_scaling", "minmax") == 0
    manifest = read_manifest(images / "out")
    assert manifest is not None
    assert (manifest.command, manifest.system, manifest.bands) == ("fuse", "average", "both")
    assert (manifest.infrared_scaling, manifest.stretch, manifest.weights_sha256) == ("minmax", False, None)
    document = json.loads((images / "out" / MANIFEST_NAME).read_text())
    assert document["counts"] == {"done": 4, "there_already": 0, "failed": 0}
    assert written(images) == ["0.png", "1.png", "2.png", "3.png", MANIFEST_NAME, RESULTS_NAME]


def test_other_results_are_not_mixed_in_without_being_asked_to(
    images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fuse(images) == 0
    before = (images / "out" / "0.png").read_bytes()
    for more, differing in (((), "system average, not maximum"), (("--stretch",), "stretch False, not True")):
        system = "average" if more else "maximum"
        capsys.readouterr()
        assert fuse(images, *more, system=system) == 2
        line = capsys.readouterr().err
        assert differing in line
        assert line.count("\n") == 1
    assert (images / "out" / "0.png").read_bytes() == before
    assert fuse(images, system="maximum", out="out") == 2
    assert fuse(images, "--overwrite", system="maximum") == 0
    assert (images / "out" / "0.png").read_bytes() != before
    manifest = read_manifest(images / "out")
    assert manifest is not None
    assert manifest.system == "maximum"


def test_results_of_unknown_making_are_not_replaced_without_being_asked_to(images: Path) -> None:
    (images / "out").mkdir()
    (images / "out" / "2.png").write_bytes(b"mine")
    assert fuse(images) == 2
    assert (images / "out" / "2.png").read_bytes() == b"mine"
    (images / "out" / MANIFEST_NAME).write_text("{")
    with pytest.raises(OptionError, match=r"manifest\.json does not say what made the results"):
        read_manifest(images / "out")
    assert fuse(images, "--overwrite") == 0


def test_a_bad_pair_is_left_out_and_told(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (images / "visible" / "1.png").write_bytes(b"no image")
    assert fuse(images) == 3
    error = capsys.readouterr().err
    assert "1 of 4 pairs could not be used" in error
    assert error.count("\n") == 1
    assert written(images) == ["0.png", "2.png", "3.png", FAILURES_NAME, MANIFEST_NAME, RESULTS_NAME]
    with open(images / "out" / FAILURES_NAME, newline="", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert row["pair"] == "1"
    assert "1.png" in row["error"]
    assert fuse(images, "--on_error", "stop", out="other") == 2
    assert written(images, "other") == ["0.png", MANIFEST_NAME, RESULTS_NAME]


def test_a_rerun_goes_on_where_it_was(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = images / "visible" / "1.png"
    kept = whole.read_bytes()
    whole.write_bytes(b"no image")
    assert fuse(images) == 3
    times = {path.name: path.stat().st_mtime_ns for path in (images / "out").glob("*.png")}
    whole.write_bytes(kept)
    capsys.readouterr()
    assert fuse(images, "--resume") == 0
    assert "there already: 3" in capsys.readouterr().out
    assert {n: (images / "out" / n).stat().st_mtime_ns for n in times} == times
    assert written(images) == ["0.png", "1.png", "2.png", "3.png", MANIFEST_NAME, RESULTS_NAME], (
        "no failure is left"
    )
    assert fuse(images, "--resume", system="maximum") == 2, "what is there was made otherwise"


def test_the_library_raises_unless_asked_to_skip(images: Path) -> None:
    (images / "infrared" / "0.png").write_bytes(b"")
    files = match_images(images / "visible", images / "infrared")
    with pytest.raises(PairError, match=r"0\.png"):
        fuse_files(load("average"), files, images / "out")
    outcome = fuse_files(load("average"), files, images / "out", on_error="skip")
    assert (outcome.done, outcome.there, [name for name, _ in outcome.failed]) == (3, 0, ["0"])


def test_an_image_that_was_edited_is_computed_anew(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fuse(images) == 0
    before = (images / "out" / "2.png").read_bytes()
    Image.fromarray(np.full((24, 32), 200, np.uint8)).save(images / "infrared" / "2.png")
    capsys.readouterr()
    assert fuse(images, "--resume") == 0
    assert "there already: 3" in capsys.readouterr().out
    assert (images / "out" / "2.png").read_bytes() != before


def test_other_images_of_the_same_names_are_not_mixed_in(
    images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fuse(images) == 0
    (images / "visible").rename(images / "elsewhere")
    bands = ["--visible", str(images / "elsewhere"), "--infrared", str(images / "infrared")]
    again = ["fuse", "average", *bands, "--out", str(images / "out")]
    capsys.readouterr()
    for more in ([], ["--resume"]):
        assert main([*again, *more]) == 2
        line = capsys.readouterr().err
        assert f"with visible images of {images / 'visible'}, not {images / 'elsewhere'}" in line
        assert line.count("\n") == 1
    for band in ("elsewhere", "infrared"):
        (images / band / "3.png").unlink()
    (images / "out" / "mine.png").write_bytes(b"mine")
    assert main([*again, "--overwrite"]) == 0
    assert "removed: earlier results of 1 other pairs" in capsys.readouterr().out
    assert written(images) == ["0.png", "1.png", "2.png", MANIFEST_NAME, "mine.png", RESULTS_NAME]


def test_an_interrupted_batch_says_that_it_is_unfinished(
    images: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    read = Predictor.read

    def cut(predictor: Predictor, files: PairFiles) -> Pair:
        if files.name == "2":
            raise KeyboardInterrupt
        return read(predictor, files)

    with monkeypatch.context() as patch:
        patch.setattr(Predictor, "read", cut)
        assert fuse(images) == 130
    assert capsys.readouterr().err == "crossband: interrupted; go on with the same command and --resume\n"
    document = json.loads((images / "out" / MANIFEST_NAME).read_text())
    assert (document["state"], document["counts"]["done"], document["pairs"]) == ("unfinished", 2, 4)
    with open(images / "out" / RESULTS_NAME, "a", encoding="utf-8") as file:
        file.write("3,1")  # as a kill cuts a line
    left = images / "out" / ".0123456789ab.tmp"
    left.touch()
    assert fuse(images, "--resume") == 0
    document = json.loads((images / "out" / MANIFEST_NAME).read_text())
    assert (document["state"], document["run"]) == ("finished", "average")
    assert document["counts"] == {"done": 2, "there_already": 2, "failed": 0}
    assert not left.exists()
    assert set(read_results(images / "out")) == {"0", "1", "2", "3"}


def test_nothing_of_earlier_results_passes_for_new_ones(images: Path) -> None:
    """A pair fails while other results are replaced: the old picture of its name must not stay."""
    assert fuse(images) == 0
    (images / "visible" / "1.png").write_bytes(b"no image")
    assert fuse(images, "--overwrite", system="maximum") == 3
    assert written(images) == ["0.png", "2.png", "3.png", FAILURES_NAME, MANIFEST_NAME, RESULTS_NAME]


@pytest.mark.parametrize("more", [[], ["--resume"], ["--on_error", "stop"]])
def test_nothing_of_an_image_that_was_damaged_since_passes_for_it(images: Path, more: list[str]) -> None:
    assert fuse(images) == 0
    (images / "visible" / "1.png").write_bytes(b"no image")
    (images / "out" / "note.png").write_bytes(b"of someone else")
    assert fuse(images, *more) == (2 if more[-1:] == ["stop"] else 3)
    assert "1.png" not in written(images)
    assert {"0.png", "2.png", "3.png", "note.png"} < set(written(images))
    assert "1" not in read_results(images / "out")


def test_bands_may_differ_from_pair_to_pair(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (images / "visible" / "1.png").unlink()
    (images / "visible" / "2.png").unlink()
    (images / "infrared" / "3.png").unlink()
    assert fuse(images) == 0
    out, err = capsys.readouterr()
    assert "bands: both 1 (designed), infrared 2 (fallback), visible 1 (fallback)" in out
    assert "not designed for infrared alone" in err
    assert "not designed for visible alone" in err
    assert written(images) == ["0.png", "1.png", "2.png", "3.png", MANIFEST_NAME, RESULTS_NAME]
    alone, visible = (np.asarray(Image.open(images / part)) for part in ("out/3.png", "visible/3.png"))
    np.testing.assert_array_equal(alone, visible)
    assert fuse(images, "--missing", "error", out="strict") == 2
    assert "of 4 names visible lacks 2 (1, 2) and infrared lacks 1 (3)" in capsys.readouterr().err
    assert not (images / "strict").exists()


def test_folders_that_share_no_name_are_no_pairs(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (images / "infrared").iterdir():
        path.rename(path.with_name(f"ir_{path.name}"))
    assert fuse(images) == 2
    assert "of 8 names visible lacks 4" in capsys.readouterr().err


def test_a_band_that_the_system_cannot_do_without(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    system = tiny("deeplabv3plus", band="infrared")
    save_run(
        images / "run",
        system,
        make_card(system, Classes(tuple("abcde"), default_palette(5)), "full-range", {}),
    )
    (images / "infrared" / "3.png").unlink()
    bands = ["--visible", str(images / "visible"), "--infrared", str(images / "infrared")]
    assert main(["predict", str(images / "run"), *bands, "--out", str(images / "out")]) == 2
    assert "deeplabv3plus cannot run on" in capsys.readouterr().err
    assert not (images / "out").exists()
