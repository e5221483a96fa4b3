"""What the systems are measured against: plain segmentation_models_pytorch, and the input for both."""

from __future__ import annotations

import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn

from crossband.blocks.encoders import normalisation, smp_name
from crossband.pairs.batch import Batch
from measuring import Settings

CLASSES = 9
"""As many as MSRS and MFNet have, the benchmarks of CSK-Net's paper."""

REFERENCE = "smp DeepLabV3Plus"


def plain_network(settings: Settings) -> nn.Module:
    """smp's DeepLabV3+ as smp makes it: three channels, output stride 16, a random start."""
    network = smp.DeepLabV3Plus(smp_name(settings.encoder), encoder_weights=None, classes=CLASSES)
    return network.to(settings.device)


def make_batch(settings: Settings) -> Batch:
    """Noise in both bands and in the label: no step of training or inference depends on what is seen."""
    generator = torch.Generator().manual_seed(0)
    count, (height, width) = settings.batch_size, settings.size
    return Batch(
        visible=torch.rand(count, 3, height, width, generator=generator).to(settings.device),
        infrared=torch.rand(count, 1, height, width, generator=generator).to(settings.device),
        label=torch.randint(CLASSES, (count, height, width), generator=generator).to(settings.device),
    )


def normalised(image: Tensor, encoder: str) -> Tensor:
    """(B, 1 or 3, H, W) in [0, 1] -> (B, 3, H, W), as a user of plain smp prepares it."""
    mean, std = (image.new_tensor(values)[:, None, None] for values in normalisation(encoder))
    return (image.repeat(1, 3 // image.shape[1], 1, 1) - mean) / std
