"""MRFS (CVPR 2024) by its formulas, as functions of weights by name; independent of `crossband`.

Nothing is padded: a size that is no multiple of 32 is rounded where its convolutions round it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from references.plain_transformer import (
    LEVELS,
    Weights,
    attend,
    convolve,
    fusion,
    level,
    linear,
    resize,
    segmentation,
    to_map,
    to_tokens,
)


def igm_att(weights: Weights, name: str, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """x^ = x + (1 - g) k_y p_y y, y^ = y + g k_x p_x x."""
    z = torch.cat([x, y], dim=1)

    def mlp(part: str, values: Tensor) -> Tensor:
        return linear(weights, f"{name}.{part}2", linear(weights, f"{name}.{part}1", values).relu())

    k = torch.sigmoid(mlp("channel", z.mean(dim=(2, 3))) + mlp("channel", z.amax(dim=(2, 3))))
    k_x, k_y = k[:, :, None, None].chunk(2, dim=1)
    statistics = [x.mean(dim=1), x.amax(dim=1), y.mean(dim=1), y.amax(dim=1)]
    hidden = convolve(weights, f"{name}.spatial1", torch.stack(statistics, dim=1)).relu()
    p_x, p_y = torch.sigmoid(convolve(weights, f"{name}.spatial2", hidden)).chunk(2, dim=1)
    g = to_map(torch.sigmoid(mlp("gate", to_tokens(z))), x.shape[2:])
    return x + (1 - g) * k_y * p_y * y, y + g * k_x * p_x * x


def pc_att(weights: Weights, name: str, x: Tensor, y: Tensor, number: int) -> Tensor:
    """a = SA_a(x), n = CA_1(y, a), b = SA_b(n), f = CA_2(a, b), linear(f), with P(Att(q, kv) + q)."""
    size = x.shape[2:]

    def unit(part: str, query: Tensor, source: Tensor) -> Tensor:
        found = attend(weights, f"{name}.{part}", query, source, size, number)
        return linear(weights, f"{name}.{part}.proj", found + query)

    x, y = to_tokens(x), to_tokens(y)
    a = unit("sfe_a", x, x)
    n = unit("cross1", y, a)
    b = unit("sfe_b", n, n)
    f = unit("cross2", a, b)
    return to_map(linear(weights, f"{name}.proj", f), size)


def mrfs(
    weights: Weights, visible: Tensor, infrared: Tensor, *, eps: float = 1e-5, training: bool = False
) -> tuple[Tensor, Tensor]:
    """(B, 3, H, W) and (B, 1, H, W) -> logits and fused picture. eps: of the heads' batch norms."""
    pictures = visible, infrared.repeat(1, 3, 1, 1)
    x, y = pictures
    pairs, semantic = [], []
    for number in LEVELS:
        x, y = level(weights, "visible", number, x), level(weights, "infrared", number, y)
        x, y = igm_att(weights, f"mixes.{number - 1}", x, y)
        pairs.append((x, y))
        semantic.append(pc_att(weights, f"cycles.{number - 1}", x, y, number))
    logits = segmentation(weights, "segmentation", semantic, eps=eps, training=training)
    fused = fusion(weights, "fusion", pairs, *pictures, eps=eps, training=training)
    return resize(logits, visible.shape[2:]), fused
