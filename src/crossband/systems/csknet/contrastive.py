"""Contrastive loss between sampled pixels of a batch.

Eq. 10 of CSK-Net (Sikdar, Teotia, Sundaram, arXiv 2312.02240) with the semi-hard sampling it takes over
from PiPa (Chen et al., ACM MM 2023) and, through it, from Wang et al. (ICCV 2021). What the paper leaves
open, and what is done here:

- Pixels: eq. 10 sums over all Np pixels of the batch, whose pairs are too many to form. At most ``anchors``
  are drawn, and they are each other's positives and negatives: one (anchors x anchors) matrix is the
  largest thing that is made, whatever the size of the images. There is no memory bank.
- Balance: every class of every image gives one pixel in turn, up to ``per_class``, until ``anchors`` are
  drawn. What a small class cannot give goes to the others.
- Hard anchors: where a prediction is given, a class of an image gives a misclassified pixel and a correct
  one alternately, and goes on with the kind that is left when the other runs out.
- Semi-hard pairs: per anchor the ``hard_fraction`` of its positives with the lowest similarity and of its
  negatives with the highest, rounded, at least one of each.
- An anchor without a positive or without a negative is skipped, but still serves the others as a negative.

Sampling and loss never wait for a value of the GPU: all shapes follow from the shapes of the inputs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from crossband.errors import OptionError
from crossband.tensors import directions, without_autocast
from crossband.words import IGNORE_INDEX


@dataclass(frozen=True)
class PixelSampling:
    """Which pixels meet in the contrastive loss; the defaults are those of PiPa.

    anchors: most pixels drawn from a batch; time and memory grow with its square.
    per_class: most pixels drawn from one class of one image.
    hard_fraction: share of an anchor's positives and of its negatives that is kept, in (0, 1]; 1 keeps all.
    hard_anchors: draw half of the pixels from the misclassified ones, where a prediction is given.

    Raises OptionError for a value out of its range.
    """

    anchors: int = 1024
    per_class: int = 100
    hard_fraction: float = 0.1
    hard_anchors: bool = True

    def __post_init__(self) -> None:
        if self.anchors < 1 or self.per_class < 1:
            raise OptionError(
                f"anchors and per_class must be at least 1, not {self.anchors} and {self.per_class}"
            )
        if not 0 < self.hard_fraction <= 1:
            raise OptionError(f"hard_fraction must lie in (0, 1], not {self.hard_fraction}")


DEFAULT_SAMPLING = PixelSampling()


def pixel_contrast(
    embeddings: Tensor,
    label: Tensor,
    *,
    prediction: Tensor | None = None,
    temperature: float = 0.1,
    sampling: PixelSampling = DEFAULT_SAMPLING,
    ignore_index: int = IGNORE_INDEX,
    generator: torch.Generator | None = None,
) -> Tensor:
    """L_CL of eq. 10: pixels of one class attract each other, pixels of different classes repel.

    The mean over anchors i and their kept positives j of
    ``-log( r(i, j) / (r(i, j) + sum_k r(i, k)) )``, k over the kept negatives of i, with
    ``r(i, j) = exp(cosine(e_i, e_j) / temperature)``. Embeddings are normalised here, and everything is
    computed in float32 or better, under autocast too. Gradients reach the anchor and what it is compared to.

    embeddings: (B, D, h, w) float, of any length. label: (B, H, W) int64 class ids; ignore_index never
    takes part. prediction: (B, H, W) int64 class ids, or None; see `PixelSampling.hard_anchors`. Both are
    downsampled to (h, w) by taking the nearest pixel. generator: source of the random draw, on any device;
    None takes PyTorch's own.

    Returns a scalar in nats; zero, with a graph, if no anchor has both a positive and a negative. Raises
    ValueError if the shapes disagree, OptionError if the temperature is not positive.
    """
    _check(embeddings, label, prediction, temperature)
    height, width = embeddings.shape[2:]
    label = _nearest(label, height, width)
    if prediction is not None:
        prediction = _nearest(prediction, height, width)
    chosen, counted = sample_pixels(label, prediction, sampling, ignore_index, generator)
    image, pixel = chosen // (height * width), chosen % (height * width)
    with without_autocast(embeddings):
        units = directions(embeddings.flatten(2)[image, :, pixel])
        similarity = units @ units.T / temperature
        return _info_nce(similarity, label.flatten()[chosen], counted, sampling.hard_fraction)


def sample_pixels(
    label: Tensor,
    prediction: Tensor | None,
    sampling: PixelSampling,
    ignore_index: int = IGNORE_INDEX,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Draw pixels at random, balanced over the classes of each image; see the head of this module.

    label: (B, h, w) int64. prediction: the same, or None.
    Returns two tensors of length A = min(anchors, B h w): indices into ``label.flatten()``, none of them
    twice, and whether each may be used, False in the places for which no pixel was left.
    """
    total = label.numel()
    device = label.device if generator is None else generator.device
    # One shuffle is all the randomness: from here on, stable sorts settle every tie by its order.
    shuffle = torch.randperm(total, generator=generator, device=device).to(label.device)
    truth = label.flatten()[shuffle]
    counted = truth != ignore_index
    # The ignored pixels of an image are a group of their own, so that they take no turn of a class.
    kind = (truth + 1).masked_fill(~counted, 0)
    group = shuffle // label[0].numel() * (kind.max() + 1) + kind
    if prediction is not None and sampling.hard_anchors:
        correct = prediction.flatten()[shuffle] == truth
        turn = _rank_in_group(group, _rank_in_group(2 * group + correct))
    else:
        turn = _rank_in_group(group)
    usable = counted & (turn < sampling.per_class)
    drawn = turn.masked_fill(~usable, total).argsort(stable=True)[: sampling.anchors]
    return shuffle[drawn], usable[drawn]


