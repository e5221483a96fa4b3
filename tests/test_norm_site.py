"""Two encoders, block by block, with a meeting after one batch norm of every block."""

import re
from collections.abc import Callable

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
import torchvision
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torchvision.models.feature_extraction import create_feature_extractor

from crossband.blocks.encoders import encoder_stages, smp_name
from crossband.blocks.norm_site import check_depthwise, check_sites, run_stage_pair, site_norms
from crossband.errors import OptionError
from tiny_systems import randomise_norms

# Encoders, and the names of the batch norms after which two of a kind meet.
FAMILIES = {
    "resnet18": r"layer\d\.\d\.bn1$",
    "resnet50": r"\.bn2$",
    "resnext50_32x4d": r"\.bn2$",
    "tu-resnet18": r"layer\d\.\d\.bn1$",
    "tu-resnet50": r"\.bn2$",
    "tu-seresnet50": r"\.bn2$",
    "regnety_002": r"conv2\.bn$",
    "mobilenetv4_conv_small": r"dw_mid\.bn$",
    # First come blocks without an expansion, in which the depthwise norm has another name.
    "mobilenet_v2": r"features\.1\.conv\.0\.1$|conv\.1\.1$",
    "efficientnet-b0": r"_blocks\.\d+\._bn1$",
    "tf_efficientnet_lite0": r"blocks\.0\.0\.bn1$|blocks\.[1-6]\.\d\.bn2$",
}


def encoder_of(name: str, seed: int = 0) -> nn.Module:
    torch.manual_seed(0)
    encoder = smp.encoders.get_encoder(smp_name(name), weights=None).eval()
    randomise_norms(encoder, seed)
    return encoder


def run_pair(
    visible: nn.Module, infrared: nn.Module, images: tuple[Tensor, Tensor], meet: Callable[..., tuple]
) -> list[tuple[Tensor, Tensor]]:
    """The five pairs of maps of two encoders that meet."""
    maps, (x, y) = [], images
    with torch.no_grad():
        for layers in zip(encoder_stages(visible), encoder_stages(infrared), strict=True):
            x, y = run_stage_pair(*layers, x, y, meet)
            maps.append((x, y))
    return maps


@pytest.fixture(scope="module")
def pictures() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(1, 3, 64, 96, generator=generator), torch.rand(1, 3, 64, 96, generator=generator)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_block_meets_once_and_computes_what_it_does_alone(
    name: str, pictures: tuple[Tensor, Tensor]
) -> None:
    visible, infrared = encoder_of(name), encoder_of(name, seed=1)
    norms: list[tuple[_BatchNorm, _BatchNorm]] = []

    def meet(x: Tensor, y: Tensor, *of: _BatchNorm) -> tuple[Tensor, Tensor]:
        norms.append((of[0], of[1]))
        return x.clone(), y.clone()

    maps = run_pair(visible, infrared, pictures, meet)
    with torch.no_grad():
        wanted = visible(pictures[0])[1:], infrared(pictures[1])[1:]
    for (x, y), of_visible, of_infrared in zip(maps, *wanted, strict=True):
        assert torch.allclose(x, of_visible, atol=1e-5)
        assert torch.allclose(y, of_infrared, atol=1e-5)
    for own, encoder in zip(zip(*norms, strict=True), (visible, infrared), strict=True):
        named = [(key, module) for key, module in encoder.named_modules() if isinstance(module, _BatchNorm)]
        assert list(own) == [module for key, module in named if re.search(FAMILIES[name], key)]
        assert len(own) >= 8
        assert list(own) == [norm for layers in encoder_stages(encoder) for norm in site_norms(layers)]


@pytest.mark.parametrize("depth", [18, 50])
def test_without_exchange_it_is_torchvisions_resnet(depth: int, pictures: tuple[Tensor, Tensor]) -> None:
    encoder = encoder_of(f"resnet{depth}")
    reference = torchvision.models.get_model(f"resnet{depth}", weights=None).eval()
    assert not reference.load_state_dict(encoder.state_dict(), strict=False).unexpected_keys
    stages = create_feature_extractor(reference, ["relu", "layer1", "layer2", "layer3", "layer4"])
    maps = run_pair(encoder, encoder, pictures, lambda x, y, *norms: (x, y.clone()))
    with torch.no_grad():
        for stream, image in enumerate(pictures):
            for pair, wanted in zip(maps, stages(image).values(), strict=True):
                assert torch.equal(pair[stream], wanted)


def test_without_exchange_it_is_timms_resnet(pictures: tuple[Tensor, Tensor]) -> None:
    encoder = encoder_of("tu-seresnet50")
    reference = timm.create_model("seresnet50", features_only=True).eval()
    reference.load_state_dict(encoder.model.state_dict())
    maps = run_pair(encoder, encoder, pictures, lambda x, y, *norms: (x, y.clone()))
    with torch.no_grad():
        for pair, wanted in zip(maps, reference(pictures[0]), strict=True):
            assert torch.equal(pair[0], wanted)


@pytest.mark.parametrize("name", FAMILIES)
def test_they_meet_between_the_norm_and_its_activation(name: str, pictures: tuple[Tensor, Tensor]) -> None:
    """What is met is the norm of what the convolution gave, negative values included, and it goes on."""
    encoder = encoder_of(name)
    inputs: dict[int, Tensor] = {}
    for module in encoder.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda own, args, output: inputs.update({id(own): output.clone()}))
    convolutions = [module for module in encoder.modules() if isinstance(module, nn.Conv2d)]
    met: list[bool] = []

    def meet(x: Tensor, y: Tensor, norm: _BatchNorm, other: _BatchNorm) -> tuple[Tensor, Tensor]:
        before = [inputs[id(c)] for c in convolutions if id(c) in inputs and inputs[id(c)].shape == x.shape]
        met.append(any(torch.allclose(nn.BatchNorm2d.forward(norm, b), y, atol=1e-6) for b in before))  # type: ignore[arg-type]
        assert x.min() < 0
        return x.clone(), 0 * y

    maps = run_pair(encoder, encoder, pictures, meet)
    assert met
    assert all(met)
    with torch.no_grad():
        wanted = encoder(pictures[0])[1:]
    assert torch.allclose(maps[-1][0], wanted[-1], atol=1e-5)
    assert not torch.allclose(maps[-1][1], encoder(pictures[1])[-1], atol=1e-3)


def test_encoders_without_such_blocks_are_refused() -> None:
    with pytest.raises(OptionError, match="encoder 'vgg11_bn' has no blocks inside which channels") as caught:
        check_sites([[nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()]], "vgg11_bn")
    assert "\n" not in str(caught.value)
    check_sites(encoder_stages(encoder_of("resnet18")), "resnet18")


def test_a_resnet_has_no_depthwise_norms() -> None:
    with pytest.raises(OptionError, match="exchange_site='stage'"):
        check_depthwise(encoder_stages(encoder_of("resnet18")))
    check_depthwise(encoder_stages(encoder_of("mobilenetv4_conv_small")))
