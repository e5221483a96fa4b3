"""A system from its name and plain data, and its training likewise; every value is checked here, once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields
from numbers import Integral
from pathlib import Path
from typing import Any, TypeVar

from crossband.deprecation import renamed_keyword, warn_old
from crossband.errors import OptionError, did_you_mean
from crossband.option_ranges import check_ranges
from crossband.option_types import check_types, types_of
from crossband.systems.base import NetworkSettings, System, Training
from crossband.systems.registry import system_class

_Settings = TypeVar("_Settings", NetworkSettings, Training[Any])


def network_options(name: str) -> dict[str, Any]:
    """The options of a system's network and their defaults."""
    return defaults(system_class(name).built_from)


def loss_options(name: str) -> dict[str, Any]:
    """The options of a system's training and their defaults; none for a system that needs no training."""
    system = system_class(name)
    return {} if system.trained_by is None else defaults(system.training_class())


def system_options(name: str) -> dict[str, Any]:
    """Deprecated: `network_options` and `loss_options` take its place."""
    warn_old("system_options", "network_options and loss_options")
    return {**network_options(name), **loss_options(name)}


def defaults(settings: type) -> dict[str, Any]:
    """The fields of a dataclass of settings, and the default of each."""
    return {
        field.name: field.default if field.default_factory is MISSING else field.default_factory()
        for field in fields(settings)
    }


@renamed_keyword("preset", "variant")
def create(
    name: str,
    classes: int | None = None,
    *,
    variant: str | None = None,
    encoder: str | None = None,
    encoder_weights: str | Path | None = None,
    **network: Any,
) -> System:
    """Build a system, a `torch.nn.Module` in training mode.

    name: one of `list_systems()`. classes: number of classes; None for a system that only fuses.
    variant: a named set of options to start from, such as "as-published"; `system_class(name).variants`
    lists them. encoder: name of an smp or timm encoder; None is the system's own. encoder_weights: None for
    a random start, "imagenet" to fetch them, or the path of a local file. network: the network's other
    options; `network_options(name)` lists them. What trains it is `make_training`'s.

    Raises OptionError for names, options and values that do not exist, and for a missing number of classes;
    WeightsError for weights that cannot be had.

    >>> net = create("csknet", classes=9)
    >>> sum(parameter.numel() for parameter in net.parameters())
    14221283
    """
    cls = system_class(name)
    if encoder is not None:
        network["encoder"] = encoder
    if encoder_weights is not None:
        network["encoder_weights"] = encoder_weights
    network, loss = split_options(name, network)
    if classes is not None:
        if isinstance(classes, bool) or not isinstance(classes, Integral) or classes < 2:
            raise OptionError(f"a segmentation needs at least 2 classes, not {classes!r}")
        # NumPy's, as of the largest id plus one, are no numbers that a card can hold.
        classes = int(classes)
    system = cls(classes, make_settings(name, variant, network))
    system.variant = variant
    system.encoder_origin = None if encoder_weights is None else str(encoder_weights)
    if loss:
        warn_old(f"create({name!r}, {next(iter(loss))}=...)", "make_training(...), and give it to phases()")
    if cls.trained_by is not None and (loss or variant is not None):
        # A variant's training belongs to it: `phases` must not take the default's in its place.
        system.given_training = make_training(name, variant=variant, **loss)
    return system


def make_settings(name: str, variant: str | None, network: Mapping[str, Any]) -> NetworkSettings:
    """A network's settings from a variant and options. Raises OptionError as `create` does."""
    cls = system_class(name)
    given = {**variant_of(cls, variant), **network}
    _check_names(name, "network", given, network_options(name))
    return _checked(name, cls.built_from, given)


def with_encoder(network: Mapping[str, Any], **apart: str | None) -> dict[str, Any]:
    """A network's options, those among them that may be given apart: encoder, encoder_weights.

    Raises OptionError for one that is given both ways, and differs.
    """
    whole = dict(network)
    for name, given in apart.items():
        if given is not None:
            if whole.get(name, given) != given:
                raise OptionError(f"network.{name} is {whole[name]!r}, but {name} is {given!r}; give one")
            whole[name] = given
    return whole


def make_training(name: str, *, variant: str | None = None, **loss: Any) -> Training[Any]:
    """What trains a system: an instance of its training class, for `System.phases`.

    variant: that of the network, whose training may have values of its own. loss: the other values;
    `loss_options(name)` lists them. Raises OptionError for a system that needs no training, and for options
    and values that do not exist.
    """
    cls = system_class(name).training_class()
    variant_of(system_class(name), variant)
    given = {**cls.variants.get(variant or "", {}), **loss}
    _check_names(name, "loss", given, defaults(cls))
    return _checked(name, cls, given)


def earlier_options(name: str) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """What a run's files mean by options that they do not name, of (the network, the loss); else the default.

    See `System.earlier`.
    """
    system = system_class(name)
    return system.earlier, {} if system.trained_by is None else system.training_class().earlier


def variant_of(system: type[System], variant: str | None) -> Mapping[str, Any]:
    """What a variant changes in the network. Raises OptionError for one that does not exist."""
    if variant is None:
        return {}
    if variant not in system.variants:
        there = f"it has {', '.join(system.variants)}" if system.variants else "it has none"
        raise OptionError(f"{system.name} has no variant {variant!r}; {there}")
    return system.variants[variant]


def split_options(name: str, options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Options in one mapping as (the network's, the loss's). What neither has is left with the network's."""
    loss = set(loss_options(name)) - set(network_options(name))
    return (
        {key: value for key, value in options.items() if key not in loss},
        {key: value for key, value in options.items() if key in loss},
    )


def _checked(system: str, cls: type[_Settings], given: Mapping[str, Any]) -> _Settings:
    """The settings of a class. Raises OptionError for a value of another type or outside of its range."""
    settings = cls(**check_types(system, types_of(cls), given))
    check_ranges(f"{system}: ", settings, cls.ranges)
    return settings


def _check_names(system: str, kind: str, given: Iterable[str], known: Mapping[str, Any]) -> None:
    unknown = sorted(set(given) - set(known))
    if unknown:
        has = f"it has {', '.join(sorted(known))}" if known else "it has none"
        raise OptionError(
            f"{system} has no {kind} option {', '.join(unknown)}{did_you_mean(unknown[0], known)} ({has})"
        )
