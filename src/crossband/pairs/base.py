"""The words of the data side: a pair, the files it comes from, its classes, and a list of pairs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from crossband.errors import BandError
from crossband.pairs.false_colour import REFUSE
from crossband.pairs.infrared_scaling import InfraredScaling
from crossband.words import Band, Bands

if TYPE_CHECKING:
    from crossband.pairs.registration import Registration
    from crossband.pairs.time_stamps import Offsets

IGNORE_COLOUR = (224, 224, 192)
"""How ignored pixels are shown, in files and in pictures: the colour of PASCAL VOC's void, sRGB."""


@dataclass(frozen=True)
class Classes:
    """What the ids of a label mean.

    names: one per id, from 0.
    palette: one sRGB colour (0..255) per id.
    ignore: ids *in the stored files* that count neither in training nor in scores; reading maps them to
        ``IGNORE_INDEX``. ``IGNORE_INDEX`` itself is always allowed in a file and always ignored.
    """

    names: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    ignore: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if len(self.names) != len(self.palette):
            raise ValueError(f"{len(self.names)} class names but {len(self.palette)} palette colours")

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True)
class PairFiles:
    """Where one pair lies. A band or label that does not exist is None.

    visible and infrared may be the same file: a 4-channel image with infrared in the fourth channel.
    condition: "day", "night", ... where the benchmark's names or lists tell, else None.
    """

    name: str
    visible: Path | None
    infrared: Path | None
    label: Path | None = None
    condition: str | None = None

    def has(self, band: Band) -> bool:
        """Whether there is an image of a band."""
        return getattr(self, band) is not None


@dataclass
class Pair:
    """One co-registered visible + infrared image (+ label), in memory. A missing band is None.

    visible: float32 (H, W, 3), sRGB in [0, 1].
    infrared: float32 (H, W) in [0, 1], scaled by the rule that the reader was given.
    label: uint8 (H, W), class ids, ``IGNORE_INDEX`` where nothing counts.
    valid: bool (H, W), False on pixels that augmentation added around the image, and on those that only one
        camera of a rig saw; None where there are none.
    """

    name: str
    visible: np.ndarray | None
    infrared: np.ndarray | None
    label: np.ndarray | None = None
    condition: str | None = None
    valid: np.ndarray | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        for image in (self.visible, self.infrared, self.label):
            if image is not None:
                return image.shape[0], image.shape[1]
        raise ValueError(f"pair {self.name!r} has no image at all")

    def only(self, bands: Bands) -> Pair:
        """The images of these bands alone, without the label, as a system is given them."""
        return Pair(
            self.name,
            None if bands == "infrared" else self.visible,
            None if bands == "visible" else self.infrared,
            valid=self.valid,
        )


def bands_of(visible: object | None, infrared: object | None) -> Bands:
    """Name the combination of bands that are present. Raises BandError if there is none."""
    if visible is None and infrared is None:
        raise BandError("no band was given: pass visible, infrared, or both")
    if infrared is None:
        return "visible"
    return "infrared" if visible is None else "both"


class Pairs(ABC):
    """The pairs of one split of one source, in a fixed order. Reading happens on access.

    source: the text that opened it, such as ``msrs:PATH``.
    classes: what the label ids mean, or None where there are no labels.
    bands: the bands that every pair of the list has.
    scaling: the rule that reads infrared; generated pairs are in [0, 1] already.
    false_colour: what becomes of infrared images in false colours (`false_colour_rule`).
    unpaired: band and place of each image that was left out, since it has no partner. offsets: how far apart
    the times of the bands are, where pairs were made by time. registration: what brings bands that are not
    registered into one frame, None where nothing does.
    """

    source: str
    split: str
    classes: Classes | None
    bands: tuple[Band, ...]
    scaling: InfraredScaling = InfraredScaling()
    false_colour: str = REFUSE
    unpaired: Sequence[tuple[Band, str]] = ()
    offsets: Offsets | None = None
    registration: Registration | None = None

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, index: int) -> Pair:
        """Read one pair. Raises PairError, naming the file, if it cannot be used."""

    @abstractmethod
    def name(self, index: int) -> str:
        """The pair's name, unique in the list, without a suffix; may hold ``/``. Reads no image."""

    def condition(self, index: int) -> str | None:
        """ "day", "night", ... or None where it is not known. Reads no image."""
        return None

    def stored(self, index: int) -> PairFiles | None:
        """Where the pair lies, or None for one that has no files of its own. Reads no image."""
        return None

    def time(self, index: int) -> int | None:
        """When a pair was taken, in nanoseconds since any moment; None if it is not known. Reads no image."""
        return None

    def file(self, band: Band) -> Path | None:
        """The file in which all images of a band lie, such as a video; None where there is no such file."""
        return None

    def levels(self, index: int, band: Band) -> np.ndarray | None:
        """One band of a pair without files of its own, as it is stored: (H, W, 1) or (H, W, 3).

        None for a generated one, and for one that `stored` tells the place of. Raises as reading it does.
        """
        return None

    def __iter__(self) -> Iterator[Pair]:
        return (self[index] for index in range(len(self)))


