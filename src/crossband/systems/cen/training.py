"""How CEN is trained: cross-entropy of both streams and of their ensemble, and a penalty on unused channels.

Wang et al., TPAMI 2022 (arXiv 2112.02252); sources and licences are those of `crossband.systems.cen`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from crossband.losses.segmentation import cross_entropy
from crossband.pairs.batch import Batch
from crossband.systems.base import Output, Phase, Training
from crossband.systems.cen.network import CEN, gammas
from crossband.systems.cen.sparsity import halved_sparsity

OUTPUTS = 3
"""Visible, infrared and their ensemble: each has a loss, and the published code adds the penalty to each."""

_RECIPE: dict[str, object] = {
    "epochs": 200,
    "batch_size": 8,
    "lr": 5e-4,
    "weight_decay": 1e-5,
    "nesterov": False,
    "schedule": "drops",
    "drops": (1.0, 0.5, 0.2),
    "groups": {"decoder": {"lr": 3e-3, "drops": (1.0, 0.5, 0.7 / 3)}},
}
RECIPES: dict[str, Mapping[str, object]] = {
    "paper": _RECIPE,
    "as-published": {**_RECIPE, "epochs": 300, "batch_size": 6},
    # The decoder has no norms: at the high rate of a short run it needs its gradients clipped.
    "quick": {"groups": {"decoder": {"clip_norm": 1.0}}},
}
"""The rates of the published code, over the epochs of CSK-Net's comparison and over the code's own."""

AUGMENTATIONS: dict[str, Mapping[str, object]] = {
    "paper": {"crop": (480, 480), "scale": (0.5, 2.0)},
    "as-published": {"crop": (500, 500), "scale": (0.5, 2.0)},
}


@dataclass(frozen=True, kw_only=True)
class CENTraining(Training[CEN]):
    """sparsity_weight: weight lambda of the penalty on the batch norms' scales, which makes channels small
    enough to be exchanged; each of the three losses has it, so that its effect is three times that, and 0
    leaves it out.
    """

    sparsity_weight: float = 2e-4

    recipes: ClassVar[Mapping[str, Mapping[str, Any]]] = RECIPES
    augmentations: ClassVar[Mapping[str, Mapping[str, Any]]] = AUGMENTATIONS

    def phases(self, system: CEN) -> list[Phase]:
        """One phase. Its group "decoder" is the decoder and the weights of the ensemble."""
        return [
            Phase(
                "segmentation",
                trained=system,
                keeps=system,
                loss=lambda batch: self._loss(system, batch),
                groups={"decoder": nn.ModuleList([system.decoder, system.ensemble])},
            )
        ]

    def _loss(self, system: CEN, batch: Batch) -> dict[str, Tensor]:
        """Cross-entropy of each stream and of the ensemble, and the penalty of all three.

        With one band missing nothing is exchanged: only the other stream's cross-entropy is left.
        """
        label = batch.label
        assert label is not None
        output: Output = system(batch.visible, batch.infrared, features=True)
        terms = {f"ce_{band}": cross_entropy(logits, label) for band, logits in output.branches.items()}
        if batch.bands == "both":
            assert output.logits is not None
            terms["ce_ensemble"] = cross_entropy(output.logits, label)
            if system.settings.exchange and self.sparsity_weight > 0:
                penalty = halved_sparsity(gammas(system.visible), gammas(system.infrared))
                terms["sparsity"] = OUTPUTS * self.sparsity_weight * penalty
        return terms
