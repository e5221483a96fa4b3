"""From rows of tables to trainings: each is one job, whichever rows and tables need it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from crossband.errors import CrossbandError, OptionError, PairError, quoted
from crossband.pairs.opening import list_splits, open_pairs, parse_source
from crossband.reproduce import quick
from crossband.reproduce.jobs import LEFT_OUT, Job, Plan, Scoring
from crossband.reproduce.settings import Settings
from crossband.reproduce.table import Row, Table, Use
from crossband.systems import loss_options, make_training, network_options, split_options
from crossband.systems.creation import defaults, earlier_options, make_settings
from crossband.training.options import TrainOptions
from crossband.training.resolving import resolve

_DECIDE_NOTHING = ("out", "seed", "devices", "accelerator", "workers", "reuse", "data")
"""Fields of `TrainOptions` that have no part in a job's identity, or, as the data, another one.

The number of devices does decide; it is the same for all jobs of a folder.
"""


def make_plan(
    tables: Sequence[Table],
    settings: Settings,
    *,
    seeds: int,
    rows: Mapping[str, Iterable[int]] | None = None,
) -> Plan:
    """The jobs that fill some tables, for seeds 0 to ``seeds`` - 1.

    rows: by table, the indices of the rows to fill; None fills all. A row that cannot be set up is kept
    with the reason. Raises OptionError for a table that has no data, and for a split to score that is not
    there; PairError for data without labels.
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
                if settings.on is None and benchmark not in settings.data:
                    spot = (table.name, index, benchmark)
                    plan.problems[spot] = f"no data: give --data {benchmark}:PATH"
                else:
                    _add_row(plan, table, index, benchmark, wanted=index in wanted)
    return plan


def _check_sources(tables: Sequence[Table], settings: Settings) -> None:
    """Raise OptionError or PairError for data that would fail every row."""
    sources = [settings.data[key] for table in tables for key in table.benchmarks if key in settings.data]
    for source in [settings.on] if settings.on is not None else dict.fromkeys(sources):
        splits = list_splits(source)
        if settings.test_split not in splits:
            raise OptionError(
                f"{source} has no split {quoted(settings.test_split)} to score; name one of "
                f"{', '.join(splits)} with --test_split"
            )
        if "train" not in splits:
            raise OptionError(
                f"{source} has no split 'train', which every row is trained on; it has {', '.join(splits)}"
            )
        if open_pairs(source, "train").classes is None:
            raise PairError(
                f"{source} has no labels in split 'train', and so no classes, which the tables are about: "
                "add the folder label, and classes.yaml for their names"
            )


def _add_row(plan: Plan, table: Table, index: int, benchmark: str, *, wanted: bool) -> None:
    row, spot = table.rows[index], (table.name, index, benchmark)
    test = Scoring(row.bands, tuple(sorted(row.at_test.items())))
    try:
        ground = _ground(benchmark, table.uses[benchmark], plan.settings)
        made = [_jobs_of(row, ground, plan.settings, seed) for seed in range(plan.seeds)]
    except CrossbandError as error:
        plan.problems[spot] = str(error)
        return
    plan.reads[spot] = made[0][-1].identity, test
    if not wanted:
        plan.problems[spot] = LEFT_OUT
        return
    label = f"{table.name} {row.label} {row.bands}"
    for *reused, job in made:
        for other in reused:
            plan.jobs.setdefault(other.name, other)
        before = plan.jobs.get(job.name, job)
        plan.jobs[job.name] = replace(
            before,
            scorings=tuple(dict.fromkeys([*before.scorings, test])),
            rows=tuple(dict.fromkeys([*before.rows, label])),
        )


@dataclass(frozen=True)
class _Ground:
    """Where a row runs: a benchmark as a paper uses it, or other data, which no paper uses.

    name: the benchmark's key, or the kind of the other data. source: with the options of the use.
    """

    name: str
    source: str
    use: Use


def _ground(benchmark: str, use: Use, settings: Settings) -> _Ground:
    if settings.on is not None:
        return _Ground(parse_source(settings.on).name, settings.on, Use())
    source = parse_source(settings.data[benchmark])
    options = {**use.options, **source.options}
    return _Ground(benchmark, str(replace(source, options=options)), use)


def _jobs_of(row: Row, ground: _Ground, settings: Settings, seed: int) -> list[Job]:
    """The job of a row, after those that it reuses."""
    options = _training_of(row, ground, settings, seed)
    jobs: list[Job] = []
    reuses = {}
    for (system, phase), teacher in _TEACHERS.items():
        if system == row.system and (taken := _taught_by(options, phase, teacher)) is not None:
            jobs.append(_job(taken, {}, ground, settings.test_split))
            reuses[phase] = jobs[-1].name
    return [*jobs, _job(options, reuses, ground, settings.test_split)]


