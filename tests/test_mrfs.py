"""MRFS: its size, its two attentions worked by hand, the whole by plain formulas, missing bands."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crossband.blocks.alignment import CycleAttention, GatedMix, GlobalAlignment, LocalAlignment
from crossband.info import count_all, count_flops
from crossband.systems import create
from crossband.systems.mrfs.network import MRFS
from crossband.weights import count_parameters
from tiny_systems import CLASSES, build, images, randomise_norms

REFERENCE = Path(__file__).parent / "references" / "reference_amdanet.py"


def mrfs(classes: int | None = CLASSES, **options: Any) -> MRFS:
    """A small one in training, without dropout and stochastic depth."""
    torch.manual_seed(0)
    defaults = {"encoder": "mit_tiny", "decoder_channels": 16, "stochastic_depth": 0.0, "dropout": 0.0}
    system = build("mrfs", classes, **{**defaults, **options})
    assert isinstance(system, MRFS)
    return system


def grids(channels: int, height: int = 2, width: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    a, b = torch.randn(2, 2, height, width, channels, generator=generator, dtype=torch.float64)
    return a, b


# --- size and cost


@pytest.mark.parametrize(
    ("classes", "count"), [(9, 134_963_348), (15, 134_966_426), (5, 134_961_296)], ids=str
)
def test_published_size(classes: int, count: int) -> None:
    with torch.device("meta"):
        system = build("mrfs", classes)
        counts = count_all(system)
    assert count_parameters(system) == count
    for bands in system.supports:
        assert (counts[bands].deployed, counts[bands].dead, counts[bands].training_only) == (count, 0, 0)


@pytest.mark.parametrize(
    ("encoder", "count"),
    [("mit_b1", 39_580_820), ("mit_b2", 61_670_548), ("mit_b3", 101_422_228), ("mit_b5", 176_163_988)],
)
def test_size_with_other_encoders(encoder: str, count: int) -> None:
    with torch.device("meta"):
        assert count_parameters(build("mrfs", 9, encoder=encoder)) == count


def test_size_and_cost_of_every_part() -> None:
    with torch.device("meta"):
        system = build("mrfs", 9)
        fusing = create("mrfs")
        cost = count_flops(system, "both", (480, 640)) / 2e9
    assert count_parameters(system.visible) == count_parameters(system.infrared) == 60_842_688
    assert count_parameters(system.mixes) == 1_352_136
    assert count_parameters(system.cycles) == 10_292_224
    assert count_parameters(system.segmentation) == 1_581_065
    assert count_parameters(system.fusion) == 52_547
    assert count_parameters(fusing) == 134_963_348 - 10_292_224 - 1_581_065
    # 167.7 by the plain formulas; the decoders' order of operations saves the rest, as in AMDANet.
    assert 167.7 - 23 < cost < 167.7 - 22


# --- the two attentions by hand


def test_gated_mix_by_hand() -> None:
    """Place by place and channel by channel, in the words of its formulas."""
    torch.manual_seed(0)
    mix = GatedMix(4).double()
    x, y = grids(4)
    mixed_x, mixed_y = mix(x, y)

    def layers(name: str, values: Tensor) -> Tensor:
        first, second = getattr(mix, f"{name}1"), getattr(mix, f"{name}2")
        hidden = F.relu(first.weight.flatten(1) @ values + first.bias)
        return second.weight.flatten(1) @ hidden + second.bias

    for image in range(2):
        both = torch.cat([x[image], y[image]], dim=-1).reshape(6, 8)
        of_channel = torch.sigmoid(layers("channel", both.mean(dim=0)) + layers("channel", both.amax(dim=0)))
        for row in range(2):
            for column in range(3):
                a, b = x[image, row, column], y[image, row, column]
                gate = torch.sigmoid(layers("gate", torch.cat([a, b])))
                at_place = torch.sigmoid(
                    layers("spatial", torch.stack([a.mean(), a.max(), b.mean(), b.max()]))
                )
                weight_a, weight_b = of_channel[:4] * at_place[0], of_channel[4:] * at_place[1]
                wanted_x = a + (1 - gate) * weight_b * b
                wanted_y = b + gate * weight_a * a
                assert torch.allclose(mixed_x[image, row, column], wanted_x, atol=1e-12)
                assert torch.allclose(mixed_y[image, row, column], wanted_y, atol=1e-12)


def test_gated_mix_of_second_layers_of_zeros_gives_an_eighth() -> None:
    mix = GatedMix(8).double()
    for layer in (mix.channel2, mix.spatial2, mix.gate2):
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    x, y = grids(8)
    mixed_x, mixed_y = mix(x, y)
    assert torch.allclose(mixed_x, x + y / 8)
    assert torch.allclose(mixed_y, y + x / 8)
    # A gate that is open gives the visible band's features to the infrared one, and nothing back.
    nn.init.constant_(mix.gate2.bias, 50.0)
    mixed_x, mixed_y = mix(x, y)
    assert torch.allclose(mixed_x, x)
    assert torch.allclose(mixed_y, y + x / 4)


@pytest.mark.parametrize("enhance", [True, False])
def test_cycle_attention_by_hand(enhance: bool) -> None:
    """Two heads of two channels, keys from squares of 2 x 2; each product written out, query by query."""
    torch.manual_seed(0)
    cycle = CycleAttention(4, 2, 2, enhance=enhance).double()
    x, y = grids(4, 4, 4)

    def unit(name: str, query: Tensor, source: Tensor) -> Tensor:
        module = getattr(cycle, name)
        assert module.q.bias is None
        assert module.kv.bias is None
        result = torch.empty_like(query)
        for image in range(2):
            squares = source[image].reshape(2, 2, 2, 2, 4).permute(0, 2, 1, 3, 4).reshape(4, 2, 2, 4)
            reduced = torch.einsum("nyxc,ocyx->no", squares, module.reduce.weight) + module.reduce.bias
            both = F.layer_norm(reduced, (4,), module.reduce_norm.weight, module.reduce_norm.bias)
            keys, values = (both @ module.kv.weight.T).split(4, dim=1)
            for row in range(4):
                for column in range(4):
                    token = query[image, row, column]
                    asked = module.q.weight @ token
                    heads = []
                    for head in (slice(0, 2), slice(2, 4)):
                        share = (keys[:, head] @ asked[head] / 2**0.5).softmax(dim=0)
                        heads.append(share @ values[:, head])
                    mixed = torch.cat(heads) + token
                    result[image, row, column] = module.proj.weight @ mixed + module.proj.bias
        return result

    a = unit("sfe_a", x, x) if enhance else x
    n = unit("cross1", y, a)
    b = unit("sfe_b", n, n) if enhance else n
    f = unit("cross2", a, b)
    wanted = f @ cycle.proj.weight.T + cycle.proj.bias
    result = cycle(x, y)
    assert torch.allclose(result, wanted, atol=1e-12)
    # The same layers as AMDANet's, which ends on the other band.
    other = GlobalAlignment(4, 2, 2, enhance=enhance).double()
    other.load_state_dict(cycle.state_dict())
    assert not torch.allclose(other(x, y), result, atol=1e-3)


def test_both_attentions_have_the_layers_of_amdanets() -> None:
    for ours, theirs in (
        (GatedMix(8), LocalAlignment(8)),
        (CycleAttention(8, 2, 2), GlobalAlignment(8, 2, 2)),
    ):
        shapes = [{key: v.shape for key, v in module.state_dict().items()} for module in (ours, theirs)]
        assert shapes[0] == shapes[1]


# --- the whole by plain formulas


@pytest.fixture(scope="module")
def plain() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reference_amdanet", REFERENCE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_computes_what_the_plain_formulas_say(plain: ModuleType) -> None:
    """Encoders and decoders of the reference, which AMDANet is held to as well; the order is MRFS's."""
    system = mrfs().double().eval()
    randomise_norms(system)
    channels = plain.CHANNELS["mit_tiny"]
    streams = [plain.Stream(channels, plain.DEPTHS["mit_tiny"]) for _ in range(2)]
    segmentation, fusion = plain.Segmentation(channels, CLASSES, 16), plain.Fusion(channels, 16)
    owners = (system.visible, system.infrared, system.segmentation, system.fusion)
    for module, owner in zip((*streams, segmentation, fusion), owners, strict=True):
        module.double().eval().load_state_dict(owner.state_dict())
    visible, infrared = (image.double() for image in images(64, 96))
    x, y = visible, infrared.repeat(1, 3, 1, 1)
    of_visible, of_infrared, semantic = [], [], []
    with torch.no_grad():
        output = system(visible, infrared)
        for i in range(1, 5):
            x, y = (stream.blocks(i, *stream.embed(i, f)) for stream, f in zip(streams, (x, y), strict=True))
            pair = system.mixes[i - 1](x.permute(0, 2, 3, 1), y.permute(0, 2, 3, 1))
            semantic.append(system.cycles[i - 1](*pair).permute(0, 3, 1, 2))
            x, y = (grid.permute(0, 3, 1, 2) for grid in pair)
            of_visible.append(x)
            of_infrared.append(y)
        logits = F.interpolate(segmentation(semantic), size=(64, 96), mode="bilinear", align_corners=False)
        fused = fusion(of_visible, of_infrared, visible, infrared.repeat(1, 3, 1, 1))
    assert fused.std() > 0.03
    assert torch.allclose(output.logits, logits, rtol=0, atol=1e-9 * logits.abs().max().item())
    assert torch.allclose(output.fused, fused, atol=1e-10)


