"""What flickers less: the commonest class of the last frames, and an infrared scaling that moves slowly."""

from __future__ import annotations

from collections import deque

import numpy as np

from crossband.errors import OptionError, PairError
from crossband.pairs.arrays import infrared_levels
from crossband.pairs.false_colour import REFUSE, infrared_channel
from crossband.pairs.infrared_scaling import InfraredScaling
from crossband.words import IGNORE_INDEX


class LabelVote:
    """The commonest class of each pixel over the last ``frames`` label maps; the newest one wins a tie.

    What changes is seen (frames - 1) / 2 frames late: that is its lag.
    """

    def __init__(self, frames: int, classes: int):
        """Raises OptionError for a number of frames that is even or below 1."""
        if frames < 1 or frames % 2 == 0:
            raise OptionError(f"labels are smoothed over an odd number of frames, not {frames}")
        self._most, self._classes = frames, classes
        self._recent: deque[np.ndarray] = deque()
        self._counts: np.ndarray | None = None

    @property
    def lag(self) -> int:
        """Frames by which a change is seen late."""
        return (self._most - 1) // 2

    def __call__(self, labels: np.ndarray) -> np.ndarray:
        """The vote with one more label map: uint8 (H, W), like what it is given. Another size begins anew."""
        if self._most == 1:
            return labels
        if self._counts is None or self._counts.shape[1:] != labels.shape:
            self._recent.clear()
            self._counts = np.zeros((self._classes, *labels.shape), np.uint16)
        self._add(labels, 1)
        self._recent.append(labels)
        if len(self._recent) > self._most:
            self._add(self._recent.popleft(), -1)
        # Half a vote more for the newest.
        votes = 2 * self._counts
        known = labels != IGNORE_INDEX
        rows, columns = np.nonzero(known)
        votes[labels[known], rows, columns] += 1
        found = votes.argmax(0).astype(np.uint8)
        return np.where(known, found, np.uint8(IGNORE_INDEX))

    def _add(self, labels: np.ndarray, sign: int) -> None:
        assert self._counts is not None
        rows, columns = np.nonzero(labels != IGNORE_INDEX)
        ids = labels[rows, columns]
        if sign > 0:
            self._counts[ids, rows, columns] += 1
        else:
            self._counts[ids, rows, columns] -= 1


_AUTO = InfraredScaling("percentile", (0.1, 99.9))
"""What "auto" takes of a whole set of images (`automatic_scaling`), of one image."""


class ScalingMean:
    """An infrared scaling that follows the images slowly: its limits are the means of the last images'.

    A step in the images is seen by half (frames - 1) / 2 frames late, and wholly frames - 1 late.
    """

    def __init__(self, frames: int, rule: InfraredScaling | None, false_colour: str = REFUSE):
        """rule: "minmax" or "percentile", whose limits are those of each image; None ("auto") takes the
        percentiles 0.1 and 99.9.

        Raises OptionError for a number of frames below 1, and for a rule with the same limits for all images.
        """
        if frames < 1:
            raise OptionError(f"the infrared scaling is smoothed over one frame or more, not {frames}")
        if rule is not None and not rule.of_each_image:
            raise OptionError(
                f"infrared scaling {rule} is the same for all frames, and there is nothing to smooth; leave "
                "out --smooth_scaling"
            )
        self._rule, self._false_colour = rule or _AUTO, false_colour
        self._recent: deque[tuple[float, float]] = deque(maxlen=frames)

    @property
    def lag(self) -> float:
        """Frames by which half of a step is seen late."""
        return ((self._recent.maxlen or 1) - 1) / 2

    def __call__(self, image: np.ndarray) -> InfraredScaling:
        """The rule for one more image, as its camera stores it: (H, W) or (H, W, 3).

        Raises PairError for an image that holds no numbers.
        """
        raw = infrared_channel(infrared_levels(image), self._false_colour)
        if raw.dtype.kind == "f" and not np.isfinite(raw).all():
            raise PairError("infrared values are NaN or infinite; fill them, or leave the image out")
        self._recent.append(self._rule.limits_of(raw))
        low, high = (float(value) for value in np.mean(self._recent, axis=0))
        # Of one value alone, all becomes 0, as under the rule itself.
        return InfraredScaling("fixed", (low, high if low < high else low + 1))
