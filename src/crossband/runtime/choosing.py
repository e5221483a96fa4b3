"""What computes a system: itself where it is an exported one, else PyTorch, which is loaded only then."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crossband.errors import OptionError, quoted
from crossband.option_types import check_arguments
from crossband.runtime.answer import Runtime
from crossband.runtime.exported import Exported
from crossband.words import Precision, RuntimeChoice

if TYPE_CHECKING:
    import torch

    from crossband.runtime.tiling import Tiling
    from crossband.systems.base import System


def check_choice(
    runtime: RuntimeChoice | None, precision: Precision, tiling: Tiling | None, *, of_file: bool
) -> None:
    """Raise OptionError for a runtime or precision that there is none of, or where one passes over another.

    of_file: whether it is to run an exported file or bundle, which PyTorch does not compile.
    """
    check_arguments(
        {"runtime": RuntimeChoice | None, "precision": Precision},
        {"runtime": runtime, "precision": precision},
    )
    if tiling is not None:
        from crossband.runtime.tiling import Tiling

        if not isinstance(tiling, Tiling):
            raise OptionError(f"tiling must be a Tiling of crossband.runtime.tiling, not {quoted(tiling)}")
    if of_file and runtime == "compile":
        raise OptionError("an exported file is not compiled by PyTorch: name another runtime, or none")
    if runtime in ("onnxruntime", "openvino") and not of_file and (precision != "float32" or tiling):
        raise OptionError(
            f"runtime {runtime} computes graphs, in float32 and without tiles: leave precision and tiles "
            "out, or take runtime torch"
        )


def runtime_of(
    system: System | Exported,
    device: str | torch.device | None,
    precision: Precision,
    tiling: Tiling | None,
    compiled: bool,
) -> Runtime:
    """What answers for a system. The rest is as `PyTorchRuntime` takes it.

    Raises OptionError for a precision that there is none of, and for what an exported system does not take.
    """
    check_choice(None, precision, tiling, of_file=isinstance(system, Exported))
    if isinstance(system, Exported):
        if precision != "float32" or tiling is not None:
            raise OptionError("an exported graph has the precision it was exported in, and takes no tiles")
        return system
    from crossband.runtime.pytorch import PyTorchRuntime

    return PyTorchRuntime(system, device, precision=precision, tiling=tiling, compiled=compiled)
