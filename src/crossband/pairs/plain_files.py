"""Files whose samples lie in them as they are, behind a short header: NumPy's ``.npy``, and PGM and PPM."""

from __future__ import annotations

import io
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
from numpy.lib import format as npy

from crossband.errors import PairError, quoted

NPY_START = b"\x93NUMPY"
PNM_STARTS = (b"P5", b"P6")

_LONGEST_HEADER = 10_000
_LONGEST_NUMBER = 9
_MOST_CHANNELS = 4
_TYPES = ("b1", "u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8")
_TOKEN = re.compile(rb"(?:\s|#[^\r\n]*[\r\n])+(\d+)")
_DEEPEST = 65535


@dataclass(frozen=True)
class PlainImage:
    """An image that can be read from its place in a file.

    kind: "NPY" or "PNM". shape: (height, width, channels). dtype: as stored. offset: of the first sample, in
    bytes. fortran: the first index runs fastest. top: the largest value that a sample may have, where the
    file names one that is not its type's.
    """

    path: Path
    kind: Literal["NPY", "PNM"]
    shape: tuple[int, int, int]
    dtype: np.dtype
    offset: int
    fortran: bool = False
    top: int | None = None

    @property
    def bytes(self) -> int:
        """What the samples take."""
        return math.prod(self.shape) * self.dtype.itemsize

    def samples(self) -> np.ndarray:
        """The samples (H, W, C), in native byte order; truth values as 0 and 1.

        Raises PairError, which does not name the file, for one that is larger than the file allows.
        """
        count = math.prod(self.shape)
        with self.path.open("rb") as file:
            flat = np.fromfile(file, self.dtype, count, offset=self.offset)
        samples = flat.reshape(self.shape, order="F" if self.fortran else "C")
        if self.dtype.kind == "b":
            samples = samples.astype(np.uint8)
        if self.top is not None and samples.max() > self.top:
            raise PairError(f"a sample is {samples.max()}, above the {self.top} of its header; copy it again")
        return np.ascontiguousarray(samples, samples.dtype.newbyteorder("="))


def open_npy(path: Path) -> PlainImage:
    """Read the header of an ``.npy`` file. Nothing in it is ever unpickled.

    Raises PairError, which does not name the file, if it holds no image, more than one, or less than it says.
    """
    with path.open("rb") as file:
        start = io.BytesIO(file.read(_LONGEST_HEADER))
    version = npy.read_magic(start)
    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    if version not in readers:
        raise PairError("an .npy file of a version that holds no plain numbers; save it by numpy.save")
    shape, fortran, dtype = readers[version](start, max_header_size=_LONGEST_HEADER)
    if dtype.hasobject or dtype.str[1:] not in _TYPES:
        raise PairError(f"an .npy file of {quoted(str(dtype))}, not of numbers; save integers or floats")
    flat = len(shape) == 2
    if not (flat or (len(shape) == 3 and 1 <= shape[2] <= _MOST_CHANNELS)) or min(shape) < 1:
        raise PairError(
            f"an array of shape {quoted(shape)}, not one image; save it as (height, width) or (height, "
            "width, channels) with up to four channels"
        )
    channels = 1 if flat else shape[2]
    image = PlainImage(path, "NPY", (shape[0], shape[1], channels), dtype, start.tell(), fortran)
    return _of_the_right_length(image, "array")


def open_pnm(path: Path) -> PlainImage:
    """Read the header of a binary PGM (P5) or PPM (P6), of any largest value up to 65535.

    Raises PairError, which does not name the file, if it holds no image, more than one, or less than it says.
    """
    with path.open("rb") as file:
        start = file.read(_LONGEST_HEADER)
    place, numbers = 2, []
    for _ in range(3):
        match = _TOKEN.match(start, place)
        if match is None or len(match[1]) > _LONGEST_NUMBER:
            raise PairError("its header does not give width, height and largest value; copy it again")
        numbers.append(int(match[1]))
        place = match.end()
    width, height, top = numbers
    if not (width and height and 1 <= top <= _DEEPEST) or not start[place : place + 1].isspace():
        raise PairError(
            f"its header gives {height} x {width} pixels and {top} as the largest value; copy it again"
        )
    # Two bytes hold the high one first (netpbm's description of PGM and PPM).
    dtype = np.dtype(np.uint8) if top < 256 else np.dtype(">u2")
    full = top in (255, _DEEPEST)
    shape = (height, width, 1 if start.startswith(b"P5") else 3)
    image = PlainImage(path, "PNM", shape, dtype, place + 1, top=None if full else top)
    return _of_the_right_length(image, "image")


def _of_the_right_length(image: PlainImage, what: str) -> PlainImage:
    rest = image.path.stat().st_size - image.offset - image.bytes
    if rest < 0:
        raise PairError("its header claims more pixels than the file holds; copy it again")
    if rest > 0:
        with image.path.open("rb") as file:
            file.seek(image.offset + image.bytes)
            _check_end(file, what)
    return image


def _check_end(file: BinaryIO, what: str) -> None:
    if file.read(_LONGEST_HEADER).strip():
        raise PairError(f"more follows its {what}: save each as a file of its own, or copy it again")
