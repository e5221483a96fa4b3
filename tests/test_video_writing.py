"""Videos of what was predicted: whole or not there, every picture in its place, at the source's rate."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from command_line import refused
from crossband.cli import main
from crossband.errors import OptionError
from crossband.pairs.frames import FramePairs, open_frames
from crossband.pairs.video_writing import writing_video

WITH_PYAV = "video is read by PyAV: pip install 'crossband[video]'"


def pictures(count: int, height: int = 48, width: int = 64) -> list[np.ndarray]:
    """Smooth pictures that differ, as a codec keeps them."""
    ramp = np.linspace(0, 150, width)
    return [
        np.stack(
            [
                np.tile(ramp + 20 * n, (height, 1)),
                np.full((height, width), 40 * n),
                np.tile(ramp, (height, 1)),
            ],
            2,
        )
        .clip(0, 255)
        .astype(np.uint8)
        for n in range(count)
    ]


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.y4m", "a.MOV"])
def test_pictures_come_back(tmp_path: Path, name: str) -> None:
    pytest.importorskip("av", reason=WITH_PYAV)
    given = pictures(5, 47, 63)
    with writing_video(tmp_path / name, 12.5) as video:
        for picture in given:
            video.write(picture)
        assert not (tmp_path / name).exists()
    assert [path.name for path in tmp_path.iterdir()] == [name]
    frames = open_frames(tmp_path / name, "visible")
    assert len(frames) == 5
    for index, picture in enumerate(given):
        found = frames[index].samples[:47, :63]
        assert np.abs(found.astype(int) - picture).mean() < 6
    assert frames.times is not None
    np.testing.assert_allclose(np.diff(frames.times), 80e6, atol=1.1e6)


def test_pictures_are_shown_at_their_times(tmp_path: Path) -> None:
    pytest.importorskip("av", reason=WITH_PYAV)
    times = [7, 7_100_000_000, 7_130_000_000, 7_130_000_001, 9_000_000_000]
    with writing_video(tmp_path / "a.mkv", 10) as video:
        for picture, time in zip(pictures(5), times, strict=True):
            video.write(picture, time)
    shown = open_frames(tmp_path / "a.mkv", "visible").times
    assert shown == [0, 7_100_000_000, 7_130_000_000, 7_131_000_000, 9_000_000_000]


def test_without_pyav_opencv_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cv2 = pytest.importorskip("cv2")
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with writing_video(tmp_path / "a.mp4", 10) as video:
        for picture in pictures(4):
            video.write(picture)
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]
    capture = cv2.VideoCapture(str(tmp_path / "a.mp4"))
    assert int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) == 4
    assert capture.get(cv2.CAP_PROP_FPS) == 10
    with pytest.raises(OptionError, match="y4m is written by PyAV"), writing_video(tmp_path / "a.y4m", 10):
        pass


def test_what_ends_early_leaves_nothing(tmp_path: Path) -> None:
    def interrupted(*given: np.ndarray) -> None:
        with writing_video(tmp_path / "a.mp4", 10) as video:
            for picture in given:
                video.write(picture)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted(*pictures(1))
    with pytest.raises(OptionError, match="a video has one size"):
        interrupted(*pictures(1), *pictures(1, 20))
    with pytest.raises(OptionError, match="no picture was made"), writing_video(tmp_path / "a.mp4", 10):
        pass
    assert list(tmp_path.iterdir()) == []


def test_transparent_pixels_are_black(tmp_path: Path) -> None:
    pytest.importorskip("av", reason=WITH_PYAV)
    picture = np.full((32, 32, 4), 200, np.uint8)
    picture[:, 16:, 3] = 0
    with writing_video(tmp_path / "a.y4m", 1) as video:
        video.write(picture)
    found = open_frames(tmp_path / "a.y4m", "visible")[0].samples
    assert found[:, :15].min() > 180
    assert found[:, 17:].max() < 20


def test_the_commands_write_a_video(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(3):
        for band, mode in (("v", "RGB"), ("i", "L")):
            (tmp_path / band).mkdir(exist_ok=True)
            Image.new(mode, (64, 48), 80 * number if mode == "L" else (80 * number, 0, 0)).save(
                tmp_path / band / f"{number}.png"
            )
    command = ["fuse", "average", "--visible", str(tmp_path / "v"), "--infrared", str(tmp_path / "i")]
    command += ["--out", str(tmp_path / "out")]
    assert "give --video too" in refused([*command, "--rate", "5"], capsys)
    assert "cannot write '.txt'" in refused([*command, "--video", str(tmp_path / "a.txt")], capsys)
    assert main([*command, "--video", str(tmp_path / "a.mp4")]) == 0
    assert "written: 3 pictures as" in capsys.readouterr().out
    assert (tmp_path / "a.mp4").stat().st_size > 0
    # What was there already is part of it.
    assert main([*command, "--resume", "--video", str(tmp_path / "b.mp4"), "--rate", "5"]) == 0
    assert "written: 3 pictures as" in capsys.readouterr().out


def test_a_film_of_a_folder_goes_by_the_numbers_in_its_names(tmp_path: Path) -> None:
    pytest.importorskip("av", reason=WITH_PYAV)
    levels = [20 * number for number in range(1, 12)]
    for number, level in enumerate(levels, start=1):
        for band, mode in (("v", "RGB"), ("i", "L")):
            (tmp_path / band).mkdir(exist_ok=True)
            Image.new(mode, (64, 48), level if mode == "L" else (level,) * 3).save(
                tmp_path / band / f"frame_{number}.png"
            )
    command = ["fuse", "average", "--visible", str(tmp_path / "v"), "--infrared", str(tmp_path / "i")]
    film = tmp_path / "a.y4m"
    assert main([*command, "--out", str(tmp_path / "out"), "--video", str(film)]) == 0
    frames = open_frames(film, "visible")
    shown = [frames[number].samples.mean() for number in range(len(frames))]
    np.testing.assert_allclose(shown, levels, atol=6)


def test_videos_of_two_rates_go_through_by_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    av = pytest.importorskip("av", reason=WITH_PYAV)
    for name, count, rate in (("v.mkv", 12, 30), ("i.mkv", 4, 10)):
        with av.open(str(tmp_path / name), "w") as container:
            stream = container.add_stream("ffv1", rate=Fraction(rate))
            stream.height, stream.width, stream.pix_fmt = 48, 64, "gray"
            for number in range(count):
                frame = av.VideoFrame.from_ndarray(np.full((48, 64), 10 * number, np.uint8), format="gray")
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    pairs = FramePairs(tmp_path / "i.mkv", tmp_path / "v.mkv", max_gap=5_000_000)
    assert [pairs.name(index) for index in range(len(pairs))] == ["000000", "000003", "000006", "000009"]
    for number, pair in enumerate(pairs):
        assert pair.visible is not None
        assert pair.infrared is not None
        np.testing.assert_allclose(pair.visible, 30 * number / 255, atol=1e-6)
        np.testing.assert_allclose(pair.infrared, 10 * number / 255, atol=1e-6)
    source = f"frames:{tmp_path / 'i.mkv'},visible={tmp_path / 'v.mkv'}"
    command = ["fuse", "average", "--data", source, "--out", str(tmp_path / "out")]
    assert "or pair them by time" in refused(command, capsys)
    command += ["--pair", "time", "--max_gap", "5ms", "--video", str(tmp_path / "out.mp4")]
    assert main(command) == 0
    assert "4 pairs by time" in (printed := capsys.readouterr().out)
    assert "8 of 12 visible (66.7 %)" in printed
    shown = open_frames(tmp_path / "out.mp4", "visible").times
    assert shown is not None
    np.testing.assert_allclose(np.diff(shown), 100e6, atol=1.1e6)
