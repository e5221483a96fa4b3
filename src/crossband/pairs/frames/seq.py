"""FLIR's sequences (SEQ): blocks of records, one after another, each with the counts of one frame."""

from __future__ import annotations

from pathlib import Path

from crossband.errors import PairError
from crossband.pairs.decoding import Stored
from crossband.pairs.frames.base import Frames
from crossband.pairs.image_files import check_bytes, errors_named
from crossband.pairs.radiometric import Conditions
from crossband.pairs.radiometric.flir import BLOCK_STARTS, FlirBlock, block_length, parse_block

_MOST_FRAMES = 1_000_000


class SeqFrames(Frames):
    """The frames of a sequence whose counts are stored plainly or as PNG; those of CSQ files are not.

    degrees: give degrees Celsius under these conditions, not counts. Raises PairError, naming the file, if it
    holds no frame, or something else between two.
    """

    def __init__(self, path: Path, degrees: Conditions | None = None):
        self._degrees = degrees
        with errors_named(path):
            with path.open("rb") as file:
                # Before all of them are looked for: what is wrong with the first is wrong with them all.
                size = _block(path, 0, block_length(file)).size
            self._places = _places(path)
            super().__init__(path, len(self._places), size)

    def _read(self, index: int) -> Stored:
        found = _block(self.path, *self._places[index]).read()
        samples = found.counts if self._degrees is None else found.celsius(self._degrees)
        return Stored(samples[..., None])


def _places(path: Path) -> list[tuple[int, int]]:
    """Where each block begins, and its length."""
    places: list[tuple[int, int]] = []
    place, end = 0, path.stat().st_size
    with path.open("rb") as file:
        while place < end:
            if len(places) == _MOST_FRAMES:
                raise PairError(f"a sequence of more than {_MOST_FRAMES} frames; cut it into parts")
            file.seek(place)
            if file.read(4) not in BLOCK_STARTS:
                raise PairError(f"what follows its {len(places)} frames is none; copy it again")
            file.seek(place)
            length = block_length(file)
            if place + length > end:
                raise PairError(f"its frame {len(places)} is cut off; copy it again")
            places.append((place, length))
            place += length
    return places


def _block(path: Path, place: int, length: int) -> FlirBlock:
    check_bytes(length)
    with path.open("rb") as file:
        file.seek(place)
        return parse_block(file.read(length))
