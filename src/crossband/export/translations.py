"""PyTorch's operators that its exporter has no ONNX operators for, and would take apart first."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode


def translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """What makes the ONNX operators, by operator; each takes what PyTorch's takes.

    Raises NotImplementedError for arguments that no system has: then they are taken apart after all.
    """
    import onnxscript

    # Its types are those of functions that it compiles; these are called as they are.
    op: Any = onnxscript.opset18

    def normalised(input: Any, mean: Any, variance: Any, weight: Any, bias: Any, epsilon: float) -> Any:
        return op.BatchNormalization(input, weight, bias, mean, variance, epsilon=epsilon)

    def hard_swish(input: Any) -> Any:
        return op.HardSwish(input)

    def linear(input: Any, weight: Any, bias: Any) -> Any:
        made = op.MatMul(input, op.Transpose(weight, perm=[1, 0]))
        return made if bias is None else op.Add(made, bias)

    def attention(queries: Any, keys: Any, values: Any, scale: float) -> Any:
        scaled = op.Mul(queries, op.CastLike(op.Constant(value_float=scale), queries))
        shares = op.Softmax(op.MatMul(scaled, op.Transpose(keys, perm=[0, 1, 3, 2])), axis=-1)
        return op.MatMul(shares, values)

    def pooled(input: Any, size: Any) -> Any:
        # No runtime is trusted with a grid.
        _need(list(size) == [1, 1])
        return op.GlobalAveragePool(input)

    def cast(input: Any, dtype: int, *_: Any) -> Any:
        return op.Cast(input, to=dtype)

    def same(input: Any, *_: Any) -> Any:
        return op.Identity(input)

    def dropout(input: Any, share: float, training: bool) -> Any:
        _need(not training)
        return op.Identity(input)

    def transposed_convolution(
        input: Any, weight: Any, bias: Any = None, stride: Any = (1, 1), *others: Any
    ) -> Any:
        plain = (0, 0), (0, 0), 1, (1, 1)
        given = tuple(tuple(other) if isinstance(other, list | tuple) else other for other in others)
        _need(bias is None and given == plain[: len(given)])
        return op.ConvTranspose(input, weight, strides=list(stride))

    def subtracted_from(input: Any, number: float, alpha: float = 1.0) -> Any:
        _need(alpha == 1)
        return op.Sub(op.CastLike(op.Constant(value_float=float(number)), input), input)

    def without_nan(input: Any, nan: Any = None, highest: Any = None, lowest: Any = None) -> Any:
        _need(nan is None and highest is None and lowest is None)
        return op.Where(op.IsNaN(input), op.CastLike(op.Constant(value_float=0.0), input), input)

    def both(first: Any, second: Any) -> Any:
        return op.And(first, second)

    def transposed(input: Any) -> Any:
        return op.Transpose(input)

    def outer(first: Any, second: Any) -> Any:
        return op.Mul(op.Unsqueeze(first, [1]), op.Unsqueeze(second, [0]))

    def identity(size: Any, dtype: int = 1, *_: Any, **__: Any) -> Any:
        sides = op.Expand(size, op.Constant(value_ints=[2]))
        return op.EyeLike(op.ConstantOfShape(sides), dtype=dtype)

    def lengthened(input: Any, size: Any, align_corners: bool, scales: Any = None) -> Any:
        _need(not align_corners and scales is None)
        sides = op.Concat(op.Shape(input, end=2), _line(op, size), axis=0)
        return op.Resize(input, None, None, sides, mode="linear", coordinate_transformation_mode="half_pixel")

    def cosine(first: Any, second: Any, dim: int = -1, epsilon: float = 1e-8) -> Any:
        def length(vectors: Any) -> Any:
            least = op.CastLike(op.Constant(value_float=epsilon), vectors)
            return op.Max(op.ReduceL2(vectors, [dim], keepdims=1), least)

        units = op.Div(first, length(first)), op.Div(second, length(second))
        return op.ReduceSum(op.Mul(*units), [dim], keepdims=0)

    def stacked(tensors: Any, dim: int) -> Any:
        return op.Concat(*(op.Unsqueeze(tensor, [dim]) for tensor in tensors), axis=dim)

    def quantile(values: Any, share: float, dim: Any = None, *_: Any, **__: Any) -> Any:
        _need(dim is None and len(values.shape) == 1 and isinstance(values.shape[0], int))
        rank = share * (values.shape[0] - 1)
        below = min(int(rank), values.shape[0] - 2)
        ordered, _indices = op.TopK(values, op.Constant(value_ints=[values.shape[0]]), largest=0)
        low, high = (op.Gather(ordered, op.Constant(value_int=place)) for place in (below, below + 1))
        weight = op.CastLike(op.Constant(value_float=rank - below), values)
        return op.Add(low, op.Mul(weight, op.Sub(high, low)))

    aten = torch.ops.aten
    return {
        whole_operators().batch_norm.default: normalised,
        whole_operators().hardswish.default: hard_swish,
        whole_operators().linear.default: linear,
        whole_operators().attention.default: attention,
        whole_operators().stack.default: stacked,
        whole_operators().cosine_similarity.default: cosine,
        aten.adaptive_avg_pool2d.default: pooled,
        aten.to.dtype: cast,
        aten.detach_.default: same,
        aten.feature_dropout.default: dropout,
        aten.conv_transpose2d.input: transposed_convolution,
        aten.rsub.Scalar: subtracted_from,
        aten.nan_to_num.default: without_nan,
        aten.__and__.Tensor: both,
        aten.numpy_T.default: transposed,
        aten.outer.default: outer,
        aten.eye.default: identity,
        aten.upsample_linear1d.vec: lengthened,
        aten.quantile.scalar: quantile,
    }


@cache
def whole_operators() -> Any:
    """Operators of ours for what PyTorch takes apart to learn its shape, which is plain to see.

    With free sizes that takes most of a trace's time.
    """

    @torch.library.custom_op("crossband::batch_norm", mutates_args=())
    def batch_norm(
        input: Tensor, mean: Tensor, variance: Tensor, weight: Tensor, bias: Tensor, epsilon: float
    ) -> Tensor:
        return torch.batch_norm(input, weight, bias, mean, variance, False, 0.0, epsilon, False)

    @torch.library.custom_op("crossband::hardswish", mutates_args=())
    def hardswish(input: Tensor) -> Tensor:
        return torch.ops.aten.hardswish(input)

    @torch.library.custom_op("crossband::linear", mutates_args=())
    def linear(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return torch.ops.aten.linear(input, weight, bias)

    @torch.library.custom_op("crossband::attention", mutates_args=())
    def attention(queries: Tensor, keys: Tensor, values: Tensor, scale: float) -> Tensor:
        return F.scaled_dot_product_attention(queries, keys, values, scale=scale)

    @attention.register_fake
    def _(queries: Tensor, keys: Tensor, values: Tensor, scale: float) -> Tensor:
        return queries.new_empty((*queries.shape[:-1], values.shape[-1]))

    @torch.library.custom_op("crossband::stack", mutates_args=())
    def stack(tensors: list[Tensor], dim: int) -> Tensor:
        return torch.ops.aten.stack(tensors, dim)

    @stack.register_fake
    def _(tensors: list[Tensor], dim: int) -> Tensor:
        shape = list(tensors[0].shape)
        shape.insert(dim, len(tensors))
        return tensors[0].new_empty(shape)

    @torch.library.custom_op("crossband::cosine_similarity", mutates_args=())
    def cosine_similarity(first: Tensor, second: Tensor) -> Tensor:
        return torch.ops.aten.cosine_similarity(first, second, -1)

    @cosine_similarity.register_fake
    def _(first: Tensor, second: Tensor) -> Tensor:
        return first.new_empty(first.shape[:-1])

    for operator in (batch_norm, hardswish):
        operator.register_fake(lambda input, *_: torch.empty_like(input))
    linear.register_fake(lambda input, weight, bias: input.new_empty((*input.shape[:-1], weight.shape[0])))
    return torch.ops.crossband


class WholeOperators(TorchFunctionMode):
    """A block in which layers compute with `whole_operators`, as far as they are these."""

    def __torch_function__(
        self, function: Any, types: Any, arguments: tuple[Any, ...] = (), named: dict[str, Any] | None = None
    ) -> Any:
        named = named or {}
        whole = whole_operators()
        if function is F.hardswish:
            return whole.hardswish(arguments[0])
        if function is F.linear:
            call = dict(zip(_LINEAR, arguments, strict=False)) | named
            return whole.linear(call["input"], call["weight"], call.get("bias"))
        plain = function is F.scaled_dot_product_attention and len(arguments) == 3 and not named
        if plain and all(given.ndim == 4 for given in arguments):
            return whole.attention(*arguments, arguments[0].shape[-1] ** -0.5)
        if function is torch.stack and len(arguments) == 1 and named.keys() == {"dim"} and named["dim"] >= 0:
            return whole.stack(list(arguments[0]), named["dim"])
        if function is F.cosine_similarity and len(arguments) == 2 and named == {"dim": -1}:
            return whole.cosine_similarity(*arguments)
        if function is F.batch_norm:
            call = dict(zip(_BATCH_NORM, arguments, strict=False)) | named
            if not call.pop("training", False) and None not in (call.get("weight"), call.get("bias")):
                call.pop("momentum", None)
                return whole.batch_norm(*(call[name] for name in _BATCH_NORM if name in call))
        return function(*arguments, **named)


_LINEAR = "input", "weight", "bias"
_BATCH_NORM = "input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps"


def _need(fits: bool) -> None:
    if not fits:
        raise NotImplementedError


def _line(op: Any, size: Any) -> Any:
    """One size, or a list of one, as a tensor (1,) of int64."""
    (number,) = size if isinstance(size, list | tuple) else (size,)
    if isinstance(number, int):
        return op.Constant(value_ints=[number])
    return op.Reshape(number, op.Constant(value_ints=[1]))
