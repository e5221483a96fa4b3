"""Encoders by name, stage by stage, and block by block with a meeting after every depthwise norm."""

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from crossband.blocks.encoders import (
    check_exchangeable,
    encoder_stages,
    last_norm,
    normalisation,
    run_stage,
    smp_name,
    unread_modules,
)
from crossband.blocks.norm_site import check_depthwise, run_stage_pair
from crossband.errors import OptionError
from crossband.systems import create
from crossband.systems.deeplabv3plus import build_network
from tiny_systems import CLASSES, randomise_norms, tiny

FAMILIES = [
    "resnet18",
    "tu-resnet18",
    "mobilenet_v2",
    "efficientnet-b0",
    "tf_efficientnet_lite0",
    "mobilenetv3_small_050",
    "regnety_002",
    "mobilenetv4_conv_small",
]
DEPTHWISE = ["mobilenet_v2", "efficientnet-b0", "tf_efficientnet_lite0", "mobilenetv3_small_050"]


def encoder_of(name: str) -> nn.Module:
    torch.manual_seed(0)
    encoder = build_network(CLASSES, name, None, 16).encoder.eval()
    randomise_norms(encoder)
    return encoder


@pytest.fixture(scope="module")
def image() -> Tensor:
    return torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", FAMILIES)
def test_stages_in_order_are_the_encoder(name: str, image: Tensor) -> None:
    encoder = encoder_of(name)
    stages = encoder_stages(encoder)
    with torch.no_grad():
        wanted = encoder(image)[1:]
        x = image
        for stage, (layers, want) in enumerate(zip(stages, wanted, strict=True), start=1):
            x = run_stage(layers, x)
            assert torch.equal(x, want)
            # Output stride 16: 64 x 96 ends at 4 x 6.
            assert x.shape[-2:] == (64 // min(2**stage, 16), 96 // min(2**stage, 16))
            assert last_norm(layers, x.shape[1]).num_features == x.shape[1]


@pytest.mark.parametrize("name", FAMILIES)
def test_the_last_norm_makes_the_stages_output(name: str, image: Tensor) -> None:
    """With its scale and shift at zero, a first stage, which no shortcut goes around, gives zeros."""
    encoder = encoder_of(name)
    layers = encoder_stages(encoder)[0]
    with torch.no_grad():
        stem = run_stage(layers, image)
        norm = last_norm(layers, stem.shape[1])
        norm.weight.zero_()
        norm.bias.zero_()
        assert stem.abs().max() > 0
        assert run_stage(layers, image).abs().max() == 0


def test_the_last_norm_is_not_that_of_a_shortcut() -> None:
    encoder = encoder_of("resnet18")
    assert last_norm(encoder_stages(encoder)[3], 256) is encoder.layer3[-1].bn2
    # With a single block, the shortcut's norm is the last module of the stage.
    single = nn.Sequential(encoder.layer3[0])
    assert last_norm([single], 256) is encoder.layer3[0].bn2


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        ("convnext_tiny", "'convnext_tiny' does not fit.*chain of five stages.*resnet34"),
        ("mobileone_s0", r"'mobileone_s0' does not fit.*chain of five stages.*resnet34"),
        ("resnetv2_50", r"'resnetv2_50' does not fit.*does not end in a batch norm.*resnet34"),
        ("mit_b0", "'mit_b0'.*non-commercial licence"),
        ("zzz", "neither smp nor timm has an encoder 'zzz'; try resnet34"),
        ("resnet19", "neither smp nor timm has an encoder 'resnet19'; did you mean .*resnet18"),
        ("vgg11", "'vgg11' cannot be run at output stride 16.*resnet34"),
    ],
)
def test_csknet_refuses_an_encoder_when_it_is_built(encoder: str, message: str) -> None:
    with pytest.raises(OptionError, match=message) as caught:
        create("csknet", classes=CLASSES, encoder=encoder, decoder_channels=16)
    assert "\n" not in str(caught.value)


