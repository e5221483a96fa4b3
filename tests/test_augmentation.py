"""Augmentation: one geometry for both bands and the label, photometry that stays in its band."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as tv

from crossband.errors import OptionError
from crossband.pairs.augmentation import Augmentation, augment
from crossband.pairs.base import Pair
from crossband.words import IGNORE_INDEX

HEIGHT, WIDTH = 90, 124


def random_pair(height: int = HEIGHT, width: int = WIDTH, *, seed: int = 0) -> Pair:
    """Noise of low contrast, so that moderate photometry reaches neither 0 nor 1."""
    rng = np.random.default_rng(seed)
    return Pair(
        name="noise",
        visible=(0.4 + 0.2 * rng.random((height, width, 3))).astype(np.float32),
        infrared=(0.4 + 0.2 * rng.random((height, width))).astype(np.float32),
        label=rng.integers(0, 9, (height, width)).astype(np.uint8),
    )


def coordinate_pair(label_axis: int) -> Pair:
    """Every pixel says where it came from: visible = (row, column, 0) / 255, infrared = column / 255."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    return Pair(
        name="coordinates",
        visible=np.stack([rows, columns, np.zeros_like(rows)], axis=-1) / 255,
        infrared=columns / 255,
        label=(rows, columns)[label_axis].astype(np.uint8),
    )


def rng_of(seed: int) -> np.random.Generator:
    return np.random.default_rng((7, seed))


def chw(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.atleast_3d(image).transpose(2, 0, 1).copy())


def has_one_nearest(scaled: tuple[int, int]) -> np.ndarray:
    """Where the centre of a scaled pixel does not fall exactly between two source pixels."""
    rows, columns = (
        ((2 * np.arange(after) + 1) * before) % (2 * after) != 0
        for before, after in zip((HEIGHT, WIDTH), scaled, strict=True)
    )
    return rows[:, None] & columns


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    scale=st.floats(0.5, 2.0),
    crop=st.none() | st.tuples(st.integers(20, 80), st.integers(20, 80)),
)
def test_bands_and_label_keep_their_registration(seed, scale, crop):
    augmentation = Augmentation(scale=(scale, scale), crop=crop)
    by_row, by_column = (augment(coordinate_pair(axis), augmentation, rng_of(seed)) for axis in (0, 1))
    row, column = by_row.visible[..., 0] * 255, by_row.visible[..., 1] * 255
    np.testing.assert_array_equal(by_row.infrared, by_row.visible[..., 1])
    # Antialiasing is cut off at the border, where the mean of its coordinates is no longer the centre.
    inside = (row > 3) & (row < HEIGHT - 4) & (column > 3) & (column < WIDTH - 4)
    inside &= by_row.label != IGNORE_INDEX
    assert inside.any()
    assert np.abs(by_row.label - row)[inside].max() <= 0.501
    assert np.abs(by_column.label - column)[inside].max() <= 0.501


@pytest.mark.parametrize("factor", [0.51, 0.73, 1.4, 2.0])
def test_scaling_equals_torchvision(factor):
    pair = random_pair()
    ours = augment(pair, Augmentation(flip=0, scale=(factor, factor)), rng_of(0))
    size = [round(HEIGHT * factor), round(WIDTH * factor)]
    assert ours.size == tuple(size)
    for band in ("visible", "infrared"):
        reference = tv.resize(chw(getattr(pair, band)), size, antialias=True)
        assert (chw(getattr(ours, band)) - reference).abs().max() < 1e-4
    reference = tv.resize(chw(pair.label), size, interpolation=InterpolationMode.NEAREST_EXACT)
    assert (chw(ours.label) == reference)[0][has_one_nearest(ours.size)].all()


@pytest.mark.parametrize("factor", [1.0, 0.8, 1.7])
@pytest.mark.parametrize("seed", range(4))
def test_a_crop_is_a_window_of_the_scaled_pair(factor, seed):
    pair = random_pair()
    options = Augmentation(scale=(factor, factor))
    whole = augment(pair, replace(options, flip=0), rng_of(seed))
    cropped = augment(pair, replace(options, flip=0, crop=(40, 50)), rng_of(seed))
    assert cropped.size == (40, 50)
    windows = np.lib.stride_tricks.sliding_window_view(whole.visible[..., 0], (40, 50))
    distance = np.abs(windows - cropped.visible[..., 0]).max(axis=(2, 3))
    top, left = np.unravel_index(distance.argmin(), distance.shape)
    assert distance[top, left] < 1e-4
    window = np.s_[top : top + 40, left : left + 50]
    assert np.abs(cropped.visible - whole.visible[window]).max() < 1e-4
    assert np.abs(cropped.infrared - whole.infrared[window]).max() < 1e-4
    assert (cropped.label == whole.label[window])[has_one_nearest(whole.size)[window]].all()


