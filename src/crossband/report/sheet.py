"""A sheet of pairs to look at: do the bands match, do the labels lie on them, are the classes right?"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from crossband.display import Display
from crossband.errors import OptionError
from crossband.pairs.base import IGNORE_COLOUR, Pair, Pairs
from crossband.pairs.infrared_scaling import InfraredScaling
from crossband.pictures import Palette, colour_labels, overlay, to_uint8
from crossband.words import IGNORE_INDEX

_CELL = 320
"""Longest side of one picture on the sheet, in pixels."""
_GAP = 8
_LINE = 20
_INK, _PAPER, _FAINT = (20, 20, 20), (255, 255, 255), (120, 120, 120)


def contact_sheet(pairs: Pairs, count: int, *, seed: int = 0, display: Display | None = None) -> Image.Image:
    """Draw rows of visible | infrared | label | overlay with the pairs' names and a legend of the classes.

    count: rows, one pair from each of ``count`` equal stretches of the list, drawn by ``seed``; all pairs if
    there are fewer. A band that the pairs do not have, and labels, leave out their columns. display: how
    infrared is shown (None: as it was scaled), with a bar of its values.

    Returns an RGB picture. Raises OptionError if count is below 1 or seed below 0, PairError if a chosen pair
    is unusable.
    """
    if count < 1:
        raise OptionError(f"a contact sheet needs at least one pair, not {count}")
    if seed < 0:
        raise OptionError(f"the seed must be 0 or more, not {seed}")
    columns = [*pairs.bands, *(["label", "overlay"] if pairs.classes is not None else [])]
    palette = pairs.classes.palette if pairs.classes is not None else ()
    chosen = [pairs[index] for index in _choose(len(pairs), count, seed)]
    rows = [_pictures(pair, columns, palette, pairs.scaling, display) for pair in chosen]
    heights = [max(picture.height for picture in row) for row in rows]
    width = _GAP + len(columns) * (_CELL + _GAP)
    seen = sorted(
        {int(value) for pair in chosen if pair.label is not None for value in np.unique(pair.label)}
    )
    entries = _legend_entries(pairs, seen)
    legend_rows = _wrap_legend(entries, width)
    top = _LINE + 2 * _GAP
    height = top + sum(_LINE + row_height + _GAP for row_height in heights) + len(legend_rows) * _LINE + _GAP
    sheet = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((_GAP, _GAP), _fit(f"{pairs.source}  {pairs.split}", width - 2 * _GAP), _INK, font=_font())
    for pair, row, row_height in zip(chosen, rows, heights, strict=True):
        condition = f"  {pair.condition}" if pair.condition else ""
        title = f"{pair.name}{condition}  {pair.size[0]} x {pair.size[1]}"
        for column, (heading, picture) in enumerate(zip(columns, row, strict=True)):
            left = _GAP + column * (_CELL + _GAP)
            text = f"{heading}: {title}" if column == 0 else heading
            draw.text((left, top), _fit(text, _CELL), _INK if column == 0 else _FAINT, font=_font())
            sheet.paste(picture, (left, top + _LINE))
        top += _LINE + row_height + _GAP
    for line in legend_rows:
        for left, name, colour in line:
            draw.rectangle((left, top + 3, left + 12, top + 15), fill=colour, outline=_FAINT)
            draw.text((left + 18, top), name, _INK, font=_font())
        top += _LINE
    return sheet


def _choose(length: int, count: int, seed: int) -> list[int]:
    if count >= length:
        return list(range(length))
    edges = np.linspace(0, length, count + 1).astype(int)
    return [int(index) for index in np.random.default_rng(seed).integers(edges[:-1], edges[1:])]


def _pictures(
    pair: Pair, columns: list[str], palette: Palette, scaling: InfraredScaling, display: Display | None
) -> list[Image.Image]:
    size = _fitted(pair.size)
    pictures = {}
    if pair.visible is not None:
        pictures["visible"] = _shown(pair.visible, size)
    if pair.infrared is not None:
        pictures["infrared"] = _shown(pair.infrared if display is None else display(pair.infrared), size)
    if pair.label is not None and "label" in columns:
        # Nearest neighbour before colouring: a mean of colours shows classes that are not there.
        label = np.asarray(Image.fromarray(pair.label).resize(size, Image.Resampling.NEAREST))
        pictures["label"] = Image.fromarray(colour_labels(label, palette))
        base = pictures["visible"] if "visible" in pictures else pictures["infrared"]
        pictures["overlay"] = Image.fromarray(overlay(np.asarray(base), None, label, palette))
    if display is not None and "infrared" in pictures:
        pictures["infrared"] = Image.fromarray(display.with_bar(np.asarray(pictures["infrared"]), scaling))
    nothing = Image.new("RGB", size, _PAPER)
    return [pictures.get(column, nothing) for column in columns]


def _fitted(size: tuple[int, int]) -> tuple[int, int]:
    """(width, height) with the longer side as long as a cell."""
    height, width = size
    scale = _CELL / max(height, width)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _shown(image: np.ndarray, size: tuple[int, int]) -> Image.Image:
    picture = image if image.dtype == np.uint8 else to_uint8(image)
    return Image.fromarray(picture).convert("RGB").resize(size, Image.Resampling.BICUBIC)


def _legend_entries(pairs: Pairs, seen: list[int]) -> list[tuple[str, tuple[int, int, int]]]:
    if pairs.classes is None:
        return []
    entries = [
        (name if index in seen else f"{name} (not here)", colour)
        for index, (name, colour) in enumerate(zip(pairs.classes.names, pairs.classes.palette, strict=True))
        if index not in pairs.classes.ignore
    ]
    return [*entries, ("ignored", IGNORE_COLOUR)] if IGNORE_INDEX in seen else entries


def _wrap_legend(
    entries: list[tuple[str, tuple[int, int, int]]], width: int
) -> list[list[tuple[int, str, tuple[int, int, int]]]]:
    """Lines of (left edge, name, colour) that fit into the sheet's width."""
    lines: list[list[tuple[int, str, tuple[int, int, int]]]] = []
    left = width
    for name, colour in entries:
        needed = 18 + round(_font().getlength(name)) + 2 * _GAP
        if left + needed > width:
            lines.append([])
            left = _GAP
        lines[-1].append((left, name, colour))
        left += needed
    return lines


def _fit(text: str, width: int) -> str:
    """The text, its middle left out where it is too long."""
    if _font().getlength(text) <= width:
        return text
    kept = len(text) - 1
    while kept > 2 and _font().getlength(f"{text[: kept // 2]}…{text[-kept // 2 :]}") > width:
        kept -= 1
    return f"{text[: kept // 2]}…{text[-kept // 2 :]}"


def _font() -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(size=13)
