"""From a text on the command line to pairs: ``msrs:PATH``, ``folder:PATH``, ``bag:PATH,visible=/left``."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from crossband.errors import OptionError, did_you_mean, quoted
from crossband.option_types import check_arguments
from crossband.pairs.arrangement import PARTS, arrangement_of
from crossband.pairs.auto_scaling import AUTO, automatic_scaling
from crossband.pairs.band_summary import summarise_pairs
from crossband.pairs.base import Pairs, WithoutLabels
from crossband.pairs.benchmarks import BENCHMARKS, BenchmarkPairs
from crossband.pairs.benchmarks.tree import Tree, open_tree
from crossband.pairs.false_colour import PALETTES, false_colour_rule
from crossband.pairs.folder import WHOLE, FolderPairs, folder_splits, unknown_split
from crossband.pairs.infrared_scaling import InfraredScaling
from crossband.pairs.pair_list import ListPairs, list_splits_of
from crossband.pairs.registration import Registration, registration_of
from crossband.pairs.time_stamps import parse_gap
from crossband.words import BANDS, Missing

if TYPE_CHECKING:
    from crossband.pairs.frames import FramePairs
    from crossband.pairs.frames.base import Frames
    from crossband.pairs.scenes import Scenes

_GRAMMAR = re.compile(r"(?P<name>[^:,]+)(:(?P<path>.*?))?(?P<options>(,[a-z_]+=[^,]*)*)", re.DOTALL)
_FORM = "NAME:PATH[,key=value...]"
_FOR_TESTING = re.compile(r"test([_-].*)?")
_FOLDER_OPTIONS = (*PARTS, "pair", "max_gap")
_BAG_GAP = parse_gap("50ms")
"""How far the times of a bag's images may be apart, unless it is told."""
_RIG_OPTIONS = ("rig", "frame")
_RIG_FORM = "rig=rig.json, frame=visible|infrared"


@dataclass(frozen=True)
class Source:
    """Where pairs come from, as written on the command line; ``str(source)`` is that text.

    name: a benchmark's key, "folder", "list", "frames", "bag", "shards" or "scenes". path: None for "scenes".
    """

    name: str
    path: Path | None = None
    options: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        path = "" if self.path is None else f":{self.path}"
        return f"{self.name}{path}" + "".join(f",{key}={value}" for key, value in self.options.items())


def source_names() -> list[str]:
    """The names a source can begin with."""
    return [*BENCHMARKS, "folder", "list", "frames", "bag", "shards", "scenes"]


def parse_source(text: str) -> Source:
    """Read ``NAME[:PATH][,key=value]*``. A path may hold commas and colons, but no ``,key=``.

    Raises OptionError for an unknown name (with the likely one), a missing or needless path, or an option
    that the source does not have. Whether the path exists is not looked at.
    """
    match = _GRAMMAR.fullmatch(text)
    if match is None or (match["name"] not in source_names() and os.path.exists(text)):
        meant = f"; for a folder of pairs write folder:{text}" if os.path.exists(text) else ""
        raise OptionError(f"{quoted(text)} is not a source of the form {_FORM}{meant}")
    name = match["name"]
    if name not in source_names():
        hint = did_you_mean(name, source_names())
        raise OptionError(f"unknown source {quoted(name)}; known: {', '.join(source_names())}{hint}")
    if name == "scenes":
        if match["path"]:
            raise OptionError(
                f"{quoted(text)}: scenes are generated and take no path; options follow a comma"
            )
    elif not match["path"]:
        raise OptionError(f"{quoted(text)} names no path; write {name}:PATH")
    options: dict[str, str] = {}
    for option in filter(None, match["options"].split(",")):
        key, _, value = option.partition("=")
        if key in options:
            raise OptionError(f"{quoted(text)} gives the option {quoted(key)} twice")
        options[key] = value
    if name in BENCHMARKS:
        _check_benchmark_options(name, options)
    elif name == "folder":
        _check_folder_options(text, options)
    elif name in ("frames", "bag"):
        _check_frames_options(name, text, options)
    elif name in ("list", "shards"):
        _check_plain_options(name, text, options)
    return Source(name, Path(os.path.expanduser(match["path"])) if match["path"] else None, options)


