"""A run's own band monitor: a small classifier per band that says whether the run answers better without it.

It is trained when the run's weights are there (`crossband.training.monitoring`) and kept in the run's card,
so that exported files have it too. It takes NumPy alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from crossband.answer_statistics import answer_statistics
from crossband.errors import WeightsError, first_line
from crossband.match_rule import MatchRule
from crossband.pairs.image_statistics import SMALLEST, pair_statistics
from crossband.words import BANDS, Band

FARTHEST = 8.0
"""Of the logarithm of a distance: no statistic counts as farther."""
_OF_ANSWER = "answer "
_SHARE = f"{_OF_ANSWER}share of class "


@dataclass(frozen=True)
class TrainedMonitor:
    """The weights of a monitor, for images and answers of one run.

    names: of S statistics of a pair (`pair_statistics`) and of the run's answer to both its images
    (`answer_statistics`). mean, deviation: (S,), what they usually are for whole pairs. The monitor sees how
    far each is from there: distances carry over to faults that it was not trained on, where the statistics
    themselves do not.
    weight, bias, last, ending: (2, W, S), (2, W), (2, W) and (2,), a network of W units with ReLU for the
    score of visible, and one for that of infrared. In both, the farther a statistic of the band itself, of
    both bands or of the answer is, the higher is the score; the farther one of the other band, the lower. So
    what is farther off than anything in training counts for at least as much.
    needed: (2,), the scores above which visible, and infrared, are left out; of two that which is more above.
    farthest: (S,), how far statistics have been in training where neither band was better left out.
    image_farthest: (2,), how far those of visible, and of infrared, have been for whole pairs, in the mean.
    An answer with a statistic that is farther is distrusted, since the run gave none like it that was worth
    having. Then the band whose image is farther off than any whole one is left out, whatever the scores are.
    facts: how it was trained and what it found there, as JSON can hold it.
    match: the rule for pairs whose images are not of one moment, None without one. It is asked first, where
    each image by itself is as whole ones are, and leaves out infrared, since the answer is to lie on the
    visible image: scores may leave out either, as nothing that they learned from is of two moments.
    """

    names: tuple[str, ...]
    mean: np.ndarray
    deviation: np.ndarray
    weight: np.ndarray
    bias: np.ndarray
    last: np.ndarray
    ending: np.ndarray
    needed: np.ndarray
    farthest: np.ndarray
    image_farthest: np.ndarray
    facts: Mapping[str, Any]
    match: MatchRule | None = None

    def harmful(
        self, visible: np.ndarray, infrared: np.ndarray, labels: np.ndarray, confidence: np.ndarray
    ) -> Band | None:
        """The band without which the run is expected to answer better; None for neither.

        visible: float32 (H, W, 3), infrared: float32 (H, W), in [0, 1] by the run's scaling rule. labels,
        confidence: the run's answer to both, as `answer_statistics` takes it. Nothing is said of images of
        less than `SMALLEST` pixels a side.
        """
        if min(infrared.shape[:2]) < SMALLEST:
            return None
        classes = sum(name.startswith(_SHARE) for name in self.names)
        found = pair_statistics(visible, infrared) | answer_statistics(labels, confidence, classes)
        statistics = np.array([[found[name] for name in self.names]])
        if self._do_not_match(visible, infrared, statistics):
            return "infrared"
        place = int(self.left_out(statistics)[0])
        return BANDS[place] if place >= 0 else None

    def left_out(self, statistics: np.ndarray) -> np.ndarray:
        """(N,) the place in `BANDS` of what is left out for statistics (N, S), or -1."""
        far = self._distances(statistics)
        return chosen(self._scores(far), self.needed, self._distrusted(far))

    def scores(self, statistics: np.ndarray) -> np.ndarray:
        """(N, 2) scores of visible and infrared for statistics (N, S)."""
        return self._scores(self._distances(statistics))

    def distrusted(self, statistics: np.ndarray) -> np.ndarray:
        """(N,) the place in `BANDS` of the image that is off where an answer is like no good one, else -1."""
        return self._distrusted(self._distances(statistics))

    def image_distances(self, statistics: np.ndarray) -> np.ndarray:
        """(N, 2) how far the images by themselves are off, as `image_farthest` has it."""
        return image_distances(self.names, self._distances(statistics))

    def _do_not_match(self, visible: np.ndarray, infrared: np.ndarray, statistics: np.ndarray) -> bool:
        if self.match is None:
            return False
        of_visible, of_infrared = self.image_distances(statistics)[0]
        if of_visible > self.match.visible_farthest or of_infrared > self.image_farthest[1]:
            return False
        return self.match.unmatched(visible, infrared)

    def _distances(self, statistics: np.ndarray) -> np.ndarray:
        return distances(statistics, self.mean, self.deviation)

    def _scores(self, far: np.ndarray) -> np.ndarray:
        units = np.maximum(np.einsum("ns,bws->nbw", far, self.weight) + self.bias, 0)
        return np.einsum("nbw,bw->nb", units, self.last) + self.ending

    def _distrusted(self, far: np.ndarray) -> np.ndarray:
        of_answer = [name.startswith(_OF_ANSWER) for name in self.names]
        unlike = (far > self.farthest)[:, of_answer].any(axis=1)
        over = image_distances(self.names, far) - self.image_farthest
        return np.where(unlike & (over.max(axis=1) > 0), over.argmax(axis=1), -1)

    def to_fields(self) -> dict[str, Any]:
        """The monitor as plain data, its numbers to five digits."""
        arrays = {name: _rounded(getattr(self, name)) for name in _ARRAYS}
        return {
            "names": list(self.names),
            **arrays,
            "match": None if self.match is None else self.match.to_fields(),
            "facts": dict(self.facts),
        }

    @classmethod
    def from_fields(cls, fields: Any) -> TrainedMonitor:
        """The monitor that `to_fields` gave as data; before there were match rules it gave none.

        Raises WeightsError for anything else.
        """
        try:
            match = fields.get("match")
            monitor = cls(
                names=tuple(map(str, fields["names"])),
                **{name: np.array(fields[name], dtype=float) for name in _ARRAYS},
                match=None if match is None else MatchRule.from_fields(match),
                facts=dict(fields["facts"]),
            )
            _check(monitor)
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise WeightsError(
                f"the card's band monitor is none that this Crossband can use ({first_line(error)}): train "
                "again, or leave the monitor out"
            ) from error
        return monitor


_ARRAYS = ("mean", "deviation", "weight", "bias", "last", "ending", "needed", "farthest", "image_farthest")


def chosen(scores: np.ndarray, needed: np.ndarray, distrusted: np.ndarray) -> np.ndarray:
    """(N,) the place in `BANDS` of what is left out, or -1.

    scores: (N, 2). needed: (2,), as of a `TrainedMonitor`. distrusted: (N,), which come before all scores.
    """
    over = scores - needed
    scored = np.where(over.max(axis=1) > 0, over.argmax(axis=1), -1)
    return np.where(distrusted >= 0, distrusted, scored)


def distances(statistics: np.ndarray, mean: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    """How far statistics (..., S) are off: log(1 + deviations from the mean), at most `FARTHEST`."""
    return np.minimum(np.log1p(np.abs(statistics - mean) / deviation), FARTHEST)


def image_distances(names: Sequence[str], far: np.ndarray) -> np.ndarray:
    """(N, 2): the mean of the distances (N, S) of what is seen in each band's image alone; 0 of nothing."""
    own = np.array([[name.startswith(f"{band} ") for name in names] for band in BANDS], float)
    return far @ own.T / np.maximum(own.sum(axis=1), 1)


