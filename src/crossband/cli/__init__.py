"""The ``crossband`` command. Each subcommand is a thin function over the library.

Nothing heavy is imported here: `crossband --help` answers at once, and a command loads what it needs.
Mistakes in what was given end with one line and exit code 2, a signal with one line and 128 plus its number
(Ctrl-C: 130).
"""

from __future__ import annotations

import atexit
import gc
import os
import sys
from collections.abc import Callable
from pathlib import Path

from jsonargparse import ArgumentParser, Namespace

from crossband.cli.align import align, align_arguments
from crossband.cli.compare import compare, compare_arguments
from crossband.cli.data import data, data_arguments
from crossband.cli.evaluate import evaluate, evaluate_arguments
from crossband.cli.export import export, export_arguments, verify, verify_arguments
from crossband.cli.fuse import fuse, fuse_arguments
from crossband.cli.predict import predict, predict_arguments
from crossband.cli.report import report, report_arguments
from crossband.cli.reproduce import reproduce, reproduce_arguments
from crossband.cli.robustness import robustness, robustness_arguments
from crossband.cli.runs import (
    info,
    info_arguments,
    recalibrate,
    recalibrate_arguments,
    systems,
    systems_arguments,
)
from crossband.cli.serve import serve, serve_arguments
from crossband.cli.sharing import card, card_arguments, push, push_arguments
from crossband.cli.stream import stream, stream_arguments
from crossband.cli.train import check_resume_alone, train, train_arguments
from crossband.cli.view import view, view_arguments
from crossband.errors import CrossbandError, OptionError
from crossband.interruption import die_with_parent, number_of, signals_interrupt, spoken
from crossband.terminal import Parser, config_first, named_recipe_apart, plain_warnings
from crossband.version import __version__

_FIRST_PROCESS = "CROSSBAND_FIRST_PROCESS"
"""The environment variable by which the further processes of a training know the one that started them."""


