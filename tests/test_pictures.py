"""Labels and bands as pictures."""

import numpy as np
import pytest
from PIL import Image

from crossband import pictures
from crossband.errors import OptionError
from crossband.pairs.base import Classes, Pair
from crossband.pairs.writing import write_label
from crossband.words import IGNORE_INDEX

PALETTE = ((0, 0, 0), (200, 10, 20), (0, 255, 0))
LABELS = np.array([[0, 1], [2, IGNORE_INDEX]], np.uint8)


def test_to_uint8_rounds_to_the_nearest_and_clips():
    image = np.array([-0.5, 0.0, 0.9 / 255, 1.4 / 255, 1.0, 7.0], np.float32)
    converted = pictures.to_uint8(image)
    assert converted.dtype == np.uint8
    assert converted.tolist() == [0, 0, 1, 1, 255, 255]


def test_to_uint8_gives_every_8_bit_value_back():
    values = np.arange(256, dtype=np.uint8)
    assert (pictures.to_uint8(values.astype(np.float32) / 255) == values).all()


def test_every_id_gets_its_colour_and_ignored_pixels_are_told_from_black():
    coloured = pictures.colour_labels(LABELS, PALETTE)
    assert coloured.shape == (2, 2, 3)
    assert coloured.dtype == np.uint8
    assert [tuple(c) for c in coloured.reshape(-1, 3).tolist()] == [*PALETTE, pictures.IGNORE_COLOUR]
    assert pictures.IGNORE_COLOUR not in PALETTE


def test_an_id_without_a_colour_is_an_error_that_names_it():
    with pytest.raises(OptionError, match=r"class id 7.*3 colours"):
        pictures.colour_labels(np.array([[7]], np.uint8), PALETTE)


def test_labels_of_ignored_pixels_alone_can_be_painted():
    only_ignored = np.full((1, 1), IGNORE_INDEX, np.uint8)
    assert tuple(pictures.colour_labels(only_ignored, PALETTE)[0, 0]) == pictures.IGNORE_COLOUR


def test_overlay_mixes_by_hand():
    visible = np.full((2, 2, 3), 100, np.uint8)
    mixed = pictures.overlay(visible, None, LABELS, PALETTE, opacity=0.25)
    # 0.75 * 100 + 0.25 * (200, 10, 20) = (125, 77.5, 80)
    assert np.abs(mixed[0, 1].astype(float) - (125, 77.5, 80)).max() <= 0.5
    assert mixed[1, 1].tolist() == [100, 100, 100], "an ignored pixel shows the image"


def test_overlay_prefers_visible_and_falls_back_to_infrared():
    visible, infrared = np.full((2, 2, 3), 90, np.uint8), np.full((2, 2), 30, np.uint8)
    assert (pictures.overlay(visible, infrared, LABELS, PALETTE, opacity=0) == 90).all()
    assert (pictures.overlay(None, infrared, LABELS, PALETTE, opacity=0) == 30).all()
    opaque = pictures.overlay(None, infrared, LABELS, PALETTE, opacity=1)
    assert opaque[0, 1].tolist() == list(PALETTE[1])


def test_bare_classes_show_the_image_as_ignored_pixels_do():
    visible = np.full((2, 2, 3), 90, np.uint8)
    covered = pictures.overlay(visible, None, LABELS, PALETTE, bare=[1])
    assert covered[0, 1].tolist() == covered[1, 1].tolist() == [90, 90, 90]
    assert covered[0, 0].tolist() == [45, 45, 45]


def test_a_class_drawn_black_is_background_and_is_not_darkened():
    visible = np.full((2, 2, 3), 90, np.uint8)
    covered = pictures.overlay(visible, None, LABELS, PALETTE)
    assert covered[0, 0].tolist() == [90, 90, 90]
    assert covered[0, 1].tolist() != [90, 90, 90]


@pytest.mark.parametrize("number", [1, 24, 60])
def test_a_legend_has_every_colour_and_room_for_every_name(number):
    names = tuple(f"class {index} with a long name" for index in range(number))
    palette = tuple((index, 255 - index, 17) for index in range(number))
    legend = np.asarray(pictures.legend(Classes(names, palette)))
    there = {tuple(colour) for colour in legend.reshape(-1, 3).tolist()}
    assert {*palette, pictures.IGNORE_COLOUR} <= there
    assert (legend[:, -1] == 255).all()
    assert (legend[-1] == 255).all()


def test_ignored_pixels_have_one_colour_in_pictures_and_in_files(tmp_path):
    write_label(tmp_path / "label.png", LABELS, PALETTE)
    stored = np.asarray(Image.open(tmp_path / "label.png").convert("RGB"))
    np.testing.assert_array_equal(stored, pictures.colour_labels(LABELS, PALETTE))


def test_overlay_refuses_what_it_cannot_draw():
    with pytest.raises(OptionError, match="pass visible or infrared"):
        pictures.overlay(None, None, LABELS, PALETTE)
    with pytest.raises(OptionError, match=r"\(2, 2\) and \(3, 2\)"):
        pictures.overlay(None, np.zeros((3, 2), np.uint8), LABELS, PALETTE)
    with pytest.raises(OptionError, match="between 0 and 1"):
        pictures.overlay(None, np.zeros((2, 2), np.uint8), LABELS, PALETTE, opacity=50)


def test_error_map_is_red_exactly_where_a_counted_pixel_is_wrong():
    prediction = np.array([[0, 2, 1]], np.uint8)
    truth = np.array([[0, 1, IGNORE_INDEX]], np.uint8)
    colours = [tuple(c) for c in pictures.error_map(prediction, truth)[0].tolist()]
    assert colours == [pictures.RIGHT_COLOUR, pictures.WRONG_COLOUR, pictures.IGNORE_COLOUR]
    with pytest.raises(OptionError, match="same height and width"):
        pictures.error_map(prediction, truth[:, :2])


def test_a_stretched_picture_uses_the_whole_range_with_one_factor_for_all_channels() -> None:
    picture = np.array([[[50, 100, 150], [60, 60, 60]]], np.uint8)
    expected = np.array([[[0, 128, 255], [26, 26, 26]]], np.uint8)
    np.testing.assert_array_equal(pictures.stretched(picture), expected)
    flat = np.full((2, 3, 3), 7, np.uint8)
    np.testing.assert_array_equal(pictures.stretched(flat), flat)


def test_the_pictures_of_a_pair_are_those_that_it_has() -> None:
    visible = np.full((2, 3, 3), 0.5, np.float32)
    label = np.array([[0, 1, 255], [1, 0, 0]], np.uint8)
    palette = ((1, 2, 3), (4, 5, 6))
    shown, infrared, coloured = pictures.pair_pictures(Pair("a", visible, None, label), palette)
    np.testing.assert_array_equal(shown, np.full((2, 3, 3), 128, np.uint8))
    assert infrared is None
    np.testing.assert_array_equal(coloured, pictures.colour_labels(label, palette))
