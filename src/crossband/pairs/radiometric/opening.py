"""From a file to the thermal measurement in it, if there is one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from PIL.JpegImagePlugin import JpegImageFile

from crossband.pairs.image_files import check_bytes, errors_named
from crossband.pairs.radiometric import dji, flir
from crossband.pairs.radiometric.measured import Radiometric
from crossband.pairs.radiometric.segments import app_segments

_JPEG = b"\xff\xd8\xff"


def read_radiometric(path: Path) -> Radiometric | None:
    """The measurement in a radiometric file: a FLIR or DJI JPEG, or a FLIR file of one block (FFF).

    None for any other file. Counts lie as the sensor gave them; an EXIF orientation is not applied. Raises
    PairError, naming the file, if it cannot be read, if its measurement is damaged or in a coding that is not
    read, or if it takes more than `max_image_bytes`.
    """
    with errors_named(path):
        found = _find(path)
        return None if found is None else found[1]()


def radiometric_size(path: Path) -> tuple[int, int] | None:
    """(height, width) of the counts in a radiometric file; None for any other. Decodes no image.

    Raises PairError as `read_radiometric` does, save for damage inside of the counts.
    """
    with errors_named(path):
        found = _find(path)
        return None if found is None else found[0]


def _find(path: Path) -> tuple[tuple[int, int], Callable[[], Radiometric]] | None:
    """The size of the measurement in a file, and what reads it."""
    with path.open("rb") as file:
        start = file.read(4)
        if start in flir.BLOCK_STARTS:
            check_bytes(path.stat().st_size)
            block = flir.parse_block(start + file.read())
            return block.size, block.read
        if not start.startswith(_JPEG):
            return None
        segments = app_segments(file, (flir.SEGMENT, dji.SEGMENT))
    records = flir.joined(segments)
    if records is not None:
        block = flir.parse_block(records)
        return block.size, block.read
    if not any(number == dji.SEGMENT for number, _ in segments):
        return None
    with JpegImageFile(path) as image:
        size = dji.dji_size(segments, (image.height, image.width))
    return None if size is None else (size, lambda: dji.read_dji(segments, size))
