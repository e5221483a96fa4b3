"""``crossband evaluate``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from jsonargparse import ArgumentParser, Namespace

from crossband.cli.evaluate_fusion import evaluate_fusion, fusion_arguments
from crossband.cli.launching import launch_arguments, launcher_of, score_on_ray
from crossband.cli.runs import check_usable, note_choice
from crossband.cli.scoring import (
    check_classes,
    check_first,
    default_folder,
    pass_arguments,
    runtime_asked,
    scored_as,
    seen,
)
from crossband.errors import OptionError
from crossband.locks import folder_lock
from crossband.metrics.fusion import DEFAULT_CONVENTION
from crossband.metrics.protocols import DEFAULT_PROTOCOL, PROTOCOLS
from crossband.terminal import (
    RUNTIME_HELP,
    SOURCE_HELP,
    choice,
    command_line,
    monitor_arguments,
    progress_bar,
    rig_arguments,
    told_after,
    with_rig,
)
from crossband.version import __version__
from crossband.words import BAND_COMBINATIONS, PRECISIONS, Bands

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crossband.evaluation import Evaluation
    from crossband.pairs.base import Pairs
    from crossband.predictor import Predictor
    from crossband.report.evaluation_pictures import ShownPair

# What belongs to one kind of evaluation: the value that means "not given", or those that change nothing.
_FUSION_ONLY = {"convention": DEFAULT_CONVENTION, "metrics": None, "stretch": False, "infrared_scaling": None}
_EXAMPLES = 3
_LABELS_ONLY = {
    "bands": ("all", "both"),
    "protocol": (DEFAULT_PROTOCOL,),
    "examples": (_EXAMPLES,),
    "launcher": ("local",),
    "monitor": (False,),
}


def evaluate_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "run",
        type=str,
        nargs="*",
        help="a finished run folder; with --fusion also several, and names of systems that need no training",
    )
    parser.add_argument("--data", type=str, required=True, help=SOURCE_HELP)
    rig_arguments(parser)
    parser.add_argument("--split", type=str, default="test", help="the split to score")
    parser.add_argument(
        "--bands",
        type=Literal["all", "both", "infrared", "visible"],
        default="all",
        help="bands to give to the system; all: every combination that it runs on",
    )
    parser.add_argument(
        "--protocol",
        type=choice(PROTOCOLS),
        default=DEFAULT_PROTOCOL,
        help="the one shown first; every one is printed",
    )
    parser.add_argument(
        "--by", type=Literal["condition", "none"], default="condition", help="split scores by day, night, ..."
    )
    parser.add_argument(
        "--out",
        type=str | None,
        help="folder for JSON, CSV, text and HTML (default: RUN/evaluation-SPLIT, with --monitor "
        "RUN/evaluation-SPLIT-monitor, with --fusion of one run RUN/fusion-SPLIT; of another precision than "
        "float32 its name is added)",
    )
    parser.add_argument("--precision", type=choice(PRECISIONS), default=PRECISIONS[0], help="of autocast")
    parser.add_argument(
        "--runtime",
        type=Literal["auto", "torch", "onnxruntime", "openvino"],
        default="torch",
        help=f"{RUNTIME_HELP}; by default torch, so that a score does not depend on what is installed",
    )
    parser.add_argument(
        "--examples",
        type=int,
        default=_EXAMPLES,
        help="pairs shown with pictures, of the worst, of the typical and of the best ones each",
    )
    pass_arguments(parser)
    monitor_arguments(parser)
    launch_arguments(parser)
    fusion_arguments(parser)


def evaluate(options: Namespace) -> None:
    """Score labels or fused pictures."""
    _take_old_spelling(options)
    options.data = with_rig(options.data, options.rig, options.frame)
    if options.fusion or options.fused:
        for name, given in _LABELS_ONLY.items():
            if options[name] not in given:
                raise OptionError(f"--{name} {options[name]} does not apply to fused pictures; leave it out")
        evaluate_fusion(options)
    else:
        _evaluate_labels(options)


def _take_old_spelling(options: Namespace) -> None:
    if options.metrics_preset is None:
        return
    if options.convention not in (DEFAULT_CONVENTION, options.metrics_preset):
        raise OptionError("--metrics_preset is the old spelling of --convention: give one of them")
    print("note: --metrics_preset is the old spelling of --convention", file=sys.stderr)
    options.convention = options.metrics_preset


def _evaluate_labels(options: Namespace) -> None:
    from crossband.hub import is_remote

    run = _only_run(options)
    if (is_remote(run) or Path(run).is_file()) and not options.out:
        raise OptionError(f"give --out: {run} has no folder of its own for results")
    launcher = launcher_of(options)
    if launcher is not None and options.monitor:
        raise OptionError("--monitor counts in one process: leave it out, or --launcher ray")
    first = check_first([run], options)
    from crossband.evaluation.passing import combinations
    from crossband.loading import load
    from crossband.pairs.opening import open_pairs
    from crossband.report import evaluation_text, write_evaluation
    from crossband.runtime.exported import is_exported

    expects: dict[Bands, int] = {}
    card = check_usable(run)
    if card is not None:
        supported = [bands for bands in BAND_COMBINATIONS if bands in card.bands]
        wanted = combinations(supported, first.bands) if options.bands == "all" else [options.bands]
        expects = dict.fromkeys(wanted, len(first))
    how = {"device": options.device, "runtime": runtime_asked(options), "expects": expects}
    # What is shown is to be what was scored; an exported file says below that its precision is its own.
    shown_in = PRECISIONS[0] if is_exported(Path(run)) else options.precision
    predictor = load(run, **how, monitor=options.monitor, precision=shown_in)
    if not predictor.system.segments:
        raise OptionError(f"{run} only fuses, so it has no labels to score: add --fusion")
    pairs = open_pairs(options.data, options.split, infrared_scaling=predictor.card.infrared_scaling)
    check_classes(predictor.card.classes, pairs)
    scored = scored_as(options, monitor=options.monitor)
    out = Path(options.out or default_folder(Path(run), "evaluation", scored, pairs.source))
    supports = predictor.system.supports
    bands = combinations(supports, pairs.bands) if options.bands == "all" else [options.bands]
    with folder_lock(out):
        if not options.out:
            # Again, now that nobody else writes there.
            default_folder(Path(run), "evaluation", scored, pairs.source)
        evaluation = (
            _scored(options, predictor, pairs, bands)
            if launcher is None
            else score_on_ray(options, launcher, predictor, pairs, bands, how)
        )
        evaluation.provenance = {
            "command": command_line(),
            "run": run,
            "variant": predictor.card.variant,
            "training": predictor.card.training,
            "crossband": __version__,
            "git revision": predictor.card.git_revision,
        }
        with told_after(evaluation_text(evaluation, options.protocol)):
            shown = _shown(evaluation, predictor, pairs, options)
            write_evaluation(evaluation, out, options.protocol, shown)
    note_choice(predictor)
    print(f"written: {out}/evaluation.{{txt,json,csv,html}}")


def _scored(options: Namespace, predictor: Predictor, pairs: Pairs, bands: Sequence[Bands]) -> Evaluation:
    from crossband.evaluation import evaluate

    with progress_bar("evaluating") as progress:
        return evaluate(
            predictor.system,
            pairs,
            bands=bands,
            by="condition" if options.by == "condition" else None,
            workers=options.workers,
            batch_size=options.batch_size,
            device=predictor.device,
            precision=options.precision,
            monitor=predictor.monitor or False,
            progress=progress,
        )


def _shown(evaluation: Evaluation, predictor: Predictor, pairs: Pairs, options: Namespace) -> list[ShownPair]:
    """What is shown of the worst, the typical and the best pairs, which are read once more for it."""
    from crossband.evaluation.choosing import chosen_pairs
    from crossband.report.evaluation_pictures import ShownPair

    assert evaluation.counts is not None
    bands = list(evaluation.results)
    chosen = chosen_pairs(evaluation.counts, bands[0], protocol=options.protocol, each=options.examples)
    read = ((one, pairs[one.index]) for one in chosen)
    return [ShownPair(one, pair, {each: seen(predictor, pair, each) for each in bands}) for one, pair in read]


def _only_run(options: Namespace) -> str:
    """The run whose labels are scored. Raises OptionError for none, several, or options of --fusion."""
    if options.examples < 0:
        raise OptionError(f"--examples must be at least 0, not {options.examples}")
    for name, given in _FUSION_ONLY.items():
        if options[name] != given:
            raise OptionError(f"--{name} belongs to fused pictures: add --fusion, or leave it out")
    if not options.run:
        raise OptionError("name the run folder to evaluate: `crossband evaluate RUN --data SOURCE`")
    if len(options.run) > 1:
        raise OptionError(
            f"labels are scored one run at a time, but {len(options.run)} were named; only --fusion sets "
            "several side by side"
        )
    return options.run[0]
