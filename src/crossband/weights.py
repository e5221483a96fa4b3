"""Run folders: weights as safetensors, and a card that says what they are and how they came to be.

A finished run folder holds ``weights.safetensors`` and ``card.json``. The card is written last, so that a
folder with a card is complete. Nothing is ever unpickled.
"""

from __future__ import annotations

import re
import stat
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from torch.overrides import TorchFunctionMode

from crossband.card import CARD_NAME, Card
from crossband.errors import OptionError, WeightsError, quoted
from crossband.hub import run_folder
from crossband.pairs.base import Classes
from crossband.pairs.writing import replacing, write_text
from crossband.run_card import WEIGHTS_NAME, checksum, find_weights, read_card, shortly, whole_weights
from crossband.systems import create, list_systems
from crossband.systems.base import System
from crossband.systems.creation import earlier_options

# Neither a path nor a name of a hub ("hf-hub:..."), which timm would fetch.
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_.\-]{1,100}")
_RANDOM = frozenset(
    f"{way}_"
    for way in (
        *("normal", "uniform", "trunc_normal", "kaiming_normal", "kaiming_uniform", "xavier_normal"),
        *("xavier_uniform", "orthogonal", "erfinv"),
    )
)
"""What fills a tensor with random numbers, of tensors and of `torch.nn.init`."""


