"""Which pairs of a test set a person should look at: the worst, the best, and what is typical."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from crossband.evaluation.pair_counts import PairCounts
from crossband.metrics.protocols import DEFAULT_PROTOCOL
from crossband.metrics.resampling import mean_ious
from crossband.words import Bands

Kind = Literal["worst", "typical", "best"]
EACH = 3
"""How many pairs of a kind are shown."""


@dataclass(frozen=True)
class ChosenPair:
    """A pair by its place in the list and its name; mean_iou: on this pair alone, in [0, 1]."""

    index: int
    name: str
    condition: str
    kind: Kind
    mean_iou: float


def chosen_pairs(
    counts: PairCounts, bands: Bands, *, protocol: str = DEFAULT_PROTOCOL, each: int = EACH
) -> list[ChosenPair]:
    """The pairs with the lowest mean IoU of their own, those around the median, and those with the highest.

    bands: the combination whose scores choose. each: of each kind, if there are so many; no pair is chosen
    twice, and one on which nothing was counted never. Raises OptionError for an unknown protocol.
    """
    matrices = counts.matrices[bands]
    scores = mean_ious(matrices, protocol)
    order = np.argsort(scores, kind="stable")
    # Protocols that average absent classes have a score, 0, for a pair on which nothing was counted.
    known_pairs = np.isfinite(scores) & (matrices.sum(axis=(1, 2)) > 0)
    order = order[known_pairs[order]]
    known = len(order)
    least = min(each, known // 3)
    if not least and each:
        # One pair is neither the worst nor the best; of two there is no typical one.
        places: dict[Kind, np.ndarray] = (
            {"typical": order} if known == 1 else {"worst": order[:1], "best": order[1:]}
        )
    else:
        middle = (known - least) // 2
        places = {
            "worst": order[:least],
            "typical": order[middle : middle + least],
            "best": order[known - least :][::-1],
        }
    return [
        ChosenPair(index, counts.names[index], counts.conditions[index], kind, float(scores[index]))
        for kind, chosen in places.items()
        for index in chosen.tolist()
    ]
