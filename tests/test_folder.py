"""A folder of one's own as a source of pairs: layout, classes, conditions, and every mistake in them."""

import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from crossband.errors import CrossbandWarning, OptionError, PairError
from crossband.pairs.base import IGNORE_COLOUR, Classes, PairFiles
from crossband.pairs.check import check_source
from crossband.pairs.folder import FolderPairs, default_palette, folder_splits, read_classes
from crossband.pairs.matching import match_images
from crossband.pairs.opening import open_pairs
from crossband.words import IGNORE_INDEX


def put(root: Path, split: str, parts: dict[str, list[str]], ids: int = 3) -> Path:
    """Write 4 x 6 images: ``parts`` gives the file names of each band or label. Labels hold 0..ids-1."""
    for part, names in parts.items():
        for number, name in enumerate(names):
            path = root / split / part / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if part == "label":
                image = (np.arange(24) % ids).reshape(4, 6).astype(np.uint8)
            else:
                image = np.full((4, 6, 3) if part == "visible" else (4, 6), 10 * number, np.uint8)
            Image.fromarray(image).save(path)
    return root


def put_simple(root: Path, split: str, *names: str, ids: int = 3) -> Path:
    files = [f"{name}.png" for name in names]
    return put(root, split, dict.fromkeys(("visible", "infrared", "label"), files), ids)


