"""Run two MobileNet-like blocks side by side and meet after their depthwise batch norms.

That is where CEN (TPAMI 2022) exchanges channels: after the batch norm, before its activation, in every
block. Each block is written once as a generator that hands out its map at that place and goes on with
what it is given back, so that the two can be driven together.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import partial

import torch
from segmentation_models_pytorch.encoders._efficientnet import MBConvBlock, drop_connect
from timm.models._efficientnet_blocks import DepthwiseSeparableConv
from timm.models._efficientnet_blocks import InvertedResidual as TimmInvertedResidual
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torchvision.models.mobilenetv2 import InvertedResidual as TorchvisionInvertedResidual

from crossband.blocks.encoders import Layer
from crossband.errors import OptionError

Meet = Callable[[Tensor, Tensor, _BatchNorm, _BatchNorm], tuple[Tensor, Tensor]]
"""(visible map, infrared map, visible norm, infrared norm) -> the two maps to go on with."""

Steps = Generator[tuple[Tensor, _BatchNorm], Tensor, Tensor]


def run_stage_pair(
    visible_layers: list[Layer], infrared_layers: list[Layer], visible: Tensor, infrared: Tensor, meet: Meet
) -> tuple[Tensor, Tensor]:
    """Run one stage of both branches, calling ``meet`` after every depthwise batch norm."""
    for visible_layer, infrared_layer in zip(visible_layers, infrared_layers, strict=True):
        visible, infrared = _run_pair(_steps(visible_layer, visible), _steps(infrared_layer, infrared), meet)
    return visible, infrared


def check_depthwise(stages: list[list[Layer]]) -> None:
    """Raise OptionError unless the encoder has blocks with a depthwise batch norm that we can stop at."""
    modules = [module for stage in stages for layer in stage for module in _modules(layer)]
    if not any(isinstance(module, _BLOCKS) for module in modules):
        raise OptionError(
            "exchange_site='dw_bn' needs an encoder of inverted residuals (EfficientNet, MobileNetV2); "
            "use exchange_site='stage' with this one"
        )


def _modules(layer: Layer) -> list[nn.Module]:
    module = layer.func if isinstance(layer, partial) else layer
    return list(module.modules()) if isinstance(module, nn.Module) else []


def _run_pair(visible: Steps, infrared: Steps, meet: Meet) -> tuple[Tensor, Tensor]:
    """Drive both generators to their ends; tied branches have the same blocks, so they end together."""
    visible_step, infrared_step = _advance(visible, None), _advance(infrared, None)
    while isinstance(visible_step, tuple) and isinstance(infrared_step, tuple):
        visible_map, visible_norm = visible_step
        infrared_map, infrared_norm = infrared_step
        visible_map, infrared_map = meet(visible_map, infrared_map, visible_norm, infrared_norm)
        visible_step, infrared_step = _advance(visible, visible_map), _advance(infrared, infrared_map)
    assert isinstance(visible_step, Tensor)
    assert isinstance(infrared_step, Tensor)
    return visible_step, infrared_step


def _advance(steps: Steps, value: Tensor | None) -> tuple[Tensor, _BatchNorm] | Tensor:
    try:
        return next(steps) if value is None else steps.send(value)
    except StopIteration as end:
        return end.value


def _steps(layer: Layer, x: Tensor) -> Steps:
    module = layer.func if isinstance(layer, partial) else layer
    if isinstance(module, nn.Sequential):
        for part in module:
            x = yield from _steps(part, x)
        return x
    if isinstance(module, MBConvBlock):
        return (yield from _smp_block(module, x, layer.keywords["drop_connect_rate"]))  # type: ignore[attr-defined]
    if isinstance(module, TimmInvertedResidual):
        return (yield from _timm_inverted_residual(module, x))
    if isinstance(module, DepthwiseSeparableConv):
        return (yield from _timm_depthwise_separable(module, x))
    if isinstance(module, TorchvisionInvertedResidual):
        return (yield from _torchvision_inverted_residual(module, x))
    return layer(x)


def _smp_block(block: MBConvBlock, inputs: Tensor, drop_connect_rate: float) -> Steps:
    x = inputs
    if block._has_expansion:
        x = block._swish(block._bn0(block._expand_conv(x)))
    x = yield block._bn1(block._depthwise_conv(x)), block._bn1
    x = block._swish(x)
    if block._has_se:
        squeezed = block._swish(block._se_reduce(F.adaptive_avg_pool2d(x, 1)))
        x = torch.sigmoid(block._se_expand(squeezed)) * x
    x = block._bn2(block._project_conv(x))
    if block._has_drop_connect:
        if drop_connect_rate > 0:
            x = drop_connect(x, p=drop_connect_rate, training=block.training)
        x = x + inputs
    return x


def _timm_inverted_residual(block: TimmInvertedResidual, inputs: Tensor) -> Steps:
    x = inputs
    if block.conv_s2d is not None:
        x = block.bn_s2d(block.conv_s2d(x))
    x = block.bn1(block.conv_pw(x))
    # timm's norm holds its activation: call the norm alone, so that the exchange comes between the two.
    x = yield nn.BatchNorm2d.forward(block.bn2, block.conv_dw(x)), block.bn2
    x = block.se(block.aa(block.bn2.act(block.bn2.drop(x))))  # type: ignore[misc]
    x = block.bn3(block.conv_pwl(x))
    return block.drop_path(x) + inputs if block.has_skip else x


def _timm_depthwise_separable(block: DepthwiseSeparableConv, inputs: Tensor) -> Steps:
    x = inputs
    if block.conv_s2d is not None:
        x = block.bn_s2d(block.conv_s2d(x))
    x = yield nn.BatchNorm2d.forward(block.bn1, block.conv_dw(x)), block.bn1
    x = block.se(block.aa(block.bn1.act(block.bn1.drop(x))))  # type: ignore[misc]
    x = block.bn2(block.conv_pw(x))
    return block.drop_path(x) + inputs if block.has_skip else x


def _torchvision_inverted_residual(block: TorchvisionInvertedResidual, inputs: Tensor) -> Steps:
    # block.conv: [expansion,] depthwise (convolution, norm, activation), projection, norm
    *before, (convolution, norm, activation), projection, projection_norm = block.conv
    x = inputs
    for layer in before:
        x = layer(x)
    x = yield norm(convolution(x)), norm
    x = projection_norm(projection(activation(x)))
    return inputs + x if block.use_res_connect else x


_BLOCKS = (MBConvBlock, TimmInvertedResidual, DepthwiseSeparableConv, TorchvisionInvertedResidual)
