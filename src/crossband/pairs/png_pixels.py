"""Whether a PNG holds the pixels that its header claims: Pillow leaves those that are missing black."""

from __future__ import annotations

import struct

from crossband.errors import PairError
from crossband.pairs.inflating import DEFLATE_RATIO, deflated_bytes

_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_FIRST_CHUNK = 8
_MISSING = "its header claims more pixels than the file holds; copy it again"


def check_claim(start: bytes, size: int) -> None:
    """Raises PairError if a PNG is too small for what its header claims, however well it is compressed.

    start: its first bytes, 29 or more. size: of all of it, in bytes.
    """
    if size * DEFLATE_RATIO < _claimed_bytes(start):
        raise PairError(_MISSING)


def check_pixels(data: bytes) -> None:
    """Raises PairError if a PNG's compressed pixels end before the image does. Inflates them all."""
    claimed = _claimed_bytes(data)
    if deflated_bytes(_compressed(data), claimed - 1) < claimed:
        raise PairError(_MISSING)


def _claimed_bytes(start: bytes) -> int:
    """Bytes of the inflated rows, each with its filter's number (PNG, section 7.2); interlaced: at least."""
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", start[16:29])
    bits = width * depth * _CHANNELS[colour]
    return height * bits // 8 if interlaced else height * (1 + (bits + 7) // 8)


def _compressed(data: bytes) -> bytes:
    """What the IDAT chunks hold, joined."""
    parts, place = [], _FIRST_CHUNK
    while place + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, place)
        if kind == b"IDAT":
            parts.append(data[place + 8 : place + 8 + size])
        place += 12 + size
    return b"".join(parts)
