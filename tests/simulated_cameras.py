"""Cameras and a clock that exist in the program alone: every failure happens at a known time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from crossband.errors import PairError
from crossband.loading import load
from crossband.stream.cameras import RecordedCamera
from crossband.words import Band

MS = 1_000_000
SIZE = (48, 64)


class SimulatedClock:
    """Time passes only by waiting, and by what is said to take time."""

    def __init__(self) -> None:
        self.time = 5_000 * MS
        self.waits = 0

    def now(self) -> int:
        return self.time

    def wait(self, nanoseconds: int) -> None:
        assert nanoseconds >= 0
        self.waits += 1
        # Never for no time at all: a loop that does not get on would go unseen.
        self.time += max(nanoseconds, 1000)


def scene(band: Band, number: int) -> np.ndarray:
    """A noisy picture that drifts: uint8 (H, W, 3), or uint16 counts (H, W) of 14 bits."""
    rng = np.random.default_rng([number, band == "visible"])
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    shape = np.sin((columns + number) / 9) * np.cos((rows - number / 2) / 7)
    if band == "visible":
        grey = 120 + 70 * shape + rng.normal(0, 2, SIZE)
        return np.repeat(grey.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)
    return (7600 + 500 * shape + rng.normal(0, 8, SIZE)).astype(np.uint16)


def faulty(band: Band, number: int, fault: str) -> np.ndarray:
    """What a camera gives in a fault, at its frame of a number; "frozen" is that of frame 0."""
    image = scene(band, number)
    rng = np.random.default_rng([number, 7])
    top = 255 if band == "visible" else 16383
    if fault == "black":
        noise = rng.integers(0, 5, SIZE) if band == "visible" else np.zeros(SIZE)
        grey = noise
    elif fault == "saturated":
        grey = np.full(SIZE, top)
    elif fault == "fixed pattern":
        stripes = np.tile(np.random.default_rng(3).integers(0, top, SIZE[1]), (SIZE[0], 1))
        grey = np.clip(stripes + rng.normal(0, top / 200, SIZE), 0, top)
    elif fault == "frozen":
        return scene(band, 0)
    else:
        raise PairError("a torn frame")
    levels = grey.astype(image.dtype)
    return np.repeat(levels[..., None], 3, axis=2) if image.ndim == 3 else levels


def camera(
    band: Band,
    rate: float,
    seconds: float,
    clock: SimulatedClock | None,
    fault: str | None = None,
    between: tuple[float, float] = (0, 0),
    offset: int = 0,
) -> RecordedCamera:
    """A camera of so many frames a second, which has a fault between two times, in seconds."""
    period = 1e9 / rate
    times = [round(number * period) + offset for number in range(int(seconds * rate))]
    if fault == "no frame":
        times = [time for time in times if not between[0] <= time / 1e9 < between[1]]

    def read(place: int) -> np.ndarray:
        number = round((times[place] - offset) / period)
        bad = fault is not None and fault != "no frame" and between[0] <= times[place] / 1e9 < between[1]
        return faulty(band, number, fault or "") if bad else scene(band, number)

    return RecordedCamera(times, read, clock=clock)


def fusing(clock: SimulatedClock | None = None, nanoseconds: int = 0) -> Any:
    """The average of both bands, which takes so long by a clock."""
    predictor = load("average", infrared_scaling="fixed(6000, 9000)", device="cpu")
    if clock is None:
        return predictor
    predict: Callable[..., Any] = predictor.predict

    def slow(pair: Any) -> Any:
        clock.time += nanoseconds
        return predict(pair)

    predictor.predict = slow  # type: ignore[method-assign]
    return predictor


def endless(band: Band) -> Iterator[np.ndarray]:
    """Images without an end."""
    number = 0
    while True:
        yield scene(band, number)
        number += 1
