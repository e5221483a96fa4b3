"""Scores of fused pictures. `fusion_scores` is all that most programs need.

A function for each metric takes a fused picture and its pair, or a `FusedPair` that holds them together with
what was already computed from them. PyTorch is imported with the first name that needs it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from crossband.metrics.fusion.presets import METRICS, PRESETS, Metric, Preset

if TYPE_CHECKING:
    from crossband.metrics.fusion.feature_information import feature_mutual_information
    from crossband.metrics.fusion.fidelity import (
        visual_information_fidelity,
        visual_information_fidelity_for_fusion,
    )
    from crossband.metrics.fusion.gradients import gradient_preservation
    from crossband.metrics.fusion.images import FusedPair
    from crossband.metrics.fusion.information import (
        entropy,
        mutual_information,
        normalised_mutual_information,
    )
    from crossband.metrics.fusion.perceptual import chen_blum_quality, chen_varshney_quality
    from crossband.metrics.fusion.pixelwise import (
        average_gradient,
        correlation_coefficient,
        mean_squared_error,
        peak_signal_to_noise_ratio,
        spatial_frequency,
        standard_deviation,
        sum_of_correlations_of_differences,
    )
    from crossband.metrics.fusion.scores import FusionScores, Spread, fusion_scores, fusion_scores_batch
    from crossband.metrics.fusion.structure import multi_scale_structural_similarity, structural_similarity

_LAZY = {
    "FusedPair": "images",
    "FusionScores": "scores",
    "Spread": "scores",
    "average_gradient": "pixelwise",
    "chen_blum_quality": "perceptual",
    "chen_varshney_quality": "perceptual",
    "correlation_coefficient": "pixelwise",
    "entropy": "information",
    "feature_mutual_information": "feature_information",
    "fusion_scores": "scores",
    "fusion_scores_batch": "scores",
    "gradient_preservation": "gradients",
    "mean_squared_error": "pixelwise",
    "multi_scale_structural_similarity": "structure",
    "mutual_information": "information",
    "normalised_mutual_information": "information",
    "peak_signal_to_noise_ratio": "pixelwise",
    "spatial_frequency": "pixelwise",
    "standard_deviation": "pixelwise",
    "structural_similarity": "structure",
    "sum_of_correlations_of_differences": "pixelwise",
    "visual_information_fidelity": "fidelity",
    "visual_information_fidelity_for_fusion": "fidelity",
}

__all__ = [
    "METRICS",
    "PRESETS",
    "FusedPair",
    "FusionScores",
    "Metric",
    "Preset",
    "Spread",
    "average_gradient",
    "chen_blum_quality",
    "chen_varshney_quality",
    "correlation_coefficient",
    "entropy",
    "feature_mutual_information",
    "fusion_scores",
    "fusion_scores_batch",
    "gradient_preservation",
    "mean_squared_error",
    "multi_scale_structural_similarity",
    "mutual_information",
    "normalised_mutual_information",
    "peak_signal_to_noise_ratio",
    "spatial_frequency",
    "standard_deviation",
    "structural_similarity",
    "sum_of_correlations_of_differences",
    "visual_information_fidelity",
    "visual_information_fidelity_for_fusion",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_LAZY[name]}"), name)


def __dir__() -> list[str]:
    return __all__
