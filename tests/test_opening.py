"""The source grammar, and what comes out of it."""

import contextlib
import csv
import errno
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import fake_trees
from crossband.errors import CrossbandError, OptionError, PairError, UnwritableError
from crossband.pairs.benchmarks import BENCHMARKS, BenchmarkPairs
from crossband.pairs.benchmarks.declaration import Split
from crossband.pairs.export import export_folder
from crossband.pairs.folder import FolderPairs
from crossband.pairs.frames import Frames, open_frames
from crossband.pairs.frames import source as frames_source
from crossband.pairs.opening import (
    Source,
    for_testing,
    list_splits,
    main_splits,
    open_pairs,
    open_splits,
    parse_source,
    source_names,
)
from crossband.pairs.writing import write_image
from crossband.report import contact_sheet
from crossband.training.options import TrainOptions


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("msrs:data/MSRS", Source("msrs", Path("data/MSRS"))),
        ("fmb:FMB,ignore=none", Source("fmb", Path("FMB"), {"ignore": "none"})),
        (
            "pst900:P,ignore=0,infrared=thermal_raw",
            Source("pst900", Path("P"), {"ignore": "0", "infrared": "thermal_raw"}),
        ),
        ("folder:/a,b/c:d e", Source("folder", Path("/a,b/c:d e"))),
        ("scenes", Source("scenes")),
        ("scenes,seed=3,size=240x320", Source("scenes", None, {"seed": "3", "size": "240x320"})),
    ],
)
def test_grammar(text: str, expected: Source) -> None:
    assert parse_source(text) == expected
    assert str(parse_source(text)) == text


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("mrss:x", "did you mean msrs?"),
        ("MSRS:x", "did you mean msrs?"),
        ("nothing:x", "known: msrs, mfnet, fmb, pst900, mvseg, folder, list, frames, bag, shards, scenes"),
        ("msrs", "write msrs:PATH"),
        ("msrs:", "write msrs:PATH"),
        ("scenes:x", "take no path"),
        ("fmb:x,protocol=3", "no option 'protocol'; it has: ignore="),
        ("fmb:x,infrared=thermal_raw", "no option 'infrared'"),
        ("fmb:x,ignore=sky", "ignore=sky"),
        ("fmb:x,ignore=0,ignore=1", "twice"),
        ("folder:x,ignore=0", "classes.yaml"),
        ("", "of the form"),
        ("x" * 5000, "unknown source"),
    ],
)
def test_mistakes_are_told(text: str, told: str) -> None:
    with pytest.raises(OptionError) as error:
        parse_source(text)
    assert told in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "options",
    ["seed={}", "{}=1", "size={}", "size=24x{}", "train={}", "conditions={}", "conditions=day+{}"],
)
@pytest.mark.parametrize("value", ["x" * 5000, "9" * 5000])
def test_long_options_of_scenes_are_quoted_shortly(options: str, value: str) -> None:
    with pytest.raises(OptionError) as error:
        open_pairs(f"scenes,{options.format(value)}", "train")
    assert len(str(error.value)) < 500


def test_a_long_scaling_is_quoted_shortly() -> None:
    with pytest.raises(OptionError) as error:
        open_pairs("scenes", "train", infrared_scaling="x" * 5000)
    assert len(str(error.value)) < 500


@given(st.text(max_size=30))
def test_any_text_is_a_source_or_one_of_our_errors(text: str) -> None:
    with contextlib.suppress(CrossbandError):
        assert parse_source(text).name in source_names()


def test_a_bare_folder_proposes_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OptionError, match=f"write folder:{tmp_path}"):
        parse_source(str(tmp_path))
    (tmp_path / "pairs").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OptionError, match="write folder:pairs"):
        parse_source("pairs")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"source": Path("pairs")}, r"source must be a text, not PosixPath\('pairs'\)"),
        ({"split": None}, "split must be a text, not None"),
        ({"infrared_scaling": 3}, "infrared_scaling must be a text, not 3"),
    ],
)
def test_what_is_no_text_is_told(given: dict[str, Any], told: str) -> None:
    with pytest.raises(OptionError, match=told):
        open_pairs(**{"source": "scenes", "split": "test", **given})


