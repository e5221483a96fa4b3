"""DJI's radiometric JPEGs: 16-bit counts in the segments APP3, after another.

What turns counts into degrees is known to DJI's own program only, so these give counts.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from crossband.pairs.radiometric.measured import Radiometric

SEGMENT = 3
_SENSORS = ((512, 640), (256, 320), (120, 160))
"""Height and width of the sensors, should the picture have another size than the counts."""


def dji_size(segments: Sequence[tuple[int, bytes]], picture: tuple[int, int]) -> tuple[int, int] | None:
    """(height, width) of the counts in a JPEG's segments, None if they are none.

    picture: (height, width) of the JPEG itself. The counts fill all segments APP3 exactly, in the picture's
    size or in that of one of DJI's sensors.
    """
    length = sum(len(data) for number, data in segments if number == SEGMENT)
    for height, width in (picture, *_SENSORS):
        if length and length == 2 * height * width:
            return height, width
    return None


def read_dji(segments: Sequence[tuple[int, bytes]], size: tuple[int, int]) -> Radiometric:
    """The counts in a JPEG's segments, of the size that `dji_size` gives."""
    data = b"".join(data for number, data in segments if number == SEGMENT)
    return Radiometric("DJI", np.frombuffer(data, "<u2").astype(np.uint16).reshape(size))
