"""The budget "quick": every system short, small and alike, so that a table is filled on a CPU in minutes.

One encoder, one width and one recipe for all. It says which system learns faster, not which is better.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from crossband.recipe import Recipe

ENCODER = "tf_efficientnet_lite0"
DECODER_CHANNELS = 64
CROP = (192, 256)
"""Of benchmarks' and folders' images; scenes are small as they are."""

RECIPE: Mapping[str, Any] = {
    "epochs": 6,
    "batch_size": 8,
    "optimizer": "adamw",
    "lr": 1e-3,
    "weight_decay": 1e-2,
    "schedule_per": "step",
    "warmup_steps": 10,
}
"""Of every phase of every system."""


@dataclass(frozen=True)
class Quick:
    """What is particular to a system.

    options: of its network and its loss. phases: changes to the recipe of single phases. shares: how much
    of the recipe's epochs single phases have, where several of them learn the same.
    """

    options: Mapping[str, Any] = field(default_factory=dict)
    phases: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    shares: Mapping[str, float] = field(default_factory=dict)

    def phase_recipes(self, epochs: int) -> dict[str, dict[str, Any]]:
        """The changes to each phase, its number of epochs among them."""
        shortened = {name: {"epochs": max(1, round(share * epochs))} for name, share in self.shares.items()}
        names = dict.fromkeys([*self.phases, *self.shares])
        return {name: {**self.phases.get(name, {}), **shortened.get(name, {})} for name in names}


_FUSION = {"optimizer": "adam", "weight_decay": 0.0}
QUICK_OPTIONS: Mapping[str, Quick] = {
    # Fusion works at the full size of the image, where width is dear.
    "cddfuse": Quick(
        options={"width": 8, "heads": 2, "blocks": 1},
        phases={"reconstruction": _FUSION, "fusion": _FUSION},
        shares={"reconstruction": 0.5, "fusion": 0.5},
    ),
    # Its decoder has 3 x 3 convolutions at every level, eight times DeepLabV3+'s operations at one width.
    "cen": Quick(options={"decoder_channels": 32}),
    # The second round is the first in which labels shape the fused picture; together they are as long as
    # the training of others.
    "segmif": Quick(
        options={"rounds": 2, "fusion_width": 8},
        # Its own recipe spreads one decay over seven rounds; here it ends with the second.
        phases={
            "segmentation-1": {"horizon": 2.0},
            "segmentation-2": {"lr": RECIPE["lr"] / 2 ** Recipe().power, "horizon": 1.0, "warmup_steps": 0},
        },
        shares=dict.fromkeys(("fusion-1", "segmentation-1", "fusion-2", "segmentation-2"), 0.5),
    ),
}
"""By system: widths of what is no encoder, and phases that have a loss or a length of their own."""


def particular(system: str) -> Quick:
    """What is particular to a system; nothing, for most."""
    return QUICK_OPTIONS.get(system, Quick())
