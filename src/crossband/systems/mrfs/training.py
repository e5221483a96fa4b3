"""How MRFS is trained: cross-entropy and a tenth of a fusion loss, in one phase.

Zhang et al., CVPR 2024; sources and licences are those of `crossband.systems.mrfs`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from crossband.errors import OptionError
from crossband.losses.fusion import GradientTarget, MeanOver, fusion_loss
from crossband.losses.segmentation import cross_entropy
from crossband.option_ranges import NOT_NEGATIVE, POSITIVE, Range
from crossband.pairs.batch import Batch
from crossband.systems.base import Output, Phase, Training
from crossband.systems.mrfs.network import MRFS

VARIANTS: dict[str, dict[str, Any]] = {
    "mfnet": {},
    "pst900": {"fusion_contrast": 1.8},
    "fmb": {"fusion_gamma": 0.8, "fusion_contrast": 1.0, "gradient_weight": 1.0},
    "as-published": {"fusion_mean": "all"},
}
"""What the published code sets for each benchmark, and how it differs from the defaults on all of them."""

_RECIPE: dict[str, object] = {
    "epochs": 300,
    "batch_size": 6,
    "optimizer": "adamw",
    "lr": 6e-5,
    "weight_decay": 0.01,
    "decay_norms": False,
    "schedule": "poly",
    "schedule_per": "step",
    "power": 0.9,
    "warmup_epochs": 10,
}
RECIPES: dict[str, Mapping[str, object]] = {
    "paper": _RECIPE,
    "as-published": {**_RECIPE, "warmup_epochs": 5000, "warmup": "replace", "schedule_lag": 1},
    "quick": {"optimizer": "adamw", "lr": 3e-4, "weight_decay": 0.01, "decay_norms": False},
}
"""The published code's recipe with a warm-up that ends, and as it is: its rate rises over 5000 epochs."""

_AUGMENTATION: dict[str, object] = {"crop": (480, 640), "scale": (0.5, 1.75)}


@dataclass(frozen=True, kw_only=True)
class MRFSTraining(Training[MRFS]):
    """fusion_weight: weight in the loss of the fused picture's, L_fus, beside the classes' cross-entropy of
    weight 1.
    fusion_gamma: the power to which the visible image is raised first, V = Vis^gamma, above 0; below 1 it
    becomes brighter.
    fusion_contrast: factor of the infrared image's contrast; 1 leaves it as it is. intensity_weight: weight
    in L_fus of being as bright as the brighter band. gradient_weight: weight in L_fus of having the edges of
    the band with the stronger ones. colour_weight: weight in L_fus of having the visible image's colours.
    gradient_target: which band's gradient the fused picture should have: the "signed" larger one, as
    published, or that of larger "magnitude". fusion_mean: whether the means of L_fus are over the "valid"
    pixels or over "all".

    See `fusion_loss`. The defaults are those for MFNet; variants have those for others.
    """

    fusion_weight: float = 0.1
    fusion_gamma: float = 0.5
    fusion_contrast: float = 1.7
    intensity_weight: float = 0.5
    gradient_weight: float = 0.2
    colour_weight: float = 1.0
    gradient_target: GradientTarget = "signed"
    fusion_mean: MeanOver = "valid"

    ranges: ClassVar[Mapping[str, Range]] = {"fusion_gamma": POSITIVE, "fusion_contrast": NOT_NEGATIVE}
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = VARIANTS
    recipes: ClassVar[Mapping[str, Mapping[str, Any]]] = RECIPES
    augmentations: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": _AUGMENTATION,
        "as-published": _AUGMENTATION,
    }

    def phases(self, system: MRFS) -> list[Phase]:
        """One phase, on cross-entropy and 0.1 L_fus."""
        return [Phase("mrfs", trained=system, keeps=system, loss=lambda batch: self._loss(system, batch))]

    def _loss(self, system: MRFS, batch: Batch) -> dict[str, Tensor]:
        """CE(l) + 0.1 L_fus(f). Without a label, or with one band missing, the part that is still defined."""
        visible, infrared = batch.visible, batch.infrared
        label = batch.label if system.segments else None
        output: Output = system(visible, infrared, features=False)
        terms: dict[str, Tensor] = {}
        if label is not None:
            assert output.logits is not None
            terms["ce"] = cross_entropy(output.logits, label)
        if visible is not None and infrared is not None:
            assert output.fused is not None
            parts = fusion_loss(
                output.fused,
                visible,
                infrared,
                valid=batch.valid,
                gamma=self.fusion_gamma,
                contrast=self.fusion_contrast,
                intensity_weight=self.intensity_weight,
                gradient_weight=self.gradient_weight,
                colour_weight=self.colour_weight,
                gradient_target=self.gradient_target,
                mean_over=self.fusion_mean,
            )
            terms |= {name: self.fusion_weight * part for name, part in parts.items()}
        if not terms:
            raise OptionError(
                f"mrfs: without labels it is trained on the fused picture alone, which takes both bands, and "
                f"not {batch.bands} alone; leave out augmentation.band_dropout"
            )
        return terms
