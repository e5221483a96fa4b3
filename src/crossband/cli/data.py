"""The commands of ``crossband data``: list, check, show and export pairs."""

from __future__ import annotations

from pathlib import Path

from jsonargparse import ArgumentParser, Namespace

from crossband.errors import OptionError
from crossband.terminal import SOURCE_HELP, Parser, display_arguments, progress_bar, rig_arguments, with_rig


def data_arguments(parser: ArgumentParser) -> None:
    actions = parser.add_subcommands(required=False, metavar="ACTION", dest="action")
    for name, description in (
        ("list", "what sources of pairs there are"),
        ("check", "verify a source against its declaration; exit code 1 if there are errors"),
        ("show", "write a contact sheet of some pairs"),
        ("export", "write a source as a folder of pairs"),
    ):
        action = Parser(description=description)
        if name != "list":
            action.add_argument("source", type=str, help=SOURCE_HELP)
            rig_arguments(action)
        if name == "check":
            action.add_argument("--json", type=str | None, help="write the report here as JSON too")
        if name in ("show", "export"):
            action.add_argument(
                "--out",
                type=str,
                required=True,
                help="file to write" if name == "show" else "folder to write",
            )
            action.add_argument(
                "--infrared_scaling",
                "--infrared-scaling",
                type=str,
                default="full-range",
                help="full-range, minmax, percentile(1, 99), fixed(low, high), celsius(low, high) or auto "
                "(see docs/data.md)" + ("; full-range keeps stored values" if name == "export" else ""),
            )
        if name == "show":
            action.add_argument("--split", type=str, default="train", help="the split to show")
            action.add_argument("--count", type=int, default=8, help="number of pairs")
            action.add_argument("--seed", type=int, default=0, help="of the choice of pairs")
            display_arguments(action)
        actions.add_subcommand(name, action, help=description)
        action.prog = f"crossband data {name}"


def data(options: Namespace) -> int | None:
    actions = {"list": _data_list, "check": _data_check, "show": _data_show, "export": _data_export}
    if options.action is None:
        raise OptionError(f"data needs an action: {', '.join(actions)} (see `crossband data --help`)")
    chosen = options.get(options.action)
    if options.action != "list":
        chosen.source = with_rig(chosen.source, chosen.rig, chosen.frame)
    return actions[options.action](chosen)


def _data_list(options: Namespace | None) -> None:
    from crossband.pairs.benchmarks import BENCHMARKS

    for key, benchmark in BENCHMARKS.items():
        print(f"{key + ':PATH':<14}{benchmark.title}: {len(benchmark.classes)} classes; {benchmark.url}")
    print(f"{'folder:PATH':<14}your own pairs: <split>/{{visible,infrared,label}}/name.*")
    print(f"{'frames:PATH':<14}a TIFF of many pages, FLIR's SEQ, or a video; option visible=PATH")
    print(f"{'bag:PATH':<14}a ROS bag; options visible=/TOPIC, infrared=/TOPIC")
    print(f"{'scenes':<14}generated street scenes; options seed, train, val, test, size, conditions")


def _data_check(options: Namespace) -> int:
    from crossband.pairs.check import check_source

    with progress_bar("checking") as progress:
        report = check_source(options.source, progress=progress)
    print(report.to_text())
    if options.json is not None:
        import json

        from crossband.pairs.writing import write_text

        write_text(Path(options.json), json.dumps(report.to_dict(), indent=2) + "\n")
    return 0 if report.ok else 1


def _data_show(options: Namespace) -> None:
    import numpy as np

    from crossband.display import display_of
    from crossband.pairs.opening import open_pairs
    from crossband.pairs.writing import write_image
    from crossband.report import contact_sheet

    pairs = open_pairs(options.source, options.split, infrared_scaling=options.infrared_scaling)
    display = None
    if (options.display, options.colours) != ("linear", "grey"):
        display = display_of(pairs, options.display, options.colours)
    sheet = contact_sheet(pairs, options.count, seed=options.seed, display=display)
    write_image(Path(options.out), np.asarray(sheet.convert("RGB")))
    print(f"written: {options.out}")


def _data_export(options: Namespace) -> None:
    from crossband.pairs.export import export_folder

    with progress_bar("exporting") as progress:
        export_folder(
            options.source, Path(options.out), infrared_scaling=options.infrared_scaling, progress=progress
        )
    print(f"written: {options.out}")
