"""Cameras that give frames when they will: by an index, or by an address such as RTSP."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from crossband.errors import PairError
from crossband.pairs.frames.video import as_stored
from crossband.words import Band

_QUIET = "-8"
"""FFmpeg's AV_LOG_QUIET."""
_PATIENCE = 5.0
"""Seconds for an address to answer, and for each of its frames."""
_PROTOCOLS = "rtp,srtp,udp,tcp,tls,http,https,httpproxy,crypto,rtmp,rtmps"
"""What an address may lead to: no files of this computer."""
_OPTIONS = {
    "protocol_whitelist": _PROTOCOLS,
    # Of packets that UDP loses, pictures have holes.
    "rtsp_transport": "tcp",
    "fflags": "nobuffer",
    # Microseconds of looking at what it is: FFmpeg's own five seconds keep a camera that is back waiting.
    # So do the twenty frames from which it guesses the rate, which nobody asks here.
    "analyzeduration": "1000000",
    "fpsprobesize": "0",
}


def is_live(text: str) -> bool:
    """Whether a text names a camera, by its index or address, and no recording."""
    return text.isdecimal() or "://" in text


def opener(text: str, band: Band) -> Callable[[], Iterator[np.ndarray]]:
    """What opens a live camera and gives its images, (H, W) or (H, W, 3), as they come.

    An address is read by PyAV, or by OpenCV where that is not installed, which gives 8 bits and no reason for
    what it cannot open; an index by OpenCV. The iterator raises PairError, saying why in a few words, for a
    camera that cannot be opened or breaks off.
    """
    if text.isdecimal():
        return lambda: _by_opencv(int(text), _no_device(int(text)))
    if find_spec("av") is None:
        why = "it cannot be opened; pip install 'crossband[video]' tells why"
        return lambda: _by_opencv(text, why)
    return lambda: _by_pyav(text, band)


def _by_pyav(address: str, band: Band) -> Iterator[np.ndarray]:
    import av

    av.logging.set_level(None)
    try:
        with av.open(address, options=_OPTIONS, timeout=(_PATIENCE, _PATIENCE)) as container:
            if not container.streams.video:
                raise PairError("it gives no video")
            stream = container.streams.video[0]
            # Threads that decode several frames at once give each of them later.
            stream.thread_type = "SLICE"
            for frame in container.decode(stream):
                yield as_stored(frame, band).levels(measured=band == "infrared")
    except av.error.ExitError as error:
        raise PairError(f"no answer within {_PATIENCE:g} s") from error
    except av.error.FFmpegError as error:
        raise PairError(_reason(address, error.strerror or type(error).__name__)) from error


def _reason(address: str, told: str) -> str:
    """What FFmpeg told; of a host that is not known it tells "Input/output error" only."""
    host = urlsplit(address).hostname
    try:
        socket.getaddrinfo(host, None)
    except (OSError, UnicodeError):
        return f"no such host ({host})"
    return told


def _by_opencv(place: int | str, why: str) -> Iterator[np.ndarray]:
    """why: it cannot be opened, which OpenCV does not say."""
    # The decoder's own words about every frame that is not whole, which the band monitor tells in ours.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", _QUIET)
    import cv2

    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    capture = cv2.VideoCapture(place)
    try:
        if not capture.isOpened():
            raise PairError(why)
        while True:
            there, image = capture.read()
            if not there:
                return
            yield np.ascontiguousarray(image[..., ::-1]) if image.ndim == 3 else image
    finally:
        capture.release()


def _no_device(index: int) -> str:
    device = Path(f"/dev/video{index}")
    if sys.platform == "linux" and not device.exists():
        return f"no such device ({device})"
    return "no camera that can be opened; another program may be using it"
