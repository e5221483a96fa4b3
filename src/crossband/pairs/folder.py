"""Pairs from folders of one's own: ``<root>/<split>/{visible,infrared,label}/name.*``."""

from __future__ import annotations

import csv
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from crossband.colour_vision import distinct_colours
from crossband.errors import CrossbandWarning, OptionError, PairError, quoted
from crossband.pairs.arrangement import PARTS, Arrangement, likely_names
from crossband.pairs.auto_scaling import resolve_scaling
from crossband.pairs.base import IGNORE_COLOUR, Classes, PairFiles
from crossband.pairs.false_colour import REFUSE
from crossband.pairs.file_pairs import FilePairs
from crossband.pairs.first_time import is_first_time
from crossband.pairs.matching import Matching, find_images, is_pattern, pair_by_time, pair_up
from crossband.pairs.reading import read_label
from crossband.pairs.registration import Registration
from crossband.pairs.writing import plain_cell
from crossband.text import listed, semicolons_told
from crossband.words import BANDS, IGNORE_INDEX
from crossband.yaml_files import read_yaml

WHOLE = "all"
"""The split of a folder that has its bands directly, without folders for splits."""

CLASSES_NAME = "classes.yaml"
"""What names the classes, beside pairs (`read_classes`)."""

CONDITIONS_NAME = "conditions.csv"
"""What tells the conditions of pairs, in the folder of their split."""

_PLAIN = Arrangement()
_LONGEST_CLASS_NAME = 100
_DAY_OR_NIGHT = re.compile(r"\d(?P<letter>[DN])")
_CONDITION_OF_LETTER = {"D": "day", "N": "night"}


class FolderPairs(FilePairs):
    """One split of a folder of pairs.

    The folders ``visible``, ``infrared`` and ``label`` of ``<root>/<split>`` hold one file per pair each,
    under the same name, in folders of their own if wanted; suffixes may differ and their case does not
    matter. One band's folder and the label folder may be absent. Where ``root`` itself holds the bands, the
    split is "all". Only the suffixes of ``IMAGE_SUFFIXES`` count; hidden and all other files are ignored.
    4-channel images with infrared last: put them in ``visible``, and make ``infrared`` a link to it.

    Classes: ``classes`` if given, else ``<root>/classes.yaml`` (`read_classes`), else every id up to the
    highest one in the labels of all splits, so that splits agree. None if the split has no labels.
    Conditions: ``conditions.csv`` in the split's folder, with the columns name and condition, else D (day) or
    N (night) after the number that ends each name, where all names have it.
    labels: False takes the folder ``label`` for absent, whatever it holds. infrared_scaling: a rule, or
    "auto" (`resolve_scaling`). false_colour: as in `read_infrared`. registration: as in `read_pair`.
    arrangement: other folders, patterns of names, pairs by time, and what becomes of single images.
    overlooked: what is not read and looks as if it was meant, each with what to do; warned of once.

    Raises PairError if there is no such folder, or nothing of a name that ``arrangement`` asks for, if it
    holds no image, if a name occurs twice or lacks a partner, or if the classes cannot be told; OptionError
    for an unknown split or scaling rule.
    """

    def __init__(
        self,
        root: Path,
        split: str,
        *,
        infrared_scaling: str = "full-range",
        classes: Classes | None = None,
        labels: bool = True,
        false_colour: str = REFUSE,
        registration: Registration | None = None,
        arrangement: Arrangement = _PLAIN,
    ):
        self.source = f"folder:{root}"
        self.split = split or WHOLE
        self.false_colour = false_colour
        self.registration = registration
        folder = _split_folder(root, self.split, arrangement)
        matching = _find_pairs(folder, labels, arrangement)
        self.files, self.offsets, self.unpaired = matching.files, matching.offsets, matching.unpaired
        wanted = PARTS if labels else BANDS
        absent = [part for part in wanted if all(getattr(files, part) is None for files in self.files)]
        _check_named(root, absent, arrangement)
        self.scaling = resolve_scaling(infrared_scaling, self.files, false_colour)
        self.bands = tuple(band for band in BANDS if all(files.has(band) for files in self.files))
        self.classes = None
        if self.files[0].label is not None:
            self.classes = classes or _folder_classes(root, arrangement)
        undeclared = self.classes is not None and classes is None
        self.overlooked = [
            *_folders_beside(folder, labels, arrangement),
            *_classes_above(root, undeclared),
            *_files_elsewhere(root, folder, undeclared),
        ]
        if self.overlooked and is_first_time("overlooked folders", folder):
            for told in self.overlooked:
                warnings.warn("; ".join(told), CrossbandWarning, stacklevel=3)


