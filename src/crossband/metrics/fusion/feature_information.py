"""FMI: mutual information of small windows, each read as a distribution over its pixels."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from crossband.errors import OptionError
from crossband.metrics.fusion import whole_level_information
from crossband.metrics.fusion.images import FusedPair, Image, Reduction, as_fused_pair
from crossband.metrics.fusion.whole_level_information import PIXELS, WINDOW

Feature = Literal["none", "gradient", "dct"]

# Windows worked on at once: bounds the memory, and stays within a processor's cache.
CHUNK = 1 << 14
# Below any probability, and log of it is finite.
_NEXT_TO_NOTHING = 1e-300


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
    levels = _whole_levels(pair) if feature == "none" else None
    if levels is not None:
        means = [whole_level_information.mean_scores(*pictures) for pictures in zip(*levels, strict=True)]
        return pair.reduced(torch.tensor(means, dtype=torch.float64), reduction)
    own, *sources = (_feature(grey.double(), feature) for grey in (pair.fused, *pair.sources))
    scores = [_mean_scores(*pictures) for pictures in zip(own, *sources, strict=True)]
    return pair.reduced(torch.stack(scores), reduction)


def _whole_levels(pair: FusedPair) -> list[np.ndarray] | None:
    """Fused, visible and infrared, uint8 (B, H, W), if they are on a CPU and hold nothing but such levels."""
    maps = (pair.fused, *pair.sources)
    if pair.fused.device.type != "cpu":
        return None
    levels = [grey.to(torch.uint8) for grey in maps]
    if not all(torch.equal(whole.to(grey.dtype), grey) for whole, grey in zip(levels, maps, strict=True)):
        return None
    return [whole.numpy() for whole in levels]


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


def _mean_scores(fused: Tensor, *sources: Tensor) -> Tensor:
    """The mean over the windows of a map (H, W) with each source. One picture at a time, for the memory."""
    rows = max(1, CHUNK // fused.shape[1])
    scores = []
    for top in range(0, len(fused) - WINDOW + 1, rows):
        mine, *theirs = (_windows(picture[top : top + rows + WINDOW - 1]) for picture in (fused, *sources))
        scores.append(window_scores(mine, *theirs))
    return torch.cat(scores, 1).mean(1)


def _windows(picture: Tensor) -> Tensor:
    """All windows of (H, W), each down its columns: (9, windows)."""
    return picture.unfold(0, WINDOW, 1).unfold(1, WINDOW, 1).permute(3, 2, 0, 1).reshape(PIXELS, -1)


def _cosines(size: int, like: Tensor) -> Tensor:
    """The orthonormal DCT-II as a matrix (size, size), frequencies down."""
    steps = torch.arange(size, dtype=like.dtype, device=like.device)
    matrix = torch.cos(math.pi / size * steps[:, None] * (steps + 0.5)) * math.sqrt(2 / size)
    matrix[0] /= math.sqrt(2)
    return matrix


def window_scores(fused: Tensor, *sources: Tensor) -> Tensor:
    """2 I / (H_S + H_F) of the fused picture's windows, (9, N), and each source's: (sources, N)."""
    own = _distribution(fused)
    own_entropy = _entropy(own)
    scores = []
    for source in sources:
        theirs = _distribution(source)
        entropies = own_entropy + _entropy(theirs)
        information = entropies - _joint_entropy(theirs, own, entropies)
        score = torch.where(entropies > 0, 2 * information / entropies, 0)
        scores.append(torch.where((source == fused).all(0), 1, score))
    return torch.stack(scores)


def _joint_entropy(first: Tensor, second: Tensor, entropies: Tensor) -> Tensor:
    """The entropy of the joint distribution of two, (9, N) each. entropies: the sum of their own, (N,)."""
    correlation = _correlation(first, second)
    # Counted backwards, the lower bound of two distributions is the upper bound.
    backwards = (correlation < 0).to(second.dtype)
    second = second * (1 - backwards) + second.flip(0) * backwards
    mass, rows, columns = _upper_bound(first, second)
    share = _share(correlation.abs(), first, second, (mass * rows * columns).sum(0))
    rest = 1 - share
    independent = first.gather(0, rows.long()) * second.gather(0, columns.long()) * rest
    # The product's terms in all 81 cells, less those in the cells of the bound, which hold the mixture.
    joint = rest * entropies - torch.xlogy(rest, rest.abs()) - _entropy(independent)
    return joint + _entropy(mass.mul_(share).add_(independent))


def _distribution(windows: Tensor) -> Tensor:
    low, high = windows.amin(0), windows.amax(0)
    # A flat window: all heights are 1.
    flat = (high == low).to(windows.dtype)
    heights = (windows - low).add_(flat).div_(high - low + flat)
    return heights.div_(heights.sum(0))


def _correlation(first: Tensor, second: Tensor) -> Tensor:
    """Pearson's r of the probabilities, (N,); 0 where one is uniform."""
    first, second = first - 1 / PIXELS, second - 1 / PIXELS
    norms = ((first**2).sum(0) * (second**2).sum(0)).sqrt()
    # The least spread of a window of 8 bits is far above rounding.
    return torch.where(norms > 1e-12, (first * second).sum(0) / norms, 0)


