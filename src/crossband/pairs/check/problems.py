"""From what was found to problems: one per kind and split, with the number and the first names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Sized
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np

from crossband.pairs.base import Classes
from crossband.pairs.benchmarks.declaration import Benchmark
from crossband.pairs.benchmarks.tree import Listing, Tree
from crossband.pairs.check.report import Problem, SplitReport
from crossband.pairs.headers import Header
from crossband.pairs.registration import Registration
from crossband.pairs.suspicions import Suspicion
from crossband.text import counted
from crossband.words import BANDS, IGNORE_INDEX

_SHOWN = 3
"""How many files a problem names; it gives the number of all."""

_COPY_AGAIN = "copy or download these files again"


@dataclass
class Reading:
    """What one pair's files showed.

    headers: by role (visible, infrared, label). errors: one line each, naming the file.
    pixels: (256,) label pixels of each id as stored.
    """

    headers: dict[str, Header] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    pixels: np.ndarray | None = None


def tree_problems(tree: Tree, listings: Mapping[str, Listing]) -> list[Problem]:
    """Splits that are not there, pairs in two splits, and files in none."""
    problems = []
    covered = {part for split in listings for part in split.split("+")}
    for split, declaration in tree.benchmark.splits.items():
        if split not in covered and declaration.within is None:
            mend = (
                f"add {tree.layout.lists[split]}" if split in tree.layout.lists else "add it if you need it"
            )
            problems.append(Problem("warning", f"the split {split} is not in this tree", mend))
    names = {split: {files.name for files in listings[split].files} for split in tree.main_splits()}
    for one, other in combinations(names, 2):
        shared = sorted(names[one] & names[other])
        if shared:
            problems.append(
                Problem(
                    "error",
                    f"{one} and {other} share {_number(shared, 'pair')}: {_some(shared)}",
                    "take the authors' split; a score on pairs seen in training means nothing",
                )
            )
    unused = tree.unused_files(frozenset().union(*(listing.paths for listing in listings.values())))
    if unused:
        problems.append(
            Problem(
                "warning",
                f"in no split: {_number(unused, 'file')}: {_some([str(path) for path in unused])}",
                "they are not read; check that no list is missing or old",
            )
        )
    return problems


def listing_problems(
    benchmark: Benchmark, split: str, listing: Listing, declared: tuple[int, ...]
) -> list[Problem]:
    """What a split's names alone show: bad names, missing files, repeated names, a wrong number of pairs."""
    problems = []
    if listing.refused:
        shown = _some(listing.refused)
        message = f"{split}: {counted(len(listing.refused), 'entry', 'entries')} cannot be taken: {shown}"
        problems.append(Problem("error", message, "the pairs they name are left out until then"))
    if listing.gaps:
        shown = _some([gap.message for gap in listing.gaps])
        message = f"{split}: {_number(listing.gaps, 'file')} missing or not unique: {shown}"
        problems.append(Problem("error", message, _COPY_AGAIN))
    if listing.repeated:
        problems.append(
            Problem(
                "warning",
                f"{split}: its list repeats {_number(listing.repeated, 'name')}: {_some(listing.repeated)}",
                "each is taken once; compare the list with the authors'",
            )
        )
    if listing.skipped:
        problems.append(
            Problem(
                "warning",
                f"{split}: flipped copies left out: {_number(listing.skipped, 'name')}: "
                f"{_some(listing.skipped)}",
                "nothing to do: pairs are mirrored during training",
            )
        )
    count = len(listing.files)
    if len(declared) == 1 and count != declared[0]:
        problems.append(
            Problem(
                "error",
                f"{split}: {count} complete pairs, but {benchmark.title} has {declared[0]}",
                "download or extract it again; scores on another set are not comparable",
            )
        )
    elif len(declared) > 1:
        problems.append(
            Problem(
                "warning",
                f"{split}: {count} complete pairs; sources give {' or '.join(map(str, declared))}",
                "say the number beside every result" if count in declared else "download or extract it again",
            )
        )
    return problems


def reading_problems(
    report: SplitReport,
    readings: Mapping[str, Reading],
    classes: Classes | None,
    resolution: tuple[int, int] | None,
    *,
    packed: bool,
    registration: Registration | None = None,
) -> list[Problem]:
    """What a split's files show. readings: by the pair's name. packed: infrared is the fourth channel.
    registration: of a rig, whose bands are of two sizes."""
    return [
        *_damaged_files(report, readings),
        *_sizes(report, readings, resolution, registration),
        *_unknown_ids(report, readings, classes),
        *_formats(report, readings, packed),
    ]


