"""Confusion matrices and protocols: against scikit-learn, torchmetrics and hand-worked values."""

from math import isnan, nan

import numpy as np
import pytest
import torch
from sklearn.metrics import confusion_matrix as sklearn_confusion
from sklearn.metrics import jaccard_score
from torch import Tensor
from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex

from crossband.errors import OptionError
from crossband.metrics import (
    PROTOCOLS,
    SegmentationMetric,
    confusion_matrix,
    protocol_scores,
    segmentation_scores,
)

CLASSES = 9
IGNORE = 255

CASES = {
    "all classes": (range(9), range(9)),
    "absent from truth": ((0, 1, 2, 4, 5, 8), range(9)),
    "absent from both": ((0, 1, 2, 4), (0, 1, 2, 5)),
    "no background": ((1, 2, 3), (0, 1, 2, 3)),
}


@pytest.fixture(params=[(name, seed) for name in CASES for seed in range(3)], ids=str)
def pixels(request: pytest.FixtureRequest) -> tuple[Tensor, Tensor]:
    """(prediction, label), each (4, 32, 40), half of them right, a tenth ignored."""
    name, seed = request.param
    rng = np.random.default_rng(seed)
    truth, guessed = (list(ids) for ids in CASES[name])
    label = rng.choice(truth, (4, 32, 40))
    prediction = np.where(rng.random(label.shape) < 0.5, label, rng.choice(guessed, label.shape))
    label[rng.random(label.shape) < 0.1] = IGNORE
    return torch.from_numpy(prediction), torch.from_numpy(label)


def counted(prediction: Tensor, label: Tensor) -> tuple[np.ndarray, np.ndarray]:
    keep = label != IGNORE
    return label[keep].numpy(), prediction[keep].numpy()


def test_confusion_matrix_equals_scikit_learn(pixels: tuple[Tensor, Tensor]) -> None:
    expected = sklearn_confusion(*counted(*pixels), labels=range(CLASSES))
    found = confusion_matrix(*pixels, CLASSES)
    assert found.dtype == torch.int64
    assert np.array_equal(found.numpy(), expected)


def test_iou_agrees_with_torchmetrics(pixels: tuple[Tensor, Tensor]) -> None:
    def reference(average: str) -> np.ndarray:
        return MulticlassJaccardIndex(CLASSES, average=average, ignore_index=IGNORE)(*pixels).numpy()

    scores = segmentation_scores(confusion_matrix(*pixels, CLASSES))
    iou, support = np.nan_to_num(scores.iou), np.array(scores.support)
    assert iou == pytest.approx(reference("none"), abs=1e-6)
    assert scores.protocols["all-zero"].mean_iou == pytest.approx(reference("none").mean(), abs=1e-6)
    # torchmetrics' macro leaves out the classes that occur neither in truth nor in prediction
    assert scores.protocols["all-nan"].mean_iou == pytest.approx(reference("macro"), abs=1e-6)
    assert (iou * support).sum() / support.sum() == pytest.approx(reference("weighted"), abs=1e-6)


def test_accuracies_agree_with_torchmetrics(pixels: tuple[Tensor, Tensor]) -> None:
    scores = segmentation_scores(confusion_matrix(*pixels, CLASSES))
    recall = MulticlassAccuracy(CLASSES, average="none", ignore_index=IGNORE)(*pixels).numpy()
    micro = MulticlassAccuracy(CLASSES, average="micro", ignore_index=IGNORE)(*pixels).item()
    present = np.array(scores.support) > 0
    assert np.array(scores.accuracy)[present] == pytest.approx(recall[present], abs=1e-6)
    assert np.isnan(np.array(scores.accuracy)[~present]).all()
    assert scores.mean_class_accuracy == pytest.approx(recall[present].mean(), abs=1e-6)
    assert scores.pixel_accuracy == pytest.approx(micro, abs=1e-6)


def test_protocols_agree_with_scikit_learn(pixels: tuple[Tensor, Tensor]) -> None:
    truth, guess = counted(*pixels)
    expected = {
        "present": np.unique(truth),
        "all-nan": np.union1d(truth, guess),
        "all-zero": np.arange(CLASSES),
        "no-background": np.setdiff1d(truth, 0),
    }
    confusion = confusion_matrix(*pixels, CLASSES)
    assert set(PROTOCOLS) == set(expected)
    for protocol, ids in expected.items():
        score = protocol_scores(confusion, protocol)
        iou = jaccard_score(truth, guess, labels=ids, average="macro", zero_division=0)
        assert score.protocol == protocol
        assert score.ids == tuple(ids)
        assert score.classes_averaged == len(ids)
        assert score.mean_iou == pytest.approx(iou, abs=1e-12)


def test_one_stray_bicycle_pixel_on_fmb() -> None:
    """15 ids, no bicycle (13) in the truth: one pixel predicted as bicycle changes what is averaged."""
    rng = np.random.default_rng(0)
    label = rng.choice([i for i in range(15) if i != 13], 100_000)
    prediction = np.where(rng.random(label.shape) < 0.7, label, rng.permutation(label))
    clean = segmentation_scores(confusion_matrix(torch.tensor(prediction), torch.tensor(label), 15))
    prediction[np.flatnonzero(prediction == label)[0]] = 13
    stray = segmentation_scores(confusion_matrix(torch.tensor(prediction), torch.tensor(label), 15))

    x = clean.protocols["all-nan"].mean_iou
    assert stray.protocols["all-nan"].mean_iou == pytest.approx(x * 14 / 15, rel=1e-4)
    assert isnan(clean.iou[13])
    assert stray.iou[13] == 0
    averaged = {protocol: stray.protocols[protocol].classes_averaged for protocol in PROTOCOLS}
    assert averaged == {"present": 14, "all-nan": 15, "all-zero": 15, "no-background": 13}
    assert stray.protocols["present"].mean_iou == pytest.approx(x, rel=1e-4)
    assert stray.protocols["all-zero"].mean_iou == pytest.approx(x * 14 / 15, rel=1e-4)


