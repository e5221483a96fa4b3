"""`data check` finds each fault that was put into a sound tree, and nothing in the sound one."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

import fake_trees
from crossband.errors import OptionError, PairError
from crossband.pairs.benchmarks import BENCHMARKS, Split
from crossband.pairs.check import CheckReport, check_source
from crossband.pairs.headers import read_header
from fake_trees import SIZE, TREES


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Path], str]:
    """Build a fake tree and declare its benchmark to be as small as the tree; gives the source."""

    def build(tree: str, root: Path) -> str:
        key, _, builder, counts = TREES[tree]
        builder(root)
        declared = BENCHMARKS[key]
        splits = {
            name: replace(split, counts=(counts[name],)) if name in counts and split.counts else split
            for name, split in declared.splits.items()
        }
        monkeypatch.setitem(BENCHMARKS.declared, key, replace(declared, splits=splits, resolution=SIZE))
        return f"{key}:{root}"

    return build


def told(report: CheckReport, severity: str) -> list[str]:
    return [problem.message for problem in report.problems if problem.severity == severity]


@pytest.mark.parametrize("tree", TREES)
def test_a_sound_tree_has_no_errors(tree: str, tiny, tmp_path: Path) -> None:
    report = check_source(tiny(tree, tmp_path))
    assert report.ok
    assert not told(report, "error")
    assert report.layout == TREES[tree][1]
    assert {split.name: split.pairs for split in report.splits} == TREES[tree][3]
    for split in report.splits:
        if not split.partial:
            assert split.sizes == {SIZE: split.pairs}
            assert split.pixels.sum() == split.pairs * SIZE[0] * SIZE[1]
    classes = BENCHMARKS[TREES[tree][0]].classes
    stripes = np.bincount(np.arange(SIZE[1]) % len(classes), minlength=256) * SIZE[0]
    main = next(split for split in report.splits if not split.partial)
    np.testing.assert_array_equal(main.pixels, stripes * main.pairs)


@pytest.mark.parametrize(
    ("tree", "warnings"),
    [
        ("msrs", []),
        ("mfnet", []),
        ("mfnet-sigma", []),
        (
            "mfnet-cmnext",
            [
                "the split val is not",
                "JPEG in",
                "JPEG in",
                "in no split",
            ],
        ),
        ("mvseg", ["JPEG in", "JPEG in"]),
    ],
)
def test_warnings_of_sound_trees(tree: str, warnings: list[str], tiny, tmp_path: Path) -> None:
    found = told(check_source(tiny(tree, tmp_path)), "warning")
    assert len(found) == len(warnings)
    for expected in warnings:
        assert any(expected in message for message in found)


def test_a_missing_partner_and_a_wrong_count(tiny, tmp_path: Path) -> None:
    source = tiny("msrs", tmp_path)
    (tmp_path / "train" / "ir" / "00002N.png").unlink()
    errors = told(check_source(source), "error")
    assert any("train: 1 file missing" in error and "ir/00002N" in error for error in errors)
    assert any("train: 2 complete pairs, but" in error and "has 3" in error for error in errors)
    assert len(errors) == 2


def test_lists_that_name_what_is_not_there(tiny, tmp_path: Path) -> None:
    mfnet = tiny("mfnet", tmp_path / "mfnet")
    with (tmp_path / "mfnet" / "val.txt").open("a") as file:
        file.write("09999D\n")
    (error,) = told(check_source(mfnet), "error")
    assert "val: 2 files missing" in error
    assert "images/09999D" in error
    assert "labels/09999D" in error
    mvseg = tiny("mvseg", tmp_path / "mvseg")
    with (tmp_path / "mvseg" / "val.txt").open("a") as file:
        file.write("NoSuchVideo\n")
    (error,) = told(check_source(mvseg), "error")
    assert "NoSuchVideo" in error
    assert "val.txt names it" in error


@pytest.mark.parametrize("role", ["vi", "ir", "Segmentation_labels"])
@pytest.mark.parametrize("damage", ["truncated", "empty", "not an image"])
def test_damaged_files(role: str, damage: str, tiny, tmp_path: Path) -> None:
    source = tiny("msrs", tmp_path)
    path = tmp_path / "train" / role / "00003N.png"
    content = {"truncated": path.read_bytes()[:-16], "empty": b"", "not an image": b"<html>404</html>"}
    path.write_bytes(content[damage])
    report = check_source(source)
    (error,) = told(report, "error")
    assert "train: cannot use 1 file:" in error
    assert str(path) in error
    assert not report.ok


def test_truncated_jpeg_and_tiff(tmp_path: Path) -> None:
    for suffix in (".jpg", ".tif"):
        path = tmp_path / f"a{suffix}"
        fake_trees.noise(path)
        header = read_header(path)
        assert (header.size, header.bits, header.channels) == (SIZE, 8, 3)
        path.write_bytes(path.read_bytes()[:-16])
        with pytest.raises(PairError, match=f"a{suffix}"):
            read_header(path)


def test_headers_tell_depth_and_channels(tmp_path: Path) -> None:
    fake_trees.noise(tmp_path / "deep.png", 1, np.uint16)
    fake_trees.noise(tmp_path / "four.png", 4)
    Image.new("P", (5, 3)).save(tmp_path / "palette.png")
    Image.fromarray(np.zeros((3, 5), np.float32)).save(tmp_path / "float.tiff")
    assert str(read_header(tmp_path / "deep.png")) == "PNG, 16-bit, 1 channel"
    assert str(read_header(tmp_path / "four.png")) == "PNG, 8-bit, 4 channels"
    assert "palette" in str(read_header(tmp_path / "palette.png"))
    assert read_header(tmp_path / "palette.png").size == (3, 5)
    assert str(read_header(tmp_path / "float.tiff")) == "TIFF, 32-bit, 1 channel"


def test_sizes_that_differ(tiny, tmp_path: Path) -> None:
    source = tiny("msrs", tmp_path)
    fake_trees.noise(tmp_path / "train" / "ir" / "00001D.png", 1, size=(12, 16))
    for folder, channels in (("vi", 3), ("ir", 1)):
        fake_trees.noise(tmp_path / "test" / folder / "00004D.png", channels, size=(48, 64))
    fake_trees.label(tmp_path / "test" / "Segmentation_labels" / "00004D.png", 9, size=(48, 64))
    report = check_source(source)
    (error,) = told(report, "error")
    assert "the sizes differ in 1 pair: 00001D (visible 24 x 32, infrared 12 x 16, label 24 x 32)" in error
    (warning,) = told(report, "warning")
    assert "test: not 24 x 32 (height x width) as published: 1 of its pairs" in warning


def test_ids_out_of_range_are_counted(tiny, tmp_path: Path) -> None:
    source = tiny("fmb", tmp_path)
    stray = np.zeros(SIZE, np.uint8)
    stray[0, :7], stray[1, :2], stray[2, 0] = 16, 200, 255
    fake_trees.save(tmp_path / "test" / "Label" / "00005.png", stray)
    report = check_source(source)
    (error,) = told(report, "error")
    assert "test: ids outside 0 to 14 in 1 label: 16 (7 px), 200 (2 px); in 00005" in error
    assert check_source(f"{source},ignore=0+16+200").ok


def test_a_colour_label_is_an_error(tiny, tmp_path: Path) -> None:
    source = tiny("msrs", tmp_path)
    fake_trees.noise(tmp_path / "test" / "Segmentation_labels" / "00004D.png", 3)
    (error,) = told(check_source(source), "error")
    assert "00004D" in error
    assert "class ids" in error


def test_the_fourth_channel_is_missed(tiny, tmp_path: Path) -> None:
    source = tiny("mfnet", tmp_path)
    fake_trees.noise(tmp_path / "images" / "00004D.png", 3)
    (error,) = told(check_source(source), "error")
    assert "val: no fourth channel, which holds infrared, in 1 image" in error
    assert "00004D" in error


def test_pairs_in_two_splits(tiny, tmp_path: Path) -> None:
    source = tiny("mfnet", tmp_path)
    fake_trees.write_list(tmp_path / "val.txt", ["00001D", "00004D", "00005N", "00005N", "00002D_flip"])
    report = check_source(source)
    errors = told(report, "error")
    assert any("train and val share 1 pair: 00001D" in error for error in errors)
    warnings = told(report, "warning")
    assert any("repeats 1 name: 00005N" in warning for warning in warnings)
    assert any("flipped copies left out: 1 name: 00002D_flip" in warning for warning in warnings)


def test_files_of_no_split_are_counted(tiny, tmp_path: Path) -> None:
    source = tiny("mfnet", tmp_path)
    for index in range(5):
        fake_trees.noise(tmp_path / "images" / f"1000{index}D.png", 4)
    (tmp_path / "images" / "Thumbs.db").write_bytes(b"x")
    (warning,) = told(check_source(source), "warning")
    assert "in no split: 5 files" in warning
    assert "and 2 more" in warning


def test_a_split_that_is_not_there(tiny, tmp_path: Path) -> None:
    source = tiny("msrs", tmp_path)
    shutil.rmtree(tmp_path / "train")
    report = check_source(source)
    assert report.ok
    assert told(report, "warning") == ["the split train is not in this tree"]


def test_pst900_numbers_are_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_trees.pst900(tmp_path)
    declared = BENCHMARKS["pst900"]
    splits = {"train": Split((3, 4)), "test": Split((2,))}
    monkeypatch.setitem(BENCHMARKS.declared, "pst900", replace(declared, splits=splits, resolution=SIZE))
    report = check_source(f"pst900:{tmp_path}")
    assert report.ok
    assert told(report, "warning") == ["train: 3 complete pairs; sources give 3 or 4"]


def test_all_faults_are_gathered_at_once(tiny, tmp_path: Path) -> None:
    source = tiny("msrs", tmp_path)
    (tmp_path / "train" / "vi" / "00001D.png").write_bytes(b"")
    (tmp_path / "train" / "ir" / "00002N.png").unlink()
    fake_trees.save(tmp_path / "test" / "Segmentation_labels" / "00004D.png", np.full(SIZE, 9, np.uint8))
    fake_trees.noise(tmp_path / "test" / "vi" / "00005D.png", size=(9, 9))
    assert len(told(check_source(source), "error")) == 5


def test_absent_classes_and_text(tiny, tmp_path: Path) -> None:
    source = tiny("fmb", tmp_path)
    for name in ("00004", "00005"):
        path = tmp_path / "test" / "Label" / f"{name}.png"
        ids = np.asarray(Image.open(path)).copy()
        ids[ids == 13] = 12
        fake_trees.save(path, ids)
    report = check_source(source)
    test = next(split for split in report.splits if split.name == "test")
    assert report.absent_classes(test) == ["bicycle"]
    text = report.to_text()
    assert "absent from test" in text
    assert "FMB (Full-time" in text
    assert "layout: official" in text
    assert "Bicycle (id 13) has no pixel" in text
    assert "whether the ids mean" in text
    assert "no errors" in text
    assert max(map(len, text.splitlines())) < 400


def test_report_is_json(tiny, tmp_path: Path) -> None:
    report = check_source(tiny("mfnet", tmp_path))
    loaded = json.loads(json.dumps(report.to_dict()))
    assert loaded["ok"] is True
    assert loaded["layout"] == "original"
    assert loaded["splits"][0]["conditions"] == {"day": 2, "night": 1}
    assert loaded["splits"][0]["formats"]["visible"] == {"PNG, 8-bit, 4 channels": 3}
    assert loaded["splits"][3]["partial"] is True
    assert any("MSRS" in quirk for quirk in loaded["quirks"])


def test_progress_reaches_the_end(tiny, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    check_source(tiny("msrs", tmp_path), progress=lambda done, total: seen.append((done, total)))
    assert seen == [(done, 5) for done in range(1, 6)]


def test_folders_are_checked(tmp_path: Path) -> None:
    for name in ("00001D", "00002N"):
        fake_trees.noise(tmp_path / "train" / "visible" / f"{name}.png")
        fake_trees.noise(tmp_path / "train" / "infrared" / f"{name}.png", 1, np.uint16)
        fake_trees.label(tmp_path / "train" / "label" / f"{name}.png", 3)
    (tmp_path / "classes.yaml").write_text("names: [a, b, c]\n")
    fake_trees.noise(tmp_path / "val" / "visible" / "1.png")
    fake_trees.noise(tmp_path / "val" / "infrared" / "2.png", 1)
    report = check_source(f"folder:{tmp_path}")
    (error,) = told(report, "error")
    assert "val" in error
    assert [(split.name, split.pairs) for split in report.splits] == [("train", 2)]
    assert report.splits[0].formats["infrared"] == {"PNG, 16-bit, 1 channel": 2}
    assert report.splits[0].conditions == {"day": 1, "night": 1}
    assert report.to_text()


def test_scenes_are_checked() -> None:
    report = check_source("scenes,train=1,val=1,test=0,size=24x32")
    assert report.ok
    assert [split.pairs for split in report.splits] == [1, 1, 0]
    assert report.to_text()


@pytest.mark.shared_data
def test_real_pairs(shared_data: Path) -> None:
    report = check_source(f"folder:{shared_data / 'cwfid'}")
    assert report.ok
    assert not report.problems
    assert {split.name: split.pairs for split in report.splits} == {"train": 40, "test": 20}
    report = check_source(f"folder:{shared_data / 'roadscene'}")
    assert report.ok
    assert report.splits[0].pairs == 120
    assert len(report.splits[0].sizes) > 1


def test_nothing_to_check(tmp_path: Path) -> None:
    with pytest.raises(PairError, match="looked for"):
        check_source(f"msrs:{tmp_path}")
    with pytest.raises(OptionError, match="does not exist"):
        check_source(f"msrs:{tmp_path / 'nowhere'}")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("band", ["visible", "infrared"])
def test_bands_that_hold_no_numbers(tmp_path: Path, band: str, bad: float) -> None:
    for part in ("visible", "infrared"):
        (tmp_path / "train" / part).mkdir(parents=True)
        image = np.full((6, 8, 3) if part == "visible" else (6, 8), 0.5, np.float32)
        kind = "rgb" if part == "visible" else "minisblack"
        tifffile.imwrite(tmp_path / "train" / part / "a.tif", image, photometric=kind)
    assert check_source(f"folder:{tmp_path}").ok
    image[:2] = bad
    tifffile.imwrite(tmp_path / "train" / band / "a.tif", image[..., 0] if image.ndim == 3 else image)
    report = check_source(f"folder:{tmp_path}")
    assert not report.ok
    assert re.search(rf"{band}/a\.tif: 16 values are NaN or infinite", str(report.problems[0]))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("channels", [1, 3])
def test_no_numbers_among_degrees(tmp_path: Path, channels: int, bad: float) -> None:
    """Both are told, and the range is that of the numbers."""
    degrees = np.repeat(np.linspace(21, 34, 48, dtype=np.float32).reshape(6, 8, 1), channels, axis=2)
    for name in ("a", "b"):
        fake_trees.noise(tmp_path / "train" / "visible" / f"{name}.png", size=(6, 8))
        path = tmp_path / "train" / "infrared" / f"{name}.tif"
        path.parent.mkdir(exist_ok=True)
        levels = degrees.copy()
        if name == "b":
            levels[2, 3] = bad
        tifffile.imwrite(path, levels, photometric="rgb" if channels == 3 else "minisblack")
    report = check_source(f"folder:{tmp_path}")
    (error,) = told(report, "error")
    assert re.search(rf"b\.tif: {channels} values are NaN or infinite", error)
    (warning,) = told(report, "warning")
    assert "infrared floats go from 21 to 34: degrees" in warning


def test_a_damaged_header_does_not_end_the_check(tmp_path: Path) -> None:
    for part in ("visible", "infrared"):
        (tmp_path / "train" / part).mkdir(parents=True)
        for name in ("a", "b"):
            image = np.linspace(0, 255, 48).reshape(6, 8).astype(np.uint8)
            tifffile.imwrite(tmp_path / "train" / part / f"{name}.tif", image)
    path = tmp_path / "train" / "infrared" / "a.tif"
    with tifffile.TiffFile(path) as tiff:
        tag = tiff.pages.first.tags["StripOffsets"]
    data = bytearray(path.read_bytes())
    data[tag.offset] = 0
    path.write_bytes(data)
    report = check_source(f"folder:{tmp_path}")
    assert [problem.severity for problem in report.problems] == ["error"]
    assert "does not say where its pixels are" in report.problems[0].message
    assert report.splits[0].pairs == 2
