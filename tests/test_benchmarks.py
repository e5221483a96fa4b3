"""Every declared layout opens: the right pairs, in the right order, with the right pixels and conditions."""

import pickle
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fake_trees
from crossband.errors import OptionError, PairError
from crossband.pairs.benchmarks import BENCHMARKS, BenchmarkPairs
from crossband.pairs.benchmarks.tree import open_tree
from crossband.words import IGNORE_INDEX
from fake_trees import MFNET_NAMES, TREES


@pytest.mark.parametrize("tree", TREES)
def test_layout_is_found_and_every_pair_opens(tree: str, tmp_path: Path) -> None:
    key, layout, build, counts = TREES[tree]
    build(tmp_path)
    opened = open_tree(BENCHMARKS[key], tmp_path)
    assert opened.layout.name == layout
    assert set(opened.splits()) == set(counts)
    for split, count in counts.items():
        pairs = BenchmarkPairs(BENCHMARKS[key], tmp_path, split)
        assert len(pairs) == count
        assert len({pairs.name(index) for index in range(count)}) == count
        for index, pair in enumerate(pairs):
            assert pair.name == pairs.name(index)
            assert pair.condition == pairs.condition(index)
            assert pair.visible is not None
            assert pair.visible.shape == (*fake_trees.SIZE, 3)
            assert pair.infrared is not None
            assert pair.infrared.shape == fake_trees.SIZE
            assert pair.label is not None
            assert pair.label.shape == fake_trees.SIZE


@pytest.mark.parametrize("tree", ["mfnet", "mfnet-cmx", "mfnet-amdanet", "mfnet-mrfs"])
def test_lists_keep_their_order_and_skip_flipped_copies(tree: str, tmp_path: Path) -> None:
    TREES[tree][2](tmp_path)
    fake_trees.write_list(tmp_path / "train.txt", ["00003N", "00001D", "00001D_flip", "00003N"])
    pairs = BenchmarkPairs(BENCHMARKS["mfnet"], tmp_path, "train")
    assert [pairs.name(index) for index in range(len(pairs))] == ["00003N", "00001D"]


def test_mfnet_infrared_is_the_fourth_channel(tmp_path: Path) -> None:
    fake_trees.mfnet_original(tmp_path)
    pair = BenchmarkPairs(BENCHMARKS["mfnet"], tmp_path, "train")[0]
    stored = np.asarray(Image.open(tmp_path / "images" / "00001D.png"), np.float32) / 255
    np.testing.assert_allclose(pair.visible, stored[..., :3], atol=1e-6)
    np.testing.assert_allclose(pair.infrared, stored[..., 3], atol=1e-6)


@pytest.mark.shared_data
def test_real_mfnet_files(shared_data: Path, tmp_path: Path) -> None:
    for name in ("01234N", "01477D"):
        (tmp_path / "images").mkdir(exist_ok=True)
        (tmp_path / "images" / f"{name}.png").symlink_to(shared_data / "mfnet_samples" / f"{name}.png")
        fake_trees.label(tmp_path / "labels" / f"{name}.png", 9, size=(480, 640))
    fake_trees.write_list(tmp_path / "test.txt", ["01234N", "01477D"])
    pairs = BenchmarkPairs(BENCHMARKS["mfnet"], tmp_path, "test")
    assert [pair.condition for pair in pairs] == ["night", "day"]
    night = pairs[0]
    assert night.size == BENCHMARKS["mfnet"].resolution
    stored = np.asarray(Image.open(shared_data / "mfnet_samples" / "01234N.png"))
    np.testing.assert_array_equal(np.rint(night.infrared * 255).astype(np.uint8), stored[..., 3])


