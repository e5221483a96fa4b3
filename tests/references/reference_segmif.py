"""SegMiF (ICCV 2023) by its formulas, as functions of weights by name; independent of `crossband`.

Grey pictures are (B, 1, H, W) in [0, 1], of sizes that are multiples of 32.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from references.plain_transformer import (
    LEVELS,
    Weights,
    convolve,
    layer_norm,
    level,
    linear,
    resize,
    segmentation,
    to_map,
    to_tokens,
)

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HEAD_WIDTH = 8


def luma(visible: Tensor) -> Tensor:
    red, green, blue = visible.split(1, dim=1)
    return 0.299 * red + 0.587 * green + 0.114 * blue


def saliency(grey: Tensor) -> Tensor:
    """The mean distance of each of 256 grey values to those of all pixels, stretched to [0, 1]."""
    result = []
    for image in (grey * 255).round():
        values = image.flatten()
        distances = torch.stack([(value - values).abs().mean() for value in values])
        result.append(((distances - distances.min()) / (distances.max() - distances.min())).view_as(image))
    return torch.stack(result)


def target(visible: Tensor, infrared: Tensor) -> Tensor:
    """M = w I + (1 - w) V, w = 1/2 + (S_I - S_V) / 2."""
    brightness = luma(visible)
    w = 0.5 + 0.5 * (saliency(infrared) - saliency(brightness))
    return w * infrared + (1 - w) * brightness


def drdb(weights: Weights, name: str, x: Tensor) -> Tensor:
    maps = [x]
    for index in range(5):
        grown = convolve(weights, f"{name}.grow.{index}", torch.cat(maps, dim=1), padding=2, dilation=2)
        maps.append(grown.relu())
    return x + convolve(weights, f"{name}.shrink", torch.cat(maps, dim=1)).relu()


def hia(weights: Weights, name: str, x: Tensor, y: Tensor, semantic: Tensor) -> tuple[Tensor, Tensor]:
    """Two maps, and what is made of them with a third: LN(x + Linear [p; o]), which replaces x."""
    tokens = {
        band: to_tokens(each) for band, each in (("visible", x), ("infrared", y), ("semantic", semantic))
    }
    halves = {
        band: linear(weights, f"{name}.{band}_halves", each).relu().chunk(2, dim=-1)
        for band, each in tokens.items()
    }

    def attention(band: str, source: Tensor, query: Tensor) -> Tensor:
        keys, values = linear(weights, f"{name}.{band}_kv", source).chunk(2, dim=-1)
        found = []
        for start in range(0, query.shape[-1], HEAD_WIDTH):
            head = slice(start, start + HEAD_WIDTH)
            context = keys[..., head].transpose(1, 2) @ values[..., head] / HEAD_WIDTH**0.5
            found.append(query[..., head] @ context.softmax(dim=-2))
        return torch.cat(found, dim=-1)

    results = []
    y_semantic, u_semantic = halves["semantic"]
    for band in ("visible", "infrared"):
        y_band, u_band = halves[band]
        p = attention(band, y_band, y_semantic)
        o = attention("semantic", u_semantic, u_band)
        sum_ = tokens[band] + linear(weights, f"{name}.{band}_end", torch.cat([p, o], dim=-1))
        results.append(to_map(layer_norm(weights, f"{name}.{band}_norm", sum_, 1e-5), x.shape[2:]))
    return results[0], results[1]


def fused_grey(weights: Weights, visible: Tensor, infrared: Tensor) -> Tensor:
    """F, from both bands and the first two maps of the encoder on the target in three equal channels."""
    first = level(weights, "segmenter.encoder", 1, target(visible, infrared).repeat(1, 3, 1, 1))
    second = level(weights, "segmenter.encoder", 2, first)

    def bend(values: Tensor) -> Tensor:
        return torch.where(values < 0, weights["fusion.activation.weight"] * values, values)

    x = bend(convolve(weights, "fusion.visible_stem", luma(visible), padding=1))
    y = bend(convolve(weights, "fusion.infrared_stem", infrared, padding=1))
    for number, seen in ((1, first), (2, second)):
        x = drdb(weights, f"fusion.visible_dense{number}", x)
        y = drdb(weights, f"fusion.infrared_dense{number}", y)
        semantic = convolve(weights, f"fusion.semantic{number}", resize(seen, x.shape[2:]))
        x, y = hia(weights, "fusion.interaction1", x, y, semantic)
    fused = torch.cat([x, y], dim=1)
    for number in (1, 2, 3):
        fused = bend(convolve(weights, f"fusion.mix{number}", fused, padding=1))
    return fused


def segmif(weights: Weights, visible: Tensor, infrared: Tensor) -> tuple[Tensor, Tensor]:
    """(B, 3, H, W) and (B, 1, H, W) -> logits and fused picture, both of that size."""
    grey = fused_grey(weights, visible, infrared)
    picture = (visible + grey - luma(visible)).clamp(0, 1)
    mean, deviation = (torch.tensor(each).to(picture)[:, None, None] for each in (MEAN, DEVIATION))
    features, maps = (picture - mean) / deviation, []
    for number in LEVELS:
        features = level(weights, "segmenter.encoder", number, features)
        maps.append(features)
    return resize(segmentation(weights, "segmenter.head", maps), picture.shape[2:]), picture


def first_fusion_loss(fused: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """L1(F, M), and mean | (|Sx F| + |Sy F|) - (|Sx M| + |Sy M|) |."""
    across = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]).to(fused)[None, None]

    def edges(image: Tensor) -> Tensor:
        down = across.transpose(2, 3)
        return F.conv2d(image, across, padding=1).abs() + F.conv2d(image, down, padding=1).abs()

    return (fused - wanted).abs().mean(), (edges(fused) - edges(wanted)).abs().mean()
