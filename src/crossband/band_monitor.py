"""Whether what a camera gives can be used: frames that are missing, frozen, black, saturated, or no scene.

A band is turned off by a few faulty frames that follow each other, and on again by more good ones, so that it
does not flicker. The limits are measured on real pairs in docs/rig.md. Where a run has a trained monitor,
that one judges single pairs.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np

from crossband.trained_monitor import TrainedMonitor
from crossband.words import BANDS, Band, Bands, Fault, FrameFault

ON_AFTER = 5
"""Good frames that follow each other, after which a band that is off is used again."""

_OFF_AFTER: dict[Fault, int] = {
    "no frame": 2,
    "frozen": 3,
    "black": 2,
    "saturated": 2,
    "fixed pattern": 2,
    "harmful": 2,
}
"""Faulty frames that follow each other, the last one of this kind, that turn a band off. Film
that is shown at a video's rate repeats a picture twice, and no more."""

_LINES = 48
"""Rows and columns that are looked at, evenly spaced."""
_DARK: dict[Band, float] = {"visible": 0.04, "infrared": 0.002}
_BRIGHT: dict[Band, float] = {"visible": 0.98, "infrared": 0.998}
"""Levels, as shares of the type's range. Infrared counts of 14 bits lie in the lowest quarter of 16."""
_NEARLY_ALL = 99.5
_SATURATED_SHARE = 0.8
_SAME_SHARE = 0.999
_CONSTANT = 1.5 / 65535
_STRIPES = 0.995
"""The share of all variance that is between whole columns, or between whole rows."""
_GRAIN = 0.3
"""The correlation of neighbouring pixels, in the direction in which it is lower."""


@dataclass(frozen=True)
class Verdict:
    """What a monitor makes of a frame.

    on: whether the band is to be used. fault: of this frame, None for a good one. changed: whether this frame
    turned the band on or off.
    """

    on: bool
    fault: Fault | None
    changed: bool


class BandSwitch:
    """Whether a band is used, by the faults of its frames: off after a few, on after more without.

    ignore: faults that do not count, such as "frozen" for a video of drawings. on: whether the band is to be
    used. fault: what turned it off, or its last frame's fault; None while it is on and well.
    """

    def __init__(self, *, ignore: Collection[Fault] = (), on_after: int = ON_AFTER):
        self.on = True
        self.fault: Fault | None = None
        self._ignore = frozenset(ignore)
        self._on_after = on_after
        self._bad = self._good = 0

    def note(self, fault: Fault | None) -> Verdict:
        """Take the next frame's fault, None for a good one."""
        fault = None if fault in self._ignore else fault
        was_on = self.on
        if fault is None:
            self._bad, self._good = 0, self._good + 1
            self.on = self.on or self._good >= self._on_after
        else:
            self._bad, self._good = self._bad + 1, 0
            self.on = self.on and self._bad < _OFF_AFTER[fault]
        if fault is not None or self.on:
            self.fault = fault
        return Verdict(self.on, fault, self.on != was_on)


class BandMonitor(BandSwitch):
    """Watches one band, frame by frame."""

    def __init__(self, band: Band, *, ignore: Collection[Fault] = (), on_after: int = ON_AFTER):
        super().__init__(ignore=ignore, on_after=on_after)
        self.band = band
        self._before: np.ndarray | None = None

    def see(self, image: np.ndarray | None) -> Verdict:
        """Look at the next frame; None means that one was due and did not come.

        image: (H, W) or (H, W, C), unsigned integers as a camera stores them, floats in [0, 1], or degrees.
        """
        return self.note(self._fault(image))

    def _fault(self, image: np.ndarray | None) -> FrameFault | None:
        if image is None:
            return "no frame"
        fault, lines = examine(self.band, image)
        before, self._before = self._before, lines
        if fault is not None or before is None or before.shape != lines.shape:
            return fault
        return "frozen" if np.mean(before == lines) >= _SAME_SHARE else None