def _rank_in_group(group: Tensor, key: Tensor | None = None) -> Tensor:
    """Place of each element among those of its group, from 0, by key (in 0..N-1) and then by position."""
    order = (group if key is None else group * len(group) + key).argsort(stable=True)
    members = group[order]
    place = torch.arange(len(group), device=group.device) - torch.searchsorted(members, members)
    return torch.empty_like(place).scatter(0, order, place)


def _info_nce(similarity: Tensor, label: Tensor, counted: Tensor, hard_fraction: float) -> Tensor:
    """InfoNCE over the semi-hard pairs. similarity: (A, A), over the temperature. label, counted: (A,)."""
    same = label[:, None] == label
    usable = counted[:, None] & counted
    itself = torch.eye(len(label), dtype=torch.bool, device=label.device)
    nearness, is_positive = _largest(-similarity, usable & same & ~itself, hard_fraction)
    farthest = -nearness
    nearest, is_negative = _largest(similarity, usable & ~same, hard_fraction)
    repulsion = nearest.masked_fill(~is_negative, _lowest(nearest)).logsumexp(dim=1, keepdim=True)
    # softplus(log sum_k r_ik - log r_ij) = -log(r_ij / (r_ij + sum_k r_ik)), without overflow
    pairs = torch.where(is_positive, F.softplus(repulsion - farthest), 0)
    anchors = pairs.sum(dim=1) / is_positive.sum(dim=1).clamp(min=1)
    valid = is_positive.any(dim=1) & is_negative.any(dim=1)
    return torch.where(valid, anchors, 0).sum() / valid.sum().clamp(min=1)


def _largest(values: Tensor, member: Tensor, fraction: float) -> tuple[Tensor, Tensor]:
    """Per row, the largest share of the members' values.

    values, member: (A, A). Returns the values (A, k), descending, and which of them are kept (A, k).
    """
    members = member.sum(dim=1, keepdim=True)
    wanted = (fraction * members).round().clamp(min=1).minimum(members)
    most = math.ceil(fraction * values.shape[1])
    top = values.masked_fill(~member, _lowest(values)).topk(most, dim=1).values
    return top, torch.arange(most, device=values.device) < wanted


def _lowest(values: Tensor) -> float:
    # Finite, unlike -inf, whose differences are NaN in the backward pass.
    return torch.finfo(values.dtype).min


def _nearest(ids: Tensor, height: int, width: int) -> Tensor:
    """(B, H, W) ids at (B, height, width): those of ``F.interpolate(mode="nearest")``, in integers."""
    rows = torch.arange(height, device=ids.device) * ids.shape[1] // height
    columns = torch.arange(width, device=ids.device) * ids.shape[2] // width
    return ids[:, rows[:, None], columns]


def _check(embeddings: Tensor, label: Tensor, prediction: Tensor | None, temperature: float) -> None:
    if embeddings.ndim != 4 or label.ndim != 3 or len(label) != len(embeddings):
        raise ValueError(
            "embeddings must be (B, D, h, w) and the label (B, H, W), "
            f"not {tuple(embeddings.shape)} and {tuple(label.shape)}"
        )
    if prediction is not None and prediction.shape != label.shape:
        raise ValueError(
            f"prediction and label must have the same shape, "
            f"not {tuple(prediction.shape)} and {tuple(label.shape)}"
        )
    if not temperature > 0:
        raise OptionError(f"temperature must be positive, not {temperature}")
