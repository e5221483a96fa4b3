"""Folders of results: word of what made them, of which inputs each was made, and what is left of others.

A folder of results holds ``manifest.json`` and ``results.csv``, so that results of two kinds are never mixed
unseen, and that what is gone on with is made of the same images; ``failures.csv`` where pairs could not be
used; and ``faults.csv`` where a band monitor found a broken band.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from crossband.errors import CrossbandError, OptionError, PairError, UnwritableError, quoted
from crossband.leftovers import remove_leftovers
from crossband.option_types import check_types, types_of
from crossband.pairs.base import Listed, PairFiles
from crossband.pairs.names import checked_name, place_of
from crossband.pairs.writing import csv_text, plain_cell, write_text
from crossband.version import __version__
from crossband.words import BANDS, FAULTS, Band, Fault

MANIFEST_NAME = "manifest.json"
RESULTS_NAME = "results.csv"
CLASSES_NAME = "classes.json"
FAILURES_NAME = "failures.csv"
FAULTS_NAME = "faults.csv"

Command = Literal["predict", "fuse", "stream"]
FoundFault = tuple[str, Band, Fault, bool]
Inputs = tuple[str, ...]
"""Size in bytes and time of the last change in nanoseconds of each band's file, empty without one."""

_COLUMNS = ("pair", *(f"{band}_{what}" for band in BANDS for what in ("bytes", "mtime_ns")))
_FAULT_COLUMNS = ("pair", "band", "fault", "dropped")
_PREDICTED = ("label", "overlay", "confidence", "fused", *(f"reliability-{band}" for band in BANDS))
"""The folders of what is predicted. A label says that its pair is done."""


@dataclass(frozen=True)
class Manifest:
    """What made the results of a folder. Results that agree in all of it are alike.

    command: "predict", "fuse" or "stream". system: its name. weights_sha256: of the run's weights, None for a
    system without. bands: those that were given. visible, infrared: the absolute folders that their images
    lie in, or the cameras of a stream; None for a band that was not given. infrared_scaling, false_colour:
    how infrared was read; None before a first image settled the scaling. stretch: whether each picture was
    spread over the whole range.
    precision, tiles: how it was computed, and how large images were cut.
    rig: the rig by which the pairs were brought into one frame, and the frame; None without one.
    monitor: whether bands that look broken were dropped.
    display: the curve and the colours in which overlays show infrared; None where it is shown as scaled.
    source, splits: the source of the pairs, and those of its splits that they are of; then visible and
    infrared are None.
    variant: the run's, None without one. It tells no results apart: the weights do, and earlier versions left
    it out.
    """

    command: Command
    system: str
    weights_sha256: str | None
    bands: str
    visible: str | None
    infrared: str | None
    infrared_scaling: str | None
    false_colour: str
    stretch: bool
    precision: str = "float32"
    tiles: str = "none"
    monitor: bool = False
    rig: str | None = None
    display: str | None = None
    source: str | None = None
    splits: tuple[str, ...] | None = None
    variant: str | None = field(default=None, compare=False)


@dataclass
class Outcome:
    """How many pairs were done now, how many were there already, and (name, why) of those that failed.

    faults: (name, band, fault, whether it was dropped) of what a band monitor found in pairs that were done.
    removed: results of other names that were removed, since they were made otherwise.
    """

    done: int = 0
    there: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)
    faults: list[FoundFault] = field(default_factory=list)
    removed: int = 0


def source_folder(files: Sequence[PairFiles | Listed], band: str) -> str | None:
    """The absolute folder that all images of a band lie in, at any depth; None where there are none."""
    given = [(path, file.name) for file in files if (path := getattr(file, band)) is not None]
    if not given:
        return None
    path, name = given[0]
    # In folders, the name of a pair is the place of its images in them; of two single files, it need not be.
    below = name.count("/")
    return str(path.absolute().parents[below])


def files_of(out: Path, command: Command, name: str) -> list[Path]:
    """What a pair's result consists of; the first says that it is done. Raises PairError for a bad name."""
    if command == "fuse":
        return [place_of(out, name, ".png")]
    return [place_of(out / kind, name, ".png") for kind in _PREDICTED]


