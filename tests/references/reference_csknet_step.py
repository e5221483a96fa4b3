"""CSK-Net's second training phase written down as its paper's formulas read, in plain eager PyTorch.

What ours must equal, gradient for gradient, and outrun. smp's own DeepLabV3+ with an EfficientNet, one pass
per branch, each loss as its equation has it (arXiv 2312.02240, equations 1 to 11). Random draws fall in the
order in which ours makes them, so that one seed gives both the same dropout, and the contrastive loss takes
its pixels from our sampler: which pixels meet is a draw, and no gradient flows through it. Only what the
system and its training are by default. The parameters have the names of ours, so that ``load_state_dict``
carries weights over.
"""

from __future__ import annotations

from collections.abc import Callable

import segmentation_models_pytorch as smp
import torch
from segmentation_models_pytorch.base import SegmentationHead
from torch import Tensor, nn
from torch.nn import functional as F

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
QUANTILE = 0.10
SPATIAL_STAGES = (4, 5)
TEMPERATURE, HARD_FRACTION, PROJECTION_WIDTH = 0.1, 0.1, 128
IGNORED = 255

Sampler = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""(label, prediction), both (B, h, w) -> chosen indices into ``label.flatten()``, and which of them count."""


class GatedUnit(nn.Module):
    """Equations 2 to 6."""

    def __init__(self, width: int):
        super().__init__()
        self.hidden = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(3))
        self.gates = nn.ModuleList(nn.Conv2d(3 * width, width, 1) for _ in range(3))

    def forward(self, x1: Tensor, x2: Tensor) -> Tensor:
        x3 = x1 + x2
        union = torch.cat([x1, x2, x3], dim=1)
        h1, h2, h3 = (torch.tanh(hidden(x)) for hidden, x in zip(self.hidden, (x1, x2, x3), strict=True))
        z1, z2, z3 = (torch.sigmoid(gate(union)) for gate in self.gates)
        return z1 * h1 + z2 * h2 + z3 * h3


class ReferenceCSKNet(nn.Module):
    """classes, encoder, decoder_channels: as in CSKNet; the encoder is one of smp's EfficientNets."""

    def __init__(self, classes: int, encoder: str, decoder_channels: int = 256):
        super().__init__()
        options = {"encoder_weights": None, "classes": classes, "decoder_channels": decoder_channels}
        self.visible = smp.DeepLabV3Plus(encoder, **options)
        self.infrared = smp.DeepLabV3Plus(encoder, **options)
        # Shared convolutions, batch norms of their own.
        for part in ("encoder", "decoder.aspp"):
            source, target = self.visible.get_submodule(part), self.infrared.get_submodule(part)
            for ours, theirs in zip(source.modules(), target.modules(), strict=True):
                if isinstance(ours, nn.Conv2d):
                    theirs.weight, theirs.bias = ours.weight, ours.bias
        self.gated_unit = GatedUnit(decoder_channels)
        self.fused_head = SegmentationHead(decoder_channels, classes, kernel_size=1, upsampling=4)

    def pair(self, visible: Tensor, infrared: Tensor) -> tuple[dict[str, Tensor], dict[str, list[Tensor]]]:
        """Logits by head, and the maps of each branch: five stages, and the decoder's output at the end."""
        maps: dict[str, list[Tensor]] = {"visible": [visible], "infrared": [infrared]}
        of_visible, of_infrared = _stages(self.visible.encoder), _stages(self.infrared.encoder)
        for stage in range(1, 6):
            visible, norm_visible = of_visible[stage - 1](visible)
            infrared, norm_infrared = of_infrared[stage - 1](infrared)
            visible, infrared = exchange_channels(visible, infrared, norm_visible, norm_infrared)
            if stage in SPATIAL_STAGES:
                visible, infrared = exchange_columns(visible, infrared)
            maps["visible"].append(visible)
            maps["infrared"].append(infrared)
        x_visible, x_infrared = self.visible.decoder(maps["visible"]), self.infrared.decoder(maps["infrared"])
        maps["visible"].append(x_visible)
        maps["infrared"].append(x_infrared)
        logits = {
            "fused": self.fused_head(self.gated_unit(x_infrared, x_visible)),
            "visible": self.visible.segmentation_head(x_visible),
        }
        return logits, maps


