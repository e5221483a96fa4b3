"""``crossband evaluate``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Literal

from jsonargparse import ArgumentParser, Namespace

from crossband.errors import OptionError
from crossband.terminal import DEVICE_HELP, SOURCE_HELP, progress_bar
from crossband.version import __version__


def evaluate_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("run", type=str, help="a finished run folder")
    parser.add_argument("--data", type=str, required=True, help=SOURCE_HELP)
    parser.add_argument("--split", type=str, default="test", help="the split to score")
    parser.add_argument(
        "--bands",
        type=Literal["all", "both", "infrared", "visible"],
        default="all",
        help="bands to give to the system; all: every combination that it runs on",
    )
    parser.add_argument(
        "--protocol",
        type=Literal["present", "all-nan", "all-zero", "no-background"],
        default="present",
        help="the one shown first; every one is printed",
    )
    parser.add_argument(
        "--by", type=Literal["condition", "none"], default="condition", help="split scores by day, night, ..."
    )
    parser.add_argument(
        "--out", type=str | None, help="folder for JSON, CSV, text and HTML (default: RUN/evaluation-SPLIT)"
    )
    parser.add_argument(
        "--precision", type=Literal["float32", "bfloat16", "float16"], default="float32", help="of autocast"
    )
    parser.add_argument(
        "--batch_size", "--batch-size", type=int, default=1, help="pairs of one size per step"
    )
    parser.add_argument("--workers", type=int, default=1, help="processes that read pairs")
    parser.add_argument("--device", type=str | None, help=DEVICE_HELP)


def evaluate(options: Namespace) -> None:
    import shlex

    from crossband import evaluation as evaluations
    from crossband.pairs.opening import open_pairs
    from crossband.predictor import load
    from crossband.report import write_evaluation

    predictor = load(options.run, device=options.device)
    pairs = open_pairs(options.data, options.split, infrared_scaling=predictor.card.infrared_scaling)
    _check_classes(predictor.card.classes, pairs)
    bands = [options.bands] if options.bands != "all" else _able(predictor.system.supports, pairs.bands)
    with progress_bar("evaluating") as progress:
        evaluation = evaluations.evaluate(
            predictor.system,
            pairs,
            bands=bands,
            by="condition" if options.by == "condition" else None,
            workers=options.workers,
            batch_size=options.batch_size,
            device=predictor.device,
            precision=options.precision,
            progress=progress,
        )
    print(evaluation.to_text(options.protocol))
    evaluation.provenance = {
        "command": shlex.join(["crossband", *sys.argv[1:]]),
        "run": str(options.run),
        "training": predictor.card.training,
        "crossband": __version__,
        "git revision": predictor.card.git_revision,
    }
    out = Path(options.out or Path(options.run) / f"evaluation-{options.split}")
    write_evaluation(evaluation, out, options.protocol)
    print(f"written: {out}/evaluation.{{txt,json,csv,html}}")


def _able(supports: Any, bands: tuple[str, ...]) -> list[Any]:
    """The combinations that both a system and its data offer."""
    offered = [name for name in supports if name in bands or (name == "both" and len(bands) == 2)]
    if not offered:
        raise OptionError(
            f"the system runs on {', '.join(supports)}, but the data has only {' and '.join(bands)}"
        )
    return offered


def _check_classes(trained: Any, pairs: Any) -> None:
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
                f"note: class {index} is {here!r} in the run but {there!r} in {pairs.source}; the scores "
                "mean something only if both are the same thing",
                file=sys.stderr,
            )
            break