def read_manifest(out: Path) -> Manifest | None:
    """What made the results of a folder; None where it does not say. Raises OptionError for a damaged one."""
    path = out / MANIFEST_NAME
    if not path.is_file():
        return None
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))["made_by"]
        return Manifest(**check_types("made_by", types_of(Manifest), fields))
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RecursionError,
        CrossbandError,
    ) as error:
        raise OptionError(
            f"{path} does not say what made the results beside it ({type(error).__name__}); choose another "
            "folder, or replace them with --overwrite"
        ) from error


def read_results(out: Path) -> dict[str, Inputs]:
    """The names of the results that are the folder's own, and what each was made of.

    A line that is damaged, or was cut off when its writer was killed, counts for nothing.
    """
    try:
        text = (out / RESULTS_NAME).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    results = {}
    for row in csv.reader(io.StringIO(text.replace("\0", ""))):
        try:
            name = checked_name(plain_cell(row[0])) if row else ""
        except PairError:
            continue
        if len(row) == len(_COLUMNS) and all(not cell or cell.isdecimal() for cell in row[1:]):
            results[name] = tuple(row[1:])
    return results


def read_faults(out: Path) -> list[FoundFault]:
    """What band monitors found in the results of a folder; a damaged line counts for nothing."""
    try:
        text = (out / FAULTS_NAME).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return [
        (plain_cell(name), band, fault, dropped == "True")
        for name, band, fault, dropped in (row for row in csv.reader(io.StringIO(text)) if len(row) == 4)
        if band in BANDS and fault in FAULTS
    ]


