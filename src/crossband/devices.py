"""Where to compute."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch

from crossband.errors import OptionError, first_line
from crossband.words import Precision


def find_device(name: str | torch.device | None) -> torch.device:
    """The device of a name such as cpu, cuda or cuda:1; None takes a GPU if there is one.

    Raises OptionError if this machine has no such device.
    """
    if name is None:
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        # Read back, because the meta device has room for tensors and no values.
        torch.zeros(1, device=device).item()
    # What is raised depends on the kind of device and on how PyTorch was built.
    except (RuntimeError, AssertionError, ImportError) as error:
        raise OptionError(f"cannot compute on device {name}: {first_line(error)}") from error
    return device


def autocast(device: str | torch.device, precision: Precision) -> AbstractContextManager[object]:
    """Autocast in that precision, "float32" being without."""
    enabled = precision != "float32"
    dtype = getattr(torch, precision) if enabled else None
    return torch.autocast(torch.device(device).type, dtype=dtype, enabled=enabled)
