"""Images of ROS bags through rosbags, by the times in their headers."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from crossband.errors import OptionError, PairError, did_you_mean, first_line, quoted
from crossband.pairs.decoding import Stored, decode
from crossband.pairs.frames.base import Frames
from crossband.pairs.image_files import check_bytes, errors_named
from crossband.pairs.time_stamps import SECOND

if TYPE_CHECKING:
    from rosbags.highlevel import AnyReader

_IMAGE, _COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
_ENCODINGS = {
    **dict.fromkeys(("mono8", "8UC1"), ("u1", (0,))),
    **dict.fromkeys(("mono16", "16UC1"), ("u2", (0,))),
    "32FC1": ("f4", (0,)),
    "rgb8": ("u1", (0, 1, 2)),
    "bgr8": ("u1", (2, 1, 0)),
    "rgba8": ("u1", (0, 1, 2, None)),
    "bgra8": ("u1", (2, 1, 0, None)),
}
"""What a sample is, and the channels of a pixel as they make R, G, B; None is passed over."""
_DEPTH_HEADER = 12
"""Bytes that the transport compressedDepth puts before a PNG."""


class BagFrames(Frames):
    """The images of one topic of a ROS 1 or ROS 2 bag, in the order of their headers' stamps.

    Where a driver sets none, so that all stamps are alike, the order is that of the log, and there are no
    times.

    Raises OptionError if rosbags is not installed, PairError, naming the bag, if it cannot be read or the
    topic holds no images.
    """

    def __init__(self, path: Path, topic: str):
        self._topic = topic
        self.without_times = (
            f"the headers of its topic {quoted(topic)} all hold one stamp, and nothing tells which images "
            "are of one moment; have the camera's driver set the stamps, and record again"
        )
        with errors_named(path, folder=True), _opened(path) as reader:
            logged = sorted(_stamps(reader, topic), key=lambda place: place[2])
            if not logged:
                raise PairError(f"its topic {quoted(topic)} holds no image; {_topics(reader)}")
            self._logged = [(time, number) for time, number, _ in logged]
            stamps = [stamp for _, _, stamp in logged]
            self.times = None if len(stamps) > 1 and len(set(stamps)) == 1 else stamps
            first = _decoded(next(_messages(reader, topic, self._logged[0]))[1])
        super().__init__(path, len(logged), (first.samples.shape[0], first.samples.shape[1]))

    def _read(self, index: int) -> Stored:
        place = self._logged[index]
        if self._open is None or self._open.following != index or self._open.last >= place:
            self._open = _Pass(self.path, self._topic, place, index)
        try:
            frame: Stored = self._open.next(place)
            return frame
        except BaseException:
            self._open = None
            raise


class _Pass:
    """One way through a topic in the order of the bag.

    following: the frame after the last one that was taken. last: the place of that one in the bag.
    """

    def __init__(self, path: Path, topic: str, start: tuple[int, int], index: int):
        self.following = index
        self.last = (-1, 0)
        self._coming = _from(path, topic, start)

    def next(self, place: tuple[int, int]) -> Stored:
        for found, message in self._coming:
            if found == place:
                self.following, self.last = self.following + 1, place
                return _decoded(message)
        raise PairError("an image of its index is gone; was the bag changed?")


def _from(path: Path, topic: str, start: tuple[int, int]) -> Iterator[tuple[tuple[int, int], Any]]:
    with _opened(path) as reader:
        yield from _messages(reader, topic, start)


@contextmanager
def _opened(path: Path) -> Iterator[AnyReader]:
    try:
        from rosbags.highlevel import AnyReader, AnyReaderError
        from rosbags.typesys import Stores, get_typestore
    except ImportError as error:
        raise OptionError(
            f"{path}: bags are read by rosbags, which is not installed; install it by pip install "
            "'crossband[ros]'"
        ) from error
    try:
        with AnyReader([path], default_typestore=get_typestore(Stores.LATEST)) as reader:
            yield reader
    except AnyReaderError as error:
        raise PairError(f"no bag that can be read ({first_line(error)})") from error


def _messages(reader: AnyReader, topic: str, start: tuple[int, int]) -> Iterator[tuple[tuple[int, int], Any]]:
    """(time in the log, number among those of this time) and the message of each image from a place on."""
    connections = [connection for connection in reader.connections if connection.topic == topic]
    logged = reader.messages(connections=connections, start=start[0])
    for time, together in groupby(logged, key=lambda entry: entry[1]):
        for number, (connection, _, raw) in enumerate(together):
            if (time, number) >= start:
                yield (time, number), reader.deserialize(raw, connection.msgtype)


def _stamps(reader: AnyReader, topic: str) -> Iterator[tuple[int, int, int]]:
    """Time in the log, number among those of this time, and the header's stamp, each in nanoseconds."""
    kinds = {connection.msgtype for connection in reader.connections if connection.topic == topic}
    if not kinds or not kinds <= {_IMAGE, _COMPRESSED}:
        hint = did_you_mean(topic, _image_topics(reader)) if not kinds else f"; it is of {', '.join(kinds)}"
        raise PairError(f"it has no topic {quoted(topic)} of images; {_topics(reader)}{hint}")
    for (time, number), message in _messages(reader, topic, (0, 0)):
        stamp = message.header.stamp
        yield time, number, stamp.sec * SECOND + stamp.nanosec


def _image_topics(reader: AnyReader) -> list[str]:
    return sorted({c.topic for c in reader.connections if c.msgtype in (_IMAGE, _COMPRESSED)})


def _topics(reader: AnyReader) -> str:
    return f"its topics with images: {', '.join(_image_topics(reader)) or 'none'}"


def _decoded(message: Any) -> Stored:
    return _image(message) if hasattr(message, "encoding") else _compressed(message)


def _image(message: Any) -> Stored:
    if message.encoding not in _ENCODINGS:
        raise PairError(
            f"an image of encoding {quoted(message.encoding)}; read are {', '.join(_ENCODINGS)} and "
            "compressed ones"
        )
    kind, channels = _ENCODINGS[message.encoding]
    dtype = np.dtype(f"{'>' if message.is_bigendian else '<'}{kind}")
    height, step, row = message.height, message.step, message.width * len(channels) * dtype.itemsize
    check_bytes(height * max(row, step))
    if min(message.width, height) < 1 or row > step or len(message.data) < step * height:
        raise PairError(
            f"an image of {height} rows of {step} bytes with {len(message.data)} bytes in all; "
            "record it again"
        )
    rows = np.asarray(message.data, np.uint8)[: step * height].reshape(height, step)[:, :row]
    samples = np.ascontiguousarray(rows).view(dtype).reshape(height, message.width, len(channels))
    wanted = [place for place in channels if place is not None]
    return Stored(np.ascontiguousarray(samples[..., wanted]).astype(dtype.newbyteorder("=")))


def _compressed(message: Any) -> Stored:
    data = bytes(message.data)
    if "compressedDepth" in message.format:
        data = data[_DEPTH_HEADER:]
    # By way of a file, so that the limits of image files hold.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "image"
        path.write_bytes(data)
        try:
            return decode(path)
        except PairError as error:
            raise PairError(str(error).removeprefix(f"{path}: ")) from None
