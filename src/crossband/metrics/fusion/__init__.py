"""Scores of fused pictures. `fusion_scores` is all that most programs need.

A function for each metric takes a fused picture and its pair, or a `FusedPair` that holds them together with
what was already computed from them. PyTorch is imported with the first name that needs it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from crossband.deprecation import warn_old
from crossband.metrics.fusion.conventions import (
    CONVENTIONS,
    DEFAULT_CONVENTION,
    METRICS,
    Convention,
    Metric,
)

if TYPE_CHECKING:
    from crossband.metrics.fusion.feature_information import *  # noqa: F403
    from crossband.metrics.fusion.fidelity import *  # noqa: F403
    from crossband.metrics.fusion.gradients import *  # noqa: F403
    from crossband.metrics.fusion.images import FusedPair
    from crossband.metrics.fusion.information import *  # noqa: F403
    from crossband.metrics.fusion.perceptual import *  # noqa: F403
    from crossband.metrics.fusion.pixelwise import *  # noqa: F403
    from crossband.metrics.fusion.scores import FusionScores, Spread, fusion_scores, fusion_scores_batch
    from crossband.metrics.fusion.structure import *  # noqa: F403

_LAZY = {
    "FusedPair": "images",
    "FusionScores": "scores",
    "Spread": "scores",
    "fusion_scores": "scores",
    "fusion_scores_batch": "scores",
}
_FUNCTIONS = {name: module for module, name in (metric.source.split(".") for metric in METRICS)}
_LAZY |= _FUNCTIONS

__all__ = [
    "CONVENTIONS",
    "DEFAULT_CONVENTION",
    "METRICS",
    "Convention",
    "FusedPair",
    "FusionScores",
    "Metric",
    "Spread",
    "fusion_scores",
    "fusion_scores_batch",
]
__all__ += _FUNCTIONS


def __getattr__(name: str) -> Any:
    if name == "PRESETS":
        warn_old(f"{__name__}.PRESETS", "CONVENTIONS")
        return CONVENTIONS
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_LAZY[name]}"), name)


def __dir__() -> list[str]:
    return __all__
