"""``crossband reproduce``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser, Namespace

from crossband.errors import OptionError
from crossband.many.cluster import Launcher
from crossband.option_types import types_of
from crossband.reproduce.settings import Compute, Settings
from crossband.terminal import command_line
from crossband.text import text_table
from crossband.words import Budget


def reproduce_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "tables",
        type=str,
        nargs="*",
        help='tables such as csknet/table-3, "all" of them, or "list" to see what there is',
    )
    parser.add_argument(
        "--data",
        type=str,
        action="append",
        metavar="BENCHMARK:PATH",
        help="where a benchmark of the tables is, such as msrs:PATH; may be given several times",
    )
    _add(
        parser,
        "--on",
        Settings,
        "on",
        "fill the tables on other data: scenes (generated, small), scenes,key=value... or folder:PATH",
    )
    parser.add_argument(
        "--out", type=str | None, help="folder for jobs/ and tables/; may exist and be shared"
    )
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each row, with seeds 0, 1, ...")
    _add(
        parser,
        "--budget",
        Settings,
        "budget",
        "paper: each system by its own paper's recipe; quick: all of them short, small and alike",
    )
    parser.add_argument("--preset", type=Budget | None, help=argparse.SUPPRESS)
    parser.add_argument(
        "--rows",
        type=str,
        action="append",
        metavar="PATTERN",
        help='only rows whose label and bands this occurs in, such as "csk-net infrared"; a regular '
        "expression; may be given several times",
    )
    parser.add_argument(
        "--with",
        type=str,
        action="append",
        metavar="SYSTEM",
        help="a further system, such as one of another package, that gets a row in every table; may be given "
        "several times",
    )
    parser.add_argument(
        "--plan", action="store_true", help="print the jobs and how long they will take, and do nothing"
    )
    _add(parser, "--encoder", Settings, "encoder", "one encoder for all systems")
    parser.add_argument(
        "--encoder_weights",
        "--encoder-weights",
        type=str,
        action="append",
        metavar="[ENCODER=]PATH",
        help='"imagenet", "none", or a local file, for all encoders or for a named one (default, of others '
        "than a named one too: imagenet for paper, none for quick); may be given several times",
    )
    parser.add_argument("--epochs", type=int | None, help="of every phase, in place of the recipes'")
    parser.add_argument(
        "--recipe", type=dict[str, Any], default={}, help="changes to all recipes, as --recipe.batch_size 4"
    )
    _add(parser, "--test_split", Settings, "test_split", "the split to score")
    _add(
        parser,
        "--launcher",
        Launcher,
        "name",
        "local: one job after another, and several such commands may share a folder; ray: on a cluster",
    )
    _add(
        parser,
        "--address",
        Launcher,
        "address",
        "of a running Ray cluster, or auto (default: start one here)",
    )
    _add(parser, "--cpus", Launcher, "cpus", "processors that a job takes of a Ray cluster")
    _add(parser, "--accelerator", Compute, "accelerator", "what to compute on")
    _add(parser, "--devices", Settings, "devices", "number of GPUs (or CPU processes) of a job")
    _add(parser, "--workers", Compute, "workers", "processes of a job that read pairs")


def _add(parser: ArgumentParser, flag: str, settings: type, field: str, text: str) -> None:
    """An option with the type and the default of a field. text: its help."""
    names = dict.fromkeys((flag, flag.replace("_", "-")))
    hint, default = types_of(settings)[field], getattr(settings, field)
    parser.add_argument(*names, type=hint, default=default, help=text)


def reproduce(options: Namespace) -> int | None:
    """List tables, plan or do their jobs; 1 where some of these failed."""
    if options.tables == ["list"]:
        _list()
        return None
    if not options.tables or options.out is None:
        missing = "--out" if options.tables else "the name of a table"
        raise OptionError(
            f"reproduce needs {missing}, as in `crossband reproduce csknet/table-3 --data msrs:PATH --out "
            "runs/tables` (`crossband reproduce list` shows the tables)"
        )
    for name in ("seeds", "cpus", "devices"):
        if options[name] < 1:
            raise OptionError(f"--{name} must be 1 or more, not {options[name]}")
    for name in ("address", "cpus"):
        if options.launcher == "local" and options[name] != getattr(Launcher, name):
            raise OptionError(f"--{name} is for a Ray cluster: add --launcher ray")
    if options.epochs is not None and "epochs" in options.recipe:
        raise OptionError("--epochs is --recipe.epochs: give one of them")
    from crossband.reproduce.folders import TABLES_NAME
    from crossband.reproduce.plan_text import plan_text
    from crossband.reproduce.planning import make_plan
    from crossband.reproduce.reproducing import reproduce as run
    from crossband.reproduce.settings_file import agree
    from crossband.reproduce.settings_words import read_settings
    from crossband.reproduce.tables import choose_rows, find_tables, with_systems

    out = Path(options.out).expanduser().resolve()
    tables = with_systems(find_tables(options.tables), options["with"] or [])
    rows = choose_rows(tables, options.rows or [])
    epochs = {} if options.epochs is None else {"epochs": options.epochs}
    settings = read_settings(
        budget=_budget(options),
        data=options.data or [],
        on=options.on,
        encoder=options.encoder,
        encoder_weights=options.encoder_weights or [],
        recipe={**options.recipe, **epochs},
        test_split=options.test_split,
        devices=options.devices,
    )
    plan = make_plan(tables, agree(out, settings), seeds=options.seeds, rows=rows)
    named = {*settings.encoder_weights} - {"", *(job.options.encoder for job in plan.jobs.values())}
    for encoder in sorted(named):
        print(f"note: --encoder_weights {encoder}=...: no job here has that encoder", file=sys.stderr)
    compute = Compute(options.accelerator, options.workers)
    if options.plan:
        print(plan_text(plan, out, compute))
        return None
    launcher = Launcher(options.launcher, options.address, options.cpus)
    try:
        failed = run(plan, out, compute=compute, launcher=launcher, command=command_line())
    except KeyboardInterrupt as interruption:
        # The last word, behind that of the training that was at work.
        interruption.add_note("go on with the same command")
        raise
    print(f"written: {out / TABLES_NAME}/*.{{md,csv,html}}")
    for name, problem in failed.items():
        print(f"crossband: {name} failed: {problem}", file=sys.stderr)
    return 1 if failed else None


def _list() -> None:
    from crossband.reproduce.tables import TABLES

    rows = [
        (table.name, table.title, str(len(table.rows)), ", ".join(table.benchmarks))
        for table in TABLES.values()
    ]
    print(text_table(("table", "about", "rows", "needs"), rows, align="llrl"))


def _budget(options: Namespace) -> Budget:
    """The budget, which may have come under its old name."""
    if options.preset is None:
        return options.budget
    print("note: --preset is the old spelling of --budget", file=sys.stderr)
    return options.preset
