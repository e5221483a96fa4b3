"""What an image file says about itself without its pixels being decoded."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from crossband.errors import PairError
from crossband.pairs.decoding import image_size

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_PNG_PALETTE = 3
_TAIL = 4096
"""Bytes at the end in which the end mark is looked for: some writers append a few of their own."""


@dataclass(frozen=True)
class Header:
    """size: (height, width) as read, EXIF orientation respected. kind: PNG, JPEG, TIFF or BMP.

    bits: per sample. channels: as stored; an image with a palette has one.
    """

    size: tuple[int, int]
    kind: str
    bits: int
    channels: int
    palette: bool = False

    def __str__(self) -> str:
        channels = "palette" if self.palette else f"{self.channels} channel{'s' if self.channels > 1 else ''}"
        return f"{self.kind}, {self.bits}-bit, {channels}"


def read_header(path: Path) -> Header:
    """Read an image's header and look whether the end of the file is there.

    A damage in the middle of the pixels is not seen. Raises PairError, naming the file, if it is missing,
    empty, no image that can be read, or cut off.
    """
    size = image_size(path)
    with path.open("rb") as file:
        start = file.read(32)
        file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL))
        tail = file.read()
    if start.startswith(_PNG_SIGNATURE):
        _require(b"IEND" in tail, path)
        bits, colour = struct.unpack_from("BB", start, 24)
        return Header(size, "PNG", bits, _PNG_CHANNELS[colour], palette=colour == _PNG_PALETTE)
    if start[:2] in (b"II", b"MM"):
        with tifffile.TiffFile(path) as tiff:
            page = tiff.pages.first
            ends = np.add(page.dataoffsets, page.databytecounts, dtype=np.int64)
            _require(int(ends.max()) <= tiff.filehandle.size, path)
            return Header(size, "TIFF", int(page.bitspersample), page.samplesperpixel)
    with Image.open(path) as image:
        kind = image.format or "image"
        if kind == "JPEG":
            _require(b"\xff\xd9" in tail, path)
        return Header(size, kind, 8, len(image.getbands()), palette=image.mode == "P")


def _require(complete: bool, path: Path) -> None:
    if not complete:
        raise PairError(f"{path}: the end of the file is missing; copy it again")
