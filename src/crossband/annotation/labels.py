"""Classes as annotation tools take them: labels with names and colours that no two share."""

from __future__ import annotations

from dataclasses import dataclass

from crossband.colour_vision import distinct_colours
from crossband.errors import OptionError
from crossband.pairs.base import IGNORE_COLOUR, Classes
from crossband.words import IGNORE_INDEX

_BLACK = (0, 0, 0)
IGNORED = "ignored"


@dataclass(frozen=True)
class ToolLabel:
    """A label of a tool. id: of the class, or ``IGNORE_INDEX``. colour: sRGB, 0..255."""

    id: int
    name: str
    colour: tuple[int, int, int]

    @property
    def hex(self) -> str:
        """The colour as tools write it: ``#rrggbb``."""
        return "#{:02x}{:02x}{:02x}".format(*self.colour)


def tool_labels(classes: Classes) -> tuple[ToolLabel, ...]:
    """One label for each class, and the last for ignored pixels.

    Tools paint black what nobody labelled, and CVAT calls that "background": no label is black or is called
    so. Names have none of the characters that a tool parts its fields by, and colours differ. Raises
    OptionError for names that cannot be told apart then.
    """
    taken = {_BLACK, IGNORE_COLOUR}
    colours: list[tuple[int, int, int]] = []
    for colour in classes.palette:
        if colour in taken:
            others = taken | set(classes.palette)
            colour = next(one for one in distinct_colours(1, tuple(sorted(others))))
        taken.add(colour)
        colours.append(colour)
    names = [_plain(name) for name in classes.names]
    if len({name.casefold() for name in names}) < len(names):
        raise OptionError("two classes have names that annotation tools do not tell apart; rename one")
    labels = [ToolLabel(*one) for one in zip(range(len(names)), names, colours, strict=True)]
    return (*labels, ToolLabel(IGNORE_INDEX, IGNORED, IGNORE_COLOUR))


def _plain(name: str) -> str:
    plain = " ".join("".join(" " if mark in ":,;#\"'<>&/\\" else mark for mark in name).split())
    if plain.casefold() in ("", "background", IGNORED):
        return f"{plain} class".strip()
    return plain
