"""Run two branches block by block and meet after one batch norm of every block, before its activation.

That is where CEN (TPAMI 2022) exchanges channels: after the batch norm of a bottleneck's 3 x 3 convolution.
A basic block of a ResNet has its place after the first of its two; a MobileNet-like block after the
depthwise convolution, which is its only spatial one.

Each block is written once as a generator that hands out its map at that place and goes on with what it is
given back, so that the two can be driven together. Layers without such a place run as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import partial
from typing import Any, NamedTuple

import torch
from segmentation_models_pytorch.encoders._efficientnet import MBConvBlock, drop_connect
from timm.layers import ConvNormAct
from timm.models._efficientnet_blocks import DepthwiseSeparableConv, UniversalInvertedResidual
from timm.models._efficientnet_blocks import InvertedResidual as TimmInvertedResidual
from timm.models.regnet import Bottleneck as RegNetBottleneck
from timm.models.regnet import RegStage
from timm.models.resnet import BasicBlock as TimmBasicBlock
from timm.models.resnet import Bottleneck as TimmBottleneck
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torchvision.models.mobilenetv2 import InvertedResidual as TorchvisionInvertedResidual
from torchvision.models.resnet import BasicBlock as TorchvisionBasicBlock
from torchvision.models.resnet import Bottleneck as TorchvisionBottleneck

from crossband.blocks.encoders import Layer, stage_modules
from crossband.errors import OptionError

Meet = Callable[[Tensor, Tensor, _BatchNorm, _BatchNorm], tuple[Tensor, Tensor]]
"""(visible map, infrared map, visible norm, infrared norm) -> the two maps to go on with."""

Steps = Generator[tuple[Tensor, _BatchNorm], Tensor, Tensor]


def run_stage_pair(
    visible_layers: list[Layer], infrared_layers: list[Layer], visible: Tensor, infrared: Tensor, meet: Meet
) -> tuple[Tensor, Tensor]:
    """Run one stage of both branches, calling ``meet`` at the place of every block."""
    for visible_layer, infrared_layer in zip(visible_layers, infrared_layers, strict=True):
        visible, infrared = _run_pair(_steps(visible_layer, visible), _steps(infrared_layer, infrared), meet)
    return visible, infrared


def site_norms(layers: list[Layer]) -> list[_BatchNorm]:
    """The batch norms of a stage after which two branches meet, in the order of the meetings."""
    norms = []
    for top in stage_modules(layers):
        for module in top.modules():
            kind = _kind_of(module)
            norm = None if kind is None else kind.norm(module)
            if norm is not None:
                norms.append(norm)
    return norms


def check_depthwise(stages: list[list[Layer]]) -> None:
    """Raise OptionError unless the encoder has blocks with a depthwise batch norm that we can stop at."""
    modules = [module for layers in stages for top in stage_modules(layers) for module in top.modules()]
    if not any((kind := _kind_of(module)) is not None and kind.depthwise for module in modules):
        raise OptionError(
            "exchange_site='dw_bn' needs an encoder of inverted residuals (EfficientNet, MobileNetV2); "
            "use exchange_site='stage' with this one"
        )


def check_sites(stages: list[list[Layer]], encoder: str) -> None:
    """Raise OptionError, naming the encoder, unless it has blocks in which two branches can meet."""
    if not any(site_norms(layers) for layers in stages):
        raise OptionError(
            f"encoder {encoder!r} has no blocks inside which channels could be exchanged by a batch norm's "
            "scales; use a ResNet, RegNet, MobileNet or EfficientNet, such as resnet50 or efficientnet-b3"
        )


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
    # Exactly a Sequential: some of timm's subclasses do more than call their layers in turn.
    if type(module) in (nn.Sequential, RegStage):
        assert isinstance(module, nn.Module)
        for part in module.children():
            x = yield from _steps(part, x)
        return x
    if isinstance(module, MBConvBlock):
        return (yield from _smp_block(module, x, layer.keywords["drop_connect_rate"]))  # type: ignore[attr-defined]
    kind = _kind_of(module)
    if kind is not None:
        return (yield from kind.steps(module, x))
    return layer(x)


# --- MobileNet-like blocks


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


def _timm_universal(block: UniversalInvertedResidual, inputs: Tensor) -> Steps:
    x = block.pw_exp(block.dw_start(inputs))
    # Where the depthwise convolution comes first, or there is none, the block has no such place.
    if isinstance(block.dw_mid, ConvNormAct):
        x = yield from _norm_and_activation(block.dw_mid, x)
    x = block.layer_scale(block.dw_end(block.pw_proj(block.se(x))))
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


# --- ResNet-like blocks


def _torchvision_bottleneck(block: TorchvisionBottleneck, inputs: Tensor) -> Steps:
    x = block.relu(block.bn1(block.conv1(inputs)))
    x = yield block.bn2(block.conv2(x)), block.bn2
    x = block.bn3(block.conv3(block.relu(x)))
    return block.relu(x + (inputs if block.downsample is None else block.downsample(inputs)))


def _torchvision_basic(block: TorchvisionBasicBlock, inputs: Tensor) -> Steps:
    x = yield block.bn1(block.conv1(inputs)), block.bn1
    x = block.bn2(block.conv2(block.relu(x)))
    return block.relu(x + (inputs if block.downsample is None else block.downsample(inputs)))


def _timm_bottleneck(block: TimmBottleneck, inputs: Tensor) -> Steps:
    x = block.act1(block.bn1(block.conv1(inputs)))
    x = yield block.bn2(block.conv2(x)), block.bn2  # type: ignore[misc]
    x = block.bn3(block.conv3(block.aa(block.act2(block.drop_block(x)))))  # type: ignore[misc]
    return block.act3(_timm_end(block, x, inputs))


def _timm_basic(block: TimmBasicBlock, inputs: Tensor) -> Steps:
    x = yield block.bn1(block.conv1(inputs)), block.bn1  # type: ignore[misc]
    x = block.bn2(block.conv2(block.aa(block.act1(block.drop_block(x)))))  # type: ignore[misc]
    return block.act2(_timm_end(block, x, inputs))


def _timm_end(block: TimmBottleneck | TimmBasicBlock, x: Tensor, inputs: Tensor) -> Tensor:
    for layer in (block.se, block.drop_path):
        x = x if layer is None else layer(x)
    return x + (inputs if block.downsample is None else block.downsample(inputs))


def _regnet_bottleneck(block: RegNetBottleneck, inputs: Tensor) -> Steps:
    x = yield from _norm_and_activation(block.conv2, block.conv1(inputs))
    x = block.conv3(block.se(x))
    if block.downsample is not None:
        x = block.drop_path(x) + block.downsample(inputs)
    return block.act3(x)


def _norm_and_activation(layer: ConvNormAct, x: Tensor) -> Steps:
    """timm's convolution, norm and activation, with the meeting before the activation."""
    norm: Any = layer.bn
    x = yield nn.BatchNorm2d.forward(norm, layer.conv(x)), norm
    x = norm.act(norm.drop(x))
    return x if layer.aa is None else layer.aa(x)


