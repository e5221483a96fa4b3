"""How much a compressed stream holds, counted without keeping any of it."""

from __future__ import annotations

import zlib

DEFLATE_RATIO = 1032
"""What one byte of a deflate stream can inflate to at most (zlib's technical notes)."""
PACKBITS_RATIO = 64
_PIECE = 1 << 20


def deflated_bytes(data: bytes, limit: int) -> int:
    """What a deflate stream inflates to; counting stops above the limit. Raises zlib.error if damaged."""
    stream, total = zlib.decompressobj(), 0
    while data and total <= limit and not stream.eof:
        total += len(stream.decompress(data, _PIECE))
        data = stream.unconsumed_tail
    return total


def packed_bytes(data: bytes, limit: int) -> int:
    """What a PackBits stream unpacks to (TIFF 6.0, section 9); counting stops above the limit."""
    total = place = 0
    while place < len(data) and total <= limit:
        head = data[place]
        literal = head < 128
        total += head + 1 if literal else 257 - head if head > 128 else 0
        place += head + 2 if literal else 2 if head > 128 else 1
    return total
