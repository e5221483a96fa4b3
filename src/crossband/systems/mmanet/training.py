"""How MMANet is trained: four cross-entropies, margin-aware distillation, modality-aware regularisation.

Wei, Luo, Luo, CVPR 2023 (arXiv 2304.08028); sources and licences are those of `crossband.systems.mmanet`.

    L = L_seg                                for the first epochs
    L = L_seg + k L_MAD + a L_MAR            from then on
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from crossband.pairs.batch import Batch
from crossband.recipe import Recipe
from crossband.systems.base import Output, Phase
from crossband.systems.mmanet.esanet import Decoded, Decoder, bin_means
from crossband.systems.mmanet.margin import margin_aware_distillation, prediction_entropy
from crossband.systems.mmanet.multiscale import multiscale_cross_entropy
from crossband.words import IGNORE_INDEX, Band

if TYPE_CHECKING:
    from crossband.systems.mmanet.network import MMANet

Uncertainty = Literal["logits", "feature"]
Weak = Literal["mined", "infrared", "visible"]

LONE_BANDS: tuple[Band, ...] = ("infrared", "visible")
DISTILLED_GRID = (30, 40)
"""Rows and columns to which larger maps are averaged before they are compared."""


@dataclass
class _State:
    """What changes from epoch to epoch: whether there are MAD and MAR, and which band MAR works on."""

    taught: bool = True
    weak: Band = "infrared"


def plain_phase(name: str, system: MMANet, recipe: Recipe) -> Phase:
    """A phase of L_seg alone."""

    def loss(batch: Batch) -> dict[str, Tensor]:
        assert batch.label is not None
        output = system(batch.visible, batch.infrared, features=True)
        return segmentation_terms(system, output, batch.label)

    return Phase(name, trained=system, keeps=system, loss=loss, recipe=recipe)


def taught_phase(
    name: str, system: MMANet, teacher: MMANet | None, regularisation: Decoder | None, recipe: Recipe
) -> Phase:
    """The phase of the whole loss; a term whose module is None is left out.

    It is validated on each band alone too, which is how the weak one is found.
    """
    state = _State(weak="visible" if system.weak == "visible" else "infrared")
    students = nn.ModuleDict({"system": system})
    if regularisation is not None:
        students["regularisation"] = regularisation

    def loss(batch: Batch) -> dict[str, Tensor]:
        visible, infrared, label = batch.visible, batch.infrared, batch.label
        assert label is not None
        output = system(visible, infrared, features=True)
        terms = segmentation_terms(system, output, label)
        # Without both bands the teacher has nothing to teach.
        if state.taught and teacher is not None and visible is not None and infrared is not None:
            with torch.no_grad():
                taught = teacher(visible, infrared, features=True)
            terms["distill"] = system.distillation_weight * distillation(system, output, taught)
        if state.taught and regularisation is not None:
            term = weak_band_loss(system, output, label, regularisation, state.weak)
            terms["regularise"] = system.regularisation_weight * term
        return terms

    def prepare(epoch: int, rows: Sequence[Mapping[str, Any]]) -> None:
        warmup = warmup_length(system.warmup_epochs, phase.recipe.epochs)
        state.taught = epoch >= warmup
        if system.weak == "mined":
            state.weak = weak_band(rows, warmup)

    phase = Phase(
        name,
        trained=students,
        keeps=system,
        loss=loss,
        recipe=recipe,
        frozen=() if teacher is None else (teacher,),
        validate=("both", *LONE_BANDS),
        prepare=prepare,
    )
    return phase


def segmentation_terms(system: MMANet, output: Output, label: Tensor) -> dict[str, Tensor]:
    """L_seg by scale: cross-entropy at the full size, 1/8, 1/16 and 1/32. label: (B, H, W)."""
    assert output.logits is not None
    full = multiscale_cross_entropy([output.logits], label, weights=system.class_weights)
    sides = output.features["sides"]
    coarse = multiscale_cross_entropy(sides, system.pad_label(label), weights=system.class_weights)
    return dict(zip(("ce", "ce_8", "ce_16", "ce_32"), [*full, *coarse], strict=True))


def distillation(system: MMANet, output: Output, taught: Output) -> Tensor:
    """L_MAD: the sum over the context module's map (1/32) and the skips at 1/16 and 1/8.

    Maps of more than 30 rows or 40 columns are averaged down to these first.
    """
    uncertain = taught.features["decoder" if system.uncertainty == "feature" else "logits"]
    losses = []
    for student, teacher in zip(_compared(output), _compared(taught), strict=True):
        grid = tuple(map(min, student.shape[-2:], DISTILLED_GRID))
        losses.append(
            margin_aware_distillation(
                _pooled(student, grid),
                _pooled(teacher, grid),
                prediction_entropy(_pooled(uncertain, grid)),
                max_rows=system.max_rows,
            )
        )
    return torch.stack(losses).sum()


def weak_band_loss(system: MMANet, output: Output, label: Tensor, decoder: Decoder, weak: Band) -> Tensor:
    """L_MAR: L_seg of the second decoder on the pairs that have the weak band and nothing else.

    It decodes all pairs and only these count: so its batch norms never see a single pair, and it takes part
    in every step on every device. label: (B, H, W). Returns a scalar; zero, with a graph, without such pairs.
    """
    wanted = torch.tensor([weak == "visible", weak == "infrared"], device=label.device)
    lacking = (output.features["present"] == wanted).all(dim=1)
    counted = system.pad_label(label).masked_fill(~lacking[:, None, None], IGNORE_INDEX)
    decoded: Decoded = decoder(output.features["context"], output.features["skips"], sides=True)
    scales = [decoded.logits, *decoded.sides]
    return torch.stack(multiscale_cross_entropy(scales, counted, weights=system.class_weights)).sum()


def warmup_length(epochs: int, phase: int) -> int:
    """The epochs without MAD and MAR: so many, but at most a quarter of the phase, rounded up."""
    return min(epochs, math.ceil(phase / 4), phase - 1)


def weak_band(rows: Sequence[Mapping[str, Any]], warmup: int) -> Band:
    """The band with which alone most is lost: argmax_c sum_e (mIoU_both - mIoU_c)^2.

    The sum is over the epochs from six tenths of the warm-up to the one before its last: the 7th to the 10th
    of 11.
    rows: what was logged of the phase's earlier epochs. Infrared, as the published code assumes, if no such
    epoch was validated, or in a tie.
    """
    first = math.ceil(0.6 * warmup)
    last = max(first, warmup - 1)
    distance: dict[Band, float] = dict.fromkeys(LONE_BANDS, 0.0)
    for row in rows:
        if not first <= row["epoch"] <= last or "val_miou_both" not in row:
            continue
        for band in LONE_BANDS:
            lost = float(row["val_miou_both"]) - float(row[f"val_miou_{band}"])
            distance[band] += 0.0 if math.isnan(lost) else lost**2
    return max(LONE_BANDS, key=lambda band: distance[band])


def _compared(output: Output) -> list[Tensor]:
    return [output.features["context"], *output.features["skips"][:2]]


def _pooled(x: Tensor, grid: tuple[int, ...]) -> Tensor:
    return x if tuple(x.shape[-2:]) == grid else bin_means(x, (grid[0], grid[1]))
