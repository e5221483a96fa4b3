"""DisOptNet (TGRS 2022) by its formulas, with a ResNet-18; independent of `crossband`.

The encoder and both decoders are segmentation-models-pytorch's, as in the published code; what DisOptNet adds
is written out.
"""

from __future__ import annotations

import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn
from torch.nn import functional as F

Weights = dict[str, Tensor]
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def _part(weights: Weights, name: str) -> Weights:
    return {
        key.removeprefix(f"{name}."): value for key, value in weights.items() if key.startswith(f"{name}.")
    }


def _deeplab(decoder_channels: int) -> nn.Module:
    network = smp.DeepLabV3Plus(
        "resnet18", encoder_weights=None, encoder_output_stride=16, decoder_channels=decoder_channels
    )
    return network.double().eval()


def scse(weights: Weights, name: str, x: Tensor) -> Tensor:
    """x sigmoid(W2 ReLU(W1 mean x)) + x sigmoid(w x)."""
    w = _part(weights, name)
    hidden = F.conv2d(x.mean(dim=(2, 3), keepdim=True), w["cSE.1.weight"], w["cSE.1.bias"]).relu()
    of_channel = torch.sigmoid(F.conv2d(hidden, w["cSE.3.weight"], w["cSE.3.bias"]))
    of_place = torch.sigmoid(F.conv2d(x, w["sSE.0.weight"], w["sSE.0.bias"]))
    return x * of_channel + x * of_place


def fuse(weights: Weights, a: Tensor, b: Tensor) -> Tensor:
    """SCSE(ReLU(BN(W [SCSE(a); SCSE(b)])))."""
    joined = torch.cat([scse(weights, "fusion.first", a), scse(weights, "fusion.second", b)], dim=1)
    mixed = F.conv2d(joined, weights["fusion.mix.0.weight"])
    norm = _part(weights, "fusion.mix.1")
    scale = norm["weight"] / (norm["running_var"] + 1e-5).sqrt()
    mixed = (mixed - norm["running_mean"][:, None, None]) * scale[:, None, None]
    return scse(weights, "fusion.excite", (mixed + norm["bias"][:, None, None]).relu())


def head(weights: Weights, name: str, x: Tensor) -> Tensor:
    """A 3 x 3 convolution to classes with zeros beyond the border, and four times the size."""
    logits = F.conv2d(x, weights[f"{name}.0.weight"], weights[f"{name}.0.bias"], padding=1)
    return F.interpolate(logits, scale_factor=4, mode="bilinear", align_corners=True)


def disoptnet(weights: Weights, infrared: Tensor) -> dict[str, Tensor]:
    """(B, 1, H, W), a multiple of 16 a side -> the logits of the heads "student", "imitating", "fused"."""
    width = weights["fused_head.0.weight"].shape[1]
    own, copied = _deeplab(width), _deeplab(width)
    own.encoder.load_state_dict(_part(weights, "student.encoder"))
    own.decoder.load_state_dict(_part(weights, "student.decoder"))
    copied.decoder.load_state_dict(_part(weights, "imitating_decoder"))
    for index, stage in enumerate((copied.encoder.layer3, copied.encoder.layer4)):
        stage.load_state_dict(_part(weights, f"tail.stages.{index}.0"))
    mean, deviation = (torch.tensor(each).to(infrared)[:, None, None] for each in (MEAN, DEVIATION))
    maps = own.encoder((infrared.repeat(1, 3, 1, 1) - mean) / deviation)
    fourth = copied.encoder.layer3(maps[3])
    imitated = copied.decoder([*maps[:4], fourth, copied.encoder.layer4(fourth)])
    decoded = own.decoder(maps)
    return {
        "student": head(weights, "student.segmentation_head", decoded),
        "imitating": head(weights, "imitating_head", imitated),
        "fused": head(weights, "fused_head", fuse(weights, decoded, imitated)),
    }
