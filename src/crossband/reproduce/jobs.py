"""From rows of tables to trainings: each is one job, whichever rows and tables need it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from crossband.errors import CrossbandError, OptionError, PairError
from crossband.pairs.opening import list_splits, open_pairs, parse_source
from crossband.reproduce import quick
from crossband.reproduce.settings import Settings
from crossband.reproduce.table import Row, Table, Use
from crossband.systems import loss_options, network_options, split_options
from crossband.training.options import TrainOptions
from crossband.training.resolving import resolve
from crossband.words import Bands

LEFT_OUT = "left out by --rows"


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


@dataclass
class Plan:
    """Jobs by name, those that others reuse before them, and what each cell of a table reads.

    reads: the job (without its seed) and the test of a row on a benchmark, whether or not the row is to be
        filled. problems: why it is not, or cannot be. Both by (table, index of the row, benchmark).
    """

    tables: tuple[Table, ...]
    settings: Settings
    seeds: int
    jobs: dict[str, Job] = field(default_factory=dict)
    reads: dict[tuple[str, int, str], tuple[str, Scoring]] = field(default_factory=dict)
    problems: dict[tuple[str, int, str], str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Teacher:
    """A run that can take a phase's place: its system, its own phase, and the options that make it one."""

    system: str
    phase: str
    options: Mapping[str, Any]


_TEACHERS = {
    ("csknet", "teacher"): _Teacher("deeplabv3plus", "segmentation", {"band": "visible"}),
    ("disoptnet", "teacher"): _Teacher("deeplabv3plus", "segmentation", {"band": "visible"}),
    ("mmanet", "teacher"): _Teacher("mmanet", "segmentation", {"modality_dropout": False}),
}


def make_plan(
    tables: Sequence[Table],
    settings: Settings,
    *,
    seeds: int,
    rows: Mapping[str, Iterable[int]] | None = None,
) -> Plan:
    """The jobs that fill some tables, for seeds 0 to ``seeds`` - 1.

    rows: by table, the indices of the rows to fill; None fills all. A row that cannot be set up is kept
    with the reason. Raises OptionError if no table has data.
    """
    plan = Plan(tuple(tables), settings, seeds)
    _check_sources(tables, settings)
    for table in tables:
        if settings.on is None and not set(table.benchmarks) & set(settings.data):
            needed = " and ".join(f"--data {key}:PATH" for key in table.benchmarks)
            raise OptionError(f"{table.name} needs {needed}; or fill it on other data, with --on scenes")
        wanted = range(len(table.rows)) if rows is None else set(rows[table.name])
        for index in range(len(table.rows)):
            for benchmark in table.benchmarks:
                key = (table.name, index, benchmark)
                if settings.on is None and benchmark not in settings.data:
                    plan.problems[key] = f"no data: give --data {benchmark}:PATH"
                else:
                    _add_row(plan, table, index, benchmark, wanted=index in wanted)
    return plan


def _add_row(plan: Plan, table: Table, index: int, benchmark: str, *, wanted: bool) -> None:
    row, use = table.rows[index], table.uses[benchmark]
    test = Scoring(row.bands, tuple(sorted(row.at_test.items())))
    try:
        made = [_jobs_of(row, benchmark, use, plan.settings, seed, test) for seed in range(plan.seeds)]
    except CrossbandError as error:
        plan.problems[table.name, index, benchmark] = str(error)
        return
    plan.reads[table.name, index, benchmark] = made[0][-1].identity, test
    if not wanted:
        plan.problems[table.name, index, benchmark] = LEFT_OUT
        return
    label = f"{table.name} {row.label} {row.bands}"
    for jobs in made:
        for job in jobs:
            before = plan.jobs.get(job.name, job)
            last = job is jobs[-1]
            plan.jobs[job.name] = replace(
                before,
                scorings=_joined(before.scorings, (test,) if last else ()),
                rows=_joined(before.rows, (label,) if last else ()),
            )