def test_open_pairs_and_splits(tmp_path: Path) -> None:
    fake_trees.mfnet_original(tmp_path)
    source = f"mfnet:{tmp_path}"
    assert list_splits(source) == ["train", "val", "test", "test_day", "test_night"]
    assert main_splits(source) == ["train", "val", "test"]
    pairs = open_pairs(source, "test_night")
    assert isinstance(pairs, BenchmarkPairs)
    assert pairs.source == source
    assert len(pairs) == 2
    with pytest.raises(OptionError, match="no split 'dev'; it has: train, val, test"):
        open_pairs(source, "dev")
    with pytest.raises(OptionError, match="does not exist; correct the path"):
        open_pairs(f"{source}/nowhere", "train")
    for path in ("~nobody-has-this-name/x", "x" * 5000):
        with pytest.raises(OptionError, match="does not exist"):
            open_pairs(f"msrs:{path}", "train")
    with pytest.raises(OptionError, match=r"percentile\("):
        open_pairs(source, "train", infrared_scaling="bright")


def test_what_is_declared_to_be_of_the_test_split_is_for_testing(monkeypatch: pytest.MonkeyPatch) -> None:
    mfnet = BENCHMARKS["mfnet"]
    splits = {**mfnet.splits, "rain": Split(within="test"), "dusk": Split(within="train")}
    monkeypatch.setitem(BENCHMARKS.declared, "theirs", replace(mfnet, splits=splits))
    for split in ("test", "train+test", "test_day", "test-rain", "rain", "train+rain"):
        assert for_testing("theirs:MFNet", split)
    assert for_testing("folder:mine", "test_night")
    for source, split in (("theirs:MFNet", "train"), ("theirs:MFNet", "train+dusk"), ("folder:mine", "rain")):
        assert not for_testing(source, split)
    assert not for_testing("folder:mine", "testimony")
    with pytest.raises(OptionError, match="the test split is for testing"):
        TrainOptions(system="csknet", data="theirs:MFNet", out="run", split="train+rain")


def test_options_reach_the_pairs(tmp_path: Path) -> None:
    fake_trees.fmb_official(tmp_path / "fmb")
    pairs = open_pairs(f"fmb:{tmp_path / 'fmb'},ignore=0+13", "train")
    assert pairs.classes is not None
    assert pairs.classes.ignore == (0, 13)
    assert BENCHMARKS["fmb"].classes.ignore == (0,)
    fake_trees.pst900(tmp_path / "pst900")
    source = f"pst900:{tmp_path / 'pst900'},infrared=thermal_raw"
    stretched = open_pairs(source, "train", infrared_scaling="minmax")[0].infrared
    assert stretched is not None
    assert (stretched.min(), stretched.max()) == (0, 1)
    assert open_pairs(source, "train").source == source


def test_folders_open(tmp_path: Path) -> None:
    fake_trees.noise(tmp_path / "train" / "visible" / "a.png")
    fake_trees.noise(tmp_path / "train" / "infrared" / "a.png", 1)
    source = f"folder:{tmp_path}"
    assert list_splits(source) == main_splits(source) == ["train"]
    assert isinstance(open_pairs(source, "train"), FolderPairs)
    with pytest.raises(OptionError, match="no split 'val'; it has: train"):
        open_pairs(source, "val")


def test_scenes_open() -> None:
    source = "scenes,seed=3,train=2,val=1,test=1,size=24x32"
    assert list_splits(source) == ["train", "val", "test"]
    pairs = open_pairs(source, "train")
    assert len(pairs) == 2
    assert pairs[1].size == (24, 32)
    assert pairs.source == source
    with pytest.raises(OptionError, match="no split 'dev'"):
        open_pairs(source, "dev")
    with pytest.raises(OptionError, match="full-range"):
        open_pairs(source, "train", infrared_scaling="minmax")


