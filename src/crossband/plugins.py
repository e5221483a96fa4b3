"""What other installed packages add to Crossband, by entry points in their ``pyproject.toml``."""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from crossband.errors import OptionError, first_line


@cache
def plugins(group: str) -> dict[str, EntryPoint]:
    """The entry points of a group by name. Nothing of them is loaded."""
    return {point.name: point for point in entry_points(group=group)}


def origin_of(point: EntryPoint) -> str:
    """The package that an entry point is of, with its version."""
    return "an unknown package" if point.dist is None else f"{point.dist.name} {point.dist.version}"


def load_plugin(point: EntryPoint) -> Any:
    """What an entry point names. Raises OptionError, naming the package, if that fails."""
    try:
        return point.load()
    except Exception as error:  # whatever a stranger's module does when it is imported
        raise OptionError(
            f"{point.name!r} of {origin_of(point)} cannot be loaded: {first_line(error)}"
        ) from error