class ReferencePhase(nn.Module):
    """The second phase: what it trains, its frozen teacher, and its loss of a batch.

    sampler: our draw of pixels. ``students`` and ``teacher`` take the weights of the phase's ``trained`` and
    of the network of its frozen teacher.
    """

    def __init__(self, classes: int, encoder: str, sampler: Sampler, decoder_channels: int = 256):
        super().__init__()
        system = ReferenceCSKNet(classes, encoder, decoder_channels)
        projections = nn.Module()
        projections.heads = nn.ModuleList(
            nn.Sequential(nn.Conv2d(c, c, 1), nn.ReLU(inplace=True), nn.Conv2d(c, PROJECTION_WIDTH, 1))
            for c in system.visible.encoder.out_channels[2:]
        )
        self.students = nn.ModuleDict({"system": system, "projections": projections})
        self.teacher = smp.DeepLabV3Plus(
            encoder, encoder_weights=None, classes=classes, decoder_channels=decoder_channels
        )
        self.sampler = sampler
        self.dice = smp.losses.DiceLoss("multiclass", ignore_index=IGNORED)

    def train(self, mode: bool = True) -> ReferencePhase:
        super().train(mode)
        self.teacher.eval().requires_grad_(False)
        return self

    def forward(self, visible: Tensor, infrared: Tensor, label: Tensor) -> Tensor:
        """Equation 11. (B, 3, H, W) and (B, 1, H, W) in [0, 1], (B, H, W); sides are multiples of 16."""
        system = self.students["system"]
        visible, infrared = _normalised(visible), _normalised(infrared.repeat(1, 3, 1, 1))
        logits, maps = system.pair(visible, infrared)
        alone = system.infrared(infrared)
        with torch.no_grad():
            taught = self.teacher.encoder(visible)
            taught.append(self.teacher.decoder(taught))
            teacher_logits = self.teacher.segmentation_head(taught[-1])
        total = self._segmentation(logits["fused"], label) + self._segmentation(alone, label)
        total = total + _distilled_predictions(logits["visible"], teacher_logits)
        errors = [F.mse_loss(maps["visible"][i], taught[i]) for i in (4, 5, 6)]
        total = total + sum(errors) / len(errors)
        prediction = alone.argmax(dim=1)
        contrasts = [
            self._contrast(head(maps["infrared"][stage]), label, prediction)
            for stage, head in enumerate(self.students["projections"].heads, start=2)
        ]
        return total + sum(contrasts) / len(contrasts)

    def _segmentation(self, logits: Tensor, label: Tensor) -> Tensor:
        """Equation 7, with smp's Dice."""
        return F.cross_entropy(logits, label, ignore_index=IGNORED) + self.dice(logits, label)

    def _contrast(self, embeddings: Tensor, label: Tensor, prediction: Tensor) -> Tensor:
        """Equation 10, over the semi-hard pairs of the sampled pixels."""
        size = embeddings.shape[2:]
        label, prediction = _resized(label, size), _resized(prediction, size)
        chosen, counted = self.sampler(label, prediction)
        vectors = embeddings.permute(0, 2, 3, 1).reshape(-1, embeddings.shape[1])[chosen][counted]
        ids = label.flatten()[chosen][counted]
        vectors = F.normalize(vectors, dim=1, eps=1e-4)
        similarity = vectors @ vectors.T / TEMPERATURE
        same = ids[:, None] == ids
        positive = same & ~torch.eye(len(ids), dtype=torch.bool, device=ids.device)
        farthest, is_positive = _hardest(-similarity, positive)
        nearest, is_negative = _hardest(similarity, ~same)
        r_positive = torch.exp(-farthest)
        r_negative = (torch.exp(nearest) * is_negative).sum(dim=1, keepdim=True)
        losses = -torch.log(r_positive / (r_positive + r_negative))
        valid = is_positive.any(dim=1) & is_negative.any(dim=1)
        if not valid.any():
            return 0 * similarity.sum()
        kept = torch.where(is_positive, losses, 0).sum(dim=1) / is_positive.sum(dim=1).clamp(min=1)
        return kept[valid].mean()


