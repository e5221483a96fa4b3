"""``crossband train``."""

from __future__ import annotations

import argparse
from typing import Any, Literal

from jsonargparse import ActionConfigFile, ArgumentParser, Namespace

from crossband.errors import OptionError
from crossband.terminal import SOURCE_HELP, Parser


def train_arguments(parser: ArgumentParser) -> None:
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
        help="the system's own switches, as --options.contrastive_weight 0.1 (see `crossband info SYSTEM`); "
        "--options.preset NAME starts from a named set of them",
    )
    parser.add_argument(
        "--without_labels",
        "--without-labels",
        action="store_true",
        help="learn to fuse alone, from pairs that need no labels",
    )
    parser.add_argument(
        "--preset",
        type=str,
        default="paper",
        help="recipe to start from: paper (the system's own), common (one for all systems) or quick",
    )
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


def train(options: Namespace) -> None:
    from crossband.training.options import TrainOptions

    if options.resume is not None:
        from crossband.training.engine import resume

        parser = Parser()
        train_arguments(parser)
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
    from crossband.training import engine

    values = {key: value for key, value in options.as_dict().items() if key not in ("config", "resume")}
    engine.train(TrainOptions(**values))
