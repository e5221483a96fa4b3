"""Losses between logits and a label: cross-entropy and Dice.

Equation numbers are those of CSK-Net (Sikdar, Teotia, Sundaram, arXiv 2312.02240). All are computed in
float32 or better whatever the precision of the logits, and are deterministic on a GPU too.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from crossband.errors import OptionError
from crossband.tensors import at_least_float32
from crossband.words import IGNORE_INDEX

DiceForm = Literal["per-class", "global"]
DiceClasses = Literal["present", "all"]


def cross_entropy(logits: Tensor, label: Tensor, *, ignore_index: int = IGNORE_INDEX) -> Tensor:
    """Cross-entropy in nats, first term of eq. 7, as a mean over the counted pixels of the batch.

    logits: (B, C, H, W) float. label: (B, H, W) int64, ids in 0..C-1 or ignore_index.
    Returns a scalar; zero, with a graph, if no pixel counts. Raises ValueError if the shapes disagree.
    """
    _check_shapes(logits, label)
    # Not reduction="mean": that is NaN where nothing counts, and has no deterministic CUDA kernel.
    pixels = F.cross_entropy(at_least_float32(logits), label, ignore_index=ignore_index, reduction="none")
    return pixels.sum() / (label != ignore_index).sum().clamp(min=1)


def dice(
    logits: Tensor,
    label: Tensor,
    *,
    ignore_index: int = IGNORE_INDEX,
    form: DiceForm = "per-class",
) -> Tensor:
    """Soft Dice loss in [0, 1], second term of eq. 7, over the counted pixels of the whole batch.

    "per-class": ``(1 / C) sum_c [1 - 2 sum p_c y_c / (sum p_c + sum y_c)]``, where a class without a pixel
    in the batch's labels contributes 0. This is `segmentation_models_pytorch.losses.DiceLoss` in its
    multiclass mode; like there, absent classes make the mean smaller, since it is always over all C.

    "global": one ratio over all pixels and classes, as eq. 7 prints it. Probabilities and one-hot labels
    both sum to 1 in every pixel, so the ratio is the mean probability of the true class, and rare classes
    weigh no more than their pixels.

    logits: (B, C, H, W) float. label: (B, H, W) int64, ids in 0..C-1 or ignore_index.
    Returns a scalar; zero, with a graph, if no pixel counts. Raises ValueError if the shapes disagree,
    OptionError for an unknown form.
    """
    _check_shapes(logits, label)
    truth, counted = _one_hot(logits, label, ignore_index)
    probability = at_least_float32(logits).softmax(dim=1)
    match form:
        case "per-class":
            overlap = (probability * truth).sum(dim=(0, 2, 3))
            predicted = (probability * counted).sum(dim=(0, 2, 3))
            support = truth.sum(dim=(0, 2, 3))
            score = 2 * overlap / (predicted + support.clamp(min=1))
            return torch.where(support > 0, 1 - score, 0).mean()
        case "global":
            pixels = counted.sum()
            return (pixels - (probability * truth).sum()) / pixels.clamp(min=1)
        case _:
            raise OptionError(f'unknown form of Dice {form!r}: use "per-class" or "global"')


def smoothed_dice(
    logits: Tensor,
    label: Tensor,
    *,
    ignore_index: int = IGNORE_INDEX,
    classes: DiceClasses = "present",
    ignored_as_zero: bool = False,
    smooth: float = 1e-5,
) -> Tensor:
    """The Dice term D of AMDANet's published loss, over the whole batch.

    ``1 - mean_c (2 sum p_c y_c + smooth) / (sum p_c + sum y_c + smooth)``, sums over the counted pixels.

    classes: the mean is over the classes "present" in the batch's labels, or over "all" of them, as
    published: an absent class then costs nearly 1 whatever is predicted, and pushes its probability to 0.
    ignored_as_zero: count ignored pixels as pixels of class 0, as the published code does by mistake.

    logits: (B, C, H, W) float. label: (B, H, W) int64, ids in 0..C-1 or ignore_index.
    Returns a scalar in [0, 1]; zero, with a graph, if no pixel counts. Raises ValueError if the shapes
    disagree, OptionError for an unknown choice of classes.
    """
    _check_shapes(logits, label)
    if classes not in ("present", "all"):
        raise OptionError(f'Dice is averaged over classes "present" or "all", not {classes!r}')
    if ignored_as_zero:
        label = label.masked_fill(label == ignore_index, 0)
    truth, counted = _one_hot(logits, label, ignore_index)
    probability = at_least_float32(logits).softmax(dim=1)
    overlap = (probability * truth).sum(dim=(0, 2, 3))
    predicted = (probability * counted).sum(dim=(0, 2, 3))
    support = truth.sum(dim=(0, 2, 3))
    losses = 1 - (2 * overlap + smooth) / (predicted + support + smooth)
    if classes == "all":
        return losses.mean()
    present = support > 0
    return torch.where(present, losses, 0).sum() / present.sum().clamp(min=1)


def segmentation_loss(
    logits: Tensor,
    label: Tensor,
    *,
    ignore_index: int = IGNORE_INDEX,
    dice_form: DiceForm = "per-class",
) -> dict[str, Tensor]:
    """L_seg of eq. 7 by terms: ``{"ce": cross_entropy, "dice": dice}``; the loss is their sum.

    Shapes and errors are those of `cross_entropy` and `dice`.
    """
    return {
        "ce": cross_entropy(logits, label, ignore_index=ignore_index),
        "dice": dice(logits, label, ignore_index=ignore_index, form=dice_form),
    }


def _one_hot(logits: Tensor, label: Tensor, ignore_index: int) -> tuple[Tensor, Tensor]:
    """Bool (B, C, H, W), true at each counted pixel's class, and bool (B, 1, H, W), which pixels count."""
    counted = (label != ignore_index).unsqueeze(1)
    ids = torch.arange(logits.shape[1], device=label.device).view(1, -1, 1, 1)
    # One byte a value; F.one_hot takes eight.
    return (label.unsqueeze(1) == ids) & counted, counted


def _check_shapes(logits: Tensor, label: Tensor) -> None:
    if logits.ndim != 4 or label.shape != (logits.shape[0], *logits.shape[2:]):
        raise ValueError(
            "logits must be (B, C, H, W) and the label (B, H, W) of the same size, "
            f"not {tuple(logits.shape)} and {tuple(label.shape)}"
        )
