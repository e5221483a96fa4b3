"""What a set of pairs stores, in a few numbers: kept in a run's card, and held against what comes later."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from crossband.errors import PairError
from crossband.option_types import check_types, types_of
from crossband.pairs.base import PairFiles, Pairs
from crossband.pairs.false_colour import (
    EQUAL_WITHIN,
    MEAN,
    PALETTES,
    channel_spread,
    infrared_channel,
    is_coloured,
    recognise,
)
from crossband.pairs.reading import stored_levels
from crossband.words import Band

SAMPLE = 32
"""How many pairs are looked at, evenly spaced over all."""

_VALUES = 1 << 14
"""About how many pixels of an image are looked at, on an even grid. Whether it is constant is told by all."""

_LOW, _HIGH = 0.1, 99.9
"""Percentiles, so that a few dead pixels do not count, and small warm things do."""

_THREADS = 4

Channels = Literal["one", "three equal", "colour"]
UNKNOWN = "unknown"
"""Stands for a palette in `BandSummary.palettes` where the colours are those of none."""


@dataclass(frozen=True)
class BandSummary:
    """What one band of some pairs stores. The values of infrared are those that its scaling rule meets.

    images: how many were looked at. types: NumPy's names of the stored types, with the number of images.
    channels: "one", "three equal" (within 2 grey levels of 255) or "colour", with the number of images.
    low, high: percentiles 0.1 and 99.9 of all pixels together, over the images of the commonest type, in
        stored units. In integers of more than 8 bits, 0 and the largest value count as no measurement.
    constant: names of the pairs whose image holds one value only.
    palettes: images in false colours by palette, or ``UNKNOWN``. A visible image counts only if its palette
        is known: other colours are what visible images have.
    """

    images: int
    types: dict[str, int]
    channels: dict[str, int]
    low: float
    high: float
    constant: tuple[str, ...] = ()
    palettes: dict[str, int] | None = None

    @property
    def type(self) -> str:
        """The commonest type."""
        return max(self.types, key=self.types.__getitem__)

    @property
    def used(self) -> float | None:
        """The share of the type's range between low and high; None where ``full-range`` knows no range."""
        full = {"uint8": 255, "uint16": 65535}.get(self.type)
        return None if full is None else (self.high - self.low) / full

    @property
    def false_coloured(self) -> int:
        """The number of images in false colours."""
        return sum((self.palettes or {}).values())


