"""What a run's answer to a pair looks like in a few numbers: its classes, how sure it is, how ragged.

A trained band monitor looks at them beside the images (`crossband.trained_monitor`).
"""

from __future__ import annotations

import numpy as np

from crossband.words import IGNORE_INDEX

_SEEN = 160
"""Rows and columns, evenly spaced, at which an answer is looked at, whatever its size: "edges" of the same
scene would differ between sizes otherwise. Those of a smaller answer are repeated."""
_QUANTILES = (5, 25, 50)


def leave_unseen_out(labels: np.ndarray, confidence: np.ndarray, valid: np.ndarray | None) -> None:
    """Take pixels that only one camera of a rig saw out of an answer, in place: no class, confidence 0.

    labels, confidence: as `answer_statistics` takes them. valid: bool (H, W), or None where all were seen.
    """
    if valid is not None:
        labels[~valid], confidence[~valid] = IGNORE_INDEX, 0


def answer_statistics(labels: np.ndarray, confidence: np.ndarray, classes: int) -> dict[str, float]:
    """The statistics of an answer by name, all finite.

    labels: uint8 (H, W), class ids below ``classes``; pixels of `IGNORE_INDEX` are not looked at.
    confidence: float32 (H, W) in [0, 1], the probability of each pixel's class.
    """
    grid = np.ix_(*(np.arange(_SEEN) * size // _SEEN for size in labels.shape))
    labels, confidence = labels[grid], confidence[grid]
    seen = labels != IGNORE_INDEX
    of_pixels, sure = labels[seen], confidence[seen].astype(float)
    if not len(of_pixels):
        of_pixels, sure = np.zeros(1, np.uint8), np.zeros(1)
    counts = np.bincount(of_pixels, minlength=classes)[:classes]
    sums = np.bincount(of_pixels, sure, minlength=classes)[:classes]
    found = {f"answer share of class {k}": float(n) / len(of_pixels) for k, n in enumerate(counts)}
    found |= {
        f"answer confidence of class {k}": float(total) / max(int(n), 1)
        for k, (total, n) in enumerate(zip(sums, counts, strict=True))
    }
    quantiles = zip(_QUANTILES, np.percentile(sure, _QUANTILES), strict=True)
    found |= {f"answer confidence {q} %": float(value) for q, value in quantiles}
    found["answer confidence"] = float(sure.mean())
    found["answer edges"] = _changes(labels) + _changes(labels.T)
    return found


def _changes(labels: np.ndarray) -> float:
    """The share of neighbours along the first axis that are of two classes."""
    return float(np.mean(labels[1:] != labels[:-1]))
