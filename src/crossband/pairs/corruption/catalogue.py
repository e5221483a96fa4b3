"""The corruptions by name: each is one declaration, and every list, table and picture follows from it."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from crossband.errors import OptionError, did_you_mean, quoted
from crossband.pairs.base import Pair, Pairs, PairView
from crossband.pairs.corruption import infrared, registration, visible
from crossband.words import Band

SEVERITIES = (1, 2, 3, 4, 5)
Levels = tuple[float, float, float, float, float]
BandChange = Callable[[np.ndarray, float, np.random.Generator], np.ndarray]
Earlier = Callable[[int, int], int]
"""From a pair's place and the level to the place of the pair whose band it shows."""


@dataclass(frozen=True)
class Corruption:
    """One thing that goes wrong, in five severities.

    kind: what breaks: one camera, or what lies between the two ("pair").
    meaning: what it is, in words, and what its levels are.
    levels: the number that each severity stands for, as the change takes it.
    change: from an image, the level and a generator to an image, or the pair that the band comes from.
    held_out: never used in training, so that tests see what no training has seen.
    """

    name: str
    kind: Literal["visible", "infrared", "pair"]
    meaning: str
    levels: Levels
    change: BandChange | None = None
    earlier: Earlier | None = None
    held_out: bool = False

    @property
    def band(self) -> Band:
        """The band whose image changes; of a "pair" it is infrared, as labels are drawn on visible images."""
        return "visible" if self.kind == "visible" else "infrared"

    def apply(
        self,
        pair: Pair,
        severity: int,
        rng: np.random.Generator,
        among: tuple[Pairs, int] | None = None,
    ) -> Pair:
        """The pair with this corruption; the label stays. A pair without the band is given back.

        Images are rounded to 16 bits. Every machine computes the same ones, if Pillow uses libjpeg-turbo.
        among: the pairs and the place of this one, needed where the band comes from another pair.
        Raises OptionError for a severity not in 1..5.
        """
        if severity not in SEVERITIES:
            raise OptionError(f"a severity is one of {', '.join(map(str, SEVERITIES))}, not {severity}")
        image = pair.visible if self.band == "visible" else pair.infrared
        if image is None:
            return pair
        level = self.levels[severity - 1]
        changed = image
        if self.change is not None:
            changed = self.change(image, level, rng)
        elif self.earlier is not None:
            if among is None:
                raise OptionError(f"{self.name} takes the band of another pair: give the pairs it is among")
            pairs, place = among
            other = pairs[self.earlier(place, round(level))]
            found = other.visible if self.band == "visible" else other.infrared
            # A pair of another size is of another camera: nothing is taken from it.
            changed = found if found is not None and found.shape == image.shape else image
        # Black comes out of a filter as 0 or as -0, by chance: adding 0 leaves 0 alone.
        steps = np.rint(np.clip(changed, 0, 1) * 65535.0) + 0.0
        rounded = (steps / 65535.0).astype(np.float32)
        return replace(pair, visible=rounded) if self.band == "visible" else replace(pair, infrared=rounded)


def _frozen(place: int, frames: int) -> int:
    """The first of every frames + 1 pairs is shown until the next is."""
    return place - place % (frames + 1)


def _late(place: int, frames: int) -> int:
    return max(0, place - frames)