def _joined(before: tuple[Any, ...], more: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(dict.fromkeys([*before, *more]))


def _jobs_of(row: Row, benchmark: str, use: Use, settings: Settings, seed: int, test: Scoring) -> list[Job]:
    """The job of a row, after those that it reuses."""
    place = _place(benchmark, use, settings)
    options = train_options(row, benchmark, use, settings, place.source, seed)
    jobs: list[Job] = []
    reuses = {}
    for (system, phase), teacher in _TEACHERS.items():
        if system == row.system and (taken := _teacher(options, phase, teacher)) is not None:
            jobs.append(_job(taken, {}, place))
            reuses[phase] = jobs[-1].name
    return [*jobs, _job(options, reuses, place)]


@dataclass(frozen=True)
class _Place:
    """Where a row runs. name: of the folder of its jobs. source: with the options of the paper's use."""

    name: str
    source: str
    test_split: str


def _place(benchmark: str, use: Use, settings: Settings) -> _Place:
    if settings.on is not None:
        return _Place(parse_source(settings.on).name, settings.on, settings.test_split)
    source = parse_source(settings.data[benchmark])
    options = {**use.options, **source.options}
    return _Place(benchmark, str(replace(source, options=options)), settings.test_split)


def _check_sources(tables: Sequence[Table], settings: Settings) -> None:
    """Raise OptionError or PairError for data that would fail every row."""
    sources = [settings.data[key] for table in tables for key in table.benchmarks if key in settings.data]
    for source in [settings.on] if settings.on is not None else dict.fromkeys(sources):
        splits = list_splits(source)
        if settings.test_split not in splits:
            raise OptionError(
                f"{source} has no split {settings.test_split!r} to score; name one of {', '.join(splits)} "
                "with --test_split"
            )
        split = "train" if "train" in splits else splits[0]
        if open_pairs(source, split).classes is None:
            raise PairError(
                f"{source} has no labels in split {split!r}, and so no classes, which the tables are about: "
                "add the folder label, and classes.yaml for their names"
            )


def train_options(
    row: Row, benchmark: str, use: Use, settings: Settings, source: str, seed: int
) -> TrainOptions:
    """How a row is trained, without the place of its run. Raises OptionError for what does not exist."""
    known = network_options(row.system)
    options = dict(row.options) if settings.on is not None else row.options_for(benchmark)
    encoder = options.pop("encoder", None)
    recipe: dict[str, Any] = {}
    augmentation: dict[str, Any] = {}
    phases: dict[str, dict[str, Any]] = {}
    if settings.budget == "quick":
        encoder = settings.encoder or quick.ENCODER
        particular = quick.QUICK_OPTIONS.get(row.system, quick.Quick())
        widths = {"decoder_channels": quick.DECODER_CHANNELS} if "decoder_channels" in known else {}
        options = {**widths, **particular.options, **options}
        recipe.update({**quick.RECIPE, **settings.recipe})
        phases = {
            phase: {
                name: value for name, value in changes.items() if name not in {*settings.recipe} - {"epochs"}
            }
            for phase, changes in particular.phase_recipes(recipe["epochs"]).items()
        }
        if parse_source(source).name != "scenes":
            augmentation["crop"] = list(quick.CROP)
    elif settings.on is None:
        recipe.update(use.recipes.get(row.system, {}))
        augmentation.update(use.augmentations.get(row.system, {}))
    recipe.update(settings.recipe)
    encoder = encoder or settings.encoder or known.get("encoder")
    network, loss = split_options(row.system, options)
    made = TrainOptions(
        system=row.system,
        data=source,
        out="",
        encoder=encoder if "encoder" in known else None,
        encoder_weights=settings.start_of(encoder) if encoder and "encoder_weights" in known else None,
        network=network,
        loss=loss,
        recipe={"name": row.recipe if settings.budget == "paper" else "quick", **recipe},
        phases=phases,
        augmentation=augmentation,
        seed=seed,
        devices=settings.devices,
        **_selection(use, settings, source),
    )
    # What does not exist is found now, not after hours of other jobs.
    resolve(made)
    unknown = sorted({*row.at_test} - {*known})
    if unknown:
        raise OptionError(f"{row.system} has no network option {', '.join(unknown)}")
    return made


def _selection(use: Use, settings: Settings, source: str) -> dict[str, Any]:
    """What chooses the checkpoint: never the test split."""
    if settings.budget == "quick":
        return {"hold_out": 0.0, "select": "last"}
    official = settings.on is None and use.validation != settings.test_split
    if official and use.validation in list_splits(source):
        return {"validation": use.validation}
    return {"hold_out": 0.1}


def _teacher(options: TrainOptions, phase: str, teacher: _Teacher) -> TrainOptions | None:
    """The training whose network can take a phase's place, or None where it is trained in another way."""
    given = _flat(options)
    if teacher.system == options.system and teacher.options.items() <= given.items():
        return None  # It is the teacher.
    known, defaults = _defaults(teacher.system), _defaults(options.system)
    shared = {name: given.get(name, defaults[name]) for name in known if name in defaults}
    differing = {
        name: value
        for name, value in shared.items()
        if value != known[name] and name not in ("encoder", "encoder_weights", *teacher.options)
    }
    network, loss = split_options(teacher.system, {**differing, **teacher.options})
    name = options.recipe["name"] if options.recipe["name"] == "quick" else "paper"
    taken = replace(
        options,
        system=teacher.system,
        network=network,
        loss=loss,
        recipe={**options.recipe, "name": name},
        phases={},
    )
    ours, theirs = resolve(options), resolve(taken)
    alike = (
        ours.recipe(phase) == theirs.recipe(teacher.phase) and ours.augmentation() == theirs.augmentation()
    )
    return taken if alike else None


def _flat(options: TrainOptions) -> dict[str, Any]:
    """The options of network and loss in one mapping."""
    return {**options.network, **options.loss}


def _defaults(system: str) -> dict[str, Any]:
    return {**network_options(system), **loss_options(system)}


def _job(options: TrainOptions, reuses: Mapping[str, str], place: _Place) -> Job:
    known = _defaults(options.system)
    # An option at its default is the same training as one that is not given.
    network, loss = (
        {name: value for name, value in given.items() if value != known.get(name, options)}
        for given in (options.network, options.loss)
    )
    options = replace(options, network=network, loss=loss)
    identity = asdict(options)
    for elsewhere in ("out", "seed", "devices", "accelerator", "workers", "reuse"):
        del identity[elsewhere]
    # The settings of the folder know where the data are; a job's name is the same on every machine.
    identity["data"] = [place.name, sorted(parse_source(options.data).options.items())]
    identity["reuses"] = {phase: name.split("/")[1] for phase, name in reuses.items()}
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:8]
    name = f"{place.name}/{options.system}-{digest}/seed{options.seed}"
    return Job(name, options, dict(reuses), place.test_split)


def folder_of(out: Path, job: Job | str) -> Path:
    """Where a job lies under an output folder."""
    return out / "jobs" / (job if isinstance(job, str) else job.name)