def test_a_system_that_only_fuses_paints_the_same_picture() -> None:
    fusing, both = mrfs(None).eval(), mrfs().eval()
    both.load_state_dict(fusing.state_dict(), strict=False)
    output = fusing(*images(64, 96))
    assert not fusing.segments
    assert output.logits is None
    assert torch.allclose(both(*images(64, 96)).fused, output.fused, atol=1e-6)


def test_norms_of_the_decoders_have_the_given_constants() -> None:
    system = mrfs(norm_eps=0.01, norm_momentum=0.2)
    norms = [module for module in system.modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(norms) == 1 + 8 + 1
    assert {(norm.eps, norm.momentum) for norm in norms} == {(0.01, 0.2)}


# --- bands that are missing


def test_a_missing_band_is_copied_from_the_other_or_black() -> None:
    visible, infrared = images(64, 96)
    grey = (visible * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(dim=1, keepdim=True)
    stand_ins = {
        "copy": (infrared.repeat(1, 3, 1, 1), grey),
        "zeros": (torch.zeros_like(visible), torch.zeros_like(infrared)),
    }
    for missing, (for_visible, for_infrared) in stand_ins.items():
        system = mrfs(missing=missing).eval()
        assert dict(system.supports) == {"both": "designed", "infrared": "fallback", "visible": "fallback"}
        with torch.no_grad():
            for given, completed in (
                ((None, infrared), (for_visible, infrared)),
                ((visible, None), (visible, for_infrared)),
            ):
                ours, wanted = system(*given), system(*completed)
                assert torch.allclose(ours.logits, wanted.logits, atol=1e-6)
                assert torch.allclose(ours.fused, wanted.fused, atol=1e-6)
