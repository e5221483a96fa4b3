"""AMDANet written down as its formulas read, in plain eager PyTorch: what ours must equal and outrun.

Tokens (B, N, C) between the layers and maps (B, C, h, w) for convolutions, attention by two matrix products
and a softmax, every decoder layer at the resolution at which it is defined. The parameters have the names of
`crossband.systems.amdanet.AMDANet`, so that ``load_state_dict`` carries weights over. Only what the system
is by default, the variant "clean" with a Mix Transformer, on both bands; and, with ``published``, the output
of the published code, in which consistency inference always acts and gives the streams back exchanged.
Nothing is padded: a size that is no multiple of 32 is rounded where the convolutions round it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CHANNELS = {"mit_tiny": (8, 16, 40, 64)}
DEPTHS = {"mit_tiny": (1, 1, 1, 1), "mit_b1": (2, 2, 2, 2), "mit_b2": (3, 4, 6, 3), "mit_b4": (3, 8, 27, 3)}
HEADS, REDUCTIONS = (1, 2, 5, 8), (8, 4, 2, 1)
TAU = 0.4


def to_map(tokens: Tensor, height: int, width: int) -> Tensor:
    return tokens.transpose(1, 2).reshape(tokens.shape[0], -1, height, width).contiguous()


def to_tokens(features: Tensor) -> Tensor:
    return features.flatten(2).transpose(1, 2).contiguous()


class Attention(nn.Module):
    def __init__(self, channels: int, heads: int, reduction: int, bias: bool):
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(channels, channels, bias=bias)
        self.kv = nn.Linear(channels, 2 * channels, bias=bias)
        if reduction > 1:
            self.reduce = nn.Conv2d(channels, channels, reduction, stride=reduction)
            self.reduce_norm = nn.LayerNorm(channels)
        self.proj = nn.Linear(channels, channels)

    def attend(self, query: Tensor, source: Tensor, height: int, width: int) -> Tensor:
        batch, count, channels = query.shape
        q = self.q(query).reshape(batch, count, self.heads, -1).permute(0, 2, 1, 3)
        if hasattr(self, "reduce"):
            source = self.reduce_norm(to_tokens(self.reduce(to_map(source, height, width))))
        key, value = (
            self.kv(source).reshape(batch, -1, 2, self.heads, channels // self.heads).permute(2, 0, 3, 1, 4)
        )
        weights = (q @ key.transpose(-2, -1) / (channels // self.heads) ** 0.5).softmax(dim=-1)
        return (weights @ value).transpose(1, 2).reshape(batch, count, channels)


class FeedForward(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.fc1 = nn.Linear(channels, 4 * channels)
        self.dw = nn.Conv2d(4 * channels, 4 * channels, 3, padding=1, groups=4 * channels)
        self.fc2 = nn.Linear(4 * channels, channels)

    def forward(self, tokens: Tensor, height: int, width: int) -> Tensor:
        hidden = to_tokens(self.dw(to_map(self.fc1(tokens), height, width)))
        return self.fc2(F.gelu(hidden))


class Block(nn.Module):
    def __init__(self, channels: int, heads: int, reduction: int):
        super().__init__()
        self.norm1 = nn.LayerNorm(channels, eps=1e-6)
        self.attn = Attention(channels, heads, reduction, bias=True)
        self.norm2 = nn.LayerNorm(channels, eps=1e-6)
        self.ffn = FeedForward(channels)

    def forward(self, tokens: Tensor, height: int, width: int) -> Tensor:
        normed = self.norm1(tokens)
        tokens = tokens + self.attn.proj(self.attn.attend(normed, normed, height, width))
        return tokens + self.ffn(self.norm2(tokens), height, width)


class Embed(nn.Module):
    def __init__(self, inputs: int, channels: int, kernel: int, stride: int):
        super().__init__()
        self.proj = nn.Conv2d(inputs, channels, kernel, stride=stride, padding=kernel // 2)
        self.norm = nn.LayerNorm(channels)


class Stream(nn.Module):
    def __init__(self, channels: tuple[int, ...], depths: tuple[int, ...]):
        super().__init__()
        for i in range(4):
            kernel, stride = (7, 4) if i == 0 else (3, 2)
            inputs = 3 if i == 0 else channels[i - 1]
            self.add_module(f"embed{i + 1}", Embed(inputs, channels[i], kernel, stride))
            blocks = [Block(channels[i], HEADS[i], REDUCTIONS[i]) for _ in range(depths[i])]
            self.add_module(f"stage{i + 1}", nn.ModuleList(blocks))
            self.add_module(f"norm{i + 1}", nn.LayerNorm(channels[i], eps=1e-6))

    def embed(self, i: int, features: Tensor) -> tuple[Tensor, int, int]:
        embed = getattr(self, f"embed{i}")
        features = embed.proj(features)
        return embed.norm(to_tokens(features)), features.shape[2], features.shape[3]

    def blocks(self, i: int, tokens: Tensor, height: int, width: int) -> Tensor:
        for block in getattr(self, f"stage{i}"):
            tokens = block(tokens, height, width)
        return to_map(getattr(self, f"norm{i}")(tokens), height, width)


class Consistency(nn.Module):
    def __init__(self, channels: int, published: bool):
        super().__init__()
        self.published = published
        self.mlp1 = nn.Linear(2 * channels, channels)
        self.mlp2 = nn.Linear(channels, 1)
        self.lam = nn.Parameter(torch.tensor(0.5))

    def forward(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        similarity = F.cosine_similarity(a, b, dim=-1).mean(dim=1)
        m = torch.sigmoid(self.mlp2(F.relu(self.mlp1(torch.cat([a, b], dim=-1)))))
        if self.published:
            return b - self.lam * m * (b - a), a - self.lam * m * (a - b)
        disagree = (similarity < TAU)[:, None, None]
        return (
            torch.where(disagree, a - self.lam * m * (a - b), a),
            torch.where(disagree, b - self.lam * m * (b - a), b),
        )


class Local(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.channel1 = nn.Linear(2 * channels, channels // 2)
        self.channel2 = nn.Linear(channels // 2, 2 * channels)
        self.spatial1 = nn.Conv2d(4, 16, 1)
        self.spatial2 = nn.Conv2d(16, 2, 1)
        self.gate1 = nn.Linear(2 * channels, channels // 2)
        self.gate2 = nn.Linear(channels // 2, channels)

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        height, width = x.shape[2:]
        z = torch.cat([x, y], dim=1)
        pools = F.adaptive_avg_pool2d(z, 1).flatten(1), F.adaptive_max_pool2d(z, 1).flatten(1)
        k = torch.sigmoid(sum(self.channel2(F.relu(self.channel1(pool))) for pool in pools))
        k_x, k_y = k[:, :, None, None].chunk(2, dim=1)
        statistics = [t for m in (x, y) for t in (m.mean(dim=1, keepdim=True), m.amax(dim=1, keepdim=True))]
        p = torch.sigmoid(self.spatial2(F.relu(self.spatial1(torch.cat(statistics, dim=1)))))
        p_x, p_y = p.chunk(2, dim=1)
        g = to_map(torch.sigmoid(self.gate2(F.relu(self.gate1(to_tokens(z))))), height, width)
        w_x, w_y = g * k_x * p_x, g * k_y * p_y
        u, v = x + w_x * y, y + w_y * x
        return u * torch.sigmoid(u * w_x - u) + u * w_x, v * torch.sigmoid(v * w_y - v) + v * w_y


class Global(nn.Module):
    def __init__(self, channels: int, heads: int, reduction: int):
        super().__init__()
        for name in ("sfe_a", "sfe_b", "cross1", "cross2"):
            self.add_module(name, Attention(channels, heads, reduction, bias=False))
        self.proj = nn.Linear(channels, channels)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        height, width = x.shape[2:]

        def unit(attention: Attention, query: Tensor, source: Tensor) -> Tensor:
            return attention.proj(attention.attend(query, source, height, width) + query)

        x, y = to_tokens(x), to_tokens(y)
        a, b = unit(self.sfe_a, x, x), unit(self.sfe_b, y, y)
        m = unit(self.cross1, a, b)
        return to_map(self.proj(unit(self.cross2, b, m)), height, width)


class Encoder(nn.Module):
    def __init__(self, channels: tuple[int, ...], depths: tuple[int, ...], published: bool):
        super().__init__()
        self.rgb, self.ir = Stream(channels, depths), Stream(channels, depths)
        for i in range(4):
            self.add_module(f"sci{i + 1}", Consistency(channels[i], published))
            self.add_module(f"local{i + 1}", Local(channels[i]))
            self.add_module(f"global{i + 1}", Global(channels[i], HEADS[i], REDUCTIONS[i]))

    def forward(self, x: Tensor, y: Tensor) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        maps: tuple[list[Tensor], list[Tensor], list[Tensor]] = ([], [], [])
        for i in range(1, 5):
            a, height, width = self.rgb.embed(i, x)
            b, height, width = self.ir.embed(i, y)
            a, b = getattr(self, f"sci{i}")(a, b)
            x, y = self.rgb.blocks(i, a, height, width), self.ir.blocks(i, b, height, width)
            x, y = getattr(self, f"local{i}")(x, y)
            for found, result in zip(maps, (x, y, getattr(self, f"global{i}")(x, y)), strict=True):
                found.append(result)
        return maps


class Segmentation(nn.Module):
    def __init__(self, channels: tuple[int, ...], classes: int, width: int):
        super().__init__()
        for i in range(4):
            self.add_module(f"embed{i + 1}", nn.Linear(channels[i], width))
        self.fuse_conv = nn.Conv2d(4 * width, width, 1)
        self.fuse_bn = nn.BatchNorm2d(width)
        self.classify = nn.Conv2d(width, classes, 1)

    def forward(self, maps: list[Tensor]) -> Tensor:
        size = maps[0].shape[2:]
        levels = []
        for i in (4, 3, 2, 1):
            height, width = maps[i - 1].shape[2:]
            embedded = to_map(getattr(self, f"embed{i}")(to_tokens(maps[i - 1])), height, width)
            levels.append(F.interpolate(embedded, size=size, mode="bilinear", align_corners=False))
        return self.classify(F.relu(self.fuse_bn(self.fuse_conv(torch.cat(levels, dim=1)))))


class Fusion(nn.Module):
    def __init__(self, channels: tuple[int, ...], width: int):
        super().__init__()
        for i in range(4):
            for band in ("rgb", "ir"):
                self.add_module(f"point{i + 1}_{band}_conv", nn.Conv2d(channels[i], width, 1))
                self.add_module(f"point{i + 1}_{band}_bn", nn.BatchNorm2d(width))
        self.conv = nn.Conv2d(8 * width + 6, width, 3, padding=1)
        self.bn = nn.BatchNorm2d(width)
        self.out = nn.Conv2d(width, 3, 1)

    def forward(self, x: list[Tensor], y: list[Tensor], visible: Tensor, infrared: Tensor) -> Tensor:
        size = visible.shape[2:]
        maps = []
        for i in range(4):
            for band, features in (("rgb", x[i]), ("ir", y[i])):
                convolution = getattr(self, f"point{i + 1}_{band}_conv")
                pointed = F.relu(getattr(self, f"point{i + 1}_{band}_bn")(convolution(features)))
                maps.append(F.interpolate(pointed, size=size, mode="bilinear", align_corners=False))
        maps += [visible, infrared]
        return torch.sigmoid(self.out(F.relu(self.bn(self.conv(torch.cat(maps, dim=1))))))


class ReferenceAMDANet(nn.Module):
    """classes, encoder, decoder_channels, fusion_channels: as in AMDANet. No dropout, no stochastic depth."""

    def __init__(
        self,
        classes: int,
        encoder: str,
        decoder_channels: int = 512,
        fusion_channels: int = 16,
        *,
        published: bool = False,
    ):
        super().__init__()
        channels = CHANNELS.get(encoder, (64, 128, 320, 512))
        self.enc = Encoder(channels, DEPTHS[encoder], published)
        self.seg = Segmentation(channels, classes, decoder_channels)
        self.fus = Fusion(channels, fusion_channels)

    def forward(self, visible: Tensor, infrared: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, H, W) and (B, 1, H, W) -> logits (B, classes, H, W), fused (B, 3, H, W)."""
        infrared = infrared.repeat(1, 3, 1, 1)
        x, y, shared = self.enc(visible, infrared)
        logits = F.interpolate(self.seg(shared), size=visible.shape[2:], mode="bilinear", align_corners=False)
        return logits, self.fus(x, y, visible, infrared)
