"""Cameras, or files in their place, that give frames without ever waiting for them."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from crossband.errors import PairError

KEPT = 8
"""Frames of a live camera that wait to be taken; then the oldest is dropped."""


@dataclass(frozen=True)
class Frame:
    """One image of a camera.

    time: when it came, in nanoseconds of the stream's clock. number: of the frames that the camera gave, from
    0, those that were dropped among them. image: levels as stored, (H, W) or (H, W, C).
    """

    time: int
    number: int
    image: np.ndarray


class Clock(Protocol):
    """What a stream knows of time."""

    def now(self) -> int:
        """Nanoseconds since any moment; never goes back."""

    def wait(self, nanoseconds: int) -> None:
        """Return after so long, or earlier, if something has happened."""


class RealClock:
    """The computer's clock. `wake` ends a wait."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def now(self) -> int:
        return time.monotonic_ns()

    def wait(self, nanoseconds: int) -> None:
        if self._event.wait(nanoseconds / 1e9):
            self._event.clear()

    def wake(self) -> None:
        """End the wait of another thread, or its next one."""
        self._event.set()


class Camera(ABC):
    """Gives the frames of one band.

    live: whether frames come when they will; else `following` says when the next one was taken. dropped: how
    many frames were never given. ended: whether no frame will come any more. period: nanoseconds between
    frames, where that is known before they come. failure: why the camera cannot be opened or broke off, in a
    few words; None while it is open. damaged: how many frames could not be read and were passed over; damage:
    what was wrong with the first of them.
    """

    live = True
    period: float | None = None
    dropped = 0
    ended = False
    failure: str | None = None
    damaged = 0
    damage: str | None = None

    @abstractmethod
    def poll(self) -> list[Frame]:
        """The frames that have come since the last call, in their order; never waits for one."""

    def following(self) -> int | None:
        """When the next frame of a recording was taken; None of a live camera, or at the end."""
        return None

    def close(self) -> None:  # noqa: B027
        """Give the camera back, where there is one to give back."""


class LiveCamera(Camera):
    """A camera whose frames are read by a thread, which may hang without anybody waiting for it.

    open: gives the images of the camera, one after another, as they come; it may raise or end, and is called
    again after a pause, as a camera that was unplugged comes back. again: seconds of this pause; None ends.
    """

    def __init__(
        self, open: Callable[[], Iterator[np.ndarray]], clock: RealClock, *, again: float | None = 1.0
    ):
        self._open, self._clock, self._again = open, clock, again
        self._waiting: deque[Frame] = deque()
        self._lock = threading.Lock()
        self._count = 0
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True, name="camera")
        self._thread.start()

    def poll(self) -> list[Frame]:
        with self._lock:
            frames = list(self._waiting)
            self._waiting.clear()
        return frames

    def close(self) -> None:
        self._closed.set()
        # One that hangs is left behind: it ends with the program.
        self._thread.join(timeout=1)

    def _read(self) -> None:
        while not self._closed.is_set():
            try:
                for image in self._open():
                    self.failure = None
                    self._take(image)
                    if self._closed.is_set():
                        return
                self.failure = "it ended"
            except Exception as error:
                # Whatever a camera's own code raises. One that breaks off is a band without frames, which the
                # stream says; without this thread it would not come back.
                self.failure = " ".join(str(error).split()) or type(error).__name__
            if self._again is None:
                self.ended = True
                self._clock.wake()
                return
            self._closed.wait(self._again)

    def _take(self, image: np.ndarray) -> None:
        with self._lock:
            self._waiting.append(Frame(self._clock.now(), self._count, image))
            self._count += 1
            if len(self._waiting) > KEPT:
                self._waiting.popleft()
                self.dropped += 1
        self._clock.wake()


class RecordedCamera(Camera):
    """A recording.

    times: when each frame was taken, in nanoseconds from the stream's beginning, rising. read: gives a
    frame's image by its number; one that raises PairError is passed over and counted. clock: play it as
    if it came now, dropping what nobody took; None gives every frame.
    """

    def __init__(
        self, times: Sequence[int], read: Callable[[int], np.ndarray], *, clock: Clock | None = None
    ):
        self.live = clock is not None
        self._times, self._read, self._clock = times, read, clock
        self._place = 0
        self._start: int | None = None
        self.ended = not len(times)
        if len(times) > 1:
            self.period = float(np.median(np.diff(times))) or None

    def poll(self) -> list[Frame]:
        if self._clock is None:
            return [] if self.ended else self._given([self._place], self._place + 1)
        now = self._clock.now()
        if self._start is None:
            self._start = now
        last = self._place
        while last < len(self._times) and self._times[last] + self._start <= now:
            last += 1
        due = list(range(self._place, last))
        self.dropped += max(len(due) - KEPT, 0)
        return self._given(due[-KEPT:], last)

    def following(self) -> int | None:
        return None if self.ended or self.live else self._times[self._place]

    def _given(self, places: Sequence[int], following: int) -> list[Frame]:
        frames = []
        for place in places:
            try:
                image = self._read(place)
            except PairError as error:
                self.damaged += 1
                self.damage = self.damage or str(error)
                continue
            frames.append(Frame(self._times[place] + (self._start or 0), place, image))
        self._place = following
        self.ended = self._place >= len(self._times)
        return frames
