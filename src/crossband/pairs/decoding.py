"""Image files as the samples they store, before anything is taken for a colour, an intensity or a class id.

PNG, JPEG and BMP are read by Pillow, TIFF by tifffile, or by Pillow where the compression needs its libtiff.
Nothing is rounded, shifted or expanded on the way: 16-bit stays 16-bit, palettes stay indices.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image, UnidentifiedImageError
from PIL.ExifTags import Base as ExifTag

from crossband.errors import PairError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
"""Suffixes, in lower case, of the files that can be read. The content decides how."""

# A damaged TIFF is reported once, as a PairError; without a handler tifffile also logs it to stderr.
logging.getLogger("tifffile").addHandler(logging.NullHandler())

_FORMATS = ("PNG", "JPEG", "TIFF", "BMP")
_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16", "I;16B", "I", "F")
_TIFF_MAGIC = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
_TIFFFILE_COMPRESSIONS = (
    tifffile.COMPRESSION.NONE,
    tifffile.COMPRESSION.ADOBE_DEFLATE,
    tifffile.COMPRESSION.DEFLATE,
    tifffile.COMPRESSION.PACKBITS,
)


@dataclass(frozen=True)
class Stored:
    """What one image file stores, turned upright (EXIF orientation).

    samples: (H, W, C) in the stored type. Palette images: C = 1, the indices. Grey of 1, 2 or 4 bits:
        0..1, 0..3 or 0..15.
    palette: uint8 (256, 3), sRGB, or None.
    grey_step: what one step of a sample means in 8-bit grey: 255, 85 or 17 for 1, 2 or 4 bits, else 1.
    lossy: the samples went through JPEG.
    """

    samples: np.ndarray
    palette: np.ndarray | None = None
    grey_step: int = 1
    lossy: bool = False

    def levels(self) -> np.ndarray:
        """Grey or colour levels (H, W, C): the palette looked up, 1 to 4 bits spread over 0..255."""
        if self.palette is not None:
            return self.palette[self.samples[..., 0]]
        return self.samples if self.grey_step == 1 else self.samples * np.uint8(self.grey_step)


def decode(path: Path) -> Stored:
    """Read the samples of an image file.

    Colours are taken as sRGB: a colour profile is not applied. Transparency given as a palette entry or as a
    key colour is not looked at. Reduced copies and masks inside a TIFF are skipped.

    Raises PairError, naming the file, if it is missing, empty, truncated, no PNG, JPEG, TIFF or BMP, has more
    than one page, or stores something else than 1 to 4 bits of grey, 8 or 16 bits, or single 32-bit or
    float values.
    """
    with _errors_named(path):
        return _decode_tiff(path) if _is_tiff(path) else _decode_with_pillow(path)


def image_size(path: Path) -> tuple[int, int]:
    """(height, width) of an image file as it is read, EXIF orientation respected. Reads only the header.

    A PNG whose orientation follows its pixels is given as it is stored. Raises PairError, naming the file,
    if the header cannot be read.
    """
    with _errors_named(path):
        if _is_tiff(path):
            with tifffile.TiffFile(path) as tiff:
                page = _only_page(tiff)
                size, orientation = (page.imagelength, page.imagewidth), _tiff_orientation(page)
        else:
            with Image.open(path, formats=_FORMATS) as image:
                # Without the test, Pillow decodes a whole PNG to look for EXIF data behind its pixels.
                has_exif = image.format != "PNG" or "exif" in image.info
                size, orientation = (image.height, image.width), _orientation(image) if has_exif else 1
    return size[::-1] if orientation >= 5 else size


@contextmanager
def _errors_named(path: Path) -> Iterator[None]:
    """Turn whatever goes wrong with a file into one line that names it."""
    try:
        if not path.is_file():
            raise PairError("is a folder, not an image" if path.is_dir() else "there is no such file")
        if path.stat().st_size == 0:
            raise PairError("the file is empty (0 bytes); copy it again")
        yield
    except PairError as error:
        raise PairError(f"{path}: {error}") from error.__cause__
    except UnidentifiedImageError as error:
        raise PairError(f"{path}: not a PNG, JPEG, TIFF or BMP image, or its header is damaged") from error
    except Image.DecompressionBombError as error:
        raise PairError(f"{path}: too many pixels to be read at once; cut the image into tiles") from error
    except Exception as error:
        # Decoders raise whatever a damaged file leads them into: OSError, SyntaxError, struct.error, ...
        reason = " ".join(str(error).split()) or type(error).__name__
        raise PairError(f"{path}: cannot be read, truncated or damaged ({reason}); copy it again") from error


def _is_tiff(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) in _TIFF_MAGIC


def _decode_with_pillow(path: Path) -> Stored:
    with Image.open(path, formats=_FORMATS) as image:
        if image.mode not in _MODES:
            raise PairError(f"colour mode {image.mode} cannot be used; save it as grey, RGB or RGBA")
        if image.format == "PNG" and getattr(image, "n_frames", 1) > 1:
            raise PairError(f"an animation of {image.n_frames} pictures; save one of them")  # type: ignore[attr-defined]
        rawmode = _rawmode(image)
        lossy = image.format in ("JPEG", "MPO") or image.info.get("compression") == "jpeg"
        palette, grey_step = None, 1
        if image.mode in ("LA", "RGB", "RGBA") and ";16" in rawmode:
            samples = _decode_deep_colour(path, image, rawmode)
        else:
            samples = np.asarray(image)
        if image.mode == "P":
            palette = np.zeros((256, 3), np.uint8)
            colours = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
            palette[: len(colours)] = colours
        elif image.mode == "1":
            samples, grey_step = samples.astype(np.uint8), 255
        elif image.mode == "L" and rawmode.startswith(("L;2", "L;4")):
            # Pillow spreads 2- and 4-bit grey over 0..255; a label's ids are the samples before that.
            grey_step = 85 if rawmode.startswith("L;2") else 17
            samples = samples // np.uint8(grey_step)
        return Stored(_upright(samples, _orientation(image)), palette, grey_step, lossy)


def _decode_deep_colour(path: Path, image: Image.Image, rawmode: str) -> np.ndarray:
    """The 16-bit samples of a colour or grey + alpha PNG, of which Pillow would keep the high bytes only.

    Its unpackers for the other byte order keep the low bytes instead, so two passes give both; the four bytes
    of a 16-bit grey + alpha pixel come out whole when unpacked as 8-bit RGBA.
    """
    if image.format != "PNG":
        raise PairError("16-bit colour with this compression cannot be read; save it with deflate or none")
    if rawmode == "LA;16B":
        return _unpack(path, "RGBA").view(">u2")
    high = np.asarray(image).astype(np.uint16)
    return high << 8 | _unpack(path, rawmode.replace(";16B", ";16L"))


def _unpack(path: Path, rawmode: str) -> np.ndarray:
    with Image.open(path, formats=_FORMATS) as image:
        image.tile = [tile._replace(args=rawmode) for tile in image.tile]
        return np.asarray(image)


def _rawmode(image: Image.Image) -> str:
    """How the samples lie in the file, in Pillow's words, such as ``RGB;16B``."""
    args = image.tile[0].args  # type: ignore[attr-defined]
    return args if isinstance(args, str) else args[0]