_OF_TRAIN = (
    *("torch", "torchvision", "timm", "segmentation_models_pytorch", "lightning", "torchmetrics"),
    *("safetensors", "matplotlib"),
)
"""What the extra `train` brings, and an installation that only predicts goes without."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    # Read when PyTorch starts its threads: a waiting one spins for a moment, then sleeps. Without a bound it
    # spins on, which makes small networks several times slower where another program wants the core.
    os.environ.setdefault("GOMP_SPINCOUNT", "30000")
    if os.environ.get("LOCAL_RANK", "0") == "0":
        os.environ[_FIRST_PROCESS] = str(os.getpid())
    elif _FIRST_PROCESS in os.environ:
        # A further process of a training on several devices, which Lightning starts by the same command.
        die_with_parent(int(os.environ[_FIRST_PROCESS]))
    if arguments is None:
        arguments = sys.argv[1:]
        _spare_the_collector()
    parser, commands = build_parser(arguments[0] if arguments and arguments[0] in _COMMANDS else None)
    try:
        options = parser.parse_args(config_first(named_recipe_apart(arguments)))
        command = options.subcommand
        if command is None:
            parser.print_help()
            return 0
        if command == "train" and options.train.resume is not None:
            check_resume_alone(arguments[1:])
        _refuse_empty(options[command])
        with plain_warnings(), signals_interrupt():
            return commands[command](options[command]) or 0
    except CrossbandError as error:
        print(f"crossband: error: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _OF_TRAIN:
            raise
        print(
            f"crossband: error: {error.name} is not installed, which this needs: "
            "pip install 'crossband[train]' (exported files need only 'crossband[runtime]')",
            file=sys.stderr,
        )
        return 2
    except BrokenPipeError:
        # The reader of our output, such as `head`, has gone; there is nobody left to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt as interruption:
        print(f"crossband: {spoken(interruption)}", file=sys.stderr)
        return 128 + number_of(interruption)
    except OSError as error:
        what = f"{error.filename}: " if error.filename else ""
        print(f"crossband: error: {what}{error.strerror or error}", file=sys.stderr)
        return 2


def _refuse_empty(options: Namespace) -> None:
    """Raise OptionError for an empty text, which a shell gives of a variable without a value.

    As a path it would be the folder that the command runs in.
    """
    for name, value in options.items():
        if value == "":
            raise OptionError(f"{name.rpartition('.')[2]} is an empty text; give it a value, or leave it out")


_COLLECTED_AFTER = 10_000
"""Objects that may be made before Python looks for unreachable ones; 700 by its own choice."""


def _spare_the_collector() -> None:
    """Keep Python from looking for unreachable objects while PyTorch is imported, and when the process ends.

    It makes a million objects that stay: looking through them again and again takes 0.6 s of a start, and
    once more, when the memory goes back to the system anyway, 1 s.
    """
    gc.set_threshold(_COLLECTED_AFTER, *gc.get_threshold()[1:])
    atexit.register(gc.freeze)


def build_parser(
    used: str | None = None,
) -> tuple[ArgumentParser, dict[str, Callable[[Namespace], int | None]]]:
    """The parser of the whole command line, and what each command calls, by its name.

    used: the one command whose arguments are needed, where that is known; those of all take much longer.
    """
    parser = Parser(
        prog="crossband",
        description="Segment and fuse paired visible + infrared images, with both cameras or with one.",
        version=__version__,
    )
    subcommands = parser.add_subcommands(required=False, metavar="COMMAND")
    commands: dict[str, Callable[[Namespace], int | None]] = {}
    for name, (add_arguments, command, description) in _COMMANDS.items():
        sub = Parser(description=description)
        # jsonargparse wants the outer level of subcommands complete before an inner one begins.
        subcommands.add_subcommand(name, sub, help=description)
        sub.prog = f"crossband {name}"
        if used in (None, name):
            add_arguments(sub)
        commands[name] = command
    return parser, commands


def _demo_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--out", type=str, default="demo", help="folder for scenes, runs and report.html")
    parser.add_argument("--seed", type=int, default=0, help="of the scenes and of the training")


def _demo(options: Namespace) -> None:
    from crossband.demo import run_demo

    run_demo(Path(options.out), seed=options.seed)


_COMMANDS: dict[str, tuple[Callable[[ArgumentParser], None], Callable[[Namespace], int | None], str]] = {
    "demo": (
        _demo_arguments,
        _demo,
        "generate scenes, train four models on them, and write a report; some minutes",
    ),
    "train": (train_arguments, train, "train a system into a run folder"),
    "evaluate": (
        evaluate_arguments,
        evaluate,
        "score runs on labelled pairs, or fused pictures against their pairs",
    ),
    "compare": (
        compare_arguments,
        compare,
        "say which of several runs is better, how sure that is, and what carries it",
    ),
    "robustness": (
        robustness_arguments,
        robustness,
        "score runs under everything that goes wrong with cameras",
    ),
    "report": (
        report_arguments,
        report,
        "write one page over the runs and results of a folder",
    ),
    "reproduce": (
        reproduce_arguments,
        reproduce,
        "fill the tables of published papers with figures of one's own",
    ),
    "predict": (predict_arguments, predict, "segment images or folders of them"),
    "fuse": (fuse_arguments, fuse, "make one picture of both bands, for images or folders of them"),
    "stream": (
        stream_arguments,
        stream,
        "run on two cameras, or recordings of them, pairing frames by time and leaving dead cameras out",
    ),
    "serve": (serve_arguments, serve, "answer images on a page in the browser, and over HTTP"),
    "view": (view_arguments, view, "write one page to look through results or pairs, offline"),
    "export": (export_arguments, export, "make files for ONNX Runtime or OpenVINO, which need no PyTorch"),
    "verify": (verify_arguments, verify, "hold an exported file against the run it came from"),
    "align": (align_arguments, align, "find the geometry between two cameras, or check a folder's"),
    "recalibrate": (
        recalibrate_arguments,
        recalibrate,
        "infrared branch with batch-norm statistics of its own",
    ),
    "systems": (systems_arguments, systems, "list the systems"),
    "info": (info_arguments, info, "parameters, FLOPs, bands and card of a run or a system"),
    "card": (card_arguments, card, "a run's model card, in the form of the Hugging Face Hub"),
    "push": (push_arguments, push, "put a run on the Hugging Face Hub, with its model card"),
    "data": (data_arguments, data, "list, check, show and export pairs"),
}

if __name__ == "__main__":
    sys.exit(main())
