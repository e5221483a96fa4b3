"""The ``crossband`` command. Each subcommand is a thin function over the library.

Nothing heavy is imported here: `crossband --help` answers at once, and a command loads what it needs.
Mistakes in what was given end with one line and exit code 2, an interruption with 130.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from jsonargparse import ActionConfigFile, ArgumentParser, Namespace

from crossband.cli_data import data, data_arguments
from crossband.errors import CrossbandError, OptionError
from crossband.terminal import SOURCE_HELP, Parser, config_first, progress_bar
from crossband.version import __version__

if TYPE_CHECKING:
    from crossband.pairs.base import PairFiles

_DEVICE = "where to compute: cpu, cuda, cuda:1, ... (default: a GPU if there is one)"


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    # Read when PyTorch starts its threads: a waiting one spins for a moment, then sleeps. Without a bound it
    # spins on, which makes small networks several times slower where another program wants the core.
    os.environ.setdefault("GOMP_SPINCOUNT", "30000")
    parser, commands = _build_parser()
    try:
        options = parser.parse_args(config_first(sys.argv[1:] if arguments is None else arguments))
        command = options.subcommand
        if command is None:
            parser.print_help()
            return 0
        return commands[command](options[command]) or 0
    except CrossbandError as error:
        print(f"crossband: error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # The reader of our output, such as `head`, has gone; there is nobody left to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print("crossband: interrupted", file=sys.stderr)
        return 130
    except OSError as error:
        what = f"{error.filename}: " if error.filename else ""
        print(f"crossband: error: {what}{error.strerror or error}", file=sys.stderr)
        return 2


def _build_parser() -> tuple[ArgumentParser, dict[str, Callable[[Namespace], int | None]]]:
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
        add_arguments(sub)
        commands[name] = command
    return parser, commands


def _demo_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--out", type=str, default="demo", help="folder for scenes, runs and report.html")
    parser.add_argument("--seed", type=int, default=0, help="of the scenes and of the training")


def _demo(options: Namespace) -> None:
    from crossband.demo import run_demo

    run_demo(Path(options.out), seed=options.seed)


def _train_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "system",
        type=str,
        nargs="?",
        # A default here would hide the system that a config file names.
        default=argparse.SUPPRESS,
        help="name of a system (see `crossband systems`)",
    )
    parser.add_argument("--config", action=ActionConfigFile, help="YAML file with any of these options")
    parser.add_argument(
        "--resume", type=str | None, help="go on with an interrupted run folder; takes no other option"
    )
    parser.add_argument("--data", type=str | None, help=SOURCE_HELP)
    parser.add_argument("--out", type=str | None, help="the run folder; must not exist yet")
    parser.add_argument(
        "--encoder", type=str | None, help="name of an smp or timm encoder (default: the system's own)"
    )
    parser.add_argument(
        "--encoder_weights",
        "--encoder-weights",
        type=str | None,
        help='"imagenet" to fetch them, or the path of a local file (default: random start)',
    )
    parser.add_argument(
        "--options",
        type=dict[str, Any],
        default={},
        help="the system's own switches, as --options.contrastive_weight 0.1 (see `crossband info SYSTEM`)",
    )
    parser.add_argument("--preset", type=str, default="paper", help="recipe to start from: paper or quick")
    parser.add_argument(
        "--recipe",
        type=dict[str, Any],
        default={},
        help="changes to it for all phases, as --recipe.epochs 50",
    )
    parser.add_argument(
        "--phases",
        type=dict[str, dict[str, Any]],
        default={},
        help="changes for single phases, in a YAML file",
    )
    parser.add_argument(
        "--reuse",
        type=dict[str, str],
        default={},
        help="take a phase from a finished run instead of training it, as --reuse.teacher runs/visible",
    )
    parser.add_argument(
        "--augmentation",
        type=dict[str, Any],
        default={},
        help="as --augmentation.crop [320,480] (default: flips only)",
    )
    parser.add_argument(
        "--infrared_scaling",
        "--infrared-scaling",
        type=str,
        default="full-range",
        help="full-range, minmax, percentile(1, 99) or fixed(low, high); kept in the card",
    )
    parser.add_argument("--split", type=str, default="train", help="the split to train on")
    parser.add_argument(
        "--hold_out",
        "--hold-out",
        type=float,
        default=0.1,
        help="share of the training pairs that is held out to choose the checkpoint; 0 for none",
    )
    parser.add_argument(
        "--validation", type=str | None, help="a split that chooses the checkpoint instead; never test"
    )
    parser.add_argument(
        "--select", type=Literal["best", "last"], default="best", help="which epoch's weights to keep"
    )
    parser.add_argument("--seed", type=int, default=0, help="of everything random")
    parser.add_argument(
        "--deterministic", type=bool, default=False, help="only deterministic algorithms (GPU)"
    )
    parser.add_argument(
        "--precision",
        type=Literal["float32", "bfloat16", "float16"],
        default="float32",
        help="mixed below float32",
    )
    parser.add_argument("--accelerator", type=str, default="auto", help="auto, cpu or gpu")
    parser.add_argument("--devices", type=int, default=1, help="number of GPUs (or CPU processes)")
    parser.add_argument(
        "--workers", type=int | None, help="processes that read pairs (default: by the machine)"
    )
    parser.add_argument(
        "--channels_last",
        "--channels-last",
        type=bool,
        default=False,
        help="memory layout; faster on many GPUs",
    )
    parser.add_argument("--compile", type=bool, default=False, help="compile the network first")


def _train(options: Namespace) -> None:
    from crossband.training.options import TrainOptions

    if options.resume is not None:
        from crossband.training.engine import resume

        parser = Parser()
        _train_arguments(parser)
        defaults = parser.get_defaults()
        given = [key for key in vars(options) if key != "resume" and options[key] != defaults.get(key)]
        if given:
            raise OptionError(f"--resume takes its options from the run folder; leave out {', '.join(given)}")
        resume(options.resume)
        return
    missing = [key for key in ("system", "data", "out") if options.get(key) is None]
    if missing:
        named = " and ".join("a system" if key == "system" else f"--{key}" for key in missing)
        raise OptionError(
            f"train needs {named}, as in `crossband train csknet --data msrs:PATH --out runs/x`"
        )
    from crossband.training.engine import train

    values = {key: value for key, value in options.as_dict().items() if key not in ("config", "resume")}
    train(TrainOptions(**values))


def _evaluate_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("run", type=str, help="a finished run folder")
    parser.add_argument("--data", type=str, required=True, help=SOURCE_HELP)
    parser.add_argument("--split", type=str, default="test", help="the split to score")
    parser.add_argument(
        "--bands",
        type=Literal["all", "both", "infrared", "visible"],
        default="all",
        help="bands to give to the system; all: every combination that it runs on",
    )
    parser.add_argument(
        "--protocol",
        type=Literal["present", "all-nan", "all-zero", "no-background"],
        default="present",
        help="the one shown first; every one is printed",
    )
    parser.add_argument(
        "--by", type=Literal["condition", "none"], default="condition", help="split scores by day, night, ..."
    )
    parser.add_argument(
        "--out", type=str | None, help="folder for JSON, CSV, text and HTML (default: RUN/evaluation-SPLIT)"
    )
    parser.add_argument(
        "--precision", type=Literal["float32", "bfloat16", "float16"], default="float32", help="of autocast"
    )
    parser.add_argument(
        "--batch_size", "--batch-size", type=int, default=1, help="pairs of one size per step"
    )
    parser.add_argument("--workers", type=int, default=1, help="processes that read pairs")
    parser.add_argument("--device", type=str | None, help=_DEVICE)


def _evaluate(options: Namespace) -> None:
    import shlex

    from crossband.evaluation import evaluate
    from crossband.pairs.opening import open_pairs
    from crossband.predictor import load
    from crossband.report import write_evaluation

    predictor = load(options.run, device=options.device)
    pairs = open_pairs(options.data, options.split, infrared_scaling=predictor.card.infrared_scaling)
    _check_classes(predictor.card.classes, pairs)
    bands = [options.bands] if options.bands != "all" else _able(predictor.system.supports, pairs.bands)
    with progress_bar("evaluating") as progress:
        evaluation = evaluate(
            predictor.system,
            pairs,
            bands=bands,
            by="condition" if options.by == "condition" else None,
            workers=options.workers,
            batch_size=options.batch_size,
            device=predictor.device,
            precision=options.precision,
            progress=progress,
        )
    print(evaluation.to_text(options.protocol))
    evaluation.provenance = {
        "command": shlex.join(["crossband", *sys.argv[1:]]),
        "run": str(options.run),
        "training": predictor.card.training,
        "crossband": __version__,
        "git revision": predictor.card.git_revision,
    }
    out = Path(options.out or Path(options.run) / f"evaluation-{options.split}")
    write_evaluation(evaluation, out, options.protocol)
    print(f"written: {out}/evaluation.{{txt,json,csv,html}}")


def _able(supports: Any, bands: tuple[str, ...]) -> list[Any]:
    """The combinations that both a system and its data offer."""
    offered = [name for name in supports if name in bands or (name == "both" and len(bands) == 2)]
    if not offered:
        raise OptionError(
            f"the system runs on {', '.join(supports)}, but the data has only {' and '.join(bands)}"
        )
    return offered


def _check_classes(trained: Any, pairs: Any) -> None:
    """Scores of a system on labels with other meanings would be numbers without any."""
    if pairs.classes is not None and len(pairs.classes) != len(trained):
        raise OptionError(
            f"the run was trained on {len(trained)} classes, but {pairs.source} has {len(pairs.classes)}; "
            "give the data that it was made for"
        )
    named = [] if pairs.classes is None else zip(trained.names, pairs.classes.names, strict=True)
    for index, (here, there) in enumerate(named):
        if here != there:
            print(
                f"note: class {index} is {here!r} in the run but {there!r} in {pairs.source}; the scores "
                "mean something only if both are the same thing",
                file=sys.stderr,
            )
            break


def _predict_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("run", type=str, help="a finished run folder")
    parser.add_argument("--visible", type=str | None, help="an image or a folder; may be left out")
    parser.add_argument("--infrared", type=str | None, help="an image or a folder; may be left out")
    parser.add_argument("--out", type=str, required=True, help="folder for label/, overlay/ and confidence/")
    parser.add_argument("--workers", type=int, default=2, help="threads that read ahead")
    parser.add_argument("--device", type=str | None, help=_DEVICE)


def _predict(options: Namespace) -> None:
    files = _files(options.visible, options.infrared)
    from crossband.predictor import load, predict_files
    from crossband.systems.base import bands_of

    predictor = load(options.run, device=options.device)
    bands = bands_of(options.visible, options.infrared)
    if predictor.system.check_bands(bands) == "fallback":
        print(
            f"note: {predictor.system.name} was not designed for {bands} alone; this is a fallback",
            file=sys.stderr,
        )
    with progress_bar("predicting") as progress:
        predict_files(predictor, files, Path(options.out), workers=options.workers, progress=progress)
    print(f"written: {len(files)} label, overlay and confidence images in {options.out}")


def _files(visible: str | None, infrared: str | None) -> list[PairFiles]:
    """The pairs that two files or two folders hold."""
    from crossband.pairs.folder import match_images

    if visible is None and infrared is None:
        raise OptionError("give --visible, --infrared, or both")
    return match_images(*(None if text is None else Path(text) for text in (visible, infrared)))


def _recalibrate_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("run", type=str, help="a finished run folder of CSK-Net")
    parser.add_argument("--data", type=str, required=True, help=SOURCE_HELP)
    parser.add_argument("--split", type=str, default="train", help="the split to take the statistics from")
    parser.add_argument("--out", type=str, required=True, help="run folder for the infrared-only system")
    parser.add_argument("--batch_size", "--batch-size", type=int, default=8, help="pairs per step")
    parser.add_argument("--seed", type=int, default=0, help="of the order of the pairs")
    parser.add_argument("--device", type=str | None, help=_DEVICE)


def _recalibrate(options: Namespace) -> None:
    from crossband.recalibration import recalibrate_run

    with progress_bar("recalibrating") as progress:
        recalibrate_run(
            Path(options.run),
            options.data,
            Path(options.out),
            split=options.split,
            batch_size=options.batch_size,
            seed=options.seed,
            device=options.device,
            progress=progress,
        )
    print(f"written: {options.out}")


def _systems_arguments(parser: ArgumentParser) -> None:
    pass


def _systems(options: Namespace) -> None:
    from crossband.systems import list_systems, system_class

    for name in list_systems():
        system = system_class(name)
        print(f"{name:<15}{system.summary} ({system.paper})")


def _info_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("what", type=str, help="a run folder, or the name of a system")
    parser.add_argument("--classes", type=int, default=9, help="number of classes, for a system's name")
    parser.add_argument("--encoder", type=str | None, help="encoder, for a system's name")
    parser.add_argument(
        "--size", type=str, default="480x640", help="HEIGHTxWIDTH of the image that FLOPs are counted for"
    )


def _info(options: Namespace) -> None:
    from crossband.info import describe

    print(describe(options.what, classes=options.classes, encoder=options.encoder, size=options.size))


_COMMANDS: dict[str, tuple[Callable[[ArgumentParser], None], Callable[[Namespace], int | None], str]] = {
    "demo": (
        _demo_arguments,
        _demo,
        "generate scenes, train three models on them, and write a report; some minutes",
    ),
    "train": (_train_arguments, _train, "train a system into a run folder"),
    "evaluate": (
        _evaluate_arguments,
        _evaluate,
        "score a run on labelled pairs, per bands, protocol and condition",
    ),
    "predict": (_predict_arguments, _predict, "segment images or folders of them"),
    "recalibrate": (
        _recalibrate_arguments,
        _recalibrate,
        "infrared branch with batch-norm statistics of its own",
    ),
    "systems": (_systems_arguments, _systems, "list the systems"),
    "info": (_info_arguments, _info, "parameters, FLOPs, bands and card of a run or a system"),
    "data": (data_arguments, data, "list, check, show and export pairs"),
}

if __name__ == "__main__":
    sys.exit(main())