def _decode_tiff(path: Path) -> Stored:
    with tifffile.TiffFile(path) as tiff:
        page = _only_page(tiff)
        if page.imagelength * page.imagewidth > 2 * (Image.MAX_IMAGE_PIXELS or math.inf):
            # Pillow's own limit, for the reader that has none: a damaged header can ask for terabytes.
            raise Image.DecompressionBombError
        if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
            raise PairError("a TIFF whose zero is white; save it with zero as black")
        if _within_tifffile(page):
            # Where a damaged header sends it behind the end of the file, tifffile may fill in zeros.
            ends = np.add(page.dataoffsets, page.databytecounts, dtype=np.int64)
            if ends.max() > tiff.filehandle.size:
                raise PairError("its header names pixels behind the end of the file; copy it again")
            samples = page.asarray()
            if page.axes == "SYX":
                samples = np.moveaxis(samples, 0, -1)
            elif page.axes not in ("YX", "YXS"):
                raise PairError(f"a TIFF with axes {page.axes}, not one flat image; save one slice of it")
            samples = samples.reshape(page.imagelength, page.imagewidth, -1)
            return Stored(_upright(samples, _tiff_orientation(page)))
    return _decode_with_pillow(path)


def _within_tifffile(page: tifffile.TiffPage) -> bool:
    """Whether tifffile reads the page without further packages, and its samples are plain levels."""
    return (
        page.compression in _TIFFFILE_COMPRESSIONS
        and page.predictor in (tifffile.PREDICTOR.NONE, tifffile.PREDICTOR.HORIZONTAL)
        and page.photometric in (tifffile.PHOTOMETRIC.MINISBLACK, tifffile.PHOTOMETRIC.RGB)
        and page.bitspersample in (8, 16, 32, 64)
    )


def _only_page(tiff: tifffile.TiffFile) -> tifffile.TiffPage:
    pages = [page.aspage() for page in tiff.pages]
    pages = [page for page in pages if not (page.is_reduced or page.is_mask)]
    if len(pages) != 1:
        raise PairError(f"a TIFF of {len(pages)} pages; save each as a file of its own")
    return pages[0]


def _tiff_orientation(page: tifffile.TiffPage) -> int:
    tag = page.tags.get(ExifTag.Orientation)
    return 1 if tag is None else int(tag.value)


def _orientation(image: Image.Image) -> int:
    return int(image.getexif().get(ExifTag.Orientation, 1))


def _upright(samples: np.ndarray, orientation: int) -> np.ndarray:
    """Undo an EXIF orientation (1..8; others mean nothing); C-contiguous, native byte order, (H, W, C)."""
    samples = samples.reshape(*samples.shape[:2], -1)
    if 5 <= orientation <= 8:
        samples = samples.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        samples = samples[:, ::-1]
    if orientation in (3, 4, 7, 8):
        samples = samples[::-1]
    return np.ascontiguousarray(samples, samples.dtype.newbyteorder("="))
