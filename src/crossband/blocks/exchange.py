"""Mixed feature exchange between two branches (CSK-Net, arXiv 2312.02240, section 2.5).

Pure functions on a pair of feature maps, visible first. Nothing here is learned.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Direction = Literal["both", "to-infrared"]
Threshold = Literal["quantile", "absolute"]


def small_gammas(gamma: Tensor, mode: Threshold, threshold: float) -> Tensor:
    """Which channels a batch norm scales so little that they count as redundant: bool (C,).

    "quantile": |gamma| below the given quantile of the layer's own |gamma|. "absolute": |gamma| below the
    threshold itself, as in CEN (TPAMI 2022). The comparison is strict, so that a fresh norm, all of whose
    gammas are 1, gives nothing away.
    """
    magnitude = gamma.detach().abs().float()
    limit = torch.quantile(magnitude, threshold) if mode == "quantile" else threshold
    return magnitude < limit


def exchange_channels(
    visible: Tensor,
    infrared: Tensor,
    visible_redundant: Tensor,
    infrared_redundant: Tensor,
    direction: Direction = "both",
) -> tuple[Tensor, Tensor]:
    """Give each map (B, C, H, W) the other's channels where its own are redundant (bool (C,) masks).

    Both read the values from before the exchange. "to-infrared" leaves the visible map as it is.
    """
    to_infrared = torch.where(infrared_redundant[:, None, None], visible, infrared)
    if direction == "to-infrared":
        return visible, to_infrared
    return torch.where(visible_redundant[:, None, None], infrared, visible), to_infrared


def exchange_columns(
    visible: Tensor, infrared: Tensor, direction: Direction = "both"
) -> tuple[Tensor, Tensor]:
    """Swap the odd columns of two maps (B, C, H, W): the mask of equation 1.

    Applied twice in both directions it is the identity, so that columns which two stages of equal
    resolution exchange are visitors in the other branch for one stage and come home after it.
    """
    odd = (torch.arange(visible.shape[-1], device=visible.device) % 2).bool()
    to_infrared = torch.where(odd, visible, infrared)
    if direction == "to-infrared":
        return visible, to_infrared
    return torch.where(odd, infrared, visible), to_infrared
