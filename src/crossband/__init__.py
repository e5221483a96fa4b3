"""Crossband: paired visible + infrared images, segmented and fused, with both cameras or with one.

>>> import crossband as cb
>>> cb.list_systems()  # doctest: +NORMALIZE_WHITESPACE
['amdanet', 'average', 'cddfuse', 'cen', 'csknet', 'deeplabv3plus', 'disoptnet', 'guided', 'laplacian',
 'maximum', 'mmanet', 'mrfs', 'segmif']

The names below are all that a first program needs; they load on first use, so that the import is quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from crossband.errors import BandError, CrossbandError, OptionError, PairError, WeightsError
from crossband.version import __version__

if TYPE_CHECKING:
    from crossband.evaluation import evaluate, evaluate_fusion
    from crossband.pairs.opening import open_pairs
    from crossband.predictor import Prediction, Predictor, load
    from crossband.systems import create, list_systems
    from crossband.systems.base import Output, System

_LAZY = {
    "Output": "crossband.systems.base",
    "Prediction": "crossband.predictor",
    "Predictor": "crossband.predictor",
    "System": "crossband.systems.base",
    "create": "crossband.systems",
    "evaluate": "crossband.evaluation",
    "evaluate_fusion": "crossband.evaluation",
    "list_systems": "crossband.systems",
    "load": "crossband.predictor",
    "open_pairs": "crossband.pairs.opening",
}

__all__ = [
    "BandError",
    "CrossbandError",
    "OptionError",
    "Output",
    "PairError",
    "Prediction",
    "Predictor",
    "System",
    "WeightsError",
    "__version__",
    "create",
    "evaluate",
    "evaluate_fusion",
    "list_systems",
    "load",
    "open_pairs",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'crossband' has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return __all__
