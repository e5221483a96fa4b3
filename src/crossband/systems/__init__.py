"""The systems: one file per published method, and the list of them."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crossband.errors import OptionError, did_you_mean

if TYPE_CHECKING:
    from crossband.systems.base import System

_SYSTEMS = {
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


def list_systems() -> list[str]:
    """The names that `create` knows, sorted."""
    return sorted(_SYSTEMS)


def system_class(name: str) -> type[System]:
    """The class behind a name. Raises OptionError, with the nearest name, for one that does not exist."""
    if name not in _SYSTEMS:
        hint = did_you_mean(name, _SYSTEMS)
        raise OptionError(f"there is no system {name!r}; there are {', '.join(list_systems())}{hint}")
    module, attribute = _SYSTEMS[name].split(":")
    return getattr(importlib.import_module(module), attribute)


def system_options(name: str) -> dict[str, Any]:
    """The options of a system's constructor and their defaults, without ``classes``."""
    parameters = inspect.signature(system_class(name)).parameters
    return {key: parameter.default for key, parameter in parameters.items() if key != "classes"}


def create(
    name: str,
    *,
    classes: int | None = None,
    preset: str | None = None,
    encoder: str | None = None,
    encoder_weights: str | Path | None = None,
    **options: Any,
) -> System:
    """Build a system, a `torch.nn.Module` in training mode.

    name: one of `list_systems()`. classes: number of classes; None for a system that only fuses.
    preset: a named set of options to start from, such as "as-published"; `system_class(name).presets`
    lists them. encoder: name of an smp or timm encoder; None is the system's own. encoder_weights: None for
    a random start, "imagenet" to fetch them, or the path of a local file. options: the system's own
    switches; `system_options(name)` lists them.

    Raises OptionError for names and options that do not exist, and for a missing number of classes;
    WeightsError for weights that cannot be had.

    >>> net = create("csknet", classes=9)
    >>> sum(parameter.numel() for parameter in net.parameters())
    14221283
    """
    known = system_options(name)
    options = {**_preset_options(name, preset), **options}
    if encoder is not None:
        options["encoder"] = encoder
    if encoder_weights is not None:
        options["encoder_weights"] = encoder_weights
    unknown = sorted(set(options) - set(known))
    if unknown:
        hint = did_you_mean(unknown[0], known)
        raise OptionError(
            f"{name} has no option {', '.join(unknown)}{hint} (it has {', '.join(sorted(known))})"
        )
    if classes is not None and classes < 2:
        raise OptionError(f"a segmentation needs at least 2 classes, not {classes}")
    system = system_class(name)(classes, **options)
    system.arguments = {"classes": classes, **known, **options}
    if "encoder_weights" in known:
        # The trained weights replace them; a card must not ask for them again.
        system.arguments["encoder_weights"] = None
    system.encoder_origin = None if encoder_weights is None else str(encoder_weights)
    return system


def _preset_options(name: str, preset: str | None) -> dict[str, Any]:
    presets = system_class(name).presets
    if preset is None:
        return {}
    if preset not in presets:
        there = f"it has {', '.join(presets)}" if presets else "it has none"
        raise OptionError(f"{name} has no preset {preset!r} of its options; {there}")
    return dict(presets[preset])
