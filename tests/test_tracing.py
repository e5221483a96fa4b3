"""Functions of tensors as ONNX graphs: what is translated, what is taken apart, what is written in place."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

pytest.importorskip("onnxscript", reason="the extra `export` is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")

from crossband.export.tracing import traced  # noqa: E402


class Function(nn.Module):
    """A function of x as a module that takes and gives tensors by name."""

    def __init__(self, function: Callable[[Tensor], Tensor]):
        super().__init__()
        self.function = function

    def forward(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"y": self.function(tensors["x"])}


def seen_by_a_view(x: Tensor) -> Tensor:
    doubled = x * 2
    view = doubled.view(x.shape)
    doubled.add_(1)
    return view * 3


def seen_by_itself(x: Tensor) -> Tensor:
    doubled = x * 2
    return F.relu_(doubled.transpose(1, 2)) + 1


def without_translation(x: Tensor) -> Tensor:
    return torch.special.xlog1py(x.abs(), x.abs()) + F.batch_norm(x, *STATISTICS)


def grid(x: Tensor) -> Tensor:
    return F.pad(F.hardswish(x), (1, 1)).nan_to_num()


STATISTICS = torch.full((3,), 0.5), torch.full((3,), 2.0)
WEIGHTS = torch.linspace(-1, 1, 15).view(5, 3)
SORTED = torch.tensor([0.5, 4.0, 1.5, 3.0, 2.0])

FUNCTIONS: list[Callable[[Tensor], Tensor]] = [
    seen_by_a_view,
    seen_by_itself,
    without_translation,
    grid,
    lambda x: F.batch_norm(x, *STATISTICS, torch.arange(3.0), torch.ones(3), eps=0.1),
    lambda x: F.conv_transpose2d(x, WEIGHTS.repeat(1, 3).T.reshape(3, 1, 3, 5), stride=2),
    lambda x: F.adaptive_avg_pool2d(x, 1) + x,
    lambda x: F.linear(x.transpose(1, 3), WEIGHTS),
    lambda x: F.linear(x.transpose(1, 3), bias=torch.ones(5), weight=WEIGHTS),
    lambda x: F.interpolate(torch.eye(x.shape[3])[None], size=x.shape[2], mode="linear"),
    lambda x: F.cosine_similarity(x, x.flip(2), dim=1),
    lambda x: F.cosine_similarity(x, 1 - x, dim=-1),
    lambda x: F.scaled_dot_product_attention(*(part.transpose(1, 3) for part in (x, 2 * x, 1 - x))),
    lambda x: F.layer_norm(torch.stack([x, -x], dim=1).transpose(2, 4), (3,), *WEIGHTS[:2]),
    lambda x: torch.where((x > 0) & (x < 1), 1 - x, F.dropout2d(x, 0.5, training=False)),
    lambda x: x[0, 0].T * torch.outer(SORTED[:3], SORTED[:1])[..., None],
    lambda x: sum((x * torch.quantile(SORTED, share) for share in (0.0, 0.1, 0.5, 1.0)), x),
    lambda x: torch.where((torch.arange(x.shape[3]) % 2).bool(), x, -x),
    lambda x: x + torch.arange(x.shape[3]) / 2 + (torch.arange(x.shape[2]) * 1.5)[:, None],
]


def check(function: Callable[[Tensor], Tensor]) -> None:
    """The graph of a function gives what the function does, at another size too."""
    module = Function(function).eval()
    free: Any = torch.export.Dim.DYNAMIC
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        model = traced(
            module, {"x": torch.randn(2, 3, 7, 9, generator=random)}, {"x": {0: free, 2: free, 3: free}}
        )
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    x = torch.randn(3, 3, 11, 5, generator=random)
    (made,) = session.run(["out/y"], {"in/x": x.numpy()})
    np.testing.assert_allclose(made, module({"x": x})["y"].numpy(), atol=1e-5)


@pytest.mark.parametrize("number", range(len(FUNCTIONS)))
def test_a_graph_computes_what_the_function_does(number: int) -> None:
    check(FUNCTIONS[number])


def test_a_pytorch_that_keeps_its_inner_parts_elsewhere_traces_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.onnx._internal.fx.passes.type_promotion", None)
    check(grid)
