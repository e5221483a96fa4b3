"""The card of a run folder, and whether a run is one: found out without PyTorch."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from textwrap import shorten
from typing import Any

from crossband.card import CARD_NAME, FORMAT, Card
from crossband.errors import CrossbandError, OptionError, WeightsError, did_you_mean, first_line
from crossband.pairs.band_summary import PairsSummary
from crossband.systems.registry import list_systems, needs_training, ready_systems

WEIGHTS_NAME = "weights.safetensors"


def check_run(run: str | Path) -> Card | None:
    """Find what is wrong with a run before anything heavy is loaded: images cannot mend it.

    A folder that has the name of a system counts only if it holds a run.

    Returns its card; None for the name of a system that needs no training. Raises WeightsError for a run
    folder that is not there, not finished, damaged in its card or without weights, and for a system that must
    be trained first.
    """
    name = str(run)
    if name in list_systems() and not (Path(run) / CARD_NAME).exists():
        if needs_training(name):
            raise WeightsError(
                f"{name} must be trained before it is used: name a run folder "
                f"(`crossband train {name} ...` makes one)"
            )
        return None
    hint = did_you_mean(name, ready_systems())
    if hint and not Path(run).exists():
        raise WeightsError(f"run folder {run} is not there, nor a system of that name{hint}")
    card = read_card(Path(run))
    find_weights(Path(run))
    return card


def trained_on(card: Card) -> PairsSummary | None:
    """What a run was trained on, for images to be held against; None where its card does not say.

    Raises WeightsError where the card says it otherwise.
    """
    fields = card.training.get("trained_on")
    if fields is None:
        return None
    try:
        return PairsSummary.from_dict(fields)
    except (OptionError, TypeError, AttributeError) as error:
        raise WeightsError(
            f"{CARD_NAME} holds no summary of its training pairs ({first_line(error)})"
        ) from error


def find_weights(folder: Path) -> Path:
    """The file of weights of a run folder. Raises WeightsError if it is not there."""
    path = folder / WEIGHTS_NAME
    if not path.is_file():
        raise WeightsError(f"no weights at {path}: the file does not exist")
    return path


def whole_weights(folder: Path, card: Card) -> Path:
    """The file of weights of a run folder. Raises WeightsError if it is not there, or not the card's."""
    path = find_weights(folder)
    if card.weights_sha256 is not None and checksum(path) != card.weights_sha256:
        raise WeightsError(f"{path} is not as it was written: its checksum is not the card's; copy it again")
    return path


def checksum(path: Path) -> str:
    """The SHA-256 of a file, hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_card(folder: Path) -> Card:
    """The card of a run folder, its fields of their types. Raises WeightsError for anything else."""
    path = folder / CARD_NAME
    if not path.is_file():
        if folder.is_file():
            raise WeightsError(f"{folder} is a file, not a run folder")
        state = "is not there" if not folder.exists() else "has no card.json: its training did not finish"
        raise WeightsError(f"run folder {folder} {state}")
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(fields, dict) or not isinstance(fields["format"], int):
            raise ValueError("it is no mapping with a format")
        if fields["format"] > FORMAT:
            raise WeightsError(f"{path} is of format {fields['format']}; this Crossband reads up to {FORMAT}")
        if fields["format"] < 2:
            fields = _from_format_1(fields)
        return Card.from_fields(fields)
    except WeightsError:
        raise
    except (CrossbandError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise WeightsError(f"{path} is not a card of Crossband ({shortly(error)})") from error


def shortly(error: BaseException) -> str:
    """What an error says, in 200 characters at most."""
    return shorten(str(error) or type(error).__name__, 200, placeholder=" ...")


def _from_format_1(fields: dict[str, Any]) -> dict[str, Any]:
    """A card in which the options of network and loss were one mapping, ``arguments``."""
    from crossband.systems import split_options

    arguments = dict(fields.pop("arguments"))
    classes = fields["classes"]
    if arguments.pop("classes") != (None if classes is None else len(classes["names"])):
        raise ValueError("its arguments build no system")
    network, loss = split_options(fields["system"], arguments)
    return {**fields, "network": network, "loss": loss, "format": FORMAT}
