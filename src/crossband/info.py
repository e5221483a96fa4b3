"""What a run or a system is and costs, in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from crossband.card import Card
from crossband.card_words import monitor_words, system_words, training_words, variant_words
from crossband.errors import OptionError
from crossband.hub import is_remote
from crossband.option_words import option_words
from crossband.systems import create, list_systems, loss_options, network_options, system_class
from crossband.systems.base import System
from crossband.systems.creation import make_settings, with_encoder
from crossband.weights import count_parameters, load_run
from crossband.words import Bands

_TRACED_FROM = 128 * 128
"""Pixels from which it takes less to follow the shapes of a network's maps than to compute the maps."""


def count_flops(system: System, bands: Bands, size: tuple[int, int]) -> int:
    """Floating-point operations of one pair of (height, width), a multiply-add counting as two.

    Counts convolutions and matrix products, those of attention among them; every module is left in the mode
    it was in, and PyTorch's random state as it was. Where a system draws what it computes, the draw is always
    the same. Of a large image only the shapes of the maps are followed, where a system allows it; the
    count is the same.
    """
    if size[0] * size[1] >= _TRACED_FROM:
        try:
            return followed_flops(system, bands, size)
        except RuntimeError:
            # What is computed depends on values, which only the next line has.
            pass
    with torch.inference_mode():
        return _counted(system, bands, size, lambda *images: system(*images))


def followed_flops(system: System, bands: Bands, size: tuple[int, int]) -> int:
    """`count_flops` by the shapes of the maps alone, of weights on any device, also "meta".

    Raises RuntimeError where what is computed depends on values.
    """
    tensors = [*system.named_parameters(), *system.named_buffers()]
    values = {name: torch.empty_like(tensor, device="meta") for name, tensor in tensors}
    with torch.no_grad(), torch.device("meta"):
        return _counted(system, bands, size, lambda *images: functional_call(system, values, images))


_FREE = (functional.batch_norm, functional.silu, functional.relu, functional.gelu, torch.sigmoid)
"""Functions of the shape of what they take, of which nothing is counted."""


