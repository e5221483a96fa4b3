"""``crossband robustness``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from jsonargparse import ArgumentParser, Namespace

from crossband.cli.runs import check_usable
from crossband.cli.scoring import check_classes, check_first, named_runs, pass_arguments
from crossband.errors import OptionError, quoted
from crossband.locks import folder_lock
from crossband.metrics.protocols import DEFAULT_PROTOCOL, PROTOCOLS
from crossband.terminal import (
    SOURCE_HELP,
    choice,
    command_line,
    monitor_arguments,
    progress_bar,
    told_after,
)
from crossband.version import __version__

if TYPE_CHECKING:
    from crossband.card import Card
    from crossband.evaluation.robustness import Robustness
    from crossband.pairs.base import Pairs
    from crossband.predictor import Predictor


def robustness_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("runs", type=str, nargs="+", metavar="RUN", help="finished run folders, side by side")
    parser.add_argument("--data", type=str, required=True, help=SOURCE_HELP)
    parser.add_argument("--split", type=str, default="test", help="the split to score")
    parser.add_argument(
        "--corruptions",
        type=str,
        default="all",
        help="some of them, such as fog,column-noise; held-out: those that no training draws; all: band "
        "states, random losses and noise as well",
    )
    parser.add_argument(
        "--severities", type=str, default="1,2,3,4,5", help="some of 1 (slight) to 5, such as 1,3,5"
    )
    parser.add_argument("--limit", type=int | None, help="only the first so many pairs")
    parser.add_argument(
        "--protocol",
        type=choice(PROTOCOLS),
        default=DEFAULT_PROTOCOL,
        help="which classes a mean IoU averages",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the corruptions")
    parser.add_argument(
        "--out",
        type=str,
        default="robustness",
        help="folder for JSON, CSV, text and HTML; goes on where it was",
    )
    pass_arguments(parser)
    monitor_arguments(parser)


def robustness(options: Namespace) -> None:
    """Score runs under everything that goes wrong with cameras."""
    severities = _severities(options.severities)
    if options.limit is not None and options.limit < 1:
        raise OptionError(f"--limit must be at least 1, not {options.limit}")
    if options.seed < 0:
        raise OptionError(f"--seed must be 0 or more, not {options.seed}")
    runs = named_runs(options.runs)
    first = check_first(runs.values(), options, labels=True)
    names = _corruptions(options.corruptions)
    exported = _checked(runs.values(), first, names, options)

    from crossband.evaluation.robustness import assess, conditions
    from crossband.loading import load
    from crossband.pairs.base import PairSubset
    from crossband.pairs.file_states import files_state
    from crossband.pairs.opening import open_pairs
    from crossband.report.robustness_files import robustness_text, write_progress
    from crossband.report.robustness_html import write_robustness

    out = Path(options.out)
    found: dict[str, Robustness] = {}
    opened = {str(first.scaling): first}
    with folder_lock(out):
        for name, run in runs.items():
            predictor = exported.get(run) or load(run, device=options.device, monitor=options.monitor)
            scaling = predictor.card.infrared_scaling
            if scaling not in opened:
                opened[scaling] = open_pairs(options.data, options.split, infrared_scaling=scaling)
            pairs = opened[scaling]
            if options.limit is not None and options.limit < len(pairs):
                pairs = PairSubset(pairs, range(options.limit), pairs.split)
            wanted = conditions(predictor.system, pairs, names, severities)
            progress_file = _progress_file(out, name)
            facts = {
                "command": command_line(),
                "crossband": __version__,
                "run": run,
                "variant": predictor.card.variant,
                "weights": predictor.card.weights_sha256,
                "files": files_state(pairs),
            }
            done = _earlier(progress_file, facts, pairs, options)
            with progress_bar(f"breaking cameras of {name}") as progress:
                for state in assess(
                    predictor.system,
                    pairs,
                    wanted,
                    protocol=options.protocol,
                    seed=options.seed,
                    monitor=predictor.monitor,
                    done=done,
                    progress=progress,
                    workers=options.workers,
                    batch_size=options.batch_size,
                    device=predictor.device,
                ):
                    state.provenance = facts
                    write_progress(progress_file, state)
                    found[name] = state
        with told_after(robustness_text(found)):
            write_robustness(found, out)
            for name in runs:
                _progress_file(out, name).unlink(missing_ok=True)
    print(f"written: {out}/robustness.{{txt,json,csv,html}}")


def _checked(
    runs: Iterable[str], pairs: Pairs, names: list[str] | None, options: Namespace
) -> dict[str, Predictor]:
    """The exported files among the runs, opened: their cards are read with their graphs.

    Raises OptionError for a run that cannot be scored on these pairs before another is, which takes hours.
    """
    from crossband.runtime.exported import is_exported

    opened: dict[str, Predictor] = {}
    for run in runs:
        if is_exported(Path(run)):
            # Here: without such a file nothing has to wait for PyTorch to be told what is wrong.
            from crossband.evaluation.robustness import check_outside_graph, conditions
            from crossband.loading import load

            opened[run] = load(run, device=options.device, monitor=options.monitor)
            _check_scored(run, opened[run].card, pairs)
            system = opened[run].system
            check_outside_graph(
                system, pairs, conditions(system, pairs, names, _severities(options.severities))
            )
        else:
            _check_scored(run, check_usable(run), pairs)
    return opened


def _check_scored(run: str, card: Card | None, pairs: Pairs) -> None:
    # A system that needs no training has no card, and fuses.
    if card is None or card.classes is None:
        raise OptionError(f"{run} only fuses, so it has no labels to score")
    check_classes(card.classes, pairs)


def _corruptions(text: str) -> list[str] | None:
    """The names of corruptions that were asked for; None for all, and more. Raises OptionError for others."""
    from crossband.pairs.corruption import HELD_OUT_CORRUPTIONS, find_corruption

    if text == "all":
        return None
    if text == "held-out":
        return list(HELD_OUT_CORRUPTIONS)
    return [find_corruption(name.strip()).name for name in text.split(",")]


def _severities(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    if not set(parts) <= set("12345"):
        raise OptionError(
            f"--severities are numbers from 1 to 5 with commas, such as 1,3,5, not {quoted(text)}"
        )
    return [int(part) for part in parts]


def _progress_file(out: Path, name: str) -> Path:
    """Where what is known of a run so far is kept. name: may be a whole path, and is one name there."""
    return out / f"{quote(name, safe=' ')}.progress.json"


def _earlier(path: Path, facts: Mapping[str, object], pairs: Pairs, options: Namespace) -> Robustness | None:
    """What an interrupted command knew of the same run on the same pairs. Raises OptionError for others'."""
    from crossband.report.robustness_files import read_robustness

    if not path.exists():
        return None
    before = read_robustness(path)
    remedy = "give another --out, or remove it"
    asked = {
        "source": pairs.source,
        "split": pairs.split,
        "pairs": len(pairs),
        "protocol": options.protocol,
        "seed": options.seed,
        "monitor": options.monitor,
    }
    there = {name: getattr(before, name) for name in asked}
    decisive = ("run", "weights", "crossband")
    asked |= {name: facts[name] for name in decisive}
    there |= {name: before.provenance.get(name) for name in decisive}
    for name, value in asked.items():
        if there[name] != value:
            raise OptionError(
                f"{path} holds an unfinished assessment with {name} {quoted(there[name])}, not "
                f"{quoted(value)}: {remedy}"
            )
    if before.provenance.get("files") != facts["files"]:
        raise OptionError(
            f"{path} holds an unfinished assessment of other images or labels than {pairs.source} has now: "
            f"{remedy}"
        )
    return before
