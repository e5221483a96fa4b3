"""Margin-aware distillation (MAD): a student keeps the teacher's relations between pixels.

Wei, Luo, Luo, "MMANet: Margin-Aware Distillation and Modality-Aware Regularization for Incomplete Multimodal
Learning", CVPR 2023 (arXiv 2304.08028). Written from formulas; nothing of the published code is copied.

With S and T the pixels of a batch as rows, and F_h the first or the second half of a matrix F's rows:

    G_h(F) = F F_h^T, each row divided by its length
    e_i    = sum_h |row i of G_h(S) - row i of G_h(T)|^2
    w_i    = H_i / sum_j H_j, with H the entropy of what the teacher predicts at a pixel
    L_MAD  = sum_i w_i e_i

All N pixels would make four N x N / 2 matrices: 0.7 GB for a batch of 8 at 480 x 640, and that again for the
backward pass. So at most ``max_rows`` are drawn, the same ones of both networks. Rows of unit length keep e_i
in [0, 8] for any number of columns, so that a sample estimates the whole without a factor.
"""

from __future__ import annotations

import torch
from torch import Tensor

from crossband.tensors import at_least_float32, directions, without_autocast


def margin_aware_distillation(
    student: Tensor,
    teacher: Tensor,
    uncertainty: Tensor,
    *,
    max_rows: int = 4096,
    generator: torch.Generator | None = None,
) -> Tensor:
    """L_MAD between two maps of equal size; in float32 or better, under autocast too.

    student, teacher: (B, D, h, w) float; their D may differ. The teacher gets no gradient.
    uncertainty: (B, h, w), 0 or more: H of every pixel. max_rows: most pixels that are compared.
    generator: source of the draw, on any device; None takes PyTorch's own.

    Returns a scalar in [0, 8]; zero, with a graph, where the teacher is certain everywhere. Raises ValueError
    if the shapes disagree.
    """
    count, (height, width) = len(student), student.shape[2:]
    for name, shape in (("teacher", teacher[:, 0].shape), ("uncertainty", uncertainty.shape)):
        if shape != (count, height, width):
            raise ValueError(f"{name} must be of size {(count, height, width)}, not {tuple(shape)}")
    total = count * height * width
    rows = torch.arange(total, device=student.device)
    if total > max_rows:
        device = student.device if generator is None else generator.device
        drawn = torch.randperm(total, generator=generator, device=device)[:max_rows]
        # In the batch's order, so that the halves are still those of its images.
        rows = drawn.to(student.device).sort().values
    with without_autocast(student):
        errors = torch.zeros(len(rows), device=student.device)
        pairs = zip(_relations(student, rows), _relations(teacher.detach(), rows), strict=True)
        for of_student, of_teacher in pairs:
            errors = errors + (of_student - of_teacher).square().sum(dim=1)
        weights = at_least_float32(uncertainty.detach().flatten()[rows])
        return (weights * errors).sum() / weights.sum().clamp(min=torch.finfo(weights.dtype).tiny)


def prediction_entropy(logits: Tensor) -> Tensor:
    """H of every pixel, in nats: the entropy of the softmax. logits: (B, C, h, w). Returns (B, h, w)."""
    logs = at_least_float32(logits).log_softmax(dim=1)
    return -(logs.exp() * logs).sum(dim=1)


def _relations(features: Tensor, rows: Tensor) -> tuple[Tensor, ...]:
    """G_h for both halves: (rows, half of the rows) each."""
    pixels = features.shape[2] * features.shape[3]
    values = at_least_float32(features.flatten(2)[rows // pixels, :, rows % pixels])
    # The length of a row of G_h has the scale of all pixels as a factor, and that of its own: taking both out
    # first changes nothing but keeps the numbers, and the gradients, near 1.
    scale = values.detach().square().sum(dim=1).mean().sqrt()
    columns = values / scale.clamp(min=torch.finfo(values.dtype).tiny)
    units = directions(columns)
    half = len(rows) // 2
    return tuple(directions(units @ part.T) for part in (columns[:half], columns[half:]))
