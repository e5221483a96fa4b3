"""Time and peak memory of one optimisation step, against plain smp with cross-entropy and Dice."""

from __future__ import annotations

from collections.abc import Callable

import segmentation_models_pytorch as smp
import torch
from torch import nn

from crossband.recipe import Recipe
from crossband.systems import create
from crossband.systems.csknet.contrastive import pixel_contrast
from crossband.systems.csknet.projection import LevelProjections
from crossband.systems.csknet.training import CONTRASTED_STAGES
from crossband.systems.deeplabv3plus import build_network
from crossband.training.phase_module import PhaseModule
from crossband.words import IGNORE_INDEX
from measuring import (
    MEGABYTE,
    Rates,
    Row,
    Settings,
    compare,
    count_operations,
    in_child,
    megabytes,
    milliseconds,
    peak_memory,
    time_in_turn,
)
from reference import CLASSES, REFERENCE, make_batch, normalised, plain_network

SYSTEMS = {
    "DeepLabV3+": ("deeplabv3plus", 0),
    "CSK-Net, phase 1 (teacher)": ("csknet", 0),
    "CSK-Net, phase 2": ("csknet", 1),
}
"""Name of a system and index of its phase."""

CONTRAST_BATCH, CONTRAST_SIZE = 8, (480, 640)
CONTRAST_LIMIT = 300.0
"""Megabytes that the contrastive loss may add at that batch and size."""


def make_step(name: str, settings: Settings) -> Callable[[], None]:
    """A function that makes one step: loss, backward pass, optimiser."""
    return _plain_step(settings) if name == REFERENCE else _phase_step(*SYSTEMS[name], settings)


def _plain_step(settings: Settings) -> Callable[[], None]:
    network = plain_network(settings).train()
    batch, recipe = make_batch(settings), Recipe()
    assert batch.visible is not None
    image, label = normalised(batch.visible, settings.encoder), batch.label
    cross_entropy = nn.CrossEntropyLoss(ignore_index=IGNORE_INDEX)
    dice = smp.losses.DiceLoss("multiclass", ignore_index=IGNORE_INDEX)
    optimizer = torch.optim.SGD(
        network.parameters(),
        lr=recipe.lr,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
        nesterov=recipe.nesterov,
    )

    def step() -> None:
        optimizer.zero_grad()
        logits = network(image)
        (cross_entropy(logits, label) + dice(logits, label)).backward()
        optimizer.step()

    return step


def _phase_step(system: str, index: int, settings: Settings) -> Callable[[], None]:
    phase = create(system, classes=CLASSES, encoder=settings.encoder).phases()[index]
    module = PhaseModule(phase, Recipe(), CLASSES, seed=0).to(settings.device).train()
    batch, optimizer = make_batch(settings), module.configure_optimizers()

    def step() -> None:
        optimizer.zero_grad()
        torch.stack(list(module.terms(batch).values())).sum().backward()
        optimizer.step()

    return step


def time_rows(settings: Settings, rates: Rates) -> list[Row]:
    steps = {name: make_step(name, settings) for name in (REFERENCE, *SYSTEMS)}
    seconds = time_in_turn(steps, settings)
    floors = {name: rates.of_operations(count_operations(step)) for name, step in steps.items()}
    return compare("training step", seconds, REFERENCE, milliseconds, "less", floors)


def memory_rows(settings: Settings) -> list[Row]:
    """Each alternative in a fresh process per round; more rounds than three would say little more."""
    names = (REFERENCE, *SYSTEMS)
    peaks: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(min(settings.repeats, 3)):
        for name in names:
            peaks[name].append(in_child(step_memory, name, settings))
    return compare("training memory", peaks, REFERENCE, megabytes, "less")


def step_memory(name: str, settings: Settings) -> float:
    """Peak megabytes of making a network and training it for two steps (the second has momentum)."""

    def work() -> None:
        step = make_step(name, settings)
        step()
        step()

    return peak_memory(work, settings.device)


def contrast_rows(settings: Settings) -> list[Row]:
    height, width = CONTRAST_SIZE
    peak = in_child(contrast_memory, settings)
    return [
        Row(
            f"training memory: contrastive loss, {CONTRAST_BATCH} x {height} x {width}",
            "limit for EfficientNet-B3",
            megabytes(peak),
            megabytes(CONTRAST_LIMIT),
            (peak / CONTRAST_LIMIT,),
            "less",
        )
    ]


def contrast_memory(settings: Settings) -> float:
    """Peak megabytes that projections, contrastive loss and their backward pass add to the encoder's maps."""
    with torch.device("meta"):
        encoder = build_network(CLASSES, settings.encoder, None).encoder
        shapes = [maps.shape for maps in encoder(torch.empty(CONTRAST_BATCH, 3, *CONTRAST_SIZE))]
    maps = [torch.rand(shapes[stage]).to(settings.device).requires_grad_() for stage in CONTRASTED_STAGES]
    projections = LevelProjections([level.shape[1] for level in maps]).to(settings.device)
    label = torch.randint(CLASSES, (CONTRAST_BATCH, *CONTRAST_SIZE)).to(settings.device)
    prediction = label.roll(1)
    present = torch.cuda.memory_allocated() / MEGABYTE if settings.device.startswith("cuda") else 0.0

    def work() -> None:
        levels = [
            pixel_contrast(embeddings, label, prediction=prediction) for embeddings in projections(maps)
        ]
        torch.stack(levels).mean().backward()

    return peak_memory(work, settings.device) - present
