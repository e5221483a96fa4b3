"""Labels that flicker less: each pixel's commonest class of the last frames."""

from __future__ import annotations

from collections import deque

import numpy as np

from crossband.errors import OptionError
from crossband.words import IGNORE_INDEX


class LabelVote:
    """The commonest class of each pixel over the last ``frames`` label maps; the newest one wins a tie.

    What changes is seen (frames - 1) / 2 frames late: that is its lag.
    """

    def __init__(self, frames: int, classes: int):
        """Raises OptionError for a number of frames that is even or below 1."""
        if frames < 1 or frames % 2 == 0:
            raise OptionError(f"labels are smoothed over an odd number of frames, not {frames}")
        self._most, self._classes = frames, classes
        self._recent: deque[np.ndarray] = deque()
        self._counts: np.ndarray | None = None

    @property
    def lag(self) -> int:
        """Frames by which a change is seen late."""
        return (self._most - 1) // 2

    def __call__(self, labels: np.ndarray) -> np.ndarray:
        """The vote with one more label map: uint8 (H, W), like what it is given. Another size begins anew."""
        if self._most == 1:
            return labels
        if self._counts is None or self._counts.shape[1:] != labels.shape:
            self._recent.clear()
            self._counts = np.zeros((self._classes, *labels.shape), np.uint16)
        self._add(labels, 1)
        self._recent.append(labels)
        if len(self._recent) > self._most:
            self._add(self._recent.popleft(), -1)
        # Half a vote more for the newest.
        votes = 2 * self._counts
        known = labels != IGNORE_INDEX
        rows, columns = np.nonzero(known)
        votes[labels[known], rows, columns] += 1
        found = votes.argmax(0).astype(np.uint8)
        return np.where(known, found, np.uint8(IGNORE_INDEX))

    def _add(self, labels: np.ndarray, sign: int) -> None:
        assert self._counts is not None
        rows, columns = np.nonzero(labels != IGNORE_INDEX)
        ids = labels[rows, columns]
        if sign > 0:
            self._counts[ids, rows, columns] += 1
        else:
            self._counts[ids, rows, columns] -= 1
