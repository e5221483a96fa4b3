"""How tables are filled, as data that the command line takes its choices and defaults from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from crossband.words import Accelerator, Budget


@dataclass(frozen=True)
class Settings:
    """What decides every training under one output folder.

    budget: "paper" trains each system by its paper's recipe; "quick" all of them shortly, small and alike.
    data: the source of each benchmark, by its key. on: a source that stands for all of them, or None.
    encoder: the one of all systems; None is each system's own, and for "quick" one small one.
    encoder_weights: by encoder, "imagenet" or a path; under "" for those that are not named.
    recipe: changes to every recipe. test_split: the split that is scored. devices: that each job trains on; a
    recipe's batch size is that of one of them.
    """

    budget: Budget = "paper"
    data: Mapping[str, str] = field(default_factory=dict)
    on: str | None = None
    encoder: str | None = None
    encoder_weights: Mapping[str, str] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    test_split: str = "test"
    devices: int = 1

    def start_of(self, encoder: str) -> str | None:
        """Where an encoder's first weights come from; None is a random start."""
        named = self.encoder_weights.get(encoder, self.encoder_weights.get(""))
        return None if named == "none" else named


@dataclass(frozen=True)
class Compute:
    """How a job computes, as in `TrainOptions`; it does not decide what comes out."""

    accelerator: Accelerator = "auto"
    workers: int | None = None

    @property
    def device(self) -> str:
        """Where to score."""
        import torch

        return "cuda" if self.accelerator != "cpu" and torch.cuda.is_available() else "cpu"