class TestLayout:
    def test_pairs_in_order_of_their_names(self, tmp_path: Path) -> None:
        parts = {
            "visible": ["b.JPG", "a.png", "run 2/c.d.png"],
            "infrared": ["a.TIF", "b.png", "run 2/c.d.png"],
            "label": ["a.png", "b.png", "run 2/c.d.tiff"],
        }
        put(tmp_path, "train", parts)
        pairs = FolderPairs(tmp_path, "train")
        assert [pairs.name(index) for index in range(len(pairs))] == ["a", "b", "run 2/c.d"]
        assert pairs.bands == ("visible", "infrared")
        assert pairs.source == f"folder:{tmp_path}"
        first = pairs[0]
        assert first.visible.shape == (4, 6, 3)
        np.testing.assert_allclose(first.visible, 10 / 255, atol=1e-6)  # written second
        assert not first.infrared.any()  # written first
        np.testing.assert_array_equal(first.label.ravel(), np.arange(24) % 3)
        assert [pair.name for pair in pairs] == ["a", "b", "run 2/c.d"]

    def test_a_folder_that_looks_like_what_is_not_there_is_told(self, tmp_path: Path) -> None:
        """A folder that is called almost as a band is passed over, and the band taken for absent."""
        put(tmp_path, "train", {"visible": ["a.png"], "Infrared": ["a.png"], "labels": ["a.png"]})
        told = "train has no folder infrared and label, and Infrared and labels beside is not read; .* "
        with pytest.warns(CrossbandWarning, match=f"{told}the option infrared=Infrared,label=labels$"):
            assert FolderPairs(tmp_path, "train").bands == ("visible",)
        source = f"folder:{tmp_path},infrared=Infrared"
        (problem,) = (found for found in check_source(source).problems if "beside" in found.message)
        assert problem.severity == "warning"
        assert "train has no folder label, and labels beside is not read" in problem.message
        assert problem.mend.endswith("give the source the option label=labels")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            told = [found.message for found in check_source(f"{source},label=labels").problems]
            assert not [message for message in told if "beside" in message]
            assert open_pairs(source, "train", labels=False).bands == ("visible", "infrared")

    def test_classes_that_are_declared_above_are_told(self, tmp_path: Path) -> None:
        """As where one split is given as a folder of its own: its ids mean less than those of the whole."""
        put_simple(tmp_path, "val", "a")
        (tmp_path / "classes.yaml").write_text("names: [a, b, c, d]\nignore: [2]\n")
        told = r"val has no classes\.yaml, and its classes are counted in its labels; .*\.yaml is not read"
        with pytest.warns(CrossbandWarning, match=f"{told}; give folder:{tmp_path} with the split val, or"):
            pairs = FolderPairs(tmp_path / "val", "all")
        assert pairs.classes is not None
        assert len(pairs.classes) == 3
        messages = [problem.message for problem in check_source(f"folder:{tmp_path / 'val'}").problems]
        assert any("its classes are counted in its labels" in message for message in messages)
        assert not FolderPairs(tmp_path, "val").overlooked
        assert not FolderPairs(tmp_path / "val", "all", labels=False).overlooked

    def test_classes_and_conditions_that_are_not_where_they_are_read_are_told(self, tmp_path: Path) -> None:
        put_simple(tmp_path, "val", "a")
        (tmp_path / "classes.yml").write_text("names: [a, b, c, d]\nignore: [2]\n")
        (tmp_path / "conditions.csv").write_text("name,condition\na,night\n")
        with pytest.warns(CrossbandWarning) as caught:
            FolderPairs(tmp_path, "val")
        told = sorted(str(one.message) for one in caught)
        assert told[0].startswith(f"{tmp_path}/classes.yml is not read, and the classes of {tmp_path} are")
        assert told[1].endswith(f"put the rows of its pairs into {tmp_path}/val/conditions.csv")
        (tmp_path / "classes.yml").rename(tmp_path / "classes.yaml")
        (tmp_path / "conditions.csv").rename(tmp_path / "val" / "conditions.csv")
        pairs = FolderPairs(tmp_path, "val")
        assert not pairs.overlooked
        assert (pairs.condition(0), pairs.classes and len(pairs.classes)) == ("night", 4)

    def test_what_is_no_image_is_ignored(self, tmp_path: Path) -> None:
        put_simple(tmp_path, "train", "a")
        for name in ("Thumbs.db", ".DS_Store", "notes.txt", "._a.png"):
            (tmp_path / "train" / "visible" / name).write_text("x")
        assert len(FolderPairs(tmp_path, "train")) == 1

    @pytest.mark.parametrize("band", ["visible", "infrared"])
    def test_one_band_and_no_labels(self, tmp_path: Path, band: str) -> None:
        put(tmp_path, "test", {band: ["a.png"]})
        pairs = FolderPairs(tmp_path, "test")
        assert pairs.bands == (band,)
        assert pairs.classes is None
        pair = pairs[0]
        assert (pair.visible is None) == (band == "infrared")
        assert (pair.infrared is None) == (band == "visible")
        assert pair.label is None

    def test_splits(self, tmp_path: Path) -> None:
        put_simple(tmp_path, "val", "a")
        put_simple(tmp_path, "train", "a")
        (tmp_path / "docs").mkdir()
        assert folder_splits(tmp_path) == ["train", "val"]
        with pytest.raises(OptionError, match="no split 'test'; it has: train, val"):
            FolderPairs(tmp_path, "test")

    @pytest.mark.parametrize("split", ["all", ""])
    def test_bands_directly_in_the_folder(self, tmp_path: Path, split: str) -> None:
        put_simple(tmp_path, "", "a", "b")
        assert folder_splits(tmp_path) == ["all"]
        pairs = FolderPairs(tmp_path, split)
        assert len(pairs) == 2
        assert pairs.split == "all"
        assert len(pairs.classes) == 3

    def test_no_folder_no_bands_no_images(self, tmp_path: Path) -> None:
        with pytest.raises(PairError, match="there is no such folder"):
            folder_splits(tmp_path / "missing")
        with pytest.raises(PairError, match=r"<split>/\{visible,infrared,label\}"):
            folder_splits(tmp_path)
        put_simple(tmp_path, "train", "a")
        (tmp_path / "train" / "label" / "a.png").unlink()
        with pytest.raises(PairError, match="label: no image"):
            FolderPairs(tmp_path, "train")

    def test_missing_partners_are_counted_and_named(self, tmp_path: Path) -> None:
        names = [f"{number}.png" for number in range(9)]
        put(tmp_path, "train", {"visible": names, "infrared": names[:4], "label": [*names[:8], "z.png"]})
        expected = (
            r"of 10 names visible lacks 1 \(z\) and infrared lacks 6 \(4, 5, 6, \.\.\.\) and label lacks 1"
        )
        with pytest.raises(PairError, match=expected):
            FolderPairs(tmp_path, "train")

    def test_two_files_of_one_name(self, tmp_path: Path) -> None:
        put(tmp_path, "train", {"visible": ["a.png", "a.jpg"]})
        with pytest.raises(PairError, match="same name"):
            FolderPairs(tmp_path, "train")

    def test_a_link_makes_4_channel_images_pairs(self, tmp_path: Path) -> None:
        image = np.random.default_rng(0).integers(0, 256, (4, 6, 4)).astype(np.uint8)
        (tmp_path / "visible").mkdir()
        Image.fromarray(image).save(tmp_path / "visible" / "a.png")
        (tmp_path / "infrared").symlink_to("visible", target_is_directory=True)
        pair = FolderPairs(tmp_path, "all")[0]
        np.testing.assert_array_equal(np.rint(pair.visible * 255), image[..., :3])
        np.testing.assert_array_equal(np.rint(pair.infrared * 255), image[..., 3])

    def test_folders_that_are_links_are_followed_and_end(self, tmp_path: Path) -> None:
        put_simple(tmp_path / "disk", "drive", "a", "b")
        put_simple(tmp_path / "pairs", "train", "c")
        for band in ("visible", "infrared"):
            inside, elsewhere = tmp_path / "pairs" / "train" / band, tmp_path / "disk" / "drive" / band
            (inside / "drive").symlink_to(elsewhere)
            # From there back, and to where it lies.
            (elsewhere / "back").symlink_to(inside)
            (inside / "up").symlink_to("..")
        pairs = FolderPairs(tmp_path / "pairs", "train", labels=False)
        assert [pairs.name(index) for index in range(len(pairs))] == ["c", "drive/a", "drive/b"]
        names = [files.name for files in match_images(tmp_path / "pairs/train/visible/{id}/a.png", None)]
        assert names == ["drive"]

    def test_a_folder_that_cannot_be_listed_is_not_left_out(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        put_simple(tmp_path, "train", "a", "locked/b")
        locked, scandir = tmp_path / "train" / "visible" / "locked", os.scandir

        def refusing(path: str | Path = ".") -> Any:
            if Path(path) == locked:
                raise PermissionError(13, "Permission denied", str(path))
            return scandir(path)

        monkeypatch.setattr(os, "scandir", refusing)
        with pytest.raises(PairError, match="locked: cannot be listed"):
            FolderPairs(tmp_path, "train", labels=False)

    def test_scaling_is_used_and_checked(self, tmp_path: Path) -> None:
        put_simple(tmp_path, "train", "a", "b")
        pairs = FolderPairs(tmp_path, "train", infrared_scaling="fixed(0, 20)")
        np.testing.assert_allclose(pairs[1].infrared, 0.5)
        with pytest.raises(OptionError, match="log"):
            FolderPairs(tmp_path, "train", infrared_scaling="log")


class TestMatchImages:
    def test_two_files_are_a_pair_whatever_their_names(self, tmp_path: Path) -> None:
        put(tmp_path, "", {"visible": ["a.png"], "infrared": ["b.png"]})
        a, b = tmp_path / "visible" / "a.png", tmp_path / "infrared" / "b.png"
        assert match_images(a, b) == [PairFiles("a", a, b)]
        assert match_images(None, b) == [PairFiles("b", None, b)]

    def test_two_folders_are_matched_by_name(self, tmp_path: Path) -> None:
        put(tmp_path, "", {"visible": ["b.png", "a.png"], "infrared": ["a.jpg", "b.png"]})
        visible, infrared = tmp_path / "visible", tmp_path / "infrared"
        first, second = match_images(visible, infrared)
        assert first == PairFiles("a", visible / "a.png", infrared / "a.jpg")
        assert second.name == "b"
        assert match_images(None, infrared)[0] == PairFiles("a", None, infrared / "a.jpg")
        assert match_images(visible, visible)[0] == PairFiles("a", visible / "a.png", visible / "a.png")
        (infrared / "a.jpg").unlink()
        with pytest.raises(PairError, match=r"infrared lacks 1 \(a\)"):
            match_images(visible, infrared)

    def test_mistakes(self, tmp_path: Path) -> None:
        put(tmp_path, "", {"visible": ["a.png"]})
        with pytest.raises(OptionError, match="one is a file, one a folder"):
            match_images(tmp_path / "visible" / "a.png", tmp_path / "visible")
        with pytest.raises(OptionError, match="neither"):
            match_images(None, None)
        with pytest.raises(PairError, match=r"missing: there is no such file or folder"):
            match_images(tmp_path / "visible", tmp_path / "missing")


class TestClasses:
    def test_found_in_the_labels_of_all_splits(self, tmp_path: Path) -> None:
        put_simple(tmp_path, "train", "a", "b", ids=2)
        put_simple(tmp_path, "val", "c", ids=5)
        label = np.full((4, 6), IGNORE_INDEX, np.uint8)
        Image.fromarray(label).save(tmp_path / "train" / "label" / "b.png")
        for split in ("train", "val"):
            classes = FolderPairs(tmp_path, split).classes
            assert classes.names == ("class 0", "class 1", "class 2", "class 3", "class 4")
            assert classes.palette == default_palette(5)

    def test_a_mask_of_0_and_255_is_caught(self, tmp_path: Path) -> None:
        put_simple(tmp_path, "train", "a", ids=1)
        mask = np.zeros((4, 6), np.uint8)
        mask[1:3] = 255
        Image.fromarray(mask).save(tmp_path / "train" / "label" / "a.png")
        with pytest.raises(PairError, match="save masks with 0 and 1"):
            FolderPairs(tmp_path, "train")

    def test_an_id_above_254_names_its_file(self, tmp_path: Path) -> None:
        put_simple(tmp_path, "train", "a")
        Image.fromarray(np.full((4, 6), 300, np.uint16)).save(tmp_path / "train" / "label" / "a.png")
        with pytest.raises(PairError, match=r"label/a\.png: label ids 300 \(24 px\)"):
            FolderPairs(tmp_path, "train")

    def test_given_classes_win_and_are_checked_on_access(self, tmp_path: Path) -> None:
        put_simple(tmp_path, "train", "a")
        (tmp_path / "classes.yaml").write_text("names: [x, y, z]")
        two = Classes(("soil", "plant"), ((0, 0, 0), (0, 255, 0)))
        pairs = FolderPairs(tmp_path, "train", classes=two)
        assert pairs.classes is two
        with pytest.raises(PairError, match=r"a\.png: label ids 2 \(8 px\)"):
            pairs[0]

    def test_yaml(self, tmp_path: Path) -> None:
        put_simple(tmp_path, "train", "a")
        text = "names: [void, road, sky]\npalette: [[0, 0, 0], [9, 8, 7], [1, 2, 255]]\nignore: [0]\n"
        (tmp_path / "classes.yaml").write_text(text)
        pairs = FolderPairs(tmp_path, "train")
        assert pairs.classes == Classes(("void", "road", "sky"), ((0, 0, 0), (9, 8, 7), (1, 2, 255)), (0,))
        np.testing.assert_array_equal(pairs[0].label.ravel()[:3], [IGNORE_INDEX, 1, 2])

    def test_yaml_with_names_alone(self, tmp_path: Path) -> None:
        (tmp_path / "classes.yaml").write_text("names: [road, sky]\n")
        assert read_classes(tmp_path / "classes.yaml") == Classes(("road", "sky"), default_palette(2))

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("names: [a, b", "YAML"),
            ("[a, b]", "mapping"),
            ("", "mapping"),
            ("{names: [a], colours: []}", "mapping"),
            ("palette: [[0, 0, 0]]", "names must"),
            ("names: [a, 7]", "names must"),
            ("names: [yes, maybe]", "names must"),
            ("names: []", "0 names"),
            ("names: [a, a]", "all different"),
            ("{names: [a, b], palette: [[0, 0, 0]]}", "1 palette colours for 2 names"),
            ("{names: [a], palette: [[0, 0, 256]]}", "palette must"),
            ("{names: [a], palette: [red]}", "palette must"),
            ("{names: [a], ignore: 255}", "ignore must"),
        ],
    )
    def test_wrong_yaml(self, tmp_path: Path, text: str, said: str) -> None:
        path = tmp_path / "classes.yaml"
        path.write_text(text)
        with pytest.raises(PairError, match=said) as caught:
            read_classes(path)
        assert str(caught.value).startswith(f"{path}: ")
        assert "\n" not in str(caught.value)

    def test_the_default_palette_has_as_many_colours_as_asked_for_black_first(self) -> None:
        palette = default_palette(256)
        assert palette[0] == (0, 0, 0)
        assert IGNORE_COLOUR not in palette
        assert len(set(palette)) == 256
        assert default_palette(21) == palette[:21]
        assert default_palette(1) == palette[:1]
        assert default_palette(0) == ()


