"""Pairs as a file for the Rerun viewer, by the optional extra ``rerun``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from crossband.pairs.base import Pairs
from crossband.pairs.writing import replacing
from crossband.pictures import to_uint8
from crossband.report.rerun_recording import RATE, RerunRecording
from crossband.results import ResultPairs
from crossband.words import BANDS

Progress = Callable[[int, int], None]


def write_rerun(pairs: Pairs, path: Path, *, progress: Progress | None = None) -> int:
    """Write the entities visible, infrared, fused, label, confidence and band_state; gives how many pairs.

    A band is off where a pair has none, or where a monitor dropped it from the results. Pictures are JPEG at
    quality 80, labels PNG in the colours of "legend". On the timeline "time" there are at most ten pairs a
    second, on "pair" their numbers.

    Raises OptionError if rerun-sdk is not installed, PairError for a pair that cannot be read.
    """
    recording = RerunRecording(pairs.classes)
    written = 0
    with replacing(path) as temporary:
        recording.save(temporary)
        told: float | None = None
        for index in range(len(pairs)):
            seconds = _seconds(pairs, index)
            if told is None or seconds - told >= 1 / RATE - 1e-6:
                told = seconds
                recording.at(seconds, pair=index)
                _log(recording, pairs, index)
                written += 1
            if progress is not None:
                progress(index + 1, len(pairs))
        recording.close()
    return written


def _seconds(pairs: Pairs, index: int) -> float:
    """Since the first pair; where pairs have no times, ten of them are a second."""
    first, this = pairs.time(0), pairs.time(index)
    return index / RATE if first is None or this is None else (this - first) / 1e9


def _log(recording: RerunRecording, pairs: Pairs, index: int) -> None:
    pair = pairs[index]
    pictures: dict[str, np.ndarray | None] = {
        "visible": None if pair.visible is None else to_uint8(pair.visible),
        "infrared": None if pair.infrared is None else to_uint8(pair.infrared),
    }
    if isinstance(pairs, ResultPairs):
        pictures |= {kind: pairs.picture(index, kind) for kind in ("fused", "confidence")}
    for name, picture in pictures.items():
        recording.picture(name, picture)
    recording.label(pair.label)
    dropped = pairs.dropped(index) if isinstance(pairs, ResultPairs) else {}
    missing = {band: None if getattr(pair, band) is not None else "not given" for band in BANDS}
    recording.band_states({band: dropped.get(band) or missing[band] for band in BANDS})
    recording.text("name", pairs.name(index))
