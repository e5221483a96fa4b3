"""How SegMiF is trained: its fusion and its segmentation network in turns, each while the other rests.

Liu et al., ICCV 2023 (arXiv 2308.02097); sources and licences are those of `crossband.systems.segmif`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crossband.blocks.luma import luma, with_luma
from crossband.blocks.stand_in import stand_in
from crossband.blocks.tied import NORMS
from crossband.losses.segmentation import cross_entropy
from crossband.pairs.batch import Batch
from crossband.systems.base import Phase, Training
from crossband.systems.segmif.network import SegMiF
from crossband.systems.segmif.pseudo_target import imitation_loss, likeness_loss, pseudo_target

ROUNDS = 7
"""The most of them that the published recipe speaks of."""

_FUSION: Mapping[str, Any] = {
    "batch_size": 2,
    "optimizer": "adamw",
    "weight_decay": 0.01,
    "schedule_per": "step",
    "power": 1.0,
}
_SPARED: Mapping[str, Any] = {"encoder_norms": {"weight_decay": 0.0}}
"""All else decays: weights, biases, and the norms of the head."""


def _published_segmentation(number: int) -> dict[str, Any]:
    """The part in one round of a linear decay over 160,000 steps that goes on through all rounds.

    10,000 steps each on MFNet's 784 images; the first round warms up.
    """
    whole = 16
    left = whole - (number - 1)
    return {
        **_FUSION,
        "epochs": 26,
        "lr": 8e-5 * left / whole,
        "warmup_steps": 3000 if number == 1 else 0,
        "horizon": float(left),
        "groups": {**_SPARED, "head": {"lr": 8e-4 * left / whole}},
    }


def _rounds(
    fusion: Mapping[str, Any], segmentation: Callable[[int], Mapping[str, Any]], **first: Any
) -> dict[str, Any]:
    """Recipes of every phase: the fusion's rate is divided by the round; ``first`` is of the first alone."""
    recipes: dict[str, Any] = {}
    for number in range(1, ROUNDS + 1):
        own = {**fusion, "lr": fusion["lr"] / number, **(first if number == 1 else {})}
        recipes |= {f"fusion-{number}": own, f"segmentation-{number}": dict(segmentation(number))}
    return recipes


def _one_decay(number: int, *, lr: float, warmup_steps: int = 0, **fields: Any) -> dict[str, Any]:
    """The part in one round of a polynomial decay of power 0.9 that goes on through all rounds.

    warmup_steps: of the first.
    """
    left = ROUNDS - number + 1
    return {
        **fields,
        "lr": lr * (left / ROUNDS) ** 0.9,
        "power": 0.9,
        "horizon": float(left),
        "warmup_steps": warmup_steps if number == 1 else 0,
    }


PHASE_RECIPES: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    # 6,000 steps in the first round and 4,000 in the others, of a decay over 20,000.
    "paper": _rounds(
        {**_FUSION, "lr": 1e-4, "epochs": 10, "horizon": 5.0},
        _published_segmentation,
        epochs=15,
        horizon=10 / 3,
    ),
    # 203 epochs of segmentation in seven rounds. A fusion by SGD at that rate would not get far in the time.
    "common": _rounds(
        {**_FUSION, "batch_size": 8, "lr": 1e-3, "epochs": 8}, partial(_one_decay, lr=5e-3, epochs=29)
    ),
    "quick": _rounds(
        {"lr": 1e-3, "epochs": 2, "warmup_steps": 5},
        partial(_one_decay, lr=1e-3, epochs=3, warmup_steps=5, groups=_SPARED),
        epochs=4,
    ),
}
RECIPES: Mapping[str, Mapping[str, Any]] = {
    "paper": _FUSION,
    "quick": {"optimizer": "adamw", "lr": 1e-3, "weight_decay": 0.01},
}
AUGMENTATIONS: Mapping[str, Mapping[str, Any]] = {
    "paper": {
        "crop": (320, 480),
        "scale": (0.5, 2.0),
        "brightness": 0.125,
        "contrast": 0.5,
        "saturation": 0.5,
    }
}


