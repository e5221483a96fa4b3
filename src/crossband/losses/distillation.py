"""Losses between a student and a frozen teacher: of predictions and of features.

Equation numbers are those of CSK-Net (Sikdar, Teotia, Sundaram, arXiv 2312.02240). The teacher is always
detached: it gets no gradient, whether or not its parameters are frozen.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from crossband.errors import OptionError
from crossband.losses.segmentation import cross_entropy
from crossband.tensors import at_least_float32

DistillationForm = Literal["kl_ce", "soft_hard"]
SoftMean = Literal["all", "places"]
FeatureForm = Literal["published", "normalised"]

SMALLEST_VARIANCE = 1e-6
"""Added to a channel's variance before it divides, so that one that hardly varies has a finite gradient."""


def prediction_distillation(
    student_logits: Tensor, teacher_logits: Tensor, *, form: DistillationForm = "kl_ce"
) -> Tensor:
    """L_D1: make the student predict what the teacher predicts; nats, a mean over all pixels of the batch.

    "kl_ce": eq. 8, ``KL(p_T || p_S) + H(p_T, p_S)`` at temperature 1. As ``KL = H(p_T, p_S) - H(p_T)``, its
    gradient is exactly twice that of the soft cross-entropy ``H(p_T, p_S)``; its minimum is ``H(p_T)``.

    "soft_hard": the soft cross-entropy plus the cross-entropy with the teacher's most probable class, as in
    DisOptNet (Kang et al., IEEE TGRS 2022). Its public code divides by H W only; this is a true mean.

    student_logits, teacher_logits: (B, C, H, W) float. Returns a scalar. Raises ValueError if the shapes
    differ, OptionError for an unknown form.
    """
    _check_same_shape(student_logits, teacher_logits)
    student = at_least_float32(student_logits)
    teacher = at_least_float32(teacher_logits.detach())
    soft = soft_cross_entropy(student, teacher)
    match form:
        case "kl_ce":
            entropy = F.cross_entropy(teacher, teacher.softmax(dim=1))
            divergence = soft - entropy
            return divergence + soft
        case "soft_hard":
            every_pixel = -1  # an id that argmax never gives: nothing is ignored
            return soft + cross_entropy(student, teacher.argmax(dim=1), ignore_index=every_pixel)
        case _:
            raise OptionError(f'unknown form of prediction distillation {form!r}: use "kl_ce" or "soft_hard"')


def soft_cross_entropy(
    student_logits: Tensor, teacher_logits: Tensor, *, mean_over: SoftMean = "all"
) -> Tensor:
    """H(p_T, p_S) in nats: the cross-entropy with the teacher's probabilities.

    mean_over: "all" is the mean over every pixel of the batch. "places" is that over the places of a picture,
    summed over the pictures of the batch, as DisOptNet's public code has it: it grows with the batch.

    student_logits, teacher_logits: (B, C, H, W) float. Returns a scalar. Raises ValueError if the shapes
    differ.
    """
    _check_same_shape(student_logits, teacher_logits)
    target = at_least_float32(teacher_logits.detach()).softmax(dim=1)
    soft = F.cross_entropy(at_least_float32(student_logits), target)
    return soft * len(student_logits) if mean_over == "places" else soft


def feature_distillation(
    student: Sequence[Tensor], teacher: Sequence[Tensor], *, form: FeatureForm = "published"
) -> Tensor:
    """L_D2: make the student's feature maps those of the teacher; the mean of a term over the maps.

    "published": eq. 9, the mean squared error between elements. Eq. 9 prints sums of unsquared norms and the
    text calls them a mean square error; the mean keeps maps of different sizes, and any number of them, on
    one scale.

    "normalised": half of the mean squared error after every channel of either map was brought to mean 0 and
    variance 1 over the batch and its places, which is 1 minus the correlation of the two, channel by channel:
    in [0, 2] however large the features are. After PKD (Cao et al., NeurIPS 2022, arXiv 2207.02039).

    student, teacher: the same number of float tensors, equal in shape one by one; (B, C, H, W) to be
    normalised. Returns a scalar. Raises ValueError if there are none, or if numbers or shapes differ,
    OptionError for an unknown form.
    """
    if form not in get_args(FeatureForm):
        raise OptionError(f'unknown form of feature distillation {form!r}: use "published" or "normalised"')
    if not student or len(student) != len(teacher):
        raise ValueError(
            "feature distillation needs as many student maps as teacher maps, and at least one, "
            f"not {len(student)} and {len(teacher)}"
        )
    errors = []
    for ours, theirs in zip(student, teacher, strict=True):
        _check_same_shape(ours, theirs)
        ours, theirs = at_least_float32(ours), at_least_float32(theirs.detach())
        if form == "published":
            errors.append(F.mse_loss(ours, theirs))
        else:
            errors.append(F.mse_loss(_standardised(ours), _standardised(theirs)) / 2)
    return torch.stack(errors).mean()


def _standardised(features: Tensor) -> Tensor:
    """(B, C, H, W) with every channel at mean 0 and variance 1."""
    variance, mean = torch.var_mean(features, dim=(0, 2, 3), correction=0, keepdim=True)
    return (features - mean) * (variance + SMALLEST_VARIANCE).rsqrt()


def _check_same_shape(student: Tensor, teacher: Tensor) -> None:
    if student.shape != teacher.shape:
        raise ValueError(
            "student and teacher must have the same shape, "
            f"not {tuple(student.shape)} and {tuple(teacher.shape)}"
        )
