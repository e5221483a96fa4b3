"""The application segments of a JPEG, where cameras keep what they measured."""

from __future__ import annotations

import os
from collections.abc import Collection
from typing import BinaryIO

from crossband.errors import PairError
from crossband.pairs.image_files import check_bytes

_START, _SCAN, _END = 0xD8, 0xDA, 0xD9
_FIRST_APP = 0xE0
_MOST_SEGMENTS = 10_000


def app_segments(file: BinaryIO, wanted: Collection[int]) -> list[tuple[int, bytes]]:
    """The segments APP`n` before a JPEG's first scan, for each n that is wanted: (n, what it holds).

    A file whose list of segments is damaged gives those before the damage. Raises PairError if they take more
    than `max_image_bytes`.
    """
    file.seek(0)
    if file.read(2) != bytes((0xFF, _START)):
        return []
    found: list[tuple[int, bytes]] = []
    size = 0
    for _ in range(_MOST_SEGMENTS):
        mark = file.read(2)
        while mark == b"\xff\xff":
            mark = mark[1:] + file.read(1)
        if len(mark) < 2 or mark[0] != 0xFF or mark[1] in (_SCAN, _END):
            return found
        length = int.from_bytes(file.read(2), "big") - 2
        if length < 0:
            return found
        number = mark[1] - _FIRST_APP
        if number not in wanted:
            file.seek(length, os.SEEK_CUR)
            continue
        data = file.read(length)
        if len(data) < length:
            return found
        size += length
        check_bytes(size)
        found.append((number, data))
    raise PairError(f"a JPEG of more than {_MOST_SEGMENTS} segments; copy it again")
