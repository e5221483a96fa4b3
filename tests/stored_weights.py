"""Files of weights, written in the ways that they are met with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import huggingface_hub
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor


def as_safetensors(state: dict[str, Tensor], folder: Path) -> Path:
    save_file(state, folder / "weights.safetensors")
    return folder / "weights.safetensors"


def as_pth(state: object, folder: Path) -> Path:
    torch.save(state, folder / "weights.pth")
    return folder / "weights.pth"


WRITERS: dict[str, Callable[[dict[str, Tensor], Path], Path]] = {
    "safetensors": as_safetensors,
    "pth": as_pth,
    "checkpoint": lambda state, folder: as_pth({"state_dict": state, "epoch": 3}, folder),
    "parallel": lambda state, folder: as_pth({"model": {f"module.{k}": v for k, v in state.items()}}, folder),
}


def in_the_hubs_cache(repository: str, file: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where to put a file so that the hub's client finds it without a network."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(folder))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    commit = "0" * 40
    stored = folder / f"models--{repository.replace('/', '--')}"
    (stored / "snapshots" / commit).mkdir(parents=True)
    (stored / "refs").mkdir()
    (stored / "refs" / "main").write_text(commit)
    return stored / "snapshots" / commit / file
