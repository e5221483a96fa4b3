"""From a band in [0, 1] to what an encoder with ImageNet weights expects."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from crossband.blocks.encoders import normalisation


class BandInput(nn.Module):
    """Copy one channel to three where needed, then subtract the mean and divide by the deviation.

    The stem of both branches is the same convolution, so infrared enters as three equal channels. The
    constants follow from the encoder's name and are not part of the weights.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, encoder: str):
        super().__init__()
        mean, std = normalisation(encoder)
        self.register_buffer("mean", torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(std)[:, None, None], persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """(B, 1 or 3, H, W) in [0, 1] -> (B, 3, H, W), normalised."""
        return (image.expand(-1, 3, -1, -1) - self.mean) / self.std