def open_pairs(
    source: str,
    split: str,
    *,
    infrared_scaling: str = "full-range",
    labels: bool = True,
    missing: Missing | None = None,
) -> Pairs:
    """Open one split of a source. No image is read yet, save those that "auto" chooses the scaling by.

    infrared_scaling: a rule of `InfraredScaling`, or "auto", which looks at a sample (`resolve_scaling`).
    labels: False gives pairs without labels, whether or not the source has them; those of a folder may then
    be of any kind.
    missing: what becomes of an image of a folder whose partner is missing (`arrangement_of`).

    Raises OptionError for a source, split or scaling rule that does not exist, PairError for a tree that is
    not what it should be.
    """
    texts = {"source": source, "split": split, "infrared_scaling": infrared_scaling}
    check_arguments(dict.fromkeys(texts, str), texts)
    pairs = _open(source, split, infrared_scaling, labels, missing)
    return pairs if labels else WithoutLabels(pairs)


def _open(source: str, split: str, infrared_scaling: str, labels: bool, missing: Missing | None) -> Pairs:
    """What `open_pairs` opens, with the labels that only a view can leave out."""
    parsed = parse_source(source)
    registration = source_registration(parsed)
    pairs: Pairs
    if parsed.name == "scenes":
        pairs = _open_scenes(parsed, split, infrared_scaling)
    elif parsed.name in ("frames", "bag"):
        pairs = _open_frames(parsed, split, infrared_scaling, registration)
    elif parsed.name in ("list", "shards"):
        from crossband.pairs.shards import ShardPairs

        of_kind = ListPairs if parsed.name == "list" else ShardPairs
        pairs = of_kind(
            _existing(parsed),
            split,
            infrared_scaling=infrared_scaling,
            labels=labels,
            false_colour=_false_colour(parsed),
            registration=registration,
            missing=missing,
        )
    elif parsed.name == "folder":
        root, arrangement = _existing_folder(parsed), arrangement_of(parsed.options, missing)
        if split and split not in (known := folder_splits(root, arrangement)):
            raise unknown_split(parsed, split, known)
        pairs = FolderPairs(
            root,
            split,
            infrared_scaling=infrared_scaling,
            labels=labels,
            false_colour=_false_colour(parsed),
            registration=registration,
            arrangement=arrangement,
        )
    else:
        pairs = BenchmarkPairs(
            BENCHMARKS[parsed.name],
            _existing_folder(parsed),
            split,
            infrared_scaling=infrared_scaling,
            ignore=parse_ignore(parsed.options.get("ignore")),
            infrared=parsed.options.get("infrared"),
            registration=registration,
        )
    pairs.source = str(parsed)
    return pairs


def open_splits(
    source: str,
    splits: Sequence[str],
    *,
    infrared_scaling: str = "full-range",
    labels: bool = True,
    missing: Missing | None = None,
) -> list[Pairs]:
    """Open several splits of a source under one infrared scaling; "auto" looks at a sample of all of them.

    The rest is as in `open_pairs`, and so is what it raises.
    """
    rule = "full-range" if infrared_scaling == AUTO else infrared_scaling
    opened = [_open(source, split, rule, labels, missing) for split in splits]
    if infrared_scaling == AUTO:
        scaling = automatic_scaling(summarise_pairs(*opened).infrared)
        for pairs in opened:
            pairs.scaling = scaling
    return opened if labels else [WithoutLabels(pairs) for pairs in opened]


