"""The penalty that makes channels of one branch redundant, so that the other branch may take their place."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from crossband.tensors import at_least_float32


def halved_sparsity(visible: Sequence[Tensor], infrared: Sequence[Tensor]) -> Tensor:
    """The sparsity term of CEN (TPAMI 2022), on disjoint halves of the channels.

    ``sum over norms of (sum_{c < C/2} |gamma_visible,c| + sum_{c >= C/2} |gamma_infrared,c|)``, a raw sum. A
    channel that is made redundant in one branch is never made so in the other.

    visible, infrared: the scales (C,) of the norms of the two branches, in the same order.
    Returns a scalar in float32 or better.
    """
    total = torch.zeros((), device=visible[0].device)
    for of_visible, of_infrared in zip(visible, infrared, strict=True):
        half = len(of_visible) // 2
        total = total + at_least_float32(of_visible[:half]).abs().sum()
        total = total + at_least_float32(of_infrared[half:]).abs().sum()
    return total
