"""Classical fusions: baselines of every table, and one picture of both bands for people without a model.

``laplacian``: Burt and Adelson, IEEE Trans. Communications 1983. ``guided``: Li, Kang, Hu, IEEE Trans. Image
Processing 2013. ``average`` and ``maximum`` have no paper. All are written here from their descriptions.

They fuse luma, see `LumaFusion`, and have no parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from crossband.option_ranges import AT_LEAST_1, Range
from crossband.systems.base import NetworkSettings
from crossband.systems.classical.rules import guided_fusion, laplacian_pyramid_fusion
from crossband.systems.luma_fusion import LumaFusion
from crossband.systems.registry import in_words


class Average(LumaFusion):
    """The mean of luma and infrared."""

    name = "average"
    summary, paper = in_words(name)

    def fuse(self, visible: Tensor, infrared: Tensor) -> Tensor:
        return (visible + infrared) / 2


class Maximum(LumaFusion):
    """The brighter of luma and infrared at every pixel."""

    name = "maximum"
    summary, paper = in_words(name)

    def fuse(self, visible: Tensor, infrared: Tensor) -> Tensor:
        return torch.maximum(visible, infrared)


@dataclass(frozen=True, kw_only=True)
class LaplacianSettings(NetworkSettings):
    """levels: into how many scales of detail the images are taken apart, each half as large as the one
    before; more keep larger shapes of both bands. Raises OptionError for a number below 1.
    """

    levels: int = 4

    ranges: ClassVar[Mapping[str, Range]] = {"levels": AT_LEAST_1}


class Laplacian(LumaFusion):
    """See `laplacian_pyramid_fusion`."""

    name = "laplacian"
    summary, paper = in_words(name)
    built_from = LaplacianSettings

    def fuse(self, visible: Tensor, infrared: Tensor) -> Tensor:
        return laplacian_pyramid_fusion(visible, infrared, self.settings.levels)


class Guided(LumaFusion):
    """See `guided_fusion`."""

    name = "guided"
    summary, paper = in_words(name)

    def fuse(self, visible: Tensor, infrared: Tensor) -> Tensor:
        return guided_fusion(visible, infrared)
