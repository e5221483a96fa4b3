"""The Mix Transformer and the decoders on it as functions of weights by name, in plain PyTorch.

The formulas of SegFormer (arXiv 2105.15203) and of the published code of MRFS (CVPR 2024), each in the order
in which it is written, on tokens (B, N, C) and maps (B, C, h, w). ``weights`` is a state dict; ``name`` is
where a layer's weights are in it. All is as in evaluation, but for `batch_norm`.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

Weights = dict[str, Tensor]
HEADS, REDUCTIONS = (1, 2, 5, 8), (8, 4, 2, 1)
LEVELS = (1, 2, 3, 4)


def linear(weights: Weights, name: str, x: Tensor) -> Tensor:
    return F.linear(x, weights[f"{name}.weight"], weights.get(f"{name}.bias"))


def convolve(weights: Weights, name: str, x: Tensor, **options: int) -> Tensor:
    return F.conv2d(x, weights[f"{name}.weight"], weights.get(f"{name}.bias"), **options)


def layer_norm(weights: Weights, name: str, tokens: Tensor, eps: float) -> Tensor:
    mean = tokens.mean(dim=-1, keepdim=True)
    variance = ((tokens - mean) ** 2).mean(dim=-1, keepdim=True)
    normed = (tokens - mean) / (variance + eps).sqrt()
    return normed * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def batch_norm(weights: Weights, name: str, x: Tensor, eps: float, *, training: bool = False) -> Tensor:
    """By the running statistics, or in training by those of the batch."""
    mean, variance = weights[f"{name}.running_mean"], weights[f"{name}.running_var"]
    if training:
        mean, variance = x.mean(dim=(0, 2, 3)), x.var(dim=(0, 2, 3), correction=0)
    scale = weights[f"{name}.weight"] / (variance + eps).sqrt()
    return (x - mean[:, None, None]) * scale[:, None, None] + weights[f"{name}.bias"][:, None, None]


def resize(x: Tensor, size: tuple[int, ...]) -> Tensor:
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


def to_tokens(features: Tensor) -> Tensor:
    return features.flatten(2).transpose(1, 2)


def to_map(tokens: Tensor, size: tuple[int, ...]) -> Tensor:
    return tokens.transpose(1, 2).reshape(tokens.shape[0], -1, *size)


def attend(
    weights: Weights, name: str, query: Tensor, source: Tensor, size: tuple[int, ...], level: int
) -> Tensor:
    """What tokens find in the tokens of a source of this size, head by head, before the last projection."""
    heads, reduction = HEADS[level - 1], REDUCTIONS[level - 1]
    if reduction > 1:
        smaller = convolve(weights, f"{name}.reduce", to_map(source, size), stride=reduction)
        source = layer_norm(weights, f"{name}.reduce_norm", to_tokens(smaller), 1e-5)
    asked = linear(weights, f"{name}.q", query).chunk(heads, dim=-1)
    keys, values = linear(weights, f"{name}.kv", source).chunk(2, dim=-1)
    found = []
    for q, k, v in zip(asked, keys.chunk(heads, dim=-1), values.chunk(heads, dim=-1), strict=True):
        found.append((q @ k.transpose(1, 2) / q.shape[-1] ** 0.5).softmax(dim=-1) @ v)
    return torch.cat(found, dim=-1)


def level(weights: Weights, name: str, number: int, features: Tensor) -> Tensor:
    """One level of a Mix Transformer with a block in each: an image, or the map before -> its map."""
    kernel, stride = (7, 4) if number == 1 else (3, 2)
    embedded = convolve(weights, f"{name}.embed{number}.proj", features, stride=stride, padding=kernel // 2)
    size = embedded.shape[2:]
    tokens = layer_norm(weights, f"{name}.embed{number}.norm", to_tokens(embedded), 1e-5)
    block = f"{name}.stage{number}.0"
    normed = layer_norm(weights, f"{block}.norm1", tokens, 1e-6)
    found = attend(weights, f"{block}.attn", normed, normed, size, number)
    tokens = tokens + linear(weights, f"{block}.attn.proj", found)
    hidden = linear(weights, f"{block}.ffn.fc1", layer_norm(weights, f"{block}.norm2", tokens, 1e-6))
    mixed = convolve(weights, f"{block}.ffn.dw", to_map(hidden, size), padding=1, groups=hidden.shape[-1])
    bent = mixed * (1 + torch.erf(mixed / 2**0.5)) / 2
    tokens = tokens + linear(weights, f"{block}.ffn.fc2", to_tokens(bent))
    return to_map(layer_norm(weights, f"{name}.norm{number}", tokens, 1e-6), size)


def segmentation(
    weights: Weights, name: str, maps: list[Tensor], *, eps: float = 1e-5, training: bool = False
) -> Tensor:
    """SegFormer's head: four maps -> logits at the first one's resolution."""
    size = maps[0].shape[2:]
    levels = []
    for number in reversed(LEVELS):
        each = maps[number - 1]
        embedded = to_map(linear(weights, f"{name}.embed{number}", to_tokens(each)), each.shape[2:])
        levels.append(resize(embedded, size))
    fused = convolve(weights, f"{name}.fuse_conv", torch.cat(levels, dim=1))
    normed = batch_norm(weights, f"{name}.fuse_bn", fused, eps, training=training)
    return convolve(weights, f"{name}.classify", normed.relu())


def fusion(
    weights: Weights,
    name: str,
    pairs: list[tuple[Tensor, Tensor]],
    visible: Tensor,
    infrared: Tensor,
    *,
    eps: float = 1e-5,
    training: bool = False,
) -> Tensor:
    """The head that paints: two maps of each of four levels, and the pictures of 3 channels -> a picture."""
    maps = []
    for number, pair in zip(LEVELS, pairs, strict=True):
        for band, features in zip(("rgb", "ir"), pair, strict=True):
            place = f"{name}.point{number}_{band}"
            pointed = convolve(weights, f"{place}_conv", features)
            normed = batch_norm(weights, f"{place}_bn", pointed, eps, training=training)
            maps.append(resize(normed.relu(), visible.shape[2:]))
    mixed = convolve(weights, f"{name}.conv", torch.cat([*maps, visible, infrared], dim=1), padding=1)
    bent = batch_norm(weights, f"{name}.bn", mixed, eps, training=training).relu()
    return torch.sigmoid(convolve(weights, f"{name}.out", bent))
