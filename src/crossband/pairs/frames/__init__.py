"""Files of many frames: TIFFs of many pages, FLIR's sequences, and video."""

from crossband.pairs.frames.base import Frames
from crossband.pairs.frames.opening import open_frames
from crossband.pairs.frames.source import FramePairs

__all__ = ["FramePairs", "Frames", "open_frames"]
