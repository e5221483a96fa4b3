"""``crossband train``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from jsonargparse import ActionConfigFile, ArgumentParser, Namespace

from crossband.errors import OptionError
from crossband.option_types import types_of
from crossband.terminal import SOURCE_HELP, command_line, rig_arguments, with_rig
from crossband.training.options import TrainOptions, checked, place_options

HELP = {
    "data": SOURCE_HELP,
    "out": "the run folder; must not exist yet",
    "variant": "a named set of the system's options to start from, such as as-published",
    "encoder": "name of an smp or timm encoder (default: the system's own)",
    "encoder_weights": '"imagenet" to fetch them, or the path of a local file (default: random start)',
    "network": "the network's own options, as --network.exchange false (see `crossband info SYSTEM`)",
    "loss": "the options of what trains it, as --loss.contrastive_weight 0.1 (see `crossband info SYSTEM`)",
    "without_labels": "learn to fuse alone, from pairs that need no labels",
    "recipe": "the recipe to start from: paper (the system's own), common (one for all systems) or quick; "
    "and changes to it for all phases, as --recipe.epochs 50",
    "phases": "changes of the recipe for single phases, in a YAML file",
    "reuse": "take a phase from a finished run (its folder, or its place on the Hub) instead of training it, "
    "as --reuse.teacher runs/visible",
    "start_from": "a finished run of the same system (its folder, or its place on the Hub), at whose weights "
    "this training starts",
    "augmentation": "as --augmentation.crop [320,480] (default: flips only)",
    "robust": "train for cameras that break: in the first half of the epochs one band of half of the pairs "
    "is broken, and a fifth of the steps go without a band, where the system and the pairs allow it "
    "(--augmentation.corrupted 0.5 --augmentation.band_dropout 0.2 --augmentation.broken_epochs 0.5); never "
    "drawn, since held out for tests: glare, fog, defocus, dirt, saturation, column-noise, frozen, halo, "
    "homography, frame-lag",
    "band_monitor": "train a small monitor too, kept in the card, that says of a pair which band does harm: "
    "what --monitor of other commands asks; needs labels, and a system that runs on both bands and on one",
    "infrared_scaling": "full-range, minmax, percentile(1, 99), fixed(low, high), celsius(low, high) or "
    "auto; kept in the card",
    "split": "the split to train on",
    "hold_out": "share of the training pairs that is held out to choose the checkpoint; 0 for none",
    "validation": "a split that chooses the checkpoint instead; never test",
    "select": "which epoch's weights to keep",
    "seed": "of everything random",
    "deterministic": "only deterministic algorithms (GPU)",
    "precision": "mixed below float32",
    "accelerator": "what to compute on",
    "devices": "number of GPUs (or CPU processes)",
    "workers": "processes that read pairs (default: by the machine)",
    "channels_last": "memory layout; faster on many GPUs",
    "compile": "compile the network first",
    "logger": "where the curves go beside curves.csv (default: TensorBoard, where it is installed)",
}
"""What each field of `TrainOptions` but the system is, for a person at a terminal."""

_FLAGS = ("without_labels", "robust", "band_monitor")
"""Those that are given without a value."""

_RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")
"""By which a launcher numbers the processes of a training; the first makes the folder, the others find it."""


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
    field_arguments(parser, [field.name for field in fields(TrainOptions) if field.name != "system"])
    rig_arguments(parser)
    parser.add_argument("--preset", type=str | None, help=argparse.SUPPRESS)
    parser.add_argument("--options", type=dict[str, Any], default={}, help=argparse.SUPPRESS)


def field_arguments(parser: ArgumentParser, wanted: Iterable[str]) -> None:
    """An option for each of these fields of `TrainOptions`."""
    hints, known = types_of(TrainOptions), {field.name: field for field in fields(TrainOptions)}
    for name in wanted:
        field = known[name]
        spellings = dict.fromkeys((f"--{name}", f"--{name.replace('_', '-')}"))
        if name in _FLAGS:
            parser.add_argument(*spellings, action="store_true", help=HELP[name])
            continue
        required = field.default is MISSING and field.default_factory is MISSING
        default = field.default if field.default_factory is MISSING else field.default_factory()
        parser.add_argument(
            *spellings,
            # Whether something required is missing is said in one line for all of it, by `train`.
            type=hints[name] | None if required else hints[name],
            default=None if required else default,
            help=HELP[name],
        )


def check_resume_alone(arguments: Sequence[str]) -> None:
    """Raise OptionError for what is given beside ``--resume``, also where it is an option's default.

    The run may have another value.

    arguments: of the command line, behind ``train``.
    """
    given, waiting = [], iter(arguments)
    for argument in waiting:
        name = argument.partition("=")[0]
        if name.startswith("--res") and "--resume".startswith(name):
            if name == argument:
                next(waiting, None)
        elif name.startswith("--"):
            given.append(name[2:].partition(".")[0].replace("-", "_"))
        elif not given:
            # Behind an option it is a value of that.
            given.append("system")
    if given:
        raise OptionError(
            f"--resume takes its options from the run folder; leave out {', '.join(sorted({*given}))}"
        )


def train(options: Namespace) -> None:
    # Read when PyTorch is loaded: on several devices it would warn of every network whose parameters all have
    # a use, as not all have (`training/fitting.py`). Its errors are told.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    if options.resume is not None:
        from crossband.locks import check_unheld
        from crossband.training.run_folder import check_resumable

        check_resumable(Path(options.resume))
        if _is_first_process():
            check_unheld(Path(options.resume))
        from crossband.training.engine import resume

        resume(options.resume)
        return
    missing = [key for key in ("system", "data", "out") if options.get(key) is None]
    if missing:
        named = " and ".join("a system" if key == "system" else f"--{key}" for key in missing)
        raise OptionError(
            f"train needs {named}, as in `crossband train csknet --data msrs:PATH --out runs/x`"
        )
    values = {key: value for key, value in options.as_dict().items() if key not in ("config", "resume")}
    rig, frame = values.pop("rig"), values.pop("frame")
    # What a file of options leaves empty has passed for given.
    values = checked(values)
    _place_old(values)
    values["data"] = with_rig(values["data"], rig, frame)
    chosen = TrainOptions(**values)
    _check(chosen)
    from crossband.training import engine

    engine.train(chosen, command=command_line())


def _is_first_process() -> bool:
    return all(os.environ.get(rank, "0") == "0" for rank in _RANKS)


def _check(options: TrainOptions) -> None:
    """Find what is wrong with a folder, a name or a source before PyTorch is loaded, which takes seconds."""
    from crossband.hub import run_folder
    from crossband.run_card import read_card
    from crossband.systems.registry import check_name
    from crossband.training.run_folder import check_folder
    from crossband.training.training_pairs import check_splits

    if _is_first_process():
        check_folder(Path(options.out))
    check_name(options.system)
    for run in (*options.reuse.values(), *filter(None, [options.start_from])):
        read_card(run_folder(run))
    check_splits(options)


def _place_old(values: dict[str, Any]) -> None:
    """Put what came under an old name where it belongs, and say where."""
    preset, old = values.pop("preset"), values.pop("options")
    moved = {}
    if preset is not None:
        values["recipe"] = {"name": preset, **values["recipe"]}
        moved["--preset"] = "--recipe"
    if old:
        variant, network, loss = place_options(values["system"], old)
        if variant is not None:
            values["variant"] = values["variant"] or variant
            moved["--options.preset"] = "--variant"
        for kind, given in (("network", network), ("loss", loss)):
            values[kind] = {**given, **values[kind]}
            moved |= {f"--options.{name}": f"--{kind}.{name}" for name in given}
    for before, now in moved.items():
        print(f"note: {before} is the old spelling of {now}", file=sys.stderr)
