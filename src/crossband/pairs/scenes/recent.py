"""Scenes that were rendered last, kept in memory: a training reads each again in every epoch."""

from __future__ import annotations

from collections import OrderedDict
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


class Recent:
    """The scenes asked for last, up to a number of bytes; may be asked from several threads."""

    def __init__(self, most_bytes: int = _MOST_BYTES):
        self._most_bytes = most_bytes
        self._kept: OrderedDict[Hashable, Drawn] = OrderedDict()
        self._bytes = 0
        self._lock = Lock()

    def get(self, key: Hashable, draw: Callable[[], Drawn]) -> Drawn:
        """The scene of this key, drawn if it is not kept. Its arrays are shared: nobody may write to them."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        drawn = draw()
        with self._lock:
            if key not in self._kept:
                self._kept[key] = drawn
                self._bytes += drawn.bytes
            while self._bytes > self._most_bytes:
                self._bytes -= self._kept.popitem(last=False)[1].bytes
        return drawn
