"""``crossband stream``: recordings in, pictures, labels, a table and a video out, whole however it ends."""

from __future__ import annotations

import csv
import json
import os
import signal
import sys
import threading
import time
from importlib.util import find_spec
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from command_line import refused
from crossband.cli import main
from crossband.errors import CrossbandWarning, OptionError, PairError
from crossband.loading import load
from crossband.pairs.base import Classes
from crossband.pairs.false_colour import palette
from crossband.pairs.frames import open_frames
from crossband.pairs.infrared_scaling import InfraredScaling
from crossband.report.rerun_recording import RerunRecording
from crossband.report.rerun_stream import BYTES_A_SECOND, MomentRecording
from crossband.result_folder import read_manifest
from crossband.stream import LiveCamera, RecordedCamera, Stream
from crossband.stream.cameras import RealClock
from crossband.stream.live import is_live
from crossband.stream.opening import camera_told, open_cameras
from crossband.stream.pairing import Change, Match
from crossband.stream.sharing import MomentSharer, read_shared
from crossband.stream.smoothing import ScalingMean
from crossband.stream.stream import Moment
from crossband.weights import make_card, save_run
from crossband.words import BANDS, IGNORE_INDEX
from fake_rerun import fake_rerun
from processes import Command
from simulated_cameras import MS, SIZE, faulty, fusing, scene
from tiny_systems import csknet, randomise_norms

START = 1_700_000_000_000


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """Images by times in milliseconds: visible at 20 Hz, black in the second second; infrared at 10 Hz."""
    for band, rate in zip(BANDS, (20, 10), strict=True):
        (tmp_path / band).mkdir()
        for number in range(3 * rate):
            bad = band == "visible" and rate <= number < 2 * rate
            image = faulty(band, number, "black") if bad else scene(band, number)
            Image.fromarray(image).save(tmp_path / band / f"{START + 1000 * number // rate}.png")
    return tmp_path


def command(recorded: Path, run: str = "average") -> list[str]:
    return ["stream", run, "--visible", str(recorded / "visible"), "--infrared", str(recorded / "infrared")]


