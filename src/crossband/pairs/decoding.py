"""Image files as the samples they store, before anything is taken for a colour, an intensity or a class id.

PNG, JPEG, BMP and WebP are read by Pillow, TIFF by tifffile, or by Pillow where the compression needs its
libtiff; NumPy's files, PGM and PPM are read as they lie.
Nothing is rounded, shifted or expanded on the way: 16-bit stays 16-bit, palettes stay indices.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
from PIL.ExifTags import Base as ExifTag
from PIL.ImageFile import ImageFile

from crossband.errors import PairError
from crossband.pairs.image_files import (
    check_inflated,
    max_image_bytes,
    open_image,
    open_with_pillow,
    rawmode,
)
from crossband.pairs.libtiff import libtiff_heard
from crossband.pairs.plain_files import PlainImage
from crossband.pairs.png_pixels import check_pixels

_START_OF_SCAN = b"\xff\xda"
_WORK_PER_BYTE = 8
"""Pixels times scans of a JPEG that are decoded per byte of the limit: about a minute for 1 GiB."""
_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16", "I;16B", "I", "F")
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
    top: the largest value that a sample may have, of a PGM or PPM that names another than its type's.
    """

    samples: np.ndarray
    palette: np.ndarray | None = None
    grey_step: int = 1
    lossy: bool = False
    top: int | None = None

    def levels(self, *, measured: bool = False) -> np.ndarray:
        """Grey or colour levels (H, W, C): the palette looked up, 1 to 4 bits spread over 0..255.

        The values of a PGM or PPM are spread over their type's range; measured: grey ones stay what they are.
        """
        if self.palette is not None:
            return self.palette[self.samples[..., 0]]
        if self.top is not None and not (measured and self.samples.shape[2] == 1):
            full = np.iinfo(self.samples.dtype).max
            return np.rint(self.samples * (full / self.top)).astype(self.samples.dtype)
        return self.samples if self.grey_step == 1 else self.samples * np.uint8(self.grey_step)


def decode(path: Path) -> Stored:
    """Read the samples of an image file.

    Colours are taken as sRGB: a colour profile is not applied. Transparency given as a palette entry or as a
    key colour is not looked at. Reduced copies and masks inside a TIFF are skipped.

    Raises PairError, naming the file, if it is missing, empty, truncated, of another kind, has more than one
    page, takes more than `max_image_bytes` once decoded, or stores something else than 1 to 4 bits of grey,
    8 or 16 bits, single 32-bit or float values, or the numbers of an ``.npy``.
    """
    with open_image(path) as opened:
        if isinstance(opened, tifffile.TiffPage):
            return _decode_tiff(path, opened)
        if isinstance(opened, PlainImage):
            return Stored(opened.samples(), top=opened.top)
        return _decode_with_pillow(path, opened)


def _decode_with_pillow(path: Path, image: ImageFile) -> Stored:
    if image.mode not in _MODES:
        raise PairError(f"colour mode {image.mode} cannot be used; save it as grey, RGB or RGBA")
    if image.format in ("PNG", "WEBP") and getattr(image, "n_frames", 1) > 1:
        raise PairError(f"an animation of {image.n_frames} pictures; save one of them")  # type: ignore[attr-defined]
    if image.format == "JPEG":
        _check_scans(path, image)
    raw = "" if image.format == "WEBP" else rawmode(image)
    lossy = image.format == "JPEG" or image.info.get("compression") == "jpeg"
    palette, grey_step = None, 1
    if image.mode in ("LA", "RGB", "RGBA") and ";16" in raw:
        samples = _decode_deep_colour(path, image)
    else:
        samples = np.asarray(image)
    # Only where the last row is black can pixels be missing; an interlaced image may miss them anywhere.
    if image.format == "PNG" and (image.info.get("interlace") or not samples[-1].any()):
        check_pixels(path.read_bytes())
    if image.mode == "P":
        palette = np.zeros((256, 3), np.uint8)
        colours = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
        palette[: len(colours)] = colours
    elif image.mode == "1":
        samples, grey_step = samples.astype(np.uint8), 255
    elif image.mode == "L" and raw.startswith(("L;2", "L;4")):
        # Pillow spreads 2- and 4-bit grey over 0..255; a label's ids are the samples before that.
        grey_step = 85 if raw.startswith("L;2") else 17
        samples = samples // np.uint8(grey_step)
    return Stored(upright(samples, pillow_orientation(image)), palette, grey_step, lossy)


