"""The Dice term of AMDANet's loss: worked by hand, and what ignored pixels and absent classes do to it."""

import pytest
import torch
from torch import Tensor

from crossband.errors import OptionError
from crossband.losses.segmentation import smoothed_dice
from crossband.words import IGNORE_INDEX

SMOOTH = 1e-5


def logits_of(probability: list[list[float]]) -> Tensor:
    """Logits (1, C, 1, N) whose softmax gives each pixel's probabilities (N rows of C)."""
    return torch.tensor(probability, dtype=torch.float64).log().T[None, :, None]


PROBABILITY = [[0.7, 0.2, 0.1], [0.5, 0.3, 0.2], [0.1, 0.8, 0.1], [0.25, 0.25, 0.5]]
# Per class of labels 0, 0, 1, ignored: 2 sum p y, and sum p + sum y.
RATIO_0 = (2 * 1.2 + SMOOTH) / (1.3 + 2 + SMOOTH)
RATIO_1 = (2 * 0.8 + SMOOTH) / (1.3 + 1 + SMOOTH)
RATIO_2 = SMOOTH / (0.4 + SMOOTH)


def label(*ids: int) -> Tensor:
    return torch.tensor(ids).view(1, 1, -1)


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({}, 1 - (RATIO_0 + RATIO_1) / 2),
        ({"classes": "all"}, 1 - (RATIO_0 + RATIO_1 + RATIO_2) / 3),
        # The fourth pixel counts as class 0, whose overlap and sums grow.
        (
            {"ignored_as_zero": True},
            1 - ((2.9 + SMOOTH) / (1.55 + 3 + SMOOTH) + (1.6 + SMOOTH) / (1.55 + 1 + SMOOTH)) / 2,
        ),
    ],
    ids=str,
)
def test_by_hand(options: dict, wanted: float) -> None:
    loss = smoothed_dice(logits_of(PROBABILITY), label(0, 0, 1, IGNORE_INDEX), **options)
    assert loss.item() == pytest.approx(wanted, rel=1e-9)


def test_ignored_pixels_change_nothing_but_in_the_published_form() -> None:
    logits = logits_of(PROBABILITY)
    other = logits.clone()
    other[0, :, 0, 3] = torch.tensor([9.0, -4.0, 0.0])
    truth = label(0, 0, 1, IGNORE_INDEX)
    for classes in ("present", "all"):
        assert smoothed_dice(logits, truth, classes=classes) == smoothed_dice(other, truth, classes=classes)
        assert smoothed_dice(logits, truth, classes=classes, ignored_as_zero=True) != smoothed_dice(
            other, truth, classes=classes, ignored_as_zero=True
        )


def test_an_absent_class_costs_something_only_over_all_classes() -> None:
    wrong = logits_of([[0.9, 0.1 - 1e-9, 1e-9], [0.1, 0.9 - 1e-9, 1e-9]])
    truth = label(0, 1)
    present = smoothed_dice(wrong, truth)
    assert present.item() == pytest.approx(0.1, abs=1e-4)
    # Whatever is predicted, its term is nearly 1 as soon as its probability is above the smoothing.
    assert smoothed_dice(wrong + torch.tensor([0.0, 0.0, 12.0]).view(3, 1, 1), truth, classes="all") > 1 / 3


@pytest.mark.parametrize("classes", ["present", "all"])
def test_nothing_counted_costs_nothing(classes: str) -> None:
    logits = torch.randn(2, 3, 4, 4, requires_grad=True)
    loss = smoothed_dice(logits, torch.full((2, 4, 4), IGNORE_INDEX), classes=classes)
    assert loss == 0
    loss.backward()
    assert not logits.grad.any()


def test_a_perfect_prediction_costs_nothing_and_halves_are_computed_in_float32() -> None:
    truth = torch.randint(0, 3, (2, 8, 8), generator=torch.Generator().manual_seed(0))
    logits = 60.0 * torch.nn.functional.one_hot(truth, 3).permute(0, 3, 1, 2)
    assert smoothed_dice(logits.half(), truth).item() == pytest.approx(0, abs=1e-6)
    assert smoothed_dice(logits.half(), truth).dtype == torch.float32


def test_refusals() -> None:
    with pytest.raises(OptionError, match='"present" or "all", not \'some\''):
        smoothed_dice(torch.zeros(1, 2, 3, 3), torch.zeros(1, 3, 3).long(), classes="some")
    with pytest.raises(ValueError, match="of the same size"):
        smoothed_dice(torch.zeros(1, 2, 3, 3), torch.zeros(1, 3, 4).long())
