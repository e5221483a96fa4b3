"""Bands that fail: a weight per pixel that shuts one out, and features predicted from the other band.

This is a design of this project. The supplement of AMDANet (ICCV 2025), section 8, names the two ideas as
future work against overexposed images, "an adaptive weighting mechanism" and "deep feature reconstruction",
and says no more about them. docs/systems/amdanet.md tells how they are used and trained.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crossband.blocks.alignment import Trust
from crossband.blocks.mix_transformer import to_grid, to_map
from crossband.metrics.fusion.structure import K1, K2

ESTIMATE_KERNEL = 5
# Where nothing was learned yet both bands are believed: sigmoid(3) is 0.95.
FIRST_LOGIT = 3.0
STRUCTURE_WINDOW = 11
STRUCTURE_FLOOR = (K1**2, K2**2)


class ReliabilityEstimate(nn.Module):
    """How far two bands are to be believed at one level, from the features of both.

    logits = (those of the level before, averaged to this one's resolution) + last(gelu(look(first([a; b])))),
    where ``look`` sees 5 x 5 positions. Level 1 starts from 3, a weight of 0.95.

    channels: of both grids.
    """

    def __init__(self, channels: int):
        super().__init__()
        hidden = max(8, channels // 4)
        self.norm_visible, self.norm_infrared = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.first = nn.Linear(2 * channels, hidden)
        self.look = nn.Conv2d(hidden, hidden, ESTIMATE_KERNEL, padding=ESTIMATE_KERNEL // 2, groups=hidden)
        self.last = nn.Linear(hidden, 2)

    def forward(self, visible: Tensor, infrared: Tensor, before: Tensor | None) -> Tensor:
        """Two grids (B, h, w, C), and the logits of the level before -> logits (B, h, w, 2) of both weights.

        before: (B, h', w', 2), or None at the first level.
        """
        both = torch.cat([self.norm_visible(visible), self.norm_infrared(infrared)], dim=-1)
        seen = to_grid(self.look(to_map(F.gelu(self.first(both)))))
        change = self.last(F.gelu(seen))
        if before is None:
            return change + FIRST_LOGIT
        # A plain average of blocks, because CUDA has no deterministic backward pass of the adaptive one. The
        # last block of an odd side, which there are without padding, is what is left of it.
        halved = F.avg_pool2d(to_map(before), 2, ceil_mode=True, count_include_pad=False)
        height, width = change.shape[1:3]
        return change + to_grid(halved[..., :height, :width])


class Reconstruction(nn.Module):
    """A band's features at one level, predicted from the other's: linear, 3 x 3 per channel, GELU, linear."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.first = nn.Linear(channels, 2 * channels)
        self.look = nn.Conv2d(2 * channels, 2 * channels, 3, padding=1, groups=2 * channels)
        self.last = nn.Linear(2 * channels, channels)

    def forward(self, other: Tensor) -> Tensor:
        """The other band's grid (B, h, w, C) -> (B, h, w, C)."""
        return self.last(F.gelu(to_grid(self.look(to_map(self.first(self.norm(other)))))))


def trust_of(logits: Tensor | None, present: Trust | None) -> Trust | None:
    """Weights of both bands from logits (B, h, w, 2), or from what is there alone.

    present: 1 for each pair that has a visible (infrared) image and 0 for the others, (B, 1, 1, 1), or None
    if all have both. A missing band's weight is 0, and that of a band that is alone is 1. Returns weights
    that broadcast to (B, h, w, 1), None if neither is given.
    """
    if logits is None:
        return present
    visible, infrared = torch.sigmoid(logits).chunk(2, dim=-1)
    if present is None:
        return visible, infrared
    has_visible, has_infrared = present
    return (
        has_visible * torch.lerp(torch.ones_like(visible), visible, has_infrared.to(visible.dtype)),
        has_infrared * torch.lerp(torch.ones_like(infrared), infrared, has_visible.to(infrared.dtype)),
    )


def blend(own: Tensor, stand_in: Tensor | None, weight: Tensor) -> Tensor:
    """weight * own + (1 - weight) * stand_in; without a stand-in there is nothing in its place."""
    if stand_in is None:
        return weight * own
    return stand_in + weight * (own - stand_in)


def break_band(image: Tensor) -> Tensor:
    """Each image of a batch as a camera in trouble would give it, one trouble per image, evenly drawn.

    Overexposed: multiplied by 2 to 8 and raised by up to 0.3. Underexposed: multiplied by 0 to 0.15, with
    noise of deviation up to 0.05. Blocks: up to three rectangles, each of up to 0.7 of the sides, white or
    black. Noise: white Gaussian, deviation 0.2 to 0.6.

    image: (B, C, H, W) in [0, 1]. Returns a new tensor of the same shape, in [0, 1]. Draws from PyTorch's
    generator of the image's device.
    """
    count, device = image.shape[0], image.device

    def draw(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, 1, 1, 1, device=device)

    over = image * draw(2, 8) + draw(0, 0.3)
    under = image * draw(0, 0.15) + draw(0, 0.05) * torch.randn_like(image)
    noisy = image + draw(0.2, 0.6) * torch.randn_like(image)
    blocks = image
    rows = torch.linspace(0, 1, image.shape[2], device=device).view(1, 1, -1, 1)
    columns = torch.linspace(0, 1, image.shape[3], device=device).view(1, 1, 1, -1)
    for _ in range(3):
        inside_rows = (rows - draw(0, 1)).abs() <= draw(0, 0.35)
        inside_columns = (columns - draw(0, 1)).abs() <= draw(0, 0.35)
        blocks = torch.where(inside_rows & inside_columns, draw(0, 1).round(), blocks)
    kinds = torch.stack([over, under, blocks, noisy])
    kind = torch.randint(len(kinds), (count,), device=device)
    return kinds[kind, torch.arange(count, device=device)].clamp(0, 1)


def surviving_structure(image: Tensor, broken: Tensor) -> Tensor:
    """How much of an image is left in its broken version, per pixel: SSIM with a box window, below 0 as 0.

    Wang et al. 2004, equation 13, windows of 11 x 11, mean over channels. 1 where nothing changed.
    image, broken: (B, C, H, W) in [0, 1]. Returns float32 (B, 1, H, W) in [0, 1].
    """

    def mean(values: Tensor) -> Tensor:
        return F.avg_pool2d(
            values, STRUCTURE_WINDOW, stride=1, padding=STRUCTURE_WINDOW // 2, count_include_pad=False
        )

    x, y = image.float(), broken.float()
    floor_mean, floor_spread = STRUCTURE_FLOOR
    mean_x, mean_y = mean(x), mean(y)
    spread = mean(x * x) + mean(y * y) - mean_x**2 - mean_y**2
    shared = mean(x * y) - mean_x * mean_y
    likeness = (2 * mean_x * mean_y + floor_mean) / (mean_x**2 + mean_y**2 + floor_mean)
    structure = (2 * shared + floor_spread) / (spread + floor_spread)
    return (likeness * structure).mean(dim=1, keepdim=True).clamp(0, 1)


def reconstruction_loss(predicted: Tensor, true: Tensor) -> Tensor:
    """Squared error of predicted features, in units of the true ones' variance over the batch and places.

    The mean of a channel, predicted everywhere, would cost 1. predicted, true: grids (B, h, w, C); no
    gradient flows to the true ones. Returns a float32 scalar.
    """
    true = true.detach().float()
    variance = true.var(dim=(0, 1, 2), correction=0).mean()
    return F.mse_loss(predicted.float(), true) / variance.clamp(min=1e-6)


def reliability_loss(logits: Tensor, wanted: Tensor) -> Tensor:
    """Binary cross-entropy of a weight's logits (B, h, w) with what is wanted (B, 1, H, W) in [0, 1].

    The wanted weights are averaged to the logits' resolution. Returns a float32 scalar.
    """
    coarse = F.adaptive_avg_pool2d(wanted.float(), (logits.shape[-2], logits.shape[-1]))[:, 0]
    return F.binary_cross_entropy_with_logits(logits.float(), coarse)
