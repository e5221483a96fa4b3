"""Streams against cameras whose every failure has a known time, on a clock that only the test moves."""

from __future__ import annotations

import threading
import tracemalloc
from collections.abc import Iterator
from itertools import pairwise
from time import monotonic, sleep

import numpy as np
import pytest

from crossband.errors import BandError, OptionError
from crossband.stream import LiveCamera, Moment, RecordedCamera, Stream
from crossband.stream.cameras import Frame, RealClock
from crossband.stream.pairing import Pairing
from crossband.stream.smoothing import LabelVote
from crossband.words import BANDS, FRAME_FAULTS, IGNORE_INDEX, Band, Fault
from simulated_cameras import MS, SimulatedClock, camera, endless, fusing, scene

RATES = {"visible": 30.0, "infrared": 10.0}


def run(stream: Stream, most: int = 100_000) -> list[Moment]:
    """Everything that a stream gives; a loop that does not end is an error."""
    moments = []
    for moment in stream:
        moments.append(moment)
        assert len(moments) < most
    return moments


def bands(moment: Moment) -> str:
    return "none" if moment.prediction is None else moment.prediction.bands


@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize("rates", [(30.0, 9.0), (9.0, 30.0), (25.0, 25.0), (30.0, 25.0), (30.0, 27.0)])
def test_frames_of_two_rates_are_paired_by_time(rates: tuple[float, float], live: bool) -> None:
    clock = SimulatedClock() if live else None
    cameras = (
        camera("visible", rates[0], 4, clock),
        camera("infrared", rates[1], 4, clock, offset=4 * MS),
    )
    stream = Stream(fusing(), *cameras, clock=clock)
    moments = run(stream)
    slower = min(rates)
    paired = [moment for moment in moments if moment.match.gap is not None]
    # The first frame or two come before either camera's rate is known.
    assert len(paired) >= 4 * slower - 3
    assert len(moments) <= 4 * slower + 2
    assert max(abs(moment.match.gap or 0) for moment in paired) <= 1e9 / max(rates) / 2 + 5 * MS
    times = [moment.match.visible.time for moment in paired if moment.match.visible]
    assert times == sorted(set(times))
    assert not any(moment.changes for moment in moments)


@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize("fault", FRAME_FAULTS)
@pytest.mark.parametrize("band", BANDS)
def test_a_dead_camera_is_left_out_within_three_frames_and_comes_back(
    band: Band, fault: Fault, live: bool
) -> None:
    clock = SimulatedClock() if live else None
    other: Band = "infrared" if band == "visible" else "visible"
    begin, end = 2.05, 4.05
    cameras = {
        band: camera(band, RATES[band], 7, clock, fault, (begin, end)),
        other: camera(other, RATES[other], 7, clock),
    }
    stream = Stream(fusing(), **cameras, clock=clock)
    moments = run(stream)
    start = moments[0].time
    changes = [change for moment in moments for change in moment.changes]
    assert [(change.band, change.on) for change in changes] == [(band, False), (band, True)]
    assert changes[0].fault == fault
    period = 1e9 / RATES[band]
    off, on = ((change.time - start) / 1e9 for change in changes)
    assert begin <= off <= begin + 3 * period / 1e9 + 0.051, "within three of its frames"
    assert end <= on <= end + 7 * period / 1e9
    # In between, and from its end on, the system goes on with what there is.
    during = [moment for moment in moments if off + 0.01 < (moment.time - start) / 1e9 < on - 0.01]
    assert {bands(moment) for moment in during} == {other}
    assert len(during) >= (on - off) * RATES[other] - 3
    after = [moment for moment in moments if on + 0.2 < (moment.time - start) / 1e9 < 6.5]
    assert {bands(moment) for moment in after} == {"both"}
    assert max(b.time - a.time for a, b in pairwise(moments)) <= 360 * MS


def test_both_cameras_dead_is_said_and_nothing_hangs() -> None:
    clock = SimulatedClock()
    cameras = (
        camera("visible", 30, 9, clock, "no frame", (2, 6)),
        camera("infrared", 10, 9, clock, "black", (3, 7)),
    )
    moments = run(Stream(fusing(), *cameras, clock=clock))
    start = moments[0].time
    dark = [moment for moment in moments if moment.prediction is None]
    assert [moment.why for moment in dark] == ["no band can be used"] * len(dark)
    assert 2 <= len(dark) <= 6
    assert dark[0].faults == {"visible": "no frame", "infrared": "black"}
    assert (dark[0].time - start) / 1e9 == pytest.approx(3.1, abs=0.1)
    assert bands(moments[-1]) == "both"
    assert clock.waits < 5000


