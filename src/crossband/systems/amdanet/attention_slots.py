"""CBAM and DANet's attention in the place of AMDANet's local alignment (its supplement's table 6).

The supplement says no more than "with CBAM" and "with DANet": here each band gets a block of its own, with
the settings of the papers that the blocks come from.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crossband.blocks.alignment import Trust
from crossband.blocks.mix_transformer import to_grid, to_map
from crossband.tensors import without_autocast

CBAM_REDUCTION = 16
CBAM_KERNEL = 7
DANET_REDUCTION = 8


class CBAM(nn.Module):
    """Convolutional Block Attention Module (Woo et al., ECCV 2018, arXiv 1807.06521, equations 1 to 3).

    F' = sigmoid(MLP(mean F) + MLP(max F)) F, mean and max over the map, then
    F'' = sigmoid(BN(conv7([mean F'; max F']))) F', mean and max over the channels.
    """

    def __init__(self, channels: int):
        super().__init__()
        hidden = max(1, channels // CBAM_REDUCTION)
        self.channel1 = nn.Linear(channels, hidden)
        self.channel2 = nn.Linear(hidden, channels)
        self.spatial = nn.Conv2d(2, 1, CBAM_KERNEL, padding=CBAM_KERNEL // 2, bias=False)
        self.norm = nn.BatchNorm2d(1)

    def forward(self, grid: Tensor) -> Tensor:
        """(B, h, w, C) -> (B, h, w, C)."""
        pooled = (grid.mean(dim=(1, 2)), grid.amax(dim=(1, 2)))
        mean, most = (self.channel2(F.relu(self.channel1(values))) for values in pooled)
        grid = grid * torch.sigmoid(mean + most)[:, None, None]
        statistics = torch.stack([grid.mean(dim=-1), grid.amax(dim=-1)], dim=1)
        return grid * to_grid(torch.sigmoid(self.norm(self.spatial(statistics))))


class DualAttention(nn.Module):
    """The mean of DANet's two attentions (Fu et al., CVPR 2019, arXiv 1809.02983, equations 1 to 4).

    position: alpha times what each place finds in the others, plus the map. channel: beta times a mixture of
    the channels, plus the map; its weights are softmax(max E - E) of the products E = X X^T, as in the
    authors' code, which favours unlike channels (the paper prints softmax(E)). alpha and beta start at 0, so
    that the block starts as the identity; DANet sums the two and goes on with a convolution.

    reduction: side of the squares over which the position's keys and values are averaged, so that nothing
    grows with the square of the image; the paper averages nothing.
    """

    def __init__(self, channels: int, reduction: int):
        super().__init__()
        narrow = max(1, channels // DANET_REDUCTION)
        self.reduction = reduction
        self.query = nn.Linear(channels, narrow)
        self.key = nn.Linear(channels, narrow)
        self.value = nn.Linear(channels, channels)
        self.alpha = nn.Parameter(torch.tensor(0.0))
        self.beta = nn.Parameter(torch.tensor(0.0))

    def forward(self, grid: Tensor) -> Tensor:
        """(B, h, w, C) -> (B, h, w, C)."""
        return grid + (self.alpha * self._position(grid) + self.beta * _channel(grid)) / 2

    def _position(self, grid: Tensor) -> Tensor:
        source = to_grid(F.avg_pool2d(to_map(grid), self.reduction)).flatten(1, 2)
        found = F.scaled_dot_product_attention(
            self.query(grid).flatten(1, 2), self.key(source), self.value(source), scale=1.0
        )
        return found.view(grid.shape)


def _channel(grid: Tensor) -> Tensor:
    tokens = grid.flatten(1, 2)
    # Sums over all tokens: more than half precision holds.
    with without_autocast(grid):
        exact = tokens.float()
        products = exact.transpose(1, 2) @ exact
        unlike = torch.softmax(products.amax(dim=-1, keepdim=True) - products, dim=-1)
    return (tokens @ unlike.transpose(1, 2).to(tokens.dtype)).view(grid.shape)


class PerBand(nn.Module):
    """One attention block for each band, in the place of local alignment; the bands do not meet in it."""

    def __init__(self, visible: nn.Module, infrared: nn.Module):
        super().__init__()
        self.visible, self.infrared = visible, infrared

    def forward(self, visible: Tensor, infrared: Tensor, trust: Trust | None = None) -> tuple[Tensor, Tensor]:
        """Two grids (B, h, w, C) -> two grids. trust: not asked, since neither band adds to the other."""
        return self.visible(visible), self.infrared(infrared)
