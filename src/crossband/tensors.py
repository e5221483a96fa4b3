"""What many layers and losses do with tensors, whatever they are tensors of."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor
from torch.nn import functional as F

SHORTEST = 1e-4
"""Vectors shorter than this are divided by it, not by their length: the gradient through the normalisation is
at most its inverse, which keeps it finite in float16."""


def at_least_float32(values: Tensor) -> Tensor:
    """The values in float32, or in their own type where that is wider."""
    return values if values.dtype == torch.float64 else values.float()


def directions(vectors: Tensor) -> Tensor:
    """The vectors (N, D) at length 1, in float32 or better; those shorter than `SHORTEST` stay shorter."""
    return F.normalize(at_least_float32(vectors), eps=SHORTEST)


def without_autocast(values: Tensor) -> AbstractContextManager[None]:
    """A block in which operations on such values have their own types, whatever autocast is on around it."""
    kind = values.device.type
    # Nothing where there is none: in an exported graph a block is a graph of its own; "meta" has no autocast.
    on = kind != "meta" and torch.is_autocast_enabled(kind)
    return torch.autocast(kind, enabled=False) if on else nullcontext()