def bears_on(names: Sequence[str]) -> np.ndarray:
    """(2, S): 1 where a statistic that is far off speaks against visible, or infrared, -1 where for it."""
    others = dict(zip(BANDS, reversed(BANDS), strict=True))
    return np.array([[-1 if name.startswith(f"{others[band]} ") else 1 for name in names] for band in BANDS])


def _check(monitor: TrainedMonitor) -> None:
    classes = sum(name.startswith(_SHARE) for name in monitor.names)
    blank = np.zeros((SMALLEST, SMALLEST), np.float32)
    known = pair_statistics(np.dstack([blank] * 3), blank)
    known |= answer_statistics(blank.astype(np.uint8), blank, classes)
    unknown = sorted(set(monitor.names) - known.keys())
    if unknown:
        raise ValueError(f"there is no statistic {unknown[0]!r}")
    count, width = len(monitor.names), monitor.last.shape[-1]
    wanted = ((count,), (count,), (2, width, count), (2, width), (2, width), (2,), (2,), (count,), (2,))
    arrays = [getattr(monitor, name) for name in _ARRAYS]
    if not count or any(one.shape != shape for one, shape in zip(arrays, wanted, strict=True)):
        raise ValueError("its numbers do not fit together")
    if not all(np.isfinite(one).all() for one in arrays):
        raise ValueError("it holds NaN")
    if not (monitor.deviation > 0).all():
        raise ValueError("its deviations are not above 0")
    if (monitor.last < 0).any() or (monitor.weight * bears_on(monitor.names)[:, None] < 0).any():
        raise ValueError("its weights have the wrong sign")


def _rounded(values: np.ndarray) -> Any:
    if values.ndim > 1:
        return [_rounded(row) for row in values]
    return [float(f"{value:.5g}") for value in values]
