"""Scores: confusion matrices and the protocols that turn them into numbers, and scores of fused pictures.

The names of fusion that need PyTorch load on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crossband.metrics import fusion
from crossband.metrics.segmentation import (
    PROTOCOLS,
    Protocol,
    ProtocolScore,
    SegmentationMetric,
    SegmentationScores,
    confusion_matrix,
    protocol_scores,
    segmentation_scores,
)

if TYPE_CHECKING:
    from crossband.metrics.fusion import FusionScores, fusion_scores, fusion_scores_batch

__all__ = [
    "PROTOCOLS",
    "FusionScores",
    "Protocol",
    "ProtocolScore",
    "SegmentationMetric",
    "SegmentationScores",
    "confusion_matrix",
    "fusion",
    "fusion_scores",
    "fusion_scores_batch",
    "protocol_scores",
    "segmentation_scores",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(fusion, name)
