"""The moments of a stream for the Rerun viewer, live or as a file, within a bound of bytes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from crossband.pairs.base import Classes
from crossband.pairs.writing import replacing
from crossband.pictures import class_shares, to_uint8
from crossband.report.rerun_recording import RATE, RerunRecording
from crossband.stream.stream import Moment
from crossband.words import BANDS, IGNORE_INDEX

BYTES_A_SECOND = 1_000_000
"""Of the file, over the time of the stream: five minutes stay below 300 MB, and a moment more."""
_MAX_SIDE = 640


class MomentRecording:
    """Logs moments: at most ten a second, and fewer where their pictures would take more than the bound.

    Entities: visible, infrared, fused, confidence (JPEG, of 640 pixels a side at most), label (PNG),
    band_state (which band is on, and why one is off); as lines over time band_state/BAND (1 on, 0 off),
    share/CLASS (per cent of the area) and reliability/BAND (mean).
    """

    def __init__(self, recording: RerunRecording, classes: Classes | None):
        self._recording, self._classes = recording, classes
        self._first: int | None = None
        self._told: float | None = None
        self._count = 0

    def write(self, moment: Moment) -> None:
        """Log a moment, if it is its turn. A change of a band is never left out."""
        self._first = moment.time if self._first is None else self._first
        seconds = (moment.time - self._first) / 1e9
        number, self._count = self._count, self._count + 1
        due = self._told is None or seconds - self._told >= 1 / RATE - 1e-6
        affordable = self._recording.bytes <= BYTES_A_SECOND * seconds
        if not ((due and affordable) or moment.changes):
            return
        self._recording.at(seconds, moment=number)
        self._recording.band_states({band: moment.faults[band] for band in BANDS if band in moment.faults})
        if due and affordable:
            self._told = seconds
            self._log(moment)

    def _log(self, moment: Moment) -> None:
        prediction, log = moment.prediction, self._recording
        pictures: dict[str, np.ndarray | None] = dict.fromkeys(("visible", "infrared", "fused", "confidence"))
        if prediction is not None:
            pair = prediction.pair
            pictures["visible"] = None if pair.visible is None else to_uint8(pair.visible)
            pictures["infrared"] = None if pair.infrared is None else to_uint8(pair.infrared)
            pictures["fused"] = prediction.fused
            pictures["confidence"] = (
                None if prediction.confidence is None else to_uint8(prediction.confidence)
            )
            log.numbers(
                {f"reliability/{band}": float(one.mean()) for band, one in prediction.reliability.items()}
            )
        for name, picture in pictures.items():
            log.picture(name, picture)
        labels = None if prediction is None else prediction.labels
        log.label(labels)
        if labels is not None and self._classes is not None:
            shares = dict(class_shares(labels))
            shares.pop(IGNORE_INDEX, None)
            names = self._classes.names
            log.numbers({f"share/{name}": 100 * shares.get(place, 0.0) for place, name in enumerate(names)})


@contextmanager
def recording_moments(path: Path | None, classes: Classes | None) -> Iterator[MomentRecording]:
    """Log moments into a file, which is whole however the stream ends; None starts the viewer in its place.

    Raises OptionError if rerun-sdk is not installed, or the file cannot be written.
    """
    recording = RerunRecording(classes, max_side=_MAX_SIDE)
    if path is None:
        recording.spawn()
        try:
            yield MomentRecording(recording, classes)
        finally:
            recording.close()
        return
    with replacing(path) as temporary:
        recording.save(temporary)
        yield MomentRecording(recording, classes)
        recording.close()