CORRUPTIONS: Mapping[str, Corruption] = {
    corruption.name: corruption
    for corruption in (
        Corruption(
            "low-light",
            "visible",
            "a part of the light, with the sensor's noise (stops taken away)",
            (2, 3, 4, 5, 6.5),
            visible.low_light,
        ),
        Corruption(
            "over-exposure",
            "visible",
            "more light than the sensor holds (stops added)",
            (0.7, 1.4, 2.1, 3, 4),
            visible.over_exposure,
        ),
        Corruption(
            "glare",
            "visible",
            "a light that shines into the lens (its strength, in units of white)",
            (0.1, 0.2, 0.4, 0.7, 1.1),
            visible.glare,
            held_out=True,
        ),
        Corruption(
            "fog",
            "visible",
            "air light over the scene (optical depth at the top of the picture)",
            (0.5, 0.9, 1.5, 2.4, 3.8),
            visible.fog,
            held_out=True,
        ),
        Corruption(
            "rain",
            "visible",
            "falling streaks (drops a pixel)",
            (0.003, 0.007, 0.014, 0.025, 0.04),
            visible.rain,
        ),
        Corruption(
            "motion-blur",
            "visible",
            "the camera moved (length, of the height)",
            (0.01, 0.02, 0.035, 0.055, 0.08),
            visible.motion_blur,
        ),
        Corruption(
            "defocus",
            "visible",
            "out of focus (radius, of the height)",
            (0.005, 0.01, 0.016, 0.024, 0.034),
            visible.defocus,
            held_out=True,
        ),
        Corruption("jpeg", "visible", "compressed (quality)", (40, 25, 15, 9, 5), visible.jpeg),
        Corruption(
            "colour-cast",
            "visible",
            "a wrong white balance (stops between red and blue, halved)",
            (0.3, 0.6, 0.9, 1.3, 1.8),
            visible.colour_cast,
        ),
        Corruption(
            "dirt",
            "visible",
            "mud on the lens (share covered)",
            (0.05, 0.12, 0.22, 0.35, 0.5),
            visible.dirt,
            held_out=True,
        ),
        Corruption(
            "contrast-collapse",
            "infrared",
            "thermal crossover: all is of one temperature (contrast left)",
            (0.6, 0.4, 0.25, 0.12, 0.05),
            infrared.contrast_collapse,
        ),
        Corruption(
            "saturation",
            "infrared",
            "all that is warm is white (gain)",
            (1.4, 1.8, 2.5, 3.5, 5),
            infrared.saturation,
            held_out=True,
        ),
        Corruption(
            "fixed-pattern",
            "infrared",
            "a stale correction of the sensor's elements (deviation of gain and offset)",
            (0.02, 0.04, 0.08, 0.14, 0.22),
            infrared.fixed_pattern,
        ),
        Corruption(
            "column-noise",
            "infrared",
            "vertical stripes (deviation)",
            (0.02, 0.04, 0.08, 0.14, 0.22),
            infrared.column_noise,
            held_out=True,
        ),
        Corruption(
            "dead-pixels",
            "infrared",
            "elements that are black or white (share)",
            (0.005, 0.02, 0.05, 0.1, 0.2),
            infrared.dead_pixels,
        ),
        Corruption(
            "dead-rows",
            "infrared",
            "rows that are black (share)",
            (0.02, 0.05, 0.1, 0.2, 0.35),
            infrared.dead_rows,
        ),
        Corruption(
            "frozen",
            "infrared",
            "a picture stays while the sensor corrects itself (pairs that miss theirs)",
            (1, 2, 3, 5, 8),
            earlier=_frozen,
            held_out=True,
        ),
        Corruption(
            "blur",
            "infrared",
            "out of focus (radius, of the height)",
            (0.005, 0.01, 0.016, 0.024, 0.034),
            infrared.blur,
        ),
        Corruption(
            "halo",
            "infrared",
            "dark rims around hot things (strength)",
            (0.3, 0.5, 0.8, 1.2, 1.8),
            infrared.halo,
            held_out=True,
        ),
        Corruption(
            "shift",
            "pair",
            "moved against each other (of the height)",
            (0.004, 0.01, 0.02, 0.035, 0.06),
            registration.shift,
        ),
        Corruption(
            "homography",
            "pair",
            "a wrong calibration (reach of the corners, of the sides)",
            (0.005, 0.012, 0.025, 0.04, 0.06),
            registration.homography,
            held_out=True,
        ),
        Corruption(
            "frame-lag",
            "pair",
            "infrared is of an earlier moment (pairs)",
            (1, 2, 3, 5, 8),
            earlier=_late,
            held_out=True,
        ),
        Corruption(
            "scale",
            "pair",
            "enlarged against each other (share)",
            (0.01, 0.02, 0.04, 0.07, 0.1),
            registration.scale,
        ),
    )
}
"""By name, in the order of every table."""


def find_corruption(name: str) -> Corruption:
    """The corruption of a name. Raises OptionError if there is none."""
    if name not in CORRUPTIONS:
        raise OptionError(
            f"there is no corruption {quoted(name)}; there are {', '.join(CORRUPTIONS)}"
            f"{did_you_mean(name, CORRUPTIONS)}"
        )
    return CORRUPTIONS[name]


class CorruptedPairs(PairView):
    """A list of pairs, each changed by ``corrupt`` when it is read; labels stay true.

    corrupt: a function of the pair and a generator that depends on ``seed`` and the pair's place alone, so
        that every reading gives the same pair.
    """

    def __init__(self, pairs: Pairs, corrupt: Callable[[Pair, np.random.Generator], Pair], *, seed: int = 0):
        super().__init__(pairs)
        self.corrupt = corrupt
        self.seed = seed

    def __getitem__(self, index: int) -> Pair:
        return self.corrupt(super().__getitem__(index), np.random.default_rng([self.seed, index]))


class NamedCorruption(PairView):
    """A list of pairs under one of `CORRUPTIONS` at one severity; labels stay true.

    What is drawn follows from the seed, the corruption and the pair's name: the same pair is broken in the
    same way in every list, on every machine, by any number of workers, and a higher severity breaks it more.
    """

    def __init__(self, pairs: Pairs, name: str, severity: int, *, seed: int = 0):
        super().__init__(pairs)
        self.corruption = find_corruption(name)
        self.severity = severity
        self.seed = seed

    def __getitem__(self, index: int) -> Pair:
        pair = super().__getitem__(index)
        key = zlib.crc32(f"{self.corruption.name}/{pair.name}".encode())
        return self.corruption.apply(
            pair, self.severity, np.random.default_rng([self.seed, key]), (self.pairs, index)
        )
