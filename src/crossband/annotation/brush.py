"""The run-length code of Label Studio's brush (``"format": "rle"``): bits of an RGBA picture.

32 bits: how many values; 5 bits: the size of a value less one; four times 4 bits: sizes of lengths less one.
Then blocks: one bit, 1 for one value that repeats and 0 for values as they are; 2 bits, which size the length
has; the length less one; the value, or so many values. Bits of a byte go from the highest to the lowest.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from crossband.errors import PairError

_WORD = 8
_SIZES = (3, 4, 8, 16)
_PAINTED = 255


def encode_brush(mask: np.ndarray) -> list[int]:
    """The code of a mask, bool (H, W): bytes as integers 0..255."""
    flat = mask.ravel()
    edges = np.flatnonzero(np.diff(flat)) + 1
    starts = np.concatenate([[0], edges])
    lengths = np.diff(np.concatenate([starts, [flat.size]])) * 4
    bits = [f"{flat.size * 4:032b}{_WORD - 1:05b}", *(f"{size - 1:04b}" for size in _SIZES)]
    for start, length in zip(starts.tolist(), lengths.tolist(), strict=True):
        value = _PAINTED if flat[start] else 0
        while length > 0:
            part = min(length, 1 << _SIZES[-1])
            which = next(place for place, size in enumerate(_SIZES) if part <= 1 << size)
            bits.append(f"1{which:02b}{part - 1:0{_SIZES[which]}b}{value:0{_WORD}b}")
            length -= part
    text = "".join(bits)
    text += "0" * (-len(text) % 8)
    return list(int(text, 2).to_bytes(len(text) // 8, "big"))


def decode_brush(code: Sequence[int], height: int, width: int) -> np.ndarray:
    """The mask of a code: bool (H, W), True where its alpha is above 0.

    Raises PairError for a code that is damaged, or is of a picture of another size.
    """
    try:
        bits = np.unpackbits(np.frombuffer(bytes(code), np.uint8))
    except (ValueError, TypeError) as error:
        raise PairError(
            "a brush mask is no list of bytes; export it from Label Studio as JSON again"
        ) from error
    place = 0

    def taken(count: int) -> int:
        nonlocal place
        if place + count > bits.size:
            raise PairError("a brush mask ends too early; export it from Label Studio as JSON again")
        value = 0
        for bit in bits[place : place + count].tolist():
            value = value << 1 | bit
        place += count
        return value

    total, word = taken(32), taken(5) + 1
    sizes = [taken(4) + 1 for _ in range(4)]
    if total != height * width * 4:
        raise PairError(f"a brush mask has {total // 4} pixels, but its image is {height} x {width}")
    values = np.zeros(total, np.uint32)
    done = 0
    while done < total:
        repeats, which = taken(1), taken(2)
        length = taken(sizes[which]) + 1
        if done + length > total:
            raise PairError("a brush mask is longer than its image; export it from Label Studio again")
        if repeats:
            values[done : done + length] = taken(word)
        else:
            for offset in range(length):
                values[done + offset] = taken(word)
        done += length
    return values.reshape(height, width, 4)[..., 3] > 0
