"""A picture in the place of a band that is missing, for systems that cannot do without one."""

from __future__ import annotations

import torch
from torch import Tensor

from crossband.blocks.luma import luma


def stand_in(visible: Tensor | None, infrared: Tensor | None, *, copy: bool = True) -> tuple[Tensor, Tensor]:
    """Both pictures; in the place of a missing one is the infrared three times, or the visible's luma.

    visible: (B, 3, H, W) in [0, 1]. infrared: (B, 1, H, W) in [0, 1]. One of them may be None.
    copy: False puts a black picture in the place of the missing one.
    """
    if visible is None:
        assert infrared is not None
        copied = infrared.expand(-1, 3, -1, -1)
        return copied if copy else torch.zeros_like(copied), infrared
    if infrared is None:
        copied = luma(visible)
        return visible, copied if copy else torch.zeros_like(copied)
    return visible, infrared
