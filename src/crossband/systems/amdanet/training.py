"""What AMDANet is trained on: a1 L_seg + a2 L_fus + a3 L_cr, and the losses of our options for broken bands.

In the published code's terms, with l the logits, f the fused picture and l_m, f_m those of the masked pass:

    L_seg = CE(l) + 2 D(l),  L_fus = L_fus(f),  L_cr = 1/2 CE(l_m) + D(l_m) + 1/2 L_fus(f_m)

at a1 = 1 and a2 = a3 = 0.5 (the supplement's section 4). Every term has the ground truth, or the pair, as
its target; "consistency" is that both passes share it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from crossband.errors import OptionError
from crossband.losses.fusion import GradientTarget, MeanOver, fusion_loss
from crossband.losses.segmentation import DiceClasses, cross_entropy, smoothed_dice
from crossband.option_ranges import NOT_NEGATIVE, POSITIVE, Range
from crossband.pairs.batch import Batch
from crossband.systems.amdanet.aligned_encoder import AlignedLevels
from crossband.systems.amdanet.network import AMDANet, AMDANetFeatures
from crossband.systems.amdanet.reliability import (
    break_band,
    reconstruction_loss,
    reliability_loss,
    surviving_structure,
)
from crossband.systems.base import Output, Phase, Training
from crossband.words import Bands

Terms = dict[str, Tensor]

ABLATIONS: dict[str, dict[str, object]] = {
    "AMDANet": {},
    **{f"alpha 1 = {value}": {"a1": value} for value in (0.3, 0.5, 0.7)},
    **{f"alpha 2 = {value}": {"a2": value} for value in (0.3, 0.6, 0.7)},
    **{f"alpha 3 = {value}": {"a3": value} for value in (0.3, 0.6, 0.7)},
    **{f"tau = {value}": {"tau": value} for value in (0.2, 0.6, 0.8)},
    "w/o local alignment": {"local_alignment": "none"},
    "w/o global alignment": {"global_alignment": False},
    "w/o salient feature enhancement": {"salient_enhancement": False},
    "with CBAM": {"local_alignment": "cbam"},
    "with DANet": {"local_alignment": "danet"},
}
"""The rows of the supplement's tables 1 to 6, as options of the network and of the loss."""

VARIANTS: dict[str, dict[str, Any]] = {
    "clean": {},
    "as-published": {"dice_ignored_as_zero": True, "dice_classes": "all", "fusion_mean": "all"},
}
"""The defaults, and how the published code's losses differ from them."""

_RECIPE: dict[str, object] = {
    "epochs": 350,
    "batch_size": 6,
    "optimizer": "adamw",
    "lr": 6.3e-5,
    "weight_decay": 0.01,
    "decay_norms": False,
    "schedule": "poly",
    "schedule_per": "step",
    "power": 0.9,
    "warmup_epochs": 50,
}
RECIPES: dict[str, Mapping[str, object]] = {
    "paper": _RECIPE,
    "as-published": {**_RECIPE, "warmup": "replace", "schedule_lag": 1},
    "quick": {"optimizer": "adamw", "lr": 3e-4, "weight_decay": 0.01, "decay_norms": False},
}
"""The recipe of the published code for MFNet, without and with its learning rate's being a step late."""

_AUGMENTATION: dict[str, object] = {"crop": (480, 640), "scale": (0.5, 1.75)}
AUGMENTATIONS: dict[str, Mapping[str, object]] = {"paper": _AUGMENTATION, "as-published": _AUGMENTATION}