def test_conditions_come_from_names_and_lists(tmp_path: Path) -> None:
    fake_trees.mfnet_cmx(tmp_path / "mfnet")
    pairs = BenchmarkPairs(BENCHMARKS["mfnet"], tmp_path / "mfnet", "train")
    assert [pairs.condition(index) for index in range(3)] == ["day", "day", "night"]
    fake_trees.mvseg(tmp_path / "mvseg")
    pairs = BenchmarkPairs(BENCHMARKS["mvseg"], tmp_path / "mvseg", "test")
    told = {pairs.name(index): pairs.condition(index) for index in range(len(pairs))}
    assert told == {
        "Night_2/00002": "night",
        "Night_2/00005": "night",
        "Day_9/00002": None,
        "Day_9/00005": None,
    }
    fake_trees.fmb_official(tmp_path / "fmb")
    assert BenchmarkPairs(BENCHMARKS["fmb"], tmp_path / "fmb", "train").condition(0) is None


def test_splits_can_be_joined_with_plus(tmp_path: Path) -> None:
    fake_trees.mfnet_original(tmp_path)
    pairs = BenchmarkPairs(BENCHMARKS["mfnet"], tmp_path, "train+val")
    expected = [*MFNET_NAMES["train"], *MFNET_NAMES["val"]]
    assert [pairs.name(index) for index in range(len(pairs))] == expected
    with pytest.raises(OptionError, match=r"no split 'train\+dev'; it has: train, val, test, test_day"):
        BenchmarkPairs(BENCHMARKS["mfnet"], tmp_path, "train+dev")


@pytest.mark.parametrize(
    ("joined", "told"),
    [
        ("test+test_day", r"splits test and test_day have 2 names in common, such as '00006D'"),
        ("train+val+train", r"splits train and train have 3 names in common, such as '00001D'"),
    ],
)
def test_splits_that_share_pairs_cannot_be_joined(joined: str, told: str, tmp_path: Path) -> None:
    """Their pairs would be counted twice, under a name that two of them have."""
    fake_trees.mfnet_original(tmp_path)
    with pytest.raises(OptionError, match=told):
        BenchmarkPairs(BENCHMARKS["mfnet"], tmp_path, joined)


def test_splits_that_share_a_video_cannot_be_joined(tmp_path: Path) -> None:
    fake_trees.mvseg(tmp_path)
    with pytest.raises(
        OptionError, match=r"splits test and test_night have 1 name in common, such as 'Night_2'"
    ):
        BenchmarkPairs(BENCHMARKS["mvseg"], tmp_path, "test+test_night")


def test_main_splits_hold_every_pair_once(tmp_path: Path) -> None:
    fake_trees.mfnet_original(tmp_path / "original")
    assert open_tree(BENCHMARKS["mfnet"], tmp_path / "original").main_splits() == ["train", "val", "test"]
    fake_trees.mfnet_sigma(tmp_path / "sigma")
    assert set(open_tree(BENCHMARKS["mfnet"], tmp_path / "sigma").main_splits()) == {"train+val", "test"}


def test_fmb_ignores_unlabelled_unless_told_otherwise(tmp_path: Path) -> None:
    fake_trees.fmb_official(tmp_path)
    stored = np.asarray(Image.open(tmp_path / "test" / "Label" / "00004.png"))
    label = BenchmarkPairs(BENCHMARKS["fmb"], tmp_path, "test")[0].label
    np.testing.assert_array_equal(label, np.where(stored == 0, IGNORE_INDEX, stored))
    counted = BenchmarkPairs(BENCHMARKS["fmb"], tmp_path, "test", ignore=())[0].label
    np.testing.assert_array_equal(counted, stored)


def test_pst900_offers_the_raw_measurements(tmp_path: Path) -> None:
    fake_trees.pst900(tmp_path)
    pairs = BenchmarkPairs(BENCHMARKS["pst900"], tmp_path, "train", infrared="thermal_raw")
    raw = np.asarray(Image.open(tmp_path / "train" / "thermal_raw" / f"{pairs.name(1)}.png"))
    np.testing.assert_allclose(pairs[1].infrared, raw / 65535, atol=1e-6)
    with pytest.raises(OptionError, match="infrared= can be: thermal_raw"):
        BenchmarkPairs(BENCHMARKS["pst900"], tmp_path, "train", infrared="raw")