class PairView(Pairs):
    """A list of pairs as another list shows it: all of them as they are, unless a subclass says otherwise."""

    def __init__(self, pairs: Pairs):
        self.pairs = pairs
        self.source = pairs.source
        self.split = pairs.split
        self.classes = pairs.classes
        self.bands = pairs.bands
        self.scaling = pairs.scaling
        self.false_colour = pairs.false_colour
        self.unpaired = pairs.unpaired
        self.offsets = pairs.offsets
        self.registration = pairs.registration

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Pair:
        return self.pairs[index]

    def name(self, index: int) -> str:
        return self.pairs.name(index)

    def condition(self, index: int) -> str | None:
        return self.pairs.condition(index)

    def stored(self, index: int) -> PairFiles | None:
        return self.pairs.stored(index)

    def time(self, index: int) -> int | None:
        return self.pairs.time(index)

    def file(self, band: Band) -> Path | None:
        return self.pairs.file(band)

    def levels(self, index: int, band: Band) -> np.ndarray | None:
        return self.pairs.levels(index, band)


@dataclass(frozen=True)
class Listed:
    """A pair of a list without files of its own: a frame of a video, or a generated scene.

    name: as its result is called; the list may call it otherwise.
    """

    name: str
    pairs: Pairs
    index: int

    def has(self, band: Band) -> bool:
        """Whether there is an image of a band."""
        return band in self.pairs.bands

    @property
    def visible(self) -> Path | None:
        """The file that the visible image is a frame of; None for a generated one, or without one."""
        return self.pairs.file("visible")

    @property
    def infrared(self) -> Path | None:
        """The file that the infrared image is a frame of; None for a generated one, or without one."""
        return self.pairs.file("infrared")

    def read(self) -> Pair:
        """The pair, without its label. Raises PairError if it cannot be used."""
        return replace(self.pairs[self.index], name=self.name, label=None)


class PairSubset(PairView):
    """Some pairs of a list, in the order of ``indices``. split: what that part is called."""

    def __init__(self, pairs: Pairs, indices: Sequence[int], split: str):
        super().__init__(pairs)
        self.indices = tuple(indices)
        self.split = split

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Pair:
        return super().__getitem__(self.indices[index])

    def name(self, index: int) -> str:
        return super().name(self.indices[index])

    def condition(self, index: int) -> str | None:
        return super().condition(self.indices[index])

    def stored(self, index: int) -> PairFiles | None:
        return super().stored(self.indices[index])

    def time(self, index: int) -> int | None:
        return super().time(self.indices[index])

    def levels(self, index: int, band: Band) -> np.ndarray | None:
        return super().levels(self.indices[index], band)


class WithoutLabels(PairView):
    """A list of pairs without their labels, whether or not it has them."""

    def __init__(self, pairs: Pairs):
        super().__init__(pairs)
        self.classes = None

    def __getitem__(self, index: int) -> Pair:
        return replace(super().__getitem__(index), label=None)


def hold_out(pairs: Pairs, fraction: float, seed: int) -> tuple[PairSubset, PairSubset]:
    """Split a list into (kept, held out), the held-out share taken evenly from every condition.

    The same seed gives the same split whatever else runs. At least one pair is held out of every
    condition that has two or more. Raises ValueError if fraction is not in (0, 1).
    """
    if not 0 < fraction < 1:
        raise ValueError(f"the fraction to hold out must lie between 0 and 1, not {fraction}")
    groups: dict[str, list[int]] = {}
    for index in range(len(pairs)):
        groups.setdefault(pairs.condition(index) or "", []).append(index)
    held: set[int] = set()
    for condition in sorted(groups):
        members = groups[condition]
        count = min(max(1, round(fraction * len(members))), len(members) - 1)
        order = np.random.default_rng([seed, len(members)]).permutation(len(members))
        held.update(members[i] for i in order[:count])
    kept = [index for index in range(len(pairs)) if index not in held]
    return (
        PairSubset(pairs, kept, f"{pairs.split} (kept)"),
        PairSubset(pairs, sorted(held), f"{pairs.split} (held out, {fraction:g})"),
    )
