"""What the figures of a table were made with, in words."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from crossband.card import Card
from crossband.pairs.opening import parse_source
from crossband.reproduce.settings import Settings
from crossband.reproduce.table import Table
from crossband.text import counted, spoken_time


def made_with(
    table: Table, settings: Settings, cards: Sequence[Card], tested: Collection[int]
) -> dict[str, str]:
    """What our figures were made with, in words; paths stay out of it.

    cards: of the runs behind them. tested: the numbers of pairs that were scored.
    """
    used = {key: dict(table.uses[key].options) for key in table.benchmarks if key in settings.data}
    sources = [_spoken_source(settings.data[key], options) for key, options in used.items()]
    if settings.on is not None:
        sources = [_spoken_source(settings.on, {})]
    facts = {"data": "; ".join(sources)}
    if tested:
        facts["tested on"] = f"split {settings.test_split}, {_among(sorted(tested))} pairs"
    facts["budget"] = settings.budget
    if settings.recipe:
        facts["recipe changes"] = ", ".join(f"{name} {value}" for name, value in settings.recipe.items())
    if cards:
        histories = [card.training for card in cards]
        encoders = {
            f"{card.network['encoder']} from {_start(card.encoder_origin)}"
            for card in cards
            if "encoder" in card.network
        }
        chosen = {
            str(choice["chosen_by"])
            for history in histories
            for choice in history["checkpoint"].values()
            if "chosen_by" in choice
        }
        seconds = sum(history["seconds"] for history in histories)
        facts |= {
            "encoders": "; ".join(sorted(encoders)),
            "trained on": f"{_among(sorted({history['pairs'] for history in histories}))} pairs",
            "checkpoints": "; ".join(sorted(chosen)),
            "seeds": ", ".join(map(str, sorted({history["seed"] for history in histories}))),
            "hardware": "; ".join(sorted({str(history["hardware"]) for history in histories})),
            "time of training": f"{spoken_time(seconds)} in all, {counted(len(cards), 'run')}",
            "Crossband": "; ".join(
                sorted({f"{card.crossband}, revision {card.git_revision or 'unknown'}" for card in cards})
            ),
        }
    return facts


def _spoken_source(text: str, options_of_use: Mapping[str, str]) -> str:
    source = parse_source(text)
    options = ",".join(f"{key}={value}" for key, value in {**options_of_use, **source.options}.items())
    return ",".join(filter(None, [source.name, options]))


def _start(origin: str | None) -> str:
    if origin is None:
        return "a random start"
    return "ImageNet weights" if origin == "imagenet" else f"the file {Path(origin).name}"


def _among(numbers: list[int]) -> str:
    return " or ".join(f"{number:,}" for number in numbers)
