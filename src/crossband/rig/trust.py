"""Whether an estimate of a rig's geometry may be used, and if not, why."""

from __future__ import annotations

from crossband.rig.estimating import Estimate
from crossband.rig.evidence import FEWEST_PAIRS
from crossband.rig.points import PointFit

LIMIT = 3.0
"""Infrared pixels: an estimate whose worst corner may be further off (95 %) is refused, unless asked
otherwise.
"""

_FEWEST_CELLS = 8
_LEAST_SHARE = 0.6
_LEAST_INFORMATION = 0.1
"""Of eight pairs that do not belong together up to 0.08, of four that do 0.21 or more (docs/rig.md)."""


def doubt(found: Estimate | None, limit: float = LIMIT) -> str | None:
    """Why an estimate cannot be trusted, in one line with what to do about it; None if it can.

    limit: in infrared pixels, of `Estimate.uncertainty`.
    """
    if found is None:
        return (
            "no geometry was found under which the edges of both bands agree; give pairs with more texture "
            "in "
            "both bands, or --points"
        )
    agreement = found.agreement
    if agreement.cells < _FEWEST_CELLS:
        return (
            f"only {agreement.cells} parts of the infrared picture have texture that both bands show; give "
            "pairs with more of it, or --points"
        )
    if agreement.share < _LEAST_SHARE:
        return (
            f"only {100 * agreement.share:.0f} % of the infrared picture's parts agree with one "
            f"{found.model}: "
            "the pairs lack texture that both bands show, do not belong together, or see near and far things "
            "from two viewpoints (parallax); give other pairs, or --points on the plane that matters"
        )
    if found.information < _LEAST_INFORMATION:
        return (
            "the levels of both bands tell as much of each other beside the place where their edges agree "
            "(mutual information): the pairs do not belong together, or lack what both bands show; give "
            "other pairs, or --points"
        )
    if found.pairs < FEWEST_PAIRS:
        return (
            f"{found.pairs} {'pair' if found.pairs == 1 else 'pairs'} cannot vouch for each other; give "
            f"{FEWEST_PAIRS} or more of the same rig, or "
            "--points"
        )
    if found.uncertainty > limit:
        simpler = "" if found.model == "shift" else ", a simpler --model"
        return (
            f"with a pair left out the corners move: they are known to {found.uncertainty:.1f} infrared "
            f"pixels "
            f"(95 %), the limit being {limit:g}; give more pairs{simpler}, or --points"
        )
    return None


def doubt_points(found: PointFit, limit: float = LIMIT) -> str | None:
    """Why a geometry by points cannot be trusted; None if it can. limit: as in `doubt`."""
    worst = int(found.distances.argmax()) + 1
    if found.residual > limit:
        return (
            f"the points disagree with one {found.model} by {found.residual:.1f} infrared pixels (median), "
            f"the "
            f"limit being {limit:g}, point {worst} most of all; do all of them lie on one plane?"
        )
    if found.uncertainty > limit:
        return (
            f"with points left out the corners move: they are known to {found.uncertainty:.1f} infrared "
            f"pixels "
            f"(95 %), the limit being {limit:g}; give more points, near the picture's corners too"
        )
    return None
