"""``crossband fuse``."""

from __future__ import annotations

from pathlib import Path

from jsonargparse import ArgumentParser, Namespace

from crossband.cli.requests import pair_arguments, requested
from crossband.cli.runs import note_choice
from crossband.cli.using import (
    batch_arguments,
    check_combinations,
    choices,
    computing_arguments,
    ending,
    false_colour_arguments,
    film,
    note_agreement,
    note_bands,
    note_faults,
    note_suspicions,
)
from crossband.terminal import monitor_arguments, progress_bar, rig_arguments


def fuse_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "run",
        type=str,
        help="a finished run folder, an exported file, or a system that needs no training, such as laplacian "
        "(see `crossband systems`)",
    )
    pair_arguments(parser)
    parser.add_argument("--out", type=str, required=True, help="folder for the fused pictures, NAME.png")
    parser.add_argument(
        "--stretch",
        action="store_true",
        help="spread the values of each picture over the whole range; spoils comparisons by fusion metrics",
    )
    parser.add_argument(
        "--infrared_scaling",
        "--infrared-scaling",
        type=str | None,
        help="for a system that needs no training: auto (default: one rule for all images, chosen by a "
        "sample of them), full-range, minmax, percentile(1, 99), fixed(low, high) or celsius(low, high); a "
        "run has its own",
    )
    false_colour_arguments(parser)
    rig_arguments(parser)
    batch_arguments(parser)
    computing_arguments(parser)
    monitor_arguments(parser)


def fuse(options: Namespace) -> int:
    request = requested(options)
    from crossband.predicting import fuse_files

    predictor = request.load(
        options.run, options, infrared_scaling=options.infrared_scaling, monitor=options.monitor
    )
    given = request.opened(predictor)
    files = given.pairs
    check_combinations(predictor, files)
    note_suspicions(predictor, files)
    note_agreement(predictor, files)
    with progress_bar("fusing") as progress:
        outcome = fuse_files(
            predictor,
            files,
            Path(options.out),
            stretch=options.stretch,
            progress=progress,
            **choices(options, given),
        )
    print(f"written: {outcome.done} fused {'picture' if outcome.done == 1 else 'pictures'} in {options.out}")
    if predictor.scaling is not None and any(file.has("infrared") for file in files):
        print(f"infrared scaling: {predictor.scaling}")
    note_choice(predictor)
    note_faults(outcome, options.out)
    film(options, given, lambda name: Path(options.out) / f"{name}.png")
    note_bands(predictor, files, outcome)
    return ending(outcome, given, options.out)
