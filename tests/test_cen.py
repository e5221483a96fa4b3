"""CEN: its size, its exchange, its decoder, its losses."""

from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torchvision.models.feature_extraction import create_feature_extractor

from crossband.errors import OptionError
from crossband.systems import create
from crossband.systems.cen.network import CEN
from crossband.systems.cen.refinenet import ChainedPooling, RefineNetDecoder, ResidualUnits, wide_pooling
from crossband.weights import count_parameters
from tiny_systems import images, one_line, randomise_norms, tiny


def cen(**options: Any) -> CEN:
    system = tiny("cen", **options)
    assert isinstance(system, CEN)
    return system


def norms_of(module: nn.Module) -> list[_BatchNorm]:
    return [part for part in module.modules() if isinstance(part, _BatchNorm)]


def site_norms(encoder: nn.Module) -> list[_BatchNorm]:
    """The norms of the tiny encoder whose activation follows a depthwise convolution, found by name."""
    names = ("blocks.0.0.bn1", "bn2")
    found = [(key, m) for key, m in encoder.named_modules() if isinstance(m, _BatchNorm)]
    return [m for key, m in found if key.endswith(names) and not key.endswith("blocks.0.0.bn2")]


# --- size


@pytest.mark.parametrize(
    ("encoder", "classes", "count"),
    [
        ("resnet50", 9, 99_085_771),
        ("resnet50", 26, 99_124_956),
        # The classes that make the published 99.13 M.
        ("resnet50", 27, 99_127_261),
        ("resnet101", 9, 118_130_123),
        ("resnet101", 26, 118_169_308),
        ("resnet152", 9, 133_819_851),
        ("resnet152", 26, 133_859_036),
    ],
)
def test_published_size(encoder: str, classes: int, count: int) -> None:
    with torch.device("meta"):
        system = create("cen", classes=classes, encoder=encoder)
    assert count_parameters(*system.deployed("both")) == count == count_parameters(system)
    assert system.dead() == []


def test_size_of_the_parts() -> None:
    with torch.device("meta"):
        system = create("cen", classes=9)
    assert isinstance(system, CEN)
    assert count_parameters(system.visible) == count_parameters(system.infrared) == 23_508_032
    for encoder in (system.visible, system.infrared):
        assert count_parameters(*norms_of(encoder)) == 53_120
    assert count_parameters(system.ensemble) == 2
    assert norms_of(system.decoder) == []
    assert count_parameters(system.decoder) == 99_085_771 - 23_508_032 - 53_120 - 2
    # The published network built with a single stream has 99,032,650: it keeps one weight of an ensemble of
    # one, which nothing reads.
    for band in ("infrared", "visible"):
        assert count_parameters(*system.deployed(band)) == 99_032_650 - 1  # type: ignore[arg-type]


def test_the_streams_share_every_convolution_and_no_norm() -> None:
    system = cen()
    norms = {name for name, module in system.visible.named_modules() if isinstance(module, _BatchNorm)}
    others = dict(system.infrared.named_parameters())
    for name, parameter in system.visible.named_parameters():
        assert (others[name] is parameter) is (name.rpartition(".")[0] not in norms), name
        assert torch.equal(others[name], parameter)
    assert not {b.data_ptr() for b in system.visible.buffers()} & {
        b.data_ptr() for b in system.infrared.buffers()
    }


# --- exchange


@pytest.mark.parametrize("options", [{}, {"exchange": False, "exchange_threshold": 9.0}], ids=str)
def test_without_small_scales_the_streams_are_alone(options: dict[str, Any]) -> None:
    """Scales of randomised norms are 0.5 and more, far above the threshold."""
    system = cen(**options).eval()
    randomise_norms(system)
    visible, infrared = images(64, 96)
    with torch.no_grad():
        output = system(visible, infrared, features=True)
        assert torch.allclose(output.branches["visible"], system(visible, None).logits, atol=1e-5)
        assert torch.allclose(output.branches["infrared"], system(None, infrared).logits, atol=1e-5)


def test_without_exchange_a_stream_is_torchvisions_resnet() -> None:
    """With the exchange on and a threshold that no scale is below."""
    system = cen(encoder="resnet50", exchange_threshold=0.0).eval()
    randomise_norms(system)
    visible, infrared = images(64, 96)
    with torch.no_grad():
        stages = system(visible, infrared, features=True).features.stages
        for stream, (encoder, image) in enumerate(((system.visible, visible), (system.infrared, infrared))):
            reference = torchvision.models.resnet50(weights=None).eval()
            assert not reference.load_state_dict(encoder.state_dict(), strict=False).unexpected_keys
            names = ["relu", "layer1", "layer2", "layer3", "layer4"]
            mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[..., None, None]
            wanted = create_feature_extractor(reference, names)((image - mean) / std)
            for pair, want in zip(stages, wanted.values(), strict=True):
                assert torch.allclose(pair[stream], want, atol=1e-5)


