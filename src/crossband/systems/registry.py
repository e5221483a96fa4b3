"""The list of systems: ours, those of other packages that are installed, and those that a program registers.

A package offers systems by entry points of the group ``crossband.systems``, in its ``pyproject.toml``:

    [project.entry-points."crossband.systems"]
    latemean = "latemean:LateMean"
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from typing import TYPE_CHECKING

from crossband.errors import OptionError, did_you_mean, quoted
from crossband.plugins import load_plugin, origin_of, plugins

if TYPE_CHECKING:
    from crossband.systems.base import System

GROUP = "crossband.systems"


@dataclass(frozen=True)
class Listed:
    """A system of ours as the list has it, so that the list can be read without what builds systems.

    place: "module:Class". summary, paper: those of the class. ready: it needs no training. own_variants:
    those of its variants that are of our making, and not the paper's method. encoder_segments: its encoder
    serves the classes alone, so that without classes it has none, whatever its options name.
    """

    place: str
    summary: str
    paper: str
    ready: bool = False
    own_variants: tuple[str, ...] = ()
    encoder_segments: bool = False


_OURS = {
    "amdanet": Listed(
        "crossband.systems.amdanet:AMDANet",
        "AMDANet: classes and a fused picture from both bands",
        "AMDANet, ICCV 2025",
    ),
    "average": Listed(
        "crossband.systems.classical:Average",
        "the mean of both bands: a fusion without training",
        "none",
        ready=True,
    ),
    "cddfuse": Listed(
        "crossband.systems.cddfuse:CDDFuse",
        "CDDFuse: a fused picture from both bands, and classes from the picture",
        "Zhao et al., CVPR 2023, arXiv 2211.14461",
        own_variants=("light",),
        encoder_segments=True,
    ),
    "cen": Listed(
        "crossband.systems.cen:CEN",
        "CEN: two RefineNet streams that exchange channels by the scales of their batch norms",
        "Wang et al., TPAMI 2022, arXiv 2112.02252",
    ),
    "csknet": Listed(
        "crossband.systems.csknet:CSKNet",
        "CSK-Net: both bands by exchange and gated fusion, or infrared alone at the baseline's cost",
        "Sikdar et al., 2023, arXiv 2312.02240",
        own_variants=("firm",),
    ),
    "deeplabv3plus": Listed(
        "crossband.systems.deeplabv3plus:DeepLabV3Plus",
        "DeepLabV3+ on one band: the baseline",
        "Chen et al., ECCV 2018, arXiv 1802.02611",
    ),
    "disoptnet": Listed(
        "crossband.systems.disoptnet:DisOptNet",
        "DisOptNet: infrared alone, taught by a network that sees the visible image",
        "Kang et al., IEEE TGRS 2022",
    ),
    "guided": Listed(
        "crossband.systems.classical:Guided",
        "two scales, weighted along edges (guided filter): a fusion without training",
        "Li, Kang, Hu, IEEE Trans. Image Processing 2013",
        ready=True,
    ),
    "laplacian": Listed(
        "crossband.systems.classical:Laplacian",
        "the stronger detail at every scale (Laplacian pyramid): a fusion without training",
        "Burt and Adelson, IEEE Trans. Communications 1983",
        ready=True,
    ),
    "learned": Listed(
        "crossband.systems.cddfuse.learned:Learned",
        "a small network of ours, trained on generated scenes: a fusion that comes with its weights",
        "none",
        ready=True,
    ),
    "maximum": Listed(
        "crossband.systems.classical:Maximum",
        "the brighter band at every pixel: a fusion without training",
        "none",
        ready=True,
    ),
    "mmanet": Listed(
        "crossband.systems.mmanet:MMANet",
        "MMANet: both bands or either alone, with modality dropout and a teacher that has both",
        "Wei et al., CVPR 2023, arXiv 2304.08028",
    ),
    "mrfs": Listed(
        "crossband.systems.mrfs:MRFS",
        "MRFS: classes and a fused picture from both bands",
        "Zhang et al., CVPR 2024",
    ),
    "segmif": Listed(
        "crossband.systems.segmif:SegMiF",
        "SegMiF: a fused picture made with the segmentation's features, and its classes",
        "Liu et al., ICCV 2023, arXiv 2308.02097",
    ),
}

_registered: dict[str, type[System]] = {}


def list_systems() -> list[str]:
    """The names that `create` knows, sorted: ours, those of installed packages and those registered."""
    return sorted({*_OURS, *_installed(), *_registered})


def in_words(name: str) -> tuple[str, str]:
    """The summary and the paper of a system of ours."""
    return _OURS[name].summary, _OURS[name].paper


def is_own_variant(name: str, variant: str | None) -> bool:
    """Whether a variant of a system of ours is of our making, and not what its paper says."""
    return name in _OURS and variant in _OURS[name].own_variants


def without_encoder(name: str, *, segments: bool) -> bool:
    """Whether a system of ours has no encoder, although its options name one. segments: it has classes."""
    return name in _OURS and _OURS[name].encoder_segments and not segments


def describe_systems(*, load: bool = False) -> Iterator[str]:
    """A line for each system: its name, what it is, its paper, and where it comes from if not from here.

    load: import the systems of other packages, which say what they are; else they are listed by name alone.
    Raises OptionError for one that cannot be loaded.
    """
    for name in list_systems():
        summary, paper = "", "none"
        if name in _OURS:
            summary, paper = in_words(name)
        elif name in _registered or load:
            summary, paper = system_class(name).summary, system_class(name).paper
        published = "" if paper == "none" else f" ({paper})"
        source = "" if name in _OURS else f"[from {origin(name)}]"
        yield f"{name:<15}{' '.join(part for part in (summary + published, source) if part)}"


def ready_systems() -> list[str]:
    """Systems that need no training, sorted; of other packages only what a program registered is known."""
    registered = [name for name, system in _registered.items() if system.trained_by is None]
    return sorted([name for name, listed in _OURS.items() if listed.ready] + registered)


def needs_training(name: str) -> bool:
    """Whether a system must be trained before it is used. Raises OptionError as `system_class` does."""
    return not _OURS[name].ready if name in _OURS else system_class(name).trained_by is not None


def check_name(name: str) -> None:
    """Raise OptionError, with the nearest name, for a system that does not exist."""
    if name not in list_systems():
        raise OptionError(
            f"there is no system {quoted(name)}; there are {', '.join(list_systems())}"
            f"{did_you_mean(name, list_systems())}"
        )


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
    check_name(name)
    if name in _registered:
        return _registered[name]
    if name in _OURS:
        module, attribute = _OURS[name].place.split(":")
        return getattr(importlib.import_module(module), attribute)
    return _load(_installed()[name])


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
