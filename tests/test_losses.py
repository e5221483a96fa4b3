"""Segmentation and distillation losses: against hand-worked values, PyTorch and smp."""

from math import log

import pytest
import segmentation_models_pytorch as smp
import torch
from torch import Tensor
from torch.nn import functional as F

from crossband.errors import OptionError
from crossband.losses.distillation import feature_distillation, prediction_distillation
from crossband.losses.segmentation import cross_entropy, dice, segmentation_loss
from crossband.systems.csknet.contrastive import pixel_contrast

IGNORE = 255


def logits_of(*pixels: tuple[float, float]) -> Tensor:
    """(1, 2, 2, 2) logits whose softmax is the given four (class 0, class 1) probabilities, row by row."""
    return torch.tensor(pixels).log().T.reshape(1, 2, 2, 2)


def random_batch(seed: int, classes: int = 5, used: int = 5) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(3, classes, 17, 11, generator=generator)
    label = torch.randint(0, used, (3, 17, 11), generator=generator)
    label[torch.rand(label.shape, generator=generator) < 0.2] = IGNORE
    return logits, label


# The image of the hand-worked values. Probability of class 1: 3/4, 1/4, 1/2, and 1/8 where nothing counts.
HAND_LOGITS = logits_of((1 / 4, 3 / 4), (3 / 4, 1 / 4), (1 / 2, 1 / 2), (7 / 8, 1 / 8))
HAND_LABEL = torch.tensor([[[1, 0], [1, IGNORE]]])


def test_cross_entropy_by_hand() -> None:
    # -(ln 3/4 + ln 3/4 + ln 1/2) / 3
    expected = -(2 * log(3 / 4) + log(1 / 2)) / 3
    assert cross_entropy(HAND_LOGITS, HAND_LABEL).item() == pytest.approx(expected, rel=1e-6)


def test_dice_per_class_by_hand() -> None:
    # class 0: sum p = 1/4 + 3/4 + 1/2 = 3/2, sum y = 1, overlap = 3/4:             2 (3/4) / (5/2) = 3/5
    # class 1: sum p = 3/4 + 1/4 + 1/2 = 3/2, sum y = 2, overlap = 3/4 + 1/2 = 5/4: 2 (5/4) / (7/2) = 5/7
    # (2/5 + 2/7) / 2 = 12/35
    assert dice(HAND_LOGITS, HAND_LABEL).item() == pytest.approx(12 / 35, rel=1e-6)


def test_dice_global_by_hand() -> None:
    # overlap = 3/4 + 3/4 + 1/2 = 2, sum p = sum y = 3: 1 - 2 * 2 / 6 = 1/3
    assert dice(HAND_LOGITS, HAND_LABEL, form="global").item() == pytest.approx(1 / 3, rel=1e-6)


def test_segmentation_loss_names_both_terms() -> None:
    terms = segmentation_loss(HAND_LOGITS, HAND_LABEL, dice_form="global")
    assert list(terms) == ["ce", "dice"]
    assert terms["ce"].item() == pytest.approx(-(2 * log(3 / 4) + log(1 / 2)) / 3, rel=1e-6)
    assert terms["dice"].item() == pytest.approx(1 / 3, rel=1e-6)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("used", [5, 3], ids=["all classes", "two classes absent"])
def test_losses_and_gradients_agree_with_torch_and_smp(seed: int, used: int) -> None:
    logits, label = random_batch(seed, used=used)
    references = (
        (cross_entropy, lambda x: F.cross_entropy(x, label, ignore_index=IGNORE)),
        (dice, lambda x: smp.losses.DiceLoss("multiclass", from_logits=True, ignore_index=IGNORE)(x, label)),
    )
    for ours, reference in references:
        a, b = logits.clone().requires_grad_(), logits.clone().requires_grad_()
        value, expected = ours(a, label), reference(b)
        torch.testing.assert_close(value, expected)
        value.backward()
        expected.backward()
        torch.testing.assert_close(a.grad, b.grad)


def test_ignore_index_may_be_a_class_id() -> None:
    logits, label = random_batch(0)
    label[label == IGNORE] = 2
    moved = label.masked_fill(label == 2, IGNORE)
    for loss in (cross_entropy, dice):
        torch.testing.assert_close(loss(logits, label, ignore_index=2), loss(logits, moved))