@dataclass(frozen=True)
class PairsSummary:
    """What some pairs store; a band that none of them has, or that could not be read, is None."""

    visible: BandSummary | None
    infrared: BandSummary | None

    def to_dict(self) -> dict[str, Any]:
        """The summary as values that JSON can hold."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> PairsSummary:
        """The summary of `to_dict`. Raises OptionError if it is none."""
        outer = check_types(
            "the summary of pairs", dict.fromkeys(("visible", "infrared"), dict[str, Any] | None), fields
        )
        hints = types_of(BandSummary)
        bands = {
            band: None
            if inner is None
            else BandSummary(**check_types(f"the summary of {band}", hints, inner))
            for band, inner in outer.items()
        }
        return cls(bands.get("visible"), bands.get("infrared"))


@dataclass(frozen=True)
class _Look:
    """What one image showed."""

    name: str
    type: str
    channels: Channels
    values: np.ndarray
    constant: bool
    palette: str | None


def summarise_files(
    files: Sequence[PairFiles], *, false_colour: str = MEAN, sample: int = SAMPLE
) -> PairsSummary:
    """Look at a sample of pairs of files. false_colour: as in `infrared_channel`.

    Files that cannot be read are passed over: whoever reads them all will say so.
    """
    chosen = [files[index] for index in _spaced(len(files), sample)]
    with ThreadPoolExecutor(_THREADS) as pool:
        visible = list(pool.map(lambda pair: _look_at_file(pair, "visible", false_colour), chosen))
        infrared = list(pool.map(lambda pair: _look_at_file(pair, "infrared", false_colour), chosen))
    return PairsSummary(_gathered(visible), _gathered(infrared))


def summarise_pairs(*lists: Pairs, sample: int = SAMPLE) -> PairsSummary:
    """Look at a sample of a list of pairs, or of several together, as they are stored; generated ones count
    as 8-bit images.

    Those that cannot be read are passed over.
    """
    wanted = _spaced(sum(map(len, lists)), sample)
    chosen: list[tuple[Pairs, int]] = []
    first = 0
    for pairs in lists:
        chosen += [(pairs, place - first) for place in wanted if first <= place < first + len(pairs)]
        first += len(pairs)
    stored = [files for pairs, index in chosen if (files := pairs.stored(index)) is not None]
    if stored:
        return summarise_files(stored, false_colour=lists[0].false_colour, sample=sample)
    looks: dict[Band, list[_Look | None]] = {"visible": [], "infrared": []}
    for pairs, index in chosen:
        for band in pairs.bands:
            try:
                levels = pairs.levels(index, band)
            except PairError:
                # The one who reads every pair reports it; here it only cannot be measured.
                continue
            if levels is None:
                levels = _eight_bit(getattr(pairs[index], band))
            looks[band].append(_look(pairs.name(index), band, levels, pairs.false_colour))
    return PairsSummary(_gathered(looks["visible"]), _gathered(looks["infrared"]))


def summarise_image(band: Band, levels: np.ndarray, *, false_colour: str = MEAN) -> BandSummary | None:
    """The summary of one image: (H, W, 1) or (H, W, 3) as stored; None if it cannot be used."""
    return _gathered([_look("image", band, levels, false_colour)])


def _spaced(count: int, sample: int) -> list[int]:
    """At most ``sample`` different indices below count, evenly spaced, first and last among them."""
    return sorted(set(np.linspace(0, count - 1, min(sample, count)).round().astype(int).tolist()))


def _look_at_file(files: PairFiles, band: Band, false_colour: str) -> _Look | None:
    if getattr(files, band) is None:
        return None
    try:
        return _look(files.name, band, stored_levels(files, band), false_colour)
    except PairError:
        # The one who reads every file reports it with its name; here it only cannot be measured.
        return None


def _look(name: str, band: Band, levels: np.ndarray, false_colour: str) -> _Look | None:
    step = max(1, round((levels.shape[0] * levels.shape[1] / _VALUES) ** 0.5))
    grid = levels[::step, ::step]
    channels, palette = _channels(levels), None
    if channels == "colour" and is_coloured(grid):
        palette = recognise(grid) if grid.dtype in (np.uint8, np.uint16) else None
        if band == "infrared":
            palette = palette or UNKNOWN
    # One pixel alone says nothing.
    constant = grid.shape[:2] != (1, 1) and bool((levels == levels[:1, :1]).all())
    if band == "infrared":
        undone = false_colour in PALETTES
        try:
            grid = infrared_channel(grid, false_colour if undone else MEAN)
        except PairError:
            # Not of the palette that is to be undone: reading the image will say so.
            return None
        palette = None if undone else palette
    values = grid[np.isfinite(grid)] if grid.dtype.kind == "f" else grid.ravel()
    if not values.size or values.dtype.kind not in "uif":
        return None
    return _Look(name, str(grid.dtype), channels, values, constant, palette)


def _channels(levels: np.ndarray) -> Channels:
    if levels.shape[-1] == 1:
        return "one"
    return "colour" if (channel_spread(levels) > EQUAL_WITHIN).any() else "three equal"


def _gathered(looks: Sequence[_Look | None]) -> BandSummary | None:
    seen = [look for look in looks if look is not None]
    if not seen:
        return None
    types = Counter(look.type for look in seen)
    [(commonest, _)] = types.most_common(1)
    values = np.concatenate([look.values for look in seen if look.type == commonest])
    low, high = np.percentile(_measured(values), (_LOW, _HIGH))
    return BandSummary(
        images=len(seen),
        types=dict(types),
        channels=dict(Counter(look.channels for look in seen)),
        low=float(low),
        high=float(high),
        constant=tuple(look.name for look in seen if look.constant),
        palettes=dict(Counter(look.palette for look in seen if look.palette is not None)),
    )


def _measured(values: np.ndarray) -> np.ndarray:
    """Values without the two that cameras and warping put where nothing was measured, if others remain."""
    if values.dtype.kind == "f" or values.dtype.itemsize == 1:
        return values
    inner = values[(values != 0) & (values != np.iinfo(values.dtype).max)]
    return inner if inner.size else values


def _eight_bit(image: np.ndarray) -> np.ndarray:
    levels = np.rint(image * 255).astype(np.uint8)
    return levels if levels.ndim == 3 else levels[..., None]
