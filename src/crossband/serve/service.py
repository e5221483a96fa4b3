"""What answers: images in, labels, pictures and shares out, one request at a time, within limits.

It knows nothing of the web, so that a page, an HTTP interface and a test use it alike.
"""

from __future__ import annotations

import filecmp
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor, TimeoutError
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from crossband.errors import PairError
from crossband.pairs.auto_scaling import AUTO
from crossband.pairs.base import PairFiles
from crossband.pairs.given import given_images
from crossband.pairs.headers import image_size
from crossband.pairs.image_files import IMAGE_SUFFIXES
from crossband.pairs.names import checked_name
from crossband.predicting import fuse_files, predict_files
from crossband.prediction import Prediction
from crossband.predictor import Predictor
from crossband.serve.answer import Answer
from crossband.serve.archive import write_archive
from crossband.serve.limits import Limits
from crossband.serve.refusing import Refused, plain_name, refusing, shown_name
from crossband.version import __version__
from crossband.words import BANDS, Band, Bands

Result = TypeVar("Result")


@dataclass(frozen=True)
class Upload:
    """An image that was sent. name: what its sender calls it. path: where it lies here."""

    name: str
    path: Path


@dataclass(frozen=True)
class Batch:
    """done: pairs with a result in the archive. failed: name of each other pair, and why."""

    done: int
    failed: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class _Placed:
    """Where an image is read from. pair: what it shares with the other image of its pair."""

    pair: str
    band: Band
    path: Path
    upload: Upload


class Service:
    """Answers requests with one or more predictors, each under a name.

    Requests wait for each other, and are refused when their time is over; what has begun is brought to its
    end all the same, since nothing can break off a network halfway. An infrared scaling that is "auto" is
    settled by the images of each request alone, so that nobody's images decide how another's are read.

    Every method that answers raises `Refused`, whatever is wrong: one line, without a path of this machine.
    """

    def __init__(self, predictors: Mapping[str, Predictor], limits: Limits | None = None):
        self.predictors = dict(predictors)
        self.limits = limits or Limits()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="answers")
        self._folder = tempfile.TemporaryDirectory(prefix="crossband-serve-", ignore_cleanup_errors=True)

    @property
    def names(self) -> list[str]:
        """Of the predictors; the first answers where a request names none."""
        return list(self.predictors)

    def close(self) -> None:
        """Take no more requests, leave those that wait, and remove what they sent."""
        self._worker.shutdown(wait=True, cancel_futures=True)
        self._folder.cleanup()

    def described(self) -> dict[str, Any]:
        """The systems and the limits, as JSON holds them."""
        return {
            "crossband": __version__,
            "systems": [_described(name, predictor) for name, predictor in self.predictors.items()],
            "limits": {
                "megabytes": self.limits.megabytes,
                "megapixels": self.limits.megapixels,
                "pairs": self.limits.pairs,
                "seconds": self.limits.seconds,
            },
        }

    def answer(
        self,
        visible: Upload | None = None,
        infrared: Upload | None = None,
        *,
        system: str | None = None,
        compare: bool = False,
    ) -> Answer:
        """What a system sees in one pair, of which either image may be missing.

        compare: also on each band alone, where both are given and the system runs on it.
        """
        given = {band: one for band, one in zip(BANDS, (visible, infrared), strict=True) if one is not None}
        if not given:
            raise Refused("no image was sent; send a visible one, an infrared one, or both")
        predictor = self._predictor(system)
        with self._scratch() as root:
            paths = {band: root / f"{band}{_suffix(one)}" for band, one in given.items()}
            names = {paths[band]: shown_name(one.name) for band, one in given.items()}
            with refusing(names):
                self._place([_Placed("", band, paths[band], one) for band, one in given.items()])
                name = Path(shown_name(next(iter(given.values())).name)).stem
                files = PairFiles(name, paths.get("visible"), paths.get("infrared"))
                return self._within_time(lambda out_of_time: _answer(predictor, files, compare, out_of_time))

    def batch(
        self, visible: Sequence[Upload], infrared: Sequence[Upload], out: Path, *, system: str | None = None
    ) -> Batch:
        """Answer many pairs into one zip archive. Images of one name without its suffix are a pair.

        out: the archive, which is written whole. It holds what ``crossband predict`` or ``fuse`` writes, the
        area shares of the classes as ``shares.csv``, and ``failures.csv`` where pairs could not be used; it
        is refused where none could.
        """
        given: dict[Band, Sequence[Upload]] = {"visible": visible, "infrared": infrared}
        if not (visible or infrared):
            raise Refused("no image was sent; send visible ones, infrared ones, or both")
        most = self.limits.pairs
        if max(len(visible), len(infrared)) > most:
            raise _too_many(most)
        predictor = self._predictor(system)
        with self._scratch() as root:
            names: dict[Path, str] = {}
            with refusing(names):
                placed = [
                    one for band, images in given.items() if images for one in _in_folder(root, band, images)
                ]
                names |= {one.path: shown_name(one.upload.name) for one in placed}
                self._place(placed)
                folders = {band: root / band if images else None for band, images in given.items()}
                pairs = given_images(folders["visible"], folders["infrared"]).pairs
                if len(pairs) > most:
                    raise _too_many(most)
                write = predict_files if predictor.system.segments else fuse_files

                def work(out_of_time: Callable[[int, int], None]) -> Batch:
                    _unsettle(predictor)
                    outcome = write(
                        predictor, pairs, root / "out", workers=1, on_error="skip", progress=out_of_time
                    )
                    if not outcome.done:
                        raise PairError(f"no pair could be used, the first: {outcome.failed[0][1]}")
                    write_archive(root / "out", out, predictor.card.classes, names)
                    return Batch(outcome.done, outcome.failed)

                return self._within_time(work)

    def _predictor(self, system: str | None) -> Predictor:
        name = self.names[0] if system is None else system
        if name not in self.predictors:
            raise Refused(f"no system of that name is served; there are {', '.join(self.names)}", status=404)
        return self.predictors[name]

    @contextmanager
    def _scratch(self) -> Iterator[Path]:
        """A folder for one request."""
        root = Path(tempfile.mkdtemp(dir=self._folder.name))
        try:
            yield root
        finally:
            # Behind what is still at work in it, should its time be over.
            self._worker.submit(shutil.rmtree, root, ignore_errors=True)

    def _place(self, images: Sequence[_Placed]) -> None:
        """Lay images where they are read from, if their size is within the limits.

        A file that is sent as both bands of a pair is one file, which holds both.
        """
        limits = self.limits
        first: dict[str, Path] = {}
        for one in images:
            name, sent = shown_name(one.upload.name), one.upload.path
            size = sent.stat().st_size
            if size > limits.file_bytes:
                raise Refused(
                    f"{name}: {size / 1e6:.1f} MB, and {limits.megabytes:g} MB are taken at most",
                    status=413,
                )
            if size == 0:
                raise Refused(f"{name}: the file is empty; send it again")
            other = first.setdefault(one.pair, sent)
            same = other != sent and filecmp.cmp(other, sent, shallow=False)
            one.path.symlink_to((other if same else sent).absolute())
            try:
                height, width = image_size(one.path, infrared=one.band == "infrared")
            except PairError:
                # Its turn comes when it is read: of many, the others are answered all the same.
                continue
            if height * width > limits.megapixels * 1e6:
                raise Refused(
                    f"{name}: {height} x {width} pixels (height x width), and no more than "
                    f"{limits.megapixels:g} megapixels are taken; make it smaller",
                    status=413,
                )

    def _within_time(self, work: Callable[[Callable[[int, int], None]], Result]) -> Result:
        """Do some work when it is its turn. work: is given what raises `Refused` when its time is over."""
        end = time.monotonic() + self.limits.seconds
        too_late = Refused(
            f"not answered within {self.limits.seconds:g} s; send less or smaller images, or try again later",
            status=503,
        )

        def out_of_time(done: int, total: int) -> None:
            if time.monotonic() > end and done < total:
                raise too_late

        future = self._worker.submit(work, out_of_time)
        try:
            return future.result(max(end - time.monotonic(), 0))
        except (TimeoutError, CancelledError) as error:
            future.cancel()
            raise too_late from error


