"""The one door to image files: every reader opens through it, and nothing that hangs or fills memory gets in.

What a file claims is looked at before anything is read by it: its pages are counted, its numbers are numbers,
and what it takes once decoded stays below a limit. Whatever goes wrong becomes one line that names the file.
"""

from __future__ import annotations

import errno
import logging
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Literal

import tifffile
from PIL import Image
from PIL.BmpImagePlugin import BmpImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from crossband.errors import CrossbandError, OptionError, PairError, quoted
from crossband.pairs.inflating import DEFLATE_RATIO, PACKBITS_RATIO, deflated_bytes, packed_bytes
from crossband.pairs.plain_files import NPY_START, PNM_STARTS, PlainImage, open_npy, open_pnm
from crossband.pairs.png_pixels import check_claim
from crossband.pairs.webp import WEBP_START, webp_size

IMAGE_SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp"),
    *(".webp", ".pgm", ".ppm", ".pnm", ".npy", ".fff"),
)
"""Suffixes, in lower case, of the files that can be read. The content decides how."""

LIMIT_VARIABLE = "CROSSBAND_MAX_IMAGE_BYTES"
"""The environment variable that sets another limit than `DEFAULT_LIMIT`."""
DEFAULT_LIMIT = 1 << 30
"""Bytes that one image may take once decoded: pixels x channels x bytes of a sample."""

Kind = Literal["PNG", "JPEG", "TIFF", "BMP", "WEBP", "NPY", "PNM"]

# A damaged image is reported once, as a PairError; without a handler both also log it to stderr.
for _logger in ("tifffile", "PIL"):
    logging.getLogger(_logger).addHandler(logging.NullHandler())

_MAGIC: dict[bytes, Kind] = {
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"BM": "BMP",
    b"II*\x00": "TIFF",
    b"MM\x00*": "TIFF",
    b"II+\x00": "TIFF",
    b"MM\x00+": "TIFF",
    NPY_START: "NPY",
    **dict.fromkeys(PNM_STARTS, "PNM"),
}
_MOST_PAGES = 100
"""Pages of a TIFF that are looked through for the one image; overviews and masks are pages too."""
_PNG_HEADER, _WEBP_HEADER = 29, 30
_FLIR_BLOCKS = (b"FFF\x00", b"AFF\x00")
_OTHER_PNM = (b"P1", b"P2", b"P3", b"P4")
_BYTES_OF_MODE = {"I;16": 2, "I;16B": 2, "I;16L": 2, "I": 4, "F": 4}


class _TiffImageFile(TiffImageFile):
    """A TIFF as Pillow reads it, without Pillow's own limit on pixels and its warning: ours comes before."""

    def load_prepare(self) -> None:
        if self._im is None:
            self.im = Image.new(self.mode, self._tile_size).im
        super().load_prepare()


# The classes themselves, for Image.open warns of large images.
_PILLOW: dict[Kind, type[ImageFile]] = {
    "PNG": PngImageFile,
    "JPEG": JpegImageFile,
    "BMP": BmpImageFile,
    "TIFF": _TiffImageFile,
    "WEBP": WebPImageFile,
}


def max_image_bytes() -> int:
    """The limit on decoded bytes. Raises OptionError if the environment variable holds no such number."""
    text = os.environ.get(LIMIT_VARIABLE, "")
    if not text:
        return DEFAULT_LIMIT
    if not (text.isascii() and text.isdigit() and 0 < len(text) < 19 and int(text) > 0):
        raise OptionError(
            f"{LIMIT_VARIABLE} is a number of bytes, such as {DEFAULT_LIMIT}, not {quoted(text)}"
        )
    return int(text)


@contextmanager
def open_image(path: Path) -> Iterator[ImageFile | tifffile.TiffPage | PlainImage]:
    """Open an image file for its header or its pixels.

    A TIFF is given as its one page, an ``.npy``, PGM or PPM as its place in the file, others as Pillow's
    image. Whatever is raised inside the block counts as the file's fault too. Raises PairError, naming the
    file, if it is missing, empty, not allowed to be read, of another kind, damaged, has more than one page,
    or would take more than `max_image_bytes` once decoded.
    """
    with errors_named(path):
        kind = _kind(path)
        if kind == "NPY" or kind == "PNM":
            image = open_npy(path) if kind == "NPY" else open_pnm(path)
            check_bytes(image.bytes)
            yield image
            return
        if kind != "TIFF":
            with open_with_pillow(path, kind) as opened:
                yield opened
            return
        with path.open("rb") as file:
            check_chain(file, _MOST_PAGES)
        with tifffile.TiffFile(path) as tiff:
            page = _only_page(tiff)
            check_page(page, tiff.filehandle.size)
            yield page


