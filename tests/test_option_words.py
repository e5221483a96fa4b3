"""What options mean is read from where they are declared."""

from __future__ import annotations

from dataclasses import fields

import pytest

from crossband.option_words import option_words
from crossband.systems.registry import list_systems, system_class


class Brush:
    """A brush.

    width: of the hairs, in mm. Raises ValueError for 0.
    """


def paint(colour: str, coats: int = 1) -> None:
    """Paint a wall.

    colour: of the paint. coats: how many; each
    dries for a day.
    """


class Wall:
    """brush_width: see `Brush`; never 0. colour, coats: as in `paint`.
    height: of the wall: in metres. note (not an option): passed over.

    door: see `Nothing`. window: of
    glass; see `Brush` for more.
    """


NAMES = ["brush_width", "colour", "coats", "height", "door", "window", "roof"]


def test_every_entry_is_found_and_pointers_are_followed() -> None:
    assert option_words(Wall, NAMES) == {
        "brush_width": "of the hairs, in mm; never 0",
        "colour": "of the paint",
        "coats": "how many; each dries for a day",
        "height": "of the wall: in metres. note (not an option): passed over",
        "door": "see `Nothing`",
        "window": "of glass; see `Brush` for more",
    }


def test_names_that_are_no_options_begin_no_entry() -> None:
    assert option_words(Wall, ["height"]) == {
        "height": "of the wall: in metres. note (not an option): passed over"
    }
    assert option_words(Wall, ["wall"]) == {}


@pytest.mark.parametrize("name", list_systems())
def test_every_option_of_a_system_says_what_it_is(name: str) -> None:
    """In a sentence that stands for itself: `crossband info` shows each beside nothing but its name."""
    system = system_class(name)
    for owner in (system.built_from, system.training_class() if system.trained_by else None):
        names = [] if owner is None else [field.name for field in fields(owner)]
        told = option_words(owner, names)
        assert told.keys() == set(names)
        for option, words in told.items():
            assert len(words.split()) >= 4, option
            assert not words.startswith(("of ", "see ", "as in ", "the same")), option
