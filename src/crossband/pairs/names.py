"""Names of pairs, which come from files and become files: in a list, in a folder, below ``--out``."""

from __future__ import annotations

import os
import re
from pathlib import Path

from crossband.errors import PairError, quoted

_LONGEST_PART = 240
"""Bytes of a folder's or file's name without a suffix; file systems take 255 with it."""
_LONGEST = 1024


def checked_name(name: str) -> str:
    """The name itself, if a file of that name lies where it is looked for and nowhere else.

    Parts are parted by ``/``. Raises PairError if the name is empty, absolute, too long, no plain text that
    prints in one line, or has a part that is empty, ``.`` or ``..``.
    """
    parts = name.split("/")
    if any(part in ("", ".", "..") for part in parts) or "\\" in name or Path(name).is_absolute():
        raise PairError(f"the name {quoted(name)} leads out of its folder or nowhere; correct it")
    if not name.isprintable():
        raise PairError(f"the name {quoted(name)} holds characters that do not print; rename it")
    lengths = [len(os.fsencode(part)) for part in parts]
    if max(lengths) > _LONGEST_PART or sum(lengths) > _LONGEST:
        raise PairError(f"the name {quoted(name)} is too long; shorten it to {_LONGEST_PART} bytes")
    return name


def counted_order(name: str) -> tuple[list[str | int], str]:
    """A key by which names sort as their numbers count: ``frame_2`` before ``frame_10``."""
    parts = re.split(r"([0-9]+)", name)
    return [int(part) if number % 2 else part for number, part in enumerate(parts)], name


def place_of(folder: Path, name: str, suffix: str) -> Path:
    """Where the result of a pair is written: ``<folder>/<name><suffix>``, below the folder for certain.

    Raises PairError, as `checked_name` does, for a name that leads elsewhere.
    """
    return folder / f"{checked_name(name)}{suffix}"
