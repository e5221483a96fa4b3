"""What commands share that give their pairs out to a cluster."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import ArgumentParser, Namespace

from crossband.errors import OptionError
from crossband.many.cluster import Launcher
from crossband.option_types import types_of
from crossband.terminal import progress_bar

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from crossband.cli.requests import Request
    from crossband.evaluation import Evaluation
    from crossband.many.parts import Cut
    from crossband.pairs.base import Pairs
    from crossband.pairs.given import Given
    from crossband.predictor import Predictor
    from crossband.words import Bands

PART_SIZE = 500
_ON_RAY = {
    "address": "of a running Ray cluster, or auto (default: start one here)",
    "cpus": "processors that a worker takes of a Ray cluster",
}

_ONE_PROCESS = {"display": "linear", "colours": "grey", "video": None, "on_error": "skip", "overwrite": False}
"""Options of `predict` that no part alone can follow, and what leaves them out."""


def launch_arguments(parser: ArgumentParser) -> None:
    hints = types_of(Launcher)
    parser.add_argument(
        "--launcher",
        type=hints["name"],
        default=Launcher.name,
        help="local: this process; ray: the workers of a cluster, part by part, going on where an earlier "
        "command ended; every machine must see the pairs, the run and --out under the same paths",
    )
    for name, text in _ON_RAY.items():
        parser.add_argument(f"--{name}", type=hints[name], default=getattr(Launcher, name), help=text)
    parser.add_argument(
        *("--part_size", "--part-size"), type=int, default=PART_SIZE, help="pairs that a worker does at once"
    )


def launcher_of(options: Namespace) -> Launcher | None:
    """The cluster that was asked for; None for this process. Raises OptionError for what does not fit."""
    if options.launcher == "local":
        plain = {"address": Launcher.address, "cpus": Launcher.cpus, "part_size": PART_SIZE}
        for name, default in plain.items():
            if options[name] != default:
                raise OptionError(f"--{name} is for a Ray cluster: add --launcher ray")
        return None
    for name in ("cpus", "part_size"):
        if options[name] < 1:
            raise OptionError(f"--{name} must be 1 or more, not {options[name]}")
    if not options.out:
        raise OptionError("--launcher ray needs --out, a folder that all workers see")
    return Launcher(options.launcher, options.address, options.cpus)


def _cut(
    task: str,
    run: str,
    predictor: Predictor,
    source: str,
    split: str | None,
    pairs: int,
    size: int,
    how: Mapping[str, Any],
) -> Cut:
    """How a list is cut for the workers. how: what else decides what they find, as JSON has it."""
    from crossband.many.parts import Cut

    return Cut(
        task=task,
        run=run,
        weights_sha256=predictor.card.weights_sha256,
        source=source,
        split=split,
        pairs=pairs,
        size=size,
        how=how,
    )


def score_on_ray(
    options: Namespace,
    launcher: Launcher,
    predictor: Predictor,
    pairs: Pairs,
    bands: Sequence[Bands],
    load: dict[str, Any],
) -> Evaluation:
    """`crossband.evaluation.evaluate` by the workers of a cluster. load: how they load the run.

    Raises OptionError where parts that are there are of other pairs, or were counted otherwise.
    """
    from crossband.evaluation.pair_counts import joined, read_pair_counts
    from crossband.evaluation.runner import evaluation_of
    from crossband.many.jobs import ScoreParts
    from crossband.many.working import do_parts
    from crossband.pairs.file_states import files_state
    from crossband.runtime.exported import precision_of

    job = ScoreParts(
        cut=_cut(
            *("evaluate", options.run[0], predictor, options.data),
            *(options.split, len(pairs), options.part_size),
            {
                "bands": ", ".join(bands),
                **{name: options[name] for name in ("by", "precision", "runtime")},
                "files": files_state(pairs),
            },
        ),
        out=Path(options.out).absolute() / "parts",
        home=Path.cwd(),
        load=load,
        batch_size=options.batch_size,
        bands=tuple(bands),
        by="condition" if options.by == "condition" else None,
        precision=options.precision,
    )
    with progress_bar("evaluating on Ray") as progress:
        do_parts(job, launcher, progress=progress)
    counts = joined([read_pair_counts(job.file(index)) for index in range(len(job.cut))])
    supports = {name: predictor.system.check_bands(name) for name in bands}
    precision = precision_of(predictor.system, options.precision)
    return evaluation_of(counts, system=predictor.system.name, supports=supports, precision=precision)


def predict_on_ray(
    options: Namespace, launcher: Launcher, predictor: Predictor, request: Request, given: Given
) -> int:
    """`crossband.predicting.predict_files` by the workers of a cluster; the exit code."""
    from crossband.many.jobs import PredictParts
    from crossband.many.working import do_parts
    from crossband.pairs.file_states import images_state

    if request.source is None:
        raise OptionError("--launcher ray takes its pairs from --data, such as --data folder:PATH")
    for name, plain in _ONE_PROCESS.items():
        if options[name] != plain:
            raise OptionError(f"--{name} is for one process: leave it out, or --launcher ray")
    load = {**request.how(options), "monitor": options.monitor, "bands": predictor.bands}
    tiling = predictor.tiling
    job = PredictParts(
        cut=_cut(
            *("predict", options.run, predictor, request.source),
            *(options.split, len(given.pairs), options.part_size),
            {
                **{name: load[name] for name in ("bands", "monitor", "precision", "runtime")},
                "tile": None if tiling is None else [tiling.side, tiling.overlap],
                "missing": request.missing,
                "files": images_state(given.pairs),
            },
        ),
        out=Path(options.out).absolute(),
        home=Path.cwd(),
        load=load,
        batch_size=options.batch_size,
        missing=request.missing,
    )
    with progress_bar("predicting on Ray") as progress:
        done = do_parts(job, launcher, progress=progress)
    print(f"written: {done.pairs - done.failed} pairs in {len(job.cut)} parts of {options.out}")
    if not done.failed:
        return 0
    print(
        f"crossband: {done.failed} of {done.pairs} pairs could not be used (failures.csv of each part)",
        file=sys.stderr,
    )
    return 3