def test_crops_reach_every_place():
    rows, columns = set(), set()
    for seed in range(300):
        corner = augment(
            coordinate_pair(0), Augmentation(flip=0, crop=(HEIGHT - 3, WIDTH - 2)), rng_of(seed)
        ).visible[0, 0]
        rows.add(round(corner[0] * 255))
        columns.add(round(corner[1] * 255))
    assert rows == {0, 1, 2, 3}
    assert columns == {0, 1, 2}


def test_scales_fill_their_range():
    heights = [augment(random_pair(), Augmentation(scale=(0.5, 2.0)), rng_of(i)).size[0] for i in range(200)]
    assert min(heights) < 0.55 * HEIGHT
    assert max(heights) > 1.95 * HEIGHT
    assert np.mean(heights) == pytest.approx(1.25 * HEIGHT, rel=0.1)


def test_default_is_a_flip_in_half_of_the_cases():
    pair = random_pair(6, 8)
    flipped = 0
    for seed in range(1000):
        changed = augment(pair, Augmentation(), rng_of(seed))
        expected = [pair.visible, pair.infrared, pair.label]
        if not np.array_equal(changed.label, pair.label):
            flipped += 1
            expected = [np.fliplr(array) for array in expected]
        for array, reference in zip(
            (changed.visible, changed.infrared, changed.label), expected, strict=True
        ):
            np.testing.assert_array_equal(array, reference)
    assert 440 < flipped < 560


def test_a_crop_larger_than_the_image_pads_right_and_below():
    pair = random_pair(5, 7)
    padded = augment(pair, Augmentation(flip=0, crop=(8, 12)), rng_of(0))
    for band in ("visible", "infrared"):
        reference = tv.pad(chw(getattr(pair, band)), [0, 0, 5, 3], padding_mode="edge")
        assert torch.equal(chw(getattr(padded, band)), reference)
    np.testing.assert_array_equal(padded.label[:5, :7], pair.label)
    padded.label[:5, :7] = IGNORE_INDEX
    assert (padded.label == IGNORE_INDEX).all()
    assert padded.valid.sum() == 5 * 7
    assert padded.valid[:5, :7].all()
    assert augment(pair, Augmentation(flip=0, crop=(4, 6)), rng_of(0)).valid is None


def photometry_of_visible(name: str) -> tuple[Pair, Pair]:
    pair = random_pair()
    return pair, augment(pair, Augmentation(flip=0, **{name: 0.3}), rng_of(3))


def test_brightness_contrast_and_saturation_equal_torchvision():
    pair, changed = photometry_of_visible("brightness")
    factor = float(changed.visible[0, 0, 0] / pair.visible[0, 0, 0])
    assert 0.7 <= factor <= 1.3
    assert factor != pytest.approx(1, abs=0.01)
    assert (chw(changed.visible) - tv.adjust_brightness(chw(pair.visible), factor)).abs().max() < 1e-5

    luma = tv.rgb_to_grayscale(chw(pair.visible))[0].numpy()
    for name, grey, adjust in (
        ("contrast", luma.mean(), tv.adjust_contrast),
        ("saturation", luma[0, 0], tv.adjust_saturation),
    ):
        pair, changed = photometry_of_visible(name)
        factor = float((changed.visible[0, 0, 0] - grey) / (pair.visible[0, 0, 0] - grey))
        assert 0.7 <= factor <= 1.3
        assert factor != pytest.approx(1, abs=0.01)
        assert (chw(changed.visible) - adjust(chw(pair.visible), factor)).abs().max() < 1e-5


@pytest.mark.parametrize(("name", "band"), [("brightness", "visible"), ("gain", "infrared")])
def test_factors_fill_their_range(name, band):
    pair = random_pair(4, 4)
    factors = [
        (
            getattr(augment(pair, Augmentation(flip=0, **{name: 0.4}), rng_of(i)), band) / getattr(pair, band)
        ).mean()
        for i in range(300)
    ]
    assert 0.6 <= min(factors) < 0.62
    assert 1.38 < max(factors) <= 1.4001
    assert np.mean(factors) == pytest.approx(1, abs=0.05)


