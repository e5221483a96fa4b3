"""Segmentation scores from one global confusion matrix, under named protocols.

All scores come from the pixel counts of the whole test set, never from a mean of per-image scores. Every
protocol is reported, with the number of classes that it averaged.

A score is one declaration: a field of `SegmentationScores` with its `Score`. PyTorch is imported where it is
used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import numpy as np

from crossband.metrics.protocols import PROTOCOLS, Counts, find_protocol
from crossband.words import IGNORE_INDEX

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Score:
    """How a score comes about, and how every table tells it. Scores are shares in [0, 1], told in percent.

    title, short: its name in words, and where there is little room. meaning: what it is a share of.
    of: from `Counts` to the score; (C,) where there is one per class, NaN where it does not exist.
    per_class: whether there is one per class. headline: of those per class, whether it is among the few that
        the text shows for all pairs, and the page by condition.
    """

    title: str
    short: str
    meaning: str
    of: Callable[[Counts], np.ndarray | float]
    per_class: bool = False
    headline: bool = False


@dataclass(frozen=True)
class ProtocolScore:
    """A mean IoU and what it is a mean of.

    mean_iou: in [0, 1]; NaN if no class was averaged. ids: the class ids averaged.
    """

    protocol: str
    mean_iou: float
    classes_averaged: int
    ids: tuple[int, ...]


def _iou(counts: Counts) -> np.ndarray:
    return ratio(counts.right, counts.union)


def _accuracy(counts: Counts) -> np.ndarray:
    return ratio(counts.right, counts.truth)


def _mean_class_accuracy(counts: Counts) -> float:
    return _mean(_accuracy(counts)[counts.truth > 0])


def _pixel_accuracy(counts: Counts) -> np.ndarray:
    return ratio(counts.right.sum(), counts.truth.sum())


@dataclass(frozen=True)
class SegmentationScores:
    """What a confusion matrix says. All scores lie in [0, 1]; per-class tuples are in the order of the ids.

    Every field with a `Score` is told in every table and file, under its own name in CSV and JSON.

    iou: intersection over union per class; NaN where a class occurs neither in truth nor in prediction.
    accuracy: share of a class's truth that was found (its recall); NaN where the class is absent from truth.
    mean_class_accuracy: mean of ``accuracy`` over the classes that occur in the truth.
    pixel_accuracy: share of all counted pixels that are right.
    support: counted pixels of truth per class.
    protocols: the mean IoU under every protocol, in the order of `PROTOCOLS`.

    Means over nothing are NaN.
    """

    iou: Annotated[
        tuple[float, ...],
        Score(
            "IoU",
            "IoU",
            "right pixels among those of truth or prediction",
            _iou,
            per_class=True,
            headline=True,
        ),
    ]
    accuracy: Annotated[
        tuple[float, ...],
        Score("accuracy", "acc.", "the share of a class's pixels that was found", _accuracy, per_class=True),
    ]
    mean_class_accuracy: Annotated[
        float,
        Score(
            "mean class accuracy",
            "class acc.",
            "mean, over the classes in the ground truth, of the share of their pixels that was found",
            _mean_class_accuracy,
        ),
    ]
    pixel_accuracy: Annotated[
        float,
        Score(
            "pixel accuracy", "pixel acc.", "the share of all counted pixels that is right", _pixel_accuracy
        ),
    ]
    support: tuple[int, ...]
    protocols: Mapping[str, ProtocolScore]


SCORES: Mapping[str, Score] = {
    name: declared
    for name, hint in get_type_hints(SegmentationScores, globals(), include_extras=True).items()
    for declared in getattr(hint, "__metadata__", ())
    if isinstance(declared, Score)
}
"""The declared scores by their field's name, in the order of every table."""


def confusion_matrix(
    prediction: Tensor, label: Tensor, classes: int, ignore_index: int = IGNORE_INDEX
) -> Tensor:
    """Count the pixels of every (truth, prediction) combination.

    prediction, label: integer tensors of one shape, any shape, on one device, ids in 0..classes-1. Pixels
    whose label is ignore_index are not counted, whatever was predicted there.

    Returns int64 (classes, classes) on the same device, rows = truth, columns = prediction. Raises
    ValueError if the shapes differ, if an id is not an integer, or if one that counts is out of range.
    """
    import torch

    if prediction.shape != label.shape:
        raise ValueError(
            f"prediction and label must have the same shape, "
            f"not {tuple(prediction.shape)} and {tuple(label.shape)}"
        )
    # Widened first: a type of few bits would take an ignore_index beyond it for one of its own ids.
    counted = label.long() != ignore_index
    truth = _counted_ids(label, counted, "label", classes)
    guess = _counted_ids(prediction, counted, "prediction", classes)
    return torch.bincount(truth * classes + guess, minlength=classes**2).reshape(classes, classes)