def _upper_bound(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Frechet's upper bound min(F(i), G(j)) as its at most 17 cells: mass, i and j (from 0), (17, N) each.

    Both distributions are laid along 1..2; between two neighbouring steps of either lies the mass of one
    cell.
    """
    sums = torch.ones(PIXELS - 1, PIXELS, dtype=first.dtype, device=first.device).tril()
    steps = first.new_empty(2 * len(sums), first.shape[1])
    torch.mm(sums, first, out=steps[: len(sums)])
    # The second one's steps downwards, so that the whole rises and then falls.
    torch.mm(sums.flip(0), second, out=steps[len(sums) :])
    steps += 1
    # The last bit, far below what counts, tells whose step it is, wherever sorting takes it.
    bits = steps.view(torch.int64)
    bits[: PIXELS - 1] &= ~1
    bits[PIXELS - 1 :] |= 1
    steps = _sorted(steps)
    mass = steps.new_empty(len(steps) + 1, steps.shape[1])
    torch.sub(steps[0], 1, out=mass[0])
    torch.sub(steps[1:], steps[:-1], out=mass[1:-1])
    torch.sub(2, steps[-1], out=mass[-1])
    passed = torch.ones(len(mass), len(steps), dtype=first.dtype, device=first.device).tril(-1)
    columns = passed @ (steps.view(torch.int64) & 1).to(first.dtype)
    rows = torch.arange(len(mass), dtype=first.dtype, device=first.device)[:, None] - columns
    return mass, rows, columns


def _sorted(steps: Tensor) -> Tensor:
    """Columns that rise and then fall, (a power of two, N), in ascending order: Batcher's bitonic merge."""
    count = len(steps)
    half = count // 2
    while half:
        pairs, merged = steps.view(-1, 2, half, steps.shape[1]), torch.empty_like(steps)
        into = merged.view(pairs.shape)
        torch.minimum(pairs[:, 0], pairs[:, 1], out=into[:, 0])
        torch.maximum(pairs[:, 0], pairs[:, 1], out=into[:, 1])
        steps, half = merged, half // 2
    return steps


def _share(correlation: Tensor, first: Tensor, second: Tensor, product: Tensor) -> Tensor:
    """The bound's share p in the mixture; product: E[i j] under the bound."""
    index = torch.arange(PIXELS, dtype=first.dtype, device=first.device)
    powers = torch.stack((index, index**2))
    moments = [powers @ distribution for distribution in (first, second)]
    variances = [square - mean**2 for mean, square in moments]
    covariance = product - moments[0][0] * moments[1][0]
    # All of a distribution in one pixel: nothing can be correlated.
    defined = (correlation > 0) & (variances[0] > 1e-12) & (variances[1] > 1e-12)
    bound = covariance / (variances[0] * variances[1]).sqrt()
    return torch.where(defined, correlation / bound, 0)


def _entropy(masses: Tensor) -> Tensor:
    """-sum q log|q| over (cells, N): (N,)."""
    return -_logarithms(masses.abs().add_(_NEXT_TO_NOTHING)).mul_(masses).sum(0)


def _logarithms(values: Tensor) -> Tensor:
    """In place. On a CPU by NumPy, whose logarithm in float64 takes a third of the time of PyTorch's."""
    if values.device.type != "cpu":
        return values.log_()
    array = values.numpy()
    np.log(array, out=array)
    return values
