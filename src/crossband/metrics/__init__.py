"""Scores: confusion matrices and the protocols that turn them into numbers."""

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

__all__ = [
    "PROTOCOLS",
    "Protocol",
    "ProtocolScore",
    "SegmentationMetric",
    "SegmentationScores",
    "confusion_matrix",
    "protocol_scores",
    "segmentation_scores",
]
