"""Homographies, lenses and points against OpenCV and numbers worked by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import get_args

import cv2
import numpy as np
import pytest

from crossband.errors import OptionError
from crossband.rig.geometry import (
    Model,
    corners,
    distortion,
    fit_points,
    is_sound,
    resized,
    shifted,
    small_step,
    transform,
)
from crossband.rig.lens import Lens, read_lens
from crossband.rig.points import fit_point_pairs, read_points
from unaligned import HOMOGRAPHY, INFRARED_SIZE

POINTS = np.random.default_rng(3).uniform(0, 200, (20, 2))
LENS = Lens((300.0, 302.0), (158.0, 121.0), (-0.3, 0.05, 0.001, -0.002, 0.01))


def test_points_move_as_opencv_moves_them() -> None:
    theirs = cv2.perspectiveTransform(POINTS[:, None], HOMOGRAPHY)[:, 0]
    np.testing.assert_allclose(transform(HOMOGRAPHY, POINTS), theirs, atol=1e-9)


def test_a_picture_made_smaller_keeps_its_area() -> None:
    # The outer edges lie half a pixel outside of the corner pixels.
    np.testing.assert_allclose(
        transform(resized((100, 200), (50, 40)), np.array([[-0.5, -0.5], [199.5, 99.5]])),
        [[-0.5, -0.5], [39.5, 49.5]],
    )


@pytest.mark.parametrize("model", get_args(Model))
def test_exact_points_give_the_homography_back(model: str) -> None:
    truth = {
        "shift": shifted(3.5, -7),
        "affine": small_step(np.array([0.1, 0.02, 5, -0.03, 0.2, 7])),
        "homography": HOMOGRAPHY,
    }[model]
    found = fit_points(POINTS, transform(truth, POINTS), model)  # type: ignore[arg-type]
    np.testing.assert_allclose(transform(found, POINTS), transform(truth, POINTS), atol=1e-6)


def test_noisy_points_fit_as_well_as_opencv_fits_them() -> None:
    noisy = transform(HOMOGRAPHY, POINTS) + np.random.default_rng(0).normal(0, 1, POINTS.shape)
    ours = fit_points(POINTS, noisy, "homography")
    theirs, _ = cv2.findHomography(POINTS, noisy, 0)
    ours_off, theirs_off = (((transform(one, POINTS) - noisy) ** 2).sum() for one in (ours, theirs))
    assert ours_off <= theirs_off * (1 + 1e-6)


def test_points_on_a_line_settle_nothing() -> None:
    line = np.c_[np.arange(8.0), 2 * np.arange(8.0)]
    with pytest.raises(OptionError, match="one line"):
        fit_points(line, line, "affine")


def test_what_tears_a_picture_apart_is_not_sound() -> None:
    assert is_sound(HOMOGRAPHY, INFRARED_SIZE)
    assert not is_sound(np.diag([-1.0, 1, 1]), INFRARED_SIZE)
    assert not is_sound(np.array([[1.0, 0, 0], [0, 1, 0], [-0.02, 0, 1]]), INFRARED_SIZE)
    assert not is_sound(np.full((3, 3), np.nan), INFRARED_SIZE)


def test_a_turn_and_zoom_is_no_distortion() -> None:
    turn = np.array([[0.9, -0.5, 4.0], [0.5, 0.9, 8.0], [0, 0, 1.0]])
    assert distortion(turn, INFRARED_SIZE) < 1e-9
    assert distortion(np.diag([1.5, 1.0, 1.0]), INFRARED_SIZE) > 0.05


def test_a_lens_bends_and_straightens_as_opencv_does() -> None:
    points = POINTS + 50
    vector = np.array(LENS.distortion)
    theirs = cv2.undistortPoints(points[:, None], LENS.matrix, vector, P=LENS.matrix)[:, 0]
    np.testing.assert_allclose(LENS.straightened(points), theirs, atol=0.05)
    np.testing.assert_allclose(LENS.bent(LENS.straightened(points)), points, atol=1e-3)


FOUR_NUMBERS = "K: [9, 0, 1, 0, 9, 1, 0, 0, 1]\nD: [0.1, 0, 0, 0]\n"


def test_lens_files_of_numpy_opencv_and_ros(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", intrinsic_matrix=LENS.matrix, distCoeff=[LENS.distortion])
    storage = cv2.FileStorage(str(tmp_path / "b.yaml"), cv2.FILE_STORAGE_WRITE)
    storage.write("fisheye_model", 0)
    storage.write("camera_matrix", LENS.matrix)
    storage.write("distortion_coefficients", np.array([LENS.distortion]))
    storage.release()
    numbers = ", ".join(str(value) for value in LENS.matrix.ravel())
    (tmp_path / "c.yaml").write_text(
        "image_width: 320\nimage_height: 240\ncamera_name: left\ndistortion_model: plumb_bob\n"
        f"camera_matrix:\n  rows: 3\n  cols: 3\n  data: [{numbers}]\n"
        f"distortion_coefficients:\n  rows: 1\n  cols: 5\n  data: {list(LENS.distortion)}\n"
    )
    # As OpenCV 5 writes coefficients that are a list.
    (tmp_path / "d.yaml").write_text(
        "%YAML 1.2\n---\ncamera_matrix: !!opencv-matrix\n   rows: 3\n   cols: 3\n   dt: d\n"
        f"   data: [{numbers}]\n"
        "distortion_coefficients: !!opencv-nd-matrix\n   sizes: [ 5 ]\n   dt: d\n"
        f"   data: {list(LENS.distortion)}\n"
    )
    for name in ("a.npz", "b.yaml", "d.yaml"):
        assert read_lens(tmp_path / name) == LENS
    (tmp_path / "message.yaml").write_text(
        f"height: 240\nwidth: 320\ndistortion_model: plumb_bob\nD: {list(LENS.distortion)}\nK: [{numbers}]\n"
    )
    for name in ("c.yaml", "message.yaml"):
        assert read_lens(tmp_path / name) == replace(LENS, size=(240, 320))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.yaml", "camera_matrix: [1, 2]\n", "no distortion coefficients"),
        ("a.yaml", "camera_matrix: [1, 2]\nD: [0, 0, 0, 0]\n", "2 numbers, not 9"),
        ("a.yaml", "- 1\n", "no mapping"),
        ("a.npz", "no archive", "no calibration"),
        ("a.yaml", "K: [0, 0, 1, 0, 2, 1, 0, 0, 1]\nD: [0, 0, 0, 0]\n", "above 0"),
        ("a.yaml", f"{FOUR_NUMBERS}distortion_model: equidistant\n", "model 'equidistant', which"),
        ("a.yaml", f"{FOUR_NUMBERS}fisheye_model: 1\n", "model fisheye, which"),
    ],
)
def test_files_that_are_no_lens_are_named(tmp_path: Path, name: str, content: str, said: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(OptionError, match=said) as error:
        read_lens(tmp_path / name)
    assert name in str(error.value)


def test_a_lens_of_another_size_is_told() -> None:
    LENS.check_size((240, 320), "infrared")
    with pytest.raises(OptionError, match="calibration of this size"):
        LENS.check_size((2000, 3000), "infrared")
    # What the centre alone would let pass.
    LENS.check_size((300, 400), "infrared")
    with pytest.raises(OptionError, match="calibrated on pictures of 320 x 240 pixels"):
        replace(LENS, size=(240, 320)).check_size((300, 400), "infrared")


def test_points_are_read_by_their_header_or_their_order(tmp_path: Path) -> None:
    (tmp_path / "plain.csv").write_text("1,2,3,4\n5,6,7,8\n")
    (tmp_path / "named.csv").write_text("infrared_x,infrared_y,visible_x,visible_y\n3,4,1,2\n7,8,5,6\n")
    for name in ("plain.csv", "named.csv"):
        visible, infrared = read_points(tmp_path / name)
        np.testing.assert_array_equal(visible, [[1, 2], [5, 6]])
        np.testing.assert_array_equal(infrared, [[3, 4], [7, 8]])


@pytest.mark.parametrize("content", ["1,2,3\n", "a,b,c,d\n", "1,2,3,4\n1,2,nan,4\n", "1,2,3,4,5\n"])
def test_a_line_that_is_no_point_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "points.csv").write_text(content)
    with pytest.raises(OptionError, match=r"points\.csv"):
        read_points(tmp_path / "points.csv")


def test_points_that_are_parted_by_semicolons_are_told(tmp_path: Path) -> None:
    (tmp_path / "points.csv").write_text("visible_x;visible_y;infrared_x;infrared_y\n1;2;3;4\n")
    with pytest.raises(OptionError, match="as numbers; its cells are parted by semicolons"):
        read_points(tmp_path / "points.csv")


@pytest.mark.parametrize(("model", "said"), [("affine", "an affine"), ("homography", "a homography")])
def test_too_few_points_are_told(model: Model, said: str) -> None:
    points = np.random.default_rng(0).uniform(0, 1, (4, 2)) * [207, 159]
    with pytest.raises(OptionError, match=f"4 points are too few for {said}; give "):
        fit_point_pairs(points, points, model, INFRARED_SIZE)


def test_the_error_of_points_covers_the_truth() -> None:
    infrared = np.random.default_rng(1).uniform(0, 1, (40, 2)) * [207, 159]
    visible = transform(HOMOGRAPHY, infrared) + np.random.default_rng(2).normal(0, 0.6, infrared.shape)
    found = fit_point_pairs(visible, infrared, "homography", INFRARED_SIZE)
    around = corners(INFRARED_SIZE)
    off = transform(np.linalg.inv(HOMOGRAPHY) @ found.homography, around) - around
    assert np.linalg.norm(off, axis=1).max() < found.uncertainty < 5
    assert found.interval[0] <= found.residual <= found.interval[1]


def test_the_calibrated_rig_fits_its_own_points(shared_data: Path) -> None:
    folder = shared_data / "rig" / "calibrated_rig"
    if not folder.is_dir():
        pytest.skip(f"no calibrated rig at {folder}")
    visible, infrared = (
        np.loadtxt(folder / f"featurepoints_{band}.csv", delimiter=",", encoding="utf-8-sig")
        for band in ("RGB", "TIR")
    )
    found = fit_point_pairs(visible, infrared, "homography", (512, 640))
    assert np.sqrt((found.distances**2).mean()) < 2
    theirs = np.load(folder / "homography_matrix_640x512.npz")["M_homography"]
    around = corners((3000, 3750))
    apart = transform(theirs, around) - transform(np.linalg.inv(found.homography), around)
    assert np.abs(apart).max() < 0.2
