"""Labels and bands as pictures to look at: uint8 in, uint8 out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from crossband.errors import OptionError
from crossband.pairs.base import IGNORE_COLOUR, Classes, Pair
from crossband.words import IGNORE_INDEX

Palette = Sequence[tuple[int, int, int]]

RIGHT_COLOUR = (158, 158, 158)
WRONG_COLOUR = (220, 38, 38)
AGREEMENT_COLOURS = (RIGHT_COLOUR, (59, 125, 216), (217, 119, 43), (40, 40, 40), IGNORE_COLOUR)
"""Of `agreement_map`: both right, only the first, only the second, both wrong, no truth."""

LEGEND_NAME = "legend.png"
"""Of `legend` as a file, beside labels or pairs."""
_LEGEND_LINE = 20
"""Height of a line of a legend, in pixels."""
_LEGEND_ROWS = 24


def to_uint8(image: np.ndarray) -> np.ndarray:
    """An image of floats in [0, 1], of any shape, rounded to uint8 0..255; values outside are clipped."""
    return np.rint(np.clip(image, 0.0, 1.0) * 255).astype(np.uint8)


def stretched(picture: np.ndarray, seen: np.ndarray | None = None) -> np.ndarray:
    """A uint8 picture whose smallest and largest value, over all channels together, become 0 and 255.

    One factor for all channels keeps the colours' proportions. A constant picture stays as it is.
    seen: bool (H, W), the pixels whose values count in a picture (H, W, C); the others are clipped. None
        counts all of them.
    """
    counted = picture if seen is None else picture[seen]
    if counted.size == 0 or (low := int(counted.min())) == (high := int(counted.max())):
        return picture
    return to_uint8((picture.astype(np.float32) - low) / (high - low))


def colour_labels(labels: np.ndarray, palette: Palette) -> np.ndarray:
    """Paint every class id in its colour.

    labels: uint8 (H, W). Gives uint8 (H, W, 3), sRGB; pixels of ``IGNORE_INDEX`` have ``IGNORE_COLOUR``.
    Raises OptionError for an id that has no colour.
    """
    colours = np.zeros((256, 3), np.uint8)
    colours[: len(palette)] = palette
    colours[IGNORE_INDEX] = IGNORE_COLOUR
    highest = labels.max(where=labels != IGNORE_INDEX, initial=0)
    if labels.size and highest >= len(palette):
        raise OptionError(
            f"the labels hold class id {highest}, but the palette has {len(palette)} colours: "
            "pass the palette of the classes that the labels were made with"
        )
    return colours[labels]


def class_shares(labels: np.ndarray) -> list[tuple[int, float]]:
    """The classes that occur and the share of the area that each has, the largest first; ignored pixels last.

    labels: uint8 (H, W). Shares are in [0, 1] and add up to 1, with ``IGNORE_INDEX`` counted as a class.
    """
    counts = np.bincount(labels.ravel(), minlength=IGNORE_INDEX + 1)
    order = sorted(np.flatnonzero(counts).tolist(), key=lambda one: (one == IGNORE_INDEX, -counts[one]))
    return [(one, float(counts[one] / labels.size)) for one in order]


def pair_pictures(pair: Pair, palette: Palette) -> list[np.ndarray | None]:
    """Visible image, infrared image and coloured label of a pair, as uint8; None for what it lacks."""
    return [
        None if pair.visible is None else to_uint8(pair.visible),
        None if pair.infrared is None else to_uint8(pair.infrared),
        None if pair.label is None else colour_labels(pair.label, palette),
    ]


def legend(classes: Classes) -> Image.Image:
    """The names of the classes beside their colours, in columns of at most 24, and ignored pixels at the end.

    Gives an RGB picture, as wide and high as the names need.
    """
    entries = [*zip(classes.names, classes.palette, strict=True), ("ignored", IGNORE_COLOUR)]
    font = ImageFont.load_default(size=_LEGEND_LINE - 6)
    columns = [entries[start : start + _LEGEND_ROWS] for start in range(0, len(entries), _LEGEND_ROWS)]
    widths = [2 * _LEGEND_LINE + round(max(font.getlength(name) for name, _ in column)) for column in columns]
    rows = min(len(entries), _LEGEND_ROWS)
    picture = Image.new("RGB", (sum(widths) + 8, rows * _LEGEND_LINE + 8), (255, 255, 255))
    draw = ImageDraw.Draw(picture)
    left = 8
    for column, width in zip(columns, widths, strict=True):
        for row, (name, colour) in enumerate(column):
            top = 4 + row * _LEGEND_LINE
            square = (left, top + 3, left + _LEGEND_LINE - 6, top + _LEGEND_LINE - 3)
            draw.rectangle(square, fill=colour, outline=(120, 120, 120))
            draw.text((left + _LEGEND_LINE, top + 2), name, (20, 20, 20), font=font)
        left += width
    return picture


def overlay(
    visible: np.ndarray | None,
    infrared: np.ndarray | None,
    labels: np.ndarray,
    palette: Palette,
    opacity: float = 0.5,
    *,
    bare: Sequence[int] | None = None,
) -> np.ndarray:
    """Lay the colours of the labels over the visible image, or over the infrared one where there is none.

    visible: uint8 (H, W, 3) or None. infrared: uint8 (H, W) or None. labels: uint8 (H, W).
    opacity: 0 shows only the image, 1 only the colours.
    bare: ids of classes that show the image as it is, as ignored pixels always do. None takes those whose
        colour is black: they are background, which a tint would only darken.
    Gives uint8 (H, W, 3), sRGB. Raises OptionError if both bands are None, if the sizes differ, or if
    opacity is not in [0, 1].
    """
    if not 0 <= opacity <= 1:
        raise OptionError(f"the opacity of an overlay must lie between 0 and 1, not {opacity}")
    if visible is not None:
        base = visible
    elif infrared is not None:
        base = np.repeat(infrared[..., None], 3, axis=2)
    else:
        raise OptionError("an overlay needs an image below it: pass visible or infrared")
    _check_same_size("the labels", labels, "the image", base)
    mixed = Image.blend(Image.fromarray(base), Image.fromarray(colour_labels(labels, palette)), opacity)
    if bare is None:
        bare = [index for index, colour in enumerate(palette) if not any(colour)]
    uncovered = np.isin(labels, [IGNORE_INDEX, *bare])
    return np.where(uncovered[..., None], base, np.asarray(mixed))


def error_map(labels: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Show where a prediction is wrong.

    labels, truth: uint8 (H, W). Gives uint8 (H, W, 3), sRGB: red where they differ, light grey where they
    agree, ``IGNORE_COLOUR`` where the truth is ``IGNORE_INDEX``. Raises OptionError if the sizes differ.
    """
    _check_same_size("the labels", labels, "the truth", truth)
    colours = np.array([RIGHT_COLOUR, WRONG_COLOUR, IGNORE_COLOUR], np.uint8)
    return colours[np.where(truth == IGNORE_INDEX, 2, labels != truth)]


def agreement_map(first: np.ndarray, second: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Show which of two predictions is right where, in `AGREEMENT_COLOURS`.

    first, second, truth: uint8 (H, W). Gives uint8 (H, W, 3), sRGB. Raises OptionError if the sizes differ.
    """
    for name, labels in (("the first labels", first), ("the second labels", second)):
        _check_same_size(name, labels, "the truth", truth)
    which = (first != truth) * 2 + (second != truth)
    # both right 0, only the first right 1, only the second right 2, both wrong 3
    return np.array(AGREEMENT_COLOURS, np.uint8)[np.where(truth == IGNORE_INDEX, 4, which)]


def _check_same_size(name: str, image: np.ndarray, other_name: str, other: np.ndarray) -> None:
    if image.shape[:2] != other.shape[:2]:
        raise OptionError(
            f"{name} and {other_name} must have the same height and width, "
            f"but are {image.shape[:2]} and {other.shape[:2]}"
        )
