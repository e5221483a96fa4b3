"""FMI: mutual information of small windows, each read as a distribution over its pixels."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from crossband.errors import OptionError
from crossband.metrics.fusion.images import FusedPair, Image, Reduction, as_fused_pair

Feature = Literal["none", "gradient", "dct"]

WINDOW = 3
# Windows worked on at once: bounds the memory, and stays within a processor's cache.
CHUNK = 1 << 15


def feature_mutual_information(
    fused: Image | FusedPair,
    visible: Image | None = None,
    infrared: Image | None = None,
    *,
    data_range: float | None = None,
    feature: Feature = "none",
    reduction: Reduction = "mean",
) -> Tensor:
    """FMI: mutual information of all 3 x 3 windows of the fused picture and of each source. Higher is better.

    A window, stretched to 0..1, over its sum is taken for the distribution of an index 1..9 (down the
    columns; a flat window is uniform). The joint distribution with the fused picture's is the mixture p U +
    (1 - p) times the product of both, where U is Frechet's bound (the upper for a positive correlation c of
    the two windows, the lower for a negative one) and p = c / (correlation under U), after Nelsen. The score
    is the mean of 2 I / (H_S + H_F), which is 1 for equal windows. p can exceed 1; what is negative in the
    mixture then counts as -q log|q|. Haghighat, Razian 2014, "Fast-FMI: non-reference image fusion metric".

    fused, visible, infrared, data_range: as in `FusedPair`, which may be given in place of the first three.
    feature: what is compared: the grey values ("none"), their horizontal differences ("gradient"), or the
    coefficients of a 2-D DCT-II of the whole picture ("dct"). Values of different features differ by a factor
    of two. The public code's "edge" (the default there) and "wavelet" are not offered. reduction: over the
    sources; "none" gives (visible, infrared).

    Returns float64, about 0..1. NaN for pictures of less than 3 pixels a side.
    """
    pair = as_fused_pair(fused, visible, infrared, data_range)
    if feature not in ("none", "gradient", "dct"):
        raise OptionError(f"feature is {feature!r}: use none, gradient or dct")
    if min(pair.fused.shape[1:]) < WINDOW:
        return pair.reduced(pair.fused.new_full((len(pair.fused), 2), torch.nan), reduction)
    own, *sources = (_feature(grey.double(), feature) for grey in (pair.fused, *pair.sources))
    parts = [[_mean_score(*pictures) for pictures in zip(source, own, strict=True)] for source in sources]
    return pair.reduced(torch.stack([torch.stack(part) for part in parts], -1), reduction)


def _feature(grey: Tensor, feature: Feature) -> Tensor:
    """What is compared of the pictures (B, H, W), of the same shape."""
    match feature:
        case "gradient":
            return torch.gradient(grey, dim=2)[0]
        case "dct":
            height, width = grey.shape[1:]
            return _cosines(height, grey) @ grey @ _cosines(width, grey).mT
        case _:
            return grey


def _mean_score(source: Tensor, fused: Tensor) -> Tensor:
    """The mean over the windows of two maps (H, W). One picture at a time: nine values a window are much."""
    chunks = (_windows(picture).split(CHUNK) for picture in (source, fused))
    return torch.cat([_window_scores(theirs, mine) for theirs, mine in zip(*chunks, strict=True)]).mean()


def _windows(picture: Tensor) -> Tensor:
    """All windows of (H, W), each down its columns: (windows, 9)."""
    return picture.unfold(0, WINDOW, 1).unfold(1, WINDOW, 1).mT.reshape(-1, WINDOW**2)


def _cosines(size: int, like: Tensor) -> Tensor:
    """The orthonormal DCT-II as a matrix (size, size), frequencies down."""
    steps = torch.arange(size, dtype=like.dtype, device=like.device)
    matrix = torch.cos(math.pi / size * steps[:, None] * (steps + 0.5)) * math.sqrt(2 / size)
    matrix[0] /= math.sqrt(2)
    return matrix


def _window_scores(source: Tensor, fused: Tensor) -> Tensor:
    """2 I / (H_S + H_F) of pairs of windows, (N, 9) each: (N,)."""
    equal = (source == fused).all(1)
    first, second = _distribution(source), _distribution(fused)
    correlation = _correlation(first, second)
    # Counted backwards, the lower bound of two distributions is the upper bound.
    second = torch.where(correlation[:, None] < 0, second.flip(1), second)
    mass, rows, columns = _upper_bound(first, second)
    share = _share(correlation.abs(), first, second, (mass * rows * columns).sum(1))
    entropies = _entropy(first) + _entropy(second)
    independent = (1 - share)[:, None] * first.gather(1, rows) * second.gather(1, columns)
    # The product's terms in all 81 cells, less those in the cells of the bound, which hold the mixture.
    joint = (1 - share) * entropies - torch.xlogy(1 - share, (1 - share).abs())
    joint += _entropy(share[:, None] * mass + independent) - _entropy(independent)
    information = entropies - joint
    scores = torch.where(entropies > 0, 2 * information / entropies, 0)
    return torch.where(equal, 1, scores)


def _distribution(windows: Tensor) -> Tensor:
    low, high = windows.aminmax(dim=1, keepdim=True)
    flat = high == low
    heights = torch.where(flat, 1, (windows - low) / torch.where(flat, 1, high - low))
    return heights / heights.sum(1, keepdim=True)


def _correlation(first: Tensor, second: Tensor) -> Tensor:
    """Pearson's r of the probabilities, (N,); 0 where one is uniform."""
    first, second = first - 1 / WINDOW**2, second - 1 / WINDOW**2
    norms = ((first**2).sum(1) * (second**2).sum(1)).sqrt()
    # The least spread of a window of 8 bits is far above rounding.
    return torch.where(norms > 1e-12, (first * second).sum(1) / norms, 0)


def _upper_bound(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Frechet's upper bound min(F(i), G(j)) as its at most 18 cells: mass, i and j (from 0), (N, 18) each.

    Both distributions are laid along 0..1; between two neighbouring steps of either lies the mass of one
    cell.
    """
    steps, origin = torch.cat((first.cumsum(1), second.cumsum(1)), 1).sort(1)
    mass = functional.pad(steps, (1, 0)).diff(dim=1)
    of_first = origin < WINDOW**2
    rows = of_first.cumsum(1) - of_first.long()
    columns = torch.arange(2 * WINDOW**2, device=rows.device) - rows
    # Beyond the last steps, which are 1 up to rounding, no mass is left.
    return mass, rows.clamp_max(WINDOW**2 - 1), columns.clamp_max(WINDOW**2 - 1)


def _share(correlation: Tensor, first: Tensor, second: Tensor, product: Tensor) -> Tensor:
    """The bound's share p in the mixture; product: E[i j] under the bound."""
    index = torch.arange(WINDOW**2, dtype=first.dtype, device=first.device)
    means = first @ index, second @ index
    variances = [p @ index**2 - mean**2 for p, mean in zip((first, second), means, strict=True)]
    covariance = product - means[0] * means[1]
    # All of a distribution in one pixel: nothing can be correlated.
    defined = (correlation > 0) & (variances[0] > 1e-12) & (variances[1] > 1e-12)
    bound = covariance / (variances[0] * variances[1]).sqrt()
    return torch.where(defined, correlation / bound, 0)


def _entropy(masses: Tensor) -> Tensor:
    """-sum q log|q| over (N, cells): (N,)."""
    return -torch.xlogy(masses, masses.abs()).sum(1)