@pytest.mark.parametrize("loss", [cross_entropy, dice, lambda x, y: dice(x, y, form="global")])
def test_ignored_pixels_change_nothing(loss) -> None:
    logits, label = random_batch(1)
    moved = torch.where((label == IGNORE)[:, None], torch.randn_like(logits), logits)
    torch.testing.assert_close(loss(moved, label), loss(logits, label))


@pytest.mark.parametrize("loss", [cross_entropy, dice, lambda x, y: dice(x, y, form="global")])
def test_nothing_counted_is_zero_with_a_graph(loss) -> None:
    logits = torch.randn(2, 3, 4, 4, requires_grad=True)
    value = loss(logits, torch.full((2, 4, 4), IGNORE))
    assert value.item() == 0
    value.backward()
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_impossible_class_without_truth_gives_no_nan() -> None:
    # class 1 has no truth and its probability underflows to 0: the Dice ratio would be 0 / 0
    logits = torch.tensor([200.0, -200.0]).view(1, 2, 1, 1).expand(1, 2, 4, 4).clone().requires_grad_()
    value = dice(logits, torch.zeros(1, 4, 4, dtype=torch.int64))
    value.backward()
    assert value.item() == 0
    assert torch.isfinite(logits.grad).all()


def test_prediction_distillation_by_hand() -> None:
    # Two pixels: teacher (3/4, 1/4), student (1/4, 3/4). Two pixels: both (3/4, 1/4).
    agree, differ = (3 / 4, 1 / 4), (1 / 4, 3 / 4)
    teacher = logits_of(agree, agree, agree, agree)
    student = logits_of(differ, differ, agree, agree)
    soft_differ = -(3 / 4 * log(1 / 4) + 1 / 4 * log(3 / 4))
    entropy = -(3 / 4 * log(3 / 4) + 1 / 4 * log(1 / 4))  # the soft cross-entropy where they agree
    soft = (soft_differ + entropy) / 2
    divergence = (3 / 4 * log(3) + 1 / 4 * log(1 / 3)) / 2  # KL, 0 where they agree
    hard = -(log(1 / 4) + log(3 / 4)) / 2  # the teacher's argmax is class 0 everywhere
    assert prediction_distillation(student, teacher).item() == pytest.approx(divergence + soft, rel=1e-6)
    assert prediction_distillation(student, teacher, form="soft_hard").item() == pytest.approx(
        soft + hard, rel=1e-6
    )


def test_prediction_distillation_is_twice_soft_cross_entropy_in_its_gradient() -> None:
    teacher, student = 3 * torch.randn(2, 6, 9, 7), 3 * torch.randn(2, 6, 9, 7)
    a, b = student.clone().requires_grad_(), student.clone().requires_grad_()
    prediction_distillation(a, teacher).backward()
    F.cross_entropy(b, teacher.softmax(1)).backward()
    assert torch.equal(a.grad, 2 * b.grad)


def test_prediction_distillation_agrees_with_torch_kl() -> None:
    teacher, student = 3 * torch.randn(2, 6, 9, 7), 3 * torch.randn(2, 6, 9, 7)
    log_p, log_q = teacher.log_softmax(1), student.log_softmax(1)
    divergence = F.kl_div(log_q, log_p, log_target=True, reduction="none").sum(1).mean()
    soft = -(log_p.exp() * log_q).sum(1).mean()
    torch.testing.assert_close(prediction_distillation(student, teacher), divergence + soft)


@pytest.mark.parametrize("form", ["kl_ce", "soft_hard"])
def test_distillation_does_not_scale_with_the_batch(form: str) -> None:
    teacher, student = torch.randn(1, 4, 6, 6), torch.randn(1, 4, 6, 6)
    one = prediction_distillation(student, teacher, form=form)
    eight = prediction_distillation(student.expand(8, -1, -1, -1), teacher.expand(8, -1, -1, -1), form=form)
    torch.testing.assert_close(one, eight)


def test_teacher_gets_no_gradient() -> None:
    student, teacher = (torch.randn(2, 4, 6, 6, requires_grad=True) for _ in range(2))
    loss = prediction_distillation(student, teacher)
    loss = loss + prediction_distillation(student, teacher, form="soft_hard")
    loss = loss + feature_distillation([student], [teacher])
    loss = loss + feature_distillation([student], [teacher], form="normalised")
    loss.backward()
    assert teacher.grad is None
    assert student.grad.abs().sum() > 0


