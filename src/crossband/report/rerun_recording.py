"""What the Rerun viewer is given, by the optional extra ``rerun``: pictures as JPEG, and lines over time."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from crossband.errors import OptionError
from crossband.pairs.base import Classes
from crossband.pairs.writing import png_bytes
from crossband.pictures import colour_labels, legend
from crossband.words import Band

RATE = 10
"""Times a second that anything is logged, at most."""
_QUALITY = 80
_ROW = 1500
"""Bytes that the file takes for each thing that is logged beside what it holds, where they are logged as they
come: its chunk, and the chunk's place in the file's index (`python speed/rerun_size.py`)."""


def rerun_package() -> Any:
    """The package ``rerun``. Raises OptionError if it is not installed."""
    try:
        import rerun
    except ImportError as error:
        raise OptionError(
            "rerun-sdk is not installed, which the Rerun viewer needs: pip install 'crossband[rerun]'; "
            "without it `crossband view` writes a page of HTML"
        ) from error
    return rerun


class RerunRecording:
    """A recording of what is seen at times. bytes: about how large it is: its pictures as they are
    stored, and what each thing that is logged takes beside.

    classes: of the labels; their legend is kept once. max_side: pictures with a longer side are made smaller.
    """

    def __init__(self, classes: Classes | None, *, max_side: int | None = None):
        self._rerun = rerun_package()
        self._recording = self._rerun.RecordingStream("crossband")
        self._classes, self._max_side = classes, max_side
        self._known: set[str] = set()
        self.bytes = 0

    def save(self, path: Path) -> None:
        """Write into a file from here on."""
        self._recording.save(str(path))
        self._log_legend()

    def spawn(self) -> None:
        """Start the viewer and write to it from here on."""
        self._recording.spawn()
        self._log_legend()

    def close(self) -> None:
        """Write what waits to be written."""
        self._recording.flush()
        self._recording.disconnect()

    def at(self, seconds: float, **places: int) -> None:
        """What is logged from here on was seen then. places: its number on other timelines, by name."""
        self._recording.set_time("time", duration=seconds)
        for name, number in places.items():
            self._recording.set_time(name, sequence=number)

    def picture(self, name: str, picture: np.ndarray | None) -> None:
        """Log a picture, uint8 (H, W) or (H, W, 3), as JPEG. None: there is none at this time."""
        if picture is None:
            self._clear(name)
            return
        buffer = io.BytesIO()
        self._smaller(picture, Image.Resampling.LANCZOS).save(buffer, "JPEG", quality=_QUALITY)
        self._encoded(name, buffer.getvalue(), "image/jpeg")

    def label(self, labels: np.ndarray | None) -> None:
        """Log labels, uint8 (H, W), in the colours of their classes. None: there are none at this time."""
        if labels is None or self._classes is None:
            self._clear("label")
            return
        # As ids they would take a byte for each pixel; as PNG they take a small part of that.
        painted = self._smaller(colour_labels(labels, self._classes.palette), Image.Resampling.NEAREST)
        self._encoded("label", png_bytes(np.asarray(painted)), "image/png")

    def text(self, name: str, text: str) -> None:
        """Log a text."""
        self._log(name, self._rerun.TextDocument(text))

    def numbers(self, numbers: Mapping[str, float]) -> None:
        """Log numbers, each a line over time."""
        for name, number in numbers.items():
            self._log(name, self._rerun.Scalars(number))

    def band_states(self, states: Mapping[Band, str | None]) -> None:
        """Log which bands are on: a text, and a line over time for each, 1 on and 0 off.

        states: why a band is off, None for one that is on.
        """
        told = ", ".join(f"{band} {'on' if why is None else f'off: {why}'}" for band, why in states.items())
        self.text("band_state", told)
        self.numbers({f"band_state/{band}": float(why is None) for band, why in states.items()})

    def _log_legend(self) -> None:
        if self._classes is not None:
            picture = self._rerun.Image(np.asarray(legend(self._classes)))
            self._recording.log("legend", picture, static=True)

    def _smaller(self, picture: np.ndarray, filter: Image.Resampling) -> Image.Image:
        image = Image.fromarray(picture)
        if self._max_side is not None:
            image.thumbnail((self._max_side, self._max_side), filter)
        return image

    def _encoded(self, name: str, data: bytes, kind: str) -> None:
        self.bytes += len(data)
        self._known.add(name)
        self._log(name, self._rerun.EncodedImage(contents=data, media_type=kind))

    def _clear(self, name: str) -> None:
        """What was there must not stay on."""
        if name in self._known:
            self._known.discard(name)
            self._log(name, self._rerun.Clear(recursive=False))

    def _log(self, name: str, what: Any) -> None:
        self.bytes += _ROW
        self._recording.log(name, what)
