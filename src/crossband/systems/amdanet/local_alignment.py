"""AMDANet's local alignment with a start of our own: it can begin as the identity, and see maps of one scale.

The published module (`crossband.blocks.alignment.LocalAlignment`) has no setting that leaves its maps as they
are, and it squashes what is positive: beside a map of zeros, 1, 2, 4 become 0.42, 0.55, 0.62 at its start.
Features that an encoder was trained for do not survive that in a short training. Neither the step gamma nor
the scaling is of the paper; docs/results/alignment.md has what they bring.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from crossband.blocks.alignment import LocalAlignment, Trust
from crossband.tensors import at_least_float32

AlignmentStart = Literal["identity", "published"]
# Keeps the scale of an empty map away from 0; far below the mean square of any other.
EPSILON = 1e-6


class SteppedAlignment(LocalAlignment):
    """`LocalAlignment` LA, taken as far as a step gamma goes, on maps of unit root mean square if asked.

        x^ = (1 - gamma_x) x + gamma_x LA(x, y) = x + gamma_x (LA(x, y) - x),  and y^ with gamma_y alike

    start: "identity" trains a gamma per channel and band from 0; "published" is gamma = 1, without a
    parameter. scaled: LA sees x / r_x and y / r_y, and r_x, r_y multiply what it makes of them, with r the
    root mean square of a pair's whole map: the size of the values does not count, and the layers that follow
    see the encoder's own.
    """

    def __init__(self, channels: int, *, start: AlignmentStart, scaled: bool):
        super().__init__(channels)
        self.scaled = scaled
        self.gamma_visible = self.gamma_infrared = None
        if start == "identity":
            self.gamma_visible = nn.Parameter(torch.zeros(channels))
            self.gamma_infrared = nn.Parameter(torch.zeros(channels))

    def forward(self, visible: Tensor, infrared: Tensor, trust: Trust | None = None) -> tuple[Tensor, Tensor]:
        """Two grids (B, h, w, C) -> two grids of the same shape. trust: as in `LocalAlignment`."""
        if self.scaled:
            of_visible, of_infrared = root_mean_square(visible), root_mean_square(infrared)
            x, y = super().forward(visible / of_visible, infrared / of_infrared, trust)
            x, y = x * of_visible, y * of_infrared
        else:
            x, y = super().forward(visible, infrared, trust)
        return _step(self.gamma_visible, visible, x), _step(self.gamma_infrared, infrared, y)


def root_mean_square(grid: Tensor) -> Tensor:
    """Of each pair's whole grid (B, h, w, C), above 0: (B, 1, 1, 1)."""
    # The squares of half precision's larger values are beyond it.
    exact = at_least_float32(grid)
    return (exact.square().mean(dim=(1, 2, 3), keepdim=True) + EPSILON).sqrt().to(grid.dtype)


def _step(gamma: Tensor | None, own: Tensor, aligned: Tensor) -> Tensor:
    # This form, unlike own + gamma (aligned - own), is exact for gamma = 1 too.
    return aligned if gamma is None else (1 - gamma) * own + gamma * aligned
