"""Video through PyAV, in the depth that it is stored in."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Sequence
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
    grey or as R, G, B. Frames are turned as the file says that they are shown, and decoded in order: going
    back begins from the start again. What comes before the first whole picture of a video that was cut
    without decoding it cannot be shown, and is none of its frames.

    Raises OptionError if PyAV is not installed, PairError, naming the file, if it is no video, or if it
    stores more than 8 bits in a form that cannot be given without loss.
    """

    def __init__(self, path: Path, band: Band):
        self._band = band
        with errors_named(path), _opened(path) as container:
            stream = _stream(container)
            size = stream.codec_context.height, stream.codec_context.width
            check_bytes(size[0] * size[1] * _bytes_of_pixel(stream.codec_context.format, band))
            self.times, self._shown = _times(container, stream)
        with errors_named(path):
            lies = _quarter_turns(path) % 2
        super().__init__(path, len(self.times), size[::-1] if lies else size)

    def _read(self, index: int) -> Stored:
        if self._open is None or index < self._open.first:
            self._open = _Pass(_decoded(self.path, self._band, self._shown))
        try:
            frame: Stored = self._open.frame(index)
        except BaseException:
            self._open = None
            raise
        return frame


class _Pass:
    """One way through a video, from its start. coming: each frame that there is, with its place."""

    def __init__(self, coming: Iterator[tuple[int, Stored]]):
        self._coming = coming
        self._recent: deque[tuple[int, Stored]] = deque(maxlen=_RECENT)
        self._passed = 0

    @property
    def first(self) -> int:
        """The first frame that can be had without beginning again."""
        return self._recent[0][0] if self._recent else self._passed

    def frame(self, index: int) -> Stored:
        """A frame from `first` on. Raises PairError if the video lacks it."""
        while self._passed <= index:
            following = next(self._coming, None)
            if following is None:
                break
            self._recent.append(following)
            self._passed = following[0] + 1
        for place, stored in self._recent:
            if place == index:
                return stored
        raise PairError(f"its frame {index} is missing or damaged; copy it again")


def _decoded(path: Path, band: Band, shown: Sequence[int] | None) -> Iterator[tuple[int, Stored]]:
    """The place of each frame and itself. shown: when each is shown, in the stream's units; None counts them.

    A decoder leaves out what it cannot decode, and says of none that it did.
    """
    places = None if shown is None else {time: place for place, time in enumerate(shown)}
    with _opened(path) as container:
        for count, frame in enumerate(container.decode(_stream(container))):
            place = count if places is None or frame.pts is None else places.get(frame.pts)
            if place is not None:
                yield place, as_stored(frame, band)


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


def _quarter_turns(path: Path) -> int:
    """By how many quarters the first frame is turned against the clock to be shown; 0 if it is damaged."""
    with _opened(path) as container:
        import av

        try:
            first = next(iter(container.decode(_stream(container))), None)
        except av.error.FFmpegError:
            return 0
        return 0 if first is None else _turns(first)


def _turns(frame: VideoFrame) -> int:
    return round(frame.rotation / 90) % 4


def _times(
    container: av.container.InputContainer, stream: av.video.stream.VideoStream
) -> tuple[list[int], list[int] | None]:
    """When each frame is shown, in nanoseconds since the first, and in the stream's units, by its packets.

    What a header says of their number is often wrong or absent. Where packets tell no times, or one for
    several, the rate does, and the second is None.
    """
    packets = [
        (packet.pts, packet.is_keyframe, packet.is_discard)
        for packet in container.demux(stream)
        if packet.size
    ]
    if not 0 < len(packets) <= _MOST_FRAMES:
        raise PairError(f"a video of {len(packets)} frames; give one of 1 to {_MOST_FRAMES}")
    told = [(time, whole, hidden) for time, whole, hidden in packets if time is not None]
    if len({time for time, _, _ in told}) < len(packets) or stream.time_base is None:
        period = SECOND / float(stream.average_rate or _USUAL_RATE)
        return [round(number * period) for number in range(len(packets))], None
    # What was cut off without decoding it leaves frames that build on others, or that are not to be shown.
    first = next((place for place, (_, whole, _) in enumerate(told) if whole), 0)
    shown = sorted(time for time, _, hidden in told[first:] if time >= told[first][0] and not hidden)
    if not shown:
        raise PairError("a video that shows none of its frames; copy it again")
    return [round((time - shown[0]) * stream.time_base * SECOND) for time in shown], shown


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
    It is turned as it is to be shown.

    Raises PairError for a frame that is too large, or that has more bits than could be given.
    """
    check_bytes(frame.height * frame.width * _bytes_of_pixel(frame.format, band))
    deep = _GREY.fullmatch(frame.format.name)
    if deep is None:
        grey = len(frame.format.components) == 1 and frame.format.name.startswith("gray")
        levels = frame.to_ndarray(format="gray" if grey else "rgb24").reshape(frame.height, frame.width, -1)
        return Stored(np.ascontiguousarray(np.rot90(levels, _turns(frame))), lossy=True)
    plane = frame.planes[0]
    order = "<u2" if deep["order"] == "le" else ">u2"
    rows = np.frombuffer(memoryview(plane), order).reshape(frame.height, plane.line_size // 2)
    bits = int(deep["bits"])
    samples = rows[:, : frame.width].astype(np.uint16)[..., None]
    turned = np.ascontiguousarray(np.rot90(samples, _turns(frame)))
    return Stored(turned, top=None if bits == 16 else (1 << bits) - 1)
