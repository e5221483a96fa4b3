"""AMDANet's encoder: two pyramids that are aligned with each other at every level."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from crossband.blocks.alignment import GlobalAlignment, SummedBands, Trust
from crossband.blocks.mix_transformer import initialise, to_grid, to_map
from crossband.blocks.pyramid import ConvolutionalPyramid, PyramidEncoder, build_pyramid
from crossband.blocks.pyramid_encoder import LEVELS
from crossband.blocks.tied import copy_weights
from crossband.systems.amdanet.attention_slots import CBAM, DualAttention, PerBand
from crossband.systems.amdanet.consistency import SemanticConsistency, similarity
from crossband.systems.amdanet.local_alignment import AlignmentStart, SteppedAlignment
from crossband.systems.amdanet.reliability import Reconstruction, ReliabilityEstimate, blend, trust_of

LocalKind = Literal["local", "none", "cbam", "danet"]
TwoGrids = tuple[Tensor, Tensor]


@dataclass
class AlignedLevels:
    """What the encoder gives, one entry per level, finest first. Pairs are (visible, infrared).

    aligned: two grids (B, h, w, C), for the fusion decoder. shared: the grid of both, for the segmentation
    decoder; empty without global alignment.
    unaligned: the two grids that were aligned. own: what the band's own encoder made of it, before what is
    not trusted was replaced; a band that is missing has none.
    similarity: of the two embeddings, float32 (B,); none if a band is missing.
    trust: the weights of the bands, which broadcast to (B, h, w, 1); None where the bands are not weighed.
    trust_logits: (B, h, w, 2), what they were made from. reconstructed: each band's grid as predicted from
    the other's. Both are empty in an encoder without such parts.
    """

    aligned: list[TwoGrids] = field(default_factory=list)
    shared: list[Tensor] = field(default_factory=list)
    unaligned: list[TwoGrids] = field(default_factory=list)
    own: list[tuple[Tensor | None, Tensor | None]] = field(default_factory=list)
    similarity: list[Tensor] = field(default_factory=list)
    trust: list[Trust | None] = field(default_factory=list)
    trust_logits: list[Tensor] = field(default_factory=list)
    reconstructed: list[TwoGrids] = field(default_factory=list)

    def first(self, count: int) -> AlignedLevels:
        """The levels of the first pairs of the batch."""

        def cut(pairs: list[Any]) -> list[Any]:
            return [None if pair is None else tuple(part[:count] for part in pair) for pair in pairs]

        return replace(
            self,
            aligned=cut(self.aligned),
            shared=[grid[:count] for grid in self.shared],
            unaligned=cut(self.unaligned),
            own=cut(self.own),
            similarity=[values[:count] for values in self.similarity],
            trust=cut(self.trust),
            trust_logits=[logits[:count] for logits in self.trust_logits],
            reconstructed=cut(self.reconstructed),
        )


class AlignedEncoder(nn.Module):
    """A pyramid per band; each level is: embeddings, consistency inference, blocks, local alignment.

    The locally aligned maps go on to the next level's embeddings. Beside that, global alignment makes one
    map of the two at each level.

    encoder, encoder_weights, stochastic_depth: as in `build_pyramid`, for both bands. stage2_rates_of: of
    the visible and of the infrared pyramid. share_encoder: one pyramid for both bands.
    consistency: arguments of `SemanticConsistency`.
    local_alignment: "local" is AMDANet's; "cbam" and "danet" are attention in each band by itself, "none" is
    nothing at all. global_alignment: False sums the bands; None makes no shared map.
    alignment_start: what "local" is before it is trained: the "identity", ours, or as "published", which
    squashes the maps; see `SteppedAlignment`. alignment_scaling: whether "local" scales the maps
    of an encoder whose levels do not end in a norm (`PyramidEncoder.ends_in_norm`); those of others have one
    scale already, and are never scaled.
    salient_enhancement: see `GlobalAlignment`.
    reliability_gate, reconstruction: whether bands are weighed, and what is not trusted (or missing) is
    predicted from the other band; see `crossband.systems.amdanet.reliability`.
    """

    def __init__(
        self,
        encoder: str,
        encoder_weights: str | Path | None,
        *,
        stochastic_depth: float = 0.1,
        stage2_rates_of: tuple[int, int] | None = None,
        share_encoder: bool = False,
        consistency: Mapping[str, Any],
        local_alignment: LocalKind = "local",
        alignment_start: AlignmentStart = "identity",
        alignment_scaling: bool = False,
        global_alignment: bool | None = True,
        salient_enhancement: bool = True,
        reliability_gate: bool = False,
        reconstruction: bool = False,
    ):
        super().__init__()
        of_visible, of_infrared = stage2_rates_of or (None, None)
        self.rgb = build_pyramid(
            encoder, encoder_weights, drop_path=stochastic_depth, stage2_rate_of=of_visible
        )
        if share_encoder:
            self.ir: PyramidEncoder = self.rgb
        else:
            self.ir = build_pyramid(encoder, None, drop_path=stochastic_depth, stage2_rate_of=of_infrared)
            if encoder_weights is not None:
                copy_weights(self.rgb, self.ir)
        self.channels = self.rgb.channels
        self.reliability_gate, self.reconstruction = reliability_gate, reconstruction
        sizes = zip(
            LEVELS, self.channels, self.rgb.embed_channels, self.rgb.heads, self.rgb.reductions, strict=True
        )
        for level, channels, embed_channels, heads, reduction in sizes:
            modules: dict[str, nn.Module] = {"sci": SemanticConsistency(embed_channels, **consistency)}
            if local_alignment == "local":
                scaled = alignment_scaling and not self.rgb.ends_in_norm
                modules["local"] = SteppedAlignment(channels, start=alignment_start, scaled=scaled)
            elif local_alignment != "none":
                modules["local"] = _attention(local_alignment, channels, reduction)
            if global_alignment:
                modules["global"] = GlobalAlignment(channels, heads, reduction, enhance=salient_enhancement)
            elif global_alignment is not None:
                modules["global"] = SummedBands(channels)
            if reliability_gate:
                modules["reliability"] = ReliabilityEstimate(embed_channels)
            if reconstruction:
                modules["visible_from_infrared"] = Reconstruction(channels)
                modules["infrared_from_visible"] = Reconstruction(channels)
            for name, module in modules.items():
                self.add_module(f"{name}{level}", module)
                # The published start is made for a transformer's width and scale. Where features are narrow
                # and small, hardly anything would come through; PyTorch's own start depends on the width.
                if not isinstance(self.rgb, ConvolutionalPyramid):
                    module.apply(initialise)

    def forward(
        self, visible: Tensor | None, infrared: Tensor | None, present: Trust | None = None
    ) -> AlignedLevels:
        """Two images (B, 3, H, W) as the pyramids want them -> the aligned levels.

        One of them may be None in an encoder with a gate or reconstruction; its pyramid is then not run.
        present: 1 for each pair whose visible (infrared) image counts, 0 where it is to be treated as
        missing, (B, 1, 1, 1); None is 1 for all.
        """
        if visible is None or infrared is None:
            return self._from_one(visible, infrared)
        levels = AlignedLevels()
        logits: Tensor | None = None
        there = (None, None) if present is None else tuple(part.flatten() > 0 for part in present)
        for level in LEVELS:
            a = to_grid(_run_where(there[0], partial(self.rgb.embed, level), visible))
            b = to_grid(_run_where(there[1], partial(self.ir.embed, level), infrared))
            if self.reliability_gate:
                logits = self.part("reliability", level)(a, b, logits)
                levels.trust_logits.append(logits)
            trust = trust_of(logits, present)
            levels.similarity.append(similarity(a, b))
            a, b = self.part("sci", level)(a, b, levels.similarity[-1], trust)
            x = to_grid(_run_where(there[0], partial(self.rgb.blocks, level), to_map(a)))
            y = to_grid(_run_where(there[1], partial(self.ir.blocks, level), to_map(b)))
            levels.own.append((x, y))
            if trust is not None:
                x, y = self._replace_untrusted(level, x, y, trust, levels)
            x, y = self._append(level, x, y, trust, levels)
            visible, infrared = to_map(x), to_map(y)
        return levels

    def _from_one(self, visible: Tensor | None, infrared: Tensor | None) -> AlignedLevels:
        """The levels of one band; the other's features are predicted from it, or 0, and are not trusted."""
        levels = AlignedLevels()
        image, pyramid = (visible, self.rgb) if infrared is None else (infrared, self.ir)
        assert image is not None
        everything = image.new_ones(image.shape[0], 1, 1, 1)
        nothing = torch.zeros_like(everything)
        for level in LEVELS:
            own = to_grid(pyramid.blocks(level, pyramid.embed(level, image)))
            name = "infrared_from_visible" if infrared is None else "visible_from_infrared"
            other = self.part(name, level)(own) if self.reconstruction else torch.zeros_like(own)
            if infrared is None:
                x, y, trust = own, other, (everything, nothing)
                levels.own.append((own, None))
            else:
                x, y, trust = other, own, (nothing, everything)
                levels.own.append((None, own))
            x, y = self._append(level, x, y, trust, levels)
            image = to_map(x if infrared is None else y)
        return levels

    def _replace_untrusted(
        self, level: int, x: Tensor, y: Tensor, trust: Trust, levels: AlignedLevels
    ) -> TwoGrids:
        if not self.reconstruction:
            return blend(x, None, trust[0]), blend(y, None, trust[1])
        predicted = (
            self.part("visible_from_infrared", level)(y),
            self.part("infrared_from_visible", level)(x),
        )
        levels.reconstructed.append(predicted)
        return blend(x, predicted[0], trust[0]), blend(y, predicted[1], trust[1])

    def _append(self, level: int, x: Tensor, y: Tensor, trust: Trust | None, to: AlignedLevels) -> TwoGrids:
        to.unaligned.append((x, y))
        to.trust.append(trust)
        x, y, shared = self.align(level, x, y, trust)
        to.aligned.append((x, y))
        if shared is not None:
            to.shared.append(shared)
        return x, y

    def align(
        self, level: int, x: Tensor, y: Tensor, trust: Trust | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Both grids (B, h, w, C) aligned locally, and the shared grid, if the encoder makes one."""
        if self.has("local"):
            x, y = self.part("local", level)(x, y, trust)
        return x, y, self.part("global", level)(x, y) if self.has("global") else None

    def has(self, name: str) -> bool:
        """Whether the levels have a module of this name, such as "sci"."""
        return hasattr(self, f"{name}1")

    def part(self, name: str, level: int) -> nn.Module:
        """One of a level's modules, such as ("sci", 1)."""
        return getattr(self, f"{name}{level}")


def _run_where(there: Tensor | None, run: Callable[[Tensor], Tensor], features: Tensor) -> Tensor:
    """Run a band's layers on the pairs that have it; the others get 0.

    A band that is missing does not run at inference either: batch norms must not learn from what stands in
    its place. there: bool (B,), or None if all have it.
    """
    if there is None:
        return run(features)
    found = run(features[there])
    result = found.new_zeros(len(features), *found.shape[1:])
    result[there] = found
    return result


def _attention(kind: Literal["cbam", "danet"], channels: int, reduction: int) -> nn.Module:
    if kind == "cbam":
        return PerBand(CBAM(channels), CBAM(channels))
    return PerBand(DualAttention(channels, reduction), DualAttention(channels, reduction))
