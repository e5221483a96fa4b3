"""Pairs of frames: ``frames:INFRARED[,visible=PATH][,rig=PATH]``."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from crossband.errors import OptionError, PairError
from crossband.pairs.auto_scaling import AUTO, automatic_scaling
from crossband.pairs.band_summary import summarise_pairs
from crossband.pairs.base import Pair, Pairs
from crossband.pairs.false_colour import REFUSE
from crossband.pairs.folder import WHOLE
from crossband.pairs.frames.opening import open_frames
from crossband.pairs.infrared_scaling import InfraredScaling
from crossband.pairs.reading import as_infrared, as_visible, check_same_size
from crossband.pairs.registration import Registration
from crossband.words import BANDS, Band


class FramePairs(Pairs):
    """The frames of one file, or of two of the same number of frames, paired in their order.

    infrared, visible: files that `open_frames` opens; one of them may be None. infrared_scaling: a rule, or
    "auto", which looks at a sample of the frames. false_colour: as in `read_infrared`. registration: brings
    bands that are not registered into one frame. Pairs are named by their number, from 000000. There are no
    labels.

    Raises PairError if a file cannot be opened or if their numbers of frames differ, OptionError if both are
    None or for an unknown scaling rule.
    """

    def __init__(
        self,
        infrared: Path | None,
        visible: Path | None = None,
        *,
        infrared_scaling: str = "full-range",
        false_colour: str = REFUSE,
        registration: Registration | None = None,
    ):
        rule = None if infrared_scaling == AUTO else InfraredScaling.parse(infrared_scaling)
        degrees = None if rule is None else rule.degrees
        given: dict[Band, Path | None] = {"visible": visible, "infrared": infrared}
        self._frames = {
            band: open_frames(path, band, degrees if band == "infrared" else None)
            for band, path in given.items()
            if path is not None
        }
        if not self._frames:
            raise OptionError("neither a visible nor an infrared file of frames was given; give one or both")
        counts = {str(frames.path): len(frames) for frames in self._frames.values()}
        if len(set(counts.values())) > 1:
            told = " and ".join(f"{path} has {count} frames" for path, count in counts.items())
            raise PairError(f"{told}: frames are paired by number; cut both to the same ones")
        self.source = f"frames:{infrared or visible}"
        self.split = WHOLE
        self.classes = None
        self.bands = tuple(band for band in BANDS if band in self._frames)
        self.false_colour = false_colour
        self.registration = registration
        self.scaling = rule or automatic_scaling(summarise_pairs(self).infrared)

    def __len__(self) -> int:
        return len(next(iter(self._frames.values())))

    def __getitem__(self, index: int) -> Pair:
        name = self.name(index)
        bands: dict[Band, np.ndarray] = {}
        for band, frames in self._frames.items():
            where = Path(f"{frames.path}, frame {index}")
            stored = frames[index]
            bands[band] = (
                as_visible(where, stored)
                if band == "visible"
                else as_infrared(where, stored, self.scaling, false_colour=self.false_colour)
            )
        pair = Pair(name, bands.get("visible"), bands.get("infrared"))
        if self.registration is not None:
            return self.registration(pair)
        check_same_size(name, [(self._frames[band].path, image) for band, image in bands.items()])
        return pair

    def name(self, index: int) -> str:
        return f"{index:06d}"

    def file(self, band: Band) -> Path | None:
        return self._frames[band].path if band in self._frames else None

    def levels(self, index: int, band: Band) -> np.ndarray | None:
        if band not in self._frames:
            return None
        return self._frames[band][index].levels(measured=band == "infrared")
