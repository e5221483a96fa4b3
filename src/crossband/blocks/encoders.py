"""Encoders by name: which there are, how they normalise, and how to run one stage by stage.

The networks are those of segmentation-models-pytorch (smp) and, for every other name, timm's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import segmentation_models_pytorch as smp
import timm
from timm.models._features import FeatureListNet
from timm.models.efficientnet import EfficientNetFeatures
from timm.models.mobilenetv3 import MobileNetV3Features
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torchvision.models.mobilenetv2 import MobileNetV2
from torchvision.models.resnet import ResNet

from crossband.errors import OptionError, did_you_mean, first_line

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
FIVE_STAGES_ADVICE = "use a ResNet, RegNet, MobileNet or EfficientNet, such as resnet50 or efficientnet-b3"

Layer = Callable[[Tensor], Tensor]
"""A module, or a block with its own argument bound to it."""


def is_mix_transformer(encoder: str) -> bool:
    """Whether a name is that of one of our Mix Transformers, ``mit_b0`` and so on."""
    return encoder.removeprefix("tu-").startswith("mit_")


def smp_name(encoder: str) -> str:
    """The name under which smp builds an encoder: its own names as they are, timm's with ``tu-`` before.

    Raises OptionError, with the nearest names, for one that neither library has.
    """
    bare = encoder.removeprefix("tu-")
    if is_mix_transformer(encoder):
        raise OptionError(
            f"encoder {encoder!r}: smp's Mix Transformer is under a non-commercial licence and is not used "
            "here, and ours has no place in this system; use a convolutional encoder, such as resnet34 or "
            "efficientnet-b3"
        )
    if encoder in smp.encoders.encoders:
        return encoder
    if timm.is_model(bare):
        return f"tu-{bare}"
    known = [*smp.encoders.encoders, *timm.list_models()]
    hint = did_you_mean(bare, known, most=4) or "; try resnet34 or efficientnet-b3"
    raise OptionError(f"neither smp nor timm has an encoder {encoder!r}{hint}")


def normalisation(encoder: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation (of values in [0, 1]) that the encoder's ImageNet weights expect."""
    if is_mix_transformer(encoder):
        return IMAGENET_MEAN, IMAGENET_STD
    name = smp_name(encoder)
    if name.startswith("tu-"):
        config = timm.get_pretrained_cfg(name.removeprefix("tu-"))
        if config is not None:
            return tuple(config.mean), tuple(config.std)
    return IMAGENET_MEAN, IMAGENET_STD


def published_licence(encoder: str) -> str | None:
    """The licence of an encoder's published weights as timm states it: "apache-2.0", "cc-by-nc-4.0", ...

    None where it states none: for our Mix Transformers, for encoders that smp builds itself, and for names
    that neither has.
    """
    bare = encoder.removeprefix("tu-")
    if is_mix_transformer(encoder) or encoder in smp.encoders.encoders or not timm.is_model(bare):
        return None
    config = timm.get_pretrained_cfg(bare)
    stated = None if config is None else config.license
    return None if stated == "unknown" else stated


@contextmanager
def explaining(encoder: str, cannot: str, advice: str) -> Iterator[None]:
    """Turn what smp and timm raise for an encoder that they cannot build so into one OptionError.

    cannot: the rest of the sentence that the encoder's name begins, such as "has no five stages". advice:
    what to use in its place.
    """
    try:
        yield
    except (ValueError, TypeError, AssertionError) as error:
        spoken = encoder.removeprefix("tu-")
        raise OptionError(f"encoder {spoken!r} {cannot} ({first_line(error)}); {advice}") from error


def five_stage_encoder(encoder: str, *, channels: int = 3, advice: str = FIVE_STAGES_ADVICE) -> nn.Module:
    """smp's encoder of a name, at random, for images of so many channels, that `encoder_stages` can cut.

    Raises OptionError, naming the encoder and giving the advice, for one that neither library has or that
    does not run as a chain of five stages.
    """
    name = smp_name(encoder)
    with explaining(encoder, "has no five stages", advice):
        network = smp.encoders.get_encoder(name, in_channels=channels, depth=5, weights=None)
    check_exchangeable(network, encoder.removeprefix("tu-"), ())
    return network


