"""What a WebP says of its size, before a decoder takes memory by it."""

from __future__ import annotations

from crossband.errors import PairError

WEBP_START = (b"RIFF", b"WEBP")
_HEADER = 30


def webp_size(start: bytes, size: int) -> tuple[int, int]:
    """(height, width) of a WebP (RFC 9649). start: its first 30 bytes. size: of all of it, in bytes.

    Raises PairError if its header is damaged or the end of the file is missing.
    """
    if len(start) < _HEADER or int.from_bytes(start[4:8], "little") + 8 > size:
        raise PairError("the end of the file is missing; copy it again")
    kind = start[12:16]
    if kind == b"VP8X":
        width, height = (int.from_bytes(start[place : place + 3], "little") + 1 for place in (24, 27))
    elif kind == b"VP8L":
        bits = int.from_bytes(start[21:25], "little")
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    elif kind == b"VP8 ":
        width, height = (int.from_bytes(start[place : place + 2], "little") & 0x3FFF for place in (26, 28))
    else:
        raise PairError("its header names no picture; copy it again")
    return height, width
