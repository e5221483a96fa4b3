"""``crossband report``."""

from __future__ import annotations

import sys
from pathlib import Path

from jsonargparse import ArgumentParser, Namespace

from crossband.errors import OptionError
from crossband.locks import folder_lock
from crossband.metrics.protocols import DEFAULT_PROTOCOL, PROTOCOLS
from crossband.terminal import choice


def report_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "folder", type=str, help="a folder of runs and results; index.html is written into it"
    )
    parser.add_argument(
        "--protocol",
        type=choice(PROTOCOLS),
        default=DEFAULT_PROTOCOL,
        help="which classes a mean IoU averages",
    )


def report(options: Namespace) -> None:
    """Write one page over the runs and results of a folder."""
    folder = Path(options.folder)
    if not folder.is_dir():
        raise OptionError(f"{folder} is not a folder: name the one that holds the runs")
    from crossband.report.index_html import INDEX_NAME, find_results, index_page
    from crossband.reproduce.folders import has_scores, tables_below

    with folder_lock(folder):
        results = find_results(folder, options.protocol, tables=tables_below(folder), in_a_table=has_scores)
        index_page(folder, results, options.protocol).write(folder / INDEX_NAME)
    for path in results.damaged:
        print(f"note: {folder / path} holds no evaluation of ours; it is left out", file=sys.stderr)
    print(f"written: {folder / INDEX_NAME}")