def encoder_stages(encoder: nn.Module) -> list[list[Layer]]:
    """An smp encoder cut into its five stages, each a list of layers to be called in order.

    Calling the stages one after another gives the same maps as calling the encoder, which is what makes
    it possible to exchange features between two encoders on the way. Nothing is copied: the layers are
    the encoder's own. Raises OptionError for an encoder that does not run as a chain of five stages.
    """
    network = encoder.model if isinstance(encoder, smp.encoders.TimmUniversalEncoder) else encoder
    if isinstance(network, ResNet):
        stages: list[list[Layer]] = [
            [network.conv1, network.bn1, network.relu],
            [network.maxpool, network.layer1],
            [network.layer2],
            [network.layer3],
            [network.layer4],
        ]
    elif isinstance(network, MobileNetV2):
        stages = _cut(list(network.features), network._out_indexes)
    elif isinstance(network, smp.encoders.efficientnet.EfficientNetEncoder):
        count = len(network._blocks)
        blocks: list[Layer] = [
            partial(block, drop_connect_rate=network._drop_connect_rate * index / count)
            for index, block in enumerate(network._blocks)
        ]
        stages = [[network._conv_stem, network._bn0, network._swish], *_cut(blocks, network._out_indexes)]
    elif isinstance(network, EfficientNetFeatures | MobileNetV3Features):
        stem = [network.conv_stem, network.bn1]
        if isinstance(network, MobileNetV3Features):
            stem.append(network.act1)
        ends = sorted(index - 1 for index in network._stage_out_idx if index > 0)
        # Where a network's first feature is not the stem's output but that of the first blocks, those
        # blocks belong to the first stage.
        if 0 in network._stage_out_idx:
            stages = [list(stem), *_cut(list(network.blocks), ends)]
        else:
            stages = _cut(list(network.blocks), ends)
            stages[0] = [*stem, *stages[0]]
    elif isinstance(network, FeatureListNet):
        ends = [index for index, name in enumerate(network) if name in network.return_layers]
        stages = _cut(list(network.values()), ends)
    else:
        stages = []
    if len(stages) != 5:
        raise OptionError(
            "the encoder does not run as a chain of five stages between which features could be exchanged; "
            "use an EfficientNet, ResNet, MobileNet or RegNet, such as efficientnet-b3 or resnet34"
        )
    return stages


def run_stage(layers: list[Layer], x: Tensor) -> Tensor:
    """Call a stage's layers in order."""
    for layer in layers:
        x = layer(x)
    return x


def stage_modules(layers: list[Layer]) -> Iterator[nn.Module]:
    """The modules behind a stage's layers, in the order in which they are called."""
    for layer in layers:
        if isinstance(layer, nn.Module):
            yield layer
        elif isinstance(layer, partial):
            yield layer.func  # type: ignore[misc]


def unread_modules(encoder: nn.Module) -> list[nn.Module]:
    """An smp encoder's modules with weights of their own that no stage calls.

    smp's EfficientNets keep the last convolution and batch norm of the classifier: 592,896 parameters in B3.
    Empty for an encoder that `encoder_stages` cannot cut, since nothing is known of it.
    """
    try:
        stages = encoder_stages(encoder)
    except OptionError:
        return []
    read = {id(part) for layers in stages for top in stage_modules(layers) for part in top.modules()}
    return [
        module
        for module in encoder.modules()
        if id(module) not in read and next(module.parameters(recurse=False), None) is not None
    ]


def last_norm(layers: list[Layer], channels: int) -> _BatchNorm:
    """The batch norm that a stage's output of so many channels comes out of; one on a shortcut is not it.

    Raises OptionError for a stage that does not end in a batch norm.
    """
    norms = [
        module
        for top in stage_modules(layers)
        for name, module in top.named_modules()
        if isinstance(module, _BatchNorm) and "downsample" not in name
    ]
    if not norms or norms[-1].num_features != channels:
        raise OptionError(
            "the encoder has a stage that does not end in a batch norm, whose scales channels are exchanged "
            "by; use a ResNet, MobileNet or EfficientNet, such as resnet34 or efficientnet-b3"
        )
    return norms[-1]


def check_exchangeable(encoder: nn.Module, name: str, norms_at: Sequence[int]) -> None:
    """Raise OptionError, naming the encoder, unless features can be exchanged between its stages.

    norms_at: the stages, from 1, whose last batch norm is needed.
    """
    try:
        stages = encoder_stages(encoder)
        for stage in norms_at:
            last_norm(stages[stage - 1], encoder.out_channels[stage])  # type: ignore[arg-type, index]
    except OptionError as error:
        raise OptionError(f"encoder {name!r} does not fit: {error}") from error


def _cut(layers: list[Layer], ends: list[int]) -> list[list[Layer]]:
    """Cut a chain after each index of ``ends``; what follows the last one takes part in no feature."""
    starts = [0, *(end + 1 for end in ends[:-1])]
    return [layers[start : end + 1] for start, end in zip(starts, ends, strict=True)]
