"""Pairs as a file for the Rerun viewer, by the optional extra ``rerun``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from crossband.errors import OptionError
from crossband.pairs.base import Pairs
from crossband.pairs.writing import png_bytes, replacing
from crossband.pictures import colour_labels, legend, to_uint8
from crossband.results import ResultPairs

Progress = Callable[[int, int], None]

_QUALITY = 80
_RATE = 10
"""Pairs a second at most, by their times; where they have none, exactly so many."""


def write_rerun(pairs: Pairs, path: Path, *, progress: Progress | None = None) -> int:
    """Write the entities visible, infrared, fused, label and confidence; gives how many pairs were written.

    Pictures are JPEG at quality 80, labels PNG in the colours of
    "legend". On the timeline "time" there are
    at most ten pairs a second, on "pair" their numbers.

    Raises OptionError if rerun-sdk is not installed, PairError for a pair that cannot be read.
    """
    try:
        import rerun
    except ImportError as error:
        raise OptionError(
            "rerun-sdk is not installed, which --rerun needs: pip install 'crossband[rerun]'; without it a "
            "page of HTML is written"
        ) from error
    recording = rerun.RecordingStream("crossband")
    written = 0
    with replacing(path) as temporary:
        recording.save(str(temporary))
        if pairs.classes is not None:
            recording.log("legend", rerun.Image(np.asarray(legend(pairs.classes))), static=True)
        told: float | None = None
        for index in range(len(pairs)):
            seconds = _seconds(pairs, index)
            if told is None or seconds - told >= 1 / _RATE - 1e-6:
                told = seconds
                recording.set_time("time", duration=seconds)
                recording.set_time("pair", sequence=index)
                _log(rerun, recording, pairs, index)
                written += 1
            if progress is not None:
                progress(index + 1, len(pairs))
        recording.flush()
        recording.disconnect()
    return written


def _seconds(pairs: Pairs, index: int) -> float:
    """Since the first pair."""
    first, this = pairs.time(0), pairs.time(index)
    return index / _RATE if first is None or this is None else (this - first) / 1e9


def _log(rerun: Any, recording: Any, pairs: Pairs, index: int) -> None:
    pair = pairs[index]
    pictures: dict[str, np.ndarray | None] = {
        "visible": None if pair.visible is None else to_uint8(pair.visible),
        "infrared": None if pair.infrared is None else to_uint8(pair.infrared),
    }
    if isinstance(pairs, ResultPairs):
        pictures |= {kind: pairs.picture(index, kind) for kind in ("fused", "confidence")}
    for name, picture in pictures.items():
        # What a pair lacks must not stay on from the one before.
        shown = rerun.Clear(recursive=False) if picture is None else rerun.Image(picture).compress(_QUALITY)
        recording.log(name, shown)
    label = rerun.Clear(recursive=False)
    if pair.label is not None and pairs.classes is not None:
        # As ids they would take a byte for each pixel; as PNG they take a small part of that.
        painted = png_bytes(colour_labels(pair.label, pairs.classes.palette))
        label = rerun.EncodedImage(contents=painted, media_type="image/png")
    recording.log("label", label)
    recording.log("name", rerun.TextDocument(pairs.name(index)))
