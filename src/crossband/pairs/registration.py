"""Pairs of a rig, brought into one camera's frame where they are read."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np

from crossband.errors import OptionError, PairError, quoted
from crossband.pairs.base import Pair
from crossband.rig.rig import Rig, read_rig
from crossband.rig.warping import warp_of, warped, warped_label
from crossband.words import BANDS, IGNORE_INDEX, Band


@dataclass(frozen=True)
class Registration:
    """A rig, and the camera whose frame its pairs are brought into; that camera's images stay as they are."""

    rig: Rig
    frame: Band = "visible"

    def __post_init__(self) -> None:
        if self.frame not in BANDS:
            raise OptionError(f"the frame is one of {', '.join(BANDS)}, not {quoted(self.frame)}")

    def __str__(self) -> str:
        """The rig by its checksum, and the frame."""
        return f"{hashlib.sha256(self.rig.to_json().encode()).hexdigest()[:16]} in the {self.frame} frame"

    def __call__(self, pair: Pair) -> Pair:
        """The pair in the frame, ``valid`` being False where the other band's camera saw nothing.

        There that band repeats its edge, and the label is ``IGNORE_INDEX``. A label of the visible image's
        size lies on it, one of the infrared image's on that one.

        Raises PairError if an image is not of the rig's size.
        """
        label_band = self._checked(pair)
        other: Band = "infrared" if self.frame == "visible" else "visible"
        warp = warp_of(self.rig, other)
        image = getattr(pair, other)
        label, valid = pair.label, pair.valid
        if image is not None:
            moved = warped(image, warp)
            pair = replace(pair, visible=moved) if other == "visible" else replace(pair, infrared=moved)
            valid = warp.valid if valid is None else valid & warp.valid
        if label is not None and label_band == other:
            label = warped_label(label, warp, IGNORE_INDEX)
        if label is not None and image is not None:
            label = np.where(warp.valid, label, np.uint8(IGNORE_INDEX))
        return replace(pair, label=label, valid=None if valid is None or valid.all() else valid)

    def _checked(self, pair: Pair) -> Band:
        """The band that the label lies on."""
        for band in BANDS:
            image = getattr(pair, band)
            if image is not None and image.shape[:2] != self.rig.size(band):
                raise PairError(
                    f"pair {quoted(pair.name)}: {self._unlike(band, image.shape[:2])}; give images of that "
                    "size, or align again"
                )
        if pair.label is None:
            return "visible"
        for band in BANDS:
            if pair.label.shape == self.rig.size(band):
                return band
        raise PairError(
            f"pair {quoted(pair.name)}: its label is {pair.label.shape[0]} x {pair.label.shape[1]}, the size "
            "of neither camera of the rig (height x width)"
        )

    def _unlike(self, band: Band, size: tuple[int, ...]) -> str:
        wanted = self.rig.size(band)
        return (
            f"{band} is {size[0]} x {size[1]}, but the rig was aligned at {wanted[0]} x {wanted[1]} "
            "(height x width)"
        )


def registration_of(rig: str | Path | None, frame: str | None = None) -> Registration | None:
    """The registration of a ``rig.json``, in the visible camera's frame unless told; None without a rig.

    Raises OptionError as `read_rig`, for a frame that is no band, and for a frame without a rig.
    """
    if not isinstance(rig, str | Path | None):
        raise OptionError(f"rig must be the path of a rig.json, not {quoted(rig)}")
    if rig is None:
        if frame is not None:
            raise OptionError(f"the frame {quoted(frame)} means a camera of a rig; name the rig too")
        return None
    return Registration(read_rig(Path(rig)), cast(Band, frame or "visible"))
