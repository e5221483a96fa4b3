"""A table with our column: what the finished jobs of an output folder say for each of its cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from crossband.card import Card
from crossband.errors import OptionError
from crossband.evaluation.pair_counts import read_pair_counts
from crossband.info import Parameters
from crossband.metrics.protocols import DEFAULT_PROTOCOL
from crossband.metrics.resampling import Interval, mean_class_accuracies, mean_ious, runs_interval
from crossband.reproduce.facts import made_with
from crossband.reproduce.folders import counts_of, is_trained, read_scores, run_of, scores_of
from crossband.reproduce.jobs import Plan, Scoring, Spot
from crossband.reproduce.settings import Settings
from crossband.reproduce.sizes import published_size, run_size
from crossband.reproduce.table import Column, Measure, Row, Table
from crossband.weights import read_whole_card

OURS = DEFAULT_PROTOCOL


@dataclass(frozen=True)
class Block:
    """Columns that our figures are held against together: one of the paper, or, on other data, all of a kind.

    comparable: whether ours are on the data of the printed column.
    """

    columns: tuple[Column, ...]
    comparable: bool

    @property
    def benchmark(self) -> str:
        """Whose jobs are read."""
        return self.columns[0].benchmark

    @property
    def measure(self) -> Measure:
        return self.columns[0].measure


@dataclass(frozen=True)
class Ours:
    """Our figures of a cell, one per finished seed, as shares in [0, 1]; or why there are none.

    interval: of their mean, over pairs and seeds (`runs_interval`); None where what each pair counted was not
    kept, or there is a single pair.
    """

    values: tuple[float, ...] = ()
    problem: str = ""
    interval: Interval | None = None

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
    """A table to be printed. facts: what our figures were made with."""

    table: Table
    settings: Settings
    blocks: tuple[Block, ...]
    rows: tuple[FilledRow, ...]
    facts: Mapping[str, str] = field(default_factory=dict)

    def protocols(self, block: Block) -> tuple[str | None, ...]:
        """The protocols that a block is shown under, the paper's first."""
        return _protocols(self.table, block)

    def is_held(self, block: Block, protocol: str | None) -> bool:
        """Whether a difference between ours under a protocol and the printed figures means something."""
        return block.comparable and protocol in (self.table.protocol, None)


@dataclass(frozen=True)
class _Found:
    """What there is of a row on a benchmark: its scores and cards, by finished seed; or why there is none.

    matrices: (S, N, C, C), what every seed counted in every pair; None where that was not kept by all.
    """

    scores: list[dict[str, Any]] = field(default_factory=list)
    cards: dict[str, Card] = field(default_factory=dict)
    problem: str = ""
    matrices: np.ndarray | None = None


def fill(table: Table, plan: Plan, out: Path, failed: Mapping[str, str], facts: Mapping[str, str]) -> Filled:
    """Read what an output folder has for a table. failed: why jobs failed, by name. facts: further ones."""
    blocks = _blocks(table, plan.settings)
    rows = []
    cards: dict[str, Card] = {}
    tested: set[int] = set()
    for index, row in enumerate(table.rows):
        found = [_find((table.name, index, block.benchmark), plan, out, failed) for block in blocks]
        scores = [each for part in found for each in part.scores]
        made = {name: card for part in found for name, card in part.cards.items()}
        cards |= made
        tested |= {each["pairs"] for each in scores}
        ours = {
            (number, protocol): _ours(part, block.measure, protocol)
            for number, (block, part) in enumerate(zip(blocks, found, strict=True))
            for protocol in _protocols(table, block)
        }
        as_run = run_size(row, next(iter(made.values()))) if made else None
        fallback = any(each["support"] == "fallback" for each in scores)
        rows.append(FilledRow(row, ours, published_size(row, table), as_run, fallback))
    known = made_with(table, plan.settings, list(cards.values()), tested)
    return Filled(table, plan.settings, blocks, tuple(rows), {**known, **facts})


def _blocks(table: Table, settings: Settings) -> tuple[Block, ...]:
    if settings.on is None:
        return tuple(Block((column,), comparable=True) for column in table.columns)
    kinds: dict[Measure, list[Column]] = {}
    for column in table.columns:
        kinds.setdefault(column.measure, []).append(column)
    return tuple(Block(tuple(columns), comparable=False) for columns in kinds.values())


def _protocols(table: Table, block: Block) -> tuple[str | None, ...]:
    if block.measure == "mean_class_accuracy":
        return (None,)
    return (table.protocol,) if table.protocol == OURS else (table.protocol, OURS)


def _find(spot: Spot, plan: Plan, out: Path, failed: Mapping[str, str]) -> _Found:
    problem = plan.problems.get(spot, "")
    if spot not in plan.reads:
        return _Found(problem=problem)
    identity, test = plan.reads[spot]
    names = [f"{identity}/seed{seed}" for seed in range(plan.seeds)]
    cards = {name: read_whole_card(run_of(out, name)) for name in names if is_trained(out, name)}
    there = {name: each for name in names if (each := read_scores(out, name, test)) is not None}
    if there:
        return _Found(list(there.values()), cards, matrices=_matrices(out, list(there), test))
    failure = next((f"failed: {failed[name]}" for name in names if name in failed), "not finished")
    return _Found([], cards, problem or failure)


def _matrices(out: Path, names: Sequence[str], test: Scoring) -> np.ndarray | None:
    paths = [counts_of(out, name, test) for name in names]
    if not all(path.is_file() for path in paths):
        return None
    counted = []
    for path, name in zip(paths, names, strict=True):
        try:
            counted.append(read_pair_counts(path).matrices[test.bands])
        except (OptionError, KeyError) as error:
            raise OptionError(
                f"{path} is damaged; delete it and {scores_of(out, name, test).name} beside it, and the same "
                "command scores this job again"
            ) from error
    # One pair has nothing to be drawn from; runs on other pairs have nothing in common.
    return np.stack(counted) if len({each.shape for each in counted}) == 1 and len(counted[0]) > 1 else None


def _ours(found: _Found, measure: Measure, protocol: str | None) -> Ours:
    if found.problem:
        return Ours(problem=found.problem)
    if protocol is None:
        values = [scores["overall"][measure] for scores in found.scores]
    else:
        values = [scores["overall"]["mean_iou"][protocol]["value"] for scores in found.scores]
    there = tuple(value for value in values if value is not None)
    if found.matrices is not None and len(there) == len(values):
        score = mean_class_accuracies if protocol is None else partial(mean_ious, protocol=protocol)
        return Ours(there, interval=runs_interval(found.matrices, score))
    return Ours(there) if there else Ours(problem="the test split has no labelled pixel")
