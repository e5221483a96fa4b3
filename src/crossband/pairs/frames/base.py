"""What all files of many frames are to their readers."""

from __future__ import annotations

import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from crossband.errors import PairError
from crossband.pairs.decoding import Stored
from crossband.pairs.image_files import errors_named


class Frames(ABC):
    """The frames of one file, in their order. A frame is decoded when it is asked for.

    size: (height, width) of all frames. times: when each was taken, in nanoseconds, rising; None where the
    file does not say, and then without_times is what is told, where they are asked for. May be used from
    several threads, after a fork, and pickled.
    """

    path: Path
    size: tuple[int, int]
    times: Sequence[int] | None = None
    without_times = "its frames have no times; pair them by number"

    def __init__(self, path: Path, count: int, size: tuple[int, int]):
        self.path = path
        self.size = size
        self._count = count
        self._start_over()

    def _start_over(self) -> None:
        # A lock or a place in a file that another process holds too is of no use here.
        self._lock, self._process = threading.Lock(), os.getpid()
        self._open: Any = None

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Stored:
        """One frame as it is stored. Raises PairError, naming the file and the frame, if it is damaged."""
        if not 0 <= index < self._count:
            raise IndexError(f"{self.path} has {self._count} frames, no frame {index}")
        if os.getpid() != self._process:
            self._start_over()
        with self._lock, errors_named(self.path, folder=self.path.is_dir()):
            stored = self._read(index)
            if stored.samples.shape[:2] != self.size:
                height, width = stored.samples.shape[:2]
                raise PairError(
                    f"frame {index} is {height} x {width} pixels, the first {self.size[0]} x {self.size[1]}; "
                    "save those of one size together"
                )
            return stored

    @abstractmethod
    def _read(self, index: int) -> Stored:
        """Decode one frame; errors do not name the file.

        What it keeps open from one call to the next is ``_open``, None at first and in another process.
        """

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("_lock", "_open")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._start_over()
