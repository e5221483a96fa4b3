"""The systems: one place per published method, and the list of them.

The list is light; what builds a system loads PyTorch, on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from crossband.systems.registry import list_systems, origin, register, system_class

if TYPE_CHECKING:
    from crossband.systems.creation import (
        create,
        loss_options,
        make_training,
        network_options,
        split_options,
        system_options,
    )

__all__ = [
    "create",
    "list_systems",
    "loss_options",
    "make_training",
    "network_options",
    "origin",
    "register",
    "split_options",
    "system_class",
    "system_options",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'crossband.systems' has no attribute {name!r}")
    return getattr(importlib.import_module("crossband.systems.creation"), name)
