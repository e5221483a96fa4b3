"""ROS bags as a source: stamps of headers, encodings, row padding, byte orders and compressed images."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from command_line import refused
from crossband.cli import main
from crossband.errors import OptionError, PairError
from crossband.pairs.frames.bag import BagFrames
from crossband.pairs.opening import list_splits, open_pairs
from crossband.words import BANDS

highlevel = pytest.importorskip(
    "rosbags.highlevel", reason="bags are read by rosbags: pip install 'crossband[ros]'"
)
rosbag2 = pytest.importorskip("rosbags.rosbag2")
typesys = pytest.importorskip("rosbags.typesys")
STORE = typesys.get_typestore(typesys.Stores.LATEST)
TYPES = STORE.types
MS = 1_000_000
START = 1_700_000_000_000 * MS
COLOUR = np.random.default_rng(0).integers(0, 256, (7, 6, 9, 3), np.uint8)
DEEP = np.random.default_rng(1).integers(3000, 12000, (5, 6, 9)).astype(np.uint16)


def header(stamp: int) -> Any:
    time = TYPES["builtin_interfaces/msg/Time"](sec=stamp // 10**9, nanosec=stamp % 10**9)
    return TYPES["std_msgs/msg/Header"](stamp=time, frame_id="camera")


def image(stamp: int, pixels: np.ndarray, encoding: str, *, padding: int = 0, big: bool = False) -> Any:
    rows = (
        pixels.astype(pixels.dtype.newbyteorder(">" if big else "<")).reshape(len(pixels), -1).view(np.uint8)
    )
    data = np.pad(rows, ((0, 0), (0, padding)), constant_values=77)
    return TYPES["sensor_msgs/msg/Image"](
        header=header(stamp),
        height=pixels.shape[0],
        width=pixels.shape[1],
        encoding=encoding,
        is_bigendian=int(big),
        step=data.shape[1],
        data=data.ravel(),
    )


def compressed(stamp: int, pixels: np.ndarray, format: str = "png", before: bytes = b"") -> Any:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    data = np.frombuffer(before + buffer.getvalue(), np.uint8)
    return TYPES["sensor_msgs/msg/CompressedImage"](header=header(stamp), format=format, data=data)


def bag(path: Path, topics: dict[str, list[Any]], storage: str = "SQLITE3") -> Path:
    with rosbag2.Writer(path, version=9, storage_plugin=rosbag2.StoragePlugin[storage]) as writer:
        for topic, messages in topics.items():
            kind = messages[0].__msgtype__
            connection = writer.add_connection(topic, kind, typestore=STORE)
            for number, message in enumerate(messages):
                # All are logged at one time: only the stamps tell when they were taken.
                writer.write(connection, START + 5 * (number // 2), STORE.serialize_cdr(message, kind))
    return path


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """Visible at 10 Hz in B, G, R with padded rows, infrared at 5 Hz, 3 ms later, big-endian."""
    visible = [
        image(START + 100 * MS * n, np.ascontiguousarray(frame[..., ::-1]), "bgr8", padding=5)
        for n, frame in enumerate(COLOUR)
    ]
    infrared = [
        image(START + (200 * n + 3) * MS, frame, "mono16", padding=2, big=True)
        for n, frame in enumerate(DEEP)
    ]
    return bag(tmp_path / "drive", {"/left": visible, "/thermal": infrared})


def test_both_topics_by_their_stamps(recorded: Path) -> None:
    source = f"bag:{recorded},visible=/left,infrared=/thermal,max_gap=10ms"
    pairs = open_pairs(source, "all")
    assert list_splits(source) == ["all"]
    assert [pairs.name(index) for index in range(len(pairs))] == ["000000", "000002", "000004", "000006"]
    for index, pair in enumerate(pairs):
        assert pair.visible is not None
        assert pair.infrared is not None
        np.testing.assert_array_equal(np.rint(pair.visible * 255), COLOUR[2 * index])
        np.testing.assert_array_equal(np.rint(pair.infrared * 65535), DEEP[index])
    assert pairs.offsets is not None
    assert set(pairs.offsets.gaps) == {3 * MS}
    assert pairs.unpaired == [
        *(("visible", f"{recorded}, frame {number}") for number in (1, 3, 5)),
        ("infrared", f"{recorded}, frame 4"),
    ]
    again = pickle.loads(pickle.dumps(pairs))
    np.testing.assert_array_equal(again[3].infrared, pairs[3].infrared)


@pytest.mark.parametrize("storage", ["SQLITE3", "MCAP"])
def test_frames_in_any_order(tmp_path: Path, storage: str) -> None:
    # Stamps run against the log's order.
    messages = [image(START - n * MS, frame, "mono16") for n, frame in enumerate(DEEP)]
    frames = BagFrames(bag(tmp_path / "b", {"/t": messages}, storage), "/t")
    assert frames.times == [START - n * MS for n in (4, 3, 2, 1, 0)]
    for index in (3, 0, 4, 1, 2, 2):
        np.testing.assert_array_equal(frames[index].samples[..., 0], DEEP[4 - index])


def test_stamps_that_no_driver_set_pair_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The images would go together by their order, whatever the cameras' rates."""
    topics = {"/left": [image(0, frame, "rgb8") for frame in COLOUR]}
    topics["/thermal"] = [image(0, frame, "mono16") for frame in DEEP]
    path = bag(tmp_path / "drive", topics)
    with pytest.raises(PairError, match="the headers of its topic '/left' all hold one stamp"):
        open_pairs(f"bag:{path},visible=/left,infrared=/thermal", "all")
    cameras = [f"--{band}=bag:{path},{topic}" for band, topic in zip(BANDS, topics, strict=True)]
    assert "'/left' all hold one stamp" in refused(["stream", "average", *cameras], capsys)
    # A band alone needs no partner: its order is that of the log.
    pairs = open_pairs(f"bag:{path},infrared=/thermal", "all")
    for pair, frame in zip(pairs, DEEP, strict=True):
        np.testing.assert_array_equal(np.rint(np.asarray(pair.infrared) * 65535), frame)
    noise = ["--ignore", "fixed pattern"]
    assert main(["stream", "average", cameras[1], *noise, "--rate", "5", "--out", str(tmp_path / "out")]) == 0
    rows = (tmp_path / "out" / "moments.csv").read_text(encoding="utf-8").splitlines()[1:]
    assert [float(row.split(",")[1]) for row in rows] == [0, 0.2, 0.4, 0.6, 0.8]


