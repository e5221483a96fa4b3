"""From folders of images, or patterns of names, to pairs of files: by name or by time."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from crossband.errors import OptionError, PairError
from crossband.pairs.arrangement import ID
from crossband.pairs.base import PairFiles
from crossband.pairs.image_files import IMAGE_SUFFIXES, errors_named, kind_of
from crossband.pairs.names import checked_name
from crossband.pairs.time_stamps import Offsets, nearest_pairs, offsets, time_of_name
from crossband.words import BANDS, Band, Missing

# Of files that `crossband.pairs.frames` may read: here they are only told of.
_FRAMES_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".nut", ".y4m", ".ts", ".mpg", ".mpeg", ".ogv"),
    *(".asf", ".wmv", ".flv", ".seq", ".csq"),
)


@dataclass(frozen=True)
class Matching:
    """What became of two sets of images.

    files: the pairs, with single images as pairs of one band where these are used. single: pairs of one band
    that were left out. offsets: how far apart the times are, None for images that were paired by name.
    """

    files: list[PairFiles]
    single: list[PairFiles]
    offsets: Offsets | None = None

    @property
    def unpaired(self) -> list[tuple[Band, str]]:
        """Band and path of each image that was left out."""
        return [
            (band, str(path))
            for files in self.single
            for band in BANDS
            if (path := getattr(files, band)) is not None
        ]


def match_images(
    visible: Path | None, infrared: Path | None, *, missing: Missing = "error"
) -> list[PairFiles]:
    """The pairs of two image files, or of two folders of images under the same names; either may be None.

    Two files make one pair, whatever they are called; it takes the visible one's name. Folders are searched
    as those of `FolderPairs`. The same file or folder for both bands: 4-channel images, infrared last. A path
    that holds ``{id}`` and does not exist is a pattern: images pair whose ``{id}`` is the same.
    missing: "use" gives an image without a partner as a pair of one band, "skip" leaves it out.

    Raises PairError if a path is not there, a folder holds no image, an image lacks its partner, or all do;
    OptionError if one path is a file and the other a folder, if both are None, or for a file of many frames.
    """
    given = _given(visible, infrared)
    folders = [path.is_dir() or is_pattern(path) for path in given.values()]
    if not any(folders):
        return [PairFiles(next(iter(given.values())).stem, visible, infrared)]
    if not all(folders):
        raise OptionError(f"{visible} and {infrared}: one is a file, one a folder; give two of a kind")
    found = {band: find_images(path) for band, path in given.items()}
    return pair_up(" and ".join(map(str, given.values())), found, missing).files


def match_by_time(visible: Path, infrared: Path, max_gap: int, *, missing: Missing = "skip") -> Matching:
    """The pairs of two folders or patterns of images by the times that their names hold.

    max_gap: nanoseconds that the two may be apart at most. missing: as in `match_images`. A pair takes the
    visible image's name. Raises as `match_images`, and PairError for a name without a time.
    """
    found = {band: find_images(path) for band, path in _given(visible, infrared).items()}
    return pair_by_time(f"{visible} and {infrared}", found, max_gap, missing)


def pair_up(where: str, found: Mapping[str, Mapping[str, Path]], missing: Missing = "error") -> Matching:
    """Pairs from the images of each band and label by name.

    Raises PairError if a partner is missing and is not allowed to be, and where no name has both bands: then
    the names are at fault, and not the cameras.
    """
    every = sorted(set().union(*found.values()))
    gaps = {part: [name for name in every if name not in images] for part, images in found.items()}
    told = [f"{part} lacks {len(names)} ({_first(names)})" for part, names in gaps.items() if names]
    common = set.intersection(*(set(images) for part, images in found.items() if part in BANDS))
    if told and (missing == "error" or not common):
        raise PairError(
            f"{where}: of {len(every)} names {' and '.join(told)}; "
            "give every image its partners under the same name, or remove it"
        )
    visible, infrared, label = (found.get(part, {}) for part in (*BANDS, "label"))
    files = [PairFiles(name, visible.get(name), infrared.get(name), label.get(name)) for name in every]
    bands = [part for part in found if part in BANDS]
    if missing == "use":
        return Matching([pair for pair in files if pair.visible or pair.infrared], [])
    whole = {pair for pair in files if all(getattr(pair, band) for band in bands)}
    return Matching([pair for pair in files if pair in whole], [pair for pair in files if pair not in whole])


def pair_by_time(
    where: str, found: Mapping[str, Mapping[str, Path]], max_gap: int, missing: Missing
) -> Matching:
    """Pairs from the images of both bands by the times in their names.

    A label goes with the visible image's name. Raises PairError where nothing goes together, for a name
    without a time, for images of a pair whose time is that of others of their band, and for single images
    that are not allowed.
    """
    names = {band: sorted(found[band]) for band in BANDS}
    times = {band: [time_of_name(name) for name in names[band]] for band in BANDS}
    chosen = nearest_pairs(times["visible"], times["infrared"], max_gap)
    told = offsets(times["visible"], times["infrared"], chosen)
    label = found.get("label", {})

    def pair(one: str | None, other: str | None) -> PairFiles:
        return PairFiles(
            one or other or "",
            found["visible"][one] if one else None,
            found["infrared"][other] if other else None,
            label.get(one) if one else None,
        )

    if not chosen:
        raise PairError(
            f"{where}: no two images are within {max_gap / 1e6:g} ms of each other; raise max_gap, or "
            "set the cameras' clocks"
        )
    for place, band in enumerate(BANDS):
        often = Counter(times[band])
        twins = [names[band][two[place]] for two in chosen if often[times[band][two[place]]] > 1]
        if twins:
            raise PairError(
                f"{where}: {len(twins)} {band} names tell the time of another one too ({_first(twins)}), so "
                "that nothing tells which is meant; pair them by name, or give each image a time of its own"
            )
    both = [pair(names["visible"][one], names["infrared"][other]) for one, other in chosen]
    bare = [file.name for file in both if file.label is None]
    if label and bare:
        raise PairError(f"{where}: label lacks {len(bare)} of {len(both)} visible names ({_first(bare)})")
    partnered = {"visible": {one for one, _ in chosen}, "infrared": {other for _, other in chosen}}
    single = [
        pair(name if band == "visible" else None, name if band == "infrared" else None)
        for band in BANDS
        for place, name in enumerate(names[band])
        if place not in partnered[band]
    ]
    if single and missing == "error":
        raise PairError(f"{where}: {told}; raise max_gap, or leave out what stays single")
    if missing == "skip":
        return Matching(both, single, told)
    taken = {file.name for file in both}
    alone = [
        replace(file, name=f"{file.name}-infrared") if file.visible is None and file.name in taken else file
        for file in single
    ]
    return Matching(sorted([*both, *alone], key=lambda file: file.name), [], told)


def is_pattern(path: Path) -> bool:
    """Whether a path is a pattern of names, and no file or folder of that name."""
    return ID in str(path) and not path.exists()


def find_images(place: Path) -> dict[str, Path]:
    """The images of a folder, or those that fit a pattern with ``{id}``, by name.

    In a folder and those below it, a name is the path in it, with ``/`` and without suffix; by a pattern,
    what stands for ``{id}``. A pattern without an image's suffix takes all of them. Links to folders are
    followed, but for those that lead back to where they lie.

    Raises PairError if there is none, for two of one name, and for a name that is no name of a pair.
    """
    root, fits, deepest = (place, None, None) if not is_pattern(place) else _split_pattern(place)
    images: dict[str, Path] = {}
    videos = [place] if fits is not None and _is_video(place) else []
    for above, folders, files in walk(root):
        inside = Path(above).relative_to(root)
        shown = [entry for entry in folders if not entry.startswith(".")]
        deep = len(inside.parts) == deepest
        folders[:] = [] if deep else [entry for entry in shown if not _leads_back(root, inside / entry)]
        for file in files:
            path = Path(above, file)
            if fits is None and _is_video(path) and not file.startswith("."):
                videos.append(path)
            if file.startswith(".") or path.suffix.lower() not in IMAGE_SUFFIXES:
                continue
            name = path.relative_to(root).with_suffix("").as_posix()
            if fits is not None:
                match = fits.fullmatch(path.relative_to(root).as_posix())
                if match is None:
                    continue
                name = match["id"]
            try:
                checked_name(name)
            except PairError as error:
                raise PairError(f"{root}: {error}") from None
            if name in images:
                raise PairError(f"{path} and {images[name].name} have the same name; remove one of them")
            images[name] = path
    if not images and videos:
        raise PairError(
            f"{place}: no image in it, but {min(videos)} is a video: --data frames:INFRARED,visible=VISIBLE "
            "reads the frames of one file for each band"
        )
    if not images:
        what = "no image in it" if fits is None else "no image fits it"
        raise PairError(f"{place}: {what} ({', '.join(IMAGE_SUFFIXES)}); add some or remove the folder")
    return images


def walk(root: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """`os.walk` through links, of nothing where there is no folder.

    Raises PairError for a folder that cannot be listed.
    """

    def refuse(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError | NotADirectoryError):
            raise PairError(
                f"{error.filename}: cannot be listed ({error.strerror}); allow it, or move it away"
            ) from error

    return os.walk(root, onerror=refuse, followlinks=True)


def _leads_back(root: Path, inside: Path) -> bool:
    """Whether a folder below a root is a link to one that it lies in, so that its paths have no end."""
    folder = root / inside
    if not folder.is_symlink():
        return False
    target = folder.resolve()
    return any((root / above).resolve().is_relative_to(target) for above in inside.parents)


def _split_pattern(pattern: Path) -> tuple[Path, re.Pattern[str], int]:
    """The folder that a pattern's images lie in, what their paths in it look like, and how deep they lie."""
    above = [part for part in pattern.parents if ID not in str(part)]
    rest = pattern.relative_to(above[0]).as_posix()
    suffix = ""
    if pattern.suffix.lower() in IMAGE_SUFFIXES:
        rest, suffix = rest[: -len(pattern.suffix)], pattern.suffix
    before, *after = (re.escape(part) for part in rest.split(ID))
    ending = re.escape(suffix) or f"({'|'.join(map(re.escape, IMAGE_SUFFIXES))})"
    fits = re.compile(f"{before}(?P<id>[^/]+){'(?P=id)'.join(after)}(?i:{ending})")
    return above[0], fits, rest.count("/")


