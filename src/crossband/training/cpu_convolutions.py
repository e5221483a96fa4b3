"""The convolutions of a training step on a CPU, by kernels that are made for them.

PyTorch gives a float32 convolution on a CPU to oneDNN, whose forward passes are fast throughout. Its backward
passes are not: the gradients of a dilated depthwise convolution, and that of the weight of one larger than
3 x 3, take 10 to 40 times as long as the forward pass. They are convolutions too, and are computed here by
forward passes. And with one thread PyTorch keeps 1 x 1 convolutions to itself, at half of oneDNN's rate. The
same products are added in another order: gradients are equal but for their last digits.
docs/results/speed.md has what it brings.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.grad import conv2d_input
from torch.overrides import TorchFunctionMode

Pair = tuple[int, int]

LARGEST_FAST_KERNEL = 3
"""Side of the largest kernel whose gradient oneDNN has a fast kernel for."""
WIDEST_DILATION = 4
"""Beyond it, as in DeepLabV3+'s pyramid, most of a padded plane is zeros, and oneDNN's own is faster."""


class CPUConvolutions(TorchFunctionMode):
    """A block in which the convolutions of float32 tensors on the CPU are those of this module.

    The backward pass may lie outside of the block. Whatever else runs in it runs as it does elsewhere.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        named = kwargs or {}
        if func is torch.conv2d and len(args) > 1 and _applies(args[0], args[1]):
            return _convolution(*args, **named)
        return func(*args, **named)


class _Depthwise(torch.autograd.Function):
    """A depthwise convolution whose gradients are forward passes of convolutions where these are faster."""

    @staticmethod
    def forward(
        context: Any, image: Tensor, weight: Tensor, stride: Pair, padding: Pair, dilation: Pair
    ) -> Tensor:
        context.save_for_backward(image, weight)
        context.places = stride, padding, dilation
        return torch.conv2d(image, weight, None, stride, padding, dilation, len(weight))

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        image, weight = context.saved_tensors
        of_image = of_weight = None
        if context.needs_input_grad[0]:
            of_image = _image_gradient(gradient, image, weight, *context.places)
        if context.needs_input_grad[1]:
            of_weight = _weight_gradient(gradient, image, weight, *context.places)
        return of_image, of_weight, None, None, None


def _applies(image: Tensor, weight: Tensor) -> bool:
    return (
        image.dtype == weight.dtype == torch.float32
        and image.device.type == "cpu"
        and not torch.is_autocast_enabled("cpu")
        and not torch.jit.is_tracing()
    )


def _convolution(
    image: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | tuple[int, ...] = 1,
    padding: str | int | tuple[int, ...] = 0,
    dilation: int | tuple[int, ...] = 1,
    groups: int = 1,
) -> Tensor:
    kernel = tuple(weight.shape[2:])
    if groups == 1 and kernel == (1, 1) and torch.get_num_threads() == 1:
        # The dilation of a single tap changes nothing, but such a convolution goes to oneDNN.
        return torch.conv2d(image, weight, bias, stride, padding, 2, groups)
    depthwise = groups == len(weight) == image.shape[1] > 1
    if depthwise and bias is None and weight.requires_grad and not isinstance(padding, str):
        places = _pair(stride), _pair(padding), _pair(dilation)
        slow = max(kernel) > LARGEST_FAST_KERNEL or max(places[2]) > 1
        if slow and max(places[2]) <= WIDEST_DILATION:
            return _Depthwise.apply(image, weight, *places)
    return torch.conv2d(image, weight, bias, stride, padding, dilation, groups)


def _image_gradient(
    gradient: Tensor, image: Tensor, weight: Tensor, stride: Pair, padding: Pair, dilation: Pair
) -> Tensor:
    """The gradient convolved with the kernel turned by 180 degrees where that is dilated; else oneDNN's."""
    beyond = [
        step * (side - 1) - border
        for step, side, border in zip(dilation, weight.shape[2:], padding, strict=True)
    ]
    if max(dilation) > 1 and max(stride) == 1 and min(beyond) >= 0:
        return torch.conv2d(gradient, weight.flip(2, 3), None, 1, beyond, dilation, len(weight))
    return conv2d_input(image.shape, weight, gradient, stride, padding, dilation, len(weight))


def _weight_gradient(
    gradient: Tensor, image: Tensor, weight: Tensor, stride: Pair, padding: Pair, dilation: Pair
) -> Tensor:
    """Each plane of the image convolved with the gradient's; stride and dilation change places."""
    if max(padding) > 0:
        image = F.pad(image, (padding[1], padding[1], padding[0], padding[0]))
    count, channels = image.shape[:2]
    planes = image.contiguous().view(1, count * channels, *image.shape[2:])
    kernels = gradient.contiguous().view(count * channels, 1, *gradient.shape[2:])
    taps = torch.conv2d(planes, kernels, None, dilation, 0, stride, count * channels)
    height, width = weight.shape[2:]
    # A stride may leave a rest of the image that no tap has seen.
    return taps[..., :height, :width].reshape(count, *weight.shape).sum(dim=0)


def _pair(value: int | tuple[int, ...]) -> Pair:
    return (value, value) if isinstance(value, int) else (value[0], value[1])
