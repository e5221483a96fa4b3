"""The card of a run as it goes to others: without the folders that it came from.

Where pairs, weights and runs lie on somebody's machine names people and projects, and helps nobody else. The
last name of a place stays, so that two sets or two runs are told apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path, PureWindowsPath
from typing import Any

from crossband.card import Card
from crossband.errors import OptionError
from crossband.pairs.opening import Source, parse_source

_REMOTE = "hf://"


def without_folders(card: Card) -> Card:
    """A card whose data, weights and runs are called by their last names alone.

    What has an address of its own (``hf://OWNER/NAME@REVISION``) and what was generated stay as they are.

    >>> card = Card("csknet", {}, None, "full-range", {}, {}, training={"data": "folder:/home/me/street"})
    >>> without_folders(card).training
    {'data': 'folder:street'}
    """
    training = _changed(card.training, {"data": source_name, "start_from": last_name})
    training = _changed(
        training,
        {
            "checkpoint": lambda phases: _each(phases, {"reused": last_name}),
            "origins": lambda runs: _each(runs, {"run": last_name, **_MADE_OF}),
            "recalibrated": lambda told: _changed(told, {"from": last_name, "data": source_name}),
        },
    )
    return replace(card, training=training, encoder_origin=last_name(card.encoder_origin))


def last_name(place: Any) -> Any:
    """The last name of a path, of this system or of Windows; anything else as it is.

    >>> last_name("/home/me/runs/first"), last_name("C:\\\\runs\\\\first"), last_name("imagenet")
    ('first', 'first', 'imagenet')
    """
    if not isinstance(place, str) or place.startswith(_REMOTE):
        return place
    return PureWindowsPath(place).name or place


def source_name(source: Any) -> Any:
    """A source of pairs with the last name of its path, and of its rig file.

    Patterns and topics among its options stay whole: they say how the pairs lie within it.

    >>> source_name("frames:/home/me/drive,rig=/home/me/rig.json"), source_name("scenes,seed=1")
    ('frames:drive,rig=rig.json', 'scenes,seed=1')
    """
    if not isinstance(source, str):
        return source
    try:
        parsed = parse_source(source)
    except OptionError:
        # Of another package, or of a later version: what it is called, and no more.
        return source.partition(":")[0]
    path = None if parsed.path is None else Path(last_name(str(parsed.path)))
    options = {key: last_name(value) if key == "rig" else value for key, value in parsed.options.items()}
    return str(Source(parsed.name, path, options))


_MADE_OF = {"data": source_name, "encoder_origin": last_name}


def _changed(fields: Any, changes: Mapping[str, Callable[[Any], Any]]) -> Any:
    """A mapping with some of its fields changed; anything else, which no version writes, as it is."""
    if not isinstance(fields, Mapping):
        return fields
    return {key: changes[key](value) if key in changes else value for key, value in fields.items()}


def _each(fields: Any, changes: Mapping[str, Callable[[Any], Any]]) -> Any:
    """`_changed` of each entry of a list or of a mapping."""
    if isinstance(fields, Mapping):
        return {key: _changed(value, changes) for key, value in fields.items()}
    return [_changed(value, changes) for value in fields] if isinstance(fields, list) else fields
