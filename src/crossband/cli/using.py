"""What ``predict`` and ``fuse`` share: their arguments, the pairs given, and what is said of them."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import ArgumentParser, Namespace

from crossband.errors import BandError, OptionError, PairError, quoted
from crossband.terminal import DEVICE_HELP, RUNTIME_HELP, choice
from crossband.words import PRECISIONS, Missing, OnError, RuntimeChoice

if TYPE_CHECKING:
    from crossband.pairs.base import Listed, Pair, PairFiles
    from crossband.pairs.given import Given
    from crossband.predicting import Outcome
    from crossband.predictor import Predictor
    from crossband.words import Bands

UNPAIRED_NAME = "unpaired.csv"
LARGE = 6_000_000
"""Pixels of an image above which a run is computed in tiles unless it is told: whole it takes gigabytes."""
_OVERLAP = 128
USUAL_RATE = 10.0
"""Frames a second of a video of images without times."""


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
        type=Missing | None,
        help="an image whose partner in the other folder is missing: use it alone, skip it, or an error "
        "(default: use; with --pair time skip)",
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
    parser.add_argument(
        "--video", type=str | None, help="write the pictures as a video too: out.mp4, .mkv, ..."
    )
    parser.add_argument(
        "--rate", type=float | None, help="with --video: frames a second (default: the source's, else 10)"
    )
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
        help="cut larger images into tiles of so many pixels a side, to save memory; labels then differ a "
        "little; 0 takes all whole (default: 1024 where a run is given images of more than "
        f"{LARGE / 1e6:g} million pixels)",
    )
    parser.add_argument(
        "--overlap",
        type=int | None,
        help=f"pixels that tiles overlap by, where they are blended (default: {_OVERLAP})",
    )
    parser.add_argument(
        "--precision",
        type=choice(PRECISIONS),
        default="float32",
        help="of the computation; below float32, how far the first pair agrees with it is printed",
    )
    parser.add_argument("--runtime", type=RuntimeChoice, default="auto", help=RUNTIME_HELP)
    parser.add_argument("--device", type=str | None, help=DEVICE_HELP)


def computing(options: Namespace, files: Sequence[PairFiles | Listed]) -> dict[str, Any]:
    """How to compute, as `crossband.load` takes it. Raises OptionError for tiles that make no sense."""
    how = {name: options[name] for name in ("device", "precision", "runtime")}
    how["expects"] = {bands: len(names) for bands, names in by_bands(files, options.get("bands")).items()}
    side = _side_for_large(options, files) if options.tile is None else options.tile
    if not side:
        if options.overlap is not None:
            raise OptionError(
                "--overlap is of tiles, and no image is cut into any: leave it out, or give --tile"
            )
        return how
    from crossband.runtime.tiling import Tiling

    return {**how, "tiling": Tiling(side, _OVERLAP if options.overlap is None else options.overlap)}


def _side_for_large(options: Namespace, files: Sequence[PairFiles | Listed]) -> int | None:
    """The side of the tiles that large images of a run are cut into without being asked, which is said.

    None for a system without training, which takes little memory, for graphs, which take no tiles, and where
    none of some images in files is large.
    """
    from crossband.hub import is_remote
    from crossband.pairs.base import PairFiles
    from crossband.pairs.headers import image_size
    from crossband.run_card import check_run
    from crossband.runtime.exported import is_exported

    some = [entry for entry in files[:: max(1, len(files) // 8)] if isinstance(entry, PairFiles)]
    run, graph = options.run, options.runtime in ("onnxruntime", "openvino")
    if not some or graph or is_exported(Path(run)) or not (is_remote(run) or check_run(run)):
        return None
    # Of two sizes where a rig brings the bands together; else of one, which infrared tells of any file.
    frame = "visible" if options.get("rig") and options.get("frame") != "infrared" else "infrared"
    for entry in some:
        band = frame if getattr(entry, frame) else "visible" if entry.visible else "infrared"
        path = getattr(entry, band)
        try:
            height, width = (0, 0) if path is None else image_size(path, infrared=band == "infrared")
        except PairError:
            # Told when its turn comes.
            continue
        if height * width > LARGE:
            print(
                f"note: images of {width} x {height} pixels are run in tiles of 1024, which saves memory and "
                "changes some labels; --tile 0 takes them whole",
                file=sys.stderr,
            )
            return 1024
    return None


def check_outside(out: Path, folders: Iterable[Path]) -> None:
    """Raise OptionError where results would lie in a folder that images are read from, at any depth."""
    for folder in sorted(folders):
        if out.resolve().is_relative_to(folder.resolve()):
            raise OptionError(
                f"results in {out} would be taken for images of {folder}; choose another folder as --out"
            )


def choices(options: Namespace, given: Given) -> dict[str, Any]:
    """What a batch does with what is there, and after a bad pair; a single one has no next."""
    return {
        "source": given.source,
        "workers": options.workers,
        "batch_size": options.batch_size,
        "on_error": "stop" if len(given.pairs) == 1 else options.on_error,
        "resume": options.resume,
        "overwrite": options.overwrite,
    }


def check_combinations(predictor: Predictor, files: Sequence[PairFiles | Listed]) -> None:
    """Find first whether the system runs on what every pair has. Raises BandError."""
    combinations = by_bands(files, predictor.bands)
    for bands, names in combinations.items():
        try:
            predictor.system.check_bands(bands)
        except BandError as error:
            if len(combinations) == 1:
                raise
            raise BandError(
                f"{len(names)} of {len(files)} pairs have {bands} alone, such as {names[0]}: {error}"
            ) from error


def note_suspicions(predictor: Predictor, files: Sequence[PairFiles | Listed]) -> None:
    """Say what looks wrong with the images, save what will be refused with an error of its own."""
    for suspicion in predictor.examine(files):
        refused = (suspicion.kind == "false colour" and predictor.false_colour == "refuse") or (
            suspicion.kind == "degrees" and str(predictor.scaling) == "full-range"
        )
        if not refused:
            print(f"note: {suspicion}", file=sys.stderr)


def note_agreement(predictor: Predictor, files: Sequence[PairFiles | Listed]) -> None:
    """Say what a precision below float32 costs, on the first pair that can be used."""
    if predictor.precision == "float32":
        return
    for file in files:
        try:
            share = _agreement(predictor, predictor.read(file))
        except PairError:
            continue
        what = "labels" if predictor.system.segments else "levels of the picture"
        print(
            f"{predictor.precision}: {100 * share:.2f} % of the {what} of pair {quoted(file.name)} are those "
            "of float32"
        )
        return


def note_bands(predictor: Predictor, files: Sequence[PairFiles | Listed], outcome: Outcome) -> None:
    """Say how many pairs had which bands, where they differ, and what the system was not designed for."""
    failed = {name for name, _ in outcome.failed}
    support = {bands: predictor.system.check_bands(bands) for bands in by_bands(files, predictor.bands)}
    if len(support) > 1:
        done = by_bands([file for file in files if file.name not in failed], predictor.bands)
        counted = (f"{bands} {len(names)} ({support[bands]})" for bands, names in sorted(done.items()))
        print(f"bands: {', '.join(counted)}")
    for bands, kind in support.items():
        if kind == "fallback":
            print(
                f"note: {predictor.system.name} was not designed for {bands} alone; this is a fallback",
                file=sys.stderr,
            )


def note_faults(outcome: Outcome, out: str) -> None:
    """Say what a band monitor found in the pairs that were done, if anything."""
    from crossband.result_folder import FAULTS_NAME

    counted = Counter((band, fault, dropped) for _, band, fault, dropped in outcome.faults)
    told = [
        f"{band} {fault} in {count} ({'dropped' if dropped else 'used all the same'})"
        for (band, fault, dropped), count in sorted(counted.items())
    ]
    if told:
        print(f"band monitor: {', '.join(told)} ({out}/{FAULTS_NAME})")


def by_bands(files: Sequence[PairFiles | Listed], used: Bands | None = None) -> dict[Bands, list[str]]:
    """The names of the pairs of each combination of bands. used: of every pair; None is all that it has."""
    from crossband.pairs.base import bands_of

    names: dict[Bands, list[str]] = {}
    for file in files:
        bands = used or bands_of(file.has("visible") or None, file.has("infrared") or None)
        names.setdefault(bands, []).append(file.name)
    return names


def film(options: Namespace, given: Given, place: Callable[[str], Path]) -> None:
    """Write the results as a video, if it was asked for. place: of a pair's picture, by name."""
    if options.video is None:
        return
    import numpy as np

    from crossband.pairs.decoding import decode
    from crossband.pairs.names import counted_order
    from crossband.pairs.video_writing import writing_video

    names = [pair.name for pair in given.pairs]
    if names == sorted(names):
        # Folders are read by the alphabet, which has frame_10 before frame_2; a film goes by the numbers.
        names.sort(key=counted_order)
    made = [path for name in names if (path := place(name)).is_file()]
    with writing_video(Path(options.video), options.rate or _rate_of(given) or USUAL_RATE) as video:
        for path in made:
            video.write(np.asarray(decode(path).samples))
    print(f"written: {len(made)} pictures as {options.video}")


