"""A fusion that is ready: `CDDFuse`, the variant ``light``, with weights that come with the package.

They were trained on generated street scenes alone, so nobody's pictures and nobody's weights are in them, and
they are Apache-2.0 as all of Crossband is. ``learned.json`` beside this file is their card: the licence, how
they were trained, and on what. docs/results/learned-fuser.md says how they compare on real pairs.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from safetensors.torch import load_file
from torch import nn

from crossband.errors import OptionError
from crossband.systems.base import NetworkSettings
from crossband.systems.cddfuse.network import VARIANTS, CDDFuse, CDDFuseSettings
from crossband.systems.registry import in_words
from crossband.words import Bands

WEIGHTS = Path(__file__).with_name("learned.safetensors")
"""In half precision; they are computed with in float32."""
CARD = Path(__file__).with_name("learned.json")


class Learned(CDDFuse):
    """`CDDFuse` in its variant ``light``, trained. classes: must be None; OptionError otherwise."""

    name = "learned"
    summary, paper = in_words(name)
    built_from = NetworkSettings
    trained_by = None
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    earlier: ClassVar[Mapping[str, Any]] = {}

    def __init__(self, classes: int | None, settings: NetworkSettings):
        if classes is not None:
            raise OptionError(f"{self.name} only fuses: it takes no classes")
        super().__init__(None, CDDFuseSettings(**VARIANTS["light"]))
        self.load_state_dict(load_file(WEIGHTS))
        self.eval().requires_grad_(False)

    @property
    def network_options(self) -> dict[str, Any]:
        """None: what it is comes with the package."""
        return {}

    def deployed(self, bands: Bands) -> list[nn.Module]:
        self.check_bands(bands)
        return [self]