def folder_splits(root: Path, arrangement: Arrangement = _PLAIN) -> list[str]:
    """The splits of a folder, sorted; ["all"] where it holds the bands directly.

    Raises PairError if there is no such folder or none in it holds a band.
    """
    if not root.is_dir():
        raise PairError(f"{root}: there is no such folder")
    if _holds_a_band(root, arrangement):
        return [WHOLE]
    folders = sorted(entry for entry in root.iterdir() if entry.is_dir())
    splits = [folder.name for folder in folders if _holds_a_band(folder, arrangement)]
    if not splits:
        likely = likely_names([root, *folders])
        named = ",".join(f"{band}={name}" for band, name in likely.items())
        if named and arrangement == _PLAIN:
            raise PairError(
                f"{root}: neither it nor a folder in it holds a folder named visible or infrared, but "
                f"{' and '.join(likely.values())} look like them; write folder:{root},{named}"
            )
        raise PairError(
            f"{root}: neither it nor a folder in it holds {_spoken(arrangement)}; "
            "arrange the images as <split>/{visible,infrared,label}/name.*, or name other folders or patterns"
        )
    return splits


def read_classes(path: Path) -> Classes:
    """Read a ``classes.yaml``: ``names``, and optionally ``palette`` and ``ignore``.

    names: one per id, from 0. palette: one ``[red, green, blue]`` (0..255) per name, else `default_palette`.
    ignore: ids in the label files that count neither in training nor in scores.

    Raises PairError, naming the file and the entry, if it holds something else.
    """
    try:
        declared = read_yaml(path)
    except OptionError as error:
        raise PairError(str(error)) from error.__cause__
    if not isinstance(declared, Mapping) or not set(declared) <= {"names", "palette", "ignore"}:
        raise PairError(f"{path}: must be a mapping with names, and optionally palette and ignore")
    names = declared.get("names")
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise PairError(f'{path}: names must be a list of texts, such as [road, "7", "yes"]')
    for name in names:
        if not name.isprintable() or len(name) > _LONGEST_CLASS_NAME:
            raise PairError(
                f"{path}: the name {quoted(name)} must print in one line of {_LONGEST_CLASS_NAME} characters"
            )
    if not 1 <= len(names) <= IGNORE_INDEX or len(set(names)) != len(names):
        raise PairError(f"{path}: {len(names)} names; give 1 to {IGNORE_INDEX}, all different")
    ignore = declared.get("ignore") or []
    if not isinstance(ignore, list) or not all(type(entry) is int for entry in ignore):
        raise PairError(f"{path}: ignore must be a list of ids, such as [0]")
    palette = declared.get("palette")
    if palette is None:
        return Classes(tuple(names), default_palette(len(names)), tuple(ignore))
    if not isinstance(palette, list) or not all(map(_is_colour, palette)):
        raise PairError(f"{path}: palette must be a list of [red, green, blue], each 0 to 255")
    if len(palette) != len(names):
        raise PairError(f"{path}: {len(palette)} palette colours for {len(names)} names; give one for each")
    return Classes(tuple(names), tuple((r, g, b) for r, g, b in palette), tuple(ignore))


def default_palette(count: int) -> tuple[tuple[int, int, int], ...]:
    """``count`` (up to 256) different sRGB colours, black first, none like that of ignored pixels.

    They are told apart by colour-blind eyes too (`distinct_colours`), the first ones best, and a colour does
    not depend on how many there are.
    """
    black = (0, 0, 0)
    return (black, *distinct_colours(max(0, count - 1), (black, IGNORE_COLOUR)))[:count]