@pytest.mark.parametrize(
    ("encoding", "pixels", "wanted"),
    [
        ("mono8", COLOUR[0, ..., 0], COLOUR[0, ..., :1]),
        ("mono16", DEEP[0], DEEP[0, ..., None]),
        ("16UC1", DEEP[0], DEEP[0, ..., None]),
        ("32FC1", DEEP[0].astype(np.float32), DEEP[0, ..., None].astype(np.float32)),
        ("rgb8", COLOUR[0], COLOUR[0]),
        ("bgra8", np.dstack([COLOUR[0, ..., ::-1], COLOUR[0, ..., 0]]), COLOUR[0]),
    ],
)
@pytest.mark.parametrize("big", [False, True])
def test_encodings(tmp_path: Path, encoding: str, pixels: np.ndarray, wanted: np.ndarray, big: bool) -> None:
    message = image(START, np.ascontiguousarray(pixels), encoding, padding=3, big=big)
    samples = BagFrames(bag(tmp_path / "b", {"/t": [message]}), "/t")[0].samples
    assert samples.dtype == wanted.dtype
    np.testing.assert_array_equal(samples, wanted)


def test_compressed_images(tmp_path: Path) -> None:
    deep = compressed(START, DEEP[0], "16UC1; compressedDepth png", before=bytes(12))
    topics = {
        "/c": [compressed(START, COLOUR[0])],
        "/d": [deep],
        "/g": [compressed(START, DEEP[1], "mono16; png")],
    }
    path = bag(tmp_path / "b", topics)
    np.testing.assert_array_equal(BagFrames(path, "/c")[0].samples, COLOUR[0])
    np.testing.assert_array_equal(BagFrames(path, "/d")[0].samples[..., 0], DEEP[0])
    np.testing.assert_array_equal(BagFrames(path, "/g")[0].samples[..., 0], DEEP[1])


def test_the_command_fuses_a_bag(recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = f"bag:{recorded},visible=/left,infrared=/thermal,max_gap=10ms"
    assert main(["fuse", "average", "--data", source, "--out", str(tmp_path / "out")]) == 0
    assert "4 pairs by time; infrared comes +3.0 ms after visible" in capsys.readouterr().out
    assert len(list((tmp_path / "out").glob("*.png"))) == 4
    for missing, why in (("use", "4 frames have no partner"), ("error", "3 of 7 visible (42.9 %)")):
        command = [
            "fuse",
            "average",
            "--data",
            source,
            "--missing",
            missing,
            "--out",
            str(tmp_path / missing),
        ]
        assert why in refused(command, capsys)


def test_refused(recorded: Path, tmp_path: Path) -> None:
    with pytest.raises(
        PairError, match=r"no topic '/lefd' of images; .*/left, /thermal; did you mean /left\?"
    ):
        BagFrames(recorded, "/lefd")
    with pytest.raises(OptionError, match="name the topic of a band"):
        open_pairs(f"bag:{recorded}", "all")
    with pytest.raises(OptionError, match="bag has no option 'pair'"):
        open_pairs(f"bag:{recorded},visible=/left,pair=time", "all")
    with pytest.raises(PairError, match="there is no such file"):
        BagFrames(tmp_path / "none", "/left")
    (tmp_path / "text").write_text("no bag")
    with pytest.raises(PairError, match="no bag that can be read"):
        BagFrames(tmp_path / "text", "/left")
    short = image(START, DEEP[0], "mono16")
    short.height = 60
    with pytest.raises(PairError, match="an image of 60 rows of 18 bytes with 108 bytes in all"):
        BagFrames(bag(tmp_path / "short", {"/t": [short]}), "/t")
    odd = image(START, DEEP[0], "bayer_rggb8")
    with pytest.raises(PairError, match="encoding 'bayer_rggb8'; read are mono8"):
        BagFrames(bag(tmp_path / "odd", {"/t": [odd]}), "/t")


def test_without_rosbags(recorded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "rosbags.highlevel", None)
    with pytest.raises(OptionError, match=r"pip install 'crossband\[ros\]'"):
        BagFrames(recorded, "/left")
