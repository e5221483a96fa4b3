"""Evaluation: one pass over pairs gives scores, of labels or of fused pictures, in all and per condition.

Results are data; `crossband.report` tells them as text, CSV, JSON and HTML.

Labels are scored under every protocol and per bands (`evaluate`), fused pictures under one convention and
method beside method (`evaluate_fusion`).
"""

from crossband.evaluation.fusion import evaluate_fusion
from crossband.evaluation.fusion_result import FusedMethod, FusionEvaluation, FusionExample, FusionScope
from crossband.evaluation.passing import UNSPECIFIED
from crossband.evaluation.result import ALL, BandResult, Evaluation, Scope
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
    "Scope",
    "evaluate",
    "evaluate_fusion",
]