class PairMonitor:
    """Says which bands of pairs are better left out in which no image shows a fault by itself (`faults_of`).

    trained: a run's own monitor (`TrainedMonitor`), which is asked with the run's answer to both bands. None
    leaves it at faults that an image shows.
    """

    def __init__(self, trained: TrainedMonitor | None = None):
        self.trained = trained

    @classmethod
    def of(cls, fields: Any) -> PairMonitor:
        """With the trained monitor that a card holds, if any. Raises WeightsError for a damaged one."""
        return cls(None if fields is None else TrainedMonitor.from_fields(fields))

    def in_answer(
        self,
        visible: np.ndarray | None,
        infrared: np.ndarray | None,
        labels: np.ndarray | None,
        confidence: np.ndarray | None,
    ) -> dict[Band, Fault]:
        """The band without which the run would answer better, of a pair whose images look well.

        visible: float32 (H, W, 3), infrared: float32 (H, W) or (H, W, 1), in [0, 1] by the run's rule.
        labels: uint8 (H, W), confidence: float32 (H, W), the run's answer to both. Nothing is found without a
        trained monitor, or where one of the four is missing.
        """
        if self.trained is None or visible is None or infrared is None:
            return {}
        if labels is None or confidence is None:
            return {}
        grey = infrared if infrared.ndim == 2 else infrared[..., 0]
        harmful = self.trained.harmful(visible, grey, labels, confidence)
        return {} if harmful is None else {harmful: "harmful"}


def faults_of(visible: np.ndarray | None, infrared: np.ndarray | None) -> dict[Band, Fault]:
    """What is wrong with the images of one pair, each by itself; bands that are well or missing are left out.

    visible, infrared: as `examine` takes them. Only several frames tell "frozen" and "no frame".
    """
    images: dict[Band, np.ndarray | None] = {"visible": visible, "infrared": infrared}
    found = {band: examine(band, image)[0] for band, image in images.items() if image is not None}
    return {band: fault for band, fault in found.items() if fault is not None}


def bands_left(given: Bands, faults: Collection[Band], supports: Collection[Bands]) -> Bands:
    """The bands to use of those given when the faulty ones are dropped.

    supports: the combinations that the system runs on. All that were given are used where nothing whole is
    left, or nothing that the system runs on: a poor answer is then the only one.
    """
    whole: list[Bands] = [band for band in BANDS if band not in faults]
    if given == "both" and given in supports and len(whole) == 1 and whole[0] in supports:
        return whole[0]
    return given


def examine(band: Band, image: np.ndarray) -> tuple[FrameFault | None, np.ndarray]:
    """What is wrong with one image by itself, and the rows by which it is told from the next one.

    black: 99.5 % of the pixels are below 4 % of the range (infrared: 0.2 %). saturated: 80 % are at its top.
    fixed pattern: whole columns or rows hold 99.5 % of all variance, neighbouring pixels correlate by less
    than 0.3, or all pixels are alike. Some 48 rows and columns are looked at.
    """
    grey = image if image.ndim == 2 else image[..., image.shape[2] // 2]
    rows = grey[:: max(1, grey.shape[0] // _LINES)]
    columns = grey[:, :: max(1, grey.shape[1] // _LINES)]
    top = 1.0 if grey.dtype.kind == "f" else float(np.iinfo(grey.dtype).max)
    values = rows.astype(np.float32) / np.float32(top)
    return _fault_of(band, values, columns.astype(np.float32) / np.float32(top), top), rows


def _fault_of(band: Band, rows: np.ndarray, columns: np.ndarray, top: float) -> FrameFault | None:
    low, high = float(rows.min()), float(rows.max())
    # Degrees have neither a darkest level nor a brightest one.
    if low >= 0 and high <= 1:
        if np.percentile(rows, _NEARLY_ALL) <= _DARK[band]:
            return "black"
        if np.mean(rows >= _BRIGHT[band]) >= _SATURATED_SHARE:
            return "saturated"
    if high - low <= _CONSTANT:
        return "saturated" if _is_full(high * top) else "fixed pattern"
    grid = rows[:, :: max(1, rows.shape[1] // _LINES)]
    whole = float(grid.var())
    stripes = max(float(grid.mean(0).var()), float(grid.mean(1).var())) / max(whole, 1e-12)
    if min(grid.shape) > 2 and stripes >= _STRIPES:
        return "fixed pattern"
    if min(_correlation(rows), _correlation(columns.T)) < _GRAIN:
        return "fixed pattern"
    return None


def _is_full(level: float) -> bool:
    """Whether a stored level is the largest one of a camera of 8, 10, 12, 14 or 16 bits."""
    return round(level) in (255, 1023, 4095, 16383, 65535)


def _correlation(lines: np.ndarray) -> float:
    """Of the neighbours along the second axis; 1 where there is no variance."""
    if lines.shape[1] < 2:
        return 1.0
    variance = float(lines.var())
    differences = np.diff(lines, axis=1)
    return 1.0 if variance <= 0 else 1 - float(np.mean(differences * differences)) / (2 * variance)
