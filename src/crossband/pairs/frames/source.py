"""Pairs of frames: ``frames:INFRARED[,visible=PATH][,rig=PATH]``, and those of a ROS bag."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from crossband.errors import OptionError, PairError
from crossband.pairs.auto_scaling import AUTO, automatic_scaling
from crossband.pairs.band_summary import summarise_pairs
from crossband.pairs.base import Pair, Pairs
from crossband.pairs.false_colour import REFUSE
from crossband.pairs.folder import WHOLE
from crossband.pairs.frames.base import Frames
from crossband.pairs.frames.opening import open_frames
from crossband.pairs.infrared_scaling import InfraredScaling
from crossband.pairs.reading import as_infrared, as_visible, check_same_size
from crossband.pairs.registration import Registration
from crossband.pairs.time_stamps import nearest_pairs, offsets
from crossband.words import BANDS, Band


class FramePairs(Pairs):
    """The frames of one file, or of two, paired in their order or by their times.

    infrared, visible: frames, or files that `open_frames` opens; one of them may be None. max_gap: pair by
    time, none further apart than so many nanoseconds; None pairs files of the same number of frames in their
    order. infrared_scaling: a rule, or "auto", which looks at a sample of the frames. false_colour: as in
    `read_infrared`. registration: brings bands that are not registered into one frame. Pairs are named by
    the number of the visible frame, or of the infrared one alone, from 000000. There are no labels.

    Raises PairError if a file cannot be opened, if numbers of frames differ, or if nothing goes together by
    time; OptionError if both are None or for an unknown scaling rule.
    """

    def __init__(
        self,
        infrared: Path | Frames | None,
        visible: Path | Frames | None = None,
        *,
        max_gap: int | None = None,
        infrared_scaling: str = "full-range",
        false_colour: str = REFUSE,
        registration: Registration | None = None,
    ):
        rule = None if infrared_scaling == AUTO else InfraredScaling.parse(infrared_scaling)
        degrees = None if rule is None else rule.degrees
        given: dict[Band, Path | Frames | None] = {"visible": visible, "infrared": infrared}
        self._frames: dict[Band, Frames] = {
            band: frames
            if isinstance(frames, Frames)
            else open_frames(frames, band, degrees if band == "infrared" else None)
            for band, frames in given.items()
            if frames is not None
        }
        if not self._frames:
            raise OptionError("neither a visible nor an infrared file of frames was given; give one or both")
        if max_gap is None or len(self._frames) == 1:
            self._places = self._by_number()
        else:
            self._places = self._by_time(max_gap)
        self.source = f"frames:{next(reversed(self._frames.values())).path}"
        self.split = WHOLE
        self.classes = None
        self.bands = tuple(band for band in BANDS if band in self._frames)
        self.false_colour = false_colour
        self.registration = registration
        self.scaling = rule or automatic_scaling(summarise_pairs(self).infrared)

    def _by_number(self) -> list[dict[Band, int]]:
        counts = {str(frames.path): len(frames) for frames in self._frames.values()}
        if len(set(counts.values())) > 1:
            told = " and ".join(f"{path} has {count} frames" for path, count in counts.items())
            raise PairError(
                f"{told}: frames are paired by number; cut both to the same ones, or pair them by time: "
                "pair=time,max_gap=20ms"
            )
        return [dict.fromkeys(self._frames, number) for number in range(next(iter(counts.values())))]

    def _by_time(self, max_gap: int) -> list[dict[Band, int]]:
        times: dict[Band, Sequence[int]] = {}
        for band, frames in self._frames.items():
            if frames.times is None:
                raise PairError(f"{frames.path}: {frames.without_times}")
            times[band] = frames.times
        chosen = nearest_pairs(times["visible"], times["infrared"], max_gap)
        if not chosen:
            raise PairError(
                f"{self._frames['visible'].path} and {self._frames['infrared'].path}: no two frames are "
                f"within {max_gap / 1e6:g} ms of each other; raise max_gap"
            )
        self.offsets = offsets(times["visible"], times["infrared"], chosen)
        taken: dict[Band, set[int]] = {
            "visible": {one for one, _ in chosen},
            "infrared": {other for _, other in chosen},
        }
        self.unpaired = [
            (band, f"{frames.path}, frame {number}")
            for band, frames in self._frames.items()
            for number in range(len(frames))
            if number not in taken[band]
        ]
        return [{"visible": one, "infrared": other} for one, other in chosen]

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> Pair:
        name = self.name(index)
        bands: dict[Band, np.ndarray] = {}
        for band, frames in self._frames.items():
            place = self._places[index][band]
            where = Path(f"{frames.path}, frame {place}")
            stored = frames[place]
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
        return f"{next(iter(self._places[index].values())):06d}"

    def time(self, index: int) -> int | None:
        """When the pair's first band was taken, in nanoseconds; None where the file does not say."""
        band, place = next(iter(self._places[index].items()))
        times = self._frames[band].times
        return None if times is None else times[place]

    def file(self, band: Band) -> Path | None:
        return self._frames[band].path if band in self._frames else None

    def levels(self, index: int, band: Band) -> np.ndarray | None:
        if band not in self._frames:
            return None
        return self._frames[band][self._places[index][band]].levels(measured=band == "infrared")
