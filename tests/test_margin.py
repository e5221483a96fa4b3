"""Margin-aware distillation and the cross-entropy at several scales, against formulas and PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from crossband.systems.mmanet.margin import margin_aware_distillation, prediction_entropy
from crossband.systems.mmanet.multiscale import multiscale_cross_entropy
from crossband.words import IGNORE_INDEX


def maps(*shape: int, seed: int = 0) -> Tensor:
    """Maps as a ReLU leaves them: none negative, a third of the values 0."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).add(0.4).relu()


def by_formula(student: Tensor, teacher: Tensor, uncertainty: Tensor) -> float:
    """L_MAD over all pixels, in numpy and in the order of the published formula."""
    rows = [x.double().movedim(1, -1).flatten(0, 2).numpy() for x in (student, teacher)]
    half = len(rows[0]) // 2
    errors = np.zeros(len(rows[0]))
    for part in (slice(None, half), slice(half, None)):
        grams = [x @ x[part].T for x in rows]
        of_student, of_teacher = (gram / np.linalg.norm(gram, axis=1, keepdims=True) for gram in grams)
        errors += ((of_student - of_teacher) ** 2).sum(axis=1)
    weights = uncertainty.double().flatten().numpy()
    return float((weights / weights.sum() * errors).sum())


# --- the formula


@pytest.mark.parametrize("shape", [(2, 8, 4, 6), (1, 12, 3, 3), (3, 16, 1, 5)])
def test_it_is_the_published_formula(shape: tuple[int, ...]) -> None:
    student, teacher = maps(*shape), maps(*shape, seed=1)
    uncertainty = torch.rand(shape[0], *shape[2:], generator=torch.Generator().manual_seed(2))
    loss = margin_aware_distillation(student, teacher, uncertainty)
    assert loss.item() == pytest.approx(by_formula(student, teacher, uncertainty), rel=1e-5)
    assert 0.01 < loss.item() < 8


def test_a_student_like_the_teacher_costs_nothing_at_any_scale() -> None:
    student, teacher = maps(2, 8, 4, 6), maps(2, 8, 4, 6, seed=1)
    uncertainty = torch.rand(2, 4, 6)
    assert margin_aware_distillation(teacher, teacher, uncertainty).item() == pytest.approx(0, abs=1e-10)
    wanted = margin_aware_distillation(student, teacher, uncertainty)
    for factor in (1e-6, 1e4):
        assert margin_aware_distillation(factor * teacher, teacher, uncertainty).item() < 1e-9
        scaled = margin_aware_distillation(factor * student, teacher / factor, uncertainty)
        assert scaled.item() == pytest.approx(wanted.item(), rel=1e-4)


def test_pixels_count_by_the_teachers_uncertainty() -> None:
    student, teacher = maps(1, 8, 4, 6), maps(1, 8, 4, 6, seed=1)
    single = []
    for pixel in range(24):
        uncertainty = torch.zeros(24)
        uncertainty[pixel] = 3.0
        single.append(margin_aware_distillation(student, teacher, uncertainty.view(1, 4, 6)))
    alike = margin_aware_distillation(student, teacher, torch.full((1, 4, 6), 0.2))
    assert torch.stack(single).mean().item() == pytest.approx(alike.item(), rel=1e-5)
    assert torch.stack(single).std() > 0.01
    assert margin_aware_distillation(student, teacher, torch.zeros(1, 4, 6)).item() == 0


def test_entropy_is_that_of_the_predicted_distribution() -> None:
    logits = 3 * torch.randn(2, 5, 4, 6, generator=torch.Generator().manual_seed(0))
    wanted = torch.distributions.Categorical(logits=logits.movedim(1, -1)).entropy()
    assert torch.allclose(prediction_entropy(logits), wanted, atol=1e-6)
    # Where a class is certain, p log p is 0 and not NaN.
    certain = torch.tensor([200.0, -200.0]).view(1, 2, 1, 1)
    assert torch.equal(prediction_entropy(certain), torch.zeros(1, 1, 1))


def test_only_the_student_learns_and_from_any_map() -> None:
    for student in (maps(2, 8, 4, 6), torch.zeros(2, 8, 4, 6), 1e-6 * maps(2, 8, 4, 6)):
        student.requires_grad_()
        teacher = maps(2, 8, 4, 6, seed=1).requires_grad_()
        uncertainty = torch.rand(2, 4, 6, requires_grad=True)
        margin_aware_distillation(student, teacher, uncertainty).backward()
        assert teacher.grad is None
        assert uncertainty.grad is None
        assert torch.isfinite(student.grad).all()
    assert student.grad.any()


