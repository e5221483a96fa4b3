"""The base of the systems that only fuse and are ready as they are created.

They fuse the visible image's luma (ITU-R BT.601) with infrared and put the result in the luma's place. In
Y'CbCr that changes red, green and blue by the same amount, so the picture keeps the chroma of the visible
image as far as [0, 1] allows.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping

from torch import Tensor, nn

from crossband.blocks.luma import luma, with_luma
from crossband.errors import OptionError
from crossband.systems.base import NetworkSettings, Output, System
from crossband.words import Bands, Support


class LumaFusion(System):
    """A fusion of luma and infrared that needs no training.

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
