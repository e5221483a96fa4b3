"""What is to be done, as data: trainings, how their networks are scored, and what reads the scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from crossband.reproduce.settings import Settings
from crossband.reproduce.table import Table
from crossband.training.options import TrainOptions
from crossband.words import Bands

LEFT_OUT = "left out by --rows"
"""Why a row is not filled that was not asked for."""

Spot: TypeAlias = tuple[str, int, str]
"""A row of a table on a benchmark: the table's name, the row's index, the benchmark's key."""


@dataclass(frozen=True)
class Scoring:
    """What is asked of a trained network. options: of the network, that the weights do not depend on."""

    bands: Bands
    options: tuple[tuple[str, Any], ...] = ()

    @property
    def name(self) -> str:
        """Such as ``infrared`` or ``infrared,deploy=student``."""
        return ",".join([self.bands, *(f"{key}={value}" for key, value in self.options)])


@dataclass(frozen=True)
class Job:
    """One training, and how its network is scored.

    name: of its folder, such as ``msrs/csknet-1a2b3c4d/seed0``. options: of the training, without ``out``
    and the places of reused runs. reuses: the jobs whose networks take the place of phases, by phase.
    split: the one that is scored. rows: the rows that read it, for people.
    """

    name: str
    options: TrainOptions
    reuses: Mapping[str, str]
    split: str
    scorings: tuple[Scoring, ...] = ()
    rows: tuple[str, ...] = ()

    @property
    def identity(self) -> str:
        """The name without the seed."""
        return self.name.rpartition("/")[0]

    @property
    def switches(self) -> str:
        """Its system and what sets it apart, such as ``csknet (exchange=False, encoder resnet50)``."""
        options = {**self.options.network, **self.options.loss}
        switches = [f"{name}={value}" for name, value in options.items()]
        if self.options.variant is not None:
            switches.insert(0, f"variant {self.options.variant}")
        if self.options.encoder is not None:
            switches.append(f"encoder {self.options.encoder}")
        return f"{self.options.system} ({', '.join(switches)})" if switches else self.options.system


@dataclass
class Plan:
    """Jobs by name, those that others reuse before them, and what each cell of a table reads.

    reads: the job (without its seed) and the test of a row on a benchmark, whether or not the row is to be
        filled. problems: why it is not, or cannot be.
    """

    tables: tuple[Table, ...]
    settings: Settings
    seeds: int
    jobs: dict[str, Job] = field(default_factory=dict)
    reads: dict[Spot, tuple[str, Scoring]] = field(default_factory=dict)
    problems: dict[Spot, str] = field(default_factory=dict)
