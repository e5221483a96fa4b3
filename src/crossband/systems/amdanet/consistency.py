"""Semantic consistency inference: two streams that disagree are moved towards each other, token by token.

From AMDANet (ICCV 2025), whose supplement names the module and its threshold (section 5) and gives no
formulas; they are those of the published code.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

ConsistencyGate = Literal["sample", "batch-any", "always"]


class SemanticConsistency(nn.Module):
    """Mix two grids a and b by a weight m that is inferred from both, where a pair's streams disagree.

    m = sigmoid(mlp2(relu(mlp1([a; b])))), one weight in (0, 1) per token, and
    a' = a - lam m (a - b),  b' = b - lam m (b - a).

    S, the mean over tokens of the cosine of a and b, says how far a pair's streams agree; the mixture is
    made where ``similarity_scale * S < tau``.

    gate: "sample" decides for each pair by itself; "batch-any" mixes the whole batch if one pair disagrees,
    and "always" asks nothing. swap_streams: return (b', a') in the places of (a', b').
    train_lambda: whether lam, which starts at 0.5, is trained.

    A random start makes m about 1/2, and a' about 3/4 a + 1/4 b.
    """

    def __init__(
        self,
        channels: int,
        *,
        gate: ConsistencyGate = "sample",
        tau: float = 0.4,
        similarity_scale: float = 1.0,
        swap_streams: bool = False,
        train_lambda: bool = True,
    ):
        super().__init__()
        self.gate, self.tau, self.similarity_scale = gate, tau, similarity_scale
        self.swap_streams = swap_streams
        self.mlp1 = nn.Linear(2 * channels, channels)
        self.mlp2 = nn.Linear(channels, 1)
        self.lam = nn.Parameter(torch.tensor(0.5), requires_grad=train_lambda)

    def forward(
        self, a: Tensor, b: Tensor, agreement: Tensor, trust: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Two grids (B, h, w, C) -> the two to go on with.

        agreement: S of the two, see `similarity`. trust: weights (B, h, w, 1) in [0, 1] of a and b; what a
        band gives to the other is multiplied by its own. None is 1 everywhere.
        """
        # The matrix is applied to its two halves: no concatenation is made.
        of_a, of_b = self.mlp1.weight.chunk(2, dim=1)
        hidden = F.linear(a, of_a, self.mlp1.bias) + F.linear(b, of_b)
        share = self.lam * torch.sigmoid(self.mlp2(F.relu(hidden)))
        if self.gate != "always":
            share = share * self.disagrees(agreement).to(share.dtype)[:, None, None, None]
        difference = a - b
        from_a, from_b = (share, share) if trust is None else (share * trust[0], share * trust[1])
        mixed = a - from_b * difference, b + from_a * difference
        return mixed[::-1] if self.swap_streams else mixed

    def disagrees(self, agreement: Tensor) -> Tensor:
        """Which pairs are mixed, by their S (B,): bool (B,)."""
        if self.gate == "always":
            return torch.ones_like(agreement, dtype=torch.bool)
        below = self.similarity_scale * agreement < self.tau
        return below.any().expand_as(below) if self.gate == "batch-any" else below


def similarity(a: Tensor, b: Tensor) -> Tensor:
    """S: the mean over tokens of the cosine of two grids (B, h, w, C), in [-1, 1]; float32 (B,)."""
    return F.cosine_similarity(a.float(), b.float(), dim=-1).mean(dim=(1, 2))
