"""What all tools are given of a pair, and what is read of the masks that come back."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from crossband.annotation.record import Item
from crossband.errors import PairError
from crossband.pairs.base import Pair
from crossband.pictures import to_uint8
from crossband.words import BANDS, Band

_LARGEST_MASK = 1 << 28
"""Bytes of one mask in an archive, unpacked."""

Reader = Callable[[], bytes]


def shown_bands(pair: Pair) -> dict[Band, np.ndarray]:
    """The images of a pair as uint8, for people: those of the bands that it has."""
    images = {band: getattr(pair, band) for band in BANDS}
    return {band: to_uint8(image) for band, image in images.items() if image is not None}


@contextmanager
def members(path: Path) -> Iterator[Mapping[PurePosixPath, Reader]]:
    """The files of a folder or of a zip archive, by their place in it, and how each is read.

    Nothing is unpacked to disk. Raises PairError if there is no such thing, or it is no archive.
    """
    if path.is_dir():
        found = (file for file in sorted(path.rglob("*")) if file.is_file())
        yield {PurePosixPath(file.relative_to(path).as_posix()): file.read_bytes for file in found}
        return
    try:
        archive = zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile) as error:
        raise PairError(
            f"{path}: is neither a folder nor a zip archive; give what the tool exported"
        ) from error
    with archive:
        yield {
            PurePosixPath(info.filename): _reader(path, archive, info)
            for info in archive.infolist()
            if not info.is_dir()
        }


def read_mask(where: str, content: bytes, item: Item, *, colours: bool) -> np.ndarray:
    """A mask: its colours, uint8 (H, W, 3), or its ids, uint8 (H, W), which a palette's places are as well.

    Raises PairError, naming the mask, if it is no such picture or is not of the size of its pair.
    """
    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            if image.size != (item.width, item.height):
                raise PairError(
                    f"{where}: is {image.height} x {image.width}, but the pair {item.height} x {item.width}; "
                    "export it at full size"
                )
            if not colours and image.mode not in ("L", "P"):
                raise PairError(f"{where}: is no picture of class ids; export grey or palette masks")
            return np.asarray(image.convert("RGB") if colours else image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise PairError(f"{where}: is no PNG that can be read; export it again") from error


def _reader(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Reader:
    def read() -> bytes:
        if info.file_size > _LARGEST_MASK:
            raise PairError(f"{path}: {info.filename} is larger than any mask; export it again")
        try:
            return archive.read(info)
        except (OSError, zipfile.BadZipFile, RuntimeError, ValueError) as error:
            raise PairError(f"{path}: {info.filename} cannot be unpacked; export it again") from error

    return read