def _answer(
    predictor: Predictor, files: PairFiles, compare: bool, out_of_time: Callable[[int, int], None]
) -> Answer:
    _unsettle(predictor)
    (whole,) = predictor.predict_many([files], workers=1)
    both = files.visible is not None and files.infrared is not None
    alone = [band for band in BANDS if band in predictor.system.supports] if compare and both else []
    others: dict[Bands, Prediction] = {}
    for number, band in enumerate(alone):
        out_of_time(number, len(alone))
        others[band] = predictor.predict(whole.pair.only(band))
    return Answer(whole, others, None if predictor.scaling is None else str(predictor.scaling))


def _unsettle(predictor: Predictor) -> None:
    """Let the images of this request settle an "auto" scaling, and not those of an earlier one."""
    if predictor.card.infrared_scaling == AUTO:
        predictor.scaling = None


def _described(name: str, predictor: Predictor) -> dict[str, Any]:
    classes, system = predictor.card.classes, predictor.system
    listed = None
    if classes is not None:
        listed = [
            {"id": number, "name": one, "colour": list(colour)}
            for number, (one, colour) in enumerate(zip(classes.names, classes.palette, strict=True))
        ]
    return {
        "name": name,
        "system": system.name,
        "variant": predictor.card.variant,
        "segments": system.segments,
        "fuses": system.fuses,
        "bands": dict(system.supports),
        "classes": listed,
    }


def _suffix(upload: Upload) -> str:
    """What a file is called says which reader is asked; its content decides."""
    suffix = Path(upload.name).suffix.lower()
    if suffix not in IMAGE_SUFFIXES:
        raise Refused(
            f"{shown_name(upload.name)}: no image that can be read; send one of {', '.join(IMAGE_SUFFIXES)}"
        )
    return suffix


def _in_folder(root: Path, band: Band, images: Sequence[Upload]) -> list[_Placed]:
    """Where images of a band are laid, under their names."""
    (root / band).mkdir()
    placed: dict[str, _Placed] = {}
    for one in images:
        stem = checked_name(Path(plain_name(one.name)).stem)
        if stem in placed:
            raise Refused(f"{shown_name(one.name)}: two {band} images of one name; rename one of them")
        placed[stem] = _Placed(stem, band, root / band / f"{stem}{_suffix(one)}", one)
    return list(placed.values())


def _too_many(most: int) -> Refused:
    return Refused(f"no more than {most} pairs are taken at once; send fewer", status=413)