@contextmanager
def open_with_pillow(path: Path, kind: Kind) -> Iterator[ImageFile]:
    """Open an image file of a known kind with Pillow, held against the limit. Errors do not name the file."""
    if kind == "WEBP":
        _check_webp(path)
    with _PILLOW[kind](path) as image:
        if min(image.size) < 1:
            raise PairError(f"its size is {image.height} x {image.width} pixels; copy it again")
        depth = 2 if kind == "PNG" and ";16" in rawmode(image) else _BYTES_OF_MODE.get(image.mode, 1)
        check_bytes(image.width * image.height * len(image.getbands()) * depth)
        if kind == "PNG":
            with path.open("rb") as file:
                check_claim(file.read(_PNG_HEADER), path.stat().st_size)
        yield image


def rawmode(image: ImageFile) -> str:
    """How the samples lie in the file, in Pillow's words, such as ``RGB;16B``."""
    if not image.tile:
        raise PairError("its header names no pixels; copy it again")
    args = image.tile[0].args
    return str(args if isinstance(args, str) else (args or [""])[0])


def check_bytes(decoded: int) -> None:
    """Raises PairError if an image takes more than the limit. decoded: in bytes."""
    limit = max_image_bytes()
    if decoded > limit:
        raise PairError(
            f"decoded it takes {_gibibytes(decoded)}, more than the limit of {_gibibytes(limit)}; cut it "
            f"into tiles, or set {LIMIT_VARIABLE} to more bytes if it is what it should be"
        )


def check_inflated(page: tifffile.TiffPage) -> None:
    """Raises PairError if a strip or tile of a TIFF inflates to more than the limit, whatever it should hold.

    Only strips that are long enough to do so are looked at: a tiny part of an honest file, if any.
    """
    ratio = 1 if page.compression == tifffile.COMPRESSION.NONE else DEFLATE_RATIO
    measure = deflated_bytes
    if page.compression == tifffile.COMPRESSION.PACKBITS:
        ratio, measure = PACKBITS_RATIO, packed_bytes
    file, limit = page.parent.filehandle, max_image_bytes()
    for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
        if ratio > 1 and count * ratio > limit:
            file.seek(offset)
            check_bytes(measure(file.read(count), limit))


@contextmanager
def errors_named(path: Path, *, folder: bool = False) -> Iterator[None]:
    """Turn whatever goes wrong with a file into one PairError of one line that names it.

    folder: it may be a folder too, as a bag is.
    """
    try:
        if not path.is_file() and not (folder and path.is_dir()):
            if path.is_dir():
                raise PairError("is a folder, not an image")
            raise PairError("is no regular file" if path.exists() else "there is no such file")
        if path.stat().st_size == 0:
            raise PairError("the file is empty (0 bytes); copy it again")
        yield
    except PairError as error:
        raise PairError(f"{path}: {error}") from error.__cause__
    except CrossbandError:
        raise
    except MemoryError as error:
        raise PairError(
            f"{path}: there is not enough memory to decode it; cut the image into tiles"
        ) from error
    except OSError as error:
        if error.errno is None:
            raise _damaged(path, error) from error
        raise PairError(f"{path}: {error.strerror}; {mend_of(error)}") from error
    except Exception as error:
        # Decoders raise whatever a damaged file leads them into: SyntaxError, struct.error, KeyError, ...
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> PairError:
    reason = " ".join(str(error).split()) or type(error).__name__
    reason = reason if len(reason) <= 160 else f"{reason[:157]}..."
    return PairError(f"{path}: cannot be read, truncated or damaged ({reason}); copy it again")


def mend_of(error: OSError) -> str:
    """What to do where the system refuses, which no copy mends."""
    if error.errno in (errno.EACCES, errno.EPERM):
        return "change its permissions, or those of its folder, so that you may read it"
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return "close other files, or raise the limit on open ones"
    return "check the path and the disk that it lies on"


def _kind(path: Path) -> Kind:
    kind = kind_of(path)
    if kind is not None:
        return kind
    with path.open("rb") as file:
        start = file.read(12)
    if start.startswith(_FLIR_BLOCKS):
        raise PairError("FLIR's own format holds an infrared image only; give it as infrared")
    if start.startswith(_OTHER_PNM) and start[2:3].isspace():
        raise PairError("a PNM of bits or of digits; save it as a binary PGM (P5) or PPM (P6), or as PNG")
    raise PairError(
        "not a PNG, JPEG, TIFF or BMP image (nor WebP, PGM, PPM or NPY), or its header is damaged"
    )


