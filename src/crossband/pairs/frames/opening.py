"""From a file to its frames."""

from __future__ import annotations

from pathlib import Path

from crossband.errors import PairError
from crossband.pairs.frames.base import Frames
from crossband.pairs.frames.seq import SeqFrames
from crossband.pairs.frames.tiff import TiffFrames
from crossband.pairs.frames.video import VideoFrames
from crossband.pairs.image_files import errors_named, kind_of
from crossband.pairs.radiometric import Conditions
from crossband.pairs.radiometric.flir import BLOCK_STARTS
from crossband.words import Band


def open_frames(path: Path, band: Band, degrees: Conditions | None = None) -> Frames:
    """Open a file of many frames: a TIFF, FLIR's SEQ, else a video.

    degrees: give infrared in degrees Celsius under these conditions; floats are taken to be degrees already.

    Raises PairError, naming the file, if it is none of these, or gives no degrees where they are asked for;
    OptionError for a video without PyAV.
    """
    with errors_named(path):
        with path.open("rb") as file:
            start = file.read(4)
        kind = kind_of(path)
        if kind not in (None, "TIFF"):
            raise PairError(f"one {kind} image and no file of frames; give its folder as folder:PATH")
    if start in BLOCK_STARTS:
        return SeqFrames(path, degrees)
    frames = TiffFrames(path) if kind == "TIFF" else VideoFrames(path, band)
    if degrees is not None and frames[0].samples.dtype.kind != "f":
        raise PairError(f"{path}: holds no temperatures; use a rule such as fixed(low, high)")
    return frames
