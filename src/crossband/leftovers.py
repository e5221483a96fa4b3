"""Temporary files beside those that they become, and what a killed writer left of them."""

from __future__ import annotations

import re
import uuid
from contextlib import suppress
from pathlib import Path

_NAME = re.compile(r"\.[0-9a-f]{12}\.tmp")


def temporary_name() -> str:
    """A new hidden name; short, so that any name which the file system takes can be written by way of it."""
    return f".{uuid.uuid4().hex[:12]}.tmp"


def is_temporary(name: str) -> bool:
    """Whether a file's name is one of `temporary_name`."""
    return _NAME.fullmatch(name) is not None


def remove_leftovers(*folders: Path) -> None:
    """Remove temporary files of writers that are gone. The folders must be held, or nobody else's.

    Folders in them are not looked into, those that do not exist passed over. What cannot be removed stays: it
    takes up room and no more.
    """
    for folder in folders:
        with suppress(OSError):
            for entry in folder.iterdir():
                if is_temporary(entry.name):
                    with suppress(OSError):
                        entry.unlink()