def _given(visible: Path | None, infrared: Path | None) -> dict[str, Path]:
    given: dict[str, Path] = {
        band: path for band, path in zip(BANDS, (visible, infrared), strict=True) if path is not None
    }
    if not given:
        raise OptionError("neither a visible nor an infrared image was given; give one or both")
    for path in given.values():
        if not path.exists() and not is_pattern(path):
            raise PairError(f"{path}: there is no such file or folder")
    _check_images(given)
    return given


def _is_video(path: Path) -> bool:
    return path.suffix.lower() in _FRAMES_SUFFIXES


def _check_images(given: Mapping[str, Path]) -> None:
    """Raise OptionError, saying what reads its frames, for a video or another file of many."""
    videos = {}
    for band, path in given.items():
        if _is_video(path) and path.is_file():
            with errors_named(path):
                if kind_of(path) is None:
                    videos[band] = path
    if not videos:
        return
    if "infrared" in videos:
        beside = f",visible={videos['visible']}" if "visible" in videos else ""
        source = f"frames:{videos['infrared']}{beside}"
        advice = (
            f"--data {source} reads its frames, and `crossband data export {source} --out DIR` saves them as "
            "images"
        )
    else:
        advice = f"`crossband stream RUN --visible {videos['visible']}` runs on its frames"
    raise OptionError(f"{next(iter(videos.values()))} is a video, where an image is expected: {advice}")


def _first(names: list[str], count: int = 3) -> str:
    return ", ".join(names[:count]) + (", ..." if len(names) > count else "")