def _training_of(row: Row, ground: _Ground, settings: Settings, seed: int) -> TrainOptions:
    """How a row is trained, without the place of its run. Raises OptionError for what does not exist."""
    has = network_options(row.system)
    given = {name: value for name, value in row.options.items() if name != "encoder"}
    variant = row.variants.get(ground.name)
    encoder: str | None
    if settings.budget == "quick":
        encoder = settings.encoder or quick.ENCODER
        given = {**_quick_widths(row.system, has), **given}
        decided = _quickly(row, ground, settings)
    else:
        encoder = row.options.get("encoder") or settings.encoder or has.get("encoder")
        decided = _as_published(row, ground, settings)
    network, loss = split_options(row.system, given)
    made = TrainOptions(
        system=row.system,
        data=ground.source,
        out="",
        variant=variant,
        encoder=encoder if "encoder" in has else None,
        encoder_weights=settings.start_of(encoder) if encoder and "encoder_weights" in has else None,
        network=network,
        loss=loss,
        seed=seed,
        devices=settings.devices,
        **decided,
    )
    # What does not exist is found here, not after hours of other jobs.
    resolve(made)
    make_settings(row.system, variant, {**network, **row.at_test})
    return made


def _as_published(row: Row, ground: _Ground, settings: Settings) -> dict[str, Any]:
    """The budget "paper": each system's recipe, and what its paper changes on a benchmark."""
    use = ground.use
    # What is scored chooses no checkpoint, also where that is the validation split.
    official = use.validation != settings.test_split and use.validation in list_splits(ground.source)
    return {
        "recipe": {"name": row.recipe, **use.recipes.get(row.system, {}), **settings.recipe},
        "augmentation": dict(use.augmentations.get(row.system, {})),
        **({"validation": use.validation} if official else {}),
    }


def _quickly(row: Row, ground: _Ground, settings: Settings) -> dict[str, Any]:
    """The budget "quick": one recipe for all."""
    recipe = {"name": "quick", **quick.RECIPE, **settings.recipe}
    # What the user says of the recipe holds for every phase; their epochs are shared out among the phases.
    stated = {*settings.recipe} - {"epochs"}
    phases = quick.particular(row.system).phase_recipes(recipe["epochs"])
    return {
        "recipe": recipe,
        "phases": {
            phase: {name: value for name, value in changes.items() if name not in stated}
            for phase, changes in phases.items()
        },
        "augmentation": {} if ground.name == "scenes" else {"crop": list(quick.CROP)},
        "hold_out": 0.0,
        "select": "last",
    }


def _quick_widths(system: str, has: Mapping[str, Any]) -> dict[str, Any]:
    widths = {"decoder_channels": quick.DECODER_CHANNELS} if "decoder_channels" in has else {}
    return {**widths, **quick.particular(system).options}


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
"""By the system that is taught, and its phase."""


def _taught_by(options: TrainOptions, phase: str, teacher: _Teacher) -> TrainOptions | None:
    """The training whose network can take a phase's place, or None where it is trained in another way."""
    given = {**options.network, **options.loss}
    if teacher.system == options.system and teacher.options.items() <= given.items():
        return None  # It is the teacher.
    known, own = ({**network_options(s), **loss_options(s)} for s in (teacher.system, options.system))
    shared = {name: given.get(name, own[name]) for name in known if name in own}
    apart = ("encoder", "encoder_weights", *teacher.options)
    differing = {name: shared[name] for name in shared if name not in apart and shared[name] != known[name]}
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
    here, there = resolve(options), resolve(taken)
    alike = here.recipe(phase) == there.recipe(teacher.phase) and (
        here.augmentation(phase) == there.augmentation(teacher.phase)
    )
    return taken if alike else None


def _job(options: TrainOptions, reuses: Mapping[str, str], ground: _Ground, split: str) -> Job:
    plain = defaults(TrainOptions)
    earlier = earlier_options(options.system)
    # By what differs from the defaults alone, so that an option which is added later renames no job. Where
    # earlier versions did something else, by what differs from that: theirs are not the jobs of the defaults.
    identity = {
        name: value
        for name, value in asdict(_in_few_words(resolve(options).named(), *earlier)).items()
        if name not in _DECIDE_NOTHING and value != plain[name]
    }
    # The settings of the folder know where the data are; a job's name is the same on every machine.
    identity["data"] = [ground.name, sorted(parse_source(options.data).options.items())]
    identity["reuses"] = {phase: name.split("/")[1] for phase, name in reuses.items()}
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:8]
    name = f"{ground.name}/{options.system}-{digest}/seed{options.seed}"
    return Job(name, _in_few_words(options, {}, {}), dict(reuses), split)


def _in_few_words(
    options: TrainOptions, of_network: Mapping[str, Any], of_loss: Mapping[str, Any]
) -> TrainOptions:
    """Without what its variant or its defaults say: an option at its default is the same training without.

    of_network, of_loss: take the place of defaults.
    """
    system, variant = options.system, options.variant
    network = {**asdict(make_settings(system, variant, {})), **of_network}
    loss = {**asdict(make_training(system, variant=variant)), **of_loss}
    return replace(
        options,
        network={name: value for name, value in options.network.items() if value != network[name]},
        loss={name: value for name, value in options.loss.items() if value != loss[name]},
    )