def _rate_of(given: Given) -> float | None:
    """Frames a second of a video or another source with times: the median; None of images."""
    import numpy as np

    from crossband.pairs.base import Listed

    times = [pair.pairs.time(pair.index) for pair in given.pairs if isinstance(pair, Listed)]
    known = sorted(time for time in times if time is not None)
    if len(known) < 2:
        return None
    return 1e9 / max(float(np.median(np.diff(known))), 1e6)


def ending(outcome: Outcome, given: Given, out: str) -> int:
    """Say what was left out; the exit code."""
    for told in given.offsets:
        print(told)
    if given.unpaired:
        from crossband.pairs.writing import csv_text, write_text

        rows = [{"band": band, "image": place} for band, place in given.unpaired]
        write_text(Path(out) / UNPAIRED_NAME, csv_text(("band", "image"), rows))
        print(f"left out: {len(rows)} images without a partner ({out}/{UNPAIRED_NAME})")
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


def _agreement(predictor: Predictor, pair: Pair) -> float:
    """The share of pixels whose label, or whose level of a fused picture, is that of float32, in [0, 1].

    Raises as `Predictor.predict`.
    """
    runtime: Any = predictor.runtime
    found = predictor.predict(pair)
    given, runtime.precision = runtime.precision, "float32"
    try:
        exact = predictor.predict(pair)
    finally:
        runtime.precision = given
    first, second = (found.fused, exact.fused) if found.labels is None else (found.labels, exact.labels)
    assert first is not None
    assert second is not None
    return float((first == second).mean())