class ResultFolder:
    """A held folder, while results are written into it. run: the folder or the name of what makes them."""

    def __init__(
        self, out: Path, manifest: Manifest, run: str, files: Sequence[PairFiles | Listed], resume: bool
    ):
        self.out, self.manifest, self.run, self.resume = out, manifest, run, resume
        # Before an image is read: one that is edited meanwhile counts as another one later.
        self.inputs = {file.name: inputs_of(file) for file in files}
        self.outcome = Outcome()
        self._results: dict[str, Inputs] = {}
        self._earlier_faults: list[FoundFault] = []
        # Those of ours that are made anew.
        self._earlier: set[str] = set()
        self._begun = False

    def prepare(self, overwrite: bool) -> None:
        """Make room for results, or say why not.

        overwrite: take a folder of results that were made otherwise, which are removed, whatever their names.
        Results of these names of which nobody knows are removed as well; other files stay.

        Raises OptionError where such results are there and are not to be overwritten.
        """
        self._check_alike() if not overwrite else self._clear_unlike()
        remove_leftovers(*{path.parent for name in self.inputs for path in self._files(name)})
        # What is made anew is not there until it is made.
        waiting = set(self.inputs) if not self.resume else {n for n in self.inputs if not self.is_there(n)}
        self._earlier = waiting & set(self._results)
        self._results = {name: made for name, made in self._results.items() if name not in waiting}
        self.outcome.there = len(self.inputs) - len(waiting)
        self._earlier_faults = [fault for fault in read_faults(self.out) if fault[0] in self._results]

    def is_there(self, name: str) -> bool:
        """Whether the result of a pair is there, made of the images as they are."""
        return self._results.get(name) == self.inputs[name] and self._files(name)[0].is_file()

    def begin(self) -> None:
        """Before the first result is written, so that none is ever without word of what made it."""
        if not self._begun:
            self._begun = True
            self.keep(finished=False)

    def done(self, name: str) -> None:
        """A result has been written whole."""
        self.outcome.done += 1
        self._results[name] = self.inputs[name]
        # One line each: the whole list for every result would take longer than the results.
        line = csv_text(_COLUMNS, [_row(name, self.inputs[name])]).splitlines(keepends=True)[1]
        path = self.out / RESULTS_NAME
        try:
            with open(path, "a", encoding="utf-8", newline="") as file:
                file.write(line)
        except OSError as error:
            raise UnwritableError(path, error.strerror or str(error)) from error

    def failed(self, name: str) -> None:
        """A pair could not be used: its earlier result, of other images, does not pass for one of these."""
        if name in self._earlier:
            for path in self._files(name):
                _remove(path)

    def keep(self, finished: bool) -> None:
        """Write what is known of the results as they are."""
        outcome = self.outcome
        counts = {"done": outcome.done, "there_already": outcome.there, "failed": len(outcome.failed)}
        document = {
            "made_by": asdict(self.manifest),
            "run": self.run,
            "state": "finished" if finished else "unfinished",
            "pairs": len(self.inputs),
            "counts": counts,
            "crossband": __version__,
        }
        write_text(self.out / MANIFEST_NAME, json.dumps(document, indent=2) + "\n")
        rows = [_row(name, made) for name, made in sorted(self._results.items())]
        write_text(self.out / RESULTS_NAME, csv_text(_COLUMNS, rows))
        failures = self.out / FAILURES_NAME
        if outcome.failed:
            told = [{"pair": name, "error": why} for name, why in outcome.failed]
            write_text(failures, csv_text(("pair", "error"), told))
        else:
            failures.unlink(missing_ok=True)
        faults = sorted({*self._earlier_faults, *outcome.faults}) if self.manifest.monitor else []
        if faults:
            listed = [dict(zip(_FAULT_COLUMNS, map(str, fault), strict=True)) for fault in faults]
            write_text(self.out / FAULTS_NAME, csv_text(_FAULT_COLUMNS, listed))
        else:
            (self.out / FAULTS_NAME).unlink(missing_ok=True)

    def _files(self, name: str) -> list[Path]:
        return files_of(self.out, self.manifest.command, name)

    def _clear_unlike(self) -> None:
        """Remove results that were made otherwise: none may pass for ours where a pair fails."""
        try:
            before = read_manifest(self.out)
        except OptionError:
            before = None
        theirs = read_results(self.out)
        if before == self.manifest:
            self._results = theirs
            return
        commands: tuple[Command, ...] = ("predict", "fuse") if before is None else (before.command,)
        for name in theirs:
            gone = [_remove(path) for command in commands for path in files_of(self.out, command, name)]
            self.outcome.removed += name not in self.inputs and any(gone)
        for name in self.inputs:
            for path in self._files(name):
                _remove(path)

    def _check_alike(self) -> None:
        """Raise OptionError where results that were made otherwise, or nobody knows how, would meet ours."""
        before = read_manifest(self.out)
        self._results = read_results(self.out)
        if before is None:
            if any(self._files(name)[0].is_file() for name in self.inputs):
                raise OptionError(
                    f"{self.out} holds results of these names and does not say what made them; choose "
                    "another folder, or replace them with --overwrite"
                )
            return
        ours, theirs = asdict(self.manifest), asdict(before)
        compared = (one.name for one in fields(Manifest) if one.compare)
        differing = next((name for name in compared if ours[name] != theirs[name]), None)
        if differing is None:
            return
        raise OptionError(
            f"{self.out} holds results of {theirs['command']} with {_spoken(differing, theirs)}, not "
            f"{_spoken(differing, ours).removeprefix(_title(differing))}; choose another folder, or replace "
            "them with --overwrite"
        )


def _title(field: str) -> str:
    return f"{field.replace('_', ' ')} images of " if field in BANDS else f"{field.replace('_', ' ')} "


def _in_words(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(value)
    return "none" if value is None else str(value)


def _spoken(field: str, fields: dict[str, Any]) -> str:
    value = _in_words(fields[field])
    return _title(field) + (value if value.isprintable() and len(value) < 500 else quoted(value))


def inputs_of(file: PairFiles | Listed) -> Inputs:
    """What a result is made of. A file that is not there is told of when it is read."""
    cells = []
    for band in BANDS:
        path = getattr(file, band)
        try:
            there = None if path is None else path.stat()
        except OSError:
            there = None
        cells += ["", ""] if there is None else [str(there.st_size), str(there.st_mtime_ns)]
    return tuple(cells)


def _row(name: str, made: Inputs) -> dict[str, object]:
    return dict(zip(_COLUMNS, (name, *made), strict=True))


def _remove(path: Path) -> bool:
    """Whether there was such a file. Raises OptionError if it cannot be removed."""
    try:
        path.unlink()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise OptionError(f"cannot remove {path}: {error.strerror}; choose another place") from error
    return True
