"""Pairs that a text file lists: ``list:pairs.csv``, a row for each."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from crossband.errors import PairError, quoted
from crossband.pairs.auto_scaling import resolve_scaling
from crossband.pairs.base import Classes, PairFiles
from crossband.pairs.false_colour import REFUSE
from crossband.pairs.file_pairs import FilePairs
from crossband.pairs.folder import CLASSES_NAME, WHOLE, classes_of_labels, read_classes, unknown_split
from crossband.pairs.image_files import IMAGE_SUFFIXES
from crossband.pairs.matching import pair_up
from crossband.pairs.names import checked_name
from crossband.pairs.registration import Registration
from crossband.pairs.writing import plain_cell
from crossband.text import semicolons_told
from crossband.words import BANDS, Missing

IMAGES = (*BANDS, "label")
COLUMNS = (*IMAGES, "name", "condition", "split")
"""What a row may hold; without a header, visible, infrared and perhaps label, in this order."""


@dataclass(frozen=True)
class PairList:
    """What a list holds. rows: the split and the files of each pair, in the list's order.

    problems: one line for each row that cannot be used, with its number.
    """

    path: Path
    rows: Sequence[tuple[str, PairFiles]]
    problems: Sequence[str]

    @property
    def splits(self) -> list[str]:
        """Sorted; ["all"] where the list has no column for them."""
        return sorted({split for split, _ in self.rows})


class ListPairs(FilePairs):
    """One split of the pairs that a list names, in the list's order.

    path: a CSV file in UTF-8, its cells parted by commas, or by tabs where the first row has one. Its header
    names columns of `COLUMNS`; without one, the columns are visible, infrared and, if there is a third,
    label. Paths are seen from the list's folder, or absolute. An empty cell is an image that is not there.
    A pair is called as ``name`` says, else as its visible image, or its infrared one, without the suffix.

    Classes: those of ``classes.yaml`` in the list's folder, else every id up to the highest one in the labels
    of all splits. labels: False takes labels for absent. missing: as in `pair_up`; None refuses a row that
    lacks a band which others have. infrared_scaling, false_colour, registration: as for `FolderPairs`.

    Raises PairError for a file that is no list and for the first of its rows that cannot be used: with too
    many or too few cells, an image that is not there, or a name that is there already; OptionError for an
    unknown split or scaling rule.
    """

    def __init__(
        self,
        path: Path,
        split: str,
        *,
        infrared_scaling: str = "full-range",
        labels: bool = True,
        false_colour: str = REFUSE,
        registration: Registration | None = None,
        missing: Missing | None = None,
    ):
        found = read_list(path)
        if found.problems:
            more = len(found.problems) - 1
            told = f"; {more} more rows cannot be used, `crossband data check list:{path}` lists them"
            raise PairError(found.problems[0] + (told if more else ""))
        self.source = f"list:{path}"
        self.split = split or WHOLE
        if self.split not in found.splits:
            raise unknown_split(self.source, self.split, found.splits)
        self.false_colour, self.registration = false_colour, registration
        of_split = [files for name, files in found.rows if name == self.split]
        places = {files.name: place for place, files in enumerate(of_split)}
        matching = pair_up(str(path), _by_part(of_split, labels), missing or "error")
        self.files = [
            replace(files, condition=of_split[places[files.name]].condition)
            for files in sorted(matching.files, key=lambda files: places[files.name])
        ]
        self.unpaired = matching.unpaired
        self.scaling = resolve_scaling(infrared_scaling, self.files, false_colour)
        self.bands = tuple(band for band in BANDS if all(files.has(band) for files in self.files))
        labelled = labels and all(files.label is not None for files in self.files)
        self.classes = _classes(found) if labelled else None


def list_splits_of(path: Path) -> list[str]:
    """The splits of a list, sorted; ["all"] where it names none. Raises PairError for a file that is none."""
    found = read_list(path)
    if not found.rows:
        raise PairError(found.problems[0])
    return found.splits


def read_list(path: Path) -> PairList:
    """What a list holds, with what is wrong with its rows. No image is opened.

    Raises PairError for a file that is no text, has no rows, or whose header cannot be understood.
    """
    rows = _read_rows(path)
    if not rows:
        raise PairError(f"{path}: no row in it; write one for each pair, as visible/1.png,infrared/1.png")
    number, first = rows[0]
    columns = _header(path, first)
    if columns is None and (told := semicolons_told(first)):
        raise PairError(f"{path}: its first row is one cell{told}")
    if columns is None:
        columns = list(IMAGES[: max(2, min(len(first), 3))])
    else:
        rows = rows[1:]
    found: list[tuple[str, PairFiles]] = []
    problems: list[str] = []
    taken: dict[str, int] = {}
    for number, cells in rows:
        try:
            split, files = _pair_of(path.parent, columns, cells)
            if files.name in taken:
                raise PairError(
                    f"the name {quoted(files.name)} is that of row {taken[files.name]} already; remove one, "
                    "or tell them apart by a column name"
                )
        except PairError as error:
            problems.append(f"{path}, row {number}: {error}")
            continue
        taken[files.name] = number
        found.append((split, files))
    if not found and not problems:
        raise PairError(f"{path}: no row below its header; write one for each pair")
    return PairList(path, found, problems)


def _read_rows(path: Path) -> list[tuple[int, list[str]]]:
    """The rows that are not empty, each with its line number, their cells without white space around them."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            tabs = "\t" in file.readline()
            file.seek(0)
            reader = csv.reader(file, delimiter="\t" if tabs else ",", skipinitialspace=True, strict=True)
            rows = [(reader.line_num, [plain_cell(cell.strip()) for cell in cells]) for cells in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise PairError(f"{path}: cannot be read as CSV ({error})") from error
    return [(number, cells) for number, cells in rows if any(cells)]


def _header(path: Path, cells: list[str]) -> list[str] | None:
    """The columns that a first row names; None if it is a pair's."""
    names = [cell.lower() for cell in cells]
    if not set(names) & set(COLUMNS):
        return None
    strangers = [cell for cell, name in zip(cells, names, strict=True) if name not in COLUMNS]
    if strangers or len(set(names)) < len(names) or not set(names) & set(BANDS):
        raise PairError(
            f"{path}: its header must name visible, infrared or both, and perhaps "
            f"{', '.join(name for name in COLUMNS if name not in BANDS)}, each once"
            + (f"; {quoted(strangers[0])} is none of them" if strangers else "")
        )
    return names


def _pair_of(folder: Path, columns: list[str], cells: list[str]) -> tuple[str, PairFiles]:
    """The split and the files of a row. Raises PairError if it cannot be used."""
    if len(cells) != len(columns):
        raise PairError(f"{len(cells)} cells where there must be {len(columns)}: {', '.join(columns)}")
    row = {column: cell for column, cell in zip(columns, cells, strict=True) if cell}
    for part in IMAGES:
        if part in row:
            _check_image(folder / row[part], part)
    named = row.get("visible") or row.get("infrared")
    if named is None:
        raise PairError("neither a visible nor an infrared image; name one or both")
    if "split" in columns and "split" not in row:
        raise PairError("no split; name one, as others do")
    split = checked_name(row.get("split", WHOLE))
    if "/" in split:
        raise PairError(f"the split {quoted(split)} must be one word, without /")
    visible, infrared, label = (folder / row[part] if part in row else None for part in IMAGES)
    name = checked_name(row.get("name") or _name_of(named))
    return split, PairFiles(name, visible, infrared, label, row.get("condition"))


def _check_image(path: Path, part: str) -> None:
    if path.suffix.lower() not in IMAGE_SUFFIXES:
        raise PairError(f"{part} {quoted(str(path))} is no image by its suffix ({', '.join(IMAGE_SUFFIXES)})")
    if not path.is_file():
        raise PairError(f"{part} {quoted(str(path))} is not there; correct the path or remove the row")


def _name_of(path: str) -> str:
    """What a pair is called by an image of it: the path below the list's folder, or the file's name."""
    plain = os.path.normpath(path)
    outside = os.path.isabs(plain) or plain.startswith("..")
    return (Path(Path(plain).name) if outside else Path(plain)).with_suffix("").as_posix()


def _by_part(rows: Sequence[PairFiles], labels: bool) -> Mapping[str, Mapping[str, Path]]:
    """The images of each band, and the labels, by name: of the parts that any row has."""
    parts = IMAGES if labels else BANDS
    found = {part: {f.name: path for f in rows if (path := getattr(f, part)) is not None} for part in parts}
    return {part: paths for part, paths in found.items() if paths}


def _classes(found: PairList) -> Classes:
    declared = found.path.parent / CLASSES_NAME
    if declared.is_file():
        return read_classes(declared)
    return classes_of_labels((f.label for _, f in found.rows if f.label is not None), found.path)