def test_what_cannot_be_run_on_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = fusing()
    supports = {"both": "designed"}

    def check(given: str) -> str:
        if given not in supports:
            raise BandError(f"it cannot run on {given} alone")
        return supports[given]

    monkeypatch.setattr(predictor.system, "check_bands", check)
    moments = run(
        Stream(predictor, camera("visible", 20, 3, None, "frozen", (1, 2)), camera("infrared", 20, 3, None))
    )
    assert {moment.why for moment in moments} == {None, "it cannot run on infrared alone"}
    with pytest.raises(BandError, match="visible alone"):
        Stream(predictor, camera("visible", 20, 3, None))


def test_what_comes_while_the_system_works_is_dropped_the_oldest_first() -> None:
    clock = SimulatedClock()
    stream = Stream(
        fusing(clock, 400 * MS),
        camera("visible", 30, 10, clock),
        camera("infrared", 9, 10, clock),
        clock=clock,
    )
    moments = run(stream)
    assert 20 <= len(moments) <= 27
    # What is run is never older than a frame of the slower camera, and what it takes.
    assert max(stream.statistics.percentiles()["wait"]) < 150
    assert stream.statistics.percentiles()["predict"][0] == pytest.approx(400)
    assert stream.statistics.dropped > 20
    assert sum(stream.dropped().values()) > 50
    assert {bands(moment) for moment in moments[2:]} == {"both"}
    assert not any(moment.changes for moment in moments)
    assert "dropped" in stream.statistics.text(stream.dropped())


def test_one_camera_alone() -> None:
    moments = run(Stream(fusing(), infrared=camera("infrared", 10, 3, None, "black", (1, 2))))
    assert {bands(moment) for moment in moments} == {"infrared", "none"}
    assert [str(c) for moment in moments for c in moment.changes] == [
        "infrared off: black",
        "infrared is back",
    ]


def test_a_torn_frame_is_passed_over() -> None:
    moments = run(
        Stream(fusing(), camera("visible", 20, 2, None, "torn", (1.0, 1.05)), camera("infrared", 20, 2, None))
    )
    assert [bands(moment) for moment in moments].count("infrared") == 1
    assert not any(moment.changes for moment in moments)


@pytest.mark.parametrize("live", [False, True])
def test_slow_recordings_are_not_dead(live: bool) -> None:
    clock = SimulatedClock() if live else None
    cameras = camera("visible", 0.5, 20, clock), camera("infrared", 0.5, 20, clock)
    moments = run(Stream(fusing(), *cameras, clock=clock))
    assert [bands(moment) for moment in moments] == ["both"] * 10


def test_frames_that_come_all_at_once_are_not_the_rate() -> None:
    """As from a network camera, which begins with what it had in store."""
    pairing = Pairing({"visible": None})
    stored = [number * MS for number in range(8)]
    times = stored + [stored[-1] + number * 100 * MS for number in range(1, 30)]
    changes = []
    for number, time in enumerate(times):
        while (due := pairing.due()) is not None and due < time:
            pairing.tick(due)
        pairing.frame("visible", Frame(time, number, scene("visible", number)))
        changes += pairing.take_changes()
    assert pairing.on("visible")
    assert all(change.time < times[16] for change in changes)


def test_refused() -> None:
    with pytest.raises(OptionError, match="needs a visible or an infrared camera"):
        Stream(fusing())
    clock = SimulatedClock()
    with pytest.raises(OptionError, match="play it in real time"):
        Stream(fusing(), camera("visible", 9, 1, clock), camera("infrared", 9, 1, None))
    with pytest.raises(OptionError, match="odd number"):
        Stream(fusing(), camera("visible", 9, 1, None), smooth=4)