def test_deeplabv3plus_takes_encoders_that_cannot_be_cut(image: Tensor) -> None:
    system = create("deeplabv3plus", classes=CLASSES, encoder="mobileone_s0", decoder_channels=16).eval()
    with torch.no_grad():
        assert system(visible=image.sigmoid()).logits.shape == (2, CLASSES, 64, 96)


def test_norms_are_needed_only_where_channels_are_exchanged() -> None:
    encoder = build_network(CLASSES, "resnetv2_50", None, 16).encoder
    check_exchangeable(encoder, "resnetv2_50", ())
    with pytest.raises(OptionError, match="resnetv2_50"):
        check_exchangeable(encoder, "resnetv2_50", (4,))


def test_names() -> None:
    assert smp_name("efficientnet-b3") == "efficientnet-b3"
    assert smp_name("tf_efficientnet_lite3") == "tu-tf_efficientnet_lite3"
    assert smp_name("tu-tf_efficientnet_lite3") == "tu-tf_efficientnet_lite3"


def test_normalisation_is_that_of_the_weights() -> None:
    lite = timm.get_pretrained_cfg("tf_efficientnet_lite0")
    assert normalisation("tf_efficientnet_lite0") == (lite.mean, lite.std) == ((0.5,) * 3, (0.5,) * 3)
    assert normalisation("resnet34") == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


# --- the meeting after every depthwise norm


class Meetings:
    """What is met, in order. The maps go on as they are."""

    def __init__(self) -> None:
        self.visible: list[Tensor] = []
        self.norms: list[tuple[_BatchNorm, _BatchNorm]] = []

    def __call__(
        self, visible: Tensor, infrared: Tensor, visible_norm: _BatchNorm, infrared_norm: _BatchNorm
    ) -> tuple[Tensor, Tensor]:
        self.visible.append(visible.clone())
        self.norms.append((visible_norm, infrared_norm))
        return visible, infrared


def depthwise(encoder: nn.Module) -> list[nn.Conv2d]:
    convolutions = [m for layers in encoder_stages(encoder) for m in _convolutions(layers)]
    return [m for m in convolutions if m.groups == m.in_channels > 1]


def _convolutions(layers: list) -> list[nn.Conv2d]:
    tops = [layer if isinstance(layer, nn.Module) else layer.func for layer in layers]
    return [m for top in tops for m in top.modules() if isinstance(m, nn.Conv2d)]


@pytest.mark.parametrize("name", DEPTHWISE)
def test_two_encoders_meet_after_every_depthwise_norm(name: str, image: Tensor) -> None:
    visible_encoder, infrared_encoder = encoder_of(name), encoder_of(name)
    randomise_norms(infrared_encoder, seed=1)
    convolved: list[Tensor] = []
    for convolution in depthwise(visible_encoder):
        convolution.register_forward_hook(lambda module, inputs, output: convolved.append(output))
    meetings = Meetings()
    visible, infrared = image, image.flip(-1)
    with torch.no_grad():
        wanted = (visible_encoder(visible)[1:], infrared_encoder(infrared)[1:])
        convolved.clear()
        stages = zip(encoder_stages(visible_encoder), encoder_stages(infrared_encoder), strict=True)
        for stage, (visible_layers, infrared_layers) in enumerate(stages):
            visible, infrared = run_stage_pair(visible_layers, infrared_layers, visible, infrared, meetings)
            assert torch.allclose(visible, wanted[0][stage], atol=1e-5)
            assert torch.allclose(infrared, wanted[1][stage], atol=1e-5)
        # What is met is the norm's output before its activation.
        assert len(meetings.visible) == len(convolved) == len(depthwise(visible_encoder)) > 5
        for met, before, (visible_norm, infrared_norm) in zip(
            meetings.visible, convolved, meetings.norms, strict=True
        ):
            assert visible_norm is not infrared_norm
            assert torch.allclose(met, nn.BatchNorm2d.forward(visible_norm, before), atol=1e-6)


