"""Small radiometric files made by hand, for the tests of their readers."""

import io
import struct

import numpy as np
from PIL import Image

from stored_images import png_bytes

PARAMETERS = {
    "emissivity": 0.95, "distance": 3.0, "reflected": 295.15, "atmosphere": 288.15, "window": 303.0,
    "window_transmission": 0.9, "humidity": 0.4, "r1": 17368.826, "b": 1442.4, "f": 1.0, "alpha1": 0.006569,
    "alpha2": 0.01262, "beta1": -0.002276, "beta2": -0.006677, "x": 1.9, "r2": 0.018815819,
}  # fmt: skip
O_CONSTANT = -1550
_PLACES = {
    "emissivity": 32, "distance": 36, "reflected": 40, "atmosphere": 44, "window": 48,
    "window_transmission": 52, "humidity": 60, "r1": 88, "b": 92, "f": 96, "alpha1": 112, "alpha2": 116,
    "beta1": 120, "beta2": 124, "x": 128, "r2": 780,
}  # fmt: skip


def jpeg(image: np.ndarray, **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, format="JPEG", quality=95, **options)
    return file.getvalue()


def with_segments(picture: bytes, number: int, parts: list[bytes]) -> bytes:
    """A JPEG with further application segments behind its first mark."""
    segments = [bytes((0xFF, 0xE0 + number)) + struct.pack(">H", len(part) + 2) + part for part in parts]
    return picture[:2] + b"".join(segments) + picture[2:]


def _image_record(size: tuple[int, int], data: bytes) -> bytes:
    return struct.pack("<HHH", 2, size[1], size[0]).ljust(32, b"\0") + data


def flir_block(
    counts: np.ndarray,
    *,
    png: bool = True,
    parameters: dict[str, float] | None = None,
    visible: bytes | None = None,
    alignment: tuple[float, int, int] = (1.5, 4, -2),
) -> bytes:
    """FLIR's records: counts (H, W) uint16, parameters (None leaves them out), a visible image, alignment."""
    # The samples of FLIR's PNG have their bytes exchanged.
    data = png_bytes(counts.byteswap(), colour_type=0, depth=16) if png else counts.astype("<u2").tobytes()
    records = [(0x01, _image_record(counts.shape, data))]
    if parameters is not None:
        values = bytearray(struct.pack("<H", 2).ljust(900, b"\0"))
        for name, place in _PLACES.items():
            struct.pack_into("<f", values, place, parameters[name])
        struct.pack_into("<i", values, 776, O_CONSTANT)
        records.append((0x20, bytes(values)))
    if visible is not None:
        records.append((0x0E, _image_record((1, 1), visible)))
        records.append((0x2A, struct.pack("<fhh", *alignment).ljust(96, b"\0")))
    place, directory, bodies = 64 + 32 * (len(records) + 1), b"", b""
    for kind, body in records:
        directory += struct.pack(">HHIIII", kind, 3, 100, 1, place + len(bodies), len(body)).ljust(32, b"\0")
        bodies += body
    header = b"FFF\0".ljust(20, b"\0") + struct.pack(">III", 100, 64, len(records) + 1)
    return header.ljust(64, b"\0") + directory + bytes(32) + bodies


def flir_jpeg(block: bytes, picture: bytes, part: int = 200) -> bytes:
    """FLIR's records cut into the segments APP1 of a JPEG."""
    parts = [block[place : place + part] for place in range(0, len(block), part)]
    heads = [b"FLIR\0\1" + bytes((number, len(parts) - 1)) for number in range(len(parts))]
    return with_segments(picture, 1, [head + body for head, body in zip(heads, parts, strict=True)])


def dji_jpeg(counts: np.ndarray, picture: bytes, part: int = 300) -> bytes:
    data = counts.astype("<u2").tobytes()
    return with_segments(picture, 3, [data[place : place + part] for place in range(0, len(data), part)])