def classes_of_labels(labels: Iterable[Path], where: Path) -> Classes:
    """As many classes as the highest id in label files tells. Raises PairError if there is none but 0.

    where: the folder or file that the error names.
    """
    count = _highest_id(labels) + 1
    if count == 1:
        raise PairError(
            f"{where}: its labels hold no id but 0 and perhaps {IGNORE_INDEX}, which means ignored; "
            "save masks with 0 and 1, or name the classes in classes.yaml"
        )
    return Classes(tuple(f"class {index}" for index in range(count)), default_palette(count))


def _is_colour(entry: object) -> bool:
    return (
        isinstance(entry, list)
        and len(entry) == 3
        and all(type(value) is int and 0 <= value <= 255 for value in entry)
    )


def _holds_a_band(folder: Path, arrangement: Arrangement) -> bool:
    return any(_is_there(arrangement.place(folder, band)) for band in BANDS)


def _is_there(place: Path) -> bool:
    """Whether a folder is there, or an image that fits a pattern."""
    if not is_pattern(place):
        return place.is_dir()
    try:
        return bool(find_images(place))
    except PairError:
        return False


def _spoken(arrangement: Arrangement) -> str:
    if arrangement == _PLAIN:
        return "a folder named visible or infrared"
    return f"{arrangement.visible} or {arrangement.infrared}"


def unknown_split(source: object, split: str, known: Iterable[str]) -> OptionError:
    """The error for a split that a source has not. known: those that it has."""
    return OptionError(f"{source} has no split {quoted(split)}; it has: {', '.join(known)}")


def _split_folder(root: Path, split: str, arrangement: Arrangement) -> Path:
    splits = folder_splits(root, arrangement)
    if split not in splits:
        raise unknown_split(root, split, splits)
    return root if splits == [WHOLE] and _holds_a_band(root, arrangement) else root / split


def _check_named(root: Path, parts: Iterable[str], arrangement: Arrangement) -> None:
    """Raise PairError for what a split lacks, and was asked for by a name that no other split has either."""
    folders = [root / split for split in folder_splits(root, arrangement)]
    for part in parts:
        named = getattr(arrangement, part)
        places = [arrangement.place(folder, part) for folder in (root, *folders)]
        if named != part and not any(map(_is_there, places)):
            what = "no image there fits" if any(map(is_pattern, places)) else "no folder there is called"
            raise PairError(f"{root}: {what} {quoted(named)}, as {part}={named} names it; correct the option")


def _find_pairs(folder: Path, labels: bool, arrangement: Arrangement) -> Matching:
    """The pairs of one split's folder, by name."""
    wanted = PARTS if labels else BANDS
    places = {part: arrangement.place(folder, part) for part in wanted}
    found = {part: find_images(place) for part, place in places.items() if _is_there(place)}
    if arrangement.max_gap is not None and all(band in found for band in BANDS):
        matching = pair_by_time(str(folder), found, arrangement.max_gap, arrangement.missing)
    else:
        matching = pair_up(str(folder), found, arrangement.missing)
    conditions = _conditions(folder, [pair.name for pair in matching.files], matching.single)
    files = [replace(pair, condition=conditions.get(pair.name)) for pair in matching.files]
    return replace(matching, files=files)


def _first(names: list[str], count: int = 3) -> str:
    return ", ".join(names[:count]) + (", ..." if len(names) > count else "")


def _conditions(folder: Path, names: list[str], left_out: Iterable[PairFiles]) -> dict[str, str]:
    """The conditions of pairs, by name. left_out: single images, which may have conditions too."""
    path = folder / CONDITIONS_NAME
    if path.is_file():
        return _read_conditions(path, {*names, *(files.name for files in left_out)})
    letters = [_DAY_OR_NIGHT.fullmatch(name[-2:]) for name in names]
    if not all(letters):
        return {}
    return {
        name: _CONDITION_OF_LETTER[letter["letter"]]
        for name, letter in zip(names, letters, strict=True)
        if letter is not None
    }


