"""A moment of a stream as a picture, which says what is wrong with the cameras."""

from __future__ import annotations

from typing import Literal

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from crossband.stream.stream import Moment

Show = Literal["overlay", "fused"]
_SMALLEST, _LARGEST = 10, 28
_RED = (185, 28, 28)


def picture_of(moment: Moment, show: Show, size: tuple[int, int] | None = None) -> np.ndarray | None:
    """The overlay or the fused picture, with a line for each band that is off: uint8 (H, W, 3), sRGB.

    size: height and width of a black picture where there is no prediction; None then gives None.
    """
    prediction = moment.prediction
    if prediction is None:
        if size is None:
            return None
        picture = np.zeros((*size, 3), np.uint8)
    elif show == "fused" and prediction.fused is not None:
        picture = prediction.fused
    else:
        picture = np.asarray(prediction.overlay())
    lines = [f"{band} off: {fault}" for band, fault in moment.faults.items() if fault is not None]
    if moment.why is not None and prediction is None:
        lines.append(moment.why)
    return _written(picture, lines) if lines else picture


def _written(picture: np.ndarray, lines: list[str]) -> np.ndarray:
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    height = min(max(picture.shape[0] // 20, _SMALLEST), _LARGEST)
    font = ImageFont.load_default(size=height)
    for number, line in enumerate(lines):
        top = number * (height + 6)
        draw.rectangle((0, top, font.getlength(line) + 12, top + height + 5), fill=_RED)
        draw.text((6, top + 2), line, (255, 255, 255), font=font)
    return np.asarray(image)
