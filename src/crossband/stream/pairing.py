"""Frames of two cameras of different rates to pairs, by time, whatever one of the cameras does."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from crossband.band_monitor import BandMonitor
from crossband.stream.cameras import Frame
from crossband.words import BANDS, Band, Fault

UNSEEN_PERIOD = 1_000_000_000
"""Nanoseconds between frames of a camera that has not given two yet, and does not say."""
_OVERDUE = 1.5
"""Periods after its last frame at which a frame is missed; each further period is another one."""
_PAUSE = 3.5
"""Periods without a frame that say nothing of the camera's rate, unless the next frame takes as long."""
_RATE_OVER = 16
_MOST_WAITING = 64
_SLOWER = 1.05
"""The pace passes to the camera whose period is so many times that of the one that sets it: what is measured
over a few frames differs by less between cameras of one rate."""


@dataclass(frozen=True)
class Match:
    """Frames that go together; a band that is off, or has none near enough, is None. time: the slower's."""

    time: int
    visible: Frame | None
    infrared: Frame | None

    @property
    def gap(self) -> int | None:
        """Nanoseconds by which infrared comes after visible; None of one band."""
        if self.visible is None or self.infrared is None:
            return None
        return self.infrared.time - self.visible.time


@dataclass(frozen=True)
class Change:
    """A band was turned on or off. fault: why it is off, None if it is on."""

    time: int
    band: Band
    on: bool
    fault: Fault | None

    def __str__(self) -> str:
        return f"{self.band} is back" if self.on else f"{self.band} off: {self.fault}"


class _Side:
    """What is known of one camera."""

    def __init__(self, band: Band, ignore: Collection[Fault], period: float | None):
        self.band = band
        self.monitor = BandMonitor(band, ignore=ignore)
        self.waiting: deque[Frame] = deque(maxlen=_MOST_WAITING)
        self.misses = 0
        self._recent: deque[tuple[int, int]] = deque(maxlen=_RATE_OVER)
        self._period = period
        self._paused = False
        self._since: int | None = None

    @property
    def period(self) -> float:
        return self._period or UNSEEN_PERIOD

    @property
    def last(self) -> int | None:
        """When the last frame came, or when the first one began to be waited for."""
        return self._recent[-1][0] if self._recent else self._since

    @property
    def due(self) -> float | None:
        """When the next frame is missed."""
        return None if self.last is None else self.last + self.period * (_OVERDUE + self.misses)

    def begin(self, time: int) -> None:
        if self._since is None:
            self._since = time

    def came(self, frame: Frame) -> None:
        if self._recent and frame.time - self._recent[-1][0] > _PAUSE * self.period:
            # A network camera begins with what it had in store, all at once: that is not its rate.
            if len(self._recent) > 1 or not self._paused:
                self._recent.clear()
            self._paused = True
        elif self._recent:
            self._paused = False
        self._recent.append((frame.time, frame.number))
        (first, one), (last, other) = self._recent[0], self._recent[-1]
        if other > one and last > first:
            self._period = (last - first) / (other - one)
        self.misses = 0

    def miss(self, now: int) -> None:
        assert self.last is not None
        # Of a long silence one moment is enough: it does not get any more silent.
        self.misses = max(self.misses + 1, int((now - self.last) / self.period - _OVERDUE) - 1)


