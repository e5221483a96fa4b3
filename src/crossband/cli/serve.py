"""``crossband serve``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import ArgumentParser, Namespace

from crossband.cli.runs import check_usable
from crossband.cli.using import false_colour_arguments
from crossband.errors import OptionError
from crossband.serve.limits import Limits
from crossband.terminal import DEVICE_HELP, RUNTIME_HELP, choice, rig_arguments
from crossband.words import PRECISIONS, RuntimeChoice

if TYPE_CHECKING:
    from crossband.predictor import Predictor

_LIMITS = {
    "megabytes": "of a file",
    "megapixels": "of an image",
    "pairs": "at once",
    "seconds": "from a request to its answer, waiting for others included",
}
_LOCAL = ("127.0.0.1", "localhost", "::1")


def serve_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "runs",
        type=str,
        nargs="+",
        help="finished run folders, exported files, or systems that need no training, such as guided; the "
        "page lets choose between several",
    )
    parser.add_argument(
        "--host",
        type=str,
        default="127.0.0.1",
        help="address to listen on; another one than this machine's own, such as 0.0.0.0, is open to whoever "
        "can reach it: there is no password",
    )
    parser.add_argument("--port", type=int, default=7860, help="to listen on; 0 takes any that is free")
    for name, text in _LIMITS.items():
        default = getattr(Limits(), name)
        parser.add_argument(
            f"--max_{name}",
            f"--max-{name}",
            type=type(default),
            default=default,
            help=f"{name} {text}, at most",
        )
    parser.add_argument(
        "--infrared_scaling",
        "--infrared-scaling",
        type=str | None,
        help="for systems that need no training (default: auto, by the images of each request); a run has "
        "its own",
    )
    false_colour_arguments(parser)
    rig_arguments(parser)
    parser.add_argument("--precision", type=choice(PRECISIONS), default="float32", help="of the computation")
    parser.add_argument("--runtime", type=RuntimeChoice, default="auto", help=RUNTIME_HELP)
    parser.add_argument("--device", type=str | None, help=DEVICE_HELP)


def serve(options: Namespace) -> None:
    from crossband.pairs.false_colour import false_colour_rule
    from crossband.pairs.registration import registration_of
    from crossband.serve.http import check_installed
    from crossband.serve.running import listening

    limits = Limits(**{name: options[f"max_{name}"] for name in _LIMITS})
    false_colour = false_colour_rule(options.infrared_palette, options.allow_false_colour)
    registration_of(options.rig, options.frame)
    for run in options.runs:
        check_usable(run)
    untrained = [run for run in options.runs if _needs_no_training(run)]
    if options.infrared_scaling is not None and not untrained:
        raise OptionError(
            "--infrared_scaling is for systems that need no training, and none is served: a run has its own; "
            "leave it out"
        )
    check_installed()
    socket = listening(options.host, options.port)
    from crossband.loading import load
    from crossband.serve.running import serve as run_server
    from crossband.serve.service import Service

    own = ("device", "precision", "runtime", "rig", "frame")
    how = {name: options[name] for name in own} | {"false_colour": false_colour}
    predictors: dict[str, Predictor] = {}
    for run in options.runs:
        scaling = options.infrared_scaling if run in untrained else None
        predictors[_name(run, predictors)] = load(run, infrared_scaling=scaling, **how)
    host = f"[{options.host}]" if ":" in options.host else options.host

    def ready() -> None:
        print(f"serving {', '.join(predictors)} at http://{host}:{socket.getsockname()[1]} (Ctrl-C ends)")
        if options.host not in _LOCAL:
            print(f"note: {options.host} is open to whoever can reach it; there is no password")

    run_server(Service(predictors, limits), socket, ready)


def _needs_no_training(run: str) -> bool:
    from crossband.run_card import check_run
    from crossband.runtime.exported import is_exported

    return not is_exported(Path(run)) and "://" not in run and check_run(run) is None


def _name(run: str, taken: Mapping[str, object]) -> str:
    """What a run is called on the page: its folder's name, and not where that lies."""
    name = Path(run).resolve().name if "://" not in run else run
    if name in taken:
        if name == run:
            raise OptionError(f"{run} is given twice")
        name = next(new for number in range(2, 100) if (new := f"{name} ({number})") not in taken)
    return name
