"""What decides every training under one output folder, and the file there that holds later ones to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from crossband.errors import OptionError, first_line, quoted
from crossband.locks import folder_lock
from crossband.pairs.benchmarks import BENCHMARKS
from crossband.pairs.opening import parse_source
from crossband.pairs.writing import write_text
from crossband.recipe import Recipe
from crossband.words import Budget
from crossband.yaml_files import read_yaml, yaml_text

SETTINGS_NAME = "settings.yaml"
SCENES = "scenes,seed=0,train=128,val=0,test=60,size=96x128"
"""The generated scenes of ``--on scenes``: small, so that a table is filled on a CPU."""


@dataclass(frozen=True)
class Settings:
    """How the tables of an output folder are filled.

    budget: "paper" trains each system by its paper's recipe; "quick" all of them shortly, small and alike.
    data: the source of each benchmark, by its key. on: a source that stands for all of them, or None.
    encoder: the one of all systems; None is each system's own, and for "quick" one small one.
    encoder_weights: by encoder, "imagenet" or a path; under "" for those that are not named.
    recipe: changes to every recipe. test_split: the split that is scored. devices: that each job trains on; a
    recipe's batch size is that of one of them.
    """

    budget: Budget = "paper"
    data: Mapping[str, str] = field(default_factory=dict)
    on: str | None = None
    encoder: str | None = None
    encoder_weights: Mapping[str, str] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    test_split: str = "test"
    devices: int = 1

    def start_of(self, encoder: str) -> str | None:
        """Where an encoder's first weights come from; None is a random start."""
        named = self.encoder_weights.get(encoder, self.encoder_weights.get(""))
        return None if named == "none" else named


def make_settings(
    *,
    budget: Budget,
    data: list[str],
    on: str | None,
    encoder: str | None,
    encoder_weights: list[str],
    recipe: Mapping[str, Any],
    test_split: str,
    devices: int = 1,
) -> Settings:
    """Settings from the words of the command line.

    data: sources of benchmarks. on: "scenes" for `SCENES`, or a source ``scenes,...`` or ``folder:PATH``.
    encoder_weights: "imagenet", "none" or a path for all encoders, or ``ENCODER=`` and one of these. Without
    any, "paper" starts from ImageNet weights, as the papers do, and "quick" at random.

    Raises OptionError for what does not exist or does not go together.
    """
    if test_split == "train":
        raise OptionError("--test_split train would score the pairs that were trained on; name another split")
    if on is not None and data:
        raise OptionError("--on takes the place of all benchmarks: leave out --data, or --on")
    sources: dict[str, str] = {}
    for text in data:
        source = parse_source(text)
        if source.name not in BENCHMARKS:
            raise OptionError(
                f"--data {text}: the tables are about benchmarks ({', '.join(BENCHMARKS)}); to fill them on "
                "other data write --on instead"
            )
        if source.name in sources:
            raise OptionError(f"--data names {source.name} twice; give each benchmark once")
        sources[source.name] = _absolute(text)
    if on is not None:
        on = SCENES if on == "scenes" else on
        if parse_source(on).name in BENCHMARKS:
            raise OptionError(
                f"--on {on}: is for scenes and folders, where printed figures do not apply; for a benchmark "
                "write --data"
            )
        on = _absolute(on)
    Recipe().replace(recipe)  # Refuses what a recipe does not have.
    starts = {"": "imagenet"} if budget == "paper" and not encoder_weights else {}
    for text in encoder_weights:
        name, equals, source_of = text.partition("=")
        starts |= {name: _place(source_of)} if equals else {"": _place(text)}
    return Settings(
        budget=budget,
        data=sources,
        on=on,
        encoder=encoder,
        encoder_weights=starts,
        recipe=dict(recipe),
        test_split=test_split,
        devices=devices,
    )


def _absolute(text: str) -> str:
    """A source with its path made absolute: workers may have started elsewhere."""
    source = parse_source(text)
    return text if source.path is None else str(replace(source, path=source.path.resolve()))


def _place(text: str) -> str:
    return text if text in ("imagenet", "none") else str(Path(text).expanduser().resolve())


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
    except (TypeError, ValueError) as error:
        raise OptionError(
            f"{path} does not hold settings of tables ({first_line(error)}); choose another --out"
        ) from error
    here, before = asdict(settings), asdict(there)
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


def _spoken(value: Any) -> str:
    if value in (None, {}, ""):
        return "none"
    return value if isinstance(value, str) and len(value) <= 80 else quoted(value)
