"""Time of counting a batch into the confusion matrix, against torchmetrics."""

from __future__ import annotations

from functools import partial

import torch
from torchmetrics.classification import MulticlassConfusionMatrix

from crossband.metrics.segmentation import SegmentationMetric
from crossband.words import IGNORE_INDEX
from measuring import Rates, Row, Settings, compare, milliseconds, time_in_turn
from reference import CLASSES, make_batch

CHECKED = "torchmetrics"
UNCHECKED = "torchmetrics, validate_args=False"
OURS = "SegmentationMetric"


def time_rows(settings: Settings, rates: Rates) -> list[Row]:
    """Ours always checks the ids' range; torchmetrics is timed both with its checks and without.

    Raises RuntimeError if the counts differ.
    """
    label = make_batch(settings).label
    assert label is not None
    prediction = label.roll(1)
    label = label.where(torch.rand(label.shape, device=label.device) > 0.05, IGNORE_INDEX)
    metric = SegmentationMetric(CLASSES)
    theirs = {
        name: MulticlassConfusionMatrix(CLASSES, ignore_index=IGNORE_INDEX, validate_args=checks).to(
            settings.device
        )
        for name, checks in ((CHECKED, True), (UNCHECKED, False))
    }
    runs = {OURS: lambda: metric.update(prediction, label)}
    runs |= {name: partial(other.update, prediction, label) for name, other in theirs.items()}
    seconds = time_in_turn(runs, settings)
    for name, other in theirs.items():
        if not torch.equal(metric.confusion, other.compute().cpu()):
            raise RuntimeError(f"our confusion matrix differs from that of {name}")
    floors = {OURS: rates.of_bytes(sum(ids.numel() * ids.element_size() for ids in (prediction, label)))}
    return [
        row
        for name in theirs
        for row in compare(
            "confusion matrix", {OURS: seconds[OURS], name: seconds[name]}, name, milliseconds, "less", floors
        )
    ]