class TestConditions:
    def conditions(self, root: Path) -> list[str | None]:
        pairs = FolderPairs(root, "train")
        return [pairs.condition(index) for index in range(len(pairs))]

    def test_from_names_if_all_tell(self, tmp_path: Path) -> None:
        put_simple(tmp_path, "train", "00001D", "00002N")
        assert self.conditions(tmp_path) == ["day", "night"]
        assert FolderPairs(tmp_path, "train")[1].condition == "night"
        put_simple(tmp_path, "train", "00003")
        assert self.conditions(tmp_path) == [None] * 3

    def test_a_word_that_ends_in_n_tells_nothing(self, tmp_path: Path) -> None:
        put_simple(tmp_path, "train", "TOWN", "ROAD")
        assert self.conditions(tmp_path) == [None, None]

    def test_from_a_list(self, tmp_path: Path) -> None:
        put_simple(tmp_path, "train", "1D", "2N", "3D")
        path = tmp_path / "train" / "conditions.csv"
        path.write_text("name,condition\n1D,fog\n3D, dusk\n")
        assert self.conditions(tmp_path) == ["fog", None, "dusk"]
        path.write_text("name,condition\n4D,fog\n")
        with pytest.raises(PairError, match=r"conditions\.csv: 1 names are no pair's \('4D'\)"):
            self.conditions(tmp_path)
        path.write_text("1D,fog\n2N,fog\n")
        with pytest.raises(PairError, match=r"header name,condition$"):
            self.conditions(tmp_path)
        path.write_text("name,condition\n1D,fog\n2N,dusk\n1D,fog\n")
        assert self.conditions(tmp_path) == ["fog", "dusk", None]
        path.write_text("name,condition\n1D,fog\n1D,dusk\n")
        with pytest.raises(PairError, match="'1D' is 'fog' in one row and 'dusk' in another"):
            self.conditions(tmp_path)
        path.write_text("name;condition\n1D;fog\n")
        with pytest.raises(PairError, match="header name,condition; its cells are parted by semicolons"):
            self.conditions(tmp_path)

    def test_images_that_are_left_out_may_have_conditions(self, tmp_path: Path) -> None:
        """As a list of all visible images has them, of which a slower camera leaves some single."""
        names = {"visible": (100, 200, 300, 400), "infrared": (105, 305)}
        parts = {band: [f"1700000000.{time}.png" for time in times] for band, times in names.items()}
        put(tmp_path, "", parts)
        path = tmp_path / "conditions.csv"
        path.write_text("name,condition\n1700000000.100,day\n1700000000.200,day\n1700000000.300,dusk\n")
        pairs = open_pairs(f"folder:{tmp_path},pair=time,max_gap=20ms", "all")
        assert [pairs.condition(index) for index in range(len(pairs))] == ["day", "dusk"]
        path.write_text("name,condition\n1700000000.500,day\n")
        with pytest.raises(PairError, match="1 names are no pair's"):
            open_pairs(f"folder:{tmp_path},pair=time,max_gap=20ms", "all")


@pytest.mark.shared_data
class TestRealFolders:
    def test_dead_trees(self, shared_data: Path) -> None:
        root = shared_data / "deadtree"
        assert folder_splits(root) == ["train", "val"]
        classes = Classes(("background", "dead tree"), default_palette(2))
        train = FolderPairs(root, "train", classes=classes)
        assert (len(train), len(FolderPairs(root, "val", classes=classes))) == (303, 50)
        for index in range(0, 303, 60):
            pair = train[index]
            assert pair.visible.shape[:2] == pair.infrared.shape == pair.label.shape
            assert set(np.unique(pair.label)) <= {0, 1}

    def test_crops_and_weeds(self, shared_data: Path) -> None:
        pairs = FolderPairs(shared_data / "cwfid", "test")
        assert len(pairs) == 20
        assert pairs.classes.names == ("class 0", "class 1", "class 2")
        assert pairs[3].visible.shape == (483, 648, 3)

    def test_bands_without_splits_or_labels(self, shared_data: Path) -> None:
        pairs = FolderPairs(shared_data / "msrs_pairs", "all")
        assert len(pairs) == 6
        assert pairs.classes is None
        assert {pairs.condition(index) for index in range(6)} == {"night"}