def list_splits(source: str) -> list[str]:
    """The splits that a source has. Raises as `open_pairs` does."""
    parsed = parse_source(source)
    if parsed.name == "scenes":
        from crossband.pairs.scenes import scene_splits

        return list(scene_splits(parsed.options))
    if parsed.name in ("frames", "bag"):
        return [WHOLE]
    if parsed.name == "list":
        return list_splits_of(_existing(parsed))
    if parsed.name == "shards":
        from crossband.pairs.shards import shard_splits

        return shard_splits(_existing(parsed))
    if parsed.name == "folder":
        return folder_splits(_existing_folder(parsed), arrangement_of(parsed.options))
    return benchmark_tree(parsed).splits()


def main_splits(source: str) -> list[str]:
    """The splits of a source without those that only repeat pairs of others, such as ``test_night``."""
    parsed = parse_source(source)
    return benchmark_tree(parsed).main_splits() if parsed.name in BENCHMARKS else list_splits(source)


def for_testing(source: str, split: str) -> bool:
    """Whether a split has pairs that are for testing alone.

    These are ``test``, names like ``test_night``, and what a benchmark declares to be within its ``test``.
    split: a name, or several with "+".
    """
    benchmark = BENCHMARKS.get(source.partition(":")[0])
    declared = {} if benchmark is None else benchmark.splits
    names = split.split("+")
    return any(
        _FOR_TESTING.fullmatch(name) or (name in declared and declared[name].within == "test")
        for name in names
    )


def benchmark_tree(source: Source) -> Tree:
    """The files of a source that is a benchmark. Raises PairError if its path holds no known layout."""
    return open_tree(BENCHMARKS[source.name], _existing_folder(source), source.options.get("infrared"))


def source_registration(source: Source) -> Registration | None:
    """What the options ``rig`` and ``frame`` of a source say; None where it names no rig.

    Raises OptionError for a file that is no rig, a frame that is no band, or a frame without a rig.
    """
    return registration_of(source.options.get("rig"), source.options.get("frame"))


def _open_scenes(source: Source, split: str, infrared_scaling: str) -> Scenes:
    from crossband.pairs.scenes import Scenes, parse_scene_options, scene_splits

    if infrared_scaling != AUTO and InfraredScaling.parse(infrared_scaling) != InfraredScaling():
        raise OptionError(
            "scenes are rendered in [0, 1]: their infrared scaling is full-range, "
            f"not {quoted(infrared_scaling)}"
        )
    counts = scene_splits(source.options)
    if split not in counts:
        raise unknown_split(source, split, list(counts))
    options = parse_scene_options(source.options)
    return Scenes(
        split,
        seed=options["seed"],
        count=counts[split],
        size=options["size"],
        conditions=options["conditions"],
        cameras=options["cameras"],
    )


def _open_frames(
    source: Source, split: str, infrared_scaling: str, registration: Registration | None
) -> FramePairs:
    from crossband.pairs.frames import FramePairs

    if split not in ("", WHOLE):
        raise unknown_split(source, split, [WHOLE])
    infrared: Path | Frames | None = source.path
    visible: Path | Frames | None = None
    gap = parse_gap(source.options["max_gap"]) if "max_gap" in source.options else None
    if source.name == "bag":
        from crossband.pairs.frames.bag import BagFrames

        assert source.path is not None
        topics = {band: source.options.get(band) for band in BANDS}
        bags = {band: BagFrames(source.path, topic) for band, topic in topics.items() if topic}
        infrared, visible = bags.get("infrared"), bags.get("visible")
        gap = _BAG_GAP if gap is None else gap
    elif "visible" in source.options:
        visible = Path(os.path.expanduser(source.options["visible"]))
    return FramePairs(
        infrared,
        visible,
        max_gap=gap,
        infrared_scaling=infrared_scaling,
        false_colour=_false_colour(source),
        registration=registration,
    )


def _false_colour(source: Source) -> str:
    return false_colour_rule(source.options.get("infrared_palette"), "allow_false_colour" in source.options)


def _existing(source: Source) -> Path:
    if source.path is None or not os.path.exists(source.path):
        raise OptionError(
            f"{source.path} in {quoted(str(source))} does not exist; correct the path after the colon"
        )
    return source.path


