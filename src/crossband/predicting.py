"""Folders of images in, folders of labels or of fused pictures out, with word of what made them."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from crossband.batching import check_batching
from crossband.display import Display
from crossband.errors import CrossbandError, OptionError, PairError
from crossband.locks import folder_lock
from crossband.option_types import check_arguments
from crossband.pairs.base import Classes, Listed, PairFiles, bands_of
from crossband.pairs.given import GivenSource
from crossband.pairs.names import checked_name, place_of
from crossband.pairs.writing import write_image, write_label, write_text
from crossband.pictures import LEGEND_NAME, legend, stretched, to_uint8
from crossband.prediction import Prediction
from crossband.predictor import Predictor
from crossband.result_folder import (
    CLASSES_NAME,
    Command,
    FoundFault,
    Manifest,
    Outcome,
    ResultFolder,
    source_folder,
)
from crossband.runtime.exported import precision_of, warn_of_rig
from crossband.words import BANDS, IGNORE_INDEX, OnError

Progress = Callable[[int, int], None]


def predict_files(
    predictor: Predictor,
    files: Sequence[PairFiles | Listed],
    out: Path,
    *,
    workers: int = 2,
    batch_size: int = 1,
    progress: Progress | None = None,
    on_error: OnError = "stop",
    resume: bool = False,
    overwrite: bool = False,
    display: Display | None = None,
    source: GivenSource | None = None,
) -> Outcome:
    """Segment pairs of files into ``out/{label,overlay,confidence}/NAME.png``.

    label: indexed PNG with the classes' palette. overlay: colours over the image. confidence: grey PNG,
    255 is certain. What the predictor's band monitor found stands in ``faults.csv``. A system that fuses as
    well leaves its pictures in ``fused/``, one that estimates how far a band can be trusted leaves grey PNGs
    in ``reliability-BAND/``, 255 is full trust. ``classes.json`` and ``legend.png`` say what the ids mean.
    Files are read ahead in ``workers`` threads, and ``batch_size`` pairs of one size that follow each other
    are run at once.
    progress: called with (done, in all).

    on_error: "skip" goes on after a pair that cannot be used, and tells of it in ``failures.csv``; "stop"
    raises. resume: leave out pairs whose results are there, made alike and of the images as they are.
    overwrite: take a folder whose results were made otherwise, which are removed. display: how
    infrared is shown below the overlay where there is no visible image, with a bar of its values. source:
    where the pairs come from, if not from two folders, for the manifest.

    Raises OptionError if the system only fuses, if ``out`` holds image pairs or results that were made
    otherwise, or if it cannot be written; PairError for the first pair that cannot be used, when those before
    it have been written, if on_error is "stop".
    """
    if not predictor.system.segments:
        raise OptionError(f"{predictor.system.name} only fuses; use `crossband fuse`")
    if any((out / band).is_dir() for band in BANDS):
        raise OptionError(f"{out} holds image pairs, whose labels would be replaced; choose another folder")

    def begin() -> None:
        if predictor.card.classes is not None:
            _write_classes(out, predictor.card.classes)

    def write(result: Prediction) -> None:
        assert result.labels is not None
        assert result.confidence is not None
        assert result.classes is not None
        name = f"{checked_name(result.pair.name)}.png"
        overlay = np.asarray(result.overlay(display=display))
        if display is not None and result.bands == "infrared" and predictor.scaling is not None:
            overlay = display.with_bar(overlay, predictor.scaling)
        else:
            overlay = _shown(result, overlay)
        write_image(out / "overlay" / name, overlay)
        write_image(out / "confidence" / name, to_uint8(result.confidence))
        if result.fused is not None:
            write_image(out / "fused" / name, _shown(result, result.fused))
        for band, weight in result.reliability.items():
            write_image(out / f"reliability-{band}" / name, to_uint8(weight))
        # Last, since a label says that its pair is done.
        write_label(out / "label" / name, result.labels, result.classes.palette)

    return _run(
        predictor,
        files,
        out,
        _manifest("predict", predictor, files, source, display=display),
        write,
        begin,
        _Choices(workers, batch_size, progress, on_error, resume, overwrite),
    )


def fuse_files(
    predictor: Predictor,
    files: Sequence[PairFiles | Listed],
    out: Path,
    *,
    stretch: bool = False,
    workers: int = 2,
    batch_size: int = 1,
    progress: Progress | None = None,
    on_error: OnError = "stop",
    resume: bool = False,
    overwrite: bool = False,
    source: GivenSource | None = None,
) -> Outcome:
    """Fuse pairs of files into colour pictures ``out/NAME.png`` of the size of the inputs.

    stretch: spread the values of each picture over the whole range (`stretched`); fusion metrics of such
    pictures are not comparable with those of others. The rest is as in `predict_files`.

    Raises OptionError if the system does not fuse, if ``out`` is a folder that images are read from, holds
    pictures that were made otherwise or cannot be written; PairError as `predict_files` does.
    """
    if not predictor.system.fuses:
        from crossband.systems import list_systems, system_class

        able = ", ".join(name for name in list_systems() if system_class(name).fuses)
        raise OptionError(f"{predictor.system.name} does not fuse; systems that do: {able}")
    sources = {path.resolve() for file in files for path in (file.visible, file.infrared) if path}
    if any((out / f"{file.name}.png").resolve() in sources for file in files):
        raise OptionError(
            f"{out} holds the images that are read, which would be replaced; choose another folder"
        )

    def write(result: Prediction) -> None:
        assert result.fused is not None
        fused = stretched(result.fused, result.pair.valid) if stretch else result.fused
        write_image(place_of(out, result.pair.name, ".png"), _shown(result, fused))

    return _run(
        predictor,
        files,
        out,
        _manifest("fuse", predictor, files, source, stretch=stretch),
        write,
        lambda: None,
        _Choices(workers, batch_size, progress, on_error, resume, overwrite),
    )


@dataclass(frozen=True)
class _Choices:
    workers: int
    batch_size: int
    progress: Progress | None
    on_error: OnError
    resume: bool
    overwrite: bool


def _manifest(
    command: Command,
    predictor: Predictor,
    files: Sequence[PairFiles | Listed],
    source: GivenSource | None,
    *,
    stretch: bool = False,
    display: Display | None = None,
) -> Manifest:
    if predictor.scaling is None:
        predictor.examine(files)
    folders = {band: None if source else source_folder(files, band) for band in BANDS}
    used = [band for band in BANDS if predictor.bands in (None, "both", band)]
    there = {band: (band in used and any(file.has(band) for file in files)) or None for band in BANDS}
    listed = next((file.pairs for file in files if isinstance(file, Listed)), None)
    registration = predictor.registration if listed is None else listed.registration
    if listed is not None:
        # Of a predictor's own rig it has told.
        warn_of_rig(predictor.system, registration)
    return Manifest(
        command=command,
        **facts_of(predictor),
        bands=bands_of(there["visible"], there["infrared"]) if any(there.values()) else "none",
        visible=folders["visible"],
        infrared=folders["infrared"],
        stretch=stretch,
        rig=None if registration is None else str(registration),
        display=None if display is None else str(display),
        source=None if source is None else source.source,
        splits=None if source is None else source.splits,
    )


def facts_of(predictor: Predictor) -> dict[str, Any]:
    """What a manifest says of a predictor itself, as fields of `Manifest`."""
    return {
        "system": predictor.system.name,
        "variant": predictor.card.variant,
        "weights_sha256": predictor.card.weights_sha256,
        "infrared_scaling": None if predictor.scaling is None else str(predictor.scaling),
        "false_colour": str(predictor.false_colour),
        "precision": precision_of(predictor.system, predictor.precision),
        "tiles": str(predictor.tiling or "none"),
        "monitor": predictor.monitor is not None,
    }


def _write_classes(out: Path, classes: Classes) -> None:
    """What the ids of the labels mean, for programs and for people."""
    declared = [
        {"id": number, "name": name, "colour": list(colour)}
        for number, (name, colour) in enumerate(zip(classes.names, classes.palette, strict=True))
    ]
    document = {"classes": declared, "ignored": IGNORE_INDEX}
    write_text(out / CLASSES_NAME, json.dumps(document, indent=2) + "\n")
    write_image(out / LEGEND_NAME, np.asarray(legend(classes)))


def _shown(result: Prediction, picture: np.ndarray) -> np.ndarray:
    """A picture, uint8 (H, W, 3), transparent where only one camera of a rig saw something."""
    if result.pair.valid is None:
        return picture
    return np.dstack([picture, np.where(result.pair.valid, 255, 0).astype(np.uint8)])


def _run(
    predictor: Predictor,
    files: Sequence[PairFiles | Listed],
    out: Path,
    manifest: Manifest,
    write: Callable[[Prediction], None],
    begin: Callable[[], None],
    choices: _Choices,
) -> Outcome:
    """Predict and write pair by pair, in a folder that nobody else writes to meanwhile."""
    check_batching(choices.batch_size, choices.workers)
    check_arguments({"on_error": OnError}, {"on_error": choices.on_error})
    with folder_lock(out):
        folder = ResultFolder(out, manifest, predictor.origin, files, choices.resume)
        folder.prepare(choices.overwrite)
        outcome = folder.outcome
        waiting = [file for file in files if not (choices.resume and folder.is_there(file.name))]
        report = choices.progress or (lambda done, total: None)
        report(outcome.there, len(files))

        def begun() -> None:
            folder.begin()
            begin()

        answers = predictor.answers(waiting, batch_size=choices.batch_size, workers=choices.workers)
        try:
            written = _written(answers, write, begun, choices)
            for number, (file, failure, faults) in enumerate(written, start=1):
                if failure is None:
                    outcome.faults += faults
                    folder.done(file.name)
                else:
                    folder.failed(file.name)
                    if choices.on_error == "stop":
                        raise failure
                    outcome.failed.append((file.name, str(failure)))
                report(outcome.there + number, len(files))
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                error.add_note("go on with the same command and --resume")
            if outcome.done:
                # Should this fail as well, the manifest of the beginning says that it is unfinished.
                with suppress(CrossbandError):
                    folder.keep(finished=False)
            raise
        folder.keep(finished=True)
        return outcome


def _written(
    answers: Iterable[tuple[PairFiles | Listed, Prediction | PairError]],
    write: Callable[[Prediction], None],
    begin: Callable[[], None],
    choices: _Choices,
) -> Iterator[tuple[PairFiles | Listed, PairError | None, list[FoundFault]]]:
    """Write results while the next ones are computed: each file, in order, with what went wrong if anything,
    and what a band monitor found.

    begin: called before the first result is written, so that none is ever without word of what made it.
    No more than a batch of results waits to be written.
    """

    def attempt(result: Prediction) -> PairError | None:
        try:
            write(result)
        except PairError as error:
            return error
        return None

    begun = False
    with ThreadPoolExecutor(1) as pool:
        waiting: deque[tuple[PairFiles | Listed, Future[PairError | None], list[FoundFault]]] = deque()
        try:
            for file, result in answers:
                if not isinstance(result, PairError):
                    if not begun:
                        begin()
                        begun = True
                    waiting.append((file, pool.submit(attempt, result), _found(result)))
                # A pair that failed is told of when those before it are written, and before any after it is.
                while len(waiting) > (0 if isinstance(result, PairError) else choices.batch_size):
                    done, future, faults = waiting.popleft()
                    yield done, future.result(), faults
                if isinstance(result, PairError):
                    yield file, result, []
        except (Exception, KeyboardInterrupt):
            # What has been computed is written and told of, whatever ended the rest.
            yield from ((done, future.result(), faults) for done, future, faults in waiting)
            raise
        yield from ((done, future.result(), faults) for done, future, faults in waiting)


def _found(result: Prediction) -> list[FoundFault]:
    used = BANDS if result.bands == "both" else (result.bands,)
    return [(result.pair.name, band, fault, band not in used) for band, fault in result.faults.items()]
