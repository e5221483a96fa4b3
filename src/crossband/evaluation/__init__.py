"""Evaluation: one pass over pairs gives scores, of labels or of fused pictures, in all and per condition.

Labels are scored under every protocol and per bands (`evaluate`), fused pictures under one convention and
method beside method (`evaluate_fusion`).
"""

from crossband.evaluation.fusion import evaluate_fusion
from crossband.evaluation.fusion_result import FusedMethod, FusionEvaluation, FusionExample, FusionScope
from crossband.evaluation.passing import UNSPECIFIED, Precision
from crossband.evaluation.result import ALL, BandResult, Evaluation, Scope, percent, protocols_from
from crossband.evaluation.runner import evaluate

__all__ = [
    "ALL",
    "UNSPECIFIED",
    "BandResult",
    "Evaluation",
    "FusedMethod",
    "FusionEvaluation",
    "FusionExample",
    "FusionScope",
    "Precision",
    "Scope",
    "evaluate",
    "evaluate_fusion",
    "percent",
    "protocols_from",
]
