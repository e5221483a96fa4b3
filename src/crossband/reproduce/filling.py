"""A table with our column: what the finished jobs of an output folder say for each of its cells."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from statistics import mean
from typing import Any

import torch

from crossband.errors import CrossbandError
from crossband.info import Parameters, count_all
from crossband.metrics.protocols import DEFAULT_PROTOCOL
from crossband.pairs.benchmarks import BENCHMARKS
from crossband.pairs.opening import parse_source
from crossband.reproduce.estimate import spoken_time
from crossband.reproduce.jobs import Plan, Scoring
from crossband.reproduce.running import read_scores, run_of
from crossband.reproduce.settings import Settings
from crossband.reproduce.table import Column, Measure, Row, Table
from crossband.systems import create, make_training, split_options
from crossband.weights import CARD_NAME, Card, read_card
from crossband.words import Bands

OURS = DEFAULT_PROTOCOL


@dataclass(frozen=True)
class Block:
    """Columns that our figures are held against together: one of the paper, or, on other data, all of a kind.

    benchmark: whose jobs are read. comparable: whether ours are on the data of the printed column.
    """

    columns: tuple[Column, ...]
    measure: Measure
    benchmark: str
    comparable: bool


@dataclass(frozen=True)
class Ours:
    """Our figures of a cell, one per finished seed, as shares in [0, 1]; or why there are none."""

    values: tuple[float, ...] = ()
    problem: str = ""

    @property
    def mean(self) -> float:
        return mean(self.values)


@dataclass(frozen=True)
class FilledRow:
    """A row with our figures. ours: by block and protocol (None for what has no protocols).

    published_size, run_size: parameters on the row's bands at the paper's size and as it was run here, or
    None where a network cannot be built or was not run. fallback: whether the system was not designed for
    the bands.
    """

    row: Row
    ours: Mapping[tuple[int, str | None], Ours]
    published_size: Parameters | None
    run_size: Parameters | None
    fallback: bool = False


@dataclass(frozen=True)
class Filled:
    """A table to be printed. cards: of the finished runs behind it. facts: what they were made with."""

    table: Table
    settings: Settings
    seeds: int
    blocks: tuple[Block, ...]
    rows: tuple[FilledRow, ...]
    facts: Mapping[str, str] = field(default_factory=dict)

    def protocols(self, block: Block) -> tuple[str | None, ...]:
        """The protocols that a block is shown under, the paper's first."""
        if block.measure == "mean_class_accuracy":
            return (None,)
        return (self.table.protocol,) if self.table.protocol == OURS else (self.table.protocol, OURS)


def fill(
    table: Table, plan: Plan, out: Path, problems: Mapping[str, str], facts: Mapping[str, str]
) -> Filled:
    """Read what an output folder has for a table. problems: why jobs failed, by name."""
    filled = Filled(table, plan.settings, plan.seeds, _blocks(table, plan.settings), ())
    rows = []
    cards: dict[Path, Card] = {}
    tested: set[int] = set()
    for index, row in enumerate(table.rows):
        ours: dict[tuple[int, str | None], Ours] = {}
        size, fallback = None, False
        for number, block in enumerate(filled.blocks):
            key = (table.name, index, block.benchmark)
            found: list[dict[str, Any]] = []
            problem = plan.problems.get(key, "")
            if key in plan.reads:
                identity, test = plan.reads[key]
                found, why = _scores(identity, test, plan, out, problems)
                problem = "" if found else problem or why
                runs = [run_of(out, f"{identity}/seed{seed}") for seed in range(plan.seeds)]
                made = {run: read_card(run) for run in runs if (run / CARD_NAME).is_file()}
                cards |= made
                tested |= {scores["pairs"] for scores in found}
                fallback = fallback or any(scores["support"] == "fallback" for scores in found)
                if made and size is None:
                    size = _size_of_card(next(iter(made.values())), row)
            for protocol in filled.protocols(block):
                ours[number, protocol] = _ours(found, block, protocol, problem)
        rows.append(FilledRow(row, ours, published_size(row, table), size, fallback))
    made_with = _facts(table, plan.settings, list(cards.values()), tested)
    return Filled(table, plan.settings, plan.seeds, filled.blocks, tuple(rows), {**made_with, **facts})


def _blocks(table: Table, settings: Settings) -> tuple[Block, ...]:
    if settings.on is None:
        return tuple(Block((c,), c.measure, c.benchmark, comparable=True) for c in table.columns)
    kinds: dict[Measure, list[Column]] = {}
    for column in table.columns:
        kinds.setdefault(column.measure, []).append(column)
    return tuple(
        Block(tuple(columns), measure, columns[0].benchmark, comparable=False)
        for measure, columns in kinds.items()
    )


def _scores(
    identity: str, test: Scoring, plan: Plan, out: Path, problems: Mapping[str, str]
) -> tuple[list[dict[str, Any]], str]:
    """The scores of the finished seeds, and if there are none, why."""
    names = [f"{identity}/seed{seed}" for seed in range(plan.seeds)]
    found = [scores for name in names if (scores := read_scores(out, name, test)) is not None]
    if found:
        return found, ""
    return [], next((f"failed: {problems[name]}" for name in names if name in problems), "not finished")


def _ours(found: list[dict[str, Any]], block: Block, protocol: str | None, problem: str) -> Ours:
    if problem:
        return Ours(problem=problem)
    if protocol is None:
        values = [scores["overall"][block.measure] for scores in found]
    else:
        values = [scores["overall"]["mean_iou"][protocol]["value"] for scores in found]
    there = tuple(value for value in values if value is not None)
    return Ours(there) if there else Ours(problem="the test split has no labelled pixel")


def published_size(row: Row, table: Table) -> Parameters | None:
    """Parameters of the network as the paper has it, with the classes of the table's first benchmark."""
    classes = len(BENCHMARKS[table.benchmarks[0]].classes)
    options = {**row.options_for(table.benchmarks[0]), **row.at_test}
    return _size(row.system, classes, json.dumps(options, sort_keys=True), row.bands)


def _size_of_card(card: Card, row: Row) -> Parameters | None:
    network = {**card.network, **row.at_test}
    classes = 0 if card.classes is None else len(card.classes)
    return _size(card.system, classes, json.dumps({**card.loss, **network}, sort_keys=True), row.bands)


@lru_cache(maxsize=256)
def _size(system: str, classes: int, options: str, bands: Bands) -> Parameters | None:
    """Counted on networks without weights. None for one that cannot be built: its row says why."""
    try:
        with torch.device("meta"):
            network, loss = split_options(system, json.loads(options))
            built = create(system, classes or None, **network)
            built.given_training = make_training(system, **loss)
            return count_all(built)[bands]
    except CrossbandError:
        return None


def _facts(table: Table, settings: Settings, cards: list[Card], tested: set[int]) -> dict[str, str]:
    """What our figures were made with, in words; paths stay out of it."""
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
            "time of training": f"{spoken_time(seconds)} in all, {len(cards)} runs",
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
