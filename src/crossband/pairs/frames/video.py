"""Video through PyAV, in the depth that it is stored in."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from crossband.errors import OptionError, PairError
from crossband.pairs.decoding import Stored
from crossband.pairs.frames.base import Frames
from crossband.pairs.image_files import check_bytes, errors_named
from crossband.pairs.time_stamps import SECOND
from crossband.words import Band

if TYPE_CHECKING:
    import av
    from av.video.frame import VideoFrame

_GREY = re.compile(r"gray(?P<bits>9|10|12|14|16)(?P<order>le|be)")
_CONTAINERS = "matroska,webm,mov,mp4,avi,nut,yuv4mpegpipe,mpegts,ogg,asf,flv"
_MOST_FRAMES = 10_000_000
_USUAL_RATE = 25
"""Frames a second of a video that does not say."""
_RECENT = 16
"""Frames that are kept, since threads may ask for neighbours in any order."""


class VideoFrames(Frames):
    """The frames of a video's first video stream.

    Grey of 9 to 16 bits is given bit by bit, as FFV1 or PNG in Matroska store it; other formats of 8 bits as
    grey or as R, G, B. Frames are decoded in order: going back begins from the start again.

    Raises OptionError if PyAV is not installed, PairError, naming the file, if it is no video, or if it
    stores more than 8 bits in a form that cannot be given without loss.
    """

    def __init__(self, path: Path, band: Band):
        self._band = band
        with errors_named(path), _opened(path) as container:
            stream = _stream(container)
            size = stream.codec_context.height, stream.codec_context.width
            check_bytes(size[0] * size[1] * _bytes_of_pixel(stream.codec_context.format, band))
            self.times = _times(container, stream)
        super().__init__(path, len(self.times), size)

    def _read(self, index: int) -> Stored:
        if self._open is None or index < self._open.first:
            self._open = _Pass(_decoded(self.path, self._band))
        try:
            frame: Stored = self._open.frame(index)
        except BaseException:
            self._open = None
            raise
        return frame


class _Pass:
    """One way through a video, from its start."""

    def __init__(self, coming: Iterator[Stored]):
        self._coming = coming
        self._recent: deque[Stored] = deque(maxlen=_RECENT)
        self._passed = 0

    @property
    def first(self) -> int:
        """The first frame that can be had without beginning again."""
        return self._passed - len(self._recent)

    def frame(self, index: int) -> Stored:
        """A frame from `first` on. Raises PairError if the video ends before it."""
        while self._passed <= index:
            following = next(self._coming, None)
            if following is None:
                raise PairError(f"its frame {index} is missing or damaged; copy it again")
            self._recent.append(following)
            self._passed += 1
        return self._recent[index - self.first]


def _decoded(path: Path, band: Band) -> Iterator[Stored]:
    with _opened(path) as container:
        for frame in container.decode(_stream(container)):
            yield as_stored(frame, band)


@contextmanager
def _opened(path: Path) -> Iterator[av.container.InputContainer]:
    try:
        import av
    except ImportError as error:
        raise OptionError(
            f"{path}: video is read by PyAV, which is not installed; install it by pip install "
            "'crossband[video]', or save the frames as a TIFF of many pages"
        ) from error
    av.logging.set_level(None)
    try:
        # No playlists, which lead to other files, or out into the net.
        options = {"protocol_whitelist": "file", "format_whitelist": _CONTAINERS}
        with av.open(str(path), options=options) as container:
            yield container
    except av.error.FFmpegError as error:
        raise PairError(f"no video that can be read ({error.strerror}); copy it again") from error


def _stream(container: av.container.InputContainer) -> av.video.stream.VideoStream:
    if not container.streams.video:
        raise PairError("it holds no video stream; give another file")
    stream = container.streams.video[0]
    context = stream.codec_context
    if context.format is None or min(context.width, context.height) < 1:
        raise PairError("its video stream does not say its size or format; copy it again")
    return stream


def _times(container: av.container.InputContainer, stream: av.video.stream.VideoStream) -> list[int]:
    """When each frame is shown, in nanoseconds since the first, by the packets of a stream.

    What a header says of their number is often wrong or absent. Where packets tell no times, the rate does.
    """
    shown = [packet.pts for packet in container.demux(stream) if packet.size]
    if not 0 < len(shown) <= _MOST_FRAMES:
        raise PairError(f"a video of {len(shown)} frames; give one of 1 to {_MOST_FRAMES}")
    told = sorted(time for time in shown if time is not None)
    if len(told) < len(shown) or stream.time_base is None:
        period = SECOND / float(stream.average_rate or _USUAL_RATE)
        return [round(number * period) for number in range(len(shown))]
    return [round((time - told[0]) * stream.time_base * SECOND) for time in told]


def _bytes_of_pixel(pixels: av.video.format.VideoFormat | None, band: Band) -> int:
    """Bytes that a pixel takes once decoded. Raises PairError for a format that would lose depth."""
    if pixels is None:
        raise PairError("a video that does not say how its pixels are stored; convert it to FFV1 in mkv")
    if _GREY.fullmatch(pixels.name):
        return 2
    if max(component.bits for component in pixels.components) > 8:
        raise PairError(
            f"a video of {pixels.name}, which could only be read as 8 bits; store {band} as 16-bit grey "
            "(FFV1 or PNG in mkv) or as 8-bit colour"
        )
    return 3


def as_stored(frame: VideoFrame, band: Band) -> Stored:
    """A frame that PyAV decoded: grey of 9 to 16 bits bit by bit, others of 8 bits as grey or as R, G, B.

    Raises PairError for a frame that is too large, or that has more bits than could be given.
    """
    check_bytes(frame.height * frame.width * _bytes_of_pixel(frame.format, band))
    deep = _GREY.fullmatch(frame.format.name)
    if deep is None:
        grey = len(frame.format.components) == 1 and frame.format.name.startswith("gray")
        samples = frame.to_ndarray(format="gray" if grey else "rgb24")
        return Stored(samples.reshape(frame.height, frame.width, -1), lossy=True)
    plane = frame.planes[0]
    order = "<u2" if deep["order"] == "le" else ">u2"
    rows = np.frombuffer(memoryview(plane), order).reshape(frame.height, plane.line_size // 2)
    bits = int(deep["bits"])
    samples = rows[:, : frame.width].astype(np.uint16)[..., None]
    return Stored(samples, top=None if bits == 16 else (1 << bits) - 1)
