"""What AMDANet is trained on: a1 L_seg + a2 L_fus + a3 L_cr, and the losses of our options for broken bands.

In the published code's terms, with l the logits, f the fused picture and l_m, f_m those of the masked pass:

    L_seg = CE(l) + 2 D(l),  L_fus = L_fus(f),  L_cr = 1/2 CE(l_m) + D(l_m) + 1/2 L_fus(f_m)

at a1 = 1 and a2 = a3 = 0.5 (the supplement's section 4). Every term has the ground truth, or the pair, as
its target; "consistency" is that both passes share it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from crossband.blocks.pyramid_encoder import LEVELS
from crossband.errors import OptionError
from crossband.losses.fusion import fusion_loss
from crossband.losses.segmentation import DiceClasses, cross_entropy, smoothed_dice
from crossband.pairs.batch import Batch, bands_of
from crossband.systems.amdanet.aligned_encoder import AlignedLevels, TwoGrids
from crossband.systems.amdanet.reliability import (
    break_band,
    reconstruction_loss,
    reliability_loss,
    surviving_structure,
)

if TYPE_CHECKING:
    from crossband.systems.amdanet.network import AMDANet

MaskSite = Literal["code", "modality"]
Terms = dict[str, Tensor]


@dataclass(frozen=True)
class LossSettings:
    """Weights and choices, as in the arguments of `AMDANet`. fusion: arguments of `fusion_loss`."""

    a1: float
    a2: float
    a3: float
    dice_weight: float
    dice_classes: DiceClasses
    dice_ignored_as_zero: bool
    fusion: Mapping[str, Any]
    masked_ce_weight: float
    masked_dice_weight: float
    masked_fusion_weight: float
    mask_keep: float
    mask_site: MaskSite
    broken_weight: float
    reconstruction_weight: float
    reliability_weight: float


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


def training_loss(system: AMDANet, batch: Batch) -> Terms:
    """The named terms of the loss for a batch, weighted; their sum is minimised.

    With one band missing there is no picture to aim at: what is left is L_seg and its masked part. In
    evaluation the masked pass and the broken bands, which are random, are left out.
    Raises OptionError for a batch that leaves nothing: no label, and a band missing.
    """
    visible, infrared, label = batch.visible, batch.infrared, batch.label
    both = bands_of(visible, infrared) == "both"
    if not system.segments:
        label = None
    if label is None and not both:
        raise OptionError(
            "amdanet: without labels it is trained on the fused picture alone, which takes both bands; "
            "leave out augmentation.band_dropout"
        )
    if system.training and system.restores and both:
        return _with_broken_pairs(system, batch, label)
    output = system(visible, infrared, features=True)
    return _clean_terms(system, batch, label, output.logits, output.fused, **output.features)


def _clean_terms(
    system: AMDANet,
    batch: Batch,
    label: Tensor | None,
    logits: Tensor | None,
    fused: Tensor | None,
    levels: AlignedLevels,
    pictures: tuple[Tensor, Tensor],
) -> Terms:
    """a1 L_seg + a2 L_fus + a3 L_cr. logits, fused: of the batch's size, unlike levels and pictures."""
    settings = system.loss_settings
    terms = _scaled(settings.a1, _segmentation(settings, logits, label))
    fusion = _fusion(settings, fused, batch)
    terms |= _scaled(settings.a2, fusion)
    if settings.a3 > 0 and system.training:
        masked_logits, masked_fused = masked_outputs(system, levels, pictures)
        masked = _segmentation(settings, _cropped(masked_logits, batch), label, masked=True)
        if masked_fused is not None:
            fusion = _fusion(settings, _cropped(masked_fused, batch), batch)
        if fusion:
            masked["fusion"] = settings.masked_fusion_weight * _sum(fusion)
        terms |= {f"masked_{name}": term for name, term in _scaled(settings.a3, masked).items()}
    return terms


def _segmentation(
    settings: LossSettings, logits: Tensor | None, label: Tensor | None, *, masked: bool = False
) -> Terms:
    """Cross-entropy and Dice; nothing without a label."""
    if logits is None or label is None:
        return {}
    entropy_weight = settings.masked_ce_weight if masked else 1.0
    dice_weight = settings.masked_dice_weight if masked else settings.dice_weight
    dice = smoothed_dice(
        logits, label, classes=settings.dice_classes, ignored_as_zero=settings.dice_ignored_as_zero
    )
    return {"ce": entropy_weight * cross_entropy(logits, label), "dice": dice_weight * dice}


