"""What a radiometric file holds, whoever made it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crossband.errors import PairError
from crossband.pairs.radiometric.embedded import jpeg_pixels
from crossband.pairs.radiometric.temperature import Conditions, Radiometry


@dataclass(frozen=True)
class Alignment:
    """How the camera itself lays its visible image over its infrared one.

    real2ir: how many times as wide as the infrared image the visible one sees. offset_x, offset_y: from the
    middle of the visible image to the middle of the part that infrared sees, in pixels of the visible image.
    """

    real2ir: float
    offset_x: int
    offset_y: int

    def crop(self, height: int, width: int) -> tuple[float, float, float, float]:
        """The part of the embedded visible image that the infrared one shows: left, top, right, bottom.

        height, width: of the visible image. In its pixels, from the corner of the first one; the part may lie
        a little outside. Resized to the infrared image's size it lies over it, as well as the camera knows.
        """
        half_width, half_height = width / self.real2ir / 2, height / self.real2ir / 2
        x, y = width / 2 + self.offset_x, height / 2 + self.offset_y
        return x - half_width, y - half_height, x + half_width, y + half_height


@dataclass(frozen=True)
class Radiometric:
    """The measurement in a radiometric file.

    maker: "FLIR" or "DJI". counts: uint16 (H, W), as the sensor gave them. radiometry: what turns them into
    degrees, or None where the file does not say. visible_jpeg: the embedded visible image as a JPEG file, or
    None. alignment: how it lies over the counts, or None. orientation: EXIF's (1..8), by which the picture
    that the file shows is to be turned, and all of this with it.
    """

    maker: str
    counts: np.ndarray
    radiometry: Radiometry | None = None
    visible_jpeg: bytes | None = None
    alignment: Alignment | None = None
    orientation: int = 1

    def celsius(self, conditions: Conditions | None = None) -> np.ndarray:
        """Degrees Celsius, float32 (H, W). conditions: other ones than the camera was set to.

        Raises PairError, which does not name the file, if the file does not hold the camera's constants, or
        if the conditions leave nothing to be measured.
        """
        if self.radiometry is None:
            raise PairError(
                f"this radiometric file ({self.maker}) does not hold the constants that turn its counts into "
                "degrees; use fixed(low, high) with its counts, or convert it by its maker's program"
            )
        radiometry = self.radiometry.under(conditions or Conditions())
        if not radiometry.plausible:
            raise PairError("under these conditions nothing of the object reaches the camera; check them")
        return radiometry.celsius(self.counts)

    def visible(self) -> np.ndarray | None:
        """The embedded visible image, uint8 (H, W, 3), sRGB; None where there is none.

        Raises PairError, which does not name the file, if it is damaged or larger than `max_image_bytes`.
        """
        return None if self.visible_jpeg is None else jpeg_pixels(self.visible_jpeg)
