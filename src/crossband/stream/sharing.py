"""The newest moment of a stream in memory that other programs can read while it runs.

A file that is mapped into memory; below ``/dev/shm`` it is memory and nothing else. 64 bytes of header, in
the machine's byte order, then the picture, uint8 (height, width, 3), sRGB, then the labels, uint8 (height,
width).
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np

from crossband.errors import OptionError, PairError
from crossband.stream.stream import Moment
from crossband.words import BANDS, IGNORE_INDEX, Band

_MAGIC = b"CBSHARE1"
_HEADER = np.dtype(
    [
        ("magic", "S8"),
        # Odd while a moment is written: whoever read then reads again.
        ("version", "u8"),
        ("time", "i8"),
        ("height", "u4"),
        ("width", "u4"),
        ("result", "u1"),
        ("visible", "u1"),
        ("infrared", "u1"),
        ("rest", "u1", (29,)),
    ]
)
_TRIES = 1000


@dataclass(frozen=True)
class SharedMoment:
    """What a stream last said.

    number: of the moments so far. time: as of `Moment`. picture: uint8 (H, W, 3). labels: uint8 (H, W), all
    ``IGNORE_INDEX`` of a system without. on: whether each band is used. result: whether there was one.
    """

    number: int
    time: int
    picture: np.ndarray
    labels: np.ndarray
    on: dict[Band, bool]
    result: bool


class MomentSharer:
    """Puts each moment into a file that is mapped into memory, and removes it at the end.

    Raises OptionError for a path that is there already or cannot be written, and for a picture of another
    size than the first.
    """

    def __init__(self, path: Path):
        self.path = path
        self._size: tuple[int, int] | None = None
        if path.exists():
            raise OptionError(f"{path} is there already; give --share a new name")

    def __enter__(self) -> MomentSharer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._size is not None:
            self.path.unlink(missing_ok=True)

    def write(self, moment: Moment, picture: np.ndarray | None) -> None:
        """Replace the last moment. picture: what is shown of it; nothing is shared before there is one."""
        if picture is None:
            return
        if self._size is None:
            self._open((picture.shape[0], picture.shape[1]))
        if picture.shape[:2] != self._size:
            raise OptionError(
                f"{self.path}: a picture of another size than the first one's; leave --share out"
            )
        prediction = moment.prediction
        header = self._header[0]
        header["version"] += 1
        header["time"] = moment.time
        header["result"] = prediction is not None
        for band in BANDS:
            header[band] = band in moment.faults and moment.faults[band] is None
        self._picture[...] = picture
        labels = None if prediction is None else prediction.labels
        self._labels[...] = IGNORE_INDEX if labels is None else labels
        header["version"] += 1

    def _open(self, size: tuple[int, int]) -> None:
        try:
            with self.path.open("xb") as file:
                file.truncate(_bytes(size))
        except OSError as error:
            raise OptionError(f"cannot write {self.path}: {error.strerror}; choose another place") from error
        self._header, self._picture, self._labels = _parts(np.memmap(self.path, np.uint8, "r+"), size)
        self._header[0]["height"], self._header[0]["width"] = size
        self._header[0]["magic"] = _MAGIC
        self._size = size


def read_shared(path: Path) -> SharedMoment | None:
    """The newest moment that a stream shares; None before its first.

    Raises PairError if the file is not there, as before and after the stream, or is no such file.
    """
    try:
        # Opened once: the stream may end, and take the file away, at any time.
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size < _HEADER.itemsize:
                return None
            whole = np.memmap(file, np.uint8, "r")
    except OSError as error:
        raise PairError(f"{path}: no stream shares anything here ({error.strerror})") from error
    head = whole[: _HEADER.itemsize].view(_HEADER)[0]
    if not head["version"]:
        return None
    size = int(head["height"]), int(head["width"])
    if head["magic"] != _MAGIC or len(whole) != _bytes(size):
        raise PairError(f"{path}: not what `crossband stream --share` makes")
    header, picture, labels = _parts(whole, size)
    for _ in range(_TRIES):
        before = header[0].copy()
        copied = np.array(picture), np.array(labels)
        if before["version"] % 2 == 0 and header[0]["version"] == before["version"]:
            on: dict[Band, bool] = {band: bool(before[band]) for band in BANDS}
            moments = int(before["version"]) // 2
            return SharedMoment(moments, int(before["time"]), *copied, on, bool(before["result"]))
        time.sleep(0.001)
    raise PairError(f"{path}: its stream ended while it wrote a moment; start it again")


def _bytes(size: tuple[int, int]) -> int:
    return _HEADER.itemsize + 4 * size[0] * size[1]


def _parts(whole: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Header (1,), picture (H, W, 3) and labels (H, W) of a mapped file of uint8."""
    pixels = size[0] * size[1]
    start = _HEADER.itemsize
    picture = whole[start : start + 3 * pixels].reshape(*size, 3)
    return whole[:start].view(_HEADER), picture, whole[start + 3 * pixels :].reshape(size)
