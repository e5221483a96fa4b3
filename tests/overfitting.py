"""Learning four generated scenes by heart, which a system whose losses and gradients are right can do."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from crossband.metrics.segmentation import SegmentationMetric
from crossband.pairs.batch import Batch
from crossband.pairs.loading import collate
from crossband.pairs.scenes import SCENE_CLASSES, Scenes
from crossband.systems.base import Phase, System
from crossband.words import Bands
from tiny_systems import resting

SCENE_CLASS_COUNT = len(SCENE_CLASSES)


def four_scenes(height: int = 16, width: int = 24) -> Batch:
    """Four scenes, each pixel of them magnified to the 4 x 4 pixels that one logit covers.

    What is left to learn is what is where, and no outline finer than a network's output.
    """
    pairs = Scenes("train", count=4, size=(height, width))
    batch = collate([pairs[index] for index in range(4)])
    for key in ("visible", "infrared", "label"):
        magnified = getattr(batch, key).repeat_interleave(4, dim=-1).repeat_interleave(4, dim=-2)
        setattr(batch, key, magnified)
    return batch


def fit(
    phase: Phase, batch: Batch, steps: int, rate: float, *, before_step: Callable[[], object] | None = None
) -> list[Mapping[str, float]]:
    """Optimise a phase on one batch; gives the loss of every step, by terms and as ``total``."""
    course = []
    with resting(phase):
        phase.trained.train()
        optimiser = torch.optim.AdamW(phase.trained.parameters(), lr=rate, weight_decay=0)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=rate, total_steps=steps)
        for _ in range(steps):
            terms: dict[str, Tensor] = dict(phase.loss(batch))
            terms["total"] = torch.stack(list(terms.values())).sum()
            optimiser.zero_grad()
            terms["total"].backward()
            if before_step is not None:
                before_step()
            optimiser.step()
            schedule.step()
            course.append({name: term.item() for name, term in terms.items()})
    return course


def mean_iou(system: System, batch: Batch, bands: Bands = "both") -> float:
    """Over the classes that occur, of which there must be eight or more; the system is left in eval mode."""
    assert batch.label is not None
    metric = SegmentationMetric(SCENE_CLASS_COUNT)
    given = batch.only(bands)
    with torch.no_grad():
        logits = system.eval()(given.visible, given.infrared).logits
    metric.update(logits.argmax(dim=1), batch.label)
    scores = metric.compute().protocols["present"]
    assert scores.classes_averaged >= 8
    return scores.mean_iou
