"""How CDDFuse is trained: reconstruction (stage I), fusion (stage II), and labels on fused pictures.

Zhao et al., CVPR 2023 (arXiv 2211.14461); sources and licences are those of `crossband.systems.cddfuse`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from crossband.blocks.luma import luma
from crossband.pairs.batch import Batch
from crossband.systems.base import Phase, Training
from crossband.systems.cddfuse import losses
from crossband.systems.cddfuse.network import CDDFuse, greys
from crossband.systems.deeplabv3plus import DeepLabV3PlusTraining

_ADAM: dict[str, object] = {
    "optimizer": "adam",
    "lr": 1e-4,
    "weight_decay": 0.0,
    "clip_norm": 0.01,
    "schedule": "drops",
}
_GOING_ON = {"drops": (1 / 4, 1 / 8, 1 / 16, 1 / 32)}
_FUSION_PHASES: dict[str, Mapping[str, Any]] = {
    "reconstruction": {**_ADAM, "epochs": 40, "drops": (1, 1 / 2)},
    "fusion": {
        **_ADAM,
        "epochs": 80,
        "drops": (1, 1 / 2, 1 / 4, 1 / 8),
        "groups": {"encoder": _GOING_ON, "decoder": _GOING_ON},
    },
}
_QUICK = {**_ADAM, "lr": 1e-3, "schedule": "poly", "epochs": 10, "warmup_steps": 0}
PHASE_RECIPES: dict[str, Mapping[str, Mapping[str, Any]]] = {
    "paper": _FUSION_PHASES,
    "common": _FUSION_PHASES,
    "quick": {"reconstruction": _QUICK, "fusion": _QUICK},
}
"""The published rates are halved every 20 epochs; encoder and decoder go on where reconstruction ended, if
there was any (`CDDFuseTraining.recipe_of`)."""

_CROPS = {phase: {"crop": (128, 128)} for phase in _FUSION_PHASES}
PHASE_AUGMENTATIONS: dict[str, Mapping[str, Mapping[str, Any]]] = dict.fromkeys(PHASE_RECIPES, _CROPS)


VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "light": {
        "gradient_weight": 1.25,
        "decomposition_weight": 0.0,
        "fidelity_weight": 0.1,
        "difference_weight": 0.1,
        "reconstruction": False,
    }
}


@dataclass(frozen=True, kw_only=True)
class CDDFuseTraining(Training[CDDFuse]):
    """reconstruction: whether stage I comes first, in which the network learns to give back each band; its
    weights are what the fusion starts from. ssim_weight: weight of structure (1 - SSIM) in the loss of stage
    I, beside squared differences. edge_weight: weight there of the visible image's edges.
    gradient_weight: weight in the fusion's loss of having the edges of the band with the stronger ones,
    beside being as bright as the brighter one. decomposition_weight: weight in both stages of L_dec, by which
    coarse features of the two bands become alike and fine ones differ.
    fidelity_weight: weight in the fusion's loss of `fidelity` (VIF); ours, and 0 leaves it out.
    visible_fidelity_weight: weight there of the visible image's share of it alone; ours, and 0 leaves it out.
    difference_weight: weight there of `difference_correlation` (SCD); ours, and 0 leaves it out.
    preservation_weight: weight there of `edge_preservation` (Qabf); ours, and 0 leaves it out.

    The losses are in `crossband.systems.cddfuse.losses`.
    """

    ssim_weight: float = 5.0
    edge_weight: float = 5.0
    gradient_weight: float = 10.0
    decomposition_weight: float = 2.0
    fidelity_weight: float = 0.0
    visible_fidelity_weight: float = 0.0
    difference_weight: float = 0.0
    preservation_weight: float = 0.0
    reconstruction: bool = True

    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = VARIANTS
    phase_recipes: ClassVar[Mapping[str, Mapping[str, Mapping[str, Any]]]] = PHASE_RECIPES
    phase_augmentations: ClassVar[Mapping[str, Mapping[str, Mapping[str, Any]]]] = PHASE_AUGMENTATIONS

    def phases(self, system: CDDFuse) -> list[Phase]:
        """Reconstruction (stage I), if asked for, fusion (stage II) and, with classes, segmentation of fused
        pictures.
        """
        network, only_fusing = system.fusion, system.only_fusing()
        parts = {"encoder": network.encoder, "decoder": network.decoder}
        all_parts = {**parts, "base_fusion": network.base_fusion, "detail_fusion": network.detail_fusion}
        phases = []
        if self.reconstruction:
            phases.append(
                Phase(
                    "reconstruction",
                    trained=nn.ModuleDict(parts),
                    keeps=only_fusing,
                    loss=lambda batch: self._reconstruction(system, batch),
                    groups=parts,
                )
            )
        phases.append(
            Phase(
                "fusion",
                trained=network,
                keeps=only_fusing,
                loss=lambda batch: self._fusion(system, batch),
                groups=all_parts,
            )
        )
        if system.segmenter is not None:
            of_segmenter = DeepLabV3PlusTraining().phase("segmentation", system.segmenter)

            def loss(batch: Batch) -> Mapping[str, Tensor]:
                with torch.no_grad():
                    fused, _ = system.fuse(batch.visible, batch.infrared, batch.valid)
                return of_segmenter.loss(replace(batch, visible=fused))

            phases.append(
                Phase(
                    "segmentation",
                    trained=system.segmenter,
                    keeps=system,
                    loss=loss,
                    frozen=(network,),
                )
            )
        return phases

    def recipe_of(self, phase: str, recipe: str) -> Mapping[str, Any]:
        """Without a reconstruction to go on from, encoder and decoder start at the rate of all others."""
        changes = super().recipe_of(phase, recipe)
        if phase == "fusion" and not self.reconstruction:
            changes = {name: value for name, value in changes.items() if name != "groups"}
        return changes

    def _reconstruction(self, system: CDDFuse, batch: Batch) -> dict[str, Tensor]:
        """Stage I: each band restored from its own parts, onto its own image."""
        bands = {"visible": batch.visible, "infrared": batch.infrared}
        made, terms = {}, {}
        for band, picture in bands.items():
            if picture is None:
                continue
            image = luma(picture) if band == "visible" else picture
            made[band] = system.fusion.encoder(image)
            restored = system.fusion.decoder(image, *made[band])
            ssim = losses.ssim_loss(restored, image, batch.valid)
            terms[f"ssim_{band}"] = self.ssim_weight * ssim
            terms[f"mse_{band}"] = losses.squared_error(restored, image, batch.valid)
            if band == "visible":
                edges = losses.edge_loss(restored, image, batch.valid)
                terms["edges_visible"] = self.edge_weight * edges
        if len(made) == len(bands):
            base, detail = zip(made["visible"], made["infrared"], strict=True)
            terms["decomposition"] = self._decomposition(base, detail, batch.valid)
        return terms

    def _fusion(self, system: CDDFuse, batch: Batch) -> dict[str, Tensor]:
        """Stage II: the fused image, before it is spread, against the brighter and the steeper of the two."""
        visible, infrared = greys(batch.visible, batch.infrared)
        fused, base, detail = system.fusion(visible, infrared)
        gradient = losses.joint_gradient_loss(fused, visible, infrared, batch.valid)
        terms = {
            "intensity": losses.intensity_loss(fused, visible, infrared, batch.valid),
            "gradient": self.gradient_weight * gradient,
        }
        if self.fidelity_weight or self.visible_fidelity_weight:
            kept = losses.fidelity(fused, visible, infrared, batch.valid)
            if self.fidelity_weight:
                terms["fidelity"] = self.fidelity_weight * (2 - kept.sum())
            if self.visible_fidelity_weight:
                terms["visible_fidelity"] = self.visible_fidelity_weight * (1 - kept[0])
        if self.preservation_weight:
            preserved = losses.edge_preservation(fused, visible, infrared, batch.valid)
            terms["preservation"] = self.preservation_weight * (1 - preserved)
        if self.difference_weight and visible is not infrared:
            added = losses.difference_correlation(fused, visible, infrared, batch.valid)
            terms["difference"] = self.difference_weight * (2 - added)
        if self.decomposition_weight and visible is not infrared:
            terms["decomposition"] = self._decomposition(base, detail, batch.valid)
        return terms

    def _decomposition(self, base: losses.Pair, detail: losses.Pair, valid: Tensor | None) -> Tensor:
        return self.decomposition_weight * losses.decomposition_loss(base, detail, valid)