def test_exchange_in_a_bottleneck_by_hand() -> None:
    """x'[c] = x[c] where |gamma_c| >= theta, else the other stream's; then the ReLU."""
    theta = 0.25
    system = cen(encoder="resnet50", exchange_threshold=theta).eval()
    randomise_norms(system)
    block, other = system.visible.layer2[1], system.infrared.layer2[1]
    # At the threshold a channel stays; the sign of a scale does not matter.
    block.bn2.weight.data[:4] = torch.tensor([0.25, 0.2499, -0.1, -0.3])
    other.bn2.weight.data[2:6] = torch.tensor([0.0, 0.26, 0.2, -0.24])
    normed, entered = [], []
    for part in (block, other):
        part.bn2.register_forward_hook(lambda module, args, out: normed.append(out.clone()))
        part.conv3.register_forward_pre_hook(lambda module, args: entered.append(args[0].clone()))
    with torch.no_grad():
        system(*images(64, 96))
    (of_visible, of_infrared), (visible, infrared) = normed, entered
    wanted_visible, wanted_infrared = of_visible.clone(), of_infrared.clone()
    wanted_visible[:, 1:3] = of_infrared[:, 1:3]
    wanted_infrared[:, [2, 4, 5]] = of_visible[:, [2, 4, 5]]
    assert torch.equal(visible, wanted_visible.relu())
    assert torch.equal(infrared, wanted_infrared.relu())
    assert system.exchanged() == {"visible": (2, 3_776), "infrared": (3, 3_776)}


def test_a_replaced_channel_sends_its_gradient_to_the_other_stream() -> None:
    system = cen().eval()
    own, other = site_norms(system.visible)[3], site_norms(system.infrared)[3]
    own.weight.data[0] = 0.01
    system(*images(64, 96), features=True).branches["visible"].square().sum().backward()
    assert own.weight.grad is not None
    assert other.weight.grad is not None
    assert own.weight.grad[0] == 0
    assert own.weight.grad[1:].all()
    assert other.weight.grad[0] != 0
    assert not other.weight.grad[1:].any()


@pytest.mark.parametrize(
    "encoder",
    ["resnet18", "tu-resnet18", "regnety_002", "mobilenet_v2", "efficientnet-b0", "tf_efficientnet_lite0"],
)
def test_encoders_exchange(encoder: str) -> None:
    calm = cen(encoder=encoder, exchange=False).eval()
    fresh = cen(encoder=encoder).eval()
    busy = cen(encoder=encoder, exchange_threshold=1.0).eval()
    randomise_norms(calm)
    for system in (fresh, busy):
        system.load_state_dict(calm.state_dict())
    assert all(count == 0 for count, _ in fresh.exchanged().values())
    assert all(0.3 < count / channels < 0.7 for count, channels in busy.exchanged().values())
    visible, infrared = images(64, 96)
    with torch.no_grad():
        apart = calm(visible, infrared).logits
        assert torch.allclose(fresh(visible, infrared).logits, apart, atol=1e-5)
        assert not torch.allclose(busy(visible, infrared).logits, apart, atol=1e-3)
        # Alone, a stream exchanges nothing.
        assert torch.equal(busy(None, infrared).logits, calm(None, infrared).logits)


# --- decoder


def test_residual_units_as_published_and_as_printed() -> None:
    """Against layers whose ReLU overwrites its input, as in the published code, and whose does not."""
    x = torch.randn(2, 6, 9, 7, generator=torch.Generator().manual_seed(0))
    for inplace in (True, False):
        torch.manual_seed(1)
        units = ResidualUnits(6, 2, inplace_relu=inplace)
        relu = nn.ReLU(inplace=inplace)
        wanted = x.clone()
        with torch.no_grad():
            for first, second in zip(units.first, units.second, strict=True):
                residual = wanted
                wanted = second(relu(first(relu(wanted))))
                wanted += residual
            assert torch.allclose(units(x.clone()), wanted, atol=1e-6)
            other = ResidualUnits(6, 2, inplace_relu=not inplace)
            other.load_state_dict(units.state_dict())
            assert not torch.allclose(other(x.clone()), wanted, atol=1e-2)
        assert all(layer.bias is not None for layer in units.first)
        assert all(layer.bias is None for layer in units.second)


