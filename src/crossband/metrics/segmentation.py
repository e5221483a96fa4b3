"""Segmentation scores from one global confusion matrix, under named protocols.

All scores come from the pixel counts of the whole test set, never from a mean of per-image scores. Published
mean IoUs differ in how they treat classes without a pixel of truth and the background; each habit is a
protocol here, and every protocol is reported with the number of classes it averaged.

PyTorch is imported where it is used: the command line takes the protocols' names from here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from crossband.errors import OptionError
from crossband.pairs.base import IGNORE_INDEX

if TYPE_CHECKING:
    from torch import Tensor

Protocol = Literal["present", "all-nan", "all-zero", "no-background"]
PROTOCOLS: tuple[Protocol, ...] = get_args(Protocol)
"""Which classes a mean IoU averages.

- ``present`` (default): the classes that occur in the ground truth. What is averaged depends on the test
  set alone, so two systems are always averaged over the same classes.
- ``all-nan``: the classes that occur in the ground truth or in the prediction (``np.nanmean`` of the IoUs).
  A single stray pixel of an absent class adds a term of 0: on FMB, whose test labels hold no bicycle, it
  moves the mean from x to x * 14/15. The code of CMX, MRFS, AMDANet and TUNI.
- ``all-zero``: all classes, an absent one as 0. The code of CMNeXt, StitchFusion and MMSFormer (which on FMB
  also ignore id 0 in the labels), and of CRM-RGBTSeg.
- ``no-background``: ``present`` without id 0, for benchmarks whose id 0 is background or unlabelled. Common
  on FMB (PEAFusion) and SUS.
"""


@dataclass(frozen=True)
class ProtocolScore:
    """A mean IoU and what it is a mean of.

    mean_iou: in [0, 1]; NaN if no class was averaged. ids: the class ids averaged.
    """

    protocol: Protocol
    mean_iou: float
    classes_averaged: int
    ids: tuple[int, ...]


@dataclass(frozen=True)
class SegmentationScores:
    """What a confusion matrix says. All scores lie in [0, 1]; per-class tuples are in the order of the ids.

    iou: intersection over union per class; NaN where a class occurs neither in truth nor in prediction.
    support: counted pixels of truth per class.
    accuracy: share of a class's truth that was found (its recall); NaN where the class is absent from truth.
    mean_class_accuracy: mean of ``accuracy`` over the classes that occur in the truth.
    pixel_accuracy: share of all counted pixels that are right.
    protocols: the mean IoU under every protocol, in the order of `PROTOCOLS`.

    Means over nothing are NaN.
    """

    iou: tuple[float, ...]
    support: tuple[int, ...]
    accuracy: tuple[float, ...]
    mean_class_accuracy: float
    pixel_accuracy: float
    protocols: Mapping[Protocol, ProtocolScore]


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
    counted = label != ignore_index
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


def protocol_scores(confusion: Tensor, protocol: Protocol) -> ProtocolScore:
    """The mean IoU of a confusion matrix under one of `PROTOCOLS`.

    confusion: int64 (C, C), rows = truth. Raises OptionError for an unknown protocol, ValueError for a
    matrix that is not square.
    """
    intersection, truth, union = _counts(confusion)
    ids = np.arange(len(truth))
    match protocol:
        case "present":
            averaged = truth > 0
        case "all-nan":
            averaged = union > 0
        case "all-zero":
            averaged = np.ones_like(ids, dtype=bool)
        case "no-background":
            averaged = (truth > 0) & (ids > 0)
        case _:
            raise OptionError(f"unknown protocol {protocol!r}: use one of {', '.join(PROTOCOLS)}")
    iou = np.nan_to_num(_ratio(intersection, union), nan=0.0)
    return ProtocolScore(
        protocol=protocol,
        mean_iou=_mean(iou[averaged]),
        classes_averaged=int(averaged.sum()),
        ids=tuple(ids[averaged].tolist()),
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
    intersection, truth, union = _counts(confusion)
    accuracy = _ratio(intersection, truth)
    return SegmentationScores(
        iou=tuple(_ratio(intersection, union).tolist()),
        support=tuple(truth.tolist()),
        accuracy=tuple(accuracy.tolist()),
        mean_class_accuracy=_mean(accuracy[truth > 0]),
        pixel_accuracy=float(_ratio(intersection.sum(), truth.sum())),
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


def _counts(confusion: Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels per class: right, of truth, and of truth or prediction; int64 (C,) each."""
    matrix = confusion.cpu().numpy()
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"a confusion matrix is square, not {matrix.shape}")
    intersection, truth = matrix.diagonal(), matrix.sum(axis=1)
    return intersection, truth, truth + matrix.sum(axis=0) - intersection


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole in float64, NaN where whole is 0."""
    return np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=np.asarray(whole) > 0)


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else float("nan")
