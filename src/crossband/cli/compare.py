"""``crossband compare``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from jsonargparse import ArgumentParser, Namespace

from crossband.card_words import system_words
from crossband.cli.scoring import check_classes, check_first, pass_arguments, seen
from crossband.errors import OptionError, quoted
from crossband.locks import folder_lock
from crossband.metrics.drawing import LEAST_REPLICATES, LEVEL, REPLICATES, check_drawing, check_interval
from crossband.metrics.protocols import DEFAULT_PROTOCOL, PROTOCOLS
from crossband.terminal import SOURCE_HELP, choice, command_line, progress_bar, told_after
from crossband.version import __version__
from crossband.words import BAND_COMBINATIONS, PAIR_COUNTS_NAME, Bands

if TYPE_CHECKING:
    from crossband.evaluation.comparison import Difference, MethodRun
    from crossband.pairs.base import Classes, Pairs
    from crossband.predictor import Predictor
    from crossband.report.comparison_html import ComparedPair


_EXAMPLES = 10
_OF_RUNS = {
    "data": None,
    "split": None,
    "examples": _EXAMPLES,
    "batch_size": 1,
    "workers": 1,
    "device": None,
}
"""What evaluations are not asked for, and the value that means "not given"."""


@dataclass(frozen=True)
class _Asked:
    """A method as it was named: runs, or folders of evaluations, and the bands, if any were."""

    runs: list[str]
    bands: Bands | None


def compare_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "methods",
        type=str,
        nargs="+",
        metavar="[NAME=]RUN[,RUN...][@BANDS]",
        help="two methods or more; the first is compared with each other one. RUN: a run folder, a run on "
        "the Hub (hf://OWNER/NAME@REVISION), or the folder of an evaluation; several runs of one method, "
        "such as seeds, with commas. @infrared, @visible or @both: the bands that it is given (default: both "
        "where it takes both)",
    )
    parser.add_argument("--data", type=str | None, help=f"{SOURCE_HELP}; not for folders of evaluations")
    parser.add_argument("--split", type=str | None, help="of --data: the split to score (default: test)")
    parser.add_argument(
        "--seeds",
        type=Literal["pooled", "apart"],
        default="pooled",
        help="several runs of a method: their mean with the spread between them, or each run as a method",
    )
    parser.add_argument(
        "--protocol",
        type=choice(PROTOCOLS),
        default=DEFAULT_PROTOCOL,
        help="which classes a mean IoU averages",
    )
    parser.add_argument("--level", type=float, default=LEVEL, help="probability of the intervals")
    parser.add_argument(
        "--replicates",
        type=int,
        default=REPLICATES,
        help=f"draws of the bootstrap, at least {LEAST_REPLICATES}",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the draws")
    parser.add_argument(
        "--block",
        type=int,
        default=1,
        help="pairs that follow each other and are drawn together, for frames of one sequence",
    )
    parser.add_argument("--examples", type=int, default=_EXAMPLES, help="pairs shown with pictures, of runs")
    parser.add_argument("--out", type=str, default="comparison", help="folder for JSON, CSV, text and HTML")
    pass_arguments(parser)


def compare(options: Namespace) -> None:
    """Say which of several runs is better, how sure that is, and why."""
    named = _named(options.methods, apart=options.seeds == "apart")
    runs = [run for asked in named.values() for run in asked.runs]
    evaluated = [run for run in runs if (Path(run) / PAIR_COUNTS_NAME).exists()]
    if evaluated and len(evaluated) < len(runs):
        raise OptionError(
            f"{evaluated[0]} is the folder of an evaluation, and others are not: name runs, or evaluations"
        )
    if not evaluated and options.data is None:
        raise OptionError("give --data, the pairs to compare the runs on")
    for name, plain in _OF_RUNS.items():
        if evaluated and options[name] != plain:
            raise OptionError(
                f"--{name} belongs to runs; evaluations are taken as they were made: leave it out"
            )
    if options.split is None:
        options.split = "test"
    if options.examples < 0:
        raise OptionError(f"--examples must be at least 0, not {options.examples}")
    drawing = {name: options[name] for name in ("replicates", "level", "block")}
    check_interval(replicates=options.replicates, level=options.level)
    if not evaluated:
        check_drawing(len(check_first(runs, options)), block=options.block)

    from crossband.evaluation.comparison import compare as compared
    from crossband.report.comparison_files import comparison_text
    from crossband.report.comparison_html import write_comparison

    with folder_lock(Path(options.out)):
        pairs = None
        predictors: dict[str, Predictor] = {}
        if evaluated:
            methods, classes = _from_evaluations(named)
        else:
            predictors = _load(named, options.device)
            pairs = _open(options, predictors)
            assert pairs.classes is not None
            methods, classes = _from_runs(named, predictors, pairs, options), pairs.classes
        comparison = compared(
            methods,
            protocol=options.protocol,
            seed=options.seed,
            **drawing,
        )
        examples = {}
        if pairs is not None:
            shown = {name: (predictors[asked.runs[0]], methods[name][0]) for name, asked in named.items()}
            for difference in comparison.differences:
                examples[difference.second] = _examples(difference, shown, pairs, options.examples)
        provenance = {"command": command_line(), "crossband": __version__}
        with told_after(comparison_text(comparison)):
            write_comparison(comparison, Path(options.out), classes, examples, provenance)
    print(f"written: {options.out}/comparison.{{txt,json,csv,html}}")


def _named(given: Sequence[str], *, apart: bool) -> dict[str, _Asked]:
    """Methods by name: their folders, and the bands that were asked for.

    Raises OptionError for a name given twice, a run that a method has twice, or bands that are none.
    """
    from crossband.hub import is_remote

    named: dict[str, _Asked] = {}
    for text in given:
        rest, at, bands = text.rpartition("@")
        # What follows the @ of a run on the Hub is its revision, unless it is the word for bands.
        if not at or Path(text).exists() or ("hf://" in rest and bands not in BAND_COMBINATIONS):
            rest, bands = text, ""
        elif bands not in BAND_COMBINATIONS:
            raise OptionError(
                f"{quoted(text)}: bands are one of {', '.join(BAND_COMBINATIONS)}, not {quoted(bands)}"
            )
        name, equals, runs = rest.partition("=")
        if not (name and equals) or Path(rest).exists():
            name, runs = "", rest
        members = [runs] if Path(runs).exists() else runs.split(",")
        for run in members:
            if not (is_remote(run) or Path(run).is_dir()):
                raise OptionError(f"run folder {run} is not there")
        if len({Path(run).resolve() for run in members}) < len(members):
            # It would count as a further seed, of no spread.
            raise OptionError(f"{quoted(text)} names a run twice: name each run of a method once")
        suffix = f"@{bands}" if bands else ""
        for own, its in (
            [(f"{name} {_label(run)}" if name else _label(run) + suffix, [run]) for run in members]
            if apart and len(members) > 1
            else [(name or " + ".join(map(_label, members)) + suffix, members)]
        ):
            if own in named:
                raise OptionError(f"two methods are called {quoted(own)}: write NAME=RUN with another name")
            named[own] = _Asked(its, cast(Bands, bands) if bands else None)
    return named


def _label(run: str) -> str:
    """The last part of a path; of the default folder of an evaluation, its run's."""
    resolved = Path(run).resolve()
    return resolved.parent.name if resolved.name.startswith("evaluation-") else resolved.name