def band_problems(report: SplitReport, found: Sequence[Suspicion]) -> list[Problem]:
    """What looks wrong with a split's pixels; infrared in false colours cannot be used as it is."""
    return [
        Problem(
            "error" if suspicion.kind == "false colour" else "warning",
            f"{report.name}: {suspicion.message}",
            suspicion.mend,
        )
        for suspicion in found
    ]


def _damaged_files(report: SplitReport, readings: Mapping[str, Reading]) -> list[Problem]:
    errors = [error for reading in readings.values() for error in reading.errors]
    if not errors:
        return []
    return [
        Problem(
            "error",
            f"{report.name}: cannot use {_number(errors, 'file')}: {_some(errors)}",
            "mend each as its message says",
        )
    ]


def _sizes(
    report: SplitReport,
    readings: Mapping[str, Reading],
    resolution: tuple[int, int] | None,
    registration: Registration | None,
) -> list[Problem]:
    problems = []
    if registration is not None:
        return _sizes_unlike(report, readings, registration)
    unequal = [
        f"{name} ({', '.join(f'{role} {_size(header.size)}' for role, header in reading.headers.items())})"
        for name, reading in readings.items()
        if len({header.size for header in reading.headers.values()}) > 1
    ]
    if unequal:
        problems.append(
            Problem(
                "error",
                f"{report.name}: the sizes differ in {_number(unequal, 'pair')}: {_some(unequal)}",
                "register, crop or resize the images of a pair to one size (labels by nearest neighbour), "
                "or find "
                "the cameras' geometry with `crossband align` and give --rig",
            )
        )
    other = sum(count for size, count in report.sizes.items() if size != resolution)
    if resolution is not None and other:
        problems.append(
            Problem(
                "warning",
                f"{report.name}: not {_size(resolution)} (height x width) as published: {other} of its pairs",
                "results on resized images are not comparable; use the original files",
            )
        )
    return problems


def _sizes_unlike(
    report: SplitReport, readings: Mapping[str, Reading], registration: Registration
) -> list[Problem]:
    unlike = [
        f"{name} ({band} {_size(reading.headers[band].size)})"
        for name, reading in readings.items()
        for band in BANDS
        if band in reading.headers and reading.headers[band].size != registration.rig.size(band)
    ]
    if not unlike:
        return []
    return [
        Problem(
            "error",
            f"{report.name}: {_number(unlike, 'image')} not of the rig's sizes, visible "
            f"{_size(registration.rig.visible_size)} and infrared {_size(registration.rig.infrared_size)} "
            f"(height x width): {_some(unlike)}",
            "give images of those sizes, or align again",
        )
    ]


def _unknown_ids(
    report: SplitReport, readings: Mapping[str, Reading], classes: Classes | None
) -> list[Problem]:
    if classes is None:
        return []
    known = {*range(len(classes)), *classes.ignore, IGNORE_INDEX}
    stray = [index for index in range(256) if index not in known]
    names = [
        name
        for name, reading in readings.items()
        if reading.pixels is not None and reading.pixels[stray].any()
    ]
    if not names:
        return []
    ids = ", ".join(f"{index} ({report.pixels[index]} px)" for index in stray if report.pixels[index])
    return [
        Problem(
            "error",
            f"{report.name}: ids outside 0 to {len(classes) - 1} in {_number(names, 'label')}: {ids}; "
            f"in {_some(names)}",
            "labels of another benchmark, or resized with a smoothing filter, look so: use the originals",
        )
    ]


def _formats(report: SplitReport, readings: Mapping[str, Reading], packed: bool) -> list[Problem]:
    problems = []
    if packed:
        flat = [
            name
            for name, reading in readings.items()
            if "visible" in reading.headers and reading.headers["visible"].channels != 4
        ]
        if flat:
            problems.append(
                Problem(
                    "error",
                    f"{report.name}: no fourth channel, which holds infrared, in {_number(flat, 'image')}: "
                    f"{_some(flat)}",
                    "they were saved by a program that drops it: take the original files",
                )
            )
    lossy = [
        name
        for name, reading in readings.items()
        if "infrared" in reading.headers and reading.headers["infrared"].kind == "JPEG"
    ]
    if lossy:
        problems.append(
            Problem(
                "warning",
                f"{report.name}: JPEG in {_number(lossy, 'infrared image')}: {_some(lossy)}",
                "compression changed them; prefer a lossless copy if there is one",
            )
        )
    return problems


def _size(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"


def _number(things: Sized, noun: str) -> str:
    return f"{len(things)} {noun}{'' if len(things) == 1 else 's'}"


def _some(texts: Sequence[str]) -> str:
    rest = len(texts) - _SHOWN
    return ", ".join(texts[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")