class Pairing:
    """Pairs of the frames of one or two cameras, which are put in by `frame` in the order of their times.

    The slower camera that is on sets the pace: each of its frames is paired with the other's nearest one,
    each of these once. A frame that is overdue is not waited for: after a period and a half, the other band
    goes on alone.

    bands: nanoseconds between the frames of each camera, None where that is not known: one that gives none is
    missed after 1.5 s then. max_gap: nanoseconds that the frames of a pair may be apart; None is a period of
    the faster one. ignore: faults that turn no band off.

    passed_over: frames by band that no pair was made of, since the other camera is slower.
    """

    def __init__(
        self,
        bands: Mapping[Band, float | None],
        *,
        max_gap: int | None = None,
        ignore: Collection[Fault] = (),
    ):
        self._sides = {band: _Side(band, ignore, bands[band]) for band in BANDS if band in bands}
        self._max_gap = max_gap
        self._slower: Band = "visible"
        self._changes: list[Change] = []
        self.passed_over: dict[Band, int] = dict.fromkeys(self._sides, 0)

    def on(self, band: Band) -> bool:
        """Whether a band is there and is used."""
        return band in self._sides and self._sides[band].monitor.on

    def faults(self) -> dict[Band, Fault | None]:
        """Why each band that is off is off; None for those that are on."""
        return {band: None if side.monitor.on else side.monitor.fault for band, side in self._sides.items()}

    @property
    def has_changed(self) -> bool:
        """Whether a band was turned on or off since `take_changes` was called."""
        return bool(self._changes)

    def take_changes(self) -> list[Change]:
        """The bands that were turned on or off since the last call."""
        changes, self._changes = self._changes, []
        return changes

    def due(self) -> int | None:
        """When `tick` has something to do, if no frame comes before."""
        times = [side.due for side in self._sides.values() if side.due is not None and side.monitor.on]
        return None if not times else round(min(times))

    def frame(self, band: Band, frame: Frame) -> list[Match]:
        """Put a frame in; gives the pairs that are complete by it."""
        side = self._sides[band]
        self._begin(frame.time)
        side.came(frame)
        self._note(side, frame.time, side.monitor.see(frame.image).changed)
        if side.monitor.on:
            side.waiting.append(frame)
        else:
            side.waiting.clear()
        return self._complete(frame.time)

    def tick(self, now: int) -> list[Match]:
        """Say what time it is; gives the pairs that are not waited for any longer."""
        self._begin(now)
        matches: list[Match] = []
        for side in self._sides.values():
            while side.due is not None and now >= side.due:
                side.miss(now)
                was_on = side.monitor.on
                self._note(side, now, side.monitor.see(None).changed)
                if was_on and side is self._pace():
                    matches += self._alone(side)
        return matches + self._complete(now)

    def finish(self) -> list[Match]:
        """No frame comes any more; gives what still waits."""
        return self._complete(None)

    def _begin(self, time: int) -> None:
        for side in self._sides.values():
            side.begin(time)

    def _note(self, side: _Side, time: int, changed: bool) -> None:
        if changed:
            fault = None if side.monitor.on else side.monitor.fault
            self._changes.append(Change(time, side.band, side.monitor.on, fault))

    def _pace(self) -> _Side | None:
        """The side that sets the pace: the slower one that is on."""
        on = [side for side in self._sides.values() if side.monitor.on]
        if len(on) == 2:
            slower, faster = on if on[0].band == self._slower else reversed(on)
            if faster.period > _SLOWER * slower.period:
                slower = faster
            self._slower = slower.band
            return slower
        return on[0] if on else None

    def _alone(self, missed: _Side) -> list[Match]:
        """The other band's newest frame in place of a pair that is overdue."""
        other = next((side for side in self._sides.values() if side is not missed and side.monitor.on), None)
        if other is None or not other.waiting:
            return []
        self.passed_over[other.band] += len(other.waiting) - 1
        newest = other.waiting.pop()
        other.waiting.clear()
        return [_match({other.band: newest})]

    def _complete(self, now: int | None) -> list[Match]:
        """Pairs whose partner is known. now: None if no other one will come."""
        pace = self._pace()
        if pace is None:
            return []
        other = next((side for side in self._sides.values() if side is not pace and side.monitor.on), None)
        matches = []
        while pace.waiting:
            if other is not None and not self._is_known(pace.waiting[0], other, now):
                break
            frame = pace.waiting.popleft()
            partner = None if other is None else self._partner(frame, other)
            matches.append(
                _match(
                    {pace.band: frame} | ({} if other is None or partner is None else {other.band: partner})
                )
            )
        return matches

    def _is_known(self, frame: Frame, other: _Side, now: int | None) -> bool:
        """Whether no frame can come that is nearer to one than those that wait, or it is overdue."""
        if now is None or (other.due is not None and now >= other.due):
            return True
        newest = other.waiting[-1].time if other.waiting else None
        return newest is not None and newest >= frame.time - other.period / 2

    def _partner(self, frame: Frame, other: _Side) -> Frame | None:
        """The nearest frame that waits, if it is near enough; what is older than it is passed over."""
        limit = other.period if self._max_gap is None else self._max_gap
        nearest = min(other.waiting, key=lambda one: abs(one.time - frame.time), default=None)
        if nearest is None or abs(nearest.time - frame.time) > limit:
            while other.waiting and other.waiting[0].time < frame.time - limit:
                other.waiting.popleft()
                self.passed_over[other.band] += 1
            return None
        while other.waiting.popleft() is not nearest:
            self.passed_over[other.band] += 1
        return nearest


def _match(frames: dict[Band, Frame]) -> Match:
    time = next(iter(frames.values())).time
    return Match(time, frames.get("visible"), frames.get("infrared"))
