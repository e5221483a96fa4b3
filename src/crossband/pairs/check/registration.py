"""Whether the bands of a folder lie on each other: every pair, or a sample, measured by its edges."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from crossband.errors import PairError
from crossband.pairs.base import Pair, PairFiles, Pairs
from crossband.pairs.check.report import Problem
from crossband.pairs.reading import stored_levels
from crossband.pairs.registration import Registration
from crossband.rig.checking import Misfit, misfit
from crossband.rig.features import Picture, picture_of

SAMPLE = 8
"""Pairs of each split that `crossband data check` measures, evenly spaced."""
FAR = 3.0
"""Pixels: a shift above this is told."""


def pair_pictures(
    files: PairFiles, registration: Registration | None = None, *, unaligned: bool = False
) -> tuple[Picture, Picture]:
    """Both bands of a pair as pictures to register. registration: brings them into one frame first.

    unaligned: as in `stored_levels`; with a registration it is so too.

    Raises PairError, naming the file, if one is not there, cannot be read or is not of the rig's size.
    """
    unaligned |= registration is not None
    visible, infrared = (
        stored_levels(files, band, unaligned=unaligned).astype(np.float32) for band in ("visible", "infrared")
    )
    if visible.shape[2] == 1:
        visible = np.repeat(visible, 3, axis=2)
    pair = Pair(files.name, visible, infrared.mean(axis=2))
    if registration is not None:
        pair = registration(pair)
    assert pair.visible is not None
    assert pair.infrared is not None
    pictures = picture_of(pair.visible), picture_of(pair.infrared)
    if pair.valid is not None:
        for picture in pictures:
            picture.valid &= pair.valid
    return pictures


def misfits(
    files: Sequence[PairFiles],
    registration: Registration | None = None,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[tuple[str, Misfit]]:
    """The name of each pair that has both bands, and how far it is off its registration.

    progress: called with (pairs done, pairs in all). Raises PairError as `pair_pictures`, and for bands of
    two sizes.
    """
    both = [entry for entry in files if entry.visible is not None and entry.infrared is not None]
    for number, entry in enumerate(both, start=1):
        visible, infrared = pair_pictures(entry, registration)
        if visible.size != infrared.size:
            raise PairError(
                f"{entry.infrared} is {infrared.size[0]} x {infrared.size[1]}, but its visible image "
                f"{visible.size[0]} x {visible.size[1]} (height x width); `crossband align --visible DIR "
                "--infrared DIR` finds the geometry between them"
            )
        yield entry.name, misfit(visible, infrared)
        if progress is not None:
            progress(number, len(both))


def stored_files(pairs: Pairs) -> list[PairFiles]:
    """Where the pairs of a list lie; generated ones lie nowhere."""
    stored = (pairs.stored(index) for index in range(len(pairs)))
    return [files for files in stored if files is not None]


def registration_problems(
    split: str, files: Sequence[PairFiles], registration: Registration | None
) -> list[Problem]:
    """A warning where most pairs of a sample that can be measured lie apart."""
    both = [entry for entry in files if entry.visible is not None and entry.infrared is not None]
    sample = (
        [both[index] for index in np.unique(np.linspace(0, len(both) - 1, SAMPLE).astype(int))]
        if both
        else []
    )
    told: list[tuple[str, Misfit]] = []
    for entry in sample:
        try:
            told += [
                (name, found) for name, found in misfits([entry], registration) if found.shift is not None
            ]
        except PairError:
            # What is wrong with a file is told by the check that reads it.
            continue
    far = [(name, found) for name, found in told if found.distance > FAR]
    if len(far) < 2 or 2 * len(far) < len(told):
        return []
    x, y = np.median([found.shift for _, found in far if found.shift is not None], axis=0)
    return [
        Problem(
            "warning",
            f"{split}: the bands lie apart in {len(far)} of {len(told)} pairs that were measured, by about "
            f"{np.hypot(x, y):.0f} pixels ({x:+z.0f} to the right, {y:+z.0f} down): {far[0][0]}",
            "look at `crossband align --check`, and at `crossband align` for the mend",
        )
    ]
