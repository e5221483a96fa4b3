"""Projection heads for pixel-wise contrast. They are needed in training only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crossband.errors import OptionError


class LevelProjections(nn.Module):
    """From encoder maps of several levels to embeddings (the h_pixel of CSK-Net's section 2.6).

    The paper gives no sizes; both forms are those of PiPa (ACM MM 2023). "per-level": a head for each level,
    1 x 1 convolution C -> C, ReLU, 1 x 1 -> width, giving one embedding map per level. "concat": all levels
    brought to the finest one's size and joined, 1 x 1 -> C, batch norm, ReLU, 1 x 1 -> width, giving one map.

    channels: of each level. Raises OptionError for another form.
    """

    def __init__(
        self, channels: Sequence[int], width: int = 128, *, form: Literal["per-level", "concat"] = "per-level"
    ):
        super().__init__()
        self.form = form
        if form == "per-level":
            heads = [
                nn.Sequential(nn.Conv2d(c, c, 1), nn.ReLU(inplace=True), nn.Conv2d(c, width, 1))
                for c in channels
            ]
        elif form == "concat":
            c = sum(channels)
            heads = [
                nn.Sequential(
                    nn.Conv2d(c, c, 1, bias=False),
                    nn.BatchNorm2d(c),
                    nn.ReLU(inplace=True),
                    nn.Conv2d(c, width, 1),
                )
            ]
        else:
            raise OptionError(f"projection must be per-level or concat, not {form!r}")
        self.heads = nn.ModuleList(heads)

    def forward(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """Maps (B, C_l, h_l, w_l), the finest first -> embeddings (B, width, h, w)."""
        if self.form == "concat":
            size = levels[0].shape[-2:]
            levels = [
                torch.cat(
                    [F.interpolate(x, size, mode="bilinear", align_corners=True) for x in levels], dim=1
                )
            ]
        return [head(x) for head, x in zip(self.heads, levels, strict=True)]
