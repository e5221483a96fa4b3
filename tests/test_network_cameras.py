"""Cameras on the network, by a small RTSP server, and cameras that are not there."""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from command_line import refused
from crossband.cli import main
from crossband.errors import PairError
from crossband.loading import load
from crossband.pairs.frames import open_frames
from crossband.stream import Stream, pairing
from crossband.stream.cameras import LiveCamera, RealClock
from crossband.stream.live import opener
from crossband.stream.stream import Moment
from crossband.words import BANDS
from rtsp_server import RtspCamera
from simulated_cameras import scene

RATE = 20
LONGEST = 120
"""Seconds after which a test has hung."""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        port: int = one.getsockname()[1]
        return port


def needs_rtsp() -> None:
    av = pytest.importorskip("av", reason="RTSP is read by PyAV: pip install 'crossband[video]'")
    for kind in ("rtsp", "rtp"):
        if kind not in av.formats_available:
            pytest.skip(f"this PyAV is built without {kind}")


def picture(number: int) -> np.ndarray:
    return np.kron(scene("visible", number), np.ones((2, 2, 1), np.uint8))


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Misses the first frame of a camera after 0.3 s, where 1.5 s are waited else."""
    monkeypatch.setattr(pairing, "UNSEEN_PERIOD", 200_000_000)


@pytest.fixture
def cameras() -> Iterator[tuple[RtspCamera, RtspCamera]]:
    needs_rtsp()
    both = RtspCamera(picture, RATE), RtspCamera(picture, RATE)
    yield both
    for camera in both:
        camera.stop()


class TestRtsp:
    def test_a_camera_that_dies_and_comes_back(self, cameras: tuple[RtspCamera, RtspCamera]) -> None:
        visible, _ = cameras
        clock = RealClock()
        opened = {
            band: LiveCamera(opener(camera.address, band), clock, again=0.1)
            for band, camera in zip(BANDS, cameras, strict=True)
        }
        given = {str(band): camera for band, camera in opened.items()}
        begun, seen, killed, again = time.monotonic(), 0, 0, False
        since: list[Moment] = []
        with Stream(load("average", infrared_scaling="full-range"), **given, clock=clock) as stream:
            for moment in stream:
                assert time.monotonic() - begun < LONGEST
                both = moment.prediction is not None and moment.prediction.bands == "both"
                seen += both
                if seen == 15 and not killed:
                    visible.stop()
                    killed = seen
                elif killed and not again:
                    since.append(moment)
                    if moment.faults["visible"] == "no frame" and opened["visible"].failure is not None:
                        assert stream.failures() == {"visible": opened["visible"].failure}
                        visible.start()
                        again = True
                elif again and both:
                    break
        # Pairs that were complete, and then infrared frames whose partner was waited for.
        alone = [one for one in since if one.match.visible is None and one.faults["visible"] is None]
        assert len(alone) <= 3
        assert since[-1].prediction is not None
        assert since[-1].prediction.bands == "infrared"
        changes = [change for one in since for change in one.changes]
        assert [(change.band, change.fault) for change in changes] == [("visible", "no frame")]

    def test_the_command_reads_two(
        self, cameras: tuple[RtspCamera, RtspCamera], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        addresses = [camera.address.replace("rtsp://", "rtsp://me:secret@") for camera in cameras]
        bands = ["--visible", addresses[0], "--infrared", addresses[1]]
        out = tmp_path / "out"
        assert main(["stream", "average", *bands, "--count", "12", "--out", str(out)]) == 0
        assert "secret" not in (out / "manifest.json").read_text(encoding="utf-8")
        assert "secret" not in capsys.readouterr().err
        rows = (out / "moments.csv").read_text(encoding="utf-8").splitlines()[1:]
        assert len(rows) == 12
        assert any(",both," in row for row in rows)

    def test_pictures_are_those_that_were_sent(self, cameras: tuple[RtspCamera, RtspCamera]) -> None:
        images = opener(cameras[0].address, "visible")()
        image = next(images)
        images.close()  # type: ignore[attr-defined]
        assert image.shape == picture(0).shape
        off = [np.abs(image.astype(float) - picture(number)).mean() for number in range(100)]
        assert min(off) < 6
        assert np.median(off) > 12


def test_depths_are_those_of_a_recording(tmp_path: Path) -> None:
    """Visible grey of ten bits has its whole range, and infrared its counts."""
    av = pytest.importorskip("av", reason="addresses are read by PyAV: pip install 'crossband[video]'")
    grey = np.arange(24 * 32, dtype=np.uint16).reshape(24, 32)
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.height, stream.width, stream.pix_fmt = 24, 32, "gray10le"
        # Each frame is whole: what a camera sends before one is looked at may be passed over.
        stream.gop_size = 1
        frame = av.VideoFrame(32, 24, "gray10le")
        frame.planes[0].update(grey.tobytes())
        for _ in range(5):
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for band in BANDS:
            live = next(opener(f"http://127.0.0.1:{server.server_port}/a.mkv", band)())
            recorded = open_frames(path, band)[0].levels(measured=band == "infrared")
            np.testing.assert_array_equal(live, recorded)
            assert live.max() == (767 if band == "infrared" else round(767 * 65535 / 1023))
        server.shutdown()


def why_not(place: str) -> str:
    """What a camera that cannot be opened says."""
    with pytest.raises(PairError) as told:
        next(opener(place, "visible")())
    return str(told.value)


class TestWhatCannotBeOpened:
    @pytest.mark.usefixtures("soon")
    def test_the_command_tells_why_of_each_band(self, capsys: pytest.CaptureFixture[str]) -> None:
        needs_rtsp()
        address = f"rtsp://me:secret@127.0.0.1:{free_port()}/camera"
        line = refused(["stream", "average", "--visible", address, "--infrared", "97"], capsys)
        assert "visible: Connection refused" in line
        assert "infrared: no " in line
        assert "secret" not in line

    def test_a_host_that_is_not_known(self) -> None:
        needs_rtsp()
        assert why_not("http://camera.invalid/a.mjpg") == "no such host (camera.invalid)"

    @pytest.mark.skipif(sys.platform != "linux", reason="devices have other names elsewhere")
    def test_an_index_without_a_camera(self) -> None:
        assert why_not("97") == "no such device (/dev/video97)"

    def test_without_pyav(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("crossband.stream.live.find_spec", lambda name: None)
        assert "pip install 'crossband[video]' tells why" in why_not(f"http://127.0.0.1:{free_port()}/a.mjpg")

    def test_a_file_is_no_address(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert "without file://" in refused(["stream", "average", "--visible", "file:///a.mp4"], capsys)
