"""What an image file says about itself without its pixels being decoded."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import tifffile
from PIL.ImageFile import ImageFile

from crossband.errors import PairError
from crossband.pairs.decoding import pillow_orientation, tiff_orientation
from crossband.pairs.image_files import open_image
from crossband.pairs.plain_files import PlainImage
from crossband.pairs.radiometric import measured_size

_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_PNG_DEPTH, _PNG_COLOUR = 24, 25
"""Where a PNG says its bits and its kind of colour."""
_END_MARKS = {"PNG": b"IEND", "JPEG": b"\xff\xd9"}
_TAIL = 4096
"""Bytes at the end in which the end mark is looked for: some writers append a few of their own."""


@dataclass(frozen=True)
class Header:
    """size: (height, width) as read, EXIF orientation respected. kind: PNG, JPEG, TIFF, ...

    bits: per sample. channels: as stored; an image with a palette has one. floats: samples are floats.
    """

    size: tuple[int, int]
    kind: str
    bits: int
    channels: int
    palette: bool = False
    floats: bool = False

    def __str__(self) -> str:
        channels = "palette" if self.palette else f"{self.channels} channel{'s' if self.channels > 1 else ''}"
        return f"{self.kind}, {self.bits}-bit, {channels}"


def image_size(path: Path, *, infrared: bool = False) -> tuple[int, int]:
    """(height, width) of an image file as it is read, EXIF orientation respected. Reads only the header.

    infrared: of a radiometric file, the size of the measurement and not of the picture beside it. A PNG whose
    orientation follows its pixels is given as it is stored. Raises PairError, naming the file, as `decode`
    does for what its header shows.
    """
    if infrared and (measured := measured_size(path)) is not None:
        return measured
    with open_image(path) as opened:
        return _size(opened)


def read_header(path: Path, *, infrared: bool = False) -> Header:
    """Read an image's header and look whether the end of the file is there.

    infrared: as in `image_size`. A damage in the middle of the pixels is not seen. Raises PairError, naming
    the file, as `decode` does for what its header shows, and if it is cut off.
    """
    if infrared and (measured := measured_size(path)) is not None:
        return Header(measured, "radiometric", 16, 1)
    with open_image(path) as opened:
        size = _size(opened)
        if isinstance(opened, PlainImage):
            floats = opened.dtype.kind == "f"
            return Header(size, opened.kind, 8 * opened.dtype.itemsize, opened.shape[2], floats=floats)
        if isinstance(opened, tifffile.TiffPage):
            floats = opened.dtype is not None and opened.dtype.kind == "f"
            return Header(size, "TIFF", opened.bitspersample, opened.samplesperpixel, floats=floats)
        with path.open("rb") as file:
            start = file.read(32)
            file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL))
            tail = file.read()
        kind = str(opened.format)
        if _END_MARKS.get(kind, b"") not in tail:
            raise PairError("the end of the file is missing; copy it again")
        palette = opened.mode == "P"
        if kind == "PNG":
            return Header(size, kind, start[_PNG_DEPTH], _PNG_CHANNELS[start[_PNG_COLOUR]], palette)
        return Header(size, kind, 8, len(opened.getbands()), palette)


def _size(opened: ImageFile | tifffile.TiffPage | PlainImage) -> tuple[int, int]:
    if isinstance(opened, PlainImage):
        return opened.shape[:2]
    if isinstance(opened, tifffile.TiffPage):
        size, orientation = (opened.imagelength, opened.imagewidth), tiff_orientation(opened)
    else:
        # Without the test, Pillow decodes a whole PNG to look for EXIF data behind its pixels.
        has_exif = opened.format != "PNG" or "exif" in opened.info
        size, orientation = (opened.height, opened.width), pillow_orientation(opened) if has_exif else 1
    return size[::-1] if 5 <= orientation <= 8 else size
