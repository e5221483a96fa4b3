"""Colours of classes and charts are told apart by colour-blind eyes as well."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.color import rgb2lab

from crossband.colour_vision import VISIONS, as_seen, distinct_colours, least_differences
from crossband.pairs.base import IGNORE_COLOUR
from crossband.pairs.folder import default_palette
from crossband.pairs.scenes.surfaces import SCENE_CLASSES
from crossband.pictures import AGREEMENT_COLOURS
from crossband.report.charts import SERIES_COLOURS

PASCAL_VOC = ((0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128), (128, 0, 128), (0, 128, 128))


def test_lab_is_that_of_scikit_image() -> None:
    colours = np.random.default_rng(0).integers(0, 256, (50, 3))
    np.testing.assert_allclose(as_seen(colours, "normal"), rgb2lab(colours[:, None] / 255)[:, 0], atol=0.02)


def test_grey_stays_grey_to_every_eye() -> None:
    grey = np.repeat(np.arange(0, 256, 15)[:, None], 3, axis=1)
    for vision in VISIONS:
        np.testing.assert_allclose(as_seen(grey, vision), as_seen(grey, "normal"), atol=0.1)


def test_what_an_eye_cannot_tell_apart_looks_alike() -> None:
    # Red and green of one lightness to a red-green-blind eye; to a tritanope, they are as far apart as ever.
    red, green = np.array([200, 90, 70]), np.array([130, 130, 40])
    apart = {vision: np.linalg.norm(as_seen(red, vision) - as_seen(green, vision)) for vision in VISIONS}
    assert apart["normal"] > 45
    assert apart["deuteranopia"] < apart["normal"] / 2
    assert apart["tritanopia"] > 40


@pytest.mark.parametrize("vision", VISIONS)
def test_palettes_are_told_apart(vision: str) -> None:
    def least(colours: object) -> float:
        return least_differences([*map(tuple, colours), IGNORE_COLOUR])[vision]  # type: ignore[call-overload]

    assert least(SCENE_CLASSES.palette) > 25
    assert least(default_palette(10)) > 22
    assert least(default_palette(20)) > 15
    series = [(int(c[1:3], 16), int(c[3:5], 16), int(c[5:], 16)) for c in SERIES_COLOURS]
    assert least_differences(series)[vision] > 20
    assert least_differences(AGREEMENT_COLOURS)[vision] > 20
    if vision == "deuteranopia":
        # The colour map of PASCAL VOC, which many tools give, would not do.
        assert least(PASCAL_VOC) < 15


def test_the_first_colours_do_not_depend_on_how_many_there_are() -> None:
    many = distinct_colours(40, ((0, 0, 0),))
    assert many[:7] == distinct_colours(7, ((0, 0, 0),))
    assert len(set(many)) == 40
    with pytest.raises(ValueError, match="choose from"):
        distinct_colours(5000, ())


def test_a_set_of_one_has_no_two_that_are_alike() -> None:
    assert least_differences([(1, 2, 3)])["normal"] == np.inf