def _counted_ids(ids: Tensor, counted: Tensor, name: str, classes: int) -> Tensor:
    if ids.is_floating_point():
        raise ValueError(f"the {name} must hold integer class ids, not {ids.dtype}: take the argmax first")
    found = ids.masked_select(counted).long()
    if found.numel():
        low, high = (int(bound) for bound in found.aminmax())
        if low < 0 or high >= classes:
            wrong = low if low < 0 else high
            raise ValueError(
                f"the {name} holds id {wrong}, but with {classes} classes ids are 0..{classes - 1}"
            )
    return found


def protocol_scores(confusion: Tensor, protocol: str) -> ProtocolScore:
    """The mean IoU of a confusion matrix under one of `PROTOCOLS`.

    confusion: int64 (C, C), rows = truth. Raises OptionError for an unknown protocol, ValueError for a
    matrix that is not square.
    """
    rule = find_protocol(protocol)
    counts = _counts(confusion)
    averaged = rule.averages(counts)
    iou = np.nan_to_num(_iou(counts), nan=0.0)
    return ProtocolScore(
        protocol=protocol,
        mean_iou=_mean(iou[averaged]),
        classes_averaged=int(averaged.sum()),
        ids=tuple(np.flatnonzero(averaged).tolist()),
    )


def segmentation_scores(confusion: Tensor) -> SegmentationScores:
    """All scores of a confusion matrix, under every protocol.

    confusion: int64 (C, C), rows = truth, columns = prediction, on any device. Raises ValueError for a
    matrix that is not square.

    >>> import torch
    >>> scores = segmentation_scores(torch.tensor([[6, 2, 0], [0, 2, 0], [0, 0, 0]]))
    >>> scores.iou, scores.pixel_accuracy
    ((0.75, 0.5, nan), 0.8)
    >>> scores.protocols["present"].mean_iou, scores.protocols["no-background"].ids
    (0.625, (1,))
    """
    counts = _counts(confusion)
    values: dict[str, Any] = {
        name: tuple(np.asarray(score.of(counts)).tolist()) if score.per_class else float(score.of(counts))
        for name, score in SCORES.items()
    }
    return SegmentationScores(
        **values,
        support=tuple(counts.truth.tolist()),
        protocols={protocol: protocol_scores(confusion, protocol) for protocol in PROTOCOLS},
    )


class SegmentationMetric:
    """The confusion matrix of a whole test set, gathered batch by batch.

    classes: number of ids. ignore_index: the label id that does not count.
    confusion: int64 (classes, classes) on the CPU, rows = truth, columns = prediction.
    """

    def __init__(self, classes: int, ignore_index: int = IGNORE_INDEX):
        import torch

        self.classes = classes
        self.ignore_index = ignore_index
        self.confusion = torch.zeros(classes, classes, dtype=torch.int64)

    def update(self, prediction: Tensor, label: Tensor) -> None:
        """Count the pixels of one batch; arguments and errors are those of `confusion_matrix`."""
        self.confusion += confusion_matrix(prediction, label, self.classes, self.ignore_index).cpu()

    def merge(self, other: SegmentationMetric) -> None:
        """Add what another metric counted. Raises ValueError if it counts other classes."""
        ours, theirs = (self.classes, self.ignore_index), (other.classes, other.ignore_index)
        if ours != theirs:
            raise ValueError(f"metrics differ in (classes, ignore_index): {ours} and {theirs}")
        self.confusion += other.confusion

    def compute(self) -> SegmentationScores:
        """The scores of everything counted so far."""
        return segmentation_scores(self.confusion)


def _counts(confusion: Tensor) -> Counts:
    matrix = confusion.cpu().numpy()
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"a confusion matrix is square, not {matrix.shape}")
    return Counts.of(matrix)


def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole in float64, of any shape, NaN where whole is 0."""
    return np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=np.asarray(whole) > 0)


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else float("nan")
