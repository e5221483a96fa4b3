"""The detector of dead cameras: what it must see, in how many frames, and what it must let pass."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from crossband.band_monitor import ON_AFTER, BandMonitor, examine
from crossband.pairs.decoding import decode
from crossband.pairs.opening import open_pairs
from crossband.words import BANDS, FRAME_FAULTS, Band, Fault
from simulated_cameras import faulty, scene


def image(band: Band, number: int, fault: Fault | None) -> np.ndarray | None:
    if fault is None:
        return scene(band, number)
    return None if fault == "no frame" else faulty(band, number, fault)


@pytest.mark.parametrize("band", BANDS)
@pytest.mark.parametrize("fault", FRAME_FAULTS)
def test_a_fault_turns_a_band_off_within_three_frames_and_it_comes_back(band: Band, fault: Fault) -> None:
    monitor = BandMonitor(band)
    for number in range(-4, 1):
        assert monitor.see(scene(band, abs(number))).on
    verdicts = [monitor.see(image(band, number, fault)) for number in range(1, 12)]
    assert verdicts[0].on, "one bad frame is no dead camera"
    off = [number for number, verdict in enumerate(verdicts) if not verdict.on]
    assert off[0] <= 2
    assert off == list(range(off[0], 11))
    assert [verdict.changed for verdict in verdicts].count(True) == 1
    assert monitor.fault == fault
    back = [monitor.see(scene(band, number)).on for number in range(20, 30)]
    assert back == [False] * (ON_AFTER - 1) + [True] * (11 - ON_AFTER)
    assert monitor.fault is None


@pytest.mark.parametrize("band", BANDS)
def test_a_camera_that_comes_and_goes_stays_off(band: Band) -> None:
    monitor = BandMonitor(band)
    states = []
    for number in range(1, 60):
        bad = number % 5 < 2
        states.append(monitor.see(image(band, number, "black" if bad else None)).on)
    assert sum(a != b for a, b in pairwise(states)) == 1


def test_film_at_a_video_s_rate_is_not_frozen() -> None:
    monitor = BandMonitor("visible")
    for number in range(20):
        for _ in range(3):
            assert monitor.see(scene("visible", number)).on


def test_what_is_to_be_ignored_turns_nothing_off() -> None:
    monitor = BandMonitor("infrared", ignore=["frozen", "black"])
    assert all(monitor.see(scene("infrared", 0)).on for _ in range(9))
    assert all(monitor.see(np.zeros((40, 40), np.uint16)).on for _ in range(9))
    assert not all(monitor.see(None).on for _ in range(3))


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
def test_any_type_is_looked_at(kind: type[np.generic]) -> None:
    top = 1.0 if kind is np.float32 else np.iinfo(kind).max
    good = (scene("visible", 3) / 255 * top).astype(kind)
    assert examine("visible", good)[0] is None
    assert examine("visible", np.zeros_like(good))[0] == "black"
    assert examine("visible", np.full_like(good, top))[0] == "saturated"
    assert examine("infrared", np.full_like(good[..., 0], top / 3))[0] == "fixed pattern"
    noise = np.random.default_rng(0).random((64, 80)) * top
    assert examine("infrared", noise.astype(kind))[0] == "fixed pattern"
    bars = np.repeat(np.linspace(0.1, 0.9, 8), 10)[None].repeat(64, 0) * top
    assert examine("visible", bars.astype(kind))[0] == "fixed pattern"


def test_degrees_are_no_levels() -> None:
    warm = 20 + 10 * (scene("infrared", 1).astype(np.float32) / 8000)
    assert examine("infrared", warm)[0] is None
    assert examine("infrared", warm - 60)[0] is None
    assert examine("infrared", np.full_like(warm, 21.5))[0] == "fixed pattern"


def test_generated_scenes_by_day_and_night_are_good() -> None:
    for pair in open_pairs("scenes,test=12,size=120x160", "test"):
        assert examine("visible", pair.visible)[0] is None, pair.name
        assert examine("infrared", pair.infrared)[0] is None, pair.name


@pytest.mark.parametrize("folder", ["roadscene", "msrs_boxes/test", "rig/aerial_sequence"])
def test_no_false_alarm_on_real_pairs(shared_data: Path, folder: str) -> None:
    root = shared_data / folder
    if not root.is_dir():
        pytest.skip(f"no {root}")
    for band in BANDS:
        for path in sorted((root / band).iterdir())[:40]:
            assert examine(band, decode(path).levels())[0] is None, path
