"""What ``predict`` and ``fuse`` are given to work on: their arguments for it, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import ArgumentParser, Namespace

from crossband.cli.runs import check_usable
from crossband.cli.using import USUAL_RATE, check_outside, computing
from crossband.errors import OptionError
from crossband.terminal import SOURCE_HELP, with_rig
from crossband.words import Missing, PairBy

if TYPE_CHECKING:
    from crossband.pairs.base import Listed, PairFiles
    from crossband.pairs.given import Given
    from crossband.predictor import Predictor


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


@dataclass(frozen=True)
class Request:
    """What a command was given, looked at before PyTorch is loaded.

    given: its pairs; None for a source whose pairs are read under the run's own rule: `opened` has these.
    source, splits: the source, if it is one, and its splits as `given_source` takes them.
    false_colour: as in `crossband.load`.
    """

    given: Given | None
    missing: Missing | None
    false_colour: str
    source: str | None = None
    splits: list[str] | None = None
    rig: str | None = None
    frame: str | None = None

    def how(self, options: Namespace) -> dict[str, Any]:
        """How `crossband.load` makes the predictor, with the rig where it is that which reads the pairs."""
        registered: dict[str, Any] = {} if self.given is None else {"rig": self.rig, "frame": self.frame}
        there = [] if self.given is None else self.given.pairs
        return {"false_colour": self.false_colour, **registered, **computing(options, there)}

    def load(self, run: str, options: Namespace, **how: Any) -> Predictor:
        """The predictor of a run."""
        from crossband.loading import load

        return load(run, **self.how(options), **how)

    def opened(self, predictor: Predictor) -> Given:
        """The pairs."""
        if self.given is not None:
            return self.given
        from crossband.pairs.given import given_source

        assert self.source is not None
        rule = "auto" if predictor.scaling is None else str(predictor.scaling)
        return given_source(self.source, self.splits, missing=self.missing, infrared_scaling=rule)


def requested(options: Namespace) -> Request:
    """The pairs that were given. Whatever is wrong is found before PyTorch is loaded, which takes seconds."""
    if options.data is None and options.visible is None and options.infrared is None:
        raise OptionError("give --visible, --infrared, or both, or a source of pairs as --data")
    if options.data is not None and (options.visible or options.infrared):
        raise OptionError("--data is a source of both bands; leave out --visible and --infrared")
    if options.data is None and options.split is not None:
        raise OptionError(f"--split {options.split} means a part of --data; give that too, or leave it out")
    if options.rate is not None and options.video is None:
        raise OptionError("--rate is of the video that is written: give --video too, or leave it out")
    if options.video is not None:
        from crossband.pairs.video_writing import check_video

        check_video(Path(options.video), USUAL_RATE if options.rate is None else options.rate)
    # First what is wrong with the run: images cannot mend it.
    check_usable(options.run)
    request = _of_images(options) if options.data is None else _of_source(options)
    if request.given is not None:
        _check_place(Path(options.out), options, request.given.pairs)
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
    splits = None if options.split is None else [options.split]
    if parsed.name in WITHOUT_FILES:
        if outside != REFUSE:
            given = (
                f"infrared_palette={options.infrared_palette}"
                if options.infrared_palette is not None
                else "allow_false_colour=true"
            )
            raise OptionError(
                f"what is done with false colours belongs into the source: {options.data},{given}"
            )
        list_splits(source)
        return Request(None, options.missing, inside, source, splits)
    return Request(
        given_source(source, splits, missing=options.missing),
        options.missing,
        inside if outside == REFUSE else outside,
        source,
        rig=parsed.options.get("rig"),
        frame=parsed.options.get("frame"),
    )


def _check_place(out: Path, options: Namespace, pairs: Sequence[PairFiles | Listed]) -> None:
    """Raise OptionError where results would be taken for images of what they are made from."""
    folders = {Path(place) for place in (options.visible, options.infrared) if place and Path(place).is_dir()}
    if len(pairs) > 1:
        places = [(path, pair.name) for pair in pairs for path in (pair.visible, pair.infrared) if path]
        folders |= {_read_from(path, name) for path, name in places}
    check_outside(out, folders)


def _read_from(path: Path, name: str) -> Path:
    """The folder in which an image was found: folders in it are part of the name of its pair."""
    folder = path.parent
    for part in reversed(name.split("/")[:-1]):
        if folder.name != part:
            break
        folder = folder.parent
    return folder
