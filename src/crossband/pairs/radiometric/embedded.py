"""Images inside of files, decoded within the same limits as files of their own."""

from __future__ import annotations

import io
import struct

import numpy as np
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from crossband.errors import PairError
from crossband.pairs.image_files import check_bytes
from crossband.pairs.png_pixels import check_claim, check_pixels

PNG_START = b"\x89PNG\r\n\x1a\n"
_HEADER = struct.Struct(">8sI4sIIBB")
_MOST_SCANS = 100
_START_OF_SCAN = b"\xff\xda"


def png_counts(data: bytes, height: int, width: int) -> np.ndarray:
    """The samples of a 16-bit grey PNG: uint16 (H, W). Raises PairError if it is none of this size."""
    if len(data) < _HEADER.size:
        raise PairError("its thermal plane is cut off; copy it again")
    _, _, chunk, wide, high, depth, colour = _HEADER.unpack_from(data)
    if chunk != b"IHDR" or (high, wide, depth, colour) != (height, width, 16, 0):
        raise PairError("its thermal plane is no 16-bit grey PNG of the size that it names; copy it again")
    check_claim(data[:33], len(data))
    with PngImageFile(io.BytesIO(data)) as image:
        counts = np.asarray(image)
    check_pixels(data)
    if counts.shape != (height, width) or counts.dtype.kind not in "ui":
        raise PairError("its thermal plane is no 16-bit grey PNG; copy it again")
    return counts.astype(np.uint16)


def jpeg_pixels(data: bytes) -> np.ndarray:
    """The colours of a JPEG: uint8 (H, W, 3), sRGB. Raises PairError as the reader of files does."""
    try:
        with JpegImageFile(io.BytesIO(data)) as image:
            check_bytes(image.width * image.height * 3)
            if data.count(_START_OF_SCAN) > _MOST_SCANS:
                raise PairError(f"its visible image is a JPEG of more than {_MOST_SCANS} scans")
            return np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError, struct.error) as error:
        raise PairError(f"its visible image is damaged ({error}); copy the file again") from error
