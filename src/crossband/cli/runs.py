"""``crossband recalibrate``, ``systems`` and ``info``: runs and systems, and what they are."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import ArgumentParser, Namespace

from crossband.errors import OptionError
from crossband.terminal import DEVICE_HELP, SOURCE_HELP, progress_bar

if TYPE_CHECKING:
    from crossband.card import Card
    from crossband.predictor import Predictor


def recalibrate_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "run", type=str, help="a finished run of CSK-Net, by its folder or its place on the Hub"
    )
    parser.add_argument("--data", type=str, required=True, help=SOURCE_HELP)
    parser.add_argument("--split", type=str, default="train", help="the split to take the statistics from")
    parser.add_argument("--out", type=str, required=True, help="run folder for the infrared-only system")
    parser.add_argument("--batch_size", "--batch-size", type=int, default=8, help="pairs per step")
    parser.add_argument("--seed", type=int, default=0, help="of the order of the pairs")
    parser.add_argument("--device", type=str | None, help=DEVICE_HELP)


def recalibrate(options: Namespace) -> None:
    from crossband.hub import run_folder
    from crossband.pairs.opening import open_pairs
    from crossband.run_card import check_run

    # Before PyTorch is loaded, which takes seconds.
    check_run(run_folder(options.run))
    open_pairs(options.data, options.split, labels=False)
    from crossband.recalibration import recalibrate_run

    with progress_bar("recalibrating") as progress:
        recalibrate_run(
            options.run,
            options.data,
            Path(options.out),
            split=options.split,
            batch_size=options.batch_size,
            seed=options.seed,
            device=options.device,
            progress=progress,
        )
    print(f"written: {options.out}")


def systems_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--load",
        action="store_true",
        help="import the systems of other packages, so that they say what they are; else their names alone",
    )


def systems(options: Namespace) -> None:
    from crossband.systems.registry import describe_systems

    for line in describe_systems(load=options.load):
        print(line)


def info_arguments(parser: ArgumentParser) -> None:
    from crossband.cli.train import field_arguments

    parser.add_argument(
        "what",
        type=str,
        help="a run folder, a run on the Hub, an exported file, or the name of a system, of which the other "
        "options but --size say more",
    )
    parser.add_argument(
        "--classes", type=int | None, help=f"number of classes, for a system's name (default: {_CLASSES})"
    )
    # For a system's name, as a training takes them.
    field_arguments(parser, _OF_A_NETWORK)
    parser.add_argument(
        "--size", type=str, default=_SIZE, help="HEIGHTxWIDTH of the image that FLOPs are counted for"
    )


_OF_A_NETWORK = ("variant", "encoder", "network")
_CLASSES, _SIZE = 9, "480x640"


def info(options: Namespace) -> None:
    from crossband.hub import is_remote
    from crossband.runtime.exported import is_exported
    from crossband.systems.registry import list_systems

    given = [f"--{name}" for name in _OF_A_NETWORK if options[name]]
    given += ["--classes"] if options.classes is not None else []
    if given and options.what not in list_systems() and Path(options.what).exists():
        raise OptionError(f"{options.what} is what it was made as: leave out {' and '.join(given)}")
    if is_exported(Path(options.what)):
        if options.size != _SIZE:
            raise OptionError(f"no FLOPs are counted of an exported file: leave out --size {options.size}")
        from crossband.runtime.describing import describe_exported

        print(describe_exported(Path(options.what)))
        return
    if options.what not in list_systems():
        if not (is_remote(options.what) or Path(options.what).exists()):
            raise OptionError(
                f"{options.what!r} is neither a run folder nor a system ({', '.join(list_systems())})"
            )
        check_usable(options.what)
    from crossband.info import describe

    of_a_network = {name: options[name] for name in _OF_A_NETWORK}
    classes = _CLASSES if options.classes is None else options.classes
    print(describe(options.what, classes=classes, size=options.size, **of_a_network))


def check_usable(run: str) -> Card | None:
    """The card of a finished run; None of an exported file, and of a system without training.

    A run on the hub is fetched for it. Raises WeightsError for what is none of these.
    """
    from crossband.hub import run_folder
    from crossband.run_card import check_run
    from crossband.runtime.exported import is_exported

    return None if is_exported(Path(run)) else check_run(run_folder(run))


def note_choice(predictor: Predictor) -> None:
    """Say which runtime was chosen, where one was: after the work, since what was wrong is said alone."""
    if predictor.chosen is not None:
        print(predictor.chosen, file=sys.stderr)