def _existing_folder(source: Source) -> Path:
    if source.path is None or not os.path.isdir(source.path):
        what = "is a file" if source.path is not None and os.path.isfile(source.path) else "does not exist"
        raise OptionError(
            f"the folder {source.path} in {quoted(str(source))} {what}; correct the path after the colon"
        )
    return source.path


def _check_folder_options(text: str, options: dict[str, str]) -> None:
    for key in options:
        if key not in (*_FOLDER_OPTIONS, "infrared_palette", "allow_false_colour", *_RIG_OPTIONS):
            raise OptionError(
                f"{quoted(text)}: folder has no option {quoted(key)}; it has: visible, infrared, label "
                "(folders or patterns such as rgb_{id}.png), pair=time, max_gap=20ms, "
                f"infrared_palette={'|'.join(PALETTES)}, allow_false_colour=true, {_RIG_FORM}; ids to ignore "
                "belong into its classes.yaml"
            )
    _check_false_colour(text, options)
    arrangement_of(options)


def _check_frames_options(name: str, text: str, options: dict[str, str]) -> None:
    bag = name == "bag"
    own = ("visible", "infrared", "max_gap") if bag else ("visible", "pair", "max_gap")
    told = "visible=/TOPIC, infrared=/TOPIC" if bag else "visible=PATH, pair=time"
    for key, value in options.items():
        if key not in (*own, "infrared_palette", "allow_false_colour", *_RIG_OPTIONS) or not value:
            raise OptionError(
                f"{quoted(text)}: {name} has no option {quoted(key)} of this kind; it has: {told}, "
                f"max_gap=20ms, infrared_palette={'|'.join(PALETTES)}, allow_false_colour=true, {_RIG_FORM}"
            )
    _check_false_colour(text, options)
    if bag and not ("visible" in options or "infrared" in options):
        raise OptionError(f"{quoted(text)}: name the topic of a band or of both: {told}")
    if bag:
        parse_gap(options.get("max_gap", "50ms"))
    else:
        arrangement_of({key: options[key] for key in ("pair", "max_gap") if key in options})


def _check_plain_options(name: str, text: str, options: dict[str, str]) -> None:
    for key in options:
        if key not in ("infrared_palette", "allow_false_colour", *_RIG_OPTIONS):
            raise OptionError(
                f"{quoted(text)}: {name} has no option {quoted(key)}; it has: "
                f"infrared_palette={'|'.join(PALETTES)}, allow_false_colour=true, {_RIG_FORM}"
            )
    _check_false_colour(text, options)


def _check_false_colour(text: str, options: dict[str, str]) -> None:
    if options.get("allow_false_colour", "true") != "true":
        raise OptionError(f"{quoted(text)}: write allow_false_colour=true, or leave it out")
    false_colour_rule(options.get("infrared_palette"), "allow_false_colour" in options)


def _check_benchmark_options(name: str, options: dict[str, str]) -> None:
    choices = {key for layout in BENCHMARKS[name].layouts for key in layout.other_infrared}
    known = {"ignore": "ignore=none or ids such as ignore=0+13"}
    if choices:
        known["infrared"] = f"infrared={'|'.join(sorted(choices))}"
    known |= dict.fromkeys(_RIG_OPTIONS, _RIG_FORM)
    for key in options:
        if key not in known:
            raise OptionError(
                f"{name} has no option {quoted(key)}; it has: {', '.join(dict.fromkeys(known.values()))}"
            )
    parse_ignore(options.get("ignore"))


def parse_ignore(text: str | None) -> tuple[int, ...] | None:
    """Read the option ``ignore``: ids on disk joined by +, or "none"; None if it was not given.

    Raises OptionError for anything else.
    """
    if text is None:
        return None
    if text == "none":
        return ()
    try:
        ids = tuple(int(part) for part in text.split("+"))
    except ValueError:
        ids = (-1,)
    if not all(0 <= value <= 255 for value in ids):
        raise OptionError(f"ignore={text}: give none, or ids on disk joined by +, such as ignore=0+13")
    return ids
