"""Scores: confusion matrices and the protocols that turn them into numbers, and scores of fused pictures.

Nothing heavy is imported before it is used: the command line takes the names of protocols and conventions
from here.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from crossband.metrics import fusion
from crossband.metrics.protocols import PROTOCOLS, Protocol

if TYPE_CHECKING:
    from crossband.metrics.fusion import FusionScores, fusion_scores, fusion_scores_batch
    from crossband.metrics.segmentation import (
        SCORES,
        ProtocolScore,
        Score,
        SegmentationMetric,
        SegmentationScores,
        confusion_matrix,
        protocol_scores,
        segmentation_scores,
    )

__all__ = [
    "PROTOCOLS",
    "SCORES",
    "FusionScores",
    "Protocol",
    "ProtocolScore",
    "Score",
    "SegmentationMetric",
    "SegmentationScores",
    "confusion_matrix",
    "fusion",
    "fusion_scores",
    "fusion_scores_batch",
    "protocol_scores",
    "segmentation_scores",
]


_LAZY = {
    "SCORES": "segmentation",
    "FusionScores": "fusion",
    "ProtocolScore": "segmentation",
    "Score": "segmentation",
    "SegmentationMetric": "segmentation",
    "SegmentationScores": "segmentation",
    "confusion_matrix": "segmentation",
    "fusion_scores": "fusion",
    "fusion_scores_batch": "fusion",
    "protocol_scores": "segmentation",
    "segmentation_scores": "segmentation",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_LAZY[name]}"), name)