def test_gain_offset_and_noise():
    pair = random_pair()
    gained = augment(pair, Augmentation(flip=0, gain=0.3), rng_of(1)).infrared / pair.infrared
    assert np.ptp(gained) < 1e-5
    assert 0.7 <= gained.mean() <= 1.3
    shifted = augment(pair, Augmentation(flip=0, offset=0.2), rng_of(1)).infrared - pair.infrared
    assert np.ptp(shifted) < 1e-5
    assert 0 < abs(shifted.mean()) <= 0.2
    deviations = []
    for seed in range(50):
        noise = augment(pair, Augmentation(flip=0, noise=0.05), rng_of(seed)).infrared - pair.infrared
        assert abs(noise.mean()) < 4 * noise.std() / np.sqrt(noise.size)
        deviations.append(noise.std())
    assert max(deviations) < 0.052
    assert np.mean(deviations) == pytest.approx(0.025, rel=0.3)


@pytest.mark.parametrize(
    ("options", "changed_band", "other"),
    [
        ({"brightness": 0.5, "contrast": 0.5, "saturation": 0.5}, "visible", "infrared"),
        ({"gain": 0.5, "offset": 0.5, "noise": 0.5}, "infrared", "visible"),
    ],
)
def test_photometry_touches_only_its_band_and_moves_nothing(options, changed_band, other):
    pair = random_pair()
    geometry = Augmentation(scale=(0.5, 2.0), crop=(60, 60))
    plain = augment(pair, geometry, rng_of(5))
    changed = augment(pair, replace(geometry, **options), rng_of(5))
    np.testing.assert_array_equal(getattr(changed, other), getattr(plain, other))
    np.testing.assert_array_equal(changed.label, plain.label)
    assert np.abs(getattr(changed, changed_band) - getattr(plain, changed_band)).max() > 0.01


EVERYTHING = Augmentation(
    scale=(0.3, 1.8), crop=(33, 21), brightness=2, contrast=2, saturation=2, gain=2, offset=1, noise=1
)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), height=st.integers(1, 50), width=st.integers(1, 50))
def test_any_size_gives_values_in_range(seed, height, width):
    changed = augment(random_pair(height, width), EVERYTHING, rng_of(seed))
    assert changed.visible.shape == (33, 21, 3)
    assert changed.infrared.shape == changed.label.shape == (33, 21)
    assert changed.visible.dtype == changed.infrared.dtype == np.float32
    assert changed.label.dtype == np.uint8
    for image in (changed.visible, changed.infrared):
        assert image.min() >= 0
        assert image.max() <= 1
    assert set(np.unique(changed.label)) <= {*range(9), IGNORE_INDEX}


@pytest.mark.parametrize("absent", ["visible", "infrared", "label"])
def test_what_is_absent_stays_none_and_changes_nothing_else(absent):
    whole = augment(random_pair(), EVERYTHING, rng_of(2))
    part = augment(replace(random_pair(), **{absent: None}), EVERYTHING, rng_of(2))
    for name in ("visible", "infrared", "label"):
        if name == absent:
            assert getattr(part, name) is None
        else:
            np.testing.assert_array_equal(getattr(part, name), getattr(whole, name))


def test_same_generator_state_same_result_and_the_input_is_left_alone():
    pair, untouched = random_pair(), random_pair()
    first, second = (augment(pair, EVERYTHING, rng_of(9)) for _ in range(2))
    other = augment(pair, EVERYTHING, rng_of(10))
    np.testing.assert_array_equal(first.visible, second.visible)
    np.testing.assert_array_equal(first.infrared, second.infrared)
    assert not np.array_equal(first.infrared, other.infrared)
    np.testing.assert_array_equal(pair.visible, untouched.visible)
    np.testing.assert_array_equal(pair.infrared, untouched.infrared)
    np.testing.assert_array_equal(pair.label, untouched.label)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"flip": 1.5}, "flip"),
        ({"band_dropout": -0.1}, "band_dropout"),
        ({"corrupted": 1.1}, "corrupted"),
        ({"scale": (0.0, 1.0)}, "scale"),
        ({"scale": (2.0, 1.0)}, "scale"),
        ({"crop": (0, 10)}, "crop"),
        ({"noise": -1.0}, "noise"),
        ({"contrast": float("nan")}, "contrast"),
    ],
)
def test_values_out_of_range_are_refused_by_name(options, named):
    with pytest.raises(OptionError, match=rf"augmentation\.{named} "):
        Augmentation(**options)
