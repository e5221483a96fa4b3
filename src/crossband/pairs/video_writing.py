"""Pictures as a video, written whole or not at all: through PyAV, or OpenCV where that is not there."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from crossband.errors import OptionError, first_line, quoted
from crossband.pairs.writing import replacing

_CONTAINERS = {
    ".mp4": "mp4",
    ".mov": "mov",
    ".mkv": "matroska",
    ".y4m": "yuv4mpegpipe",
}
_CODECS = ("libx264", "mpeg4")
"""The first of these that PyAV was built with."""
_TICKS = 1000
"""Parts of a second in which frames are shown."""
_QUALITY = "20"


class VideoWriter(ABC):
    """Takes pictures one after another; `writing_video` makes one.

    rate: frames a second, for pictures without a time of their own.
    """

    def __init__(self, path: Path, temporary: Path, rate: float):
        self.path, self.rate, self.count = path, rate, 0
        self._temporary = temporary
        self._size: tuple[int, int] | None = None
        self._first: int | None = None
        self._last = -1

    def write(self, picture: np.ndarray, time: int | None = None) -> None:
        """Add a picture: uint8 (H, W, 3), sRGB, or (H, W, 4), black where it is transparent.

        time: when it is shown, in nanoseconds since any moment; None is one period after the one before.
        Raises OptionError for a picture of another size than the first one's, or if it cannot be written.
        """
        size = picture.shape[0], picture.shape[1]
        if self._size is None:
            self._size = size
        if size != self._size:
            raise OptionError(
                f"{self.path}: a picture of {size[0]} x {size[1]} after those of {self._size[0]} x "
                f"{self._size[1]} (height x width); a video has one size, so leave --video out"
            )
        if picture.shape[2] == 4:
            picture = np.where(picture[..., 3:] > 0, picture[..., :3], np.uint8(0))
        # Most codecs take even sizes only.
        even = np.pad(picture, ((0, size[0] % 2), (0, size[1] % 2), (0, 0)), mode="edge")
        self._add(np.ascontiguousarray(even), self._tick(time))
        self.count += 1

    def _tick(self, time: int | None) -> int:
        if time is None:
            tick = round(self.count * _TICKS / self.rate)
        else:
            self._first = time if self._first is None else self._first
            tick = round((time - self._first) * _TICKS / 1_000_000_000)
        self._last = max(tick, self._last + 1)
        return self._last

    @abstractmethod
    def _add(self, picture: np.ndarray, tick: int) -> None: ...

    @abstractmethod
    def close(self) -> None:
        """Write what is still held."""


class _AvWriter(VideoWriter):
    def __init__(self, path: Path, temporary: Path, rate: float, av: ModuleType):
        super().__init__(path, temporary, rate)
        self._av = av
        av.logging.set_level(None)
        container = _CONTAINERS[path.suffix.lower()]
        self._container = av.open(str(temporary), "w", format=container)
        raw = container == "yuv4mpegpipe"
        codec = "rawvideo" if raw else next(name for name in _CODECS if name in av.codecs_available)
        # Y4M has no times but its rate.
        self._every = Fraction(rate).limit_denominator(1001) if raw else None
        options = {"crf": _QUALITY, "preset": "veryfast"} if codec == "libx264" else {"qscale": "3"}
        self._stream = self._container.add_stream(
            codec, rate=self._every or Fraction(rate).limit_denominator(1001), options={} if raw else options
        )
        self._stream.pix_fmt = "yuv420p"

    def _add(self, picture: np.ndarray, tick: int) -> None:
        if not self.count:
            self._stream.height, self._stream.width = picture.shape[:2]
            if self._every is None:
                self._stream.codec_context.time_base = Fraction(1, _TICKS)
        frame = self._av.VideoFrame.from_ndarray(picture, format="rgb24")
        if self._every is None:
            frame.pts, frame.time_base = tick, Fraction(1, _TICKS)
        else:
            frame.pts, frame.time_base = self.count, 1 / self._every
        self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        if self.count:
            self._container.mux(self._stream.encode(None))
        self._container.close()


class _OpenCVWriter(VideoWriter):
    """Frames at a constant rate, whatever their times are."""

    def __init__(self, path: Path, temporary: Path, rate: float):
        super().__init__(path, temporary, rate)
        # It takes the container from the suffix.
        self._named = temporary.with_name(temporary.name + path.suffix.lower())
        self._video: Any = None

    def _add(self, picture: np.ndarray, tick: int) -> None:
        import cv2

        if self._video is None:
            kind = cv2.VideoWriter.fourcc(*"mp4v")
            self._video = cv2.VideoWriter(str(self._named), kind, self.rate, picture.shape[1::-1])
            if not self._video.isOpened():
                raise OptionError(f"cannot write {self.path} by OpenCV; pip install 'crossband[video]'")
        self._video.write(picture[..., ::-1])

    def close(self) -> None:
        if self._video is not None:
            self._video.release()
            os.replace(self._named, self._temporary)


def check_video(path: Path, rate: float) -> None:
    """Raise OptionError for a suffix that names no video, or a rate that is none."""
    if path.suffix.lower() not in _CONTAINERS:
        raise OptionError(f"{path}: cannot write {quoted(path.suffix)}; use one of {', '.join(_CONTAINERS)}")
    if not 0.01 <= rate <= 1000:
        raise OptionError(f"a video of {rate:g} frames a second; give a rate from 0.01 to 1000")


@contextmanager
def writing_video(path: Path, rate: float) -> Iterator[VideoWriter]:
    """A writer of a video, which appears under its name when the block ends without an error.

    The container goes by the suffix: mp4, mov, mkv or y4m; the codec is H.264 where PyAV has it, else
    MPEG-4. Without PyAV, OpenCV writes MPEG-4 at a constant rate. Raises OptionError as `check_video`, if it
    cannot be written, and if no picture was.
    """
    check_video(path, rate)
    av: Any = None
    with suppress(ImportError):
        av = import_module("av")
    refusals: tuple[type[Exception], ...] = () if av is None else (av.error.FFmpegError,)
    with replacing(path, raises=refusals) as temporary:
        if av is None and path.suffix.lower() == ".y4m":
            raise OptionError(f"{path}: y4m is written by PyAV; pip install 'crossband[video]'")
        writer = _OpenCVWriter(path, temporary, rate) if av is None else _AvWriter(path, temporary, rate, av)
        try:
            yield writer
        except BaseException:
            with suppress(Exception):
                writer.close()
            raise
        try:
            writer.close()
        except refusals as error:
            raise OptionError(f"cannot write {path}: {first_line(error)}; choose another place") from error
        if not writer.count:
            raise OptionError(f"{path}: no picture was made, and so no video")
