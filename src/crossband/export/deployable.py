"""A system as it is deployed: stored levels in, labels and pictures out, with nothing left to do outside."""

from __future__ import annotations

from functools import cached_property

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

    It does so in three parts, of which the network alone has a size in its own hands: multiples of its own.
    Raises OptionError for a scaling that does not fit the type of infrared.
    """

    def __init__(
        self, system: System, bands: Bands, scaling: InfraredScaling, types: dict[Band, LevelType]
    ) -> None:
        super().__init__()
        system.check_bands(bands)
        check_type(scaling, types.get("infrared"))
        self.system = system.eval().folded()
        self.bands = bands
        self.scaling = scaling
        self.types = types
        self.dtype = next((p.dtype for p in system.parameters() if p.is_floating_point()), torch.float32)

    def forward(self, visible: Tensor | None = None, infrared: Tensor | None = None) -> dict[str, Tensor]:
        image = visible if visible is not None else infrared
        assert image is not None
        prepared = self.prepared(visible=visible, infrared=infrared)
        return self.finished(image, **self.network(**prepared))

    def prepared(self, visible: Tensor | None = None, infrared: Tensor | None = None) -> dict[str, Tensor]:
        """What the network takes: (B, 3, H', W') and (B, 1, H', W'), of sides that are its multiples."""
        images: dict[str, Tensor | None] = {
            "visible": None if visible is None else self._visible(visible).to(self.dtype),
            "infrared": None if infrared is None else self._infrared(infrared).to(self.dtype),
        }
        padded = {band: self.system.pad(image) for band, image in images.items()}
        return {band: image for band, image in padded.items() if image is not None}

    def network(self, visible: Tensor | None = None, infrared: Tensor | None = None) -> dict[str, Tensor]:
        """The network's own outputs by name, of the size that it was given."""
        output = self.system.run(visible, infrared, features=False)
        made = {LOGITS: output.logits, "fused": output.fused}
        made |= {f"reliability_{band}": output.reliability.get(band) for band in BANDS}
        return {name: tensor for name, tensor in made.items() if tensor is not None}

    def finished(self, image: Tensor, **made: Tensor) -> dict[str, Tensor]:
        """The outputs as they are given, cut to the size of one of the images (B, H, W, ...) that came in."""
        height, width = image.shape[1], image.shape[2]
        cut = {name: tensor[..., :height, :width].float() for name, tensor in made.items()}
        given: dict[str, Tensor] = {}
        if LOGITS in cut:
            given["labels"] = cut[LOGITS].argmax(dim=1).to(torch.uint8)
            # The largest of a softmax, without the others, for which runtimes take several times as long.
            largest = cut[LOGITS].amax(dim=1, keepdim=True)
            given["confidence"] = (cut[LOGITS] - largest).exp().sum(dim=1).reciprocal()
        if "fused" in cut:
            levels = (cut["fused"].clamp(0, 1) * 255).round()
            given["fused"] = levels.permute(0, 2, 3, 1).to(torch.uint8)
        for band in BANDS:
            name = f"reliability_{band}"
            if name in cut:
                given[name] = cut[name][:, 0]
        if LOGITS in cut:
            given[LOGITS] = cut[LOGITS]
        return given

    @cached_property
    def outputs(self) -> tuple[str, ...]:
        """The names of what is given to a user, which are all but the logits."""
        # Large enough for a network that pads nothing.
        size = 32, 32
        arrays = {
            band: torch.zeros((1, *size, 3) if band == "visible" else (1, *size)) for band in self.types
        }
        with torch.inference_mode():
            return tuple(name for name in self(**arrays) if name != LOGITS)

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
        if self.scaling.rule in ("fixed", "celsius"):
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
    """Raise OptionError for a scaling whose limits the type of infrared cannot hold, as degrees in levels."""
    if type is None or type == "float32" or scaling.rule not in ("fixed", "celsius"):
        return
    if scaling.rule == "celsius":
        raise OptionError(
            f"infrared scaling {scaling} is of degrees, not of {type}: export with --infrared_type float32"
        )
    assert scaling.limits is not None
    low, high = scaling.limits
    highest = HIGHEST[type]
    assert highest is not None
    # Images of 16 bits hold nothing above theirs, but may hold what is above those of 8.
    clips = type == "uint8" and high > highest
    if low < 0 or low >= highest or clips:
        fits = "uint16" if clips and low >= 0 and high <= 65535 else "float32"
        raise OptionError(
            f"infrared scaling {scaling} has no place in {type}, which holds 0 to {highest:g}: "
            f"export with --infrared_type {fits}"
        )
