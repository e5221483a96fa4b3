"""Scenes that were rendered, kept in memory: a training reads each again in every epoch."""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable
from threading import Lock
from typing import NamedTuple

import numpy as np

_MOST_BYTES = 64 << 20
"""Of a process. The 320 scenes of 120 x 160 that the results are trained on take half of it."""


class Drawn(NamedTuple):
    """What is drawn of a scene: visible uint8 (H, W, 3), infrared uint8 (H, W), label uint8 (H, W)."""

    visible: np.ndarray
    infrared: np.ndarray
    label: np.ndarray
    condition: str

    @property
    def bytes(self) -> int:
        return self.visible.nbytes + self.infrared.nbytes + self.label.nbytes


class KeptScenes:
    """Scenes that were asked for, up to a number of bytes; may be asked from several threads.

    Which one makes room is drawn: of more scenes than there is room for, read in the same order again and
    again, the oldest would always go just before it is asked for.
    """

    def __init__(self, most_bytes: int = _MOST_BYTES):
        self._most_bytes = most_bytes
        self._kept: dict[Hashable, Drawn] = {}
        self._keys: list[Hashable] = []
        self._bytes = 0
        self._lock = Lock()
        self._random = random.Random(0)

    def get(self, key: Hashable, draw: Callable[[], Drawn]) -> Drawn:
        """The scene of this key, drawn if it is not kept. Its arrays are shared: nobody may write to them."""
        with self._lock:
            if key in self._kept:
                return self._kept[key]
        drawn = draw()
        with self._lock:
            if key not in self._kept and drawn.bytes <= self._most_bytes:
                self._make_room(drawn.bytes)
                self._kept[key] = drawn
                self._keys.append(key)
                self._bytes += drawn.bytes
        return drawn

    def _make_room(self, size: int) -> None:
        while self._bytes + size > self._most_bytes:
            place = self._random.randrange(len(self._keys))
            self._keys[place], self._keys[-1] = self._keys[-1], self._keys[place]
            self._bytes -= self._kept.pop(self._keys.pop()).bytes
