"""Images for the tests of reading and writing, and the way back from what was read to what was stored."""

import struct
import zlib

import numpy as np


def noise(*shape: int, dtype: type = np.uint8, below: int | None = None) -> np.ndarray:
    top = below or np.iinfo(dtype).max + 1
    return np.random.default_rng(7).integers(0, top, shape).astype(dtype)


def counts(levels: np.ndarray, full: int) -> np.ndarray:
    """Values in [0, 1] back as the integers that they came from."""
    return np.rint(levels.astype(np.float64) * full).astype(np.int64)


def png_bytes(samples: np.ndarray, colour_type: int, depth: int) -> bytes:
    """A PNG made by hand from the specification, for the kinds that no library here writes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width = samples.shape[:2]
    if depth == 16:
        rows = samples.astype(">u2").reshape(height, -1).view(np.uint8)
    else:
        bits = (samples[..., np.newaxis] >> np.arange(depth)[::-1]) & 1
        rows = np.packbits(bits.reshape(height, -1).astype(np.uint8), axis=1)
    unfiltered = np.pad(rows, ((0, 0), (1, 0))).tobytes()
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    image = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(unfiltered)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + image
