"""Folders of images in, folders of labels or of fused pictures out, with word of what made them.

A folder of results holds ``manifest.json``, so that results of two kinds are never mixed unseen, and
``failures.csv`` where pairs could not be used.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np

from crossband.errors import OptionError, PairError
from crossband.locks import folder_lock
from crossband.pairs.base import Pair, PairFiles
from crossband.pairs.batch import bands_of
from crossband.pairs.names import checked_name, place_of
from crossband.pairs.writing import csv_text, write_image, write_label, write_text
from crossband.pictures import stretched, to_uint8
from crossband.predictor import Prediction, Predictor
from crossband.systems import list_systems, system_class
from crossband.version import __version__
from crossband.words import BANDS, OnError

MANIFEST_NAME = "manifest.json"
FAILURES_NAME = "failures.csv"
Progress = Callable[[int, int], None]
Command = Literal["predict", "fuse"]


@dataclass(frozen=True)
class Manifest:
    """What made the results of a folder. Results that agree in all of it are alike.

    command: "predict" or "fuse". system: its name. weights_sha256: of the run's weights, None for a system
    without. bands: those that were given. infrared_scaling, false_colour: how infrared was read; None before
    a first image settled the scaling. stretch: whether each picture was spread over the whole range.
    """

    command: Command
    system: str
    weights_sha256: str | None
    bands: str
    infrared_scaling: str | None
    false_colour: str
    stretch: bool


@dataclass
class Outcome:
    """How many pairs were done now, how many were there already, and (name, why) of those that failed."""

    done: int = 0
    there: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)


def predict_files(
    predictor: Predictor,
    files: list[PairFiles],
    out: Path,
    *,
    workers: int = 2,
    progress: Progress | None = None,
    on_error: OnError = "stop",
    resume: bool = False,
    overwrite: bool = False,
) -> Outcome:
    """Segment pairs of files into ``out/{label,overlay,confidence}/NAME.png``.

    label: indexed PNG with the classes' palette. overlay: colours over the image. confidence: grey PNG,
    255 is certain. A system that fuses as well leaves its pictures in ``fused/``, one that estimates how far
    a band can be trusted leaves grey PNGs in ``reliability-BAND/``, 255 is full trust. Files are read ahead
    in ``workers`` threads. progress: called with (done, in all).

    on_error: "skip" goes on after a pair that cannot be used, and tells of it in ``failures.csv``; "stop"
    raises. resume: leave out pairs whose results are there, made alike. overwrite: take a folder whose
    results were made otherwise; they are replaced where names agree.

    Raises OptionError if the system only fuses, if ``out`` holds image pairs or results that were made
    otherwise, or if it cannot be written; PairError for the first pair that cannot be used, when those before
    it have been written, if on_error is "stop".
    """
    if not predictor.system.segments:
        raise OptionError(f"{predictor.system.name} only fuses; use `crossband fuse`")
    if any((out / band).is_dir() for band in BANDS):
        raise OptionError(f"{out} holds image pairs, whose labels would be replaced; choose another folder")

    def write(result: Prediction) -> None:
        assert result.labels is not None
        assert result.confidence is not None
        assert result.classes is not None
        name = f"{checked_name(result.pair.name)}.png"
        write_image(out / "overlay" / name, np.asarray(result.overlay()))
        write_image(out / "confidence" / name, to_uint8(result.confidence))
        if result.fused is not None:
            write_image(out / "fused" / name, result.fused)
        for band, weight in result.reliability.items():
            write_image(out / f"reliability-{band}" / name, to_uint8(weight))
        # Last, since a label says that its pair is done.
        write_label(out / "label" / name, result.labels, result.classes.palette)

    return _run(
        predictor,
        files,
        out,
        _manifest("predict", predictor, files),
        write,
        lambda name: out / "label" / f"{name}.png",
        _Choices(workers, progress, on_error, resume, overwrite),
    )


def fuse_files(
    predictor: Predictor,
    files: list[PairFiles],
    out: Path,
    *,
    stretch: bool = False,
    workers: int = 2,
    progress: Progress | None = None,
    on_error: OnError = "stop",
    resume: bool = False,
    overwrite: bool = False,
) -> Outcome:
    """Fuse pairs of files into colour pictures ``out/NAME.png`` of the size of the inputs.

    stretch: spread the values of each picture over the whole range (`stretched`); fusion metrics of such
    pictures are not comparable with those of others. The rest is as in `predict_files`.

    Raises OptionError if the system does not fuse, if ``out`` is a folder that images are read from, holds
    pictures that were made otherwise or cannot be written; PairError as `predict_files` does.
    """
    if not predictor.system.fuses:
        able = ", ".join(name for name in list_systems() if system_class(name).fuses)
        raise OptionError(f"{predictor.system.name} does not fuse; systems that do: {able}")
    sources = {path.resolve() for file in files for path in (file.visible, file.infrared) if path}
    if any((out / f"{file.name}.png").resolve() in sources for file in files):
        raise OptionError(
            f"{out} holds the images that are read, which would be replaced; choose another folder"
        )

    def write(result: Prediction) -> None:
        assert result.fused is not None
        fused = stretched(result.fused) if stretch else result.fused
        write_image(place_of(out, result.pair.name, ".png"), fused)

    return _run(
        predictor,
        files,
        out,
        replace(_manifest("fuse", predictor, files), stretch=stretch),
        write,
        lambda name: out / f"{name}.png",
        _Choices(workers, progress, on_error, resume, overwrite),
    )


def read_manifest(out: Path) -> Manifest | None:
    """What made the results of a folder; None where it does not say. Raises OptionError for a damaged one."""
    path = out / MANIFEST_NAME
    if not path.is_file():
        return None
    try:
        return Manifest(**json.loads(path.read_text(encoding="utf-8"))["made_by"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise OptionError(
            f"{path} does not say what made the results beside it ({type(error).__name__}); choose another "
            "folder, or replace them with --overwrite"
        ) from error


@dataclass(frozen=True)
class _Choices:
    workers: int
    progress: Progress | None
    on_error: OnError
    resume: bool
    overwrite: bool


def _manifest(
    command: Literal["predict", "fuse"], predictor: Predictor, files: Sequence[PairFiles]
) -> Manifest:
    if predictor.scaling is None:
        predictor.examine(list(files))
    given = {band: any(getattr(file, band) is not None for file in files) or None for band in BANDS}
    return Manifest(
        command=command,
        system=predictor.system.name,
        weights_sha256=predictor.card.weights_sha256,
        bands=bands_of(given["visible"], given["infrared"]) if any(given.values()) else "none",
        infrared_scaling=None if predictor.scaling is None else str(predictor.scaling),
        false_colour=str(predictor.false_colour),
        stretch=False,
    )


def _run(
    predictor: Predictor,
    files: Sequence[PairFiles],
    out: Path,
    manifest: Manifest,
    write: Callable[[Prediction], None],
    place: Callable[[str], Path],
    choices: _Choices,
) -> Outcome:
    """Predict and write pair by pair, in a folder that nobody else writes to meanwhile."""
    if choices.workers < 0:
        raise OptionError(f"the number of workers must be 0 or more, not {choices.workers}")
    with folder_lock(out):
        places = [place(file.name) for file in files]
        if choices.overwrite:
            _clear_unlike(out, manifest, places)
        else:
            _check_alike(out, manifest, places)
        outcome = Outcome()
        waiting = list(files)
        if choices.resume:
            waiting = [file for file in files if not place(file.name).is_file()]
            outcome.there = len(files) - len(waiting)
        report = choices.progress or (lambda done, total: None)
        report(outcome.there, len(files))
        for number, (file, pair) in enumerate(_read_ahead(waiting, predictor.read, choices.workers), start=1):
            try:
                if isinstance(pair, PairError):
                    raise pair
                result = predictor.predict(pair)
                if not outcome.done:
                    # Before the first result, so that none is ever without word of what made it.
                    _keep(out, manifest, outcome)
                write(result)
                outcome.done += 1
            except PairError as error:
                if choices.on_error == "stop":
                    raise
                outcome.failed.append((file.name, str(error)))
            report(outcome.there + number, len(files))
        _keep(out, manifest, outcome)
        return outcome


def _clear_unlike(out: Path, manifest: Manifest, places: Sequence[Path]) -> None:
    """Remove results of these names that were made otherwise, or nobody knows how.

    None of them may pass for one of ours where a pair fails, or where this run is interrupted and resumed.
    """
    try:
        before = read_manifest(out)
    except OptionError:
        before = None
    if before != manifest:
        for place in places:
            place.unlink(missing_ok=True)


def _check_alike(out: Path, manifest: Manifest, places: Sequence[Path]) -> None:
    """Raise OptionError where results that were made otherwise, or nobody knows how, would meet ours."""
    before = read_manifest(out)
    if before is None:
        if any(place.is_file() for place in places):
            raise OptionError(
                f"{out} holds results of these names and does not say what made them; choose another folder, "
                "or replace them with --overwrite"
            )
        return
    ours, theirs = asdict(manifest), asdict(before)
    differing = next((name for name in ours if ours[name] != theirs[name]), None)
    if differing is not None:
        raise OptionError(
            f"{out} holds results of {theirs['command']} with {differing.replace('_', ' ')} "
            f"{theirs[differing]}, not {ours[differing]}; choose another folder, or replace them with "
            "--overwrite"
        )


def _keep(out: Path, manifest: Manifest, outcome: Outcome) -> None:
    counts = {"done": outcome.done, "there_already": outcome.there, "failed": len(outcome.failed)}
    document = {"made_by": asdict(manifest), "counts": counts, "crossband": __version__}
    write_text(out / MANIFEST_NAME, json.dumps(document, indent=2) + "\n")
    failures = out / FAILURES_NAME
    if outcome.failed:
        rows = [{"pair": name, "error": why} for name, why in outcome.failed]
        write_text(failures, csv_text(("pair", "error"), rows))
    else:
        failures.unlink(missing_ok=True)


def _read_ahead(
    files: Sequence[PairFiles], read: Callable[[PairFiles], Pair], workers: int
) -> Iterator[tuple[PairFiles, Pair | PairError]]:
    """Read in threads, a few pairs ahead of the one in use, and give them in order; an error as a value."""

    def attempt(file: PairFiles) -> Pair | PairError:
        try:
            return read(file)
        except PairError as error:
            return error

    with ThreadPoolExecutor(max(workers, 1)) as pool:
        waiting: deque[tuple[PairFiles, Future[Pair | PairError]]] = deque()
        for file in files:
            waiting.append((file, pool.submit(attempt, file)))
            if len(waiting) > 2 * workers:
                ahead, future = waiting.popleft()
                yield ahead, future.result()
        while waiting:
            ahead, future = waiting.popleft()
            yield ahead, future.result()
