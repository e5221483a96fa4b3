"""The fitting of the rule by which a band monitor tells images of two moments (`crossband.match_rule`).

It learns from training pairs, whole and broken, and from such as have the infrared image of another pair.
"""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional as F

from crossband.match_rule import MatchRule

_DECAY = 1e-3
"""What the squared weights of standardised statistics count beside the mean loss of pictures."""
_MOST_LOST = 0.001
"""Mean IoU that leaving infrared out by this rule may cost whole pairs, and all pairs that do match."""
_LEVELS = 201
_USUAL = (1.0, 0.95, 0.9, 0.75)
"""Shares of whole pairs whose visible image is no farther off than the rule allows."""


def fit_match_rule(
    names: tuple[str, ...],
    statistics: np.ndarray,
    unmatched: np.ndarray,
    whole: np.ndarray,
    gains: np.ndarray,
    visible_far: np.ndarray,
    asked: np.ndarray,
    halves: np.ndarray,
) -> tuple[MatchRule | None, np.ndarray]:
    """The rule that finds most pairs that do not match, of those by which pairs that do lose no more than a
    tenth of a point; and what it finds of the pictures, bool (N,).

    What shows another moment is taken to do harm, as what it does here hangs on a few pairs: there is no
    rule, None, only where to leave it out is shown to lose mean IoU.

    names: of A statistics. statistics: (N, A). unmatched, whole: bool (N,), those with the infrared image of
    another pair, and those that are as they came; the others are broken. gains: (N,), what leaving infrared
    out would add to the mean IoU, over what a monitor does otherwise, if all pictures were like this one.
    visible_far: (N,), how far the visible image is off. asked: bool (N,), of which a rule may be asked.
    halves: bool (N,), the halves of the list of pairs, so that rules are tried on pictures that they have not
    learned from.
    """
    found = np.zeros(len(gains), bool)
    if not unmatched.any():
        return None, found
    scores = np.zeros(len(gains))
    for half in (halves, ~halves):
        weight = _weights(statistics[~half], unmatched[~half], whole[~half])
        scores[half] = (statistics[half] - statistics[whole & ~half].mean(0)) @ weight
    weight, rule, most = _weights(statistics, unmatched, whole), None, 0.0
    middle = float(statistics[whole].mean(0) @ weight)
    for farthest in np.quantile(visible_far[whole], _USUAL):
        may = asked & (visible_far <= farthest)
        level = _lowest(scores, np.where(may, gains, 0.0), whole, ~unmatched)
        above = may & (scores > level)
        share = above[unmatched].mean()
        if share > most and not _lose(np.where(above, gains, 0.0)[unmatched]):
            most, found = share, above
            rule = MatchRule(names, weight, middle + level, float(farthest))
    return rule, found


def _lose(gained: np.ndarray) -> bool:
    """Whether the mean gain is below 0 by more than two standard errors."""
    return bool(gained.mean() + 2 * gained.std() / len(gained) ** 0.5 < 0)


def _lowest(scores: np.ndarray, gains: np.ndarray, whole: np.ndarray, matching: np.ndarray) -> float:
    """The lowest score above which whole pairs, and all that match, lose no more than a tenth of a point.

    Not that above which most is gained: training pairs are what a system knows, and others may lose more by
    the image of another moment.
    """
    for level in np.quantile(scores, np.linspace(0, 1, _LEVELS)):
        gained = np.where(scores > level, gains, 0.0)
        if min(gained[whole].mean(), gained[matching].mean()) >= -_MOST_LOST:
            break
    return float(level)


def _weights(statistics: np.ndarray, unmatched: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """(A,) of a logistic regression, in which both kinds count alike and no weight is above 0; by a factor,
    such that the scores of whole pairs have deviation 1, which makes those of several fits comparable.

    A statistic whose weight would be above 0 is left out.
    """
    deviation = statistics.std(0) + 1e-6
    values = (statistics - statistics.mean(0)) / deviation
    weight, used = np.zeros(values.shape[1]), np.ones(values.shape[1], bool)
    while used.any():
        solved = _logistic(values[:, used], unmatched)
        if (solved <= 0).all():
            weight[used] = solved
            break
        used[np.flatnonzero(used)[solved > 0]] = False
    weight = weight / deviation
    return weight / ((statistics[whole] @ weight).std() + 1e-6)


def _logistic(values: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """(A,) weights of standardised values (N, A)."""
    inputs, targets = torch.from_numpy(values), torch.from_numpy(positive.astype(float))
    share = targets.mean()
    counts = torch.where(targets > 0, 0.5 / share, 0.5 / (1 - share))
    weight = torch.zeros(values.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        of_pictures = F.binary_cross_entropy_with_logits(inputs @ weight + bias, targets, counts)
        total: torch.Tensor = of_pictures + _DECAY * (weight**2).sum()
        total.backward()
        return total

    optimizer.step(loss)
    return weight.detach().numpy()