@pytest.mark.parametrize(
    "bands", [("visible", "infrared", "label"), ("visible", "infrared"), ("infrared", "label"), ("visible",)]
)
def test_contact_sheet_of_any_bands(bands: tuple[str, ...], tmp_path: Path) -> None:
    for index in range(5):
        for band in bands:
            path = tmp_path / band / f"{index}.png"
            fake_trees.label(path, 3) if band == "label" else fake_trees.noise(
                path, 3 if band == "visible" else 1
            )
    pairs = open_pairs(f"folder:{tmp_path}", "all")
    sheet = contact_sheet(pairs, 3, seed=1)
    columns = len(bands) + ("label" in bands)
    assert sheet.mode == "RGB"
    assert sheet.width == 8 + columns * 328
    assert sheet.height > 3 * 240
    assert sheet.tobytes() == contact_sheet(pairs, 3, seed=1).tobytes()
    assert contact_sheet(pairs, 99).height > sheet.height
    with pytest.raises(OptionError, match="at least one"):
        contact_sheet(pairs, 0)
    with pytest.raises(OptionError, match="the seed must be 0 or more, not -1"):
        contact_sheet(pairs, 3, seed=-1)


def test_contact_sheet_shows_the_pairs_themselves(tmp_path: Path) -> None:
    """A flat visible image, a flat infrared one and one class: every picture has the colour it should."""
    height, width = 240, 320
    fake_trees.save(tmp_path / "visible" / "a.png", np.full((height, width, 3), (200, 0, 100), np.uint8))
    fake_trees.save(tmp_path / "infrared" / "a.png", np.full((height, width), 60, np.uint8))
    label = np.full((height, width), 1, np.uint8)
    label[:, :20] = 255
    fake_trees.save(tmp_path / "label" / "a.png", label)
    (tmp_path / "classes.yaml").write_text("names: [ground, crop]\npalette: [[0, 0, 0], [0, 240, 0]]\n")
    sheet = np.asarray(contact_sheet(open_pairs(f"folder:{tmp_path}", "all"), 1))
    row = sheet[150]
    middles = [8 + column * 328 + 160 for column in range(4)]
    assert [tuple(map(int, row[x])) for x in middles] == [
        (200, 0, 100),
        (60, 60, 60),
        (0, 240, 0),
        (100, 120, 50),
    ]
    assert tuple(map(int, row[middles[3] - 150])) == (200, 0, 100), "what is ignored lies bare in the overlay"


@pytest.mark.parametrize("tree", ["msrs", "mfnet", "mfnet-sigma", "mvseg", "pst900"])
def test_an_exported_benchmark_opens_as_the_same_pairs(tree: str, tmp_path: Path) -> None:
    key, _, build, _ = fake_trees.TREES[tree]
    build(tmp_path / "tree")
    source = f"{key}:{tmp_path / 'tree'}"
    seen: list[tuple[int, int]] = []
    export_folder(source, tmp_path / "out", progress=lambda done, total: seen.append((done, total)))
    total = sum(len(open_pairs(source, split)) for split in main_splits(source))
    assert seen == [(done, total) for done in range(1, total + 1)]
    exported = f"folder:{tmp_path / 'out'}"
    assert set(list_splits(exported)) == set(main_splits(source))
    for split in main_splits(source):
        before = {pair.name: pair for pair in open_pairs(source, split)}
        after = {pair.name: pair for pair in open_pairs(exported, split)}
        assert before.keys() == after.keys()
        for name, pair in before.items():
            assert after[name].condition == pair.condition
            np.testing.assert_array_equal(after[name].visible, pair.visible)
            np.testing.assert_array_equal(after[name].infrared, pair.infrared)
            np.testing.assert_array_equal(after[name].label, pair.label)
    classes = open_pairs(exported, main_splits(source)[0]).classes
    assert classes is not None
    assert classes.names == BENCHMARKS[key].classes.names
    assert classes.palette == BENCHMARKS[key].classes.palette


