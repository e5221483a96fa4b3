"""What ``predict`` and ``fuse`` share: their arguments, the pairs given, and what is said of them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import ArgumentParser, Namespace

from crossband.cli.runs import check_usable
from crossband.errors import BandError, OptionError, PairError, quoted
from crossband.terminal import DEVICE_HELP, RUNTIME_HELP, SOURCE_HELP, choice, with_rig
from crossband.words import PRECISIONS, Missing, OnError, PairBy, RuntimeChoice

if TYPE_CHECKING:
    from crossband.pairs.base import Listed, PairFiles
    from crossband.pairs.given import Given
    from crossband.predicting import Outcome
    from crossband.predictor import Predictor
    from crossband.words import Bands

UNPAIRED_NAME = "unpaired.csv"


def pair_arguments(parser: ArgumentParser) -> None:
    """What images are used, and what makes two of them a pair."""
    parser.add_argument(
        "--visible",
        type=str | None,
        help="an image, a folder, or a pattern of paths such as 'rig/rgb_{id}.png'; may be left out",
    )
    parser.add_argument(
        "--infrared", type=str | None, help="an image, a folder, or such a pattern; may be left out"
    )
    parser.add_argument("--data", type=str | None, help=f"in place of these two, {SOURCE_HELP}")
    parser.add_argument(
        "--split", type=str | None, help="of --data (default: all; names then begin with that of the split)"
    )
    parser.add_argument(
        "--pair",
        type=PairBy,
        default="name",
        help="what makes two images a pair: the same name, or the nearest time that names or frames tell",
    )
    parser.add_argument(
        "--max_gap",
        "--max-gap",
        type=str | None,
        help="with --pair time: how far the times of a pair may be apart, such as 20ms",
    )


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


def computing(options: Namespace, files: Sequence[PairFiles | Listed]) -> dict[str, Any]:
    """How to compute, as `crossband.load` takes it. Raises OptionError for tiles that make no sense."""
    how = {name: options[name] for name in ("device", "precision", "runtime")}
    how["expects"] = {bands: len(names) for bands, names in _by_bands(files).items()}
    if options.tile is None:
        return how
    from crossband.runtime.tiling import Tiling

    return {**how, "tiling": Tiling(options.tile, options.overlap)}


@dataclass(frozen=True)
class Request:
    """What a command was given, looked at before PyTorch is loaded.

    given: its pairs; None for a source whose pairs are read under the run's own rule: `opened` has these.
    source, split: the source, if it is one. false_colour: as in `crossband.load`.
    """

    given: Given | None
    missing: Missing | None
    false_colour: str
    source: str | None = None
    split: str | None = None
    rig: str | None = None
    frame: str | None = None

    def load(self, run: str, options: Namespace, **how: Any) -> Predictor:
        """The predictor of a run, through the rig where it is that which reads the pairs."""
        from crossband.predictor import load

        registered: dict[str, Any] = {} if self.given is None else {"rig": self.rig, "frame": self.frame}
        return load(
            run,
            false_colour=self.false_colour,
            **registered,
            **computing(options, [] if self.given is None else self.given.pairs),
            **how,
        )

    def opened(self, predictor: Predictor) -> Given:
        """The pairs."""
        if self.given is not None:
            return self.given
        from crossband.pairs.given import given_source

        assert self.source is not None
        rule = "auto" if predictor.scaling is None else str(predictor.scaling)
        return given_source(self.source, self.split, missing=self.missing, infrared_scaling=rule)


def requested(options: Namespace) -> Request:
    """The pairs that were given. Whatever is wrong is found before PyTorch is loaded, which takes seconds."""
    if options.data is None and options.visible is None and options.infrared is None:
        raise OptionError("give --visible, --infrared, or both, or a source of pairs as --data")
    if options.data is not None and (options.visible or options.infrared):
        raise OptionError("--data is a source of both bands; leave out --visible and --infrared")
    if options.data is None and options.split is not None:
        raise OptionError(f"--split {options.split} means a part of --data; give that too, or leave it out")
    # First what is wrong with the run: images cannot mend it.
    check_usable(options.run)
    request = _of_images(options) if options.data is None else _of_source(options)
    if request.given is not None:
        _check_place(Path(options.out), request.given.pairs)
    return request


def _of_images(options: Namespace) -> Request:
    from crossband.pairs.base import PairFiles
    from crossband.pairs.false_colour import false_colour_rule
    from crossband.pairs.given import given_images
    from crossband.pairs.reading import check_sizes
    from crossband.pairs.registration import registration_of
    from crossband.pairs.time_stamps import parse_gap

    registration = registration_of(options.rig, options.frame)
    if (options.pair == "time") != (options.max_gap is not None):
        raise OptionError("--pair time and --max_gap, such as --max_gap 20ms, are given together")
    given = given_images(
        *(None if text is None else Path(text) for text in (options.visible, options.infrared)),
        max_gap=None if options.max_gap is None else parse_gap(options.max_gap),
        missing=options.missing,
    )
    first = given.pairs[0]
    if len(given.pairs) == 1 and registration is None and isinstance(first, PairFiles):
        # One of many is left out and told of, when its turn comes; a rig knows itself which sizes it takes.
        check_sizes(first)
    rule = false_colour_rule(options.infrared_palette, options.allow_false_colour)
    return Request(given, options.missing, rule, rig=options.rig, frame=options.frame)


def _of_source(options: Namespace) -> Request:
    from crossband.pairs.false_colour import REFUSE, false_colour_rule
    from crossband.pairs.given import WITHOUT_FILES, given_source
    from crossband.pairs.opening import list_splits, parse_source

    source = with_rig(options.data, options.rig, options.frame)
    if options.pair != "name":
        source += f",pair={options.pair}"
    if options.max_gap is not None:
        source += f",max_gap={options.max_gap}"
    parsed = parse_source(source)
    inside = false_colour_rule(parsed.options.get("infrared_palette"), "allow_false_colour" in parsed.options)
    outside = false_colour_rule(options.infrared_palette, options.allow_false_colour)
    if parsed.name in WITHOUT_FILES:
        if outside != REFUSE:
            raise OptionError(f"write the palette into the source: {options.data},infrared_palette=NAME")
        list_splits(source)
        return Request(None, options.missing, inside, source, options.split)
    return Request(
        given_source(source, options.split, missing=options.missing),
        options.missing,
        inside if outside == REFUSE else outside,
        source,
        rig=parsed.options.get("rig"),
        frame=parsed.options.get("frame"),
    )


def _check_place(out: Path, pairs: Sequence[PairFiles | Listed]) -> None:
    """Raise OptionError where results would be taken for images of what they are made from."""
    if len(pairs) == 1:
        return
    folders = {path.parent for pair in pairs for path in (pair.visible, pair.infrared) if path is not None}
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
            share = predictor.agreement(predictor.read(file))
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


def _by_bands(files: Sequence[PairFiles | Listed]) -> dict[Bands, list[str]]:
    """The names of the pairs of each combination of bands."""
    from crossband.pairs.base import bands_of

    names: dict[Bands, list[str]] = {}
    for file in files:
        bands = bands_of(file.has("visible") or None, file.has("infrared") or None)
        names.setdefault(bands, []).append(file.name)
    return names


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
