"""From pictures or points to a rig that can be trusted, or to the reason why not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from crossband.errors import OptionError
from crossband.rig.estimating import Estimate, estimate
from crossband.rig.features import Picture
from crossband.rig.geometry import Model, Size
from crossband.rig.lens import Lens
from crossband.rig.points import PointFit, fit_point_pairs
from crossband.rig.rig import Rig, Row
from crossband.rig.trust import LIMIT, doubt, doubt_points


@dataclass(frozen=True, kw_only=True)
class Cameras:
    """What is known of the two cameras before they are aligned.

    Lenses are None where no calibration is given. baseline: metres between the cameras; plane: metres to what
    is aligned; focal: of the infrared camera in pixels. All three together tell for which depths a rig holds.

    Raises OptionError for a length that is not above 0, or some of the three alone.
    """

    visible_lens: Lens | None = None
    infrared_lens: Lens | None = None
    baseline: float | None = None
    plane: float | None = None
    focal: float | None = None

    def __post_init__(self) -> None:
        for name in ("baseline", "plane", "focal"):
            value = getattr(self, name)
            if value is not None and not 0 < value < np.inf:
                raise OptionError(f"--{name} must be above 0, not {value:g}")
        if (self.baseline is None) != (self.plane is None):
            raise OptionError("--baseline and --plane tell the depths together; give both, or neither")
        if self.focal is not None and self.baseline is None:
            raise OptionError(
                "--focal tells the depths with --baseline and --plane; give these too, or leave it out"
            )
        if self.baseline is not None and self.focal_pixels is None:
            raise OptionError(
                "the depths need the infrared camera's focal length too; give --focal PIXELS or "
                "--infrared_lens"
            )

    @property
    def focal_pixels(self) -> float | None:
        if self.focal is None and self.infrared_lens is not None:
            return self.infrared_lens.focal[0]
        return self.focal

    def depths(self) -> tuple[float, float | None] | None:
        """Metres between which things lie within a pixel of where the aligned plane would have them.

        A thing at depth Z is off by focal * baseline * |1 / Z - 1 / plane| infrared pixels. None where the
        three lengths are not known; the far end is None for infinity.
        """
        if self.baseline is None or self.plane is None or self.focal_pixels is None:
            return None
        pixel = 1 / (self.focal_pixels * self.baseline)
        far = 1 / self.plane - pixel
        return 1 / (1 / self.plane + pixel), 1 / far if far > 0 else None


def straightened(picture: Picture, lens: Lens | None) -> Picture:
    """A picture without the distortion of its lens."""
    if lens is None:
        return picture
    valid = lens.straighten(picture.valid.astype(np.uint8) * 255) > 254
    return Picture(lens.straighten(picture.levels), valid)


def align_pairs(
    pairs: Sequence[tuple[Picture, Picture]],
    model: Model = "homography",
    *,
    cameras: Cameras | None = None,
    limit: float = LIMIT,
) -> tuple[Rig, Estimate]:
    """The rig of pairs (visible, infrared) that were never aligned, and what speaks for it.

    cameras: what is known of them. limit: infrared pixels by which the worst corner may be off (95 %).

    Raises OptionError for pictures of several sizes, and where the geometry cannot be trusted, saying why.
    """
    cameras = cameras or Cameras()
    sizes = sizes_of(pairs)
    _check_lenses(cameras, *sizes)
    found = estimate(
        [
            (straightened(visible, cameras.visible_lens), straightened(infrared, cameras.infrared_lens))
            for visible, infrared in pairs
        ],
        model,
    )
    why = doubt(found, limit)
    if found is None or why is not None:
        raise OptionError(f"these cameras cannot be aligned: {why}")
    residual, interval = found.agreement.residual, found.agreement.interval
    return _rig(found, sizes, cameras, "pairs", found.pairs, residual, interval), found


def align_points(
    visible: np.ndarray,
    infrared: np.ndarray,
    sizes: tuple[Size, Size],
    model: Model = "homography",
    *,
    cameras: Cameras | None = None,
    limit: float = LIMIT,
) -> tuple[Rig, PointFit]:
    """The rig of points (N, 2) that both cameras show. sizes: of the visible and the infrared pictures.

    The rest is as in `align_pairs`. Raises OptionError for points that lie outside the pictures, are too few,
    or disagree.
    """
    cameras = cameras or Cameras()
    _check_lenses(cameras, *sizes)
    for band, points, size in (("visible", visible, sizes[0]), ("infrared", infrared, sizes[1])):
        outside = ((points < -0.5) | (points > np.array(size[::-1]) - 0.5)).any(axis=1)
        if outside.any():
            number = int(np.flatnonzero(outside)[0]) + 1
            raise OptionError(
                f"point {number} lies outside the {band} picture of {size[1]} x {size[0]} pixels; "
                "are the columns in their order, and the pictures those that it was picked on?"
            )
    if cameras.visible_lens is not None:
        visible = cameras.visible_lens.straightened(visible)
    if cameras.infrared_lens is not None:
        infrared = cameras.infrared_lens.straightened(infrared)
    found = fit_point_pairs(visible, infrared, model, sizes[1])
    why = doubt_points(found, limit)
    if why is not None:
        raise OptionError(f"these cameras cannot be aligned: {why}")
    return _rig(found, sizes, cameras, "points", len(visible), found.residual, found.interval), found


def sizes_of(pairs: Sequence[tuple[Picture, Picture]]) -> tuple[Size, Size]:
    """The size of the visible pictures and that of the infrared ones. Raises OptionError for several."""
    for band, side in (("visible", 0), ("infrared", 1)):
        there = sorted({pair[side].size for pair in pairs})
        if len(there) > 1:
            told = " and ".join(f"{height} x {width}" for height, width in there[:2])
            raise OptionError(
                f"the {band} images are of {len(there)} sizes, {told} among them; one rig has one size per "
                f"camera"
            )
    return pairs[0][0].size, pairs[0][1].size


def _check_lenses(cameras: Cameras, visible: Size, infrared: Size) -> None:
    for band, lens, size in (
        ("visible", cameras.visible_lens, visible),
        ("infrared", cameras.infrared_lens, infrared),
    ):
        if lens is not None:
            lens.check_size(size, band)


def _rig(
    found: Estimate | PointFit,
    sizes: tuple[Size, Size],
    cameras: Cameras,
    found_by: Literal["pairs", "points"],
    count: int,
    residual: float,
    interval: tuple[float, float],
) -> Rig:
    rows: list[Row] = [(float(a), float(b), float(c)) for a, b, c in found.homography]
    return Rig(
        homography=(rows[0], rows[1], rows[2]),
        model=found.model,
        visible_size=sizes[0],
        infrared_size=sizes[1],
        found_by=found_by,
        count=count,
        residual=residual,
        interval=interval,
        uncertainty=found.uncertainty,
        visible_lens=cameras.visible_lens,
        infrared_lens=cameras.infrared_lens,
        depths=cameras.depths(),
    )
