"""``crossband predict``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import ArgumentParser, Namespace

from crossband.cli.launching import launch_arguments, launcher_of, predict_on_ray
from crossband.cli.requests import pair_arguments, requested
from crossband.cli.runs import check_usable, note_choice
from crossband.cli.using import (
    batch_arguments,
    by_bands,
    check_combinations,
    choices,
    computing_arguments,
    ending,
    false_colour_arguments,
    film,
    note_agreement,
    note_bands,
    note_faults,
    note_suspicions,
)
from crossband.errors import OptionError, PairError
from crossband.terminal import display_arguments, monitor_arguments, progress_bar, rig_arguments
from crossband.words import BAND_COMBINATIONS, Bands

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from crossband.display import Display
    from crossband.pairs.base import Listed, PairFiles
    from crossband.predictor import Predictor


def predict_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("run", type=str, help="a finished run folder, or an exported file or bundle")
    pair_arguments(parser)
    parser.add_argument("--out", type=str, required=True, help="folder for label/, overlay/ and more")
    parser.add_argument(
        "--bands",
        type=Bands | None,
        help="what is used of every pair (default: all that it has; of --data, where the system cannot take "
        "both, the band that it can)",
    )
    false_colour_arguments(parser)
    display_arguments(parser)
    rig_arguments(parser)
    batch_arguments(parser)
    computing_arguments(parser)
    launch_arguments(parser)
    monitor_arguments(parser)


def predict(options: Namespace) -> int:
    launcher = launcher_of(options)
    request = requested(options)
    from crossband.predicting import predict_files

    if request.source is not None and options.bands is None:
        # Graphs are made for the bands that are used.
        options.bands = _only_bands(options.run)
    predictor = request.load(options.run, options, monitor=options.monitor, bands=options.bands)
    if request.source is not None and predictor.bands is None and "both" not in predictor.system.supports:
        predictor.bands = next(bands for bands in BAND_COMBINATIONS if bands in predictor.system.supports)
    given = request.opened(predictor)
    files = given.pairs
    check_combinations(predictor, files)
    note_suspicions(predictor, files)
    if launcher is not None:
        return predict_on_ray(options, launcher, predictor, request, given)
    note_agreement(predictor, files)
    display = _display(options, predictor, files)
    with progress_bar("predicting") as progress:
        outcome = predict_files(
            predictor,
            files,
            Path(options.out),
            progress=progress,
            display=display,
            **choices(options, given),
        )
    print(f"written: {outcome.done} label, overlay and confidence images in {options.out}")
    note_choice(predictor)
    note_faults(outcome, options.out)
    film(options, given, lambda name: Path(options.out) / "overlay" / f"{name}.png")
    note_bands(predictor, files, outcome)
    return ending(outcome, given, options.out)


def _only_bands(run: str) -> Bands | None:
    """What a run takes that cannot take both bands, by its card; None of others and of exported files."""
    card = check_usable(run)
    if card is None or "both" in card.bands:
        return None
    return next(bands for bands in BAND_COMBINATIONS if bands in card.bands)


def _display(options: Namespace, predictor: Predictor, files: Sequence[PairFiles | Listed]) -> Display | None:
    """How infrared is shown where there is no visible image to lay labels over; None: as it was scaled."""
    if (options.display, options.colours) == ("linear", "grey"):
        return None
    # A monitor may leave visible out of any pair.
    if "infrared" not in by_bands(files, predictor.bands) and predictor.monitor is None:
        raise OptionError(
            "--display and --colours are of overlays on infrared images, and every pair has a visible one: "
            "leave them out, or give --bands infrared"
        )
    from crossband.display import make_display, sampled

    def infrared(index: int) -> np.ndarray | None:
        try:
            return predictor.read(files[index]).infrared
        except PairError:
            # The prediction reads every pair, and says what is wrong with this one.
            return None

    return make_display(options.display, options.colours, sampled(len(files), infrared))