def test_deep_infrared_is_exported_in_full_depth(tmp_path: Path) -> None:
    fake_trees.pst900(tmp_path / "tree")
    export_folder(f"pst900:{tmp_path / 'tree'},infrared=thermal_raw", tmp_path / "out")
    for path in (tmp_path / "tree" / "train" / "thermal_raw").iterdir():
        exported = Image.open(tmp_path / "out" / "train" / "infrared" / path.name)
        np.testing.assert_array_equal(np.asarray(exported), np.asarray(Image.open(path)))


def test_an_automatic_scaling_is_one_for_all_splits_of_an_export(tmp_path: Path) -> None:
    values = {"train": np.linspace(7000, 8000, 108), "val": np.linspace(7600, 9000, 108)}
    for split, infrared in values.items():
        levels = infrared.reshape(9, 12).astype(np.uint16)
        write_image(tmp_path / "pairs" / split / "infrared" / "a.png", levels)
    export_folder(f"folder:{tmp_path / 'pairs'}", tmp_path / "out", infrared_scaling="auto")
    of_800_counts = []
    for split, infrared in values.items():
        exported = np.asarray(Image.open(tmp_path / "out" / split / "infrared" / "a.png"))
        within = (exported > 0) & (exported < 65535)
        slope, begin = np.polyfit(infrared.reshape(9, 12)[within], exported[within], 1)
        of_800_counts.append((800 * slope, begin + 7800 * slope))
    np.testing.assert_allclose(of_800_counts[0], of_800_counts[1], atol=100)


def test_an_automatic_scaling_opens_frames_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening a bag or a video goes through all of it."""
    levels = np.linspace(7000, 9000, 5 * 9 * 12).reshape(5, 9, 12).astype(np.uint16)
    tifffile.imwrite(tmp_path / "frames.tif", levels, photometric="minisblack")
    opened = []

    def counting(*given: Any) -> Frames:
        opened.append(given)
        return open_frames(*given)

    monkeypatch.setattr(frames_source, "open_frames", counting)
    for labels in (True, False):
        (pairs,) = open_splits(
            f"frames:{tmp_path / 'frames.tif'}", ["all"], infrared_scaling="auto", labels=labels
        )
        assert str(pairs.scaling).startswith("fixed(70")
        np.testing.assert_allclose(pairs[2].infrared, pairs.scaling(levels[2]))
    assert len(opened) == 2


def test_exported_conditions(tmp_path: Path) -> None:
    fake_trees.mfnet_original(tmp_path / "tree")
    export_folder(f"mfnet:{tmp_path / 'tree'}", tmp_path / "out")
    with (tmp_path / "out" / "val" / "conditions.csv").open() as file:
        assert list(csv.reader(file)) == [["name", "condition"], ["00004D", "day"], ["00005N", "night"]]


def test_scenes_export_without_loss(tmp_path: Path) -> None:
    source = "scenes,train=1,val=1,test=1,size=24x32"
    export_folder(source, tmp_path / "out")
    pair, copy = open_pairs(source, "val")[0], open_pairs(f"folder:{tmp_path / 'out'}", "val")[0]
    np.testing.assert_array_equal(copy.visible, pair.visible)
    np.testing.assert_array_equal(copy.infrared, pair.infrared)
    np.testing.assert_array_equal(copy.label, pair.label)


def test_export_leaves_nothing_half_written(tmp_path: Path) -> None:
    fake_trees.msrs(tmp_path / "tree")
    broken = tmp_path / "tree" / "test" / "vi" / "00005D.png"
    broken.write_bytes(broken.read_bytes()[:60])
    source = f"msrs:{tmp_path / 'tree'}"
    with pytest.raises(PairError, match="00005D"):
        export_folder(source, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["tree"]
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(OptionError, match="not an empty folder"):
        export_folder(source, tmp_path / "out")
    assert (tmp_path / "out" / "mine.txt").read_text() == "mine"


def test_an_export_to_a_full_disk_names_the_folder_that_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Image.Image, "save", full)
    out = tmp_path / "out"
    with pytest.raises(
        UnwritableError, match=f"^cannot write {out}: No space left on device; choose another"
    ):
        export_folder("scenes,train=1,val=0,test=0,size=32x48", out)
    assert list(tmp_path.iterdir()) == []
