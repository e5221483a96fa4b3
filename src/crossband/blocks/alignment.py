"""Feature discrepancy alignment: two bands re-weigh each other locally, then meet in one map globally.

From AMDANet (ICCV 2025), whose supplement names the modules (sections 6 and 7) and gives no formulas; they
are those of the published code. The modules of MRFS (CVPR 2024), which it has them from, have the same
layers and join them in another way: `GatedMix` and `CycleAttention`.

Features are grids (B, h, w, C), on which linear layers act as they are.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crossband.blocks.mix_transformer import ReducedAttention, to_grid

SPATIAL_HIDDEN = 16
Trust = tuple[Tensor, Tensor]
"""How far each band is to be believed: two weights (B, h, w, 1) in [0, 1], visible and infrared."""


class BandWeights(nn.Module):
    """Channel, place and token weights, from both bands: what one band is corrected with the other by.

    With z = [x; y] for a visible grid x and an infrared grid y of C channels:

        k = sigmoid(channel(mean z) + channel(max z)), mean and max over the grid; halves k_x and k_y
        p = sigmoid(spatial([mean x; max x; mean y; max y])), over channels; p_x and p_y
        g = sigmoid(gate(z)), one value per token and channel, used for both bands
    """

    def __init__(self, channels: int):
        super().__init__()
        self.channel1 = nn.Linear(2 * channels, channels // 2)
        self.channel2 = nn.Linear(channels // 2, 2 * channels)
        self.spatial1 = nn.Conv2d(4, SPATIAL_HIDDEN, 1)
        self.spatial2 = nn.Conv2d(SPATIAL_HIDDEN, 2, 1)
        self.gate1 = nn.Linear(2 * channels, channels // 2)
        self.gate2 = nn.Linear(channels // 2, channels)

    def weights(self, visible: Tensor, infrared: Tensor) -> tuple[Tensor, Tensor]:
        """k_x p_x and k_y p_y, of the shape of the grids (B, h, w, C)."""
        of_visible, of_infrared = self._channels(visible, infrared)
        at_visible, at_infrared = self._places(visible, infrared)
        return of_visible * at_visible, of_infrared * at_infrared

    def gate(self, visible: Tensor, infrared: Tensor) -> Tensor:
        """g, of the shape of the grids (B, h, w, C)."""
        # The matrix is applied to its two halves: no concatenation is made.
        of_visible, of_infrared = self.gate1.weight.chunk(2, dim=1)
        hidden = F.linear(visible, of_visible, self.gate1.bias) + F.linear(infrared, of_infrared)
        return torch.sigmoid(self.gate2(F.relu(hidden)))

    def _channels(self, visible: Tensor, infrared: Tensor) -> tuple[Tensor, ...]:
        mean = torch.cat([visible.mean(dim=(1, 2)), infrared.mean(dim=(1, 2))], dim=-1)
        most = torch.cat([visible.amax(dim=(1, 2)), infrared.amax(dim=(1, 2))], dim=-1)
        scores = [self.channel2(F.relu(self.channel1(pooled))) for pooled in (mean, most)]
        return torch.sigmoid(scores[0] + scores[1])[:, None, None].chunk(2, dim=-1)

    def _places(self, visible: Tensor, infrared: Tensor) -> tuple[Tensor, ...]:
        statistics = [
            visible.mean(dim=-1), visible.amax(dim=-1), infrared.mean(dim=-1), infrared.amax(dim=-1)
        ]  # fmt: skip
        hidden = F.relu(self.spatial1(torch.stack(statistics, dim=1)))
        return to_grid(torch.sigmoid(self.spatial2(hidden))).chunk(2, dim=-1)


class LocalAlignment(BandWeights):
    """AMDANet's correction of each band with the other. With the weights k, p and g of `BandWeights`:

        w_x = g k_x p_x,  w_y = g k_y p_y
        u = x + w_x y,  v = y + w_y x
        x^ = u sigmoid(u w_x - u) + u w_x,  and y^ of v and w_y alike

    The last line is the "feature residual between the input and output" of the supplement's section 7.
    """

    def forward(self, visible: Tensor, infrared: Tensor, trust: Trust | None = None) -> tuple[Tensor, Tensor]:
        """Two grids (B, h, w, C) -> two grids of the same shape.

        trust: what a band adds to the other is multiplied by its own weight. None is 1 everywhere.
        """
        gate = self.gate(visible, infrared)
        w_visible, w_infrared = (gate * weight for weight in self.weights(visible, infrared))
        to_visible, to_infrared = infrared, visible
        if trust is not None:
            to_visible, to_infrared = infrared * trust[1], visible * trust[0]
        return _reweigh(visible, to_visible, w_visible), _reweigh(infrared, to_infrared, w_infrared)


class GatedMix(BandWeights):
    """MRFS's interactive gated mix attention (IGM-Att). With the weights k, p and g of `BandWeights`:

        x^ = x + (1 - g) k_y p_y y,  y^ = y + g k_x p_x x

    The gate divides what the bands give each other, and what a band gives has its own weights.
    """

    def forward(self, visible: Tensor, infrared: Tensor) -> tuple[Tensor, Tensor]:
        """Two grids (B, h, w, C) -> two grids of the same shape."""
        gate = self.gate(visible, infrared)
        w_visible, w_infrared = self.weights(visible, infrared)
        return visible + (1 - gate) * w_infrared * infrared, infrared + gate * w_visible * visible


def _reweigh(own: Tensor, other: Tensor, weight: Tensor) -> Tensor:
    mixed = own + weight * other
    weighted = mixed * weight
    return mixed * torch.sigmoid(weighted - mixed) + weighted


class GlobalAlignment(nn.Module):
    """Salient feature enhancement in each band, then attention from band to band; the result is one grid.

    With U(t, s) = W_o (Attn(q(t), kv(reduce(s))) + t), whose residual lies before the last projection:

        a = U_a(x, x),  b = U_b(y, y)             salient feature enhancement
        m = U_1(a, b),  f = U_2(b, m)             visible asks infrared, infrared asks the result
        s = proj(f)

    channels, heads, reduction: of the attention. enhance: False takes a = x and b = y.
    """

    def __init__(self, channels: int, heads: int, reduction: int, *, enhance: bool = True):
        super().__init__()

        def unit() -> ReducedAttention:
            return ReducedAttention(channels, heads, reduction, bias=False)

        self.sfe_a = unit() if enhance else None
        self.sfe_b = unit() if enhance else None
        self.cross1, self.cross2 = unit(), unit()
        self.proj = nn.Linear(channels, channels)

    def forward(self, visible: Tensor, infrared: Tensor) -> Tensor:
        """Two grids (B, h, w, C) -> one of the same shape."""
        a = visible if self.sfe_a is None else _unit(self.sfe_a, visible, visible)
        b = infrared if self.sfe_b is None else _unit(self.sfe_b, infrared, infrared)
        m = _unit(self.cross1, a, b)
        return self._last(b, m)

    def _last(self, query: Tensor, source: Tensor) -> Tensor:
        """proj(U_2(query, source))."""
        # Two linear layers in a row are one: W (V t + c) + d = (W V) t + (W c + d).
        inner = self.cross2.proj
        weight = self.proj.weight @ inner.weight
        bias = self.proj.weight @ inner.bias + self.proj.bias
        return F.linear(self.cross2.attend(query, source) + query, weight, bias)


class CycleAttention(GlobalAlignment):
    """MRFS's progressive cycle attention (PC-Att): from visible to infrared and back.

    With the units U of `GlobalAlignment`:

        a = U_a(x, x),  n = U_1(y, a)             visible within itself, infrared asks it
        b = U_b(n, n),  f = U_2(a, b)             the answer within itself, visible asks that
        s = proj(f)
    """

    def forward(self, visible: Tensor, infrared: Tensor) -> Tensor:
        """Two grids (B, h, w, C) -> one of the same shape."""
        a = visible if self.sfe_a is None else _unit(self.sfe_a, visible, visible)
        n = _unit(self.cross1, infrared, a)
        b = n if self.sfe_b is None else _unit(self.sfe_b, n, n)
        return self._last(a, b)


def _unit(attention: ReducedAttention, query: Tensor, source: Tensor) -> Tensor:
    return attention.proj(attention.attend(query, source) + query)


class SummedBands(nn.Module):
    """A linear layer on the sum of two grids: what stands in the place of global alignment without it."""

    def __init__(self, channels: int):
        super().__init__()
        self.proj = nn.Linear(channels, channels)

    def forward(self, visible: Tensor, infrared: Tensor) -> Tensor:
        """Two grids (B, h, w, C) -> one of the same shape."""
        return self.proj(visible + infrared)
