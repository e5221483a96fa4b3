"""A deployable system as PyTorch's own exported program (``.pt2``): it needs none of our code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from timm.layers import padding

from crossband.errors import OptionError, first_line
from crossband.export.deployable import LOGITS, Deployable
from crossband.export.onnx_graph import example_arrays, free_levels, quiet
from crossband.runtime.graph_card import KEY, GraphCard


class WithoutLogits(torch.nn.Module):
    """A deployable that gives what its file does."""

    def __init__(self, deployable: Deployable):
        super().__init__()
        self.deployable = deployable

    def forward(
        self, visible: torch.Tensor | None = None, infrared: torch.Tensor | None = None
    ) -> dict[str, torch.Tensor]:
        made = self.deployable(visible, infrared)
        return {name: tensor for name, tensor in made.items() if name != LOGITS}


def torch_program(deployable: Deployable) -> Any:
    """The ``torch.export.ExportedProgram``, sizes free. Raises OptionError where it cannot be traced."""
    arrays = example_arrays(deployable.types)
    with quiet(), padded_in_whole_numbers(), torch.no_grad():
        try:
            return torch.export.export(
                WithoutLogits(deployable),
                (),
                arrays,
                dynamic_shapes=free_levels(deployable.types),
                strict=False,
            )
        except Exception as error:
            # PyTorch raises many kinds, each of which says that the system's code has no such graph.
            raise OptionError(
                f"{deployable.system.name} cannot be traced for {deployable.bands} ({first_line(error)})"
            ) from error


@contextmanager
def padded_in_whole_numbers() -> Iterator[None]:
    """A block in which timm's TensorFlow-like padding rounds without fractions, which no file can hold."""

    def of_side(x: Any, kernel_size: int, stride: int, dilation: int) -> Any:
        steps = (x + stride - 1) // stride
        return max((steps - 1) * stride + (kernel_size - 1) * dilation + 1 - x, 0)

    plain = padding.get_same_padding
    padding.get_same_padding = of_side
    try:
        yield
    finally:
        padding.get_same_padding = plain


def save_program(program: Any, path: Path, card: GraphCard) -> None:
    """Write the program with its card beside it in the archive."""
    torch.export.save(program, path, extra_files={KEY: card.to_json()})
