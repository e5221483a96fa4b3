"""The geometry of rigs that is known, and rigs that have none."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import cv2
import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from crossband.errors import OptionError
from crossband.rig.aligning import Cameras, align_pairs, align_points
from crossband.rig.checking import misfit
from crossband.rig.estimating import FINEST, Estimate, estimate
from crossband.rig.features import Picture, edge_features, picture_of
from crossband.rig.geometry import corners, shifted, transform
from crossband.rig.information import information_gain, joint_histogram, share_told
from crossband.rig.refinement import Level
from crossband.rig.resampling import student_t
from crossband.rig.trust import doubt
from unaligned import HOMOGRAPHY, INFRARED_SIZE, VISIBLE_SIZE, scenes, seen_by_infrared, unaligned

PAIRS = 5


@lru_cache(maxsize=1)
def pictures() -> list[tuple[Picture, Picture]]:
    return [(picture_of(visible), picture_of(infrared)) for visible, infrared in unaligned(PAIRS)]


@lru_cache(maxsize=1)
def found() -> Estimate:
    made = estimate(pictures())
    assert made is not None
    return made


def corner_distances(homography: np.ndarray, truth: np.ndarray = HOMOGRAPHY) -> np.ndarray:
    around = corners(INFRARED_SIZE)
    return np.linalg.norm(transform(homography, around) - transform(truth, around), axis=1)


def test_a_rig_of_two_sizes_is_found_to_two_pixels() -> None:
    assert corner_distances(found().homography).max() < 2
    assert doubt(found()) is None


def test_what_it_says_of_itself_holds() -> None:
    in_infrared = corner_distances(np.linalg.inv(HOMOGRAPHY) @ found().homography, np.eye(3))
    assert in_infrared.max() < found().uncertainty
    low, high = found().agreement.interval
    assert low <= found().agreement.residual <= high + 0.1


def test_no_corner_is_said_to_be_known_to_less_than_a_pixel() -> None:
    sure = replace(found(), corner_errors=np.full(4, 1e-3))
    assert sure.uncertainty == FINEST == 1
    assert replace(found(), corner_errors=np.full(4, 1.0)).uncertainty > 2
    why = doubt(sure, limit=0.5)
    assert why is not None
    assert "1.0 infrared pixels" in why


@pytest.mark.parametrize("freedom", [3, 7, 23, 200])
def test_student_s_t_is_scipy_s(freedom: int) -> None:
    normal = float(stats.norm.ppf(1 - 0.05 / 8))
    assert student_t(normal, freedom) == pytest.approx(stats.t.ppf(1 - 0.05 / 8, freedom), rel=0.01)


def test_bright_and_dark_may_be_exchanged() -> None:
    turned = [(visible, Picture(255 - infrared.levels, infrared.valid)) for visible, infrared in pictures()]
    again = estimate(turned, start=found().homography)
    assert again is not None
    assert corner_distances(again.homography, found().homography).max() < 0.3


def test_a_pattern_that_was_caught_one_period_off_is_left_again() -> None:
    """A grid as of solar panels, over faint blots that repeat nowhere; heat has light and dark exchanged."""
    period, made = 20, []
    rows, columns = np.indices(INFRARED_SIZE)
    grid = ((columns % period < 3) | (rows % period < 3)).astype(np.float32)
    for seed in range(4):
        blots = cv2.GaussianBlur(
            np.random.default_rng(seed).random(INFRARED_SIZE, np.float32), (0, 0), sigmaX=3
        )
        image = grid + 0.3 * (blots > blots.mean() + 0.5 * blots.std())
        made.append((picture_of(image), picture_of(-image)))
    result = estimate(made, start=shifted(period, 0))
    assert result is not None
    assert corner_distances(result.homography, np.eye(3)).max() < 1


def test_pairs_that_do_not_belong_together_are_refused() -> None:
    exchanged = [(pictures()[index][0], pictures()[index - 1][1]) for index in range(PAIRS)]
    why = doubt(estimate(exchanged, start=HOMOGRAPHY))
    assert why is not None
    assert "do not belong together" in why


def test_pictures_without_texture_are_refused() -> None:
    flat = picture_of(np.full(VISIBLE_SIZE, 90, np.uint8)), picture_of(np.full(INFRARED_SIZE, 30, np.uint8))
    why = doubt(estimate([flat] * 4))
    assert why is not None
    assert "texture" in why


def test_noise_is_refused() -> None:
    draw = np.random.default_rng(0)
    noise = [
        (picture_of(draw.random(VISIBLE_SIZE)), picture_of(draw.random(INFRARED_SIZE))) for _ in range(4)
    ]
    assert doubt(estimate(noise, start=HOMOGRAPHY)) is not None


def test_near_and_far_things_from_two_viewpoints_are_refused() -> None:
    """Each pair at a depth of its own: the infrared camera beside the visible one sees it shifted."""
    depths = [-22.0, -8.0, 6.0, 20.0]
    apart = []
    for pair, shift in zip(scenes(4), depths, strict=True):
        assert pair.visible is not None
        assert pair.infrared is not None
        apart.append(
            (
                picture_of(pair.visible),
                picture_of(seen_by_infrared(pair.infrared, HOMOGRAPHY @ shifted(shift, 0))),
            )
        )
    assert doubt(estimate(apart, start=HOMOGRAPHY)) is not None


def test_one_pair_cannot_vouch_for_itself() -> None:
    alone = estimate(pictures()[:1], start=HOMOGRAPHY)
    assert alone is not None
    assert corner_distances(alone.homography).max() < 3
    why = doubt(alone)
    assert why is not None
    assert "4 or more" in why


def test_a_tighter_limit_refuses_and_says_the_number() -> None:
    why = doubt(found(), limit=0.01)
    assert why is not None
    assert f"{found().uncertainty:.1f} infrared pixels" in why


@pytest.mark.parametrize("model", ["shift", "affine"])
def test_simpler_models_are_found_and_stay_simple(model: str) -> None:
    truth = (
        shifted(40, 25) if model == "shift" else np.array([[1.2, 0.03, 30], [-0.02, 1.15, 30], [0, 0, 1.0]])
    )
    made = []
    for pair in scenes(4):
        assert pair.visible is not None
        assert pair.infrared is not None
        made.append((picture_of(pair.visible), picture_of(seen_by_infrared(pair.infrared, truth))))
    result = estimate(made, model, start=truth @ shifted(4, -3))  # type: ignore[arg-type]
    assert result is not None
    assert corner_distances(result.homography, truth).max() < 1.5
    assert result.homography[2, :2].tolist() == [0, 0]
    if model == "shift":
        np.testing.assert_array_equal(result.homography[:2, :2], np.eye(2))


def test_the_slope_is_that_of_the_score() -> None:
    """Against differences of the score itself."""
    level = Level(pictures()[:1], 208, 2, 2.0)
    start = HOMOGRAPHY @ shifted(0.8, -0.6)
    seen = [level.visible(0, start, level.margin)]
    slope = level.slope(seen, np.eye(3), "affine")
    for place, tiny in ((2, 2e-3), (5, 2e-3), (0, 4e-3)):
        scores = []
        for sign in (1, -1):
            way = np.eye(3)
            way.flat[{0: 0, 2: 2, 5: 5}[place]] += sign * tiny
            scores.append(level.slope(seen, way, "affine").score)
        measured = (scores[0] - scores[1]) / (2 * tiny)
        assert slope.gradient[place] == pytest.approx(measured, rel=0.25, abs=0.02)


def test_features_do_not_see_what_is_bright_and_what_is_dark() -> None:
    image = pictures()[0][0]
    one, there = edge_features(image.levels, image.valid, pool=2, step=2)
    other, _ = edge_features(255 - image.levels, image.valid, pool=2, step=2)
    np.testing.assert_allclose(one, other, atol=1e-4)
    np.testing.assert_allclose(np.einsum("hwc,hw->c", one, there), 0, atol=0.05)


def test_black_that_a_warp_left_is_no_part_of_a_picture() -> None:
    image = np.full((60, 80), 100, np.uint8)
    image[:, :12] = 0
    image[30:34, 40:44] = 0
    image[0, 70] = 255
    shown = picture_of(image).valid
    assert not shown[:, :12].any()
    assert shown[:, 12:].all()


def test_what_was_not_measured_is_no_part_of_a_picture() -> None:
    image = np.random.default_rng(0).random((60, 80)).astype(np.float32)
    image[10:20, 30:40], image[40, 40] = np.nan, np.inf
    picture = picture_of(image)
    np.testing.assert_array_equal(~picture.valid, ~np.isfinite(image))
    assert np.isfinite(picture.levels).all()


def test_a_misfit_is_the_shift_between_the_bands() -> None:
    pair = scenes(1)[0]
    assert pair.visible is not None
    assert pair.infrared is not None
    moved = np.roll(pair.infrared, (3, -7), (0, 1))
    off = misfit(picture_of(pair.visible), picture_of(moved))
    assert off.shift == pytest.approx((7, -3), abs=0.8)
    assert misfit(picture_of(pair.visible), picture_of(pair.infrared)).distance < 0.8


def test_a_misfit_is_not_known_where_nothing_is_shared() -> None:
    draw = np.random.default_rng(0)
    off = misfit(picture_of(draw.random(VISIBLE_SIZE)), picture_of(draw.random(VISIBLE_SIZE)))
    assert off.shift is None
    assert np.isnan(off.distance)


def test_depths_by_hand() -> None:
    # 400 pixels and 0.1 m: a pixel is 1 / 40 per metre; 1/20 +- 1/40 are 1/13.3 and 1/40.
    near, far = Cameras(baseline=0.1, plane=20, focal=400).depths() or (0, 0)
    assert near == pytest.approx(40 / 3)
    assert far == pytest.approx(40)
    assert (Cameras(baseline=0.1, plane=50, focal=400).depths() or (0, 0))[1] is None
    with pytest.raises(OptionError, match="together"):
        Cameras(baseline=0.1)
    with pytest.raises(OptionError, match="focal"):
        Cameras(baseline=0.1, plane=3)


def test_pictures_of_two_sizes_are_no_rig() -> None:
    other = picture_of(np.zeros((50, 60), np.uint8))
    with pytest.raises(OptionError, match="visible images are of 2 sizes"):
        align_pairs([*pictures(), (other, pictures()[0][1])])


def test_points_outside_the_picture_are_named() -> None:
    points = np.random.default_rng(0).uniform(0, 100, (9, 2))
    infrared = points.copy()
    infrared[2] = 500
    with pytest.raises(OptionError, match="point 3 lies outside the infrared"):
        align_points(points, infrared, (VISIBLE_SIZE, INFRARED_SIZE))


def test_points_that_disagree_are_refused() -> None:
    draw = np.random.default_rng(0)
    with pytest.raises(OptionError, match="disagree"):
        align_points(
            draw.uniform(0, 150, (20, 2)), draw.uniform(0, 150, (20, 2)), (VISIBLE_SIZE, INFRARED_SIZE)
        )


class TestInformation:
    def test_it_is_scikit_learn_s(self) -> None:
        """Of independent levels nothing is told, of one that settles the other all of it; between, theirs."""
        rng = np.random.default_rng(0)
        a = rng.integers(0, 4, 20_000)
        b = np.where(rng.random(len(a)) < 0.7, 3 - a, rng.integers(0, 4, len(a)))
        # Levels far enough apart that the window of the histogram keeps them apart.
        joint = joint_histogram(4.0 + 7 * a, 4.0 + 7 * b)
        told = metrics.mutual_info_score(a, b) / metrics.mutual_info_score(a, a)
        # The window spreads each level alike in the infrared entropy, and not in what the levels share.
        window = np.log(2 * np.pi * np.e) / 2 / metrics.mutual_info_score(a, a)
        assert share_told(joint) == pytest.approx(told / (1 + window), rel=0.03)
        assert share_told(joint_histogram(4.0 + 7 * a, 4.0 + 7 * rng.permutation(b))) < 0.01

    def test_the_right_place_is_a_summit_and_a_wrong_one_is_not(self) -> None:
        assert found().information > 0.2
        assert information_gain(pictures(), HOMOGRAPHY) > 0.2
        assert information_gain(pictures(), HOMOGRAPHY @ shifted(12, 9)) < 0

    def test_levels_that_speak_against_the_edges_are_a_doubt(self) -> None:
        assert doubt(found()) is None
        why = doubt(replace(found(), information=0.05))
        assert why is not None
        assert "mutual information" in why

    def test_which_band_is_bright_does_not_matter(self) -> None:
        negative = [(one, Picture(255 - other.levels, other.valid)) for one, other in pictures()]
        exchanged = information_gain(negative, HOMOGRAPHY)
        assert exchanged == pytest.approx(information_gain(pictures(), HOMOGRAPHY), abs=0.02)
