"""What ``predict`` and ``fuse`` share: their arguments, the pairs given, and what is said of them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import ArgumentParser, Namespace

from crossband.cli.runs import check_usable
from crossband.errors import BandError, OptionError, PairError, quoted
from crossband.terminal import DEVICE_HELP, RUNTIME_HELP, choice
from crossband.words import PRECISIONS, Missing, OnError, RuntimeChoice

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crossband.pairs.base import PairFiles
    from crossband.predicting import Outcome
    from crossband.predictor import Predictor
    from crossband.words import Bands


def false_colour_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--infrared_palette",
        "--infrared-palette",
        type=str | None,
        help="infrared is stored in these false colours, which are undone: iron, rainbow, jet, ... "
        "(see docs/data.md)",
    )
    parser.add_argument(
        "--allow_false_colour",
        "--allow-false-colour",
        action="store_true",
        help="take infrared in false colours by the mean of its channels, which is not heat",
    )


def batch_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--missing",
        type=Missing,
        default="use",
        help="an image whose partner in the other folder is missing: use it alone, or an error",
    )
    parser.add_argument(
        "--on_error",
        "--on-error",
        type=OnError,
        default="skip",
        help="after a pair that cannot be used: skip it (list it in failures.csv, end with code 3) or stop",
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="leave out pairs whose results are there, made alike and of the same images",
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="take a folder whose results were made otherwise, and remove these",
    )


def computing_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--workers", type=int, default=2, help="threads that read ahead")
    parser.add_argument(
        "--batch_size",
        "--batch-size",
        type=int,
        default=1,
        help="pairs of one size that are run at once; takes so many times the memory",
    )
    parser.add_argument(
        "--tile",
        type=int | None,
        help="cut larger images into tiles of so many pixels a side, such as 1024, to save memory; labels "
        "then differ where a network looks at the whole image",
    )
    parser.add_argument(
        "--overlap", type=int, default=128, help="pixels that tiles overlap by; there they are blended"
    )
    parser.add_argument(
        "--precision",
        type=choice(PRECISIONS),
        default="float32",
        help="of the computation; below float32, how far the first pair agrees with it is printed",
    )
    parser.add_argument("--runtime", type=RuntimeChoice, default="auto", help=RUNTIME_HELP)
    parser.add_argument("--device", type=str | None, help=DEVICE_HELP)


def computing(options: Namespace, files: list[PairFiles]) -> dict[str, Any]:
    """How to compute, as `crossband.load` takes it. Raises OptionError for tiles that make no sense."""
    how = {name: options[name] for name in ("device", "precision", "rig", "frame", "runtime")}
    how["expects"] = {bands: len(names) for bands, names in _by_bands(files).items()}
    if options.tile is None:
        return how
    from crossband.runtime.tiling import Tiling

    return {**how, "tiling": Tiling(options.tile, options.overlap)}


def checked_files(options: Namespace) -> list[PairFiles]:
    """The pairs that were given. Whatever is wrong is found before PyTorch is loaded, which takes seconds."""
    from crossband.pairs.reading import check_sizes
    from crossband.pairs.registration import registration_of

    if options.visible is None and options.infrared is None:
        raise OptionError("give --visible, --infrared, or both")
    # First what is wrong with the run: images cannot mend it.
    check_usable(options.run)
    registration = registration_of(options.rig, options.frame)
    files = _files(options)
    if len(files) == 1 and registration is None:
        # One of many is left out and told of, when its turn comes; a rig knows itself which sizes it takes.
        check_sizes(files[0])
    return files


def _files(options: Namespace) -> list[PairFiles]:
    """The pairs that two files or two folders hold, neither of which may take up the results."""
    from crossband.pairs.matching import match_images

    out, paths = options.out, (options.visible, options.infrared)
    for given in paths:
        if given and Path(given).is_dir() and Path(out).resolve().is_relative_to(Path(given).resolve()):
            raise OptionError(
                f"results in {out} would be taken for images of {given}; choose another folder as --out"
            )
    visible, infrared = (None if text is None else Path(text) for text in paths)
    return match_images(visible, infrared, missing=options.missing)


def choices(options: Namespace, files: list[PairFiles]) -> dict[str, Any]:
    """What a batch does with what is there, and after a bad pair; a single one has no next."""
    return {
        "workers": options.workers,
        "batch_size": options.batch_size,
        "on_error": "stop" if len(files) == 1 else options.on_error,
        "resume": options.resume,
        "overwrite": options.overwrite,
    }


def check_combinations(predictor: Predictor, files: Sequence[PairFiles]) -> None:
    """Find first whether the system runs on what every pair has. Raises BandError."""
    combinations = _by_bands(files)
    for bands, names in combinations.items():
        try:
            predictor.system.check_bands(bands)
        except BandError as error:
            if len(combinations) == 1:
                raise
            raise BandError(
                f"{len(names)} of {len(files)} pairs have {bands} alone, such as {names[0]}: {error}"
            ) from error


def note_suspicions(predictor: Predictor, files: list[PairFiles]) -> None:
    """Say what looks wrong with the images, save what will be refused with an error of its own."""
    for suspicion in predictor.examine(files):
        refused = (suspicion.kind == "false colour" and predictor.false_colour == "refuse") or (
            suspicion.kind == "degrees" and str(predictor.scaling) == "full-range"
        )
        if not refused:
            print(f"note: {suspicion}", file=sys.stderr)


def note_agreement(predictor: Predictor, files: list[PairFiles]) -> None:
    """Say what a precision below float32 costs, on the first pair that can be used."""
    if predictor.precision == "float32":
        return
    for file in files:
        try:
            share = predictor.agreement(predictor.read(file))
        except PairError:
            continue
        what = "labels" if predictor.system.segments else "levels of the picture"
        print(
            f"{predictor.precision}: {100 * share:.2f} % of the {what} of pair {quoted(file.name)} are those "
            "of float32"
        )
        return


def note_bands(predictor: Predictor, files: Sequence[PairFiles], outcome: Outcome) -> None:
    """Say how many pairs had which bands, where they differ, and what the system was not designed for."""
    failed = {name for name, _ in outcome.failed}
    support = {bands: predictor.system.check_bands(bands) for bands in _by_bands(files)}
    if len(support) > 1:
        done = _by_bands([file for file in files if file.name not in failed])
        counted = (f"{bands} {len(names)} ({support[bands]})" for bands, names in sorted(done.items()))
        print(f"bands: {', '.join(counted)}")
    for bands, kind in support.items():
        if kind == "fallback":
            print(
                f"note: {predictor.system.name} was not designed for {bands} alone; this is a fallback",
                file=sys.stderr,
            )


def _by_bands(files: Sequence[PairFiles]) -> dict[Bands, list[str]]:
    """The names of the pairs of each combination of bands."""
    from crossband.pairs.base import bands_of

    names: dict[Bands, list[str]] = {}
    for file in files:
        names.setdefault(bands_of(file.visible, file.infrared), []).append(file.name)
    return names


def ending(outcome: Outcome, out: str) -> int:
    """Say what was left out; the exit code."""
    if outcome.there:
        print(f"there already: {outcome.there}")
    if outcome.removed:
        print(f"removed: earlier results of {outcome.removed} other pairs, which were made otherwise")
    if not outcome.failed:
        return 0
    failed, (_, why) = len(outcome.failed), outcome.failed[0]
    print(
        f"crossband: {failed} of {outcome.done + outcome.there + failed} pairs could not be used "
        f"({out}/failures.csv), the first: {why}",
        file=sys.stderr,
    )
    return 3
