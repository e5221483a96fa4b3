"""CDDFuse: its sizes, its blocks against other code, and what it makes of bands and sizes."""

from typing import Any

import numpy as np
import pytest
import timm
import torch
from skimage.color import rgb2ycbcr
from torch import Tensor, nn
from torch.nn import functional as F

from counting import Work
from crossband.blocks.luma import luma, with_luma
from crossband.errors import OptionError
from crossband.info import count_all
from crossband.systems import create, make_training
from crossband.systems.cddfuse.coupling import DetailLayer, mirrored
from crossband.systems.cddfuse.network import CDDFuse, FusionNetwork, spread
from crossband.systems.cddfuse.restormer import BaseBlock, ChannelAttention, ChannelNorm, RestormerBlock
from tiny_systems import images, randomise_norms, tiny
from tiny_systems import one_line as line


def cddfuse(**options: Any) -> CDDFuse:
    system = tiny("cddfuse", **options)
    assert isinstance(system, CDDFuse)
    return system


def fuser(**options: Any) -> CDDFuse:
    """A small one that only fuses, with weights unlike those of any other seed."""
    torch.manual_seed(1)
    system = create("cddfuse", **{"width": 8, "heads": 2, "blocks": 1, **options})
    assert isinstance(system, CDDFuse)
    return system.eval()


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def maps(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


# --- sizes


def test_published_counts_of_the_parts() -> None:
    with torch.device("meta"):
        network = FusionNetwork(64, 8, 4)
    assert count(network) == 1_188_272
    assert count(network.encoder) == 599_144
    assert count(network.base_fusion) == 363_016
    assert count(network.detail_fusion) == 18_176
    assert count(network.decoder) == 207_936
    assert count(network.encoder.body[0]) == 45_256
    assert len(network.encoder.body) == len(network.decoder.body) == 4
    assert len(network.encoder.detail) == 3


@pytest.mark.parametrize(("classes", "segmenter"), [(None, 0), (9, 11_682_241), (26, 11_686_610)])
def test_counts_with_a_segmenter(classes: int | None, segmenter: int) -> None:
    """12.87 M with 9 classes. CSK-Net's table has 13.47, which is this and the encoder a second time."""
    with torch.device("meta"):
        system = create("cddfuse", classes=classes)
    assert count(system) == 1_188_272 + segmenter
    dead = sum(map(count, system.dead()))
    assert dead == (592_896 if segmenter else 0)
    counts = count_all(system)
    assert set(counts) == {"both", "infrared", "visible"}
    for parameters in counts.values():
        assert (parameters.deployed, parameters.dead) == (count(system), dead)
        assert parameters.training_only == 0
    if classes == 9:
        assert round((count(system) + 599_144) / 1e6, 2) == 13.47


# --- blocks


def test_channel_attention_is_pytorchs_attention_with_channels_as_the_sequence() -> None:
    attention = ChannelAttention(12, 3, full=True).double()
    attention.temperature.data = torch.tensor([0.5, 2.0, 7.0], dtype=torch.float64)[:, None, None]
    features = maps(2, 12, 5, 7)
    parts = attention.around(attention.point(features)).chunk(3, dim=1)
    query, key, value = (part.reshape(2, 3, 4, 35) for part in parts)
    query = F.normalize(query, dim=-1) * attention.temperature
    mixed = F.scaled_dot_product_attention(query, F.normalize(key, dim=-1), value, scale=1.0)
    wanted = attention.project(mixed.reshape(2, 12, 5, 7))
    assert torch.allclose(attention(features), wanted, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("kind", [RestormerBlock, BaseBlock])
def test_blocks_by_their_formulas(kind: type[RestormerBlock | BaseBlock]) -> None:
    """Convolutions by name and group, the norm by timm."""
    block = kind(8, 2).double()
    for norm in (block.norm1, block.norm2):
        norm.weight.data, norm.bias.data = maps(8, seed=1), maps(8, seed=2)
    features = maps(2, 8, 6, 5)

    def normed(norm: nn.Module, x: Tensor) -> Tensor:
        reference = timm.layers.LayerNorm2d(8, eps=1e-5).double()
        reference.load_state_dict(norm.state_dict())
        return reference(x)

    after = features + block.attention(normed(block.norm1, features))
    feed = block.feed_forward
    groups = {RestormerBlock: 32, BaseBlock: 8}[kind]
    wide = F.conv2d(
        F.conv2d(normed(block.norm2, after), feed.expand.weight),
        feed.around.weight,
        padding=1,
        groups=groups,
    )
    half = wide.shape[1] // 2
    wanted = after + F.conv2d(F.gelu(wide[:, :half]) * wide[:, half:], feed.project.weight)
    assert torch.allclose(block(features), wanted, atol=1e-9)
    full = kind is BaseBlock
    assert block.attention.around.weight.shape == (24, 24 if full else 1, 3, 3)
    assert feed.expand.weight.shape[0] == (16 if full else 32)


def test_channel_norm_keeps_the_shape() -> None:
    assert ChannelNorm(8)(torch.rand(2, 8, 3, 4)).shape == (2, 8, 3, 4)


def test_the_detail_layer_by_its_formula_and_backwards() -> None:
    layer = DetailLayer(8).double()
    features = maps(2, 8, 6, 5)

    def bottleneck(name: str, x: Tensor) -> Tensor:
        part = getattr(layer, name)
        wide = F.pad(F.relu6(part.expand(x)), (1, 1, 1, 1), mode="reflect")
        return part.project(F.relu6(F.conv2d(wide, part.around.weight, groups=8)))

    mixed = F.conv2d(features, layer.mix.weight, layer.mix.bias)
    second = mixed[:, 4:] + bottleneck("phi", mixed[:, :4])
    first = mixed[:, :4] * bottleneck("rho", second).exp() + bottleneck("eta", second)
    result = layer(features)
    assert torch.allclose(result, torch.cat((first, second), dim=1), atol=1e-12)
    # Backwards: nothing is lost.
    first = (result[:, :4] - bottleneck("eta", result[:, 4:])) / bottleneck("rho", result[:, 4:]).exp()
    second = result[:, 4:] - bottleneck("phi", first)
    unmixed = torch.cat((first, second), dim=1) - layer.mix.bias[:, None, None]
    inverse = torch.linalg.inv(layer.mix.weight[..., 0, 0])
    assert torch.allclose(torch.einsum("oi,bihw->bohw", inverse, unmixed), features, atol=1e-8)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_the_exponential_does_not_overflow_in_half_precision(dtype: torch.dtype) -> None:
    class Twelve(nn.Module):
        def forward(self, features: Tensor) -> Tensor:
            return torch.full_like(features, 12.0)

    layer = DetailLayer(4)
    layer.rho = Twelve()  # type: ignore[assignment]
    features = maps(1, 4, 6, 6, dtype=torch.float32)
    with torch.no_grad():
        wanted = layer(features)
        with torch.autocast("cpu", dtype=dtype):
            result = layer(features)
    assert wanted.abs().max() > torch.finfo(torch.float16).max
    assert (result - wanted).abs().max() < 4 * torch.finfo(dtype).eps * wanted.abs().max()


@pytest.mark.parametrize("size", [(2, 2), (5, 3), (2, 7)])
def test_mirrored_is_reflection(size: tuple[int, int]) -> None:
    features = maps(2, 3, *size)
    assert torch.equal(mirrored(features), F.pad(features, (1, 1, 1, 1), mode="reflect"))


def test_mirrored_repeats_what_has_no_neighbour() -> None:
    row = maps(1, 1, 1, 4)
    wanted = F.pad(row, (1, 1, 0, 0), mode="reflect").expand(-1, -1, 3, -1)
    assert torch.equal(mirrored(row), wanted)
    assert mirrored(maps(1, 2, 1, 1)).shape == (1, 2, 3, 3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_attention_over_many_pixels_in_half_precision(dtype: torch.dtype) -> None:
    """The squared length of a query over 320 x 320 pixels of about 2 is far beyond float16."""
    attention = ChannelAttention(4, 2)
    attention.temperature.data.fill_(3.0)
    features = 2 + torch.rand(1, 4, 320, 320, generator=torch.Generator().manual_seed(0))
    attention.point.weight.data.fill_(0.5)
    with torch.no_grad():
        wanted = attention(features)
        with torch.autocast("cpu", dtype=dtype):
            half = attention(features)
    assert torch.isfinite(half).all()
    assert (half.float() - wanted).abs().max() < 10 * torch.finfo(dtype).eps * wanted.abs().max()


def test_nothing_is_quadratic_in_the_pixels() -> None:
    system = fuser()
    work = []
    for scale in (1, 2):
        with torch.no_grad(), Work() as counted:
            system(*images(24 * scale, 40 * scale, batch=1))
        work.append((counted.total, counted.largest))
    assert work[1][1] == 4 * work[0][1] == 4 * (4 * 8 * 24 * 40)
    assert work[1][0] < 4.1 * work[0][0]


# --- the network


def test_a_decoder_whose_last_convolution_is_zero_gives_the_sigmoid_of_the_image() -> None:
    network = fuser().fusion
    nn.init.zeros_(network.decoder.output[-1].weight)
    visible, infrared = images(17, 23)
    for image in (luma(visible), infrared):
        assert torch.equal(network.decoder(image, *network.encoder(image)), image.sigmoid())
    assert torch.equal(network(luma(visible), infrared).fused, luma(visible).sigmoid())


def test_the_fusion_adds_what_the_bands_have_in_each_part() -> None:
    network = fuser().fusion
    visible, infrared = images(16, 20)
    image = luma(visible)
    base, detail = zip(network.encoder(image), network.encoder(infrared), strict=True)
    wanted = network.decoder(
        image, network.base_fusion(base[0] + base[1]), network.detail_fusion(detail[0] + detail[1])
    )
    parts = network(image, infrared)
    assert torch.equal(parts.fused, wanted)
    assert all(torch.equal(one, other) for one, other in zip(parts.base, base, strict=True))
    assert all(torch.equal(one, other) for one, other in zip(parts.detail, detail, strict=True))


# --- pictures


def test_spread_is_by_image() -> None:
    grey = torch.stack((torch.linspace(0.5, 0.7, 12), torch.linspace(0.2, 0.9, 12))).view(2, 1, 3, 4)
    wanted = torch.linspace(0, 1, 12).view(1, 1, 3, 4).expand(2, -1, -1, -1)
    assert torch.allclose(spread(grey), wanted, atol=1e-6)
    assert torch.equal(spread(grey)[1:], spread(grey[1:]))


def test_spread_leaves_an_image_of_nothing_alone() -> None:
    flat = torch.full((1, 1, 4, 4), 0.6)
    flat[..., 0, 0] += 1e-6
    assert torch.equal(spread(flat), flat)


def test_spread_looks_only_at_what_is_valid() -> None:
    grey = torch.linspace(0.1, 0.9, 20).view(1, 1, 4, 5)
    valid = torch.ones(1, 4, 5, dtype=torch.bool)
    valid[:, 0] = valid[:, 3] = False
    result = spread(grey, valid)
    assert torch.equal(result[..., 1:3, :], spread(grey[..., 1:3, :]))
    assert (result[..., 0, :] == 0).all()
    assert (result[..., 3, :] == 1).all()


def test_a_new_luma_keeps_the_chroma() -> None:
    """By scikit-image's Y'CbCr, on colours that stay inside [0, 1]."""
    generator = torch.Generator().manual_seed(0)
    visible = 0.4 + 0.2 * torch.rand(1, 3, 6, 7, generator=generator)
    grey = 0.4 + 0.2 * torch.rand(1, 1, 6, 7, generator=generator)

    def parts(image: Tensor) -> np.ndarray:
        return rgb2ycbcr(image[0].permute(1, 2, 0).double().numpy())

    before, after = parts(visible), parts(with_luma(visible, grey))
    wanted = parts(grey.expand(-1, 3, -1, -1))
    assert np.allclose(after[..., 0], wanted[..., 0], atol=1e-3)
    assert np.allclose(after[..., 1:], before[..., 1:], atol=1e-3)


def test_the_picture_is_the_fused_image_in_the_place_of_luma() -> None:
    system = fuser()
    visible, infrared = images(16, 20)
    output = system(visible, infrared, features=True)
    fused = output.features.fused
    assert torch.equal(output.fused, with_luma(visible, spread(fused)))
    assert 0 < fused.min() < fused.max() < 1


def test_one_band_stands_in_for_the_other() -> None:
    system = fuser()
    visible, infrared = images(16, 20)
    with torch.no_grad():
        alone = system(None, infrared).fused
        twice = system(infrared.expand(-1, 3, -1, -1), infrared).fused
        assert torch.equal(alone, alone[:, :1].expand(-1, 3, -1, -1))
        assert torch.allclose(alone, twice, atol=1e-4)
        alone = system(visible, None).fused
        assert torch.allclose(alone, system(visible, luma(visible)).fused, atol=1e-5)
    assert set(system.supports.values()) == {"designed", "fallback"}
    assert system.supports["both"] == "designed"


def test_the_segmenter_alone_sees_padding() -> None:
    """The labels are those of the fused picture, and the picture is that of a system without labels."""
    system = cddfuse().eval()
    randomise_norms(system)
    visible, infrared = images(19, 37)
    with torch.no_grad():
        output = system(visible, infrared)
        assert torch.equal(output.logits, system.segmenter(output.fused).logits)
        assert torch.equal(
            output.logits,
            system.segmenter(F.pad(output.fused, (0, 11, 0, 13), "replicate")).logits[..., :19, :37],
        )
        only = system.phases()[0].keeps
        assert torch.equal(only(visible, infrared).fused, output.fused)
        assert only(visible, infrared).logits is None


def test_other_sizes_and_refusals() -> None:
    assert count(fuser(width=12, heads=3, blocks=2)) > count(fuser())
    for options in ({"width": 9}, {"heads": 3}, {"heads": 8}, {"blocks": 0}, {"heads": 0}):
        with pytest.raises(OptionError, match="width must be even and give each of the heads") as caught:
            fuser(**options)
        line(caught.value)
    with pytest.raises(OptionError, match="ssim_weight must be 0 or more, not -1"):
        make_training("cddfuse", ssim_weight=-1)
    with pytest.raises(OptionError, match="edge_weight must be finite, not nan"):
        make_training("cddfuse", edge_weight=float("nan"))
    with pytest.raises(OptionError, match="no encoder to load weights into; leave out encoder_weights"):
        fuser(encoder_weights="imagenet")
