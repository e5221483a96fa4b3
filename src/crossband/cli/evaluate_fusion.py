"""``crossband evaluate --fusion``: fused pictures scored in place of labels."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

from jsonargparse import ArgumentParser, Namespace

from crossband.cli.runs import note_choice
from crossband.cli.scoring import check_first, default_folder, named_runs, runtime_asked, scored_as
from crossband.errors import OptionError, quoted
from crossband.locks import folder_lock
from crossband.metrics.fusion import CONVENTIONS, DEFAULT_CONVENTION
from crossband.terminal import choice, command_line, progress_bar, told_after
from crossband.version import __version__
from crossband.words import BANDS_ALONE, PRECISIONS, Bands

# What does nothing to pictures that are read from folders.
_OF_SYSTEMS = {"stretch": False, "precision": PRECISIONS[0], "runtime": "torch"}


def fusion_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--fusion",
        action="store_true",
        help="score fused pictures in place of labels; several methods stand side by side",
    )
    parser.add_argument(
        "--fused",
        type=str,
        action="append",
        metavar="[NAME=]DIR",
        help="a folder of fused pictures under the names of the pairs; may be given several times "
        "(implies --fusion)",
    )
    parser.add_argument(
        "--convention",
        type=choice(CONVENTIONS),
        default=DEFAULT_CONVENTION,
        help="with --fusion: the convention that the metrics follow",
    )
    parser.add_argument(
        "--metrics_preset", "--metrics-preset", type=choice(CONVENTIONS) | None, help=argparse.SUPPRESS
    )
    parser.add_argument(
        "--metrics", type=str | None, help="with --fusion: some of the convention's, such as EN,MI,VIF"
    )
    parser.add_argument(
        "--stretch",
        action="store_true",
        help="with --fusion: stretch each picture of a run or system to 0..255 before it is scored",
    )
    parser.add_argument(
        "--infrared_scaling",
        "--infrared-scaling",
        type=str | None,
        help="with --fusion and without a run, which has its own: auto (default: one rule for all images, "
        "chosen by a sample of them), full-range, minmax, percentile(1, 99), fixed(low, high) or "
        "celsius(low, high)",
    )


def evaluate_fusion(options: Namespace) -> None:
    folders = _folders(options.fused or [])
    if not (options.run or folders):
        raise OptionError("name what to score: a run, a system that fuses, or --fused DIR")
    for name, plain in _OF_SYSTEMS.items():
        if not options.run and options[name] != plain:
            raise OptionError(f"--{name} is of a run or a system, and none is named: leave it out")
    runs = named_runs(options.run)
    expects: dict[Bands, int] = {"both": len(check_first(options.run, options))}

    from crossband import evaluation as evaluations
    from crossband.devices import find_device
    from crossband.loading import load
    from crossband.pairs.opening import open_pairs
    from crossband.report import fusion_text, write_fusion_evaluation
    from crossband.runtime.exported import precision_of

    device = find_device(options.device)
    how = {"device": options.device, "runtime": runtime_asked(options), "expects": expects}
    loaded = {name: load(run, **how) for name, run in runs.items()}
    trained = {name: predictor for name, predictor in loaded.items() if predictor.system.trained_by}
    rules = {name: predictor.card.infrared_scaling for name, predictor in trained.items()}
    scaling = _shared_scaling(rules, options.infrared_scaling)
    pairs = open_pairs(options.data, options.split, infrared_scaling=scaling, labels=False)
    out = _fusion_out(options, pairs.source)
    twice = sorted((set(loaded) & set(folders)) | (BANDS_ALONE.keys() & (set(loaded) | set(folders))))
    if twice:
        raise OptionError(f"two methods are called {quoted(twice[0])}: name this one by --fused OTHER=DIR")
    with folder_lock(out):
        # Again, now that nobody else writes there.
        _fusion_out(options, pairs.source)
        with progress_bar("evaluating") as progress:
            evaluation = evaluations.evaluate_fusion(
                {**loaded, **folders},
                pairs,
                convention=options.convention,
                metrics=[name.strip() for name in options.metrics.split(",")] if options.metrics else None,
                stretch=options.stretch,
                by="condition" if options.by == "condition" else None,
                workers=options.workers,
                batch_size=options.batch_size,
                device=device,
                precision=options.precision,
                progress=progress,
            )
        precisions = {precision_of(one.system, options.precision) for one in loaded.values()}
        evaluation.provenance = {
            "command": command_line(),
            "infrared scaling": str(pairs.scaling),
            "precision": ", ".join(sorted(precisions)) or None,
            "training": {name: one.card.training for name, one in trained.items()} or None,
            "git revision": {name: one.card.git_revision for name, one in trained.items()} or None,
            "crossband": __version__,
        }
        with told_after(f"{fusion_text(evaluation)}\ninfrared scaling: {pairs.scaling}"):
            write_fusion_evaluation(evaluation, out)
    for predictor in loaded.values():
        note_choice(predictor)
    print(f"written: {out}/fusion.{{txt,json,csv,html}}")


def _fusion_out(options: Namespace, source: str) -> Path:
    if options.out:
        return Path(options.out)
    if len(options.run) == 1 and not options.fused and Path(options.run[0]).is_dir():
        return default_folder(Path(options.run[0]), "fusion", scored_as(options), source)
    raise OptionError("give --out: what is scored here does not belong to one run folder")


def _folders(given: list[str]) -> dict[str, Path]:
    """Folders of fused pictures by name, each written as ``NAME=DIR`` or ``DIR``."""
    folders: dict[str, Path] = {}
    for text in given:
        name, equals, path = text.partition("=")
        if not (name and equals) or Path(text).is_dir():
            name, path = Path(text).resolve().name, text
        if name in folders:
            raise OptionError(
                f"two --fused folders are called {quoted(name)}: write NAME=DIR with different names"
            )
        folders[name] = Path(path)
    return folders


def _shared_scaling(trained: Mapping[str, str], asked: str | None) -> str:
    """The rule that reads infrared for all methods: they are scored against the same images.

    trained: the rule of every run, by name. "auto" where neither a run nor the option names one. Raises
    OptionError if two rules differ.
    """
    from crossband.pairs.auto_scaling import AUTO
    from crossband.pairs.infrared_scaling import InfraredScaling

    texts = dict(trained) if asked is None else {**trained, "--infrared_scaling": asked}
    # Two spellings of one rule are equal.
    rules = {name: text if text == AUTO else str(InfraredScaling.parse(text)) for name, text in texts.items()}
    if not rules:
        return AUTO
    (first, rule), *others = rules.items()
    for name, other in others:
        if other != rule:
            raise OptionError(
                f"{first} reads infrared by {rule}, but {name} by {other}: their sources differ, so "
                "score them by commands of their own"
            )
    return rule
