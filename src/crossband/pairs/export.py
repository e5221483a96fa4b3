"""Any source written as a folder of pairs that ``folder:PATH`` opens."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from crossband.errors import CrossbandWarning
from crossband.filling import filling
from crossband.pairs.base import Classes, Pair, Pairs
from crossband.pairs.headers import read_header
from crossband.pairs.infrared_scaling import InfraredScaling
from crossband.pairs.names import checked_name, place_of
from crossband.pairs.opening import main_splits, open_splits
from crossband.pairs.writing import csv_text, write_image, write_label, write_text
from crossband.pictures import LEGEND_NAME, legend
from crossband.words import IGNORE_INDEX
from crossband.yaml_files import yaml_text


def export_folder(
    source: str,
    out: Path,
    *,
    infrared_scaling: str = "full-range",
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write a source as ``<out>/<split>/{visible,infrared,label}/name.png`` with classes.yaml and legend.png.

    Visible becomes 8-bit. Infrared keeps its stored values: 8-bit, or 16-bit if any infrared file of the
    source is deeper than 8 bits. 8-bit values are then spread over the 16-bit range, which full-range
    scaling undoes, and floats, which must lie in [0, 1], are rounded to it. Another infrared_scaling spreads
    what it takes to 0 and 1 over 16 bits: ``celsius(-20, 60)`` writes degrees, 0 for -20 and 65535 for 60.
    "auto" chooses one rule for all splits.
    Ids that the source ignores become 255, and so do pixels of a rig that only one camera saw; a
    CrossbandWarning counts the pairs with such pixels that have no labels to say so. Splits that only repeat
    pairs of others, such as ``test_night``, are left out; the conditions they tell are in each split's
    conditions.csv.

    progress is called with (pairs done, pairs in all). The pairs appear all at once or not at all; what a
    killed export into the same folder left, in a hidden folder beside it, is removed first.

    Raises OptionError if out exists and is not an empty folder, or cannot be written; FolderInUseError if
    another export into it is at work; what `open_pairs` raises for the source; PairError for a pair that
    cannot be read, or whose name leads out of the folder.
    """

    def opened() -> list[Pairs]:
        return open_splits(source, main_splits(source), infrared_scaling=infrared_scaling)

    export_pairs(opened, out, progress=progress)


def export_pairs(
    opened: Callable[[], Sequence[Pairs]], out: Path, *, progress: Callable[[int, int], None] | None = None
) -> None:
    """Write lists of pairs, one for each split, as `export_folder` writes those of a source.

    opened: gives the lists, once the folder is found to be free. Raises as `export_folder`, and what
    ``opened`` raises.
    """
    with filling(out) as folder:
        _write_lists(opened(), folder, progress)


def _write_lists(opened: Sequence[Pairs], out: Path, progress: Callable[[int, int], None] | None) -> None:
    deep = any(pairs.scaling != InfraredScaling() or _is_deep(pairs) for pairs in opened)
    total, done, unmarked = sum(len(pairs) for pairs in opened), 0, 0
    for pairs in opened:
        folder = out / checked_name(pairs.split)
        for pair in pairs:
            _write_pair(folder, pair, pairs.classes, deep)
            if pair.label is None or pairs.classes is None:
                unmarked += pair.valid is not None and not bool(pair.valid.all())
            done += 1
            if progress is not None:
                progress(done, total)
        _write_conditions(folder, pairs)
    if unmarked:
        warnings.warn(
            f"{unmarked} of {total} pairs have pixels that only one camera saw, and no labels that could "
            f"hold {IGNORE_INDEX} there: what the other camera did not see is its edge, repeated, and will "
            "pass for seen; export in the frame of the camera that sees less, or read the source itself",
            CrossbandWarning,
            stacklevel=2,
        )
    classes = next((pairs.classes for pairs in opened if pairs.classes is not None), None)
    if classes is not None:
        _write_classes(out / "classes.yaml", classes)
        write_image(out / LEGEND_NAME, np.asarray(legend(classes)))


def _is_deep(pairs: Pairs) -> bool:
    """Whether an infrared file stores more than 8 bits. Generated pairs never do."""
    if pairs.levels(0, "infrared") is not None:
        # Frames and members of shards may be of several types, and have no headers to ask.
        stored = (pairs.levels(index, "infrared") for index in range(len(pairs)))
        return any(levels is not None and levels.dtype.itemsize > 1 for levels in stored)
    files_of = (pairs.stored(index) for index in range(len(pairs)))
    return any(
        read_header(files.infrared, infrared=True).bits > 8
        for files in files_of
        if files is not None and files.infrared is not None
    )


def _write_pair(folder: Path, pair: Pair, classes: Classes | None, deep: bool) -> None:
    if pair.visible is not None:
        write_image(place_of(folder / "visible", pair.name, ".png"), _quantised(pair.visible, np.uint8))
    if pair.infrared is not None:
        depth = np.uint16 if deep else np.uint8
        write_image(place_of(folder / "infrared", pair.name, ".png"), _quantised(pair.infrared, depth))
    if pair.label is not None and classes is not None:
        write_label(place_of(folder / "label", pair.name, ".png"), pair.label, classes.palette)


def _quantised(image: np.ndarray, dtype: type[np.uint8] | type[np.uint16]) -> np.ndarray:
    return np.rint(image * np.iinfo(dtype).max).astype(dtype)


def _write_conditions(folder: Path, pairs: Pairs) -> None:
    known = [(pairs.name(index), pairs.condition(index)) for index in range(len(pairs))]
    rows = [{"name": name, "condition": condition} for name, condition in known if condition is not None]
    if rows:
        write_text(folder / "conditions.csv", csv_text(("name", "condition"), rows))


def _write_classes(path: Path, classes: Classes) -> None:
    declared = {"names": list(classes.names), "palette": [list(colour) for colour in classes.palette]}
    write_text(path, yaml_text(declared, lists_in_one_line=True))
