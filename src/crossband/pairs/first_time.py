"""What is said once: the first of many files of a folder, or of threads that read them, says it."""

from __future__ import annotations

from pathlib import Path
from threading import Lock

_said: set[tuple[str, Path]] = set()
_lock = Lock()


def is_first_time(what: str, folder: Path) -> bool:
    """Whether this has not been asked of this folder before in this process. what: a name of what is said."""
    with _lock:
        first = (what, folder) not in _said
        _said.add((what, folder))
    return first