def test_scores_by_hand() -> None:
    # truth 0: 6 right, 2 taken for 1. truth 1: 2 right. 2 and 3 are absent; 3 is predicted nowhere,
    # 2 takes one pixel of class 0's truth more.
    confusion = torch.tensor([[6, 2, 1, 0], [0, 2, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    scores = segmentation_scores(confusion)
    assert scores.iou == pytest.approx((6 / 9, 2 / 4, 0, nan), nan_ok=True)
    assert scores.support == (9, 2, 0, 0)
    assert scores.accuracy == pytest.approx((6 / 9, 1, nan, nan), nan_ok=True)
    assert scores.mean_class_accuracy == pytest.approx((6 / 9 + 1) / 2)
    assert scores.pixel_accuracy == pytest.approx(8 / 11)
    means = {protocol: score.mean_iou for protocol, score in scores.protocols.items()}
    sum_of_ious = 6 / 9 + 1 / 2
    assert means == pytest.approx(
        {
            "present": sum_of_ious / 2,
            "all-nan": sum_of_ious / 3,
            "all-zero": sum_of_ious / 4,
            "no-background": 1 / 2,
        }
    )


def test_nothing_counted_scores_nan() -> None:
    metric = SegmentationMetric(3)
    metric.update(torch.zeros(2, 4, 4, dtype=torch.uint8), torch.full((2, 4, 4), IGNORE))
    scores = metric.compute()
    assert scores.support == (0, 0, 0)
    assert isnan(scores.pixel_accuracy)
    assert isnan(scores.mean_class_accuracy)
    assert isnan(scores.protocols["present"].mean_iou)
    assert scores.protocols["present"].ids == ()


def test_metric_gathers_one_global_matrix(pixels: tuple[Tensor, Tensor]) -> None:
    prediction, label = pixels
    first, second = SegmentationMetric(CLASSES), SegmentationMetric(CLASSES)
    first.update(prediction[:1], label[:1])
    first.update(prediction[1:3], label[1:3])
    second.update(prediction[3:], label[3:])
    first.merge(second)
    whole = confusion_matrix(prediction, label, CLASSES)
    assert torch.equal(first.confusion, whole)
    assert first.compute().pixel_accuracy == segmentation_scores(whole).pixel_accuracy


def test_counts_do_not_saturate() -> None:
    metric = SegmentationMetric(2)
    metric.confusion[0, 0] = 2**53
    metric.update(torch.zeros(3, dtype=torch.int64), torch.zeros(3, dtype=torch.int64))
    assert metric.confusion[0, 0].item() == 2**53 + 3


def test_uint8_ids_do_not_overflow() -> None:
    label = torch.tensor([25, 3, 255], dtype=torch.uint8)
    prediction = torch.tensor([24, 25, 0], dtype=torch.uint8)
    confusion = confusion_matrix(prediction, label, 26)
    assert confusion.nonzero().tolist() == [[3, 25], [25, 24]]


def test_ignore_index_may_be_a_class_id() -> None:
    label, prediction = torch.tensor([0, 1, 1, 2]), torch.tensor([1, 0, 1, 2])
    confusion = confusion_matrix(prediction, label, 3, ignore_index=0)
    assert confusion.tolist() == [[0, 0, 0], [1, 1, 0], [0, 0, 1]]


@pytest.mark.parametrize(("ignore_index", "same_byte"), [(-100, 156), (-1, 255)])
def test_an_ignore_index_beyond_a_labels_type_ignores_none_of_its_ids(
    ignore_index: int, same_byte: int
) -> None:
    """-100 is what PyTorch's losses ignore, and in 8 bits it is 156: that class is still counted."""
    label = torch.tensor([same_byte, 0], dtype=torch.uint8)
    confusion = confusion_matrix(label, label, 256, ignore_index=ignore_index)
    assert confusion[same_byte, same_byte] == 1
    assert confusion.sum() == 2
    with pytest.raises(ValueError, match=f"the label holds id {same_byte}, but with 3 classes"):
        confusion_matrix(torch.zeros(2, dtype=torch.uint8), label, 3, ignore_index=ignore_index)


def test_wrong_arguments_are_named() -> None:
    ids = torch.tensor([0, 1, 2])
    with pytest.raises(ValueError, match=r"label holds id 3.*0\.\.2"):
        confusion_matrix(ids, torch.tensor([0, 1, 3]), 3)
    with pytest.raises(ValueError, match="label holds id -1"):
        confusion_matrix(ids, torch.tensor([0, 1, -1]), 3)
    with pytest.raises(ValueError, match="prediction holds id 2"):
        confusion_matrix(ids, torch.tensor([0, 1, 1]), 2)
    with pytest.raises(ValueError, match="argmax"):
        confusion_matrix(torch.rand(3), ids, 3)
    with pytest.raises(ValueError, match="same shape"):
        confusion_matrix(ids, ids[:2], 3)
    with pytest.raises(OptionError, match="no-background"):
        protocol_scores(torch.eye(3), "mean")
    with pytest.raises(ValueError, match="square"):
        segmentation_scores(torch.zeros(2, 3, dtype=torch.int64))
    with pytest.raises(ValueError, match="differ"):
        SegmentationMetric(3).merge(SegmentationMetric(4))


def test_a_prediction_under_an_ignored_label_is_never_looked_at() -> None:
    assert confusion_matrix(torch.tensor([0, 77]), torch.tensor([0, IGNORE]), 2).tolist() == [[1, 0], [0, 0]]