def test_mvseg_reads_labelled_frames_only_whatever_their_file_type(tmp_path: Path) -> None:
    fake_trees.mvseg(tmp_path)
    pairs = BenchmarkPairs(BENCHMARKS["mvseg"], tmp_path, "val")
    assert [pairs.name(index) for index in range(len(pairs))] == ["Night_1/00002", "Night_1/00005"]
    assert pairs.files[0].visible == tmp_path / "data/Night_1/visible/00002v.jpg"
    assert pairs.files[0].infrared == tmp_path / "data/Night_1/infrared/00002i.jpg"
    assert pairs.files[0].label == tmp_path / "data/Night_1/label/00002l.png"


def test_a_missing_partner_is_named(tmp_path: Path) -> None:
    fake_trees.msrs(tmp_path)
    gone = tmp_path / "train" / "ir" / "00002N.png"
    gone.unlink()
    with pytest.raises(PairError, match=re.escape(str(gone.with_suffix(""))) + r".*data check msrs:"):
        BenchmarkPairs(BENCHMARKS["msrs"], tmp_path, "train")


def test_two_files_of_one_name_are_an_error(tmp_path: Path) -> None:
    fake_trees.msrs(tmp_path)
    fake_trees.noise(tmp_path / "train" / "vi" / "00001D.jpg")
    with pytest.raises(PairError, match=r"00001D\.jpg and .*00001D\.png have the same name"):
        BenchmarkPairs(BENCHMARKS["msrs"], tmp_path, "train")


def test_an_unknown_tree_tells_what_was_looked_for_and_found(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    with pytest.raises(PairError) as error:
        open_tree(BENCHMARKS["msrs"], tmp_path)
    told = str(error.value)
    assert "train/vi, train/ir, train/Segmentation_labels" in told
    assert "found pictures" in told
    assert "msrs:PATH" in told
    assert "\n" not in told


def test_the_folder_above_a_tree_points_to_it(tmp_path: Path) -> None:
    fake_trees.msrs(tmp_path / "MSRS-main")
    with pytest.raises(PairError, match=re.escape(f"give msrs:{tmp_path / 'MSRS-main'}")):
        open_tree(BENCHMARKS["msrs"], tmp_path)


def test_pairs_survive_pickling(tmp_path: Path) -> None:
    """Loader workers get them that way."""
    fake_trees.msrs(tmp_path)
    pairs = BenchmarkPairs(BENCHMARKS["msrs"], tmp_path, "train")
    copy = pickle.loads(pickle.dumps(pairs))
    np.testing.assert_array_equal(copy[2].visible, pairs[2].visible)


@pytest.mark.parametrize("key", BENCHMARKS)
def test_declarations_are_complete(key: str) -> None:
    benchmark = BENCHMARKS[key]
    assert benchmark.key == key
    assert len(set(benchmark.classes.palette)) == len(set(benchmark.classes.names)) == len(benchmark.classes)
    for text in (benchmark.citation, benchmark.terms, benchmark.infrared, benchmark.url, *benchmark.quirks):
        assert text.strip() == text
        assert text
    for other in benchmark.shares_images_with:
        assert key in BENCHMARKS[other].shares_images_with
    assert len({layout.name for layout in benchmark.layouts}) == len(benchmark.layouts)


def test_declared_numbers_add_up() -> None:
    """Against the papers: MFNet has 1569 pairs, MSRS 1444, FMB 1500, MVSeg 3545 labelled frames."""
    totals = {"mfnet": 1569, "msrs": 1444, "fmb": 1500, "mvseg": 3545}
    for key, total in totals.items():
        splits = BENCHMARKS[key].splits.values()
        assert sum(split.counts[0] for split in splits if split.within is None) == total
    assert [len(BENCHMARKS[key].classes) for key in ("msrs", "mfnet", "fmb", "pst900", "mvseg")] == [
        9,
        9,
        15,
        5,
        26,
    ]
