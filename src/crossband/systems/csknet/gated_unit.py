"""Gated Spectral Unit (CSK-Net, arXiv 2312.02240, section 2.5, equations 2 to 6)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crossband.errors import OptionError


class GatedSpectralUnit(nn.Module):
    """Fuse two feature maps by gates that see both and their sum.

    With x1 the infrared map, x2 the visible map, x3 = x1 + x2 and u = [x1; x2; x3]:
    h_k = tanh(W_k * x_k) and z_k = sigmoid(V_k * u) for k = 1..3, and the fused map is sum_k z_k h_k,
    which lies in (-3, 3). The paper gives no kernel sizes; 3 x 3 and 1 x 1 with biases make 2,360,832
    parameters at 256 channels, which with the rest comes nearest to the published count.

    channels: of each input map. width: of the fused map. Raises OptionError for an even kernel, which has
    no middle and would shift the map.
    """

    def __init__(
        self,
        channels: int,
        width: int = 256,
        *,
        hidden_kernel: int = 3,
        gate_kernel: int = 1,
        bias: bool = True,
    ):
        super().__init__()
        if hidden_kernel % 2 == 0 or gate_kernel % 2 == 0:
            raise OptionError(
                f"the gated unit's kernels must be odd, such as 1 or 3, not {hidden_kernel} and {gate_kernel}"
            )

        def convolution(inputs: int, kernel: int) -> nn.Conv2d:
            return nn.Conv2d(inputs, width, kernel, padding=kernel // 2, bias=bias)

        self.hidden = nn.ModuleList(convolution(channels, hidden_kernel) for _ in range(3))
        self.gates = nn.ModuleList(convolution(3 * channels, gate_kernel) for _ in range(3))

    def forward(self, infrared: Tensor, visible: Tensor) -> Tensor:
        """(B, channels, H, W) twice -> (B, width, H, W)."""
        inputs = (infrared, visible, infrared + visible)
        terms = [
            gate * torch.tanh(hidden(x))
            for x, hidden, gate in zip(inputs, self.hidden, self._opened(infrared, visible), strict=True)
        ]
        return terms[0] + terms[1] + terms[2]

    def _opened(self, infrared: Tensor, visible: Tensor) -> tuple[Tensor, ...]:
        """z_1, z_2 and z_3, from one convolution of [x1; x2]."""
        # V * [x1; x2; x1 + x2] is linear: what it has for the sum is added to what it has for either map.
        gates: list[Any] = list(self.gates)
        of_infrared, of_visible, of_sum = torch.cat([gate.weight for gate in gates]).chunk(3, dim=1)
        weight = torch.cat([of_infrared + of_sum, of_visible + of_sum], dim=1)
        bias = None if gates[0].bias is None else torch.cat([gate.bias for gate in gates])
        opened = F.conv2d(torch.cat([infrared, visible], dim=1), weight, bias, padding=gates[0].padding)
        return torch.sigmoid(opened).chunk(3, dim=1)
