"""DisOptNet's feature fusion module: two maps, excited by channel and by place, become one.

Excitation: Roy et al., "Concurrent Spatial and Channel Squeeze & Excitation in Fully Convolutional Networks",
MICCAI 2018 (arXiv 1803.02579), the module of segmentation-models-pytorch (MIT).
"""

from __future__ import annotations

import torch
from segmentation_models_pytorch.base.modules import SCSEModule
from torch import Tensor, nn

REDUCTION = 16


def excitation(channels: int) -> SCSEModule:
    """E(x) = x sigmoid(W2 relu(W1 mean x)) + x sigmoid(w x), mean over the map, W1 to a 16th of the width.

    (B, C, h, w) -> (B, C, h, w).
    """
    return SCSEModule(channels, min(REDUCTION, channels))


class ExcitedFusion(nn.Module):
    """E_3(relu(norm(W [E_1(a); E_2(b)]))) for two maps a and b of as many channels, W a 1 x 1 convolution."""

    def __init__(self, channels: int):
        super().__init__()
        self.first, self.second = excitation(channels), excitation(channels)
        self.mix = nn.Sequential(
            nn.Conv2d(2 * channels, channels, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU(inplace=True)
        )
        self.excite = excitation(channels)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Two maps (B, C, h, w) -> one of the same shape."""
        return self.excite(self.mix(torch.cat([self.first(a), self.second(b)], dim=1)))
