"""What a command is given to work on: a source of pairs, or two files or folders of images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from crossband.errors import OptionError, PairError
from crossband.pairs.base import Listed, PairFiles, Pairs
from crossband.pairs.matching import Matching, match_by_time, match_images
from crossband.pairs.opening import Source, main_splits, open_splits, parse_source
from crossband.pairs.time_stamps import Offsets
from crossband.words import Band, Missing

WITHOUT_FILES = ("frames", "bag", "shards", "scenes")
"""Sources whose pairs are no files of their own: they are read under the rule that they were opened with."""


@dataclass(frozen=True)
class GivenSource:
    """A source of pairs, and those of its splits that they are of."""

    source: str
    splits: tuple[str, ...]


@dataclass(frozen=True)
class Given:
    """Pairs to work on, each under a name of its own.

    unpaired: band and place of each image that was left out, since it has no partner. offsets: of each list
    that was paired by time, how far apart the times are. source: None for files and folders.
    """

    pairs: Sequence[PairFiles | Listed]
    unpaired: Sequence[tuple[Band, str]] = ()
    offsets: Sequence[Offsets] = ()
    source: GivenSource | None = None


def given_images(
    visible: Path | None, infrared: Path | None, *, max_gap: int | None = None, missing: Missing | None = None
) -> Given:
    """The pairs of two files, folders or patterns of images; either may be None.

    max_gap: pair by time, no two further apart than so many nanoseconds. missing: what becomes of an image
    without a partner; None uses it alone, and leaves it out where pairs are made by time.

    Raises as `match_images` and `match_by_time`.
    """
    if max_gap is None:
        matching = Matching(match_images(visible, infrared, missing=missing or "use"), [])
    elif visible is None or infrared is None:
        raise OptionError("pairs are made by time of two bands; give both, or leave --pair time out")
    else:
        matching = match_by_time(visible, infrared, max_gap, missing=missing or "skip")
    told = [] if matching.offsets is None else [matching.offsets]
    return Given(matching.files, matching.unpaired, told)


def given_source(
    source: str,
    splits: Sequence[str] | None = None,
    *,
    missing: Missing | None = None,
    infrared_scaling: str = "full-range",
) -> Given:
    """The pairs of some splits of a source; by default of all that do not repeat others.

    Of several splits, or recordings, names begin with that of the split. missing: as in `given_images`.
    infrared_scaling: the rule for pairs that are no files of their own; others are not read here.

    Raises as `open_pairs`.
    """
    parsed = parse_source(source)
    if missing is None and parsed.name in ("folder", "list") and parsed.options.get("pair") != "time":
        missing = "use"
    splits = main_splits(source) if splits is None else splits
    opened = open_splits(source, splits, infrared_scaling=infrared_scaling, labels=False, missing=missing)
    for pairs in opened:
        if missing == "use" and pairs.unpaired:
            raise OptionError(
                f"{pairs.source}: {len(pairs.unpaired)} frames have no partner, and frames are not used "
                "alone; give --missing skip, or leave it out"
            )
        if missing == "error" and pairs.unpaired:
            raise PairError(f"{pairs.source}: {pairs.offsets}; raise max_gap, or leave these out")
    return Given(
        [
            _item(
                pairs, index, f"{pairs.split}/{pairs.name(index)}" if len(opened) > 1 else pairs.name(index)
            )
            for pairs in opened
            for index in range(len(pairs))
        ],
        [left for pairs in opened for left in pairs.unpaired],
        [pairs.offsets for pairs in opened if pairs.offsets is not None],
        GivenSource(str(anywhere(parsed)), tuple(splits)),
    )


def anywhere(source: Source) -> Source:
    """A source as it can be opened from any folder: its paths are absolute, where options can hold such."""
    paths = ("rig", "visible") if source.name == "frames" else ("rig",)
    absolute = {key: str(Path(source.options[key]).absolute()) for key in paths if key in source.options}
    # A comma would end the option, and what begins with ~ is another place.
    held = {key: path for key, path in absolute.items() if "," not in path and "/~" not in path}
    path = None if source.path is None else source.path.absolute()
    return replace(source, path=path, options=source.options | held)


def _item(pairs: Pairs, index: int, name: str) -> PairFiles | Listed:
    files = pairs.stored(index)
    return Listed(name, pairs, index) if files is None else replace(files, name=name, label=None)
