"""What the commands that score runs share: ``evaluate``, ``compare`` and ``robustness``."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from jsonargparse import ArgumentParser, Namespace

from crossband.cli.runs import check_usable
from crossband.errors import OptionError, quoted
from crossband.terminal import DEVICE_HELP
from crossband.words import PRECISIONS, RuntimeChoice

if TYPE_CHECKING:
    import numpy as np

    from crossband.pairs.base import Pair, Pairs
    from crossband.predictor import Predictor
    from crossband.words import Bands


def pass_arguments(parser: ArgumentParser) -> None:
    """How a pass over pairs is made."""
    parser.add_argument(
        "--batch_size", "--batch-size", type=int, default=1, help="pairs of one size per step"
    )
    parser.add_argument("--workers", type=int, default=1, help="processes that read pairs")
    parser.add_argument("--device", type=str | None, help=DEVICE_HELP)


def check_first(runs: Iterable[str], options: Namespace, labels: bool = False) -> Pairs:
    """Find what is wrong with runs and pairs before PyTorch is loaded, which takes seconds.

    Gives the pairs, without their labels unless these are asked for.
    """
    from crossband.pairs.opening import open_pairs

    for run in runs:
        check_usable(run)
    return open_pairs(options.data, options.split, labels=labels)


def named_runs(runs: list[str]) -> dict[str, str]:
    """Runs and systems by a name for the tables: the last part of a path, or all of it where that is shared.

    Raises OptionError for one that is named twice, be it as ``run`` and ``run/``.
    """
    first: dict[str, str] = {}
    for run in runs:
        place = str(Path(run).resolve()) if Path(run).exists() else run
        if place in first:
            other = first[place]
            twice = f"{run} was named twice" if other == run else f"{other} and {run} are one run"
            raise OptionError(f"{twice}; name each run or system once")
        first[place] = run
    # Absolute, because "." and ".." have names too.
    names = {run: Path(run).resolve().name if Path(run).is_dir() else run for run in runs}
    last = Counter(names.values())
    return {name if last[name] == 1 else run: run for run, name in names.items()}


def seen(predictor: Predictor, pair: Pair, bands: Bands) -> np.ndarray:
    """The labels, uint8 (H, W), that a system which segments gives a pair of which it gets these bands."""
    labels = predictor.predict(pair.only(bands)).labels
    assert labels is not None
    return labels


def check_classes(trained: Any, pairs: Any) -> None:
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
                f"note: class {index} is {quoted(here)} in the run but {quoted(there)} in {pairs.source}; "
                "the scores mean something only if both are the same thing",
                file=sys.stderr,
            )
            break


def runtime_asked(options: Namespace) -> RuntimeChoice | None:
    """What `crossband.load` is asked for; None is PyTorch, or what an exported file is meant for."""
    lower = options.runtime == "auto" and options.precision != PRECISIONS[0]
    return None if lower or options.runtime == "torch" else options.runtime


def scored_as(options: Namespace, *, monitor: bool = False) -> str:
    """The split, and how it is scored where that is not the usual way, for `default_folder`: scores with a
    monitor or of another precision are others than those without, which they must not replace."""
    told = [options.split]
    if monitor:
        told.append("monitor")
    if options.precision != PRECISIONS[0]:
        told.append(options.precision)
    return "-".join(told)


def default_folder(run: Path, kind: Literal["evaluation", "fusion"], scored: str, source: str) -> Path:
    """Where results go without --out. scored: the split, and how, where there are two ways.

    Raises OptionError where those on other data are there.
    """
    folder = run / f"{kind}-{scored}"
    try:
        before = json.loads((folder / f"{kind}.json").read_text(encoding="utf-8"))["source"]
    except (OSError, ValueError, KeyError, TypeError):
        # None there, or none that can be told: they are replaced.
        return folder
    if before != source:
        raise OptionError(f"{folder} holds scores on {quoted(before)}, not on {source}; give --out")
    return folder
