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

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from crossband.blocks.luma import luma, with_luma
from crossband.errors import OptionError
from crossband.pairs.batch import Batch
from crossband.recipe import Recipe
from crossband.systems.base import Output, Phase, System
from crossband.systems.cddfuse import losses
from crossband.systems.cddfuse.coupling import DetailLayer
from crossband.systems.cddfuse.restormer import BaseBlock, RestormerBlock
from crossband.systems.deeplabv3plus import DeepLabV3Plus
from crossband.tensors import at_least_float32
from crossband.words import Bands, Support

DETAIL_LAYERS = 3
FLAT = 1e-3
"""An image whose values differ by less shows nothing: to spread it would show rounding."""

_ADAM: dict[str, object] = {
    "optimizer": "adam",
    "lr": 1e-4,
    "weight_decay": 0.0,
    "clip_norm": 0.01,
    "schedule": "drops",
}
_GOING_ON = {"drops": (1 / 4, 1 / 8, 1 / 16, 1 / 32)}
_FUSION_PHASES: dict[str, Mapping[str, Any]] = {
    "reconstruction": {**_ADAM, "epochs": 40, "drops": (1, 1 / 2)},
    "fusion": {
        **_ADAM,
        "epochs": 80,
        "drops": (1, 1 / 2, 1 / 4, 1 / 8),
        "groups": {"encoder": _GOING_ON, "decoder": _GOING_ON},
    },
}
_QUICK = {**_ADAM, "lr": 1e-3, "schedule": "poly", "epochs": 10, "warmup_steps": 0}
PHASE_RECIPES: dict[str, Mapping[str, Mapping[str, Any]]] = {
    "paper": _FUSION_PHASES,
    "common": _FUSION_PHASES,
    "quick": {"reconstruction": _QUICK, "fusion": _QUICK},
}
"""The published rates are halved every 20 epochs; encoder and decoder go on where reconstruction ended."""

_CROPS = {phase: {"crop": (128, 128)} for phase in _FUSION_PHASES}
PHASE_AUGMENTATIONS: dict[str, Mapping[str, Mapping[str, Any]]] = dict.fromkeys(PHASE_RECIPES, _CROPS)


class Parts(NamedTuple):
    """A fused grey image (B, 1, H, W) in (0, 1), and what it was made of: base and detail (B, C, H, W) of the
    visible and of the infrared image."""

    fused: Tensor
    base: tuple[Tensor, Tensor]
    detail: tuple[Tensor, Tensor]


class Encoder(nn.Module):
    """A grey image (B, 1, H, W) -> its base and its detail, each (B, width, H, W)."""

    def __init__(self, width: int, heads: int, blocks: int):
        super().__init__()
        self.embed = nn.Conv2d(1, width, 3, padding=1, bias=False)
        self.body = nn.Sequential(*(RestormerBlock(width, heads) for _ in range(blocks)))
        self.base = BaseBlock(width, heads)
        self.detail = nn.Sequential(*(DetailLayer(width) for _ in range(DETAIL_LAYERS)))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        features = self.body(self.embed(image))
        return self.base(features), self.detail(features)


