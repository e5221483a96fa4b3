"""A system as it is deployed: stored levels in, labels and pictures out, with nothing left to do outside."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from crossband.errors import OptionError
from crossband.pairs.infrared_scaling import InfraredScaling
from crossband.systems.base import System
from crossband.words import BANDS, Band, Bands, LevelType

LOGITS = "logits"
"""The output that a graph is checked by, and that is left out of the file."""


class Deployable(nn.Module):
    """One combination of bands of a system, from what cameras store to what `crossband.Prediction` holds.

    Takes visible (B, H, W, 3) and infrared (B, H, W), those of ``bands``, of the types in ``types``, and
    gives by name:

    labels: uint8 (B, H, W), class ids. confidence: float32 (B, H, W), the softmax of that class.
    fused: uint8 (B, H, W, 3). reliability_visible, reliability_infrared: float32 (B, H, W) in [0, 1].
    logits: (B, C, H, W), for the check of a graph.

    Raises OptionError for a scaling that does not fit the type of infrared.
    """

    def __init__(
        self, system: System, bands: Bands, scaling: InfraredScaling, types: dict[Band, LevelType]
    ) -> None:
        super().__init__()
        system.check_bands(bands)
        check_type(scaling, types.get("infrared"))
        self.system = system.eval()
        self.bands = bands
        self.scaling = scaling
        self.types = types
        self.dtype = next((p.dtype for p in system.parameters() if p.is_floating_point()), torch.float32)

    def forward(self, visible: Tensor | None = None, infrared: Tensor | None = None) -> dict[str, Tensor]:
        output = self.system(
            None if visible is None else self._visible(visible).to(self.dtype),
            None if infrared is None else self._infrared(infrared).to(self.dtype),
        )
        made: dict[str, Tensor] = {}
        if output.logits is not None:
            logits = output.logits.float()
            made["labels"] = logits.argmax(dim=1).to(torch.uint8)
            made["confidence"] = logits.softmax(dim=1).amax(dim=1)
        if output.fused is not None:
            levels = (output.fused.float().clamp(0, 1) * 255).round()
            made["fused"] = levels.permute(0, 2, 3, 1).to(torch.uint8)
        for band in BANDS:
            if band in output.reliability:
                made[f"reliability_{band}"] = output.reliability[band][:, 0].float()
        if output.logits is not None:
            made[LOGITS] = logits
        return made

    def _visible(self, levels: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1]."""
        values = levels.permute(0, 3, 1, 2).float()
        highest = HIGHEST[self.types["visible"]]
        return values if highest is None else values / highest

    def _infrared(self, levels: Tensor) -> Tensor:
        """(B, 1, H, W) in [0, 1], by the scaling rule."""
        values = levels[:, None].float()
        highest = HIGHEST[self.types["infrared"]]
        if self.scaling.rule == "full-range":
            return values if highest is None else values / highest
        if self.scaling.rule == "fixed":
            assert self.scaling.limits is not None
            low, high = self.scaling.limits
            return ((values - low) / (high - low)).clamp(0, 1)
        lowest, highest_value = self._limits(values)
        spread = highest_value - lowest
        # An image of one value becomes zeros.
        return torch.where(spread > 0, (values - lowest) / spread.clamp(min=SMALLEST), 0.0).clamp(0, 1)

    def _limits(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """The two values of each image that become 0 and 1: (B, 1, 1, 1)."""
        if self.scaling.rule == "minmax":
            return values.amin(dim=(1, 2, 3), keepdim=True), values.amax(dim=(1, 2, 3), keepdim=True)
        assert self.scaling.limits is not None
        ordered = values.flatten(1).sort(dim=1).values
        low, high = (_percentile(ordered, share / 100) for share in self.scaling.limits)
        return low[:, None, None, None], high[:, None, None, None]


HIGHEST: dict[LevelType, float | None] = {"uint8": 255.0, "uint16": 65535.0, "float32": None}
SMALLEST = 1e-30


def _percentile(ordered: Tensor, share: float) -> Tensor:
    """Of values (B, N) in ascending order, by linear interpolation, as NumPy's."""
    place = (ordered.shape[1] - 1) * torch.full((1,), share, dtype=torch.float64)
    below = place.floor()
    ends = ordered.index_select(1, below.long()), ordered.index_select(1, place.ceil().long())
    return (ends[0] + (ends[1] - ends[0]) * (place - below).float())[:, 0]


def check_type(scaling: InfraredScaling, type: LevelType | None) -> None:
    """Raise OptionError for a scaling whose limits the type of infrared cannot hold."""
    if type is None or type == "float32" or scaling.rule != "fixed":
        return
    assert scaling.limits is not None
    low, _ = scaling.limits
    highest = HIGHEST[type]
    assert highest is not None
    if low < 0 or low >= highest:
        raise OptionError(
            f"infrared scaling {scaling} has no place in {type}, which holds 0 to {highest:g}: "
            "export with --infrared_type float32"
        )
