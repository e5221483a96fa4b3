"""Classical fusions: baselines of every table, and one picture of both bands for people without a model.

``laplacian``: Burt and Adelson, IEEE Trans. Communications 1983. ``guided``: Li, Kang, Hu, IEEE Trans. Image
Processing 2013. ``average`` and ``maximum`` have no paper. All are written here from their descriptions.

They fuse the visible image's luma (ITU-R BT.601) with infrared and put the result in the luma's place. In
Y'CbCr that changes red, green and blue by the same amount, so the picture keeps the chroma of the visible
image as far as [0, 1] allows.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from crossband.blocks.luma import luma, with_luma
from crossband.errors import OptionError
from crossband.systems.base import NetworkSettings, Output, System
from crossband.systems.classical.rules import guided_fusion, laplacian_pyramid_fusion
from crossband.systems.registry import in_words
from crossband.words import Bands, Support


class ClassicalFusion(System):
    """A fusion of luma and infrared without parameters.

    classes: must be None, since nothing is segmented; OptionError otherwise. With one band missing, the
    picture is the other one as it is: a fallback.
    """

    supports: Mapping[Bands, Support] = {"both": "designed", "infrared": "fallback", "visible": "fallback"}
    segments = False
    fuses = True

    def __init__(self, classes: int | None, settings: NetworkSettings):
        super().__init__(classes, settings)
        if classes is not None:
            raise OptionError(f"{self.name} only fuses: it takes no classes")

    @abstractmethod
    def fuse(self, visible: Tensor, infrared: Tensor) -> Tensor:
        """One grey image of two, all float (B, 1, H, W) in [0, 1]."""

    def run(self, visible: Tensor | None, infrared: Tensor | None, *, features: bool) -> Output:
        if visible is None:
            assert infrared is not None
            return Output(fused=infrared.expand(-1, 3, -1, -1))
        if infrared is None:
            return Output(fused=visible)
        return Output(fused=with_luma(visible, self.fuse(luma(visible), infrared)))

    def deployed(self, bands: Bands) -> list[nn.Module]:
        self.check_bands(bands)
        return []


class Average(ClassicalFusion):
    """The mean of luma and infrared."""

    name = "average"
    summary, paper = in_words(name)

    def fuse(self, visible: Tensor, infrared: Tensor) -> Tensor:
        return (visible + infrared) / 2


class Maximum(ClassicalFusion):
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

    def __post_init__(self) -> None:
        if self.levels < 1:
            raise OptionError(f"laplacian: levels must be 1 or more, not {self.levels}")


class Laplacian(ClassicalFusion):
    """See `laplacian_pyramid_fusion`."""

    name = "laplacian"
    summary, paper = in_words(name)
    built_from = LaplacianSettings

    def fuse(self, visible: Tensor, infrared: Tensor) -> Tensor:
        return laplacian_pyramid_fusion(visible, infrared, self.settings.levels)


class Guided(ClassicalFusion):
    """See `guided_fusion`."""

    name = "guided"
    summary, paper = in_words(name)

    def fuse(self, visible: Tensor, infrared: Tensor) -> Tensor:
        return guided_fusion(visible, infrared)
