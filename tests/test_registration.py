"""Pairs of a rig, brought into one frame where they are read: against OpenCV's own warp, and by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

import crossband as cb
from crossband.errors import OptionError, PairError
from crossband.pairs.augmentation import Augmentation, augment
from crossband.pairs.base import Pair
from crossband.pairs.check import check_source
from crossband.pairs.export import export_folder
from crossband.pairs.opening import open_pairs
from crossband.pairs.registration import Registration
from crossband.rig.geometry import transform
from crossband.rig.lens import Lens
from crossband.rig.rig import Rig, read_rig
from crossband.terminal import with_rig
from crossband.words import IGNORE_INDEX
from unaligned import HOMOGRAPHY, INFRARED_SIZE, VISIBLE_SIZE, a_rig, scenes, unaligned, write_unaligned

RIG = a_rig()
LENS = Lens((250.0, 250.0), (160.0, 120.0), (-0.2, 0.03, 0.0, 0.0))


def rig_file(folder: Path, rig: Rig = RIG) -> str:
    (folder / "rig.json").write_text(rig.to_json())
    return str(folder / "rig.json")


def pair() -> Pair:
    visible, infrared = unaligned(1)[0]
    return Pair("p", visible, infrared, scenes(1)[0].label)


def test_infrared_comes_into_the_visible_frame_as_opencv_warps_it() -> None:
    given = pair()
    seen = Registration(RIG)(given)
    assert seen.visible is given.visible
    assert given.infrared is not None
    assert seen.infrared is not None
    assert seen.valid is not None
    theirs = cv2.warpPerspective(given.infrared, HOMOGRAPHY, VISIBLE_SIZE[::-1])
    inside = cv2.erode(seen.valid.astype(np.uint8), np.ones((5, 5))) > 0
    np.testing.assert_allclose(seen.infrared[inside], theirs[inside], atol=0.03)
    # It is the scene's own infrared image again, but for two interpolations.
    original = scenes(1)[0].infrared
    assert original is not None
    assert np.abs(seen.infrared - original)[inside].mean() < 0.02


def test_the_label_counts_where_both_cameras_see() -> None:
    given = pair()
    seen = Registration(RIG)(given)
    assert given.label is not None
    assert seen.label is not None
    assert seen.valid is not None
    np.testing.assert_array_equal(seen.label[seen.valid], given.label[seen.valid])
    assert (seen.label[~seen.valid] == IGNORE_INDEX).all()
    corner = transform(np.linalg.inv(HOMOGRAPHY), np.array([[0.0, 0.0]]))[0]
    assert corner.max() < -0.5, "the infrared camera does not see the visible one's corner"
    assert not seen.valid[0, 0]


def test_visible_and_label_come_into_the_infrared_frame() -> None:
    given = pair()
    seen = Registration(RIG, "infrared")(given)
    assert seen.infrared is given.infrared
    assert seen.valid is None, "the visible camera sees all that the infrared one does"
    assert seen.visible is not None
    assert seen.visible.shape == (*INFRARED_SIZE, 3)
    assert given.label is not None
    theirs = cv2.warpPerspective(
        given.label, HOMOGRAPHY, INFRARED_SIZE[::-1], flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
    )
    assert seen.label is not None
    assert (seen.label == theirs).mean() > 0.999


def test_a_label_of_the_infrared_size_lies_on_infrared() -> None:
    label = np.zeros(INFRARED_SIZE, np.uint8)
    label[40:80, 50:90] = 3
    given = replace(pair(), label=label)
    kept = Registration(RIG, "infrared")(given)
    np.testing.assert_array_equal(kept.label, label)
    moved = Registration(RIG, "visible")(given)
    assert moved.label is not None
    x, y = np.rint(transform(HOMOGRAPHY, np.array([[70.0, 60.0]]))[0]).astype(int)
    assert moved.label.shape == VISIBLE_SIZE
    assert moved.label[y, x] == 3


def test_a_band_alone_is_brought_into_the_frame_too() -> None:
    alone = Registration(RIG)(replace(pair(), visible=None, label=None))
    assert alone.infrared is not None
    assert alone.infrared.shape == VISIBLE_SIZE
    same = Registration(RIG)(replace(pair(), infrared=None))
    assert same.valid is None


def test_both_ways_through_the_lenses_lead_back() -> None:
    bent = replace(
        RIG, visible_lens=LENS, infrared_lens=replace(LENS, focal=(200.0, 200.0), centre=(104.0, 80.0))
    )
    smooth = np.add.outer(np.linspace(0, 0.5, INFRARED_SIZE[0]), np.linspace(0, 0.5, INFRARED_SIZE[1]))
    there = Registration(bent)(Pair("p", None, smooth.astype(np.float32)))
    assert there.infrared is not None
    there_and_back = Registration(bent, "infrared")(
        Pair("p", np.repeat(there.infrared[..., None], 3, 2), smooth.astype(np.float32))
    )
    assert there_and_back.visible is not None
    seen = np.ones(INFRARED_SIZE, bool) if there_and_back.valid is None else there_and_back.valid
    seen[[0, -1]] = seen[:, [0, -1]] = False
    np.testing.assert_allclose(there_and_back.visible[seen][:, 0], smooth[seen], atol=0.01)


def test_images_of_another_size_are_named() -> None:
    with pytest.raises(PairError, match="infrared is 10 x 12, but the rig was aligned at 160 x 208"):
        Registration(RIG)(Pair("p", None, np.zeros((10, 12), np.float32)))


def test_a_rig_file_comes_back_as_it_was(tmp_path: Path) -> None:
    full = replace(
        RIG, visible_lens=LENS, infrared_lens=replace(LENS, size=INFRARED_SIZE), depths=(3.0, None)
    )
    assert read_rig(Path(rig_file(tmp_path, full))) == full


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"homography": [[1, 0, 0], [0, 1, 0]]}, "rig.homography"),
        ({"homography": [[0, 0, 0], [0, 0, 0], [0, 0, 0]]}, "tears it apart"),
        ({"visible_size": [0, 4]}, "0 x 4"),
        ({"visible_size": "big"}, "rig.visible_size"),
        ({"format": 99}, "format 99"),
        ({"format": 0}, "format 0"),
        ({"format": "1"}, "no mapping with a format"),
        ({"colour": 1}, "'colour'"),
        ({"visible_lens": {"focal": [1, 1]}}, "visible_lens"),
        ({"found_by": "guess"}, "rig.found_by"),
        ({"residual": None}, "rig.residual"),
    ],
)
def test_a_file_that_is_no_rig_is_named(tmp_path: Path, change: dict, said: str) -> None:
    path = Path(rig_file(tmp_path))
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(OptionError, match="rig") as error:
        read_rig(path)
    assert said in str(error.value)
    assert "rig.json" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_rig_that_lacks_a_field_says_which(tmp_path: Path) -> None:
    path = Path(rig_file(tmp_path))
    fields = json.loads(path.read_text())
    del fields["residual"]
    path.write_text(json.dumps(fields))
    with pytest.raises(
        OptionError, match=r"rig\.json is not a rig of Crossband \(it has no field 'residual'\)"
    ):
        read_rig(path)


@pytest.mark.parametrize("content", ["", "[]", "{", "\x00", '{"format": 1}'])
def test_rubbish_is_no_rig(tmp_path: Path, content: str) -> None:
    (tmp_path / "rig.json").write_text(content)
    with pytest.raises(OptionError, match=r"rig\.json"):
        read_rig(tmp_path / "rig.json")


def test_a_source_is_read_through_a_rig(tmp_path: Path) -> None:
    folder = write_unaligned(tmp_path / "pairs", 2, labels=True)
    with pytest.raises(PairError, match="crossband align"):
        open_pairs(f"folder:{folder}", "train")[0]
    source = with_rig(f"folder:{folder}", rig_file(tmp_path), "infrared")
    pairs = open_pairs(source, "train")
    assert pairs.source == source
    assert [one.size for one in pairs] == [INFRARED_SIZE] * 2
    report = check_source(source)
    assert report.ok
    assert not check_source(f"folder:{folder}").ok
    export_folder(source, tmp_path / "exported")
    assert check_source(f"folder:{tmp_path / 'exported'}").ok


def test_frames_of_two_cameras_are_read_through_a_rig(tmp_path: Path) -> None:
    made = unaligned(2)
    for band, frames in (("visible", [one for one, _ in made]), ("infrared", [one for _, one in made])):
        with tifffile.TiffWriter(tmp_path / f"{band}.tif") as tiff:
            for frame in frames:
                tiff.write(np.rint(frame * 255).astype(np.uint8), contiguous=False, metadata=None)
    source = f"frames:{tmp_path / 'infrared.tif'},visible={tmp_path / 'visible.tif'}"
    with pytest.raises(PairError, match="crossband align"):
        open_pairs(source, "all")[0]
    pairs = open_pairs(with_rig(source, rig_file(tmp_path), None), "all")
    of_arrays = Registration(RIG)(Pair("000001", *made[1]))
    assert pairs[1].infrared is not None
    assert of_arrays.infrared is not None
    np.testing.assert_allclose(pairs[1].infrared, of_arrays.infrared, atol=1 / 255)
    np.testing.assert_array_equal(pairs[1].valid, of_arrays.valid)


def test_a_check_says_that_the_bands_lie_apart(tmp_path: Path) -> None:
    folder = write_unaligned(tmp_path / "pairs", 4)
    off = replace(RIG, homography=((1.21, -0.045, 45.0), (0.038, 1.19, 14.0), (2.0e-5, -3.0e-5, 1.0)))
    (warning,) = check_source(with_rig(f"folder:{folder}", rig_file(tmp_path, off), "infrared")).problems
    assert "lie apart" in warning.message
    assert not check_source(with_rig(f"folder:{folder}", rig_file(tmp_path), "infrared")).problems


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("frame=visible", "name the rig too"),
        ("rig=none.json", "none.json"),
        ("rig={rig},frame=left", "'left'"),
    ],
)
def test_options_of_a_source_that_make_no_rig(tmp_path: Path, options: str, said: str) -> None:
    folder = write_unaligned(tmp_path / "pairs", 1)
    with pytest.raises(OptionError) as error:
        open_pairs(f"folder:{folder},{options.format(rig=rig_file(tmp_path))}", "train")
    assert said in str(error.value)


def test_augmentation_moves_what_is_valid_with_the_image() -> None:
    seen = Registration(RIG)(pair())
    assert seen.valid is not None
    flipped = augment(seen, Augmentation(flip=1.0), np.random.default_rng(0))
    np.testing.assert_array_equal(flipped.valid, seen.valid[:, ::-1])
    wider = augment(seen, Augmentation(flip=0.0, crop=(260, 340)), np.random.default_rng(0))
    assert wider.valid is not None
    assert wider.valid.shape == (260, 340)
    assert wider.valid.sum() == seen.valid.sum()


def test_a_predictor_takes_a_rig_for_files_and_arrays(tmp_path: Path) -> None:
    folder = write_unaligned(tmp_path / "pairs", 1) / "train"
    predictor = cb.load("average", rig=rig_file(tmp_path))
    of_files = predictor(folder / "visible" / "0.png", folder / "infrared" / "0.png")
    assert of_files.fused is not None
    assert of_files.fused.shape == (*VISIBLE_SIZE, 3)
    visible, infrared = (np.asarray(Image.open(folder / band / "0.png")) for band in ("visible", "infrared"))
    for given in ((visible, infrared), (folder / "visible" / "0.png", infrared)):
        result = predictor(*given)
        np.testing.assert_array_equal(result.fused, of_files.fused)
        assert result.pair.valid is not None
        np.testing.assert_array_equal(result.pair.valid, of_files.pair.valid)
