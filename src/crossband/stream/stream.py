"""A stream: what a system sees in two cameras, moment by moment."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any

from crossband.band_monitor import BandSwitch
from crossband.errors import BandError, OptionError, PairError
from crossband.pairs.base import Pair
from crossband.prediction import Prediction
from crossband.predictor import Predictor
from crossband.runtime.exported import Exported
from crossband.stream.cameras import Camera, Clock, RealClock
from crossband.stream.pairing import Change, Match, Pairing
from crossband.stream.smoothing import LabelVote, ScalingMean
from crossband.stream.statistics import Statistics
from crossband.words import BANDS, Band, Fault

_LONGEST_WAIT = 50_000_000
_SILENCE = 1_000_000_000
"""Nanoseconds between moments that say no more than that nothing can be seen."""


@dataclass(frozen=True)
class Moment:
    """What there is to say at one time.

    time: in nanoseconds of the stream's clock, or of the recording. match: the frames. prediction: None if no
    band can be used, or the system cannot run on what is left; then why says so. faults: why each band is
    off, None for those that are on. changes: bands that were turned on or off since the last moment.
    """

    time: int
    match: Match
    prediction: Prediction | None
    faults: Mapping[Band, Fault | None]
    changes: tuple[Change, ...] = ()
    why: str | None = None


class Stream:
    """Pairs the frames of two cameras by time, leaves dead ones out, and gives what the system sees.

    Iterating gives a `Moment` for each pair. If a camera is live, what comes while the system is at work is
    dropped, the oldest first, and the newest pair is run; nothing waits for a camera that gives no frames. Of
    recordings every frame is used.

    A predictor whose run has a monitor of its own (`Predictor`, monitor) judges each pair too. A band that
    does harm is left out after two such pairs, and used again after five without.
    """

    def __init__(
        self,
        predictor: Predictor,
        visible: Camera | None = None,
        infrared: Camera | None = None,
        *,
        max_gap: int | None = None,
        smooth: int = 1,
        smooth_scaling: int = 1,
        ignore: Collection[Fault] = (),
        clock: Clock | None = None,
    ):
        """max_gap, ignore: as in `Pairing`. smooth: frames over which labels are smoothed (`LabelVote`).
        smooth_scaling: frames over which the infrared scaling is (`ScalingMean`); 1 leaves it as it is.

        clock: the one that the cameras have. Raises OptionError without a camera, for one that is live beside
        a recording that is not played, and for smoothing that makes no sense; BandError for bands that the
        system cannot run on.
        """
        given: dict[Band, Camera | None] = {"visible": visible, "infrared": infrared}
        self.cameras = {band: camera for band, camera in given.items() if camera is not None}
        if not self.cameras:
            raise OptionError("a stream needs a visible or an infrared camera, or both")
        if len({camera.live for camera in self.cameras.values()}) > 1:
            raise OptionError("a camera is live and the other a recording; play it in real time, by a clock")
        predictor.system.check_bands("both" if len(self.cameras) == 2 else next(iter(self.cameras)))
        self.predictor = predictor
        self.statistics = Statistics()
        self.clock: Clock = clock or RealClock()
        periods = {band: camera.period for band, camera in self.cameras.items()}
        self._pairing = Pairing(periods, max_gap=max_gap, ignore=ignore)
        classes = predictor.card.classes
        vote = LabelVote(smooth, 1 if classes is None else len(classes))
        if smooth > 1 and classes is None:
            raise OptionError(f"{predictor.system.name} only fuses: there are no labels to smooth")
        self._vote = vote if smooth > 1 else None
        self._scaling: ScalingMean | None = None
        if smooth_scaling != 1:
            if isinstance(predictor.system, Exported) and predictor.system.rescales:
                raise OptionError(
                    f"this exported {predictor.system.name} scales each frame by its own {predictor.scaling} "
                    "in its graph, and there is nothing to smooth: leave out --smooth_scaling, or stream "
                    "the run"
                )
            self._scaling = ScalingMean(smooth_scaling, predictor.scaling, predictor.false_colour)
        watched = predictor.monitor is not None and predictor.monitor.trained is not None
        self._switches = {band: BandSwitch(ignore=ignore) for band in BANDS if watched}
        self._judged: list[Change] = []
        self._worked = False
        self._told: int | None = None

    @property
    def lag(self) -> int:
        """Frames by which smoothing shows a change late."""
        return 0 if self._vote is None else self._vote.lag

    @property
    def scaling_lag(self) -> float:
        """Frames by which the infrared scaling sees half of a step late."""
        return 0.0 if self._scaling is None else self._scaling.lag

    def dropped(self) -> dict[str, int]:
        """Frames of each camera that came and were not taken in time."""
        return {str(band): camera.dropped for band, camera in self.cameras.items()}

    def damaged(self) -> dict[Band, int]:
        """Frames of each camera that could not be read and were passed over; those without any left out."""
        return {band: camera.damaged for band, camera in self.cameras.items() if camera.damaged}

    def failures(self) -> dict[Band, str]:
        """Why cameras cannot be opened, or broke off; those that are open are left out."""
        return {band: camera.failure for band, camera in self.cameras.items() if camera.failure is not None}

    def __iter__(self) -> Iterator[Moment]:
        return self._live() if next(iter(self.cameras.values())).live else self._recorded()

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the cameras back."""
        for camera in self.cameras.values():
            camera.close()

    def _live(self) -> Iterator[Moment]:
        while True:
            ended = all(camera.ended for camera in self.cameras.values())
            came = [(frame, band) for band, camera in self.cameras.items() for frame in camera.poll()]
            matches: list[Match] = []
            for frame, band in sorted(came, key=lambda one: one[0].time):
                matches += self._pairing.frame(band, frame)
            now = self.clock.now()
            # At the end nothing is missed any more.
            matches += self._pairing.finish() if ended else self._pairing.tick(now)
            if matches:
                self.statistics.dropped += len(matches) - 1
                newest = max(matches, key=lambda match: match.time)
                self.statistics.note("wait", now - newest.time)
                yield self._moment(newest)
            elif not ended and self._nothing_to_see(now):
                yield self._moment(Match(now, None, None))
            elif not came and not ended:
                due = self._pairing.due()
                self.clock.wait(_LONGEST_WAIT if due is None else min(max(due - now, 0), _LONGEST_WAIT))
            if ended:
                return

    def _recorded(self) -> Iterator[Moment]:
        while True:
            waiting = {
                band: time
                for band, camera in self.cameras.items()
                if (time := camera.following()) is not None
            }
            if not waiting:
                break
            band = min(waiting, key=waiting.__getitem__)
            # Before the frame is taken: what should have come in the meantime did not.
            matches = self._pairing.tick(waiting[band])
            for frame in self.cameras[band].poll():
                matches += self._pairing.frame(band, frame)
            yield from map(self._moment, matches)
            if not matches and self._nothing_to_see(waiting[band]):
                yield self._moment(Match(waiting[band], None, None))
        yield from map(self._moment, self._pairing.finish())

    def _nothing_to_see(self, now: int) -> bool:
        """Whether no band is on, and it is time to say so."""
        if any(self._pairing.on(band) for band in BANDS):
            return False
        return self._pairing.has_changed or self._told is None or now - self._told >= _SILENCE

    def _moment(self, match: Match) -> Moment:
        changes, faults = self._pairing.take_changes(), self._pairing.faults()
        began = self.clock.now()
        prediction, why = self._predicted(match)
        changes, self._judged = changes + self._judged, []
        faults |= {band: fault for band, fault in self._harmful().items() if faults.get(band) is None}
        ended = self.clock.now()
        if prediction is not None:
            self.statistics.note("predict", ended - began)
            self.statistics.result(ended)
        elif match.visible is not None or match.infrared is not None:
            self.statistics.unused += 1
        self._told = match.time
        return Moment(match.time, match, prediction, faults, tuple(changes), why)

    def _predicted(self, match: Match) -> tuple[Prediction | None, str | None]:
        images: dict[str, Any] = {
            band: _levels(frame.image) for band in BANDS if (frame := getattr(match, band)) is not None
        }
        if not images:
            return None, "no band can be used"
        try:
            if self._scaling is not None and "infrared" in images:
                self.predictor.scaling = self._scaling(images["infrared"])
            prediction = self._seen(self.predictor.pair_of(**images), match.time)
        except BandError as error:
            return None, str(error)
        except PairError as error:
            if not self._worked:
                # From the start: it is not the cameras.
                raise
            return None, str(error)
        self._worked = True
        if self._vote is None or prediction.labels is None:
            return prediction, None
        return replace(prediction, labels=self._vote(prediction.labels)), None

    def _seen(self, pair: Pair, time: int) -> Prediction:
        """The prediction of a pair, without a band that has done harm for a while."""
        if not self._switches:
            return self.predictor.predict(pair)
        if pair.visible is not None and pair.infrared is not None:
            made = self.predictor.judged(pair)
            for band, switch in self._switches.items():
                if switch.note(made.faults.get(band)).changed:
                    self._judged.append(Change(time, band, switch.on, None if switch.on else switch.fault))
            if not self._harmful():
                return replace(made, faults={})
        return self.predictor.predict(pair, faults=self._harmful())

    def _harmful(self) -> dict[Band, Fault]:
        """The bands that are off because of the pairs that they were part of, and why."""
        return {
            band: switch.fault
            for band, switch in self._switches.items()
            if not switch.on and switch.fault is not None
        }


def _levels(image: Any) -> Any:
    return image[..., 0] if image.ndim == 3 and image.shape[2] == 1 else image