class Decoder(nn.Module):
    """An image (B, 1, H, W), a base and a detail -> sigmoid(what these two add + the image)."""

    def __init__(self, width: int, heads: int, blocks: int):
        super().__init__()
        self.reduce = nn.Conv2d(2 * width, width, 1, bias=False)
        self.body = nn.Sequential(*(RestormerBlock(width, heads) for _ in range(blocks)))
        self.output = nn.Sequential(
            nn.Conv2d(width, width // 2, 3, padding=1, bias=False),
            nn.LeakyReLU(0.01),
            nn.Conv2d(width // 2, 1, 3, padding=1, bias=False),
        )

    def forward(self, image: Tensor, base: Tensor, detail: Tensor) -> Tensor:
        added = self.output(self.body(self.reduce(torch.cat((base, detail), dim=1))))
        return (at_least_float32(added) + image).sigmoid()


class FusionNetwork(nn.Module):
    """Two grey images -> one. The encoder is the same for both bands.

    width: channels of all features. heads: of every attention. blocks: Restormer blocks of the encoder and of
    the decoder each.
    """

    def __init__(self, width: int, heads: int, blocks: int):
        super().__init__()
        self.encoder = Encoder(width, heads, blocks)
        self.base_fusion = BaseBlock(width, heads)
        self.detail_fusion = DetailLayer(width)
        self.decoder = Decoder(width, heads, blocks)

    def forward(self, visible: Tensor, infrared: Tensor) -> Parts:
        """visible, infrared: (B, 1, H, W) in [0, 1]; where both are one tensor, it is encoded once."""
        of_visible = self.encoder(visible)
        of_infrared = of_visible if infrared is visible else self.encoder(infrared)
        base, detail = zip(of_visible, of_infrared, strict=True)
        fused = self.decoder(visible, self.base_fusion(sum(base)), self.detail_fusion(sum(detail)))
        return Parts(fused, base, detail)


class CDDFuse(System):
    """CDDFuse. classes: None for a system that only fuses, or their number for one that then segments the
    fused picture by DeepLabV3+.

    encoder, encoder_weights, decoder_channels: of the DeepLabV3+; unused without classes.
    width, heads, blocks: see `FusionNetwork`. ssim_weight, edge_weight: of SSIM and of the visible image's
    edges in the loss of the reconstruction; gradient_weight: of gradients in that of the fusion;
    decomposition_weight: of L_dec in both. See `crossband.systems.cddfuse.losses`.

    Raises OptionError for a width that does not fit, for negative weights of losses, and for encoder weights
    without classes.
    """

    name = "cddfuse"
    summary = "CDDFuse: a fused picture from both bands, and classes from the picture"
    paper = "Zhao et al., CVPR 2023, arXiv 2211.14461"
    fuses = True
    supports: Mapping[Bands, Support] = {"both": "designed", "infrared": "fallback", "visible": "fallback"}
    phase_recipes: ClassVar[Mapping[str, Mapping[str, Mapping[str, Any]]]] = PHASE_RECIPES
    phase_augmentations: ClassVar[Mapping[str, Mapping[str, Mapping[str, Any]]]] = PHASE_AUGMENTATIONS

    def __init__(
        self,
        classes: int | None,
        *,
        encoder: str = "efficientnet-b3",
        encoder_weights: str | Path | None = None,
        decoder_channels: int = 256,
        width: int = 64,
        heads: int = 8,
        blocks: int = 4,
        ssim_weight: float = 5.0,
        edge_weight: float = 5.0,
        gradient_weight: float = 10.0,
        decomposition_weight: float = 2.0,
    ):
        super().__init__()
        self.weights: dict[str, Any] = {
            "ssim_weight": ssim_weight,
            "edge_weight": edge_weight,
            "gradient_weight": gradient_weight,
            "decomposition_weight": decomposition_weight,
        }
        self.sizes: dict[str, Any] = {"width": width, "heads": heads, "blocks": blocks}
        for name, value in self.weights.items():
            if not 0 <= value < math.inf:
                raise OptionError(f"cddfuse: {name} must be 0 or more, not {value}")
        if min(self.sizes.values()) < 1 or width % 2 or width % heads or width == heads:
            raise OptionError(
                "cddfuse: width must be even and give each of the heads two channels or more, and heads and "
                f"blocks must be 1 or more, not width {width}, heads {heads}, blocks {blocks}"
            )
        if classes is None and encoder_weights is not None:
            raise OptionError(
                "cddfuse without classes only fuses and has no encoder to load weights into; leave out "
                "encoder_weights"
            )
        self.segments = classes is not None
        self.fusion = FusionNetwork(width, heads, blocks)
        self.segmenter: DeepLabV3Plus | None = None
        if classes is not None:
            self.segmenter = DeepLabV3Plus(
                classes,
                encoder=encoder,
                encoder_weights=encoder_weights,
                decoder_channels=decoder_channels,
            )

    def run(self, visible: Tensor | None, infrared: Tensor | None, *, features: bool) -> Output:
        fused, parts = self.fuse(visible, infrared)
        # The segmenter pads what it gets, so that nothing of the fusion ever sees a padded border.
        logits = None if self.segmenter is None else self.segmenter(fused, features=False).logits
        output = Output(logits, fused)
        if features:
            output.features = parts._asdict()
        return output

    def fuse(
        self, visible: Tensor | None, infrared: Tensor | None, valid: Tensor | None = None
    ) -> tuple[Tensor, Parts]:
        """The fused picture (B, 3, H, W) in [0, 1], and the parts that it is made of.

        The fused image is spread over [0, 1] and takes the place of the visible one's luma; without a visible
        image the picture is grey. visible: (B, 3, H, W), infrared: (B, 1, H, W), one of them None if it is
        missing. valid: bool (B, H, W), the pixels that may be the darkest and the brightest, or None for all.
        """
        parts = self.fusion(*_greys(visible, infrared))
        grey = spread(parts.fused, valid)
        return (grey.expand(-1, 3, -1, -1) if visible is None else with_luma(visible, grey)), parts

    def phases(self, recipe: Recipe) -> list[Phase]:
        """Reconstruction (stage I), fusion (stage II) and, with classes, segmentation of fused pictures."""
        network, only_fusing = self.fusion, self._only_fusing()
        parts = {"encoder": network.encoder, "decoder": network.decoder}
        all_parts = {**parts, "base_fusion": network.base_fusion, "detail_fusion": network.detail_fusion}
        phases = [
            Phase(
                "reconstruction",
                trained=nn.ModuleDict(parts),
                keeps=only_fusing,
                loss=self._reconstruction_loss,
                recipe=recipe,
                groups=parts,
            ),
            Phase(
                "fusion",
                trained=network,
                keeps=only_fusing,
                loss=self._fusion_loss,
                recipe=recipe,
                groups=all_parts,
            ),
        ]
        if self.segmenter is not None:
            of_segmenter = self.segmenter.phase("segmentation", recipe)

            def loss(batch: Batch) -> Mapping[str, Tensor]:
                with torch.no_grad():
                    fused, _ = self.fuse(batch.visible, batch.infrared, batch.valid)
                return of_segmenter.loss(replace(batch, visible=fused))

            phases.append(
                Phase(
                    "segmentation",
                    trained=self.segmenter,
                    keeps=self,
                    loss=loss,
                    recipe=recipe,
                    frozen=(network,),
                )
            )
        return phases

    def deployed(self, bands: Bands) -> list[nn.Module]:
        self.check_bands(bands)
        return [self]

    def dead(self) -> list[nn.Module]:
        return [] if self.segmenter is None else self.segmenter.dead()

    def _only_fusing(self) -> CDDFuse:
        """Itself, or with classes a system without them on the same fusion network: what two phases keep."""
        if not self.segments:
            return self
        with torch.device("meta"):
            only = CDDFuse(None, **self.sizes, **self.weights)
        only.fusion = self.fusion
        return only

    def _reconstruction_loss(self, batch: Batch) -> dict[str, Tensor]:
        """Stage I: each band restored from its own parts, onto its own image."""
        bands = {"visible": batch.visible, "infrared": batch.infrared}
        made, terms = {}, {}
        for band, picture in bands.items():
            if picture is None:
                continue
            image = luma(picture) if band == "visible" else picture
            made[band] = self.fusion.encoder(image)
            restored = self.fusion.decoder(image, *made[band])
            ssim = losses.ssim_loss(restored, image, batch.valid)
            terms[f"ssim_{band}"] = self.weights["ssim_weight"] * ssim
            terms[f"mse_{band}"] = losses.squared_error(restored, image, batch.valid)
            if band == "visible":
                edges = losses.edge_loss(restored, image, batch.valid)
                terms["edges_visible"] = self.weights["edge_weight"] * edges
        if len(made) == len(bands):
            base, detail = zip(made["visible"], made["infrared"], strict=True)
            terms["decomposition"] = self._decomposition(base, detail, batch.valid)
        return terms

    def _fusion_loss(self, batch: Batch) -> dict[str, Tensor]:
        """Stage II: the fused image, before it is spread, against the brighter and the steeper of the two."""
        visible, infrared = _greys(batch.visible, batch.infrared)
        fused, base, detail = self.fusion(visible, infrared)
        gradient = losses.joint_gradient_loss(fused, visible, infrared, batch.valid)
        terms = {
            "intensity": losses.intensity_loss(fused, visible, infrared, batch.valid),
            "gradient": self.weights["gradient_weight"] * gradient,
        }
        if visible is not infrared:
            terms["decomposition"] = self._decomposition(base, detail, batch.valid)
        return terms

    def _decomposition(self, base: losses.Pair, detail: losses.Pair, valid: Tensor | None) -> Tensor:
        return self.weights["decomposition_weight"] * losses.decomposition_loss(base, detail, valid)


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


def _greys(visible: Tensor | None, infrared: Tensor | None) -> tuple[Tensor, Tensor]:
    """The visible image's luma and the infrared image; one that is missing is the other, the same tensor."""
    if visible is None:
        assert infrared is not None
        return infrared, infrared
    grey = luma(visible)
    return grey, grey if infrared is None else infrared
