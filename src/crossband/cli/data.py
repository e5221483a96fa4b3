"""The commands of ``crossband data``: list, check, show, export and annotate pairs."""

from __future__ import annotations

from pathlib import Path

from jsonargparse import ArgumentParser, Namespace

from crossband.errors import OptionError
from crossband.terminal import (
    SOURCE_HELP,
    Parser,
    choice,
    display_arguments,
    progress_bar,
    rig_arguments,
    with_rig,
)
from crossband.words import TOOLS


def data_arguments(parser: ArgumentParser) -> None:
    actions = parser.add_subcommands(required=False, metavar="ACTION", dest="action")
    for name, description in (
        ("list", "what sources of pairs there are"),
        ("check", "verify a source against its declaration; exit code 1 if there are errors"),
        ("show", "write a contact sheet of some pairs"),
        ("export", "write a source as a folder of pairs"),
        ("annotate", "write labels or predictions for CVAT, Label Studio or FiftyOne"),
        ("labels", "make corrected masks of such a tool a folder of pairs"),
    ):
        action = Parser(description=description)
        if name == "labels":
            _labels_arguments(action)
        elif name != "list":
            results = "; or a folder that `crossband predict` wrote" if name == "annotate" else ""
            action.add_argument("source", type=str, help=SOURCE_HELP + results)
            rig_arguments(action)
        if name == "check":
            action.add_argument("--json", type=str | None, help="write the report here as JSON too")
        if name == "annotate":
            action.add_argument(
                "--format", type=choice(TOOLS), required=True, help="the tool that they are for"
            )
        if name in ("show", "export", "annotate"):
            action.add_argument(
                "--out",
                type=str,
                required=True,
                help="file to write" if name == "show" else "folder to write",
            )
            action.add_argument(
                "--infrared_scaling",
                "--infrared-scaling",
                type=str if name == "export" else str | None,
                default="full-range" if name == "export" else None,
                help="full-range, minmax, percentile(1, 99), fixed(low, high), celsius(low, high) or auto "
                "(see docs/data.md); "
                + (
                    "full-range keeps stored values"
                    if name == "export"
                    else "default: full-range, or what shows infrared where that leaves it dark"
                ),
            )
        if name == "show":
            action.add_argument("--split", type=str, default="train", help="the split to show")
            action.add_argument("--count", type=int, default=8, help="number of pairs")
            action.add_argument("--seed", type=int, default=0, help="of the choice of pairs")
            display_arguments(action)
        actions.add_subcommand(name, action, help=description)
        action.prog = f"crossband data {name}"


def _labels_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "corrected",
        type=str,
        help="what the tool exported: CVAT's archive (\"Segmentation mask 1.1\"), Label Studio's JSON, or a "
        "folder or archive with FiftyOne's labels/",
    )
    parser.add_argument(
        "--annotated", type=str, required=True, help="the folder that `crossband data annotate` wrote"
    )
    parser.add_argument("--out", type=str, required=True, help="folder to write, for folder:PATH")


def data(options: Namespace) -> int | None:
    actions = {
        "list": _data_list,
        "check": _data_check,
        "show": _data_show,
        "export": _data_export,
        "annotate": _data_annotate,
        "labels": _data_labels,
    }
    if options.action is None:
        raise OptionError(f"data needs an action: {', '.join(actions)} (see `crossband data --help`)")
    chosen = options.get(options.action)
    if options.action not in ("list", "annotate", "labels"):
        chosen.source = with_rig(chosen.source, chosen.rig, chosen.frame)
    return actions[options.action](chosen)


def _data_list(options: Namespace | None) -> None:
    from crossband.pairs.benchmarks import BENCHMARKS

    for key, benchmark in BENCHMARKS.items():
        print(f"{key + ':PATH':<14}{benchmark.title}: {len(benchmark.classes)} classes; {benchmark.url}")
    print(f"{'folder:PATH':<14}your own pairs: <split>/{{visible,infrared,label}}/name.*")
    print(f"{'list:FILE':<14}a CSV file with a row for each pair: visible,infrared[,label]")
    print(f"{'frames:PATH':<14}a TIFF of many pages, FLIR's SEQ, or a video; option visible=PATH")
    print(f"{'bag:PATH':<14}a ROS bag; options visible=/TOPIC, infrared=/TOPIC")
    print(f"{'shards:PATH':<14}tar files as WebDataset writes them: NAME.visible.png, NAME.infrared.png, ...")
    print(f"{'scenes':<14}generated street scenes; options seed, train, val, test, size, conditions, cameras")


def _data_check(options: Namespace) -> int:
    from crossband.pairs.check import check_source

    with progress_bar("checking") as progress:
        report = check_source(options.source, progress=progress)
    if options.json is not None:
        import json

        from crossband.pairs.writing import write_text

        write_text(Path(options.json), json.dumps(report.to_dict(), indent=2) + "\n")
    print(report.to_text())
    return 0 if report.ok else 1


def _data_show(options: Namespace) -> None:
    import numpy as np

    from crossband.display import display_of
    from crossband.pairs.band_summary import summarise_pairs
    from crossband.pairs.opening import open_pairs
    from crossband.pairs.suspicions import clearer_scaling
    from crossband.pairs.writing import write_image
    from crossband.report import contact_sheet

    pairs = open_pairs(
        options.source, options.split, infrared_scaling=options.infrared_scaling or "full-range"
    )
    if options.infrared_scaling is None:
        scaling = clearer_scaling(summarise_pairs(pairs).infrared, pairs.scaling)
        if scaling is not None:
            print(f"note: {pairs.scaling} leaves infrared a small range; it is shown under {scaling}")
            pairs.scaling = scaling
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


def _data_annotate(options: Namespace) -> None:
    from crossband.annotation.annotating import annotate
    from crossband.results import is_results

    results = is_results(options.source)
    if results and options.infrared_scaling is not None:
        raise OptionError("results are shown as they were read; leave out --infrared_scaling")
    with progress_bar("annotating") as progress:
        count = annotate(
            options.source if results else with_rig(options.source, options.rig, options.frame),
            Path(options.out),
            options.format,
            infrared_scaling=options.infrared_scaling,
            rig=options.rig if results else None,
            frame=options.frame if results else None,
            progress=progress,
        )
    print(f"written: {count} pairs for {options.format} in {options.out} (see docs/annotating.md)")


def _data_labels(options: Namespace) -> None:
    from crossband.annotation.annotating import bring_back

    with progress_bar("bringing back") as progress:
        back = bring_back(
            Path(options.annotated), Path(options.corrected), Path(options.out), progress=progress
        )
    print(f"written: {back.pairs} pairs in {options.out}; the masks of {back.changed} were changed")
    if back.missing:
        print(f"left out: {back.missing} pairs without a mask in {options.corrected}")
