"""Pairs written for an annotation tool, and corrected masks made a source of pairs again."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from crossband.annotation.cvat import read_cvat, write_cvat
from crossband.annotation.fiftyone_layout import read_fiftyone, write_fiftyone
from crossband.annotation.label_studio import read_label_studio, write_label_studio
from crossband.annotation.labels import tool_labels
from crossband.annotation.record import RECORD_NAME, Item, Record, file_name, read_record
from crossband.errors import OptionError, PairError, quoted
from crossband.filling import check_fillable, filling
from crossband.pairs.band_summary import summarise_pairs
from crossband.pairs.base import Classes, Pair, PairFiles, Pairs, PairView
from crossband.pairs.export import export_pairs
from crossband.pairs.given import anywhere
from crossband.pairs.opening import main_splits, open_splits, parse_source
from crossband.pairs.reading import read_label
from crossband.pairs.suspicions import clearer_scaling
from crossband.pairs.writing import write_image, write_label
from crossband.pictures import LEGEND_NAME, legend
from crossband.results import ResultPairs, is_results, open_results
from crossband.words import Band, Tool

Progress = Callable[[int, int], None]

_STORED = "full-range"

_WRITERS = {"cvat": write_cvat, "label-studio": write_label_studio, "fiftyone": write_fiftyone}
_READERS = {"cvat": read_cvat, "label-studio": read_label_studio, "fiftyone": read_fiftyone}


@dataclass(frozen=True)
class Returned:
    """How many pairs came back with a mask, how many of these with another one, and how many without."""

    pairs: int
    changed: int
    missing: int


def annotate(
    of: str,
    out: Path,
    tool: Tool,
    *,
    infrared_scaling: str | None = None,
    rig: str | None = None,
    frame: Band | None = None,
    progress: Progress | None = None,
) -> int:
    """Write pairs and their labels for an annotation tool; gives how many.

    of: a source with labels, or a folder that ``predict`` wrote, whose predictions are the labels.
    infrared_scaling: as infrared of a source is shown. None shows a source under full-range and results as
    they were read, but under `clearer_scaling` where that leaves too small a range to see anything in.
    rig, frame: those that results were made with. progress is called with (pairs done, pairs in all).
    ``crossband.json`` keeps what `bring_back` needs; it stays beside the files.

    Raises OptionError if out exists and is not an empty folder, or pairs have no labels; what `open_pairs`
    and `open_results` raise; PairError for a pair that cannot be read.
    """
    check_fillable(out)
    reads = infrared_scaling or _STORED
    opened = _opened(of, reads, rig, frame)
    if infrared_scaling is None:
        opened = _to_be_seen(of, opened, rig, frame)
    classes = _classes(of, opened)
    labels = tool_labels(classes)
    items: list[Item] = []
    total = sum(map(len, opened))

    def pairs() -> Iterator[tuple[Item, Pair]]:
        for number, (split, pair) in enumerate(_every(opened), start=1):
            if pair.label is None:
                raise OptionError(f"{of}: pair {quoted(pair.name)} has no label; give pairs with labels")
            items.append(Item(file_name(number, pair.name), split, pair.name, *pair.size))
            yield items[-1], pair
            if progress is not None:
                progress(number, total)

    with filling(out) as inside:
        _WRITERS[tool](inside, pairs(), labels)
        write_image(inside / LEGEND_NAME, np.asarray(legend(classes)))
        # The masks may be brought back from another folder than this one.
        source = str(Path(of).absolute() if is_results(of) else anywhere(parse_source(of)))
        rig = None if rig is None else str(Path(rig).absolute())
        Record(tool, source, is_results(of), reads, classes, labels, tuple(items), rig, frame).write(inside)
    return total


def bring_back(annotated: Path, corrected: Path, out: Path, *, progress: Progress | None = None) -> Returned:
    """Write the pairs whose masks came back, with these as labels, as a folder that ``folder:PATH`` opens.

    annotated: the folder that `annotate` wrote. corrected: what the tool exported: CVAT's archive in
    "Segmentation mask 1.1", Label Studio's JSON, or a folder or archive with ``labels/`` of FiftyOne. The
    images are read from where they came from, and lie in the splits that they had there: infrared with its
    stored values where these are integers of 8 or 16 bits, whatever scaling it was shown under; floats, and
    degrees under ``celsius``, by that scaling, spread over 16 bits. Class ids are those of the labels that
    were given to the tool; pixels without any are ``IGNORE_INDEX``.

    Raises OptionError for an out that is not empty or a damaged record; PairError for an export that cannot
    be used, or holds no mask of these pairs; what opening the pairs raises.
    """
    record = read_record(annotated)
    if not corrected.exists():
        raise PairError(f"{corrected}: there is no such file or folder; give what {record.tool} exported")
    check_fillable(out)
    with tempfile.TemporaryDirectory(prefix="crossband-") as temporary:
        masks = Path(temporary)
        came: dict[tuple[str, str], Path] = {}
        for item, labels in _READERS[record.tool](corrected, record):
            # On disk, since a thousand masks need not fit into memory.
            path = masks / f"{item.file}.png"
            write_label(path, labels, record.classes.palette)
            came[item.split, item.pair] = path
        if not came:
            raise PairError(f"{corrected}: holds no mask of the pairs in {annotated / RECORD_NAME}")
        views: list[_Corrected] = []

        def opened() -> Sequence[Pairs]:
            for pairs in _stored(record):
                of_splits = [
                    _Corrected(pairs, came, record.classes, split, within) for split, within in _within(pairs)
                ]
                views.extend(view for view in of_splits if len(view))
            gone = len(came) - sum(map(len, views))
            if gone:
                raise PairError(f"{record.of} lacks {gone} of the pairs that were annotated; bring them back")
            return views

        export_pairs(opened, out, progress=progress)
    changed = sum(view.changed for view in views)
    return Returned(len(came), changed, len(record.items) - len(came))


def _within(pairs: Pairs) -> list[tuple[str, str]]:
    """The splits that pairs come back into, and what the names of each split's pairs begin with.

    Results lie in no splits; the source that they were made of may: pairs that were kept for a test must not
    come back among those to train on.
    """
    splits = pairs.manifest.splits if isinstance(pairs, ResultPairs) else None
    if not splits:
        return [(pairs.split, "")]
    return [(split, f"{split}/" if len(splits) > 1 else "") for split in splits]


class _Corrected(PairView):
    """The pairs of a list whose masks came back, with these as labels. changed: how many read ones differ.

    split, within: those whose names begin with ``within``, called without it, as that split.
    """

    def __init__(
        self, pairs: Pairs, masks: dict[tuple[str, str], Path], classes: Classes, split: str, within: str
    ):
        super().__init__(pairs)
        self.classes, self.split = classes, split
        self.changed = 0
        self._within = within
        self._masks = [masks.get((pairs.split, pairs.name(index))) for index in range(len(pairs))]
        self._indices = [
            index
            for index, mask in enumerate(self._masks)
            if mask is not None and pairs.name(index).startswith(within)
        ]

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> Pair:
        pair = self.pairs[self._indices[index]]
        mask = self._masks[self._indices[index]]
        assert mask is not None
        label = read_label(mask, self.classes)
        if label.shape != pair.size:
            raise PairError(f"pair {quoted(pair.name)} has another size than when it was annotated")
        self.changed += pair.label is None or not np.array_equal(label, pair.label)
        return replace(pair, name=self.name(index), label=label)

    def name(self, index: int) -> str:
        return self.pairs.name(self._indices[index]).removeprefix(self._within)

    def condition(self, index: int) -> str | None:
        return self.pairs.condition(self._indices[index])

    def stored(self, index: int) -> PairFiles | None:
        return self.pairs.stored(self._indices[index])

    def time(self, index: int) -> int | None:
        return self.pairs.time(self._indices[index])

    def levels(self, index: int, band: Band) -> np.ndarray | None:
        return self.pairs.levels(self._indices[index], band)


def _opened(of: str, infrared_scaling: str, rig: str | None, frame: Band | None) -> list[Pairs]:
    if is_results(of):
        return [open_results(Path(of), rig=rig, frame=frame)]
    return open_splits(of, main_splits(of), infrared_scaling=infrared_scaling)


def _to_be_seen(of: str, opened: list[Pairs], rig: str | None, frame: Band | None) -> list[Pairs]:
    """The pairs that were opened, their infrared under a rule that people see something under."""
    scaling = clearer_scaling(summarise_pairs(*opened).infrared, opened[0].scaling)
    if scaling is None:
        return opened
    if is_results(of):
        return [open_results(Path(of), rig=rig, frame=frame, infrared_scaling=str(scaling))]
    for pairs in opened:
        pairs.scaling = scaling
    return opened


def _stored(record: Record) -> list[Pairs]:
    """The pairs that were annotated, their infrared as it is stored where a folder of pairs can hold that."""
    shown = _opened(record.of, record.infrared_scaling, record.rig, record.frame)
    if all(pairs.scaling.rule == "celsius" for pairs in shown):
        return shown
    infrared = summarise_pairs(*shown).infrared
    if infrared is not None and not set(infrared.types) <= {"uint8", "uint16"}:
        return shown
    if record.results:
        return [open_results(Path(record.of), rig=record.rig, frame=record.frame, infrared_scaling=_STORED)]
    return open_splits(record.of, main_splits(record.of), infrared_scaling=_STORED)


def _every(opened: Sequence[Pairs]) -> Iterator[tuple[str, Pair]]:
    for pairs in opened:
        for index in range(len(pairs)):
            yield pairs.split, replace(pairs[index], name=pairs.name(index))


def _classes(of: str, opened: Sequence[Pairs]) -> Classes:
    found = [pairs.classes for pairs in opened]
    if not found or found[0] is None or any(classes is None for classes in found):
        raise OptionError(
            f"{of} has no labels, so that there are no classes to annotate; predict first, and annotate the "
            "folder of results"
        )
    # What the files ignore has become IGNORE_INDEX where they were read.
    return replace(found[0], ignore=())
