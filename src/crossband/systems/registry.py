"""The list of systems: ours, those of other packages that are installed, and those that a program registers.

A package offers systems by entry points of the group ``crossband.systems``, in its ``pyproject.toml``:

    [project.entry-points."crossband.systems"]
    latemean = "latemean:LateMean"
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import EntryPoint
from typing import TYPE_CHECKING

from crossband.errors import OptionError, did_you_mean, quoted
from crossband.plugins import load_plugin, origin_of, plugins

if TYPE_CHECKING:
    from crossband.systems.base import System

GROUP = "crossband.systems"

_OURS = {
    "amdanet": "crossband.systems.amdanet:AMDANet",
    "average": "crossband.systems.classical:Average",
    "cddfuse": "crossband.systems.cddfuse:CDDFuse",
    "cen": "crossband.systems.cen:CEN",
    "csknet": "crossband.systems.csknet:CSKNet",
    "deeplabv3plus": "crossband.systems.deeplabv3plus:DeepLabV3Plus",
    "disoptnet": "crossband.systems.disoptnet:DisOptNet",
    "guided": "crossband.systems.classical:Guided",
    "laplacian": "crossband.systems.classical:Laplacian",
    "maximum": "crossband.systems.classical:Maximum",
    "mmanet": "crossband.systems.mmanet:MMANet",
    "mrfs": "crossband.systems.mrfs:MRFS",
    "segmif": "crossband.systems.segmif:SegMiF",
}

_registered: dict[str, type[System]] = {}


def list_systems() -> list[str]:
    """The names that `create` knows, sorted: ours, those of installed packages and those registered."""
    return sorted({*_OURS, *_installed(), *_registered})


def register(system: type[System]) -> type[System]:
    """Add a system to the list, for as long as the program runs; usable as a decorator.

    Registering a class again under its name replaces it, so that a notebook's cell can be run twice. Raises
    OptionError for a class that is no system, or whose name is one of ours or of an installed package.
    """
    from crossband.systems.base import System

    name = getattr(system, "name", None)
    if not (isinstance(system, type) and issubclass(system, System) and isinstance(name, str)):
        raise OptionError(f"{system!r} is no system: it must be a class on crossband.System, with a name")
    if name in _OURS or name in _installed():
        raise OptionError(f"there is a system {name!r} already, from {origin(name)}; choose another name")
    _registered[name] = system
    return system


@contextmanager
def registered(system: type[System]) -> Iterator[type[System]]:
    """A system that is in the list for the length of a ``with`` block, as tests want it."""
    before = _registered.get(system.name)
    yield register(system)
    if before is None:
        del _registered[system.name]
    else:
        _registered[system.name] = before


def system_class(name: str) -> type[System]:
    """The class behind a name.

    Raises OptionError, with the nearest name, for one that does not exist, and for a package's system that
    cannot be loaded.
    """
    if name in _registered:
        return _registered[name]
    if name in _OURS:
        module, attribute = _OURS[name].split(":")
        return getattr(importlib.import_module(module), attribute)
    if name in _installed():
        return _load(_installed()[name])
    raise OptionError(
        f"there is no system {quoted(name)}; there are {', '.join(list_systems())}"
        f"{did_you_mean(name, list_systems())}"
    )


def origin(name: str) -> str:
    """Where a system comes from: "crossband", a package with its version, or "this program"."""
    if name in _OURS:
        return "crossband"
    return "this program" if name in _registered else origin_of(_installed()[name])


def _installed() -> dict[str, EntryPoint]:
    """The entry points of other packages; a name of ours is ours."""
    return {name: point for name, point in plugins(GROUP).items() if name not in _OURS}


def _load(point: EntryPoint) -> type[System]:
    from crossband.systems.base import System

    system = load_plugin(point)
    if not (isinstance(system, type) and issubclass(system, System)):
        raise OptionError(f"{point.value} of {origin_of(point)} is no class on crossband.System")
    if getattr(system, "name", None) != point.name:
        raise OptionError(
            f"{point.value} of {origin_of(point)} has the entry point {point.name!r}, but the name "
            f"{getattr(system, 'name', None)!r}; they must agree"
        )
    return system