class TestLiveCamera:
    def test_a_camera_that_hangs_holds_nobody_up(self) -> None:
        hanging = threading.Event()

        def opened() -> Iterator[np.ndarray]:
            yield scene("visible", 0)
            hanging.wait(60)

        clock = RealClock()
        dead = LiveCamera(opened, clock)
        alive = LiveCamera(lambda: endless_slowly(clock), clock, again=None)
        with Stream(fusing(), dead, alive, clock=clock) as stream:
            seen = []
            for moment in stream:
                seen.append(moment)
                if moment.faults["visible"] is not None and bands(moment) == "infrared":
                    break
        hanging.set()
        assert seen[-1].faults == {"visible": "no frame", "infrared": None}

    def test_whatever_it_raises_it_is_opened_again(self) -> None:
        """Libraries of cameras raise what they like, such as ``cv2.error``, which is no OSError."""
        tried: list[int] = []

        def opened() -> Iterator[np.ndarray]:
            tried.append(1)
            if len(tried) < 3:
                raise ValueError("no such\nexposure")
            yield from endless_slowly(clock)

        clock = RealClock()
        camera = LiveCamera(opened, clock, again=0.001)
        try:
            frames: list[Frame] = []
            until = monotonic() + 10
            while not frames and monotonic() < until:
                frames = camera.poll()
                sleep(0.001)
            assert frames
            assert len(tried) == 3
            assert camera.failure is None
        finally:
            camera.close()

    def test_it_is_opened_again_and_drops_the_oldest(self) -> None:
        opened = []
        filled = threading.Event()

        def breaking() -> Iterator[np.ndarray]:
            opened.append(len(opened))
            if len(opened) == 1:
                raise OSError("unplugged")
            yield from (scene("visible", number) for number in range(20))
            filled.set()

        live = LiveCamera(breaking, RealClock(), again=0.001)
        assert filled.wait(30)
        frames = live.poll()
        live.close()
        assert [frame.number for frame in frames][-1] >= 19
        assert len(frames) <= 8
        assert live.dropped >= 12


def endless_slowly(clock: RealClock) -> Iterator[np.ndarray]:
    pause = threading.Event()
    for image in endless("infrared"):
        pause.wait(0.02)
        yield image


class TestSmoothing:
    def test_the_commonest_class_wins_and_changes_come_late_by_the_lag(self) -> None:
        vote = LabelVote(5, 3)
        assert vote.lag == 2
        zeros, ones = np.zeros((3, 4), np.uint8), np.ones((3, 4), np.uint8)
        given = [zeros, zeros, zeros, ones, zeros, ones, ones, ones, ones]
        found = [int(vote(labels)[0, 0]) for labels in given]
        expected = []
        for place in range(len(given)):
            recent = [int(labels[0, 0]) for labels in given[max(0, place - 4) : place + 1]]
            expected.append(max(range(3), key=lambda c: (2 * recent.count(c) + (recent[-1] == c), -c)))
        assert found == expected
        # A lasting change at frame 5 is shown from the frame on that is two later.
        assert found[5:8] == [0, 1, 1] or found[7] == 1

    def test_by_counting_pixel_by_pixel(self) -> None:
        rng = np.random.default_rng(0)
        given = [rng.choice([0, 1, 2, 3, IGNORE_INDEX], (6, 7)).astype(np.uint8) for _ in range(12)]
        vote = LabelVote(3, 4)
        for place, labels in enumerate(given):
            found = vote(labels)
            recent = np.stack(given[max(0, place - 2) : place + 1])
            for row, column in np.ndindex(labels.shape):
                newest = labels[row, column]
                if newest == IGNORE_INDEX:
                    assert found[row, column] == IGNORE_INDEX
                    continue
                counts = [2 * (recent[:, row, column] == c).sum() + (newest == c) for c in range(4)]
                assert counts[found[row, column]] == max(counts)

    def test_another_size_begins_anew(self) -> None:
        vote = LabelVote(3, 2)
        vote(np.ones((4, 4), np.uint8))
        assert vote(np.zeros((2, 3), np.uint8)).shape == (2, 3)


@pytest.mark.slow
def test_memory_is_flat_over_ten_thousand_frames() -> None:
    clock = SimulatedClock()
    images = {band: [scene(band, number) for number in range(40)] for band in BANDS}

    def endless_camera(band: Band, rate: int) -> RecordedCamera:
        times = range(0, 10_000 * 10**9 // rate, 10**9 // rate)
        return RecordedCamera(times, lambda place: images[band][place % 40], clock=clock)

    stream = Stream(fusing(), endless_camera("visible", 30), endless_camera("infrared", 30), clock=clock)
    held = {}
    tracemalloc.start()
    try:
        for number, _ in enumerate(stream):
            if number in (2500, 9900):
                held[number] = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert number > 9_900
    assert held[9900] - held[2500] < 200_000