def kind_of(path: Path) -> Kind | None:
    """The kind of image that a file begins as; None if it is none that is read."""
    with path.open("rb") as file:
        start = file.read(12)
    for magic, kind in _MAGIC.items():
        if start.startswith(magic):
            return kind
    return "WEBP" if start.startswith(WEBP_START[0]) and start.endswith(WEBP_START[1]) else None


def _check_webp(path: Path) -> None:
    """Its decoder takes memory for the whole picture as soon as it is opened."""
    with path.open("rb") as file:
        height, width = webp_size(file.read(_WEBP_HEADER), path.stat().st_size)
    check_bytes(4 * height * width)


def _gibibytes(count: int) -> str:
    return f"{count / (1 << 30):.3g} GiB" if count >= 1 << 20 else f"{count} bytes"


def check_chain(file: BinaryIO, most: int) -> None:
    """Follow a TIFF's list of pages. Raises PairError if it loops or is longer than ``most``.

    Only then is it given to tifffile, which follows a list as far as it goes. A list that breaks off, and an
    offset behind the end of the file, are left to it.
    """
    start = file.read(16)
    order = "<" if start[:2] == b"II" else ">"
    big = start[2:4] in (b"+\x00", b"\x00+")
    number, entry, offset = ("Q", 20, "Q") if big else ("H", 12, "I")
    seen: set[int] = set()
    try:
        (place,) = struct.unpack_from(order + offset, start, 8 if big else 4)
        while place:
            if place in seen:
                raise PairError("its list of pages loops: the header is damaged; copy it again")
            if len(seen) == most:
                raise PairError(f"a TIFF of more than {most} pages; save each as a file of its own")
            seen.add(place)
            file.seek(place)
            (entries,) = struct.unpack(order + number, file.read(struct.calcsize(number)))
            file.seek(entries * entry, os.SEEK_CUR)
            (place,) = struct.unpack(order + offset, file.read(struct.calcsize(order + offset)))
    except (struct.error, OverflowError, OSError):
        return


def _only_page(tiff: tifffile.TiffFile) -> tifffile.TiffPage:
    pages = [page.aspage() for page in tiff.pages]
    pages = [page for page in pages if not (page.is_reduced or page.is_mask)]
    if len(pages) != 1:
        raise PairError(
            f"a TIFF of {len(pages)} pages; save each as a file of its own, or read it as the source "
            "frames:PATH"
        )
    return pages[0]


def check_page(page: tifffile.TiffPage, file_size: int) -> None:
    """Hold what a page claims against what can be: its numbers, its parts within the file, the limit."""
    height, width, channels = page.imagelength, page.imagewidth, page.samplesperpixel
    sizes = {"height": height, "width": width, "channels": channels, "bits": page.bitspersample}
    sizes |= {"slices": page.imagedepth, "rows of a strip": page.rowsperstrip or 1}
    if page.is_tiled:
        sizes |= {"tile height": page.tilelength, "tile width": page.tilewidth, "tile depth": page.tiledepth}
    for name, value in sizes.items():
        if not isinstance(value, int) or value < 1:
            raise PairError(f"its header gives {quoted(value)} for the {name}; copy it again")
    if page.imagedepth > 1:
        raise PairError(f"a TIFF of {page.imagedepth} slices, not one flat image; save one slice of it")
    parts = page.dataoffsets, page.databytecounts
    if not parts[0] or len(parts[0]) != len(parts[1]):
        raise PairError("its header does not say where its pixels are; copy it again")
    if not all(isinstance(value, int) and value >= 0 for numbers in parts for value in numbers):
        raise PairError("its header gives no numbers for where its pixels are; copy it again")
    if max(map(sum, zip(*parts, strict=True))) > file_size:
        # Where a damaged header sends it behind the end of the file, tifffile may fill in zeros.
        raise PairError("its header names pixels behind the end of the file; copy it again")
    sample = -(-page.bitspersample // 8)
    check_bytes(height * width * channels * sample)
    if page.is_tiled:
        check_bytes(page.tilelength * page.tilewidth * page.tiledepth * channels * sample)
    plain = page.compression == tifffile.COMPRESSION.NONE
    if plain and sum(page.databytecounts) < height * width * channels * page.bitspersample // 8:
        raise PairError("its header claims more pixels than the file holds; copy it again")
