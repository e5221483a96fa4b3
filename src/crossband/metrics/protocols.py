"""The protocols: which classes a mean IoU averages. Each is one declaration in `PROTOCOLS`, and no more.

Published mean IoUs differ in how they treat classes without a pixel of truth and the background; each habit
has a name here. Every table, CSV, JSON, HTML and the choices of the command line follow from this list.
Nothing heavy is imported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from crossband.errors import OptionError

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Counts:
    """What a confusion matrix says of every class: int64 (..., C) each, pixels, in the order of the ids.

    right: of truth and predicted so. truth: of the class in the labels. predicted: taken for the class.
    """

    right: np.ndarray
    truth: np.ndarray
    predicted: np.ndarray

    @classmethod
    def of(cls, confusion: np.ndarray) -> Counts:
        """The counts of confusion matrices (..., C, C), rows = truth, columns = prediction."""
        return cls(confusion.diagonal(axis1=-2, axis2=-1), confusion.sum(axis=-1), confusion.sum(axis=-2))

    @property
    def union(self) -> np.ndarray:
        """Pixels of truth or prediction."""
        return self.truth + self.predicted - self.right


@dataclass(frozen=True)
class Protocol:
    """A rule for which classes a mean IoU averages.

    meaning: the classes, as "mean over ..." goes on. users: whose published code has the rule.
    averages: from `Counts` to bool (..., C), True for the classes to average.
    """

    name: str
    meaning: str
    users: str
    averages: Callable[[Counts], np.ndarray]


def _in_truth_but_the_first(counts: Counts) -> np.ndarray:
    in_truth = counts.truth > 0
    in_truth[..., :1] = False
    return in_truth


PROTOCOLS: Mapping[str, Protocol] = MappingProxyType(
    {
        protocol.name: protocol
        for protocol in (
            # What is averaged depends on the test set alone, so that two systems are always averaged over
            # the same classes: the default.
            Protocol(
                "present",
                "the classes that occur in the ground truth",
                "",
                lambda counts: counts.truth > 0,
            ),
            # On FMB, whose test labels hold no bicycle, one stray pixel moves the mean from x to x * 14/15.
            Protocol(
                "all-nan",
                "those that occur in the ground truth or in the prediction: one stray pixel of a class that "
                "is absent from the truth adds a 0",
                "the code of CMX, MRFS, AMDANet, TUNI",
                lambda counts: counts.union > 0,
            ),
            # The code of CMNeXt, StitchFusion and MMSFormer on FMB also ignores id 0 in the labels.
            Protocol(
                "all-zero",
                "all classes, an absent one counting as 0",
                "the code of CMNeXt, StitchFusion, MMSFormer, CRM-RGBTSeg",
                lambda counts: counts.truth >= 0,
            ),
            # For benchmarks whose id 0 is background or unlabelled.
            Protocol(
                "no-background",
                "the classes that occur in the ground truth, without id 0",
                "common on FMB (PEAFusion) and SUS",
                _in_truth_but_the_first,
            ),
        )
    }
)
"""By name, in the order of every table."""

DEFAULT_PROTOCOL = "present"


def find_protocol(name: str) -> Protocol:
    """The protocol of a name. Raises OptionError if there is none."""
    if name not in PROTOCOLS:
        raise OptionError(f"unknown protocol {name!r}: use one of {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]


def protocols_from(first: str) -> list[str]:
    """The names of all protocols with the given one in front. Raises OptionError if it is unknown."""
    find_protocol(first)
    return [first, *(name for name in PROTOCOLS if name != first)]
