"""How infrared is shown to people: contrast and colours of pictures. What a system sees is never touched."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from crossband.errors import OptionError, quoted
from crossband.pairs.base import Pairs
from crossband.pairs.false_colour import PALETTES, palette
from crossband.pairs.infrared_scaling import InfraredScaling
from crossband.words import Contrast

GREY = "grey"
COLOURS = (GREY, *PALETTES)
"""What infrared can be painted in."""

_SAMPLE = 32
_DEPTH = 1 << 16
_BINS = 1024
_UPPER, _LOWER = 3.0, 0.05
"""The two plateaus, in counts of a flat histogram: the most contrast that common values get, three times that
of a straight line, and the least that is left for values that hardly occur."""
_TICKS = 5
_LEAST_HEIGHT, _LEAST_WIDTH = 80, 100
"""Pictures below this have no room for a bar."""


@dataclass(frozen=True)
class Display:
    """A tone curve and colours, the same for all images of a sequence.

    values: infrared values in [0, 1], rising. levels: the grey level of each, 0 to 255; straight lines lie
    between them. colours: one of ``COLOURS``.
    """

    values: np.ndarray
    levels: np.ndarray
    colours: str = GREY

    def __post_init__(self) -> None:
        if self.colours not in COLOURS:
            raise OptionError(f"there are no colours {quoted(self.colours)}; use {', '.join(COLOURS)}")

    def __str__(self) -> str:
        """The curve by its checksum, and the colours."""
        curve = hashlib.sha256(np.stack([self.values, self.levels]).tobytes())
        return f"curve {curve.hexdigest()[:16]} in {self.colours}"

    def grey(self, infrared: np.ndarray) -> np.ndarray:
        """Grey levels, uint8 (H, W), of an infrared image, float (H, W) in [0, 1]."""
        return np.rint(np.interp(infrared, self.values, self.levels)).astype(np.uint8)

    def __call__(self, infrared: np.ndarray) -> np.ndarray:
        """A picture, uint8 (H, W, 3), sRGB, of an infrared image, float (H, W) in [0, 1]."""
        return self._table()[self.grey(infrared)]

    def with_bar(self, picture: np.ndarray, scaling: InfraredScaling) -> np.ndarray:
        """A picture, uint8 (H, W, 3), with a bar on its right side that says which colour is which value.

        scaling: the rule that infrared was read by; under ``celsius`` the bar has degrees, under ``fixed``
        the file's units, else the share of what the rule spreads. Small pictures stay as they are.
        """
        height, width = picture.shape[:2]
        if height < _LEAST_HEIGHT or width < _LEAST_WIDTH:
            return picture
        image = Image.fromarray(picture)
        draw = ImageDraw.Draw(image)
        long, thick = height * 4 // 5, max(6, width // 40)
        top, left = (height - long) // 2, width - thick - 4
        strip = self._table()[np.linspace(255, 0, long).round().astype(int)]
        image.paste(Image.fromarray(np.repeat(strip[:, None], thick, axis=1)), (left, top))
        draw.rectangle((left - 1, top - 1, left + thick, top + long), outline=(255, 255, 255))
        font = ImageFont.load_default(size=max(10, min(20, height // 24)))
        for level in np.linspace(0, 255, _TICKS):
            text = _told(float(np.interp(level, self.levels, self.values)), scaling)
            place = (left - 5, top + long * (1 - level / 255))
            draw.text(
                place, text, (255, 255, 255), font=font, anchor="rm", stroke_width=1, stroke_fill=(0, 0, 0)
            )
        return np.asarray(image)

    def _table(self) -> np.ndarray:
        """The colour of each grey level: uint8 (256, 3)."""
        if self.colours == GREY:
            return np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
        return palette(self.colours)


def make_display(contrast: Contrast, colours: str, infrared: Iterable[np.ndarray]) -> Display:
    """The display of a sequence.

    contrast: "linear" shows [0, 1] as it is; "agc" fits a curve to a sample of the sequence (`equalised`),
    one for all of it, so that a thing of one temperature keeps its grey whatever passes beside it. infrared:
    that sample, float (H, W) in [0, 1] each; not looked at for "linear".

    Raises OptionError for unknown colours.
    """
    if contrast == "agc":
        return equalised(infrared, colours)
    return Display(np.array([0.0, 1.0]), np.array([0.0, 255.0]), colours)


def display_of(pairs: Pairs, contrast: Contrast, colours: str = GREY) -> Display:
    """`make_display` for a list of pairs, of which 32 are looked at, evenly spaced."""
    return make_display(contrast, colours, sampled(len(pairs), lambda index: pairs[index].infrared))


def sampled(count: int, read: Callable[[int], np.ndarray | None]) -> Iterable[np.ndarray]:
    """The infrared images of 32 indices below count, evenly spaced, as far as there are any."""
    chosen = np.unique(np.linspace(0, max(count - 1, 0), min(_SAMPLE, count)).round().astype(int))
    images = (read(index) for index in chosen.tolist())
    return (image for image in images if image is not None)


def equalised(infrared: Iterable[np.ndarray], colours: str = GREY) -> Display:
    """Plateau histogram equalisation: contrast goes to the values that occur, but never too much to any.

    infrared: float (H, W) in [0, 1] each. Their values fall into 1024 bins between the smallest and the
    largest; the counts are cut at a plateau, raised to a lower one, and added up.

    Source: V. E. Vickers, "Plateau equalization algorithm for real-time display of high-quality infrared
    imagery", Optical Engineering 35(7), 1996; the lower plateau: K. Liang et al., "A new adaptive contrast
    enhancement algorithm for infrared images based on double plateaus histogram equalization", Infrared
    Physics & Technology 55, 2012.
    """
    counts = np.zeros(_DEPTH)
    for image in infrared:
        levels = np.rint(np.clip(image, 0, 1) * (_DEPTH - 1)).astype(np.int64)
        counts += np.bincount(levels.ravel(), minlength=_DEPTH)
    occurring = np.flatnonzero(counts)
    if len(occurring) < 2:
        return Display(np.array([0.0, 1.0]), np.array([0.0, 255.0]), colours)
    low, high = int(occurring[0]), int(occurring[-1])
    bins = min(_BINS, high - low)
    histogram, edges = np.histogram(
        np.arange(low, high + 1), bins, range=(low, high), weights=counts[low : high + 1]
    )
    flat = counts.sum() / bins
    summed = np.concatenate([[0.0], np.cumsum(np.clip(histogram, _LOWER * flat, _UPPER * flat))])
    return Display(edges / (_DEPTH - 1), summed * (255 / summed[-1]), colours)


def _told(value: float, scaling: InfraredScaling) -> str:
    """A value in [0, 1] in the unit that a rule knows."""
    if scaling.limits is None or scaling.rule == "percentile":
        return f"{value:.2f}"
    low, high = scaling.limits
    stored = low + value * (high - low)
    digits = 1 if high - low < 20 else 0
    return f"{stored:.{digits}f} °C" if scaling.rule == "celsius" else f"{stored:.5g}"
