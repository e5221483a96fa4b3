"""Seeded damage to files, for tests of every reader: the same seed gives the same damage."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from random import Random

_EXTREMES = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_TOKENS = (
    "&a [*a]", "*a", "<<: {}", "!!float x", "!!python/object:os.system x", "2001-99-99", "0x_", "9" * 5000,
    "../../up", "/etc/passwd", "\x1b[31m", "=1+1", "[" * 200, "{a: " * 200, "\x00", "\ufeff", "null", ".nan",
    "-1", "1e999", "true", '"', "'", "\n\n", "\t", ",", ":", "'" * 300, "é" * 300, "\udcff",
)  # fmt: skip


def damaged(data: bytes, seed: int) -> bytes:
    """The bytes of a file after one to four kinds of damage: flipped bits, cuts, extreme numbers, ..."""
    random = Random(seed)
    for _ in range(random.randint(1, 4)):
        if data:
            data = random.choice(_BYTE_DAMAGE)(data, random)
    return data


def garbled(text: str, seed: int) -> bytes:
    """A text, as UTF-8 or nearly so, after one to four lines or places were swapped, cut or replaced."""
    random = Random(seed)
    for _ in range(random.randint(1, 4)):
        text = random.choice(_TEXT_DAMAGE)(text, random)
    data = text.encode(errors="surrogateescape")
    return damaged(data, seed) if random.random() < 0.2 else data


def _flip(data: bytes, random: Random) -> bytes:
    changed = bytearray(data)
    for _ in range(random.randint(1, 8)):
        changed[random.randrange(len(data))] ^= 1 << random.randrange(8)
    return bytes(changed)


def _number(data: bytes, random: Random) -> bytes:
    """An extreme number in the place of another, in either byte order: sizes, counts, offsets."""
    changed, value = bytearray(data), random.choice(_EXTREMES)
    form = random.choice("<>") + random.choice("BHIQ")
    size = struct.calcsize(form)
    if len(data) >= size:
        place = random.randrange(min(len(data), 512) - size + 1) if len(data) > 512 else 0
        place = place or random.randrange(len(data) - size + 1)
        struct.pack_into(form, changed, place, value & (1 << 8 * size) - 1)
    return bytes(changed)


def _cut(data: bytes, random: Random) -> bytes:
    return data[: random.randrange(len(data))]


def _drop(data: bytes, random: Random) -> bytes:
    start = random.randrange(len(data))
    return data[:start] + data[start + random.randint(1, 64) :]


def _repeat(data: bytes, random: Random) -> bytes:
    start = random.randrange(len(data))
    return data[:start] + data[start : start + random.randint(1, 64)] * random.randint(2, 5) + data[start:]


def _tiff_tag(data: bytes, random: Random) -> bytes:
    """Another kind, count or value in an entry of a TIFF's first page, or another place of the next page."""
    order = "<" if data[:2] == b"II" else ">"
    if data[2:4] not in (b"*\x00", b"\x00*") or len(data) < 8:
        return _number(data, random)
    (page,) = struct.unpack_from(order + "I", data, 4)
    if page + 2 > len(data):
        return _flip(data, random)
    (entries,) = struct.unpack_from(order + "H", data, page)
    entry = page + 2 + 12 * random.randrange(max(1, min(entries, 40)))
    field, form = random.choice([(0, "H"), (2, "H"), (4, "I"), (8, "I"), (8, "H")])
    place = entry + field
    if random.random() < 0.1:
        place, form = page + 2 + 12 * entries, "I"
    if place + struct.calcsize(form) > len(data):
        return _flip(data, random)
    value = random.choice([*_EXTREMES, page, random.randrange(300), random.randrange(16)])
    changed = bytearray(data)
    struct.pack_into(order + form, changed, place, value & (1 << 8 * struct.calcsize(form)) - 1)
    return bytes(changed)


def _png_chunk(data: bytes, random: Random) -> bytes:
    """Other bytes in a chunk of a PNG, whose checksum is right again, or another zlib stream in IDAT."""
    if not data.startswith(b"\x89PNG"):
        return _tiff_tag(data, random)
    chunks, place = [], 8
    while place + 12 <= len(data):
        (size,) = struct.unpack_from(">I", data, place)
        chunks.append((place, size))
        place += 12 + size
    place, size = random.choice(chunks or [(0, 0)])
    kind, body = data[place + 4 : place + 8], data[place + 8 : place + 8 + size]
    if kind == b"IDAT" and random.random() < 0.5:
        body = zlib.compress(random.randbytes(random.randrange(2000)))
    elif body:
        body = random.choice((_flip, _number, _cut, _repeat))(body, random)
    whole = struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    return data[:place] + whole + data[place + 12 + size :]


def _insert_token(text: str, random: Random) -> str:
    place = random.randint(0, len(text))
    return text[:place] + random.choice(_TOKENS) + text[place:]


def _replace_word(text: str, random: Random) -> str:
    words = text.split(" ")
    words[random.randrange(len(words))] = random.choice(_TOKENS)
    return " ".join(words)


def _swap_lines(text: str, random: Random) -> str:
    lines = text.split("\n")
    lines[random.randrange(len(lines))] = random.choice([*lines, random.choice(_TOKENS)])
    return "\n".join(lines)


def _cut_text(text: str, random: Random) -> str:
    return text[: random.randint(0, len(text))]


_BYTE_DAMAGE: tuple[Callable[[bytes, Random], bytes], ...] = (
    _flip, _number, _number, _cut, _drop, _repeat, _tiff_tag, _tiff_tag, _png_chunk, _png_chunk,
)  # fmt: skip
_TEXT_DAMAGE: tuple[Callable[[str, Random], str], ...] = (
    _insert_token,
    _replace_word,
    _swap_lines,
    _cut_text,
)
