"""FLIR's records: in the segments APP1 of a JPEG, in files of their own (FFF), or one after another (SEQ).

A block of records begins with a header and a directory. What the records hold is described by ExifTool's
documentation of FLIR tags (https://exiftool.org/TagNames/FLIR.html): 0x01 the counts, 0x0e a visible image,
0x20 the camera's parameters, 0x2a how the visible image lies over the infrared one.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from crossband.errors import PairError
from crossband.pairs.image_files import check_bytes
from crossband.pairs.radiometric.embedded import PNG_START, png_counts
from crossband.pairs.radiometric.measured import Alignment, Radiometric
from crossband.pairs.radiometric.temperature import Radiometry

SEGMENT = 1
BLOCK_STARTS = (b"FFF\x00", b"AFF\x00")

_MARK = b"FLIR\x00"
_SEGMENT_HEADER = 8
_HEADER = 64
_ENTRY = struct.Struct("HHIIII")
_ENTRY_SIZE = 32
_MOST_ENTRIES = 1000
_COUNTS, _VISIBLE, _PARAMETERS, _ALIGNMENT = 0x01, 0x0E, 0x20, 0x2A
_IMAGE_HEADER = 32
_JPEG_LS = b"\xff\xd8\xff\xf7"
_JPEG = b"\xff\xd8\xff"
_FLOATS = {
    "emissivity": 32, "distance": 36, "reflected": 40, "atmosphere": 44, "window": 48,
    "window_transmission": 52, "humidity": 60, "r1": 88, "b": 92, "f": 96, "alpha1": 112, "alpha2": 116,
    "beta1": 120, "beta2": 124, "x": 128, "r2": 780,
}  # fmt: skip
"""Where the parameters are in their record."""
_O_PLACE = 776
_PARAMETERS_SIZE = 784


@dataclass(frozen=True)
class FlirBlock:
    """One block of records, of which the counts are not decoded yet.

    size: (height, width) of the counts.
    """

    size: tuple[int, int]
    _records: dict[int, bytes]

    def read(self) -> Radiometric:
        """Decode the block. Raises PairError if the counts are damaged."""
        counts = _counts(self._records[_COUNTS], self.size)
        visible = self._records.get(_VISIBLE, b"")[_IMAGE_HEADER:]
        return Radiometric(
            "FLIR",
            counts,
            _radiometry(self._records.get(_PARAMETERS, b"")),
            visible if visible.startswith(_JPEG) else None,
            _alignment(self._records.get(_ALIGNMENT, b"")),
        )


def joined(segments: Sequence[tuple[int, bytes]]) -> bytes | None:
    """FLIR's records from a JPEG's segments; None where there are none.

    Raises PairError if some of the segments are missing.
    """
    parts: dict[int, bytes] = {}
    last = 0
    for number, data in segments:
        if number != SEGMENT or not data.startswith(_MARK) or len(data) < _SEGMENT_HEADER:
            continue
        last = max(last, data[7])
        parts.setdefault(data[6], data[_SEGMENT_HEADER:])
    if not parts:
        return None
    if sorted(parts) != list(range(last + 1)):
        raise PairError(
            f"of the {last + 1} segments of its thermal measurement {len(parts)} are there; copy it again"
        )
    return b"".join(parts[index] for index in sorted(parts))


def block_length(file: BinaryIO) -> int:
    """How many bytes the block of records takes that begins where a file stands.

    Raises PairError if its directory is damaged.
    """
    header = file.read(_HEADER)
    order, start, count = _directory(header)
    file.seek(start - len(header), os.SEEK_CUR)
    entries = file.read(count * _ENTRY_SIZE)
    if len(entries) < count * _ENTRY_SIZE:
        raise PairError("the directory of its FLIR records is cut off; copy it again")
    entry = struct.Struct(order + _ENTRY.format)
    ends = [entry.unpack_from(entries, place)[4:6] for place in range(0, len(entries), _ENTRY_SIZE)]
    return max([start + len(entries), *(offset + length for offset, length in ends)])


def parse_block(data: bytes) -> FlirBlock:
    """Read the directory of a block of records that data begins with.

    Raises PairError if it is damaged, or holds no counts or only in a coding that is not read.
    """
    order, start, count = _directory(data)
    end = start + count * _ENTRY_SIZE
    if end > len(data):
        raise PairError("the directory of its FLIR records is cut off; copy it again")
    records: dict[int, bytes] = {}
    entry = struct.Struct(order + _ENTRY.format)
    for place in range(start, end, _ENTRY_SIZE):
        kind, _, _, _, offset, length = entry.unpack_from(data, place)
        if not kind or not length:
            continue
        if offset + length > len(data):
            raise PairError("one of its FLIR records is cut off; copy it again")
        if kind in (_COUNTS, _VISIBLE, _PARAMETERS, _ALIGNMENT):
            records.setdefault(kind, data[offset : offset + length])
    if _COUNTS not in records:
        raise PairError("its FLIR records hold no thermal plane; save the image in the radiometric format")
    return FlirBlock(_size(records[_COUNTS]), records)


def _directory(data: bytes) -> tuple[str, int, int]:
    """The byte order of a block, where its directory begins, and how many entries it has."""
    if len(data) < _HEADER or not data.startswith(BLOCK_STARTS):
        raise PairError("its FLIR records have no header; copy it again")
    order = next((order for order in "<>" if 100 <= _number(order + "I", data, 20) < 200), None)
    if order is None:
        raise PairError("its FLIR records are of an unknown version; copy it again")
    start, count = _number(order + "I", data, 24), _number(order + "I", data, 28)
    if count > _MOST_ENTRIES or start < _HEADER:
        raise PairError("the directory of its FLIR records is damaged; copy it again")
    return order, start, count


def _size(record: bytes) -> tuple[int, int]:
    if len(record) < _IMAGE_HEADER:
        raise PairError("its thermal plane is cut off; copy it again")
    order = _order(record)
    width, height = _number(order + "H", record, 2), _number(order + "H", record, 4)
    if record.startswith(_JPEG_LS, _IMAGE_HEADER):
        raise PairError("its thermal plane is compressed by JPEG-LS, which is not read; export it as TIFF")
    if not (width and height):
        raise PairError(f"its thermal plane is {height} x {width} pixels; copy it again")
    check_bytes(2 * height * width)
    return height, width


def _counts(record: bytes, size: tuple[int, int]) -> np.ndarray:
    data = record[_IMAGE_HEADER:]
    if data.startswith(PNG_START):
        # A PNG stores the high byte first, but FLIR writes the low one.
        return png_counts(data, *size).byteswap()
    count = size[0] * size[1]
    if len(data) < 2 * count:
        raise PairError("its thermal plane is cut off; copy it again")
    plane = np.frombuffer(data, _order(record) + "u2", count)
    return plane.astype(np.uint16).reshape(size)


def _radiometry(record: bytes) -> Radiometry | None:
    if len(record) < _PARAMETERS_SIZE:
        return None
    order = _order(record)
    values = {name: float(_number(order + "f", record, place)) for name, place in _FLOATS.items()}
    # Some cameras write per cent.
    values["humidity"] /= 100 if values["humidity"] > 1 else 1
    radiometry = Radiometry(**values, o=float(_number(order + "i", record, _O_PLACE)))
    return radiometry if radiometry.plausible else None


def _alignment(record: bytes) -> Alignment | None:
    if len(record) < 8:
        return None
    # Its byte order is that of FLIR's cameras; nothing in the record tells it.
    real2ir, x, y = struct.unpack_from("<fhh", record)
    return Alignment(real2ir, x, y) if math.isfinite(real2ir) and 0.1 < real2ir < 100 else None


def _order(record: bytes) -> str:
    """The byte order of a record, whose first number is small."""
    return "<" if _number("<H", record, 0) < 0x100 else ">"


def _number(form: str, data: bytes, place: int) -> int:
    (value,) = struct.unpack_from(form, data, place)
    return value