def test_units_and_pooling_leave_their_input_as_it_is() -> None:
    x = torch.randn(1, 4, 8, 8)
    before = x.clone()
    ResidualUnits(4, 1, inplace_relu=True)(x)
    ChainedPooling(4, 2)(x)
    assert torch.equal(x, before)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_pooling_keeps_less_than_pytorch_and_gives_the_same(layout: torch.memory_format) -> None:
    """Few levels, so that many windows have several greatest values: the same one has to get the gradient."""
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    x = torch.randint(0, 4, (2, 8, 13, 17)).float().contiguous(memory_format=layout)
    gradient = torch.randn(2, 8, 13, 17)
    ours, theirs = (x.clone().requires_grad_() for _ in range(2))
    expected = torch.nn.functional.max_pool2d(theirs, 5, stride=1, padding=2)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        pooled = wide_pooling(ours)
    assert sum(kept.values()) == x.nbytes
    pooled.backward(gradient)
    expected.backward(gradient)
    assert torch.equal(pooled, expected)
    assert ours.grad is not None
    assert theirs.grad is not None
    assert torch.equal(ours.grad, theirs.grad)
    with torch.no_grad():
        assert torch.equal(wide_pooling(x), expected)


def test_decoder_is_its_formula() -> None:
    torch.manual_seed(0)
    decoder = RefineNetDecoder((5, 6, 7, 8), 3, 4).eval()
    maps = [torch.randn(1, c, 32 >> k, 48 >> k) for k, c in enumerate((5, 6, 7, 8))]

    def conv(x: Tensor, layer: nn.Conv2d) -> Tensor:
        return F.conv2d(x, layer.weight, layer.bias, padding=1)

    def units(x: Tensor, part: ResidualUnits) -> Tensor:
        for first, second in zip(part.first, part.second, strict=True):
            x = x.relu() + conv(conv(x.relu(), first).relu(), second)
        return x

    y: Tensor | None = None
    for k in (3, 2, 1, 0):
        level = decoder.levels[k]
        a = units(conv(maps[k], level.reduce), level.adapt)
        if y is not None:
            grown = nn.UpsamplingBilinear2d(size=a.shape[-2:])(y)
            a = conv(a, level.merge) + grown
        a = t = a.relu()
        for layer in level.pool.convolutions:
            t = conv(nn.MaxPool2d(5, 1, 2)(t), layer)
            a = a + t
        y = units(a, level.refine)
        if k > 0:
            y = conv(y, decoder.hand_on[k - 1])
    assert y is not None
    assert len(decoder.levels[0].adapt.first) == 2
    assert len(decoder.levels[0].refine.first) == 3
    assert len(decoder.levels[0].pool.convolutions) == 4
    assert [level.reduce.out_channels for level in decoder.levels] == [4, 4, 4, 8]
    assert torch.allclose(decoder(maps), conv(y, decoder.classify), atol=1e-5)


def test_dropout_is_of_the_two_coarsest_maps_and_before_the_classes() -> None:
    decoder = RefineNetDecoder((4, 4, 4, 4), 3, 4, dropout=0.5).train()
    dropped: list[Tensor] = []
    decoder.dropout.register_forward_pre_hook(lambda module, args: dropped.append(args[0]))
    maps = [torch.randn(1, 4, 32 >> k, 32 >> k) for k in range(4)]
    decoder(maps)
    assert dropped[0] is maps[2]
    assert dropped[1] is maps[3]
    assert dropped[2].shape == (1, 4, 32, 32)
    assert len(dropped) == 3


# --- refusals


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dropout": 1.0}, r"cen: dropout must lie in \[0, 1\), not 1.0"),
        ({"exchange_threshold": -0.1}, "cen: exchange_threshold must be 0 or more, not -0.1"),
        ({"exchange_threshold": float("nan")}, r"cen\.exchange_threshold must be finite, not nan"),
        ({"sparsity_weight": float("inf")}, r"cen\.sparsity_weight must be finite, not inf"),
        ({"encoder": "densenet121"}, "encoder 'densenet121' does not fit.*chain of five stages"),
        ({"encoder": "convnext_tiny"}, "encoder 'convnext_tiny' .*use a"),
        ({"encoder": "resnetv2_50"}, "encoder 'resnetv2_50' has no blocks inside which.*use a ResNet"),
        ({"encoder": "mit_b0"}, "encoder 'mit_b0'.*use a convolutional encoder"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused_when_it_is_built(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message) as caught:
        cen(**options)
    one_line(caught.value)