def make_card(
    system: System,
    classes: Classes | None,
    infrared_scaling: str,
    training: dict[str, Any],
    *,
    variant: str | None = None,
    loss: dict[str, Any] | None = None,
) -> Card:
    """The card of a system as it stands now. training: its history. variant, loss: as in `Card`."""
    folded = system.folded()
    return Card(
        system=system.name,
        network=system.network_options,
        variant=variant,
        loss=loss or {},
        classes=classes,
        infrared_scaling=infrared_scaling,
        bands={str(bands): support for bands, support in system.supports.items()},
        parameters={bands: count_parameters(*folded.deployed(bands)) for bands in system.supports},
        encoder_origin=system.encoder_origin,
        training=training,
        torch=torch.__version__,
        git_revision=git_revision(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def count_parameters(*modules: nn.Module) -> int:
    """Parameters of some modules, each counted once however often it is shared."""
    return sum(p.numel() for p in {id(p): p for module in modules for p in module.parameters()}.values())


def git_revision() -> str | None:
    """The commit of the Crossband that runs, with ``+`` where files differ from it; None if not in git."""
    source = Path(__file__).parent
    if not (source.parents[1] / ".git").exists():
        return None

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(source), *arguments], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--", str(source)) else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def save_weights(module: nn.Module, path: Path) -> None:
    """Write a module's weights, shared parameters once, whole or not at all."""
    # Not safetensors' own save_model: it cannot tell shared tensors apart in channels_last memory.
    tensors = module.state_dict(keep_vars=True)
    stored = {names[0]: tensors[names[0]].detach().contiguous() for names in _shared_names(module)}
    with replacing(path, raises=(SafetensorError,)) as temporary:
        # safetensors 0.8 makes its files unreadable for everyone else, whatever the umask says.
        temporary.touch()
        permissions = stat.S_IMODE(temporary.stat().st_mode)
        save_file(stored, temporary)
        temporary.chmod(permissions)


def load_weights(module: nn.Module, path: Path) -> None:
    """Read what `save_weights` wrote into a module. Raises WeightsError if it does not fit."""
    if not path.is_file():
        raise WeightsError(f"no weights at {path}: the file does not exist")
    try:
        state = load_file(path)
        for names in _shared_names(module):
            stored = [state[name] for name in names if name in state]
            if stored:
                state |= dict.fromkeys(names, stored[0])
        module.load_state_dict(state)
    except (SafetensorError, RuntimeError, OSError) as error:
        raise WeightsError(f"{path} does not hold the weights of this network ({shortly(error)})") from error


def _shared_names(module: nn.Module) -> list[list[str]]:
    """The names in a module's state dict, those of one and the same tensor together."""
    names: dict[int, list[str]] = {}
    for name, tensor in module.state_dict(keep_vars=True).items():
        names.setdefault(id(tensor), []).append(name)
    return list(names.values())


def save_run(folder: Path, system: System, card: Card) -> None:
    """Write weights and card into a run folder."""
    save_weights(system, folder / WEIGHTS_NAME)
    card.weights_sha256 = checksum(folder / WEIGHTS_NAME)
    write_text(folder / CARD_NAME, card.to_json())


def read_whole_card(folder: Path) -> Card:
    """`read_card`, with the options that the card's version did not know, as `earlier_options` has them."""
    card = read_card(folder)
    if card.system in list_systems():
        network, loss = earlier_options(card.system)
        card.network = {**network, **card.network}
        # A card without any says nothing of the training.
        card.loss = {**loss, **card.loss} if card.loss else {}
    return card


def load_run(folder: Path | str) -> tuple[System, Card]:
    """The system of a finished run, in eval mode on the CPU, and its card.

    folder: of the run, or its place on the hub (`crossband.hub.fetch`).

    A card may be a stranger's: nothing in it starts a download or opens a file, and the network is built only
    if its weights are in the folder. Raises WeightsError for what does not fit or is damaged.
    """
    folder = run_folder(folder)
    card = read_whole_card(folder)
    # The weights are in the folder; what they began as is not fetched or opened again.
    network = {name: None if name.endswith("weights") else value for name, value in card.network.items()}
    for name, value in network.items():
        if not _is_plain(value):
            raise WeightsError(
                f"{folder / CARD_NAME}: {name} {quoted(value)} is no plain name of an encoder or choice, and "
                "what it names is not fetched for a card"
            )
    classes = None if card.classes is None else len(card.classes)
    _check_sizes(folder, card, classes, network)
    weights = whole_weights(folder, card)
    with _WithoutRandomStart():
        system = create(card.system, classes, **network)
    system.variant = card.variant
    system.encoder_origin = card.encoder_origin
    # Also the options that came later, whose defaults are what the card's version did.
    card.network = {**system.network_options, **card.network}
    load_weights(system, weights)
    return system.eval(), card


class _WithoutRandomStart(TorchFunctionMode):
    """Networks that are made within have parameters of any value, which takes a fraction of the time.

    For weights that are read next, all of them. Constants are what they are, and no random number is drawn.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__name__", None) in _RANDOM:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def _is_plain(value: Any) -> bool:
    """Whether an option holds no text, at any depth, that could be a path or a place on a network."""
    if isinstance(value, Mapping):
        return all(map(_is_plain, value.values()))
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return not isinstance(value, str) or _PLAIN_NAME.fullmatch(value) is not None


def _check_sizes(folder: Path, card: Card, classes: int | None, network: dict[str, Any]) -> None:
    """Build the network without values, and hold it against the file's header: before memory is taken."""
    path = find_weights(folder)
    try:
        with safe_open(path, framework="pt") as file:
            there = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        with torch.device("meta"), _WithoutRandomStart():
            system = create(card.system, classes, **network)
    except OptionError:
        raise
    except (
        SafetensorError,
        OSError,
        ValueError,
        TypeError,
        RuntimeError,
        OverflowError,
        MemoryError,
    ) as error:
        raise WeightsError(f"{path} does not hold the weights of this network ({shortly(error)})") from error
    wanted = {name: tuple(tensor.shape) for name, tensor in system.state_dict().items()}
    differing = sorted(name for name, shape in there.items() if wanted.get(name) != shape)
    # What the file lacks must not be made either; of names that share a tensor, it holds one.
    differing += [names[0] for names in _shared_names(system) if there.keys().isdisjoint(names)]
    if differing:
        raise WeightsError(
            f"{path} does not hold the weights of this network (they differ in {quoted(differing[0])})"
        )