def exchange_channels(
    visible: Tensor, infrared: Tensor, norm_visible: nn.BatchNorm2d, norm_infrared: nn.BatchNorm2d
) -> tuple[Tensor, Tensor]:
    """Where a band's norm has a scale in the lowest tenth of its layer's, the other band's channel."""
    from_infrared, from_visible = (_small(norm.weight) for norm in (norm_visible, norm_infrared))
    return torch.where(from_infrared, infrared, visible), torch.where(from_visible, visible, infrared)


def exchange_columns(visible: Tensor, infrared: Tensor) -> tuple[Tensor, Tensor]:
    """Equation 1: odd columns change places."""
    odd = torch.arange(visible.shape[3], device=visible.device) % 2 == 1
    return torch.where(odd, infrared, visible), torch.where(odd, visible, infrared)


def _small(gamma: Tensor) -> Tensor:
    scale = gamma.detach().abs().float()
    return (scale < torch.quantile(scale, QUANTILE))[:, None, None]


def _stages(encoder: nn.Module) -> list[Callable[[Tensor], tuple[Tensor, nn.BatchNorm2d]]]:
    """An EfficientNet's five stages; each gives its map and its last batch norm."""
    ends = [index + 1 for index in encoder._out_indexes]
    count = len(encoder._blocks)

    def stem(x: Tensor) -> tuple[Tensor, nn.BatchNorm2d]:
        return encoder._swish(encoder._bn0(encoder._conv_stem(x))), encoder._bn0

    def blocks(start: int, end: int) -> Callable[[Tensor], tuple[Tensor, nn.BatchNorm2d]]:
        def stage(x: Tensor) -> tuple[Tensor, nn.BatchNorm2d]:
            for index in range(start, end):
                x = encoder._blocks[index](x, encoder._drop_connect_rate * index / count)
            return x, encoder._blocks[end - 1]._bn2

        return stage

    return [stem, *(blocks(start, end) for start, end in zip([0, *ends[:-1]], ends, strict=True))]


def _distilled_predictions(student: Tensor, teacher: Tensor) -> Tensor:
    """Equation 8: KL(p_T || p_S) + H(p_T, p_S)."""
    log_student, of_teacher = student.log_softmax(dim=1), teacher.softmax(dim=1)
    divergence = F.kl_div(log_student, of_teacher, reduction="none").sum(dim=1).mean()
    return divergence - (of_teacher * log_student).sum(dim=1).mean()


def _hardest(values: Tensor, member: Tensor) -> tuple[Tensor, Tensor]:
    """Each row's values in descending order, members first, and which of them are its hardest tenth."""
    count = member.sum(dim=1, keepdim=True)
    wanted = (HARD_FRACTION * count).round().clamp(min=1).minimum(count)
    lowest = torch.finfo(values.dtype).min
    ordered = values.masked_fill(~member, lowest).sort(dim=1, descending=True).values
    kept = torch.arange(ordered.shape[1], device=values.device) < wanted
    return ordered.masked_fill(~kept, 0), kept


def _resized(ids: Tensor, size: torch.Size) -> Tensor:
    return F.interpolate(ids[:, None].float(), size=size, mode="nearest")[:, 0].long()


def _normalised(image: Tensor) -> Tensor:
    mean, std = (torch.tensor(values)[:, None, None].to(image) for values in (IMAGENET_MEAN, IMAGENET_STD))
    return (image - mean) / std