@dataclass(frozen=True, kw_only=True)
class AMDANetTraining(Training[AMDANet]):
    """a1: weight in the loss of the classes' own, L_seg (cross-entropy and Dice). a2: weight of the fused
    picture's, L_fus. a3: weight of L_cr, which is both of these once more on masked maps.
    dice_weight: weight of Dice in L_seg, beside a cross-entropy of weight 1. dice_classes: whether Dice is a
    mean over the classes "present" in a batch's labels or over "all", as published. dice_ignored_as_zero:
    whether Dice counts ignored pixels as class 0, as the published code does by mistake. fusion_gamma: see
    `fusion_loss`, above 0. intensity_weight: weight in L_fus of being as bright as the brighter band.
    gradient_weight: weight in L_fus of having the edges of the band with the stronger ones. colour_weight:
    weight in L_fus of having the visible image's colours.
    gradient_target: which band's gradient the fused picture should have: the "signed" larger one, as
    published, or that of larger "magnitude". fusion_mean: whether the means of L_fus are over the "valid"
    pixels or over "all".
    masked_ce_weight: weight in L_cr of the cross-entropy on masked maps. masked_dice_weight: weight in L_cr
    of Dice on masked maps. masked_fusion_weight: weight in L_cr of the fusion's loss on masked maps.
    broken_weight: weight of all losses on pairs with a broken band, which there are with reliability_gate or
    reconstruction. reconstruction_weight: weight of how unlike a broken band's predicted features are to its
    true ones. reliability_weight: weight of how unlike the bands' weights are to what is left of them.
    """

    a1: float = 1.0
    a2: float = 0.5
    a3: float = 0.5
    dice_weight: float = 2.0
    dice_classes: DiceClasses = "present"
    dice_ignored_as_zero: bool = False
    fusion_gamma: float = 0.8
    intensity_weight: float = 0.5
    gradient_weight: float = 1.0
    colour_weight: float = 1.0
    gradient_target: GradientTarget = "signed"
    fusion_mean: MeanOver = "valid"
    masked_ce_weight: float = 0.5
    masked_dice_weight: float = 1.0
    masked_fusion_weight: float = 0.5
    broken_weight: float = 0.5
    reconstruction_weight: float = 0.25
    reliability_weight: float = 0.25

    ranges: ClassVar[Mapping[str, Range]] = {
        "a1": NOT_NEGATIVE,
        "a2": NOT_NEGATIVE,
        "a3": NOT_NEGATIVE,
        "fusion_gamma": POSITIVE,
    }
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = VARIANTS
    recipes: ClassVar[Mapping[str, Mapping[str, Any]]] = RECIPES
    augmentations: ClassVar[Mapping[str, Mapping[str, Any]]] = AUGMENTATIONS

    def phases(self, system: AMDANet) -> list[Phase]:
        """One phase, on `training_loss`, validated on every combination of bands that it trains for."""
        validate: tuple[Bands, ...] = ("both", "infrared", "visible") if system.restores else ("both",)
        return [
            Phase(
                "amdanet",
                trained=system,
                keeps=system,
                loss=lambda batch: training_loss(system, self, batch),
                validate=validate,
            )
        ]


@dataclass(frozen=True)
class _Broken:
    """Copies of the first pairs of a batch, one band of which is missing or broken.

    count: how many. band: 0 the visible, 1 the infrared one. missing: whether it counts as not there.
    survived: (B, 1, H, W), how much of it is left.
    """

    count: int
    band: int
    missing: bool
    images: tuple[Tensor, Tensor]
    survived: Tensor


def training_loss(system: AMDANet, training: AMDANetTraining, batch: Batch) -> Terms:
    """The named terms of the loss for a batch, weighted; their sum is minimised.

    With one band missing there is no picture to aim at: what is left is L_seg and its masked part. In
    evaluation the masked pass and the broken bands, which are random, are left out.
    Raises OptionError for a batch that leaves nothing: no label, and a band missing.
    """
    label = batch.label if system.segments else None
    both = batch.bands == "both"
    if label is None and not both:
        raise OptionError(
            "amdanet: without labels it is trained on the fused picture alone, which takes both bands; "
            "leave out augmentation.band_dropout"
        )
    if system.training and system.restores and both:
        return _with_broken_pairs(system, training, batch, label)
    output: Output = system(batch.visible, batch.infrared, features=True)
    return _clean_terms(system, training, batch, label, output.logits, output.fused, output.features)


def _clean_terms(
    system: AMDANet,
    training: AMDANetTraining,
    batch: Batch,
    label: Tensor | None,
    logits: Tensor | None,
    fused: Tensor | None,
    features: AMDANetFeatures,
) -> Terms:
    """a1 L_seg + a2 L_fus + a3 L_cr. logits, fused: of the batch's size, unlike features."""
    terms = _scaled(training.a1, _segmentation(training, logits, label))
    fusion = _fusion(training, fused, batch)
    terms |= _scaled(training.a2, fusion)
    if training.a3 > 0 and system.training:
        masked_logits, masked_fused = system.masked(features.levels, features.pictures)
        masked = _segmentation(training, _cropped(masked_logits, batch), label, masked=True)
        if masked_fused is not None:
            fusion = _fusion(training, _cropped(masked_fused, batch), batch)
        if fusion:
            masked["fusion"] = training.masked_fusion_weight * _sum(fusion)
        terms |= {f"masked_{name}": term for name, term in _scaled(training.a3, masked).items()}
    return terms


def _segmentation(
    training: AMDANetTraining, logits: Tensor | None, label: Tensor | None, *, masked: bool = False
) -> Terms:
    """Cross-entropy and Dice; nothing without a label."""
    if logits is None or label is None:
        return {}
    entropy_weight = training.masked_ce_weight if masked else 1.0
    dice_weight = training.masked_dice_weight if masked else training.dice_weight
    dice = smoothed_dice(
        logits, label, classes=training.dice_classes, ignored_as_zero=training.dice_ignored_as_zero
    )
    return {"ce": entropy_weight * cross_entropy(logits, label), "dice": dice_weight * dice}


