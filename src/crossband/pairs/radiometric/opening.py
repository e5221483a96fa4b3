"""From a file to the thermal measurement in it, if there is one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from PIL.JpegImagePlugin import JpegImageFile

from crossband.pairs.decoding import pillow_orientation
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
        return None if found is None else replace(found.read(), orientation=found.orientation)


def radiometric_size(path: Path) -> tuple[int, int] | None:
    """(height, width) of the counts in a radiometric file; None for any other. Decodes no image.

    Raises PairError as `read_radiometric` does, save for damage inside of the counts.
    """
    with errors_named(path):
        found = _find(path)
        return None if found is None else found.size


def measured_size(path: Path) -> tuple[int, int] | None:
    """(height, width) of a radiometric file's counts turned as the picture beside them, which is how they are
    read as infrared; None for any other file.

    Raises PairError as `radiometric_size` does.
    """
    with errors_named(path):
        found = _find(path)
        if found is None:
            return None
        return found.size[::-1] if 5 <= found.orientation <= 8 else found.size


@dataclass(frozen=True)
class _Found:
    """A measurement that is not read yet: (height, width) as the sensor gave it, EXIF orientation of the
    picture beside it, and what reads it.
    """

    size: tuple[int, int]
    orientation: int
    read: Callable[[], Radiometric]


def _find(path: Path) -> _Found | None:
    with path.open("rb") as file:
        start = file.read(4)
        if start in flir.BLOCK_STARTS:
            check_bytes(path.stat().st_size)
            block = flir.parse_block(start + file.read())
            return _Found(block.size, 1, block.read)
        if not start.startswith(_JPEG):
            return None
        segments = app_segments(file, (flir.SEGMENT, dji.SEGMENT))
        records = flir.joined(segments)
        if records is None and not any(number == dji.SEGMENT for number, _ in segments):
            return None
        file.seek(0)
        with JpegImageFile(file) as image:
            orientation, shown = pillow_orientation(image), (image.height, image.width)
    if records is not None:
        block = flir.parse_block(records)
        return _Found(block.size, orientation, block.read)
    size = dji.dji_size(segments, shown)
    return None if size is None else _Found(size, orientation, lambda: dji.read_dji(segments, size))