def test_feature_distillation_by_hand() -> None:
    # map 1: differences 1, 1, 1, 3: (1 + 1 + 1 + 9) / 4 = 3. map 2: difference 2: 4. Mean: 7/2.
    student = [torch.tensor([[[[1.0, 1.0], [1.0, 3.0]]]]), torch.tensor([[[[5.0]]]])]
    teacher = [torch.zeros(1, 1, 2, 2), torch.tensor([[[[3.0]]]])]
    assert feature_distillation(student, teacher).item() == 3.5


def test_normalised_feature_distillation_is_1_minus_the_correlation_of_each_channel() -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(2, 3, 4, 5, generator=generator, dtype=torch.float64) for _ in range(2))
    correlations = [
        torch.corrcoef(torch.stack([student[:, c].flatten(), teacher[:, c].flatten()]))[0, 1]
        for c in range(3)
    ]
    wanted = 1 - torch.stack(correlations).mean().item()
    loss = feature_distillation([student], [teacher], form="normalised")
    assert loss.item() == pytest.approx(wanted, abs=1e-5)
    # Neither scales nor shifts of a channel count, and the whole range is used.
    scales = torch.tensor([0.1, 5.0, 80.0]).view(1, 3, 1, 1)
    moved = feature_distillation([scales * student - 7], [3 * teacher + scales], form="normalised")
    assert moved.item() == pytest.approx(wanted, abs=1e-3)
    for other, value in ((student, 0), (-student, 2)):
        assert feature_distillation([student], [other], form="normalised").item() == pytest.approx(
            value, abs=1e-4
        )


def test_a_channel_without_contrast_has_a_finite_gradient() -> None:
    student = torch.ones(1, 2, 3, 3, requires_grad=True)
    feature_distillation([student], [torch.randn(1, 2, 3, 3)], form="normalised").backward()
    assert torch.isfinite(student.grad).all()


@pytest.mark.parametrize("autocast", [True, False])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_losses_stay_finite_in_half_precision_with_large_logits(dtype: torch.dtype, autocast: bool) -> None:
    sign = torch.randint(0, 2, (2, 4, 16, 16)) * 2 - 1
    logits = (50 * sign).to(dtype).requires_grad_()
    teacher = (-50 * sign).to(dtype)
    label = torch.randint(0, 4, (2, 16, 16))
    with torch.autocast("cpu", dtype=dtype, enabled=autocast):
        losses = {
            **segmentation_loss(logits, label),
            "global": dice(logits, label, form="global"),
            "kl_ce": prediction_distillation(logits, teacher),
            "soft_hard": prediction_distillation(logits, teacher, form="soft_hard"),
            # 300 squared overflows float16
            "features": feature_distillation([6 * logits], [torch.zeros_like(teacher)]),
            "normalised": feature_distillation([6 * logits], [teacher], form="normalised"),
            "contrast": pixel_contrast(logits, label),
        }
    for name, loss in losses.items():
        assert loss.dtype == torch.float32, name
        assert torch.isfinite(loss), name
        (gradient,) = torch.autograd.grad(loss, logits, retain_graph=True)
        assert torch.isfinite(gradient).all(), name


def test_wrong_arguments_are_named() -> None:
    logits, label = random_batch(0)
    for loss in (cross_entropy, dice):
        with pytest.raises(ValueError, match=r"\(3, 5, 17, 11\) and \(1, 17, 11\)"):
            loss(logits, label[:1])
    with pytest.raises(OptionError, match="per-class"):
        dice(logits, label, form="mean")
    with pytest.raises(OptionError, match="soft_hard"):
        prediction_distillation(logits, logits, form="l2")
    with pytest.raises(OptionError, match="normalised"):
        feature_distillation([logits], [logits], form="l2")
    with pytest.raises(ValueError, match="same shape"):
        prediction_distillation(logits, logits[:1])
    with pytest.raises(ValueError, match="not 1 and 2"):
        feature_distillation([logits], [logits, logits])
    with pytest.raises(ValueError, match="at least one"):
        feature_distillation([], [])
    with pytest.raises(ValueError, match="same shape"):
        feature_distillation([logits], [logits[:, :1]])