def _load(named: dict[str, _Asked], device: str | None) -> dict[str, Predictor]:
    from crossband.loading import load

    runs = [run for asked in named.values() for run in asked.runs]
    predictors = {run: load(run, device=device) for run in runs}
    for run, predictor in predictors.items():
        if not predictor.system.segments:
            raise OptionError(f"{run} only fuses, so it has no labels to compare")
    return predictors


def _open(options: Namespace, predictors: dict[str, Predictor]) -> Pairs:
    from crossband.pairs.opening import open_pairs

    rules = {predictor.card.infrared_scaling for predictor in predictors.values()}
    if len(rules) > 1:
        raise OptionError(
            f"the runs read infrared by different rules ({', '.join(sorted(rules))}): evaluate each by "
            "itself, then compare the folders of their evaluations"
        )
    pairs = open_pairs(options.data, options.split, infrared_scaling=rules.pop())
    if pairs.classes is None:
        raise OptionError(f"{pairs.source}, split {pairs.split}, has no labels, so nothing can be compared")
    for predictor in predictors.values():
        check_classes(predictor.card.classes, pairs)
    return pairs


def _from_runs(
    named: dict[str, _Asked],
    predictors: dict[str, Predictor],
    pairs: Pairs,
    options: Namespace,
) -> dict[str, list[MethodRun]]:
    """Every run scored on the pairs; a run that is asked for on two combinations is read once for each."""
    from crossband.evaluation import evaluate
    from crossband.evaluation.comparison import MethodRun
    from crossband.evaluation.passing import widest

    given = {
        (name, run): asked.bands or widest(predictors[run].system.supports, pairs.bands)
        for name, asked in named.items()
        for run in asked.runs
    }
    for (_, run), bands in given.items():
        # Before the first pass, which may take an hour.
        predictors[run].system.check_bands(bands)
    methods: dict[str, list[MethodRun]] = {}
    for name, asked in named.items():
        methods[name] = []
        for run in asked.runs:
            predictor, bands = predictors[run], given[name, run]
            with progress_bar(f"evaluating {run}") as progress:
                found = evaluate(
                    predictor.system,
                    pairs,
                    bands=[bands],
                    workers=options.workers,
                    batch_size=options.batch_size,
                    device=predictor.device,
                    progress=progress,
                )
            assert found.counts is not None
            system = system_words(predictor.card.system, predictor.card.variant)
            methods[name].append(MethodRun(run, bands, found.counts, system))
    return methods


def _from_evaluations(named: Mapping[str, _Asked]) -> tuple[dict[str, list[MethodRun]], Classes]:
    from crossband.evaluation.comparison import MethodRun
    from crossband.evaluation.pair_counts import read_pair_counts

    methods: dict[str, list[MethodRun]] = {}
    for name, asked in named.items():
        methods[name] = []
        for run in asked.runs:
            counts = read_pair_counts(Path(run) / PAIR_COUNTS_NAME)
            scored = list(counts.matrices)
            bands = asked.bands if asked.bands is not None else min(scored, key=BAND_COMBINATIONS.index)
            methods[name].append(MethodRun(run, bands, counts, _system_scored_in(Path(run))))
    return methods, next(iter(methods.values()))[0].counts.classes


def _system_scored_in(folder: Path) -> str | None:
    """The system that an evaluation's other results name; None where they are not there, or damaged."""
    from crossband.report.evaluation_files import system_in

    try:
        return system_in(json.loads((folder / "evaluation.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _examples(
    difference: Difference,
    shown: dict[str, tuple[Predictor, MethodRun]],
    pairs: Pairs,
    number: int,
) -> list[ComparedPair]:
    """What the first run of both methods sees in the pairs that differ most."""
    from crossband.report.comparison_html import ComparedPair

    both = [shown[name] for name in (difference.first, difference.second)]
    chosen = (pairs[place.index] for place in difference.pairs[:number])
    return [
        ComparedPair(pair, *(seen(predictor, pair, run.bands) for predictor, run in both)) for pair in chosen
    ]
