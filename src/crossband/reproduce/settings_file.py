"""The file in an output folder that holds later calls and other workers to its settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from crossband.errors import OptionError, first_line, quoted
from crossband.locks import folder_lock
from crossband.pairs.writing import write_text
from crossband.reproduce.settings import Settings
from crossband.yaml_files import read_yaml, yaml_text

SETTINGS_NAME = "settings.yaml"


def agree(folder: Path, settings: Settings) -> Settings:
    """The settings with the benchmarks that an output folder was already given, held against its others.

    Benchmarks may be added later; everything else stays as it was. Writes nothing. Raises OptionError,
    naming what differs, for other settings.
    """
    path = folder / SETTINGS_NAME
    return replace(settings, data=_agreed(path, settings)) if path.is_file() else settings


def keep(folder: Path, settings: Settings) -> None:
    """Keep the settings in an output folder, for later calls and other workers to agree with."""
    with folder_lock(folder, wait=True):
        text = yaml_text(asdict(agree(folder, settings)))
        write_text(folder / SETTINGS_NAME, text)


def _agreed(path: Path, settings: Settings) -> dict[str, str]:
    """The sources of both. Raises OptionError where the settings differ."""
    try:
        stored = dict(read_yaml(path))
        if "preset" in stored:
            # Folders of earlier versions have the budget under this name.
            stored["budget"] = stored.pop("preset")
        there = Settings(**stored)
        if not all(isinstance(value, Mapping) for value in (there.data, there.encoder_weights, there.recipe)):
            raise TypeError("data, encoder_weights and recipe are mappings")
        if not all(isinstance(source, str) for source in there.data.values()):
            raise TypeError("a source in data is a text")
    except (TypeError, ValueError) as error:
        raise OptionError(
            f"{path} does not hold settings of tables ({first_line(error)}); choose another --out"
        ) from error
    here, before = _comparable(settings), _comparable(there)
    for benchmark in set(here["data"]) & set(before["data"]):
        if here["data"][benchmark] != before["data"][benchmark]:
            raise OptionError(
                f"{path.parent} holds runs on {before['data'][benchmark]}, not on "
                f"{here['data'][benchmark]}; choose another --out"
            )
    for name in here:
        if name != "data" and here[name] != before[name]:
            raise OptionError(
                f"{path.parent} holds runs with {name} {_spoken(before[name])}, not {_spoken(here[name])}; "
                "give the same, or choose another --out"
            )
    return {**before["data"], **here["data"]}


def _comparable(settings: Settings) -> dict[str, Any]:
    """Settings as a mapping, without a random start of all encoders, which is also what is meant by none."""
    weights = {name: of for name, of in settings.encoder_weights.items() if (name, of) != ("", "none")}
    return asdict(replace(settings, encoder_weights=weights))


def _spoken(value: Any) -> str:
    if value in (None, {}, ""):
        return "none"
    return value if isinstance(value, str) and len(value) <= 80 else quoted(value)