def _check_scans(path: Path, image: ImageFile) -> None:
    """A progressive JPEG refines its whole image once per scan: a small file can name thousands of them."""
    scans = path.read_bytes().count(_START_OF_SCAN)
    if scans * image.width * image.height > _WORK_PER_BYTE * max_image_bytes():
        raise PairError(
            f"a JPEG of {scans} scans would take minutes to decode; save it as a plain JPEG or PNG"
        )


def _decode_deep_colour(path: Path, image: ImageFile) -> np.ndarray:
    """The 16-bit samples of a colour or grey + alpha PNG, of which Pillow keeps the high bytes only."""
    import cv2

    if image.format != "PNG":
        raise PairError("16-bit colour with this compression cannot be read; save it with deflate or none")
    # Pillow refuses damaged files; OpenCV gives what it could read of them.
    image.load()
    # What it cannot read it also tells the terminal, in words of its own.
    level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        samples = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_UNCHANGED)
    finally:
        cv2.utils.logging.setLogLevel(level)
    bands = len(image.getbands())
    if samples is None or samples.dtype != np.uint16 or samples.ndim != 3 or samples.shape[2] < bands:
        raise PairError("its 16-bit colours cannot be read; save it again")
    # OpenCV's order is blue, green, red, alpha; grey and a key colour come with all of them.
    return samples[..., {2: [2, 3], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[bands]]


def _decode_tiff(path: Path, page: tifffile.TiffPage) -> Stored:
    if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
        raise PairError("a TIFF whose zero is white; save it with zero as black")
    if not _within_tifffile(page):
        with libtiff_heard(), open_with_pillow(path, "TIFF") as image:
            return _decode_with_pillow(path, image)
    return decode_page(page)


def decode_page(page: tifffile.TiffPage) -> Stored:
    """The samples of a page that tifffile reads alone: plain, or by deflate or PackBits.

    Raises PairError, which does not name the file, for another compression or kind of page.
    """
    if not _within_tifffile(page):
        raise PairError("a page in a compression or of a kind that is not read; save it with deflate or none")
    check_inflated(page)
    # One strip or tile after the other, so that no more than one of them is inflated at once.
    samples = page.asarray(maxworkers=1)
    if page.axes == "SYX":
        samples = np.moveaxis(samples, 0, -1)
    elif page.axes not in ("YX", "YXS"):
        raise PairError(f"a TIFF with axes {page.axes}, not one flat image; save one slice of it")
    samples = samples.reshape(page.imagelength, page.imagewidth, -1)
    return Stored(upright(samples, tiff_orientation(page)))


def _within_tifffile(page: tifffile.TiffPage) -> bool:
    """Whether tifffile reads the page without further packages, and its samples are plain levels."""
    return (
        page.compression in _TIFFFILE_COMPRESSIONS
        and page.predictor in (tifffile.PREDICTOR.NONE, tifffile.PREDICTOR.HORIZONTAL)
        and page.photometric in (tifffile.PHOTOMETRIC.MINISBLACK, tifffile.PHOTOMETRIC.RGB)
        and page.bitspersample in (8, 16, 32, 64)
    )


def tiff_orientation(page: tifffile.TiffPage) -> int:
    """EXIF orientation, 1..8; 1 where a TIFF has none."""
    tag = page.tags.get(ExifTag.Orientation)
    return 1 if tag is None else int(tag.value)


def pillow_orientation(image: ImageFile) -> int:
    """EXIF orientation, 1..8; 1 where an image has none."""
    return int(image.getexif().get(ExifTag.Orientation, 1))


def upright(samples: np.ndarray, orientation: int) -> np.ndarray:
    """Undo an EXIF orientation (1..8; others mean nothing).

    samples: (H, W) or (H, W, C). Gives (H, W, C), C-contiguous and in native byte order.
    """
    samples = samples.reshape(*samples.shape[:2], -1)
    if 5 <= orientation <= 8:
        samples = samples.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        samples = samples[:, ::-1]
    if orientation in (3, 4, 7, 8):
        samples = samples[::-1]
    return np.ascontiguousarray(samples, samples.dtype.newbyteorder("="))
