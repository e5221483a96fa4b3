"""What computes a system: itself where it is an exported one, else PyTorch, which is loaded only then."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crossband.errors import OptionError
from crossband.runtime.answer import Runtime
from crossband.runtime.exported import Exported
from crossband.words import Precision

if TYPE_CHECKING:
    import torch

    from crossband.runtime.tiling import Tiling
    from crossband.systems.base import System


def runtime_of(
    system: System | Exported,
    device: str | torch.device | None,
    precision: Precision,
    tiling: Tiling | None,
    compiled: bool,
) -> Runtime:
    """What answers for a system. The rest is as `PyTorchRuntime` takes it.

    Raises OptionError for a precision or tiles that an exported system does not take.
    """
    if isinstance(system, Exported):
        if precision != "float32" or tiling is not None:
            raise OptionError("an exported graph has the precision it was exported in, and takes no tiles")
        return system
    from crossband.runtime.pytorch import PyTorchRuntime

    return PyTorchRuntime(system, device, precision=precision, tiling=tiling, compiled=compiled)