class _WhatIsCounted(TorchFunctionMode):
    """Takes scaled dot-product attention for its two matrix products, which is what it costs, and leaves out
    what costs nothing.

    PyTorch's counter does not see the operation that a CPU has for attention, and following the shapes of
    batch norms takes as long as following all else. The values are not the network's.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if func is functional.scaled_dot_product_attention:
            query, key, value = args[:3]
            return query @ key.mT @ value
        if func in _FREE:
            return args[0]
        return func(*args, **(kwargs or {}))


def _counted(
    system: System, bands: Bands, size: tuple[int, int], run: Callable[[Tensor | None, Tensor | None], object]
) -> int:
    modes = {module: module.training for module in system.modules()}
    visible = None if bands == "infrared" else torch.zeros(1, 3, *size)
    infrared = None if bands == "visible" else torch.zeros(1, 1, *size)
    system.eval()
    try:
        # A number that is printed must not depend on a draw. `torch.manual_seed` would seed GPUs as well.
        with torch.random.fork_rng(devices=[]), FlopCounterMode(display=False) as counter, _WhatIsCounted():
            torch.default_generator.manual_seed(0)
            run(visible, infrared)
    finally:
        for module, training in modes.items():
            module.training = training
    return counter.get_total_flops()


_WIDTH, _INDENT = 100, " " * 6
"""Of what is said of an option."""


@dataclass(frozen=True)
class Parameters:
    """How many parameters a system has, for a combination of bands.

    deployed: in the modules that inference on these bands touches. dead: those of them that nothing ever
    reads. training_only: everything else that training needs: other branches, teachers, projection heads; 0
    of a system that needs no training.
    """

    deployed: int
    dead: int
    training_only: int


def count_all(system: System) -> dict[Bands, Parameters]:
    """The parameters of a system for every combination of bands that it runs on, shared ones counted once."""
    phases, folded = system.phases(), system.folded()
    everything = [system, *(phase.trained for phase in phases), *(m for p in phases for m in p.frozen)]
    total = count_parameters(*everything) - count_parameters(system) + count_parameters(folded)
    dead = {id(parameter) for module in folded.dead() for parameter in module.parameters()}
    counts: dict[Bands, Parameters] = {}
    for bands in system.supports:
        modules = folded.deployed(bands)
        deployed = {id(p): p.numel() for module in modules for p in module.parameters()}
        count = sum(deployed.values())
        unread = sum(numel for key, numel in deployed.items() if key in dead)
        counts[bands] = Parameters(count, unread, total - count if phases else 0)
    return counts


def describe(
    what: str,
    *,
    classes: int = 9,
    variant: str | None = None,
    encoder: str | None = None,
    network: Mapping[str, Any] | None = None,
    size: str = "480x640",
) -> str:
    """A run, by its folder or its place on the hub, or the name of a system, as text for a terminal.

    classes, variant, encoder, network: of a system that is named, as `create` takes them; a run has its own.
    size: HEIGHTxWIDTH of the image that FLOPs are counted for. Raises OptionError for what is neither a run
    nor a system, and as `create` does; WeightsError for a folder that holds no finished run.
    """
    height, width = _parse_size(size)
    card: Card | None = None
    if what in list_systems():
        given = with_encoder(network or {}, encoder=encoder)
        # `create` would take options of the loss among these, as it once did.
        make_settings(what, variant, given)
        system = create(what, classes if system_class(what).segments else None, variant=variant, **given)
    elif is_remote(what) or Path(what).is_dir():
        system, card = load_run(what)
        variant = card.variant
    else:
        raise OptionError(f"{what!r} is neither a run folder nor a system ({', '.join(list_systems())})")
    lines = [f"{system_words(system.name, variant)}: {system.summary}", f"paper: {system.paper}", ""]
    lines.append(
        f"{'bands':<10} {'support':<9} {'parameters':>12} {'of them dead':>13} {'training only':>14} "
        f"{f'GFLOPs at {height} x {width}':>22}"
    )
    counts, folded = count_all(system), system.folded()
    weighty = any(count.deployed for count in counts.values())
    for bands, support in system.supports.items():
        count = counts[bands]
        # The counter sees no additions or comparisons, which are most of what a system without weights does.
        cost = f"{count_flops(folded, bands, (height, width)) / 1e9:.1f}" if weighty else "-"
        lines.append(
            f"{bands:<10} {support:<9} {count.deployed:>12,} {count.dead:>13,} {count.training_only:>14,} "
            f"{cost:>22}"
        )
    counted = (
        "dead: read by nothing; training only: further weights that training needs; "
        "a multiply-add counts as two operations"
        if weighty
        else "it has no weights, and its operations are not counted"
    )
    if system.trained_by is None:
        counted = f"ready without training; {counted}"
    lines += [f"({counted}; a fallback is not what the system was designed for)", ""]
    if variant is not None:
        lines.append(f"variant: {variant_words(system.name, variant)}")
    return "\n".join(lines + (_option_lines(system) if card is None else _card_lines(card, system)))


def _option_lines(system: System) -> list[str]:
    given = "" if system.classes is None else f" ({system.classes} classes)"
    described = system_class(system.name)
    owners: dict[str, Any] = {"network": described.built_from}
    here: dict[str, Any] = {"network": system.settings}
    if described.trained_by is not None:
        owners["loss"] = described.training_class()
        here["loss"] = system.given_training or described.training_class()()
    lines = []
    for kind, options in (("network", network_options(system.name)), ("loss", loss_options(system.name))):
        if options:
            lines.append(f"options of the {kind} and their defaults{given}, set by --{kind}.NAME:")
            words = option_words(owners[kind], options)
            for name, value in options.items():
                chosen = getattr(here[kind], name)
                lines.append(f"  {name} = {value!r}" + (f"; here {chosen!r}" if chosen != value else ""))
                lines += wrap(words.get(name, ""), _WIDTH, initial_indent=_INDENT, subsequent_indent=_INDENT)
    variants = described.variants
    if variants:
        lines.append(f"variants, sets of such options, chosen by --variant: {', '.join(variants)}")
    return lines or ["options: none"]


def _card_lines(card: Card, system: System) -> list[str]:
    lines = [f"classes: {_classes(card)}"]
    # One that only fuses may name an encoder and have none.
    if "encoder" in card.network and system.encoders():
        start = card.training.get("start_from") or card.encoder_origin or "random weights"
        lines.append(f"encoder: {card.network['encoder']}, started from {start}")
    elif start := card.training.get("start_from"):
        lines.append(f"started from: {start}")
    lines += [
        f"infrared scaling: {card.infrared_scaling}",
        f"inputs: {card.channels}",
        f"band monitor: {monitor_words(card.monitor)}",
        f"made by Crossband {card.crossband}, revision {card.git_revision or 'unknown'}, "
        f"torch {card.torch}, {card.created}",
        "training (all of it is in card.json):",
    ]
    return lines + [f"  {name}: {text}" for name, text in training_words(card.training).items()]


def _classes(card: Card) -> str:
    if card.classes is None:
        return "none: it only fuses"
    return ", ".join(f"{i} {name}" for i, name in enumerate(card.classes.names))


def _parse_size(text: str) -> tuple[int, int]:
    try:
        height, width = (int(part) for part in text.lower().split("x"))
    except ValueError:
        height = width = 0
    if height < 1 or width < 1:
        raise OptionError(f"a size is HEIGHTxWIDTH in pixels, such as 480x640, not {text!r}")
    return height, width
