"""Whether the files of a list of pairs are those that they were."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from crossband.pairs.base import Listed, PairFiles, Pairs
from crossband.words import BANDS


def files_state(pairs: Pairs) -> str:
    """A hash (SHA-256, hexadecimal) of all pairs' names, and of their files' sizes and last changes.

    Reads no image. Generated pairs have no files: their names alone count, and what else makes them is in
    their source.
    """
    state = hashlib.sha256()
    shared = [_state(pairs.file(band)) for band in BANDS]
    state.update(repr(shared).encode())
    for index in range(len(pairs)):
        stored = pairs.stored(index)
        own = [] if stored is None else [_state(getattr(stored, what)) for what in (*BANDS, "label")]
        state.update(repr((pairs.name(index), own)).encode())
    return state.hexdigest()


def images_state(files: Iterable[PairFiles | Listed]) -> str:
    """As `files_state`, of pairs to be predicted: of their images alone."""
    state = hashlib.sha256()
    for file in files:
        state.update(repr((file.name, [_state(getattr(file, band)) for band in BANDS])).encode())
    return state.hexdigest()


def _state(path: Path | None) -> tuple[int, int] | None:
    """(bytes, nanoseconds); a file that is not there is told of when it is read."""
    try:
        there = None if path is None else path.stat()
    except OSError:
        there = None
    return None if there is None else (there.st_size, there.st_mtime_ns)