def table(out: Path) -> list[dict[str, str]]:
    with open(out / "moments.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_dead_camera_is_told_in_pictures_lines_and_table(
    recorded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = recorded / "out"
    assert main([*command(recorded), "--out", str(out)]) == 0
    printed = capsys.readouterr()
    lines = [line for line in printed.err.splitlines() if "visible" in line]
    assert lines[0] == "crossband: at 1.05 s: visible off: black; going on with infrared (fallback)"
    assert lines[1].startswith("crossband: at 2.20 s: visible is back; going on with ")
    assert "results" in printed.out
    assert "predict: " in printed.out
    rows = table(out)
    assert {row["bands"] for row in rows if 1.15 < float(row["seconds"]) < 2.1} == {"infrared"}
    assert {row["bands"] for row in rows if float(row["seconds"]) > 2.3} == {"both"}
    assert {row["visible_off"] for row in rows} == {"", "black"}
    assert len(list((out / "fused").glob("*.png"))) == len(rows)
    dark = next(row["moment"] for row in rows if row["visible_off"])
    picture = np.asarray(Image.open(out / "fused" / f"{dark}.png"))
    assert picture.shape == (*SIZE, 3)
    # The line is red; the fused picture of one band is grey.
    assert (picture[:5, :5, 0] > picture[:5, :5, 1] + 50).all()
    assert "moments.csv is there already" in refused([*command(recorded), "--out", str(out)], capsys)


def test_all_that_may_come_is_made_ready_before_a_camera_fails(
    recorded: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With graphs, whatever is not expected is made when it is first needed, which takes seconds."""
    system = csknet()
    run = recorded / "run"
    classes = Classes(tuple("abcde"), tuple((40 * n, 0, 0) for n in range(5)))
    save_run(run, system, make_card(system, classes, "full-range", {}))
    expected: list[set[str]] = []

    def loading(run: str, *, expects: dict[str, int], **how: Any) -> None:
        expected.append(set(expects))
        raise OptionError("enough")

    monkeypatch.setattr("crossband.loading.load", loading)
    graphs = ["--runtime", "onnxruntime"]
    for cameras in (["--infrared", str(recorded / "infrared")], command(recorded)[2:]):
        assert refused(["stream", str(run), *cameras, *graphs], capsys) == "enough"
    assert expected == [{"infrared"}, {"both", "infrared", "visible"}]


def test_moments_without_a_result_are_not_counted_as_results(
    recorded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = recorded / "out"
    visible = ["--visible", str(recorded / "visible")]
    # Black from 1 s to 2 s.
    assert main(["stream", "guided", *visible, "--count", "24", "--out", str(out)]) == 0
    rows = table(out)
    assert sum(row["bands"] == "visible" for row in rows) == 24
    assert len(rows) > 24
    assert capsys.readouterr().out.startswith("24 results")


def test_frames_that_cannot_be_used_are_told_and_counted(
    recorded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in (3, 5, 6):
        path = recorded / "infrared" / f"{START + 100 * number}.png"
        path.write_bytes(path.read_bytes()[:-60])
    first = recorded / "infrared" / f"{START + 300}.png"
    odd = recorded / "visible" / f"{START + 900}.png"
    Image.fromarray(scene("visible", 18)[:-8]).save(odd)
    command_line = [*command(recorded), "--ignore", "no frame", "--ignore", "black", "--ignore", "frozen"]
    assert main(command_line) == 0
    printed = capsys.readouterr()
    told = [line for line in printed.err.splitlines() if "passed over" in line]
    assert len(told) == 1
    assert f"s: a frame of infrared is passed over ({first}: cannot be read" in told[0]
    assert printed.err.count("no result (pair 'pair': ") == 1
    assert "\ndamaged: 3 infrared frames were passed over\n" in printed.out
    assert "\n1 moment without a result, though frames came\n" in printed.out


def test_recordings_of_damaged_frames_alone_are_told(
    recorded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in (recorded / "visible").iterdir():
        path.write_bytes(path.read_bytes()[:-60])
    assert main(["stream", "average", "--visible", str(recorded / "visible")]) == 2
    first = recorded / "visible" / f"{START}.png"
    said = capsys.readouterr().err.splitlines()[-1]
    assert f"no frame of the stream could be used ({first}: cannot be read" in said


def test_labels_are_smoothed_and_the_lag_is_said(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    system = csknet()
    # At its start it has one class for every pixel.
    randomise_norms(system)
    classes = Classes(tuple("abcde"), tuple((40 * n, 0, 0) for n in range(5)))
    save_run(recorded / "run", system, make_card(system, classes, "fixed(6000, 9000)", {}))
    found = {}
    for smooth in ("1", "3"):
        out = recorded / f"out{smooth}"
        more = ["--smooth", smooth, "--count", "6", "--device", "cpu", "--out", str(out)]
        assert main([*command(recorded, str(recorded / "run")), *more]) == 0
        found[smooth] = [np.asarray(Image.open(path)) for path in sorted((out / "label").iterdir())]
    assert "labels show a change 1 frames late" in capsys.readouterr().err
    assert len(found["3"]) == len(found["1"]) == 6
    flicker = {key: sum(int((a != b).sum()) for a, b in pairwise(maps)) for key, maps in found.items()}
    assert 0 < flicker["3"] < flicker["1"]
    more = ["--show", "fused", "--device", "cpu", "--out", str(recorded / "shown")]
    why = refused([*command(recorded, str(recorded / "run")), *more], capsys)
    assert "csknet fuses no pictures that --show fused could show" in why
    assert not (recorded / "shown").exists()


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_what_ends_it_leaves_whole_files(recorded: Path, ending: signal.Signals) -> None:
    out, video = recorded / "out", recorded / "a.mp4"
    more = ["--realtime", "--out", str(out), "--video", str(video)]
    program = Command(*command(recorded), *more, environment={**os.environ, "CUDA_VISIBLE_DEVICES": ""})
    begun = time.monotonic()
    while len(list((out / "fused").glob("[0-9]*.png"))) < 4 and program.poll() is None:
        assert time.monotonic() - begun < 120
        time.sleep(0.02)
    program.send_signal(ending)
    printed, told = program.communicate(timeout=60)
    assert program.returncode == 128 + ending, told
    assert "results" in printed
    assert told.splitlines()[-1].startswith("crossband: ")
    rows = table(out)
    assert len(rows) >= 4
    assert all(row["infrared_off"] is not None for row in rows)
    for path in (out / "fused").glob("*.png"):
        with Image.open(path) as picture:
            picture.load()
    assert not list(recorded.glob(".*.tmp*"))
    assert video.stat().st_size > 0
    if find_spec("av"):
        frames = open_frames(video, "visible")
        assert frames[len(frames) - 1].samples.shape[:2] == SIZE


def test_a_video_shows_the_moments_at_their_times(recorded: Path) -> None:
    pytest.importorskip("av", reason="video is read by PyAV: pip install 'crossband[video]'")
    assert main([*command(recorded), "--video", str(recorded / "a.mp4"), "--out", str(recorded / "out")]) == 0
    frames = open_frames(recorded / "a.mp4", "visible")
    seconds = [float(row["seconds"]) for row in table(recorded / "out")]
    assert frames.times is not None
    np.testing.assert_allclose(np.array(frames.times) / 1e9, np.array(seconds) - seconds[0], atol=0.002)


def test_a_folder_says_what_made_it(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = recorded / "out"
    assert main([*command(recorded), "--out", str(out), "--count", "3", "--ignore", "frozen"]) == 0
    told = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    assert (told["state"], told["moments"], told["options"]["ignore"]) == ("finished", 3, ["frozen"])
    manifest = read_manifest(out)
    assert manifest is not None
    assert (manifest.command, manifest.system, manifest.bands) == ("stream", "average", "both")
    assert manifest.visible == str(recorded / "visible")
    assert str(manifest.infrared_scaling).startswith("fixed(")
    capsys.readouterr()
    assert "holds moments of a stream" in refused(["view", str(out)], capsys)
    more = ["--visible", str(recorded / "visible"), "--out", str(out)]
    assert "holds results of stream" in refused(["fuse", "average", *more], capsys)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("0", "0"),
        ("rtsp://me:secret@10.0.0.2:554/a@b", "rtsp://10.0.0.2:554/a@b"),
        ("bag:x,/topic", f"bag:{Path.cwd() / 'x'},/topic"),
        ("ir.mkv", str(Path.cwd() / "ir.mkv")),
    ],
)
def test_a_camera_is_kept_without_its_password(text: str, told: str) -> None:
    assert camera_told(text) == told


def test_a_stream_of_which_nothing_can_be_used_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "visible").mkdir()
    for number in range(8):
        (tmp_path / "visible" / f"{number}.png").write_bytes(b"\x89PNG\r\n\x1a\ntorn")
    assert main(["stream", "average", "--visible", str(tmp_path / "visible")]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "no frame of the stream could be used" in printed.err.splitlines()[-1]


class TestSmoothedScaling:
    def test_a_hot_thing_changes_the_rest_slowly(self, recorded: Path) -> None:
        images = [np.full((20, 20), 7000, np.uint16) for _ in range(12)]
        for number, image in enumerate(images):
            image[0] = 6000
            if number >= 6:
                image[1] = 16000
        jumps = {}
        for frames in (1, 5):
            smooth = ScalingMean(frames, InfraredScaling("minmax"))
            levels = [float(smooth(image)(image)[10, 10]) for image in images]
            jumps[frames] = max(abs(b - a) for a, b in pairwise(levels))
            # Half of the step of the upper limit, from 7000 to 16000, comes (frames - 1) / 2 frames late.
            limits = [7000 + 9000 * min(max(n - 5, 0) / frames, 1) for n in range(12)]
            np.testing.assert_allclose(levels, [1000 / (limit - 6000) for limit in limits], rtol=1e-6)
        assert smooth.lag == 2
        assert jumps[5] < jumps[1]

    def test_a_stream_takes_it_and_tells_the_lag(
        self, recorded: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        more = ["--smooth_scaling", "5", "--count", "4", "--out", str(recorded / "out")]
        assert main([*command(recorded), *more]) == 0
        assert "sees half of a step 2 frames late" in capsys.readouterr().err
        manifest = read_manifest(recorded / "out")
        assert manifest is not None
        seen = [np.asarray(Image.open(path)) for path in sorted((recorded / "infrared").iterdir())[:4]]
        low, high = np.mean([np.percentile(image, (0.1, 99.9)) for image in seen], axis=0)
        kept = InfraredScaling.parse(str(manifest.infrared_scaling))
        assert kept.limits == pytest.approx((low, high))

    @pytest.mark.parametrize(("scaling", "frames"), [("fixed(0, 9000)", "3"), ("minmax", "0")])
    def test_refused(
        self, recorded: Path, capsys: pytest.CaptureFixture[str], scaling: str, frames: str
    ) -> None:
        more = ["--infrared_scaling", scaling, "--smooth_scaling", frames]
        assert "smooth" in refused([*command(recorded), *more], capsys)


class TestRerun:
    def test_what_is_not_installed_is_named(
        self, recorded: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "rerun", None)
        assert "crossband[rerun]" in refused([*command(recorded), "--view"], capsys)
        assert "give one of them" in refused([*command(recorded), "--view", "--rerun", "a.rrd"], capsys)

    @pytest.mark.skipif(find_spec("rerun") is None, reason="rerun-sdk is not installed")
    def test_a_file_holds_the_entities(self, recorded: Path) -> None:
        out = recorded / "out.rrd"
        assert main([*command(recorded), "--rerun", str(out)]) == 0
        data = out.read_bytes()
        for name in ("visible", "infrared", "fused", "band_state/visible"):
            assert name.encode() in data, name

    @pytest.mark.parametrize("side", [40, 900])
    def test_ten_times_a_second_within_the_bound(self, monkeypatch: pytest.MonkeyPatch, side: int) -> None:
        """Noise, which JPEG cannot make small, at 50 moments a second, into what stands for the viewer."""
        log: list[tuple[float, str, Any]] = []
        monkeypatch.setitem(sys.modules, "rerun", fake_rerun(log))
        noise = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
        recording = RerunRecording(None, max_side=640)
        moments = MomentRecording(recording, None)
        predictor = load("average")
        prediction = predictor(noise, noise[..., 0])
        changes = {37: (Change(0, "visible", False, "black"),)}
        for number in range(200):
            time = number * 20 * MS
            match = Match(time, None, None)
            faults: Any = {"visible": None, "infrared": None}
            moments.write(Moment(time, match, prediction, faults, changes.get(number, ())))
        shown = [(seconds, what) for seconds, name, what in log if name == "fused"]
        assert all(b[0] - a[0] >= 0.1 - 1e-6 for a, b in pairwise(shown))
        size = sum(len(what.contents) for _, name, what in log if hasattr(what, "contents"))
        one = size / len(shown)
        assert size <= 4.0 * BYTES_A_SECOND + one
        assert len(shown) == 40 if side == 40 else 2 <= len(shown) < 40
        assert 0.74 in [seconds for seconds, name, _ in log if name == "band_state"], (
            "a change is never left out"
        )


class TestSharing:
    def test_another_program_reads_the_newest_moment_whole(self, recorded: Path) -> None:
        path = recorded / "shared"
        cameras = open_cameras(
            str(recorded / "visible"), str(recorded / "infrared"), rate=10, realtime=False, clock=RealClock()
        )
        given = {str(band): camera for band, camera in cameras.items()}
        stop, torn, seen = threading.Event(), [], set()

        def read() -> None:
            while not stop.is_set():
                try:
                    shared = read_shared(path)
                except PairError:
                    continue
                if shared is not None:
                    seen.add(shared.number)
                    if len(np.unique(shared.picture)) > 1 or shared.picture[0, 0, 0] != shared.time % 256:
                        torn.append(shared.number)

        reader = threading.Thread(target=read)
        reader.start()
        try:
            with MomentSharer(path) as sharer:
                for moment in Stream(fusing(), **given):
                    sharer.write(moment, np.full((200, 300, 3), moment.time % 256, np.uint8))
                last = read_shared(path)
        finally:
            stop.set()
            reader.join()
        assert not torn
        assert seen
        assert last is not None
        assert (last.time, last.on, last.result) == (moment.time, {"visible": True, "infrared": True}, True)
        assert (last.labels == IGNORE_INDEX).all()
        assert not path.exists()

    def test_a_stream_that_ends_while_it_is_read(
        self, recorded: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path, mapped = recorded / "shared", np.memmap
        cameras = open_cameras(
            str(recorded / "visible"), str(recorded / "infrared"), rate=10, realtime=False, clock=RealClock()
        )
        given = {str(band): camera for band, camera in cameras.items()}

        def and_gone(*arguments: Any, **more: Any) -> np.memmap:
            found = mapped(*arguments, **more)
            path.unlink()
            return found

        with MomentSharer(path) as sharer:
            for moment in islice(Stream(fusing(), **given), 1):
                sharer.write(moment, np.full((200, 300, 3), 7, np.uint8))
            monkeypatch.setattr(np, "memmap", and_gone)
            shared = read_shared(path)
        assert shared is not None
        assert (shared.picture == 7).all()

    def test_refused(self, recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (recorded / "text").write_bytes(b"no stream " * 100)
        with pytest.raises(PairError, match="not what `crossband stream --share` makes"):
            read_shared(recorded / "text")
        with pytest.raises(PairError, match="no stream shares anything here"):
            read_shared(recorded / "nothing")
        taken = ["--share", str(recorded / "text"), "--count", "1"]
        assert "is there already" in refused([*command(recorded), *taken], capsys)

    def test_the_command_shares_and_tidies_up(self, recorded: Path) -> None:
        assert main([*command(recorded), "--share", str(recorded / "s"), "--count", "3"]) == 0
        assert not (recorded / "s").exists()


class TestCameras:
    def test_recordings_whose_times_do_not_meet_begin_together(self, recorded: Path) -> None:
        for path in sorted((recorded / "infrared").iterdir()):
            path.rename(path.with_name(f"{int(path.stem) - START:06d}.png"))
        cameras = open_cameras(
            str(recorded / "visible"), str(recorded / "infrared"), rate=10, realtime=False, clock=RealClock()
        )
        assert {band: camera.following() for band, camera in cameras.items()} == {"visible": 0, "infrared": 0}

    def test_recordings_keep_the_time_between_their_starts(self, recorded: Path) -> None:
        (recorded / "infrared" / f"{START}.png").unlink()
        cameras = open_cameras(
            str(recorded / "visible"), str(recorded / "infrared"), rate=10, realtime=False, clock=RealClock()
        )
        assert cameras["infrared"].following() == 100 * MS

    @staticmethod
    def given(folder: Path) -> dict[str, list[tuple[int, int]]]:
        """Of each band the milliseconds of each frame, and the level that it shows."""
        cameras = open_cameras(
            str(folder / "visible"), str(folder / "infrared"), rate=10, realtime=False, clock=RealClock()
        )
        shown: dict[str, list[tuple[int, int]]] = {}
        for band, camera in cameras.items():
            while not camera.ended:
                shown.setdefault(band, []).extend(
                    (frame.time // MS, int(frame.image.flat[0])) for frame in camera.poll()
                )
        return shown

    @staticmethod
    def images(folder: Path, names: dict[str, int]) -> None:
        folder.mkdir()
        for name, level in names.items():
            Image.fromarray(np.full((4, 6), level, np.uint8)).save(folder / f"{name}.png")

    def test_images_without_times_go_by_their_numbers(self, tmp_path: Path) -> None:
        self.images(tmp_path / "visible", {f"rgb_{number}": number for number in range(1, 13)})
        self.images(tmp_path / "infrared", {f"{number:010d}": number for number in range(1, 13)})
        expected = [(100 * number, number + 1) for number in range(12)]
        assert self.given(tmp_path) == {"visible": expected, "infrared": expected}

    def test_images_of_one_name_are_of_one_moment_whatever_is_lacking(self, tmp_path: Path) -> None:
        self.images(tmp_path / "visible", {f"v1.0_{number}": number for number in range(12) if number != 3})
        self.images(tmp_path / "infrared", {f"v1.0_{number}": number for number in range(12) if number > 1})
        shown = self.given(tmp_path)
        assert shown["visible"] == [(100 * number, number) for number in range(12) if number != 3]
        assert shown["infrared"] == [(100 * number, number) for number in range(2, 12)]

    def test_seconds_of_several_frames_each_are_no_times(self, tmp_path: Path) -> None:
        """Of one second the third image of one folder went with the third one of the other."""
        names = [f"20240131_12000{number // 5}_{number:04}" for number in range(12)]
        self.images(tmp_path / "visible", {name: number for number, name in enumerate(names)})
        some = {name: number for number, name in enumerate(names) if number % 5 != 1}
        self.images(tmp_path / "infrared", some)
        shown = self.given(tmp_path)
        assert shown["visible"] == [(100 * number, number) for number in range(12)]
        assert shown["infrared"] == [(100 * number, number) for number in some.values()]

    def test_other_names_of_another_number_are_told(self, tmp_path: Path) -> None:
        self.images(tmp_path / "visible", {f"rgb_{number}": number for number in range(4)})
        self.images(tmp_path / "infrared", {f"ir_{number}": number for number in range(3)})
        with pytest.warns(
            CrossbandWarning, match="has 4 images and .* has 3 images, whose names tell no times"
        ):
            shown = self.given(tmp_path)
        assert [len(frames) for frames in shown.values()] == [4, 3]

    def test_a_name_without_a_time_among_those_with_one_is_refused(
        self, recorded: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        Image.fromarray(scene("visible", 0)).save(recorded / "visible" / "preview.png")
        said = refused(command(recorded), capsys)
        assert f"of 61 names 1 tell no time (preview), but others do ({START})" in said

    @pytest.mark.parametrize("place", ["visible", "infrared/out"])
    def test_results_are_never_put_among_the_frames(
        self, place: str, recorded: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        before = sorted(recorded.rglob("*"))
        said = refused([*command(recorded), "--out", str(recorded / place)], capsys)
        folder = recorded / place.partition("/")[0]
        assert f"would be taken for images of {folder}; choose another folder as --out" in said
        assert sorted(recorded.rglob("*")) == before

    def test_degrees_go_through(self, recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
        with tifffile.TiffWriter(recorded / "warm.tif") as tiff:
            for number in range(4):
                warm = scene("infrared", number).astype(np.float64)
                warm = 10 + 20 * (warm - warm.min()) / (warm.max() - warm.min())
                tiff.write(warm.astype(np.float32), contiguous=False, metadata=None)
        more = ["--infrared_scaling", "celsius(0, 40)", "--ignore", "frozen"]
        warm = ["stream", "average", "--infrared", str(recorded / "warm.tif"), *more]
        assert main([*warm, "--out", str(recorded / "out")]) == 0
        picture = np.asarray(Image.open(recorded / "out" / "fused" / "000003.png"))
        assert picture.min() == pytest.approx(255 / 4, abs=2)
        assert picture.max() == pytest.approx(255 * 3 / 4, abs=2)
        capsys.readouterr()
        live = ["stream", "average", "--infrared", "97", *more]
        assert "gives no degrees" in refused(live, capsys)

    def test_false_colours_are_undone_as_the_error_says(
        self, recorded: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for path in (recorded / "infrared").iterdir():
            warmth = np.asarray(Image.open(path)).astype(np.float64)
            grey = 255 * (warmth - warmth.min()) / np.ptp(warmth)
            Image.fromarray(palette("iron")[np.rint(grey).astype(np.uint8)]).save(path)
        assert "--infrared_palette iron" in refused([*command(recorded), "--count", "1"], capsys)
        more = ["--infrared_palette", "iron", "--count", "1"]
        assert main([*command(recorded), *more, "--out", str(recorded / "out")]) == 0
        assert read_manifest(recorded / "out").false_colour == "iron"  # type: ignore[union-attr]

    def test_beside_a_camera_a_recording_is_played(self, recorded: Path) -> None:
        assert is_live("0")
        assert is_live("rtsp://10.0.0.2/thermal")
        assert not is_live("bag:a,/thermal")
        cameras = open_cameras("97", str(recorded / "infrared"), rate=10, realtime=False, clock=RealClock())
        try:
            assert isinstance(cameras["visible"], LiveCamera)
            assert isinstance(cameras["infrared"], RecordedCamera)
            assert cameras["infrared"].live
            # There is no such camera: it gives nothing, and nobody waits for it.
            assert cameras["visible"].poll() == []
        finally:
            cameras["visible"].close()


def test_refused(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    both = [f"--visible={recorded / 'visible'}", f"--infrared={recorded / 'infrared' / '..' / 'visible'}"]
    for more, why in (
        (["stream", "average"], "give --visible, --infrared, or both"),
        (["stream", "average", "--visible", "nothing.mp4"], "'nothing.mp4' is no camera: give an index"),
        (["stream", "average", "--visible", "bag:x"], "write bag:PATH,/topic"),
        ([*command(recorded), "--video", "a.gif"], "cannot write '.gif'"),
        ([*command(recorded), "--smooth", "2"], "an odd number"),
        ([*command(recorded), "--smooth", "3"], "average only fuses: there are no labels to smooth"),
        ([*command(recorded), "--show", "overlay"], "average only fuses, and gives no labels that --show"),
        ([*command(recorded), "--max_gap", "soon"], "no span of time"),
        (["stream", "average", *both], "is given as both bands, but a stream reads one band of a file"),
        ([*command(recorded), "--ignore", "rain"], "the faults are no frame, frozen"),
        ([*command(recorded), "--rate", "0"], "recordings of 0 frames a second; give a rate"),
        ([*command(recorded), "--rate", "-5"], "recordings of -5 frames a second; give a rate"),
        ([*command(recorded), "--count", "0"], "--count must be at least 1, not 0"),
        ([*command(recorded), "--infrared_palette", "pink"], "there is no infrared palette 'pink'"),
        ([*command(recorded)[:4], "--max_gap", "20ms"], "--max_gap is between the frames of two cameras"),
        ([*command(recorded)[:4], "--smooth_scaling", "3"], "--smooth_scaling is of infrared; leave it out"),
        (["stream", "average", "--visible", "0", "--realtime"], "--realtime plays recordings, and these are"),
        (["stream", "nobody", "--visible", "0"], "run folder nobody is not there"),
    ):
        assert why in refused(more, capsys)
