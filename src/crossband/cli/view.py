"""``crossband view``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import ArgumentParser, Namespace

from crossband.errors import OptionError
from crossband.terminal import SOURCE_HELP, progress_bar, rig_arguments, with_rig

if TYPE_CHECKING:
    from crossband.pairs.base import Pairs


PAGE, COUNT, MAX_SIDE = "view.html", 24, 800
"""Of a page, where nothing else is asked for."""


def view_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "what", type=str, help=f"a folder that `crossband predict` or `fuse` wrote, or {SOURCE_HELP}"
    )
    parser.add_argument("--out", type=str | None, help=f"the page to write (default: {PAGE})")
    parser.add_argument("--split", type=str | None, help="of a source (default: its first)")
    parser.add_argument(
        "--count", type=int | None, help=f"pairs on the page at most, evenly chosen (default: {COUNT})"
    )
    parser.add_argument(
        "--max_side",
        "--max-side",
        type=int | None,
        help=f"pixels of a picture's longer side at most (default: {MAX_SIDE})",
    )
    parser.add_argument(
        "--infrared_scaling",
        "--infrared-scaling",
        type=str,
        default="auto",
        help="of a source (see docs/data.md); results are shown as they were read",
    )
    parser.add_argument(
        "--rerun",
        type=str | None,
        help="write all pairs into this file for the Rerun viewer instead (needs 'crossband[rerun]')",
    )
    rig_arguments(parser)


def view(options: Namespace) -> None:
    given = [name for name in ("out", "count", "max_side") if options[name] is not None]
    if options.rerun is not None and given:
        raise OptionError(
            f"--{given[0]} is of a page, and --rerun writes all pairs as they are into its own file; leave "
            "out one of the two"
        )
    count = COUNT if options.count is None else options.count
    max_side = MAX_SIDE if options.max_side is None else options.max_side
    if count < 1 or max_side < 16:
        raise OptionError("--count must be 1 or more, and --max_side 16 or more")
    from crossband.pairs.opening import main_splits, open_pairs
    from crossband.results import is_results, open_results

    pairs: Pairs
    if is_results(options.what):
        if options.split is not None:
            raise OptionError("a folder of results has no splits; leave out --split")
        if options.infrared_scaling != "auto":
            raise OptionError("results are shown as they were read; leave out --infrared_scaling")
        pairs = open_results(Path(options.what), rig=options.rig, frame=options.frame)
    else:
        source = with_rig(options.what, options.rig, options.frame)
        split = main_splits(source)[0] if options.split is None else options.split
        pairs = open_pairs(source, split, infrared_scaling=options.infrared_scaling)
    if options.rerun is not None:
        from crossband.report.rerun_file import write_rerun

        with progress_bar("viewing") as progress:
            written = write_rerun(pairs, Path(options.rerun), progress=progress)
        size = Path(options.rerun).stat().st_size / 1e6
        print(f"written: {written} of {len(pairs)} pairs in {options.rerun} ({size:.1f} MB)")
        return
    from crossband.report.viewing import write_view

    path = Path(PAGE if options.out is None else options.out)
    with progress_bar("viewing") as progress:
        written = write_view(pairs, path, most=count, max_side=max_side, progress=progress)
    size = path.stat().st_size / 1e6
    print(f"written: {written} of {len(pairs)} pairs in {path} ({size:.1f} MB)")