def _fusion(settings: LossSettings, fused: Tensor | None, batch: Batch) -> Terms:
    """L_fus by terms; nothing if a band is missing."""
    visible, infrared = batch.visible, batch.infrared
    if visible is None or infrared is None:
        return {}
    assert fused is not None
    return fusion_loss(fused, visible, infrared, valid=batch.valid, **settings.fusion)


def masked_outputs(
    system: AMDANet, levels: AlignedLevels, pictures: tuple[Tensor, Tensor]
) -> tuple[Tensor | None, Tensor | None]:
    """Mutual feature mask learning: logits and fused picture of one masked pass, of the padded size.

    A share 1 - mask_keep of the elements is set to 0, without making the others larger.

    mask_site "code": with probability 1/2 the four shared maps are masked for the segmentation decoder, and
    the fused picture, which stays as it is, is returned as None; else the maps of both bands are masked for
    the fusion decoder, and the logits differ from the first ones by their dropout only.
    "modality": the maps of one band, drawn evenly, are masked before they are aligned, and both decoders
    run on what the alignment makes of that; the encoder's way goes on without masks.
    """
    settings = system.loss_settings
    size = pictures[0].shape[-2:]

    def masked(grid: Tensor) -> Tensor:
        return grid * torch.empty_like(grid).bernoulli_(settings.mask_keep)

    first = bool(torch.rand(()) < 0.5)
    if settings.mask_site == "modality":
        aligned: list[TwoGrids] = []
        shared: list[Tensor] = []
        for level, (x, y), trust in zip(LEVELS, levels.unaligned, levels.trust, strict=True):
            x, y = (masked(x), y) if first else (x, masked(y))
            x, y, common = system.enc.align(level, x, y, trust)
            aligned.append((x, y))
            shared += [] if common is None else [common]
        return system.segment(shared, size), system.fuse(aligned, pictures)
    if first and system.segments:
        return system.segment([masked(grid) for grid in levels.shared], size), None
    aligned = [(masked(x), masked(y)) for x, y in levels.aligned]
    return system.segment(levels.shared, size), system.fuse(aligned, pictures)


def _with_broken_pairs(system: AMDANet, batch: Batch, label: Tensor | None) -> Terms:
    """The loss of a batch, and of half of its pairs once more with one band missing or broken.

    Both go through the network as one batch, so that batch norms see in training what they see later.
    """
    visible, infrared = batch.visible, batch.infrared
    assert visible is not None
    assert infrared is not None
    settings = system.loss_settings
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
        batch,
        label,
        None if logits is None else logits[:count],
        fused[:count],
        levels.first(count),
        (pictures[0][:count], pictures[1][:count]),
    )
    wanted = _first_pairs(batch, broken.count)
    again = _scaled(
        settings.a1, _segmentation(settings, None if logits is None else logits[count:], wanted.label)
    )
    again["fusion"] = settings.a2 * _sum(_fusion(settings, fused[count:], wanted))
    terms |= {f"broken_{name}": term for name, term in _scaled(settings.broken_weight, again).items()}
    return terms | _restoration_terms(settings, levels, broken, count)


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


def _restoration_terms(settings: LossSettings, levels: AlignedLevels, broken: _Broken, count: int) -> Terms:
    """How badly the broken band's features were predicted, and what was left of it estimated."""
    terms: Terms = {}
    if levels.reconstructed:
        losses = []
        for predicted, own in zip(levels.reconstructed, levels.own, strict=True):
            true = own[broken.band]
            assert true is not None
            losses.append(reconstruction_loss(predicted[broken.band][count:], true[: broken.count]))
        terms["reconstruction"] = settings.reconstruction_weight * torch.stack(losses).mean()
    if levels.trust_logits and not broken.missing:
        survived = [torch.ones_like(broken.survived)] * 2
        survived[broken.band] = broken.survived
        losses = [
            reliability_loss(logits[count:, ..., band], survived[band])
            for logits in levels.trust_logits
            for band in (0, 1)
        ]
        terms["reliability"] = settings.reliability_weight * torch.stack(losses).mean()
    return terms


def _first_pairs(batch: Batch, count: int) -> Batch:
    def cut(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else tensor[:count]

    return Batch(
        visible=cut(batch.visible),
        infrared=cut(batch.infrared),
        label=cut(batch.label),
        valid=cut(batch.valid),
    )


def _cropped(image: Tensor | None, batch: Batch) -> Tensor | None:
    """What was computed at the padded size, at the batch's own."""
    band = batch.visible if batch.visible is not None else batch.infrared
    assert band is not None
    return None if image is None else image[..., : band.shape[-2], : band.shape[-1]]


def _scaled(weight: float, terms: Terms) -> Terms:
    return {name: weight * term for name, term in terms.items()}


def _sum(terms: Terms) -> Tensor:
    return torch.stack(list(terms.values())).sum()
