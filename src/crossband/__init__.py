"""Crossband: paired visible + infrared images, segmented and fused, with both cameras or with one.

>>> import crossband as cb
>>> cb.list_systems()  # doctest: +NORMALIZE_WHITESPACE
['amdanet', 'average', 'cddfuse', 'cen', 'csknet', 'deeplabv3plus', 'disoptnet', 'guided', 'laplacian',
 'learned', 'maximum', 'mmanet', 'mrfs', 'segmif']

The names below are all that a first program needs; they load on first use, so that the import is quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from crossband.errors import BandError, CrossbandError, OptionError, PairError, WeightsError
from crossband.version import __version__

if TYPE_CHECKING:
    from crossband.evaluation import evaluate, evaluate_fusion
    from crossband.loading import load
    from crossband.pairs.batch import Batch
    from crossband.pairs.opening import open_pairs
    from crossband.predictor import Prediction, Predictor
    from crossband.systems import create, list_systems, make_training, register
    from crossband.systems.base import NetworkSettings, Output, Phase, System, Training

_LAZY = {
    "Batch": "crossband.pairs.batch",
    "NetworkSettings": "crossband.systems.base",
    "Output": "crossband.systems.base",
    "Phase": "crossband.systems.base",
    "Prediction": "crossband.predictor",
    "Predictor": "crossband.predictor",
    "System": "crossband.systems.base",
    "Training": "crossband.systems.base",
    "create": "crossband.systems",
    "evaluate": "crossband.evaluation",
    "evaluate_fusion": "crossband.evaluation",
    "list_systems": "crossband.systems",
    "load": "crossband.loading",
    "make_training": "crossband.systems",
    "open_pairs": "crossband.pairs.opening",
    "register": "crossband.systems",
}

__all__ = [
    "BandError",
    "Batch",
    "CrossbandError",
    "NetworkSettings",
    "OptionError",
    "Output",
    "PairError",
    "Phase",
    "Prediction",
    "Predictor",
    "System",
    "Training",
    "WeightsError",
    "__version__",
    "create",
    "evaluate",
    "evaluate_fusion",
    "list_systems",
    "load",
    "make_training",
    "open_pairs",
    "register",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'crossband' has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return __all__