def _read_conditions(path: Path, names: set[str]) -> dict[str, str]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            rows = [
                {column: plain_cell(row.get(column) or "") for column in ("name", "condition")}
                for row in reader
            ]
            told = semicolons_told(reader.fieldnames or ())
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise PairError(f"{path}: cannot be read as CSV ({error})") from error
    if not all(row["name"] and row["condition"] for row in rows):
        raise PairError(
            f"{path}: every row needs a name and a condition under the header name,condition{told}"
        )
    strangers = sorted({row["name"] for row in rows} - names)
    if strangers:
        shown = _first([quoted(name) for name in strangers])
        raise PairError(f"{path}: {len(strangers)} names are no pair's ({shown}); correct them")
    conditions: dict[str, str] = {}
    for row in rows:
        if conditions.setdefault(row["name"], row["condition"]) != row["condition"]:
            raise PairError(
                f"{path}: {quoted(row['name'])} is {quoted(conditions[row['name']])} in one row and "
                f"{quoted(row['condition'])} in another; correct one"
            )
    return conditions


def _folder_classes(root: Path, arrangement: Arrangement) -> Classes:
    declared = root / CLASSES_NAME
    if declared.is_file():
        return read_classes(declared)
    whole = _holds_a_band(root, arrangement)
    splits = [root] if whole else [root / split for split in folder_splits(root, arrangement)]
    places = [place for split in splits if _is_there(place := arrangement.place(split, "label"))]
    return classes_of_labels((path for place in places for path in find_images(place).values()), root)


def _folders_beside(folder: Path, labels: bool, arrangement: Arrangement) -> Iterator[tuple[str, str]]:
    """What to say and to do where a folder of a band or of labels is not there, but one that looks so."""
    absent = [
        part
        for part in (PARTS if labels else BANDS)
        if getattr(arrangement, part) == part and not (folder / part).is_dir()
    ]
    likely = likely_names([folder], absent)
    if likely:
        options = ",".join(f"{part}={name}" for part, name in likely.items())
        parts, names = listed([*likely]), listed([*likely.values()])
        yield (
            f"{folder} has no folder {parts}, and {names} beside is not read",
            f"if that is it, give the source the option {options}",
        )


def _classes_above(root: Path, undeclared: bool) -> Iterator[tuple[str, str]]:
    """The same, where classes are counted in labels but are declared in the folder above."""
    above = root.absolute().parent
    if undeclared and not (root / CLASSES_NAME).is_file() and (above / CLASSES_NAME).is_file():
        yield (
            f"{root} has no {CLASSES_NAME}, and its classes are counted in its labels; "
            f"{above / CLASSES_NAME} is not read",
            f"give folder:{above} with the split {root.name}, or copy the file",
        )


def _files_elsewhere(root: Path, folder: Path, undeclared: bool) -> Iterator[tuple[str, str]]:
    """The same, where what names the classes or conditions is called or lies otherwise than it is read."""
    if undeclared and not (root / CLASSES_NAME).is_file() and (root / "classes.yml").is_file():
        yield (
            f"{root / 'classes.yml'} is not read, and the classes of {root} are counted in its labels",
            f"call it {CLASSES_NAME}",
        )
    of_split, of_all = (place / CONDITIONS_NAME for place in (folder, root))
    if of_all != of_split and of_all.is_file() and not of_split.is_file():
        yield (
            f"{of_all} is not read: conditions are told for each split",
            f"put the rows of its pairs into {of_split}",
        )


def _highest_id(labels: Iterable[Path]) -> int:
    """The highest class id in label files, 0 if all is ignored. Decoding frees the GIL: threads help."""
    with ThreadPoolExecutor() as pool:
        return max(pool.map(_highest_id_of, labels))


def _highest_id_of(path: Path) -> int:
    label = read_label(path, None)
    return int(label.max(where=label != IGNORE_INDEX, initial=0))