@dataclass(frozen=True, kw_only=True)
class SegMiFTraining(Training[SegMiF]):
    """rounds: how often fusion and segmentation are trained in turns. fusion_weight: weight of how unlike
    the picture is to its target, in the fusion's loss from the second round on; it is divided by the round.
    ssim_weight: within that, weight of the structure (1 - SSIM) beside the squared differences. ce_weight:
    weight of the classes' cross-entropy in the fusion's loss, by which pictures become good to segment.
    """

    rounds: Literal[1, 2, 3, 4, 5, 6, 7] = 7
    fusion_weight: float = 0.4
    ssim_weight: float = 1.1
    ce_weight: float = 0.8

    recipes: ClassVar[Mapping[str, Mapping[str, Any]]] = RECIPES
    phase_recipes: ClassVar[Mapping[str, Mapping[str, Mapping[str, Any]]]] = PHASE_RECIPES
    augmentations: ClassVar[Mapping[str, Mapping[str, Any]]] = AUGMENTATIONS

    def phases(self, system: SegMiF) -> list[Phase]:
        """``fusion-1``, ``segmentation-1``, ``fusion-2``, ...: each network learns while the other rests."""
        phases, segmenter = [], system.segmenter
        groups = {"encoder_norms": _norms(segmenter.encoder), "head": segmenter.head}
        for number in range(1, self.rounds + 1):
            phases += [
                Phase(
                    f"fusion-{number}",
                    trained=system.fusion,
                    keeps=system,
                    loss=partial(self._fusion_loss, system, number),
                    frozen=(system.segmenter,),
                    # The classes of a picture whose segmentation is not trained yet say nothing about it.
                    chooses="loss",
                ),
                Phase(
                    f"segmentation-{number}",
                    trained=system.segmenter,
                    keeps=system,
                    loss=partial(self._segmentation_loss, system),
                    frozen=(system.fusion,),
                    groups=groups,
                ),
            ]
        return phases

    def _fusion_loss(self, system: SegMiF, number: int, batch: Batch) -> dict[str, Tensor]:
        """Of the first round, against the target alone; of round r > 1,

        (fusion_weight / r) [MSE + ssim_weight (1 - SSIM)] + ce_weight CE of the classes in the picture.
        """
        visible, infrared = stand_in(batch.visible, batch.infrared)
        height, width = visible.shape[-2:]
        padded, valid = system.pad(visible), batch.valid
        assert padded is not None
        grey = system.fuse(padded, system.pad(infrared), _padded_valid(batch, padded))  # type: ignore[arg-type]
        target = pseudo_target(luma(visible), infrared, valid, kind=system.settings.target)
        if number == 1:
            return imitation_loss(grey[..., :height, :width], target, valid)
        likeness = likeness_loss(grey[..., :height, :width], target, valid, ssim_weight=self.ssim_weight)
        terms = {name: self.fusion_weight / number * term for name, term in likeness.items()}
        return terms | {"ce": self.ce_weight * _cross_entropy(system, with_luma(padded, grey), batch)}

    def _segmentation_loss(self, system: SegMiF, batch: Batch) -> dict[str, Tensor]:
        """Cross-entropy of the classes in the picture that the resting fusion network makes."""
        visible, infrared = (system.pad(band) for band in stand_in(batch.visible, batch.infrared))
        assert visible is not None
        assert infrared is not None
        with torch.no_grad():
            picture = with_luma(visible, system.fuse(visible, infrared, _padded_valid(batch, visible)))
        # Casts of the encoder's weights that autocast kept there would carry no gradient here.
        torch.clear_autocast_cache()
        return {"ce": _cross_entropy(system, picture, batch)}


def _norms(encoder: nn.Module) -> nn.ModuleList:
    return nn.ModuleList(module for module in encoder.modules() if isinstance(module, NORMS))


def _padded_valid(batch: Batch, padded: Tensor) -> Tensor | None:
    """The batch's valid pixels (B, H, W) at the size of a padded image (B, C, H, W)."""
    if batch.valid is None:
        return None
    below, right = (
        large - small for large, small in zip(padded.shape[-2:], batch.valid.shape[-2:], strict=True)
    )
    return F.pad(batch.valid, (0, right, 0, below))


def _cross_entropy(system: SegMiF, picture: Tensor, batch: Batch) -> Tensor:
    """Of the classes in a picture (B, 3, H, W) of the padded size."""
    label = batch.label
    assert label is not None
    return cross_entropy(system.segmenter(picture)[..., : label.shape[-2], : label.shape[-1]], label)
