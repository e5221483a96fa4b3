"""Exposure against scikit-image's sRGB curve, and corrupted lists of pairs."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.color import lab2rgb, rgb2xyz

from crossband.errors import OptionError
from crossband.pairs.base import Pair
from crossband.pairs.opening import open_pairs
from crossband.robustness import CorruptedPairs, overexpose, overexposed

SCENES = "scenes,test=3,size=24x32"


def image(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((6, 8, 3), dtype=np.float32)


@pytest.mark.parametrize("stops", [-2.0, -0.5, 0.3, 1.0])
def test_exposure_multiplies_linear_light(stops: float) -> None:
    """The luminance of scikit-image (CIE Y is linear in light) grows by 2 ** stops where nothing clips."""
    dark = image() * 0.5
    before, after = rgb2xyz(dark)[..., 1], rgb2xyz(overexpose(dark, stops))[..., 1]
    np.testing.assert_allclose(after, before * 2**stops, rtol=1e-5)


def test_no_stops_change_nothing_and_many_blow_out_all_but_black() -> None:
    picture = image()
    picture[0, 0] = 0
    np.testing.assert_allclose(overexpose(picture, 0), picture, atol=1e-6)
    blown = overexpose(picture, 40)
    assert (blown[0, 0] == 0).all()
    np.testing.assert_allclose(blown[1:], 1, atol=1e-6)


def test_what_was_clipped_stays_clipped() -> None:
    picture = np.array([[[0.9, 0.9, 0.9], [1.0, 1.0, 1.0]]], np.float32)
    back = overexpose(overexpose(picture, 2), -2)
    assert back[0, 0] == pytest.approx(back[0, 1])


def test_half_the_light_of_white_is_what_colour_science_says() -> None:
    """Half of white's luminance, Y = 0.5, is L* = 76.07."""
    white = np.ones((1, 1, 3), np.float32)
    grey = lab2rgb(np.array([[[116 * 0.5 ** (1 / 3) - 16, 0, 0]]]))
    np.testing.assert_allclose(overexpose(white, -1), grey, atol=2e-4)


def test_stops_must_be_a_number() -> None:
    with pytest.raises(OptionError, match="finite"):
        overexpose(image(), float("nan"))


def test_overexposed_pairs_change_the_visible_image_alone() -> None:
    pairs = open_pairs(SCENES, "test")
    changed = overexposed(pairs, 3)
    assert (len(changed), changed.name(1), changed.condition(1)) == (3, pairs.name(1), pairs.condition(1))
    before, after = pairs[1], changed[1]
    np.testing.assert_array_equal(after.visible, overexpose(before.visible, 3))
    np.testing.assert_array_equal(after.infrared, before.infrared)
    np.testing.assert_array_equal(after.label, before.label)
    assert (changed.classes, changed.bands, changed.source) == (pairs.classes, pairs.bands, pairs.source)


def test_a_random_corruption_is_the_same_on_every_reading() -> None:
    def noise(pair: Pair, rng: np.random.Generator) -> Pair:
        return Pair(pair.name, None, rng.random(pair.size, dtype=np.float32))

    pairs = open_pairs(SCENES, "test")
    noisy = CorruptedPairs(pairs, noise, seed=5)
    np.testing.assert_array_equal(noisy[2].infrared, noisy[2].infrared)
    assert not np.array_equal(noisy[1].infrared, noisy[2].infrared)
    assert not np.array_equal(CorruptedPairs(pairs, noise, seed=6)[2].infrared, noisy[2].infrared)