@pytest.mark.parametrize("name", DEPTHWISE)
def test_what_the_meeting_returns_goes_on(name: str, image: Tensor) -> None:
    encoder = encoder_of(name)
    stages = encoder_stages(encoder)
    first = next(k for k, layers in enumerate(stages) if any(c.groups > 1 for c in _convolutions(layers)))
    layers = stages[first]
    with torch.no_grad():
        before = image
        for earlier in stages[:first]:
            before = run_stage(earlier, before)
        plain = run_stage(layers, before)
        visible, infrared = run_stage_pair(
            layers, layers, before, before, lambda visible, infrared, *norms: (visible, 0 * infrared)
        )
    assert torch.allclose(visible, plain, atol=1e-5)
    assert not torch.allclose(infrared, plain, atol=1e-2)


@pytest.mark.parametrize("name", DEPTHWISE[:3])
def test_csknet_that_exchanges_between_equal_inputs_is_the_plain_encoder(name: str) -> None:
    system = tiny("csknet", encoder=name, exchange_site="dw_bn", exchange_threshold=0.5, spatial_stages=())
    randomise_norms(system.visible, seed=1)
    randomise_norms(system.infrared, seed=1)
    infrared = torch.rand(1, 1, 48, 64, generator=torch.Generator().manual_seed(0))
    visible = infrared.repeat(1, 3, 1, 1)
    system.eval()
    with torch.no_grad():
        output = system(visible, infrared, features=True)
        wanted = system.visible.encoder(system.band_input(visible))[1:]
    for (visible_map, infrared_map), want in zip(output.features.after, wanted, strict=True):
        assert torch.allclose(visible_map, want, atol=1e-5)
        assert torch.allclose(infrared_map, want, atol=1e-5)


def test_csknet_exchanges_at_depthwise_norms() -> None:
    encoder = {"encoder": "mobilenetv3_small_050"}
    calm = tiny("csknet", **encoder, exchange=False).eval()
    busy = tiny("csknet", **encoder, exchange_site="dw_bn", exchange_threshold=0.5, spatial_stages=()).eval()
    randomise_norms(calm)
    busy.load_state_dict(calm.state_dict())
    visible, infrared = torch.rand(1, 3, 48, 64), torch.rand(1, 1, 48, 64)
    with torch.no_grad():
        with_exchange = busy(visible, infrared, features=True).features.after
        without = calm(visible, infrared, features=True).features.after
    for index in (0, 1):
        # The first block of this encoder belongs to stage 2; stage 1 is the stem.
        assert torch.equal(with_exchange[0][index], without[0][index])
        assert not torch.allclose(with_exchange[1][index], without[1][index])


def test_depthwise_site_needs_depthwise_blocks() -> None:
    with pytest.raises(OptionError, match="exchange_site='stage'"):
        tiny("csknet", encoder="resnet18", exchange_site="dw_bn")
    check_depthwise(encoder_stages(encoder_of("mobilenet_v2")))


@pytest.mark.parametrize("name", ["resnet18", "efficientnet-b0", "tf_efficientnet_lite0", "mobilenet_v2"])
def test_unread_modules_are_those_that_change_nothing(name: str, image: Tensor) -> None:
    encoder = encoder_of(name)
    unread = unread_modules(encoder)
    # smp's EfficientNets keep the classifier's last convolution and its batch norm, the others nothing.
    assert len(unread) == (2 if name == "efficientnet-b0" else 0)
    with torch.no_grad():
        wanted = encoder(image)
        for module in unread:
            for parameter in module.parameters():
                parameter.fill_(torch.nan)
        assert all(torch.equal(x, want) for x, want in zip(encoder(image), wanted, strict=True))
    ids = {id(p) for module in unread for p in module.parameters()}
    encoder.train()(image)[-1].sum().backward()
    assert all(p.grad is None for p in encoder.parameters() if id(p) in ids)
