"""What a runtime gives for a batch of pairs, whichever it is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from crossband.words import Band


@dataclass
class Answer:
    """labels: uint8 (B, H, W). confidence: float32 (B, H, W). fused: uint8 (B, H, W, 3). reliability: float32
    (B, H, W) by band. None, or empty, is what the system does not give. diverged: whether NaN came out."""

    labels: np.ndarray | None = None
    confidence: np.ndarray | None = None
    fused: np.ndarray | None = None
    reliability: dict[Band, np.ndarray] = field(default_factory=dict)
    diverged: bool = False


class Runtime(Protocol):
    """device: where it computes, by name."""

    device: Any

    def answer(self, visible: np.ndarray | None, infrared: np.ndarray | None) -> Answer:
        """visible: float32 (B, H, W, 3), infrared: float32 (B, H, W), both in [0, 1]; one may be None."""
