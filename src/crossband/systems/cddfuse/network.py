"""CDDFuse: a fusion by parts that the bands share and parts that they do not; a segmenter may follow it.

Paper: Zhao et al., "CDDFuse: Correlation-Driven Dual-Branch Feature Decomposition for Multi-Modality Image
Fusion", CVPR 2023 (arXiv 2211.14461). Sizes, losses and recipe are those of the published code
(Zhaozixiang1228/MMIF-CDDFuse), known from a description in words. None of it is used here, nor are its
weights; the licences of both were not checked. The segmenter, DeepLabV3+ on the fused picture, is the row
"CDDFuse" of the tables of CSK-Net's paper (arXiv 2312.02240).

One encoder takes each band's grey image apart into a base and a detail; the bases and the details are fused,
and a decoder makes the fused image of them and of the visible one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from crossband.blocks.luma import luma, with_luma
from crossband.errors import OptionError
from crossband.systems.base import NetworkSettings, Output, System
from crossband.systems.cddfuse.coupling import DetailLayer
from crossband.systems.cddfuse.restormer import BaseBlock, RestormerBlock
from crossband.systems.deeplabv3plus import DeepLabV3Plus, DeepLabV3PlusSettings
from crossband.systems.registry import in_words
from crossband.tensors import at_least_float32
from crossband.words import Bands, Support

BLENDED_MAPS = 2
Picture = Literal["added", "blended"]
FLAT = 1e-3
"""An image whose values differ by less shows nothing: to spread it would show rounding."""


VARIANTS: dict[str, dict[str, Any]] = {
    "light": {"width": 8, "heads": 2, "blocks": 1, "detail_layers": 1, "picture": "blended", "spread": False},
}
"""``light`` is ours: a network of 15,864 parameters, which blends both images."""


class Parts(NamedTuple):
    """A fused grey image (B, 1, H, W) in (0, 1), and what it was made of: base and detail (B, C, H, W) of the
    visible and of the infrared image."""

    fused: Tensor
    base: tuple[Tensor, Tensor]
    detail: tuple[Tensor, Tensor]


class Encoder(nn.Module):
    """A grey image (B, 1, H, W) -> its base and its detail, each (B, width, H, W)."""

    def __init__(self, width: int, heads: int, blocks: int, detail_layers: int):
        super().__init__()
        self.embed = nn.Conv2d(1, width, 3, padding=1, bias=False)
        self.body = nn.Sequential(*(RestormerBlock(width, heads) for _ in range(blocks)))
        self.base = BaseBlock(width, heads)
        self.detail = nn.Sequential(*(DetailLayer(width) for _ in range(detail_layers)))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        features = self.body(self.embed(image))
        return self.base(features), self.detail(features)


class Decoder(nn.Module):
    """An image (B, 1, H, W), a base and a detail -> sigmoid(what these two add + the image).

    inputs: channels of what it sees, by default those of a base and a detail. outputs: of the maps that it
    makes of them: one, which `forward` adds to the image, or more, which `maps` gives as they are.
    """

    def __init__(self, width: int, heads: int, blocks: int, inputs: int | None = None, outputs: int = 1):
        super().__init__()
        self.reduce = nn.Conv2d(inputs or 2 * width, width, 1, bias=False)
        self.body = nn.Sequential(*(RestormerBlock(width, heads) for _ in range(blocks)))
        self.output = nn.Sequential(
            nn.Conv2d(width, width // 2, 3, padding=1, bias=False),
            nn.LeakyReLU(0.01),
            nn.Conv2d(width // 2, outputs, 3, padding=1, bias=False),
        )

    def forward(self, image: Tensor, base: Tensor, detail: Tensor) -> Tensor:
        return (self.maps(base, detail) + image).sigmoid()

    def maps(self, *seen: Tensor) -> Tensor:
        """Features (B, C, H, W), ``inputs`` channels in all -> (B, outputs, H, W), in float32 or better."""
        # Details are in float32, whatever the weights are in.
        features = torch.cat(seen, dim=1).to(self.reduce.weight.dtype)
        return at_least_float32(self.output(self.body(self.reduce(features))))


class FusionNetwork(nn.Module):
    """Two grey images -> one. The encoder is the same for both bands.

    width: channels of all features, an even number that gives each of the heads two or more; fewer are
    faster. heads: parts into which every attention divides the channels. blocks: how many Restormer blocks,
    layers of attention, the encoder and the decoder have each. detail_layers: how many layers the encoder's
    branch for fine detail has.
    picture: "added" or "blended", see `CDDFuseSettings`.
    """

    def __init__(
        self, width: int, heads: int, blocks: int, detail_layers: int = 3, picture: Picture = "added"
    ):
        super().__init__()
        self.blends = picture == "blended"
        self.encoder = Encoder(width, heads, blocks, detail_layers)
        self.base_fusion = BaseBlock(width, heads)
        self.detail_fusion = DetailLayer(width)
        if self.blends:
            self.decoder = Decoder(width, heads, blocks, inputs=3 * width + 2, outputs=BLENDED_MAPS)
        else:
            self.decoder = Decoder(width, heads, blocks)

    def forward(self, visible: Tensor, infrared: Tensor) -> Parts:
        """visible, infrared: (B, 1, H, W) in [0, 1]; where both are one tensor, it is encoded once."""
        of_visible = self.encoder(visible)
        of_infrared = of_visible if infrared is visible else self.encoder(infrared)
        base, detail = zip(of_visible, of_infrared, strict=True)
        merged = self.base_fusion(sum(base)), self.detail_fusion(sum(detail))
        if self.blends:
            # A sum does not say which of its terms is whose, and a weight between both has to know.
            maps = self.decoder.maps(*merged, detail[0] - detail[1], visible, infrared)
            return Parts(blended(visible, infrared, maps), base, detail)
        return Parts(self.decoder(visible, *merged), base, detail)


@dataclass(frozen=True, kw_only=True)
class CDDFuseSettings(NetworkSettings):
    """encoder: that of the DeepLabV3+ which segments the fused pictures, any convolutional one of smp or
    timm; unused without classes. encoder_weights: what it starts from: None is random, "imagenet" weights
    that were trained there, or the path of a file with such weights. decoder_channels: channels of its
    decoder; unused without classes.
    width, heads, blocks, detail_layers: see `FusionNetwork`.
    picture: how the grey picture is made: the decoder's map "added" to the visible image, under a sigmoid, as
    published, or both images "blended" by it (ours, see `blended`). spread: whether every picture is spread
    from 0 to 1 by itself, as published.

    Raises OptionError for a width that does not fit.
    """

    encoder: str = "efficientnet-b3"
    encoder_weights: str | Path | None = None
    decoder_channels: int = 256
    width: int = 64
    heads: int = 8
    blocks: int = 4
    detail_layers: int = 3
    picture: Picture = "added"
    spread: bool = True

    def __post_init__(self) -> None:
        width, heads, blocks = self.width, self.heads, self.blocks
        if min(width, heads, blocks, self.detail_layers) < 1 or width % 2 or width % heads or width == heads:
            raise OptionError(
                "cddfuse: width must be even and give each of the heads two channels or more, and heads, "
                f"blocks and detail_layers must be 1 or more, not width {width}, heads {heads}, blocks "
                f"{blocks}, detail_layers {self.detail_layers}"
            )


class CDDFuse(System):
    """CDDFuse. classes: None for a system that only fuses, or their number for one that then segments the
    fused picture by DeepLabV3+.

    Raises OptionError for encoder weights without classes.
    """

    name = "cddfuse"
    summary, paper = in_words(name)
    built_from = CDDFuseSettings
    trained_by = "crossband.systems.cddfuse.training:CDDFuseTraining"
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = VARIANTS
    earlier: ClassVar[Mapping[str, Any]] = {"detail_layers": 3, "picture": "added", "spread": True}
    fuses = True
    supports: Mapping[Bands, Support] = {"both": "designed", "infrared": "fallback", "visible": "fallback"}

    def __init__(self, classes: int | None, settings: CDDFuseSettings):
        super().__init__(classes, settings)
        if classes is None and settings.encoder_weights is not None:
            raise OptionError(
                "cddfuse without classes only fuses and has no encoder to load weights into; leave out "
                "encoder_weights"
            )
        self.segments = classes is not None
        self.fusion = FusionNetwork(
            settings.width, settings.heads, settings.blocks, settings.detail_layers, settings.picture
        )
        self.segmenter: DeepLabV3Plus | None = None
        if classes is not None:
            self.segmenter = DeepLabV3Plus(
                classes,
                DeepLabV3PlusSettings(
                    encoder=settings.encoder,
                    encoder_weights=settings.encoder_weights,
                    decoder_channels=settings.decoder_channels,
                ),
            )

    def run(self, visible: Tensor | None, infrared: Tensor | None, *, features: bool) -> Output:
        fused, parts = self.fuse(visible, infrared)
        # The segmenter pads what it gets, so that nothing of the fusion ever sees a padded border.
        logits = None if self.segmenter is None else self.segmenter(fused, features=False).logits
        output = Output(logits, fused)
        if features:
            output.features = parts
        return output

    def fuse(
        self, visible: Tensor | None, infrared: Tensor | None, valid: Tensor | None = None
    ) -> tuple[Tensor, Parts]:
        """The fused picture (B, 3, H, W) in [0, 1], and the parts that it is made of.

        The fused image, spread over [0, 1] if the settings say so, takes the place of the visible one's luma;
        without a visible image the picture is grey. visible: (B, 3, H, W), infrared: (B, 1, H, W), one of
        them None if it is missing. valid: bool (B, H, W), the pixels that may be the darkest and the
        brightest, or None for all.
        """
        parts = self.fusion(*greys(visible, infrared))
        grey = spread(parts.fused, valid) if self.settings.spread else parts.fused.clamp(0, 1)
        if visible is None:
            assert infrared is not None
            return grey.to(infrared.dtype).expand(-1, 3, -1, -1), parts
        return with_luma(visible, grey), parts

    def deployed(self, bands: Bands) -> list[nn.Module]:
        self.check_bands(bands)
        return [self]

    def dead(self) -> list[nn.Module]:
        return [] if self.segmenter is None else self.segmenter.dead()

    def encoders(self) -> list[nn.Module]:
        return [] if self.segmenter is None else self.segmenter.encoders()

    def only_fusing(self) -> CDDFuse:
        """Itself, or with classes a system without them on the same fusion network: what two phases keep."""
        if not self.segments:
            return self
        with torch.device("meta"):
            only = CDDFuse(None, CDDFuseSettings(**self.network_options))
        only.fusion = self.fusion
        return only


def blended(visible: Tensor, infrared: Tensor, maps: Tensor) -> Tensor:
    """w I + (1 - w) V + d, a grey image about in [0, 1].

    visible, infrared: V and I, (B, 1, H, W). maps: (B, 2, H, W), of which w = sigmoid(4 first) is a weight
    and d = tanh(second) / 4 what is added. Every edge of the images can pass whole, however little the maps
    have learnt.
    """
    weight, added = maps.chunk(2, dim=1)
    weight = (4 * weight).sigmoid()
    return weight * infrared + (1 - weight) * visible + added.tanh() / 4


def spread(grey: Tensor, valid: Tensor | None = None) -> Tensor:
    """Every image of (B, 1, H, W) from 0 at its darkest to 1 at its brightest pixel, by itself.

    One that is nearly constant (`FLAT`) stays as it is. valid: bool (B, H, W), the pixels that may be the
    darkest and the brightest, or None for all; the rest is clipped to [0, 1].
    """
    low = high = grey
    if valid is not None:
        outside = ~valid.unsqueeze(1)
        low, high = grey.masked_fill(outside, torch.inf), grey.masked_fill(outside, -torch.inf)
    low, high = low.amin(dim=(1, 2, 3), keepdim=True), high.amax(dim=(1, 2, 3), keepdim=True)
    return torch.where(high - low > FLAT, (grey - low) / (high - low).clamp(min=FLAT), grey).clamp(0, 1)


def greys(visible: Tensor | None, infrared: Tensor | None) -> tuple[Tensor, Tensor]:
    """The visible image's luma and the infrared image; one that is missing is the other, the same tensor."""
    if visible is None:
        assert infrared is not None
        return infrared, infrared
    grey = luma(visible)
    return grey, grey if infrared is None else infrared