class _Kind(NamedTuple):
    """What is known of a kind of block."""

    steps: Callable[..., Steps]
    norm: Callable[[Any], _BatchNorm | None]
    depthwise: bool


_KINDS: dict[type[nn.Module], _Kind] = {
    MBConvBlock: _Kind(_smp_block, lambda block: block._bn1, True),
    TimmInvertedResidual: _Kind(_timm_inverted_residual, lambda block: block.bn2, True),
    DepthwiseSeparableConv: _Kind(_timm_depthwise_separable, lambda block: block.bn1, True),
    UniversalInvertedResidual: _Kind(_timm_universal, lambda block: getattr(block.dw_mid, "bn", None), True),
    TorchvisionInvertedResidual: _Kind(_torchvision_inverted_residual, lambda block: block.conv[-3][1], True),
    TorchvisionBottleneck: _Kind(_torchvision_bottleneck, lambda block: block.bn2, False),
    TorchvisionBasicBlock: _Kind(_torchvision_basic, lambda block: block.bn1, False),
    TimmBottleneck: _Kind(_timm_bottleneck, lambda block: block.bn2, False),
    TimmBasicBlock: _Kind(_timm_basic, lambda block: block.bn1, False),
    RegNetBottleneck: _Kind(_regnet_bottleneck, lambda block: block.conv2.bn, False),
}


def _kind_of(module: object) -> _Kind | None:
    # Exactly these: a subclass may compute something else.
    return _KINDS.get(type(module))  # type: ignore[arg-type]