def test_it_is_computed_in_float32_under_autocast() -> None:
    student, teacher = (maps(2, 64, 4, 6, seed=seed).bfloat16() for seed in (0, 1))
    uncertainty = torch.rand(2, 4, 6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = margin_aware_distillation(student, teacher, uncertainty)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(by_formula(student, teacher, uncertainty), rel=1e-5)


@pytest.mark.parametrize(("wrong", "named"), [("teacher", "teacher"), ("uncertainty", "uncertainty")])
def test_other_sizes_are_refused(wrong: str, named: str) -> None:
    given = {"student": maps(2, 8, 4, 6), "teacher": maps(2, 8, 4, 6), "uncertainty": torch.ones(2, 4, 6)}
    given[wrong] = given[wrong][..., :5]
    with pytest.raises(ValueError, match=rf"{named} must be of size \(2, 4, 6\), not \(2, 4, 5\)"):
        margin_aware_distillation(**given)


# --- sampled rows


def test_a_sample_is_the_formula_on_the_drawn_pixels_of_both() -> None:
    student, teacher, uncertainty = maps(3, 8, 4, 6), maps(3, 8, 4, 6, seed=1), torch.rand(3, 4, 6)
    loss = margin_aware_distillation(
        student, teacher, uncertainty, max_rows=20, generator=torch.Generator().manual_seed(5)
    )
    drawn = torch.randperm(72, generator=torch.Generator().manual_seed(5))[:20].sort().values
    chosen = [x.movedim(1, -1).flatten(0, 2)[drawn].T[None, :, None] for x in (student, teacher)]
    wanted = by_formula(chosen[0], chosen[1], uncertainty.flatten()[drawn])
    assert loss.item() == pytest.approx(wanted, rel=1e-5)


def test_a_sample_estimates_the_whole() -> None:
    student, teacher, uncertainty = maps(4, 8, 16, 16), maps(4, 8, 16, 16, seed=1), torch.rand(4, 16, 16)
    whole = margin_aware_distillation(student, teacher, uncertainty).item()
    generator = torch.Generator().manual_seed(0)
    draws = [
        margin_aware_distillation(student, teacher, uncertainty, max_rows=128, generator=generator).item()
        for _ in range(50)
    ]
    assert np.std(draws) > 0
    assert np.mean(draws) == pytest.approx(whole, rel=0.05)


class LargestTensor(TorchDispatchMode):
    """Notes the most elements that any result had while it was on."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, Tensor):
                self.elements = max(self.elements, tensor.numel())
        return result


def test_memory_of_eight_images_of_480_by_640_is_that_of_the_sample() -> None:
    """Maps of the size that MMANet compares at 1/16 and 1/8, but of fewer channels, which cost only time."""
    rows, pixels = 4096, 8 * 30 * 40
    student = maps(8, 32, 30, 40).requires_grad_()
    teacher, uncertainty = maps(8, 32, 30, 40, seed=1), torch.rand(8, 30, 40)
    with LargestTensor() as largest:
        margin_aware_distillation(student, teacher, uncertainty, max_rows=rows).backward()
    # A half of the sample's Gram matrix, 34 MB; half of the whole one would have been 5.5 times as large.
    assert largest.elements == rows * rows // 2
    assert largest.elements < pixels * pixels // 10


# --- cross-entropy at several scales


def scales_and_label() -> tuple[list[Tensor], Tensor]:
    generator = torch.Generator().manual_seed(0)
    label = torch.randint(0, 5, (2, 32, 64), generator=generator)
    label[:, :5, :9] = IGNORE_INDEX
    sizes = ((32, 64), (4, 8), (2, 4), (1, 2))
    return [torch.randn(2, 5, *size, generator=generator) for size in sizes], label


@pytest.mark.parametrize(
    "weights", [None, torch.tensor([0.5, 1.0, 2.0, 0.0, 4.0])], ids=["alike", "weighted"]
)
def test_each_scale_is_pytorchs_weighted_mean(weights: Tensor | None) -> None:
    scales, label = scales_and_label()
    losses = multiscale_cross_entropy(scales, label, weights=weights)
    assert len(losses) == 4
    for stride, logits, loss in zip((1, 8, 16, 32), scales, losses, strict=True):
        small = label[:, ::stride, ::stride]
        wanted = F.cross_entropy(logits, small, weight=weights, ignore_index=IGNORE_INDEX)
        assert loss.item() == pytest.approx(wanted.item(), rel=1e-5)


@pytest.mark.parametrize("weights", [None, torch.ones(5)], ids=["alike", "weighted"])
def test_nothing_to_count_costs_nothing(weights: Tensor | None) -> None:
    scales, label = scales_and_label()
    scales[0].requires_grad_()
    losses = multiscale_cross_entropy(scales, torch.full_like(label, IGNORE_INDEX), weights=weights)
    assert [loss.item() for loss in losses] == [0, 0, 0, 0]
    losses[0].backward()
    assert not scales[0].grad.any()


def test_label_0_is_a_class() -> None:
    scales, label = scales_and_label()
    assert all(loss.item() > 0.1 for loss in multiscale_cross_entropy(scales, torch.zeros_like(label)))
