"""Evaluation: one pass over labelled pairs gives scores under every protocol, per bands and condition."""

from crossband.evaluation.result import ALL, BandResult, Evaluation, Precision, Scope, percent, protocols_from
from crossband.evaluation.runner import UNSPECIFIED, evaluate

__all__ = [
    "ALL",
    "UNSPECIFIED",
    "BandResult",
    "Evaluation",
    "Precision",
    "Scope",
    "evaluate",
    "percent",
    "protocols_from",
]
