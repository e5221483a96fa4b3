"""The visible image in a radiometric file: as it was taken, or laid over the measurement."""

from __future__ import annotations

import math
import warnings
from pathlib import Path

import numpy as np
from PIL import Image

from crossband.errors import CrossbandWarning, PairError
from crossband.pairs.decoding import Stored, upright
from crossband.pairs.first_time import is_first_time
from crossband.pairs.image_files import errors_named
from crossband.pairs.radiometric import Alignment, Radiometric

_LEAST_SHARE = 0.5
"""Of the measurement, what the visible image has to show; a file that says less is damaged."""


def embedded_visible(path: Path, found: Radiometric) -> Stored:
    """The visible image of a radiometric file, uint8 (H, W, 3), as its camera took it, turned upright.

    found: what was read of that file. Raises PairError, naming the file, if it holds none or a damaged one.
    """
    with errors_named(path):
        return Stored(upright(_visible(found), found.orientation))


def visible_over_measurement(path: Path, found: Radiometric) -> tuple[Stored, np.ndarray | None]:
    """The part of that image which infrared sees, at the measurement's size, by the camera's own alignment.

    Beside it: where infrared sees something that the visible image shows, bool (H, W), None for everywhere;
    elsewhere it repeats its edge. Such an alignment holds at one distance, which is said once per folder.

    Raises PairError as `embedded_visible`, and if the file does not say how the two images lie.
    """
    with errors_named(path):
        visible = _visible(found)
        if found.alignment is None:
            raise PairError(
                "this radiometric file does not say how its visible image lies over its measurement; find it "
                "with `crossband align` and give it as --rig"
            )
        part, valid = _laid_over(visible, found.alignment, (found.counts.shape[0], found.counts.shape[1]))
        _tell(path)
        turned = Stored(upright(part, found.orientation))
        return turned, None if valid.all() else upright(valid, found.orientation)[..., 0]


def _visible(found: Radiometric) -> np.ndarray:
    visible = found.visible()
    if visible is None:
        raise PairError(
            "a radiometric file given as both bands, but it holds no visible image; give that as a file of "
            "its own"
        )
    return visible


def _laid_over(
    visible: np.ndarray, alignment: Alignment, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """The part that infrared sees, (H, W, 3) of a size, and where it is inside of the image, (H, W)."""
    height, width = visible.shape[:2]
    left, top, right, bottom = alignment.crop(height, width)
    shown = max(0, min(right, width) - max(left, 0)) * max(0, min(bottom, height) - max(top, 0))
    if shown < _LEAST_SHARE * (right - left) * (bottom - top):
        raise PairError("this radiometric file lays its visible image beside its measurement; copy it again")
    above, below, before, after = (
        math.ceil(max(0, beside)) for beside in (-top, bottom - height, -left, right - width)
    )
    padded = np.pad(visible, ((above, below), (before, after), (0, 0)), mode="edge")
    box = left + before, top + above, right + before, bottom + above
    part = Image.fromarray(padded).resize((size[1], size[0]), Image.Resampling.BILINEAR, box)
    rows = top + (np.arange(size[0]) + 0.5) * (bottom - top) / size[0]
    columns = left + (np.arange(size[1]) + 0.5) * (right - left) / size[1]
    inside = ((rows >= 0) & (rows <= height))[:, np.newaxis] & (columns >= 0) & (columns <= width)
    return np.asarray(part), inside


def _tell(path: Path) -> None:
    if not is_first_time("alignment", path.parent):
        return
    warnings.warn(
        f"{path}: its visible image is laid over its measurement as the camera was set, which holds at one "
        "distance; `crossband align --check` tells by how much it is off, here and for further files of this "
        "folder",
        CrossbandWarning,
        stacklevel=4,
    )