def _fusion(training: AMDANetTraining, fused: Tensor | None, batch: Batch) -> Terms:
    """L_fus by terms; nothing if a band is missing."""
    visible, infrared = batch.visible, batch.infrared
    if visible is None or infrared is None:
        return {}
    assert fused is not None
    return fusion_loss(
        fused,
        visible,
        infrared,
        valid=batch.valid,
        gamma=training.fusion_gamma,
        intensity_weight=training.intensity_weight,
        gradient_weight=training.gradient_weight,
        colour_weight=training.colour_weight,
        gradient_target=training.gradient_target,
        mean_over=training.fusion_mean,
    )


def _with_broken_pairs(
    system: AMDANet, training: AMDANetTraining, batch: Batch, label: Tensor | None
) -> Terms:
    """The loss of a batch, and of half of its pairs once more with one band missing or broken.

    Both go through the network as one batch, so that batch norms see in training what they see later.
    """
    visible, infrared = batch.visible, batch.infrared
    assert visible is not None
    assert infrared is not None
    count, broken = len(visible), _break_some(system, visible, infrared)
    present = None
    if broken.missing:
        there = [visible.new_ones(count + broken.count, 1, 1, 1) for _ in range(2)]
        there[broken.band][count:] = 0
        present = (there[0], there[1])
    levels, pictures, _ = system.encode(
        system.pad(torch.cat([visible, broken.images[0]])),
        system.pad(torch.cat([infrared, broken.images[1]])),
        present,
    )
    fused = _cropped(system.fuse(levels.aligned, pictures), batch)
    logits = _cropped(system.segment(levels.shared, pictures[0].shape[-2:]), batch)
    assert fused is not None
    terms = _clean_terms(
        system,
        training,
        batch,
        label,
        None if logits is None else logits[:count],
        fused[:count],
        AMDANetFeatures(levels.first(count), (pictures[0][:count], pictures[1][:count])),
    )
    wanted = batch.first(broken.count)
    again = _scaled(
        training.a1, _segmentation(training, None if logits is None else logits[count:], wanted.label)
    )
    again["fusion"] = training.a2 * _sum(_fusion(training, fused[count:], wanted))
    terms |= {f"broken_{name}": term for name, term in _scaled(training.broken_weight, again).items()}
    return terms | _restoration_terms(training, levels, broken, count)


def _break_some(system: AMDANet, visible: Tensor, infrared: Tensor) -> _Broken:
    """Half of the pairs of a batch (rounded up) with one band broken; which band and how is drawn once.

    Without a gate a band cannot be told from a broken one, and is always missing; with one, half of the time.
    """
    count = (len(visible) + 1) // 2
    images = [visible[:count], infrared[:count]]
    band = int(torch.rand(()) < 0.5)
    missing = not system.enc.reliability_gate or bool(torch.rand(()) < 0.5)
    survived = torch.zeros_like(images[1])
    if not missing:
        # The pictures of a missing band stay in place: nothing of them gets through, but the batch norms of
        # its encoder must not learn from something that is never there later.
        true, images[band] = images[band], break_band(images[band])
        survived = surviving_structure(true, images[band])
    return _Broken(count, band, missing, (images[0], images[1]), survived)


def _restoration_terms(
    training: AMDANetTraining, levels: AlignedLevels, broken: _Broken, count: int
) -> Terms:
    """How badly the broken band's features were predicted, and what was left of it estimated."""
    terms: Terms = {}
    if levels.reconstructed:
        losses = []
        for predicted, own in zip(levels.reconstructed, levels.own, strict=True):
            true = own[broken.band]
            assert true is not None
            losses.append(reconstruction_loss(predicted[broken.band][count:], true[: broken.count]))
        terms["reconstruction"] = training.reconstruction_weight * torch.stack(losses).mean()
    if levels.trust_logits and not broken.missing:
        survived = [torch.ones_like(broken.survived)] * 2
        survived[broken.band] = broken.survived
        losses = [
            reliability_loss(logits[count:, ..., band], survived[band])
            for logits in levels.trust_logits
            for band in (0, 1)
        ]
        terms["reliability"] = training.reliability_weight * torch.stack(losses).mean()
    return terms


def _cropped(image: Tensor | None, batch: Batch) -> Tensor | None:
    """What was computed at the padded size, at the batch's own."""
    height, width = batch.size
    return None if image is None else image[..., :height, :width]


def _scaled(weight: float, terms: Terms) -> Terms:
    return {name: weight * term for name, term in terms.items()}


def _sum(terms: Terms) -> Tensor:
    return torch.stack(list(terms.values())).sum()
