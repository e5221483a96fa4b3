"""Two cameras at once: frames paired by time, dead cameras left out, and results as they come."""

from crossband.stream.cameras import Camera, Frame, LiveCamera, RecordedCamera
from crossband.stream.pairing import Match, Pairing
from crossband.stream.stream import Moment, Stream

__all__ = ["Camera", "Frame", "LiveCamera", "Match", "Moment", "Pairing", "RecordedCamera", "Stream"]
