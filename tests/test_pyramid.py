"""Pyramids by an encoder's name: their maps beside those of the libraries, entered level by level."""

from pathlib import Path

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from crossband.blocks.band_input import BandInput
from crossband.blocks.encoders import normalisation, smp_name
from crossband.blocks.mix_transformer import SIZES, MixTransformer
from crossband.blocks.pyramid import PyramidEncoder, build_pyramid, heads_for
from crossband.errors import OptionError, WeightsError
from tiny_systems import one_line, randomise_norms

CONVOLUTIONAL = [
    "resnet18",
    "tu-resnet18",
    "mobilenet_v2",
    "efficientnet-b0",
    "tf_efficientnet_lite0",
    "mobilenetv3_small_050",
    "regnety_002",
    "mobilenetv4_conv_small",
]
PVT = ["pvt_v2_b0", "pvt_v2_b2_li"]


@pytest.fixture(scope="module")
def image() -> Tensor:
    return torch.randn(2, 3, 96, 130, generator=torch.Generator().manual_seed(0))


def with_weights_of(reference: nn.Module, name: str, folder: Path) -> PyramidEncoder:
    """A pyramid with the weights of a library's network, by way of a file."""
    save_file(reference.state_dict(), folder / "weights.safetensors")
    return build_pyramid(name, folder / "weights.safetensors").eval()


def entered(pyramid: PyramidEncoder, image: Tensor) -> list[Tensor]:
    """The maps, from embeddings and blocks called one after another."""
    maps, features = [], image
    for level in (1, 2, 3, 4):
        started = pyramid.embed(level, features)
        features = pyramid.blocks(level, started)
        assert started.shape[1] == pyramid.embed_channels[level - 1]
        assert features.shape[-2:] == started.shape[-2:]
        maps.append(features)
    return maps


def check(pyramid: PyramidEncoder, image: Tensor, wanted: list[Tensor], tolerance: float = 0) -> None:
    with torch.no_grad():
        for maps in (pyramid(image), entered(pyramid, image)):
            for ours, theirs in zip(maps, wanted, strict=True):
                assert torch.allclose(ours, theirs, rtol=0, atol=tolerance)
    assert pyramid.channels == tuple(features.shape[1] for features in wanted)
    assert all(count % heads == 0 for count, heads in zip(pyramid.channels, pyramid.heads, strict=True))
    assert pyramid.reductions == (8, 4, 2, 1)


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_convolutional_maps_are_the_encoders(name: str, image: Tensor, tmp_path: Path) -> None:
    torch.manual_seed(0)
    encoder = smp.encoders.get_encoder(smp_name(name), weights=None).eval()
    randomise_norms(encoder)
    classifier = encoder.model if isinstance(encoder, smp.encoders.TimmUniversalEncoder) else encoder
    pyramid = with_weights_of(classifier, name, tmp_path)
    with torch.no_grad():
        check(pyramid, image, encoder(image)[2:])
    # Also where stochastic depth is at work.
    torch.manual_seed(1)
    wanted = encoder.train()(image)[2:]
    torch.manual_seed(1)
    maps = pyramid.train()(image)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(maps, wanted, strict=True))


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_a_convolutional_level_is_cut_where_it_has_become_small(name: str) -> None:
    pyramid = build_pyramid(name).eval()
    features = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        for level, stride in zip((1, 2, 3, 4), (4, 8, 16, 32), strict=True):
            embedding = getattr(pyramid, f"embed{level}")
            before = embedding[:-1](features)
            started = pyramid.embed(level, features)
            assert started.shape[-2:] == (64 // stride, 96 // stride)
            assert before.shape[-2] == 2 * started.shape[-2]
            features = pyramid.blocks(level, started)


def test_a_level_may_widen_after_its_embedding() -> None:
    """EfficientNet-B0's third level has blocks of 80 and of 112 channels (the paper's table 1)."""
    pyramid = build_pyramid("efficientnet-b0")
    assert pyramid.embed_channels == (24, 40, 80, 192)
    assert pyramid.channels == (24, 40, 112, 320)


def test_a_regnet_stage_is_cut_as_well() -> None:
    """RegNetY-200MF has 1, 1, 4 and 7 blocks (the paper's table), of which each first one reduces."""
    pyramid = build_pyramid("regnety_002")
    assert [len(getattr(pyramid, f"stage{level}")) for level in (1, 2, 3, 4)] == [0, 0, 3, 6]


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_every_parameter_of_a_convolutional_pyramid_is_used(name: str, image: Tensor) -> None:
    pyramid = build_pyramid(name)
    assert pyramid.training
    assert all(module.training for module in pyramid.modules())
    sum(features.square().sum() for features in pyramid(image)).backward()
    assert all(parameter.grad is not None for parameter in pyramid.parameters())


@pytest.mark.parametrize("name", PVT)
def test_pvt_maps_are_timms(name: str, image: Tensor, tmp_path: Path) -> None:
    torch.manual_seed(0)
    reference = timm.create_model(name).eval()
    # A norm with weights of its own shows whether it was applied, and applied once.
    for module in reference.modules():
        if isinstance(module, nn.LayerNorm):
            module.weight.data.uniform_(0.5, 1.5)
    pyramid = with_weights_of(reference, name, tmp_path).double()
    image = image.double()
    with torch.no_grad():
        wanted = reference.double().forward_intermediates(image, intermediates_only=True)
        # Maps in channels-last memory are convolved in another order.
        check(pyramid, image, wanted, tolerance=1e-12)
        maps = pyramid(image)
    assert all(features.is_contiguous(memory_format=torch.channels_last) for features in maps)
    assert pyramid.heads == (1, 2, 5, 8)
    assert pyramid.embed_channels == pyramid.channels


def test_stochastic_depth_of_a_transformer() -> None:
    blocks = build_pyramid("pvt_v2_b0", drop_path=0.7).network.stages[-1].blocks
    assert [block.drop_path1.drop_prob for block in blocks] == pytest.approx([0.6, 0.7])
    blocks = build_pyramid("pvt_v2_b0").network.stages[-1].blocks
    assert blocks[-1].drop_path1.drop_prob == pytest.approx(0.1)
    assert build_pyramid("mit_tiny").stage4[0].drop_path.drop_prob == pytest.approx(0.1)
    network = build_pyramid("mit_tiny", drop_path=0.3, stage2_rate_of=1)
    assert network.stage2[0].drop_path.drop_prob == pytest.approx(0.2)


@pytest.mark.parametrize("name", ["mit_tiny", "mit_b0"])
def test_mix_transformers_are_built_as_they_are(name: str) -> None:
    torch.manual_seed(0)
    network = build_pyramid(name)
    torch.manual_seed(0)
    wanted = MixTransformer(SIZES[name]).state_dict()
    assert isinstance(network, MixTransformer)
    assert network.channels == SIZES[name].channels
    assert network.heads == (1, 2, 5, 8)
    assert list(network.state_dict()) == list(wanted)
    assert all(torch.equal(value, wanted[key]) for key, value in network.state_dict().items())


@pytest.mark.parametrize("name", ["mit_tiny", "pvt_v2_b0", "mobilenetv3_small_050"])
def test_small_and_odd_sizes(name: str) -> None:
    pyramid = build_pyramid(name).eval()
    with torch.no_grad():
        for height, width in [(32, 32), (45, 61), (61, 33)]:
            shapes = [features.shape[-2:] for features in pyramid(torch.randn(1, 3, height, width))]
            assert shapes == [(-(-height // stride), -(-width // stride)) for stride in (4, 8, 16, 32)]


def test_heads() -> None:
    """Worked by hand: the divisor that makes a head nearest to 64 wide, counted as a ratio."""
    by_hand = {64: 1, 128: 2, 320: 5, 512: 8, 16: 1, 24: 1, 88: 1, 96: 2, 112: 2, 136: 2, 384: 6, 1280: 20}
    assert {channels: heads_for(channels) for channels in by_hand} == by_hand
    # A prime.
    assert heads_for(97) == 1


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mit_b9", "no encoder 'mit_b9'; Mix Transformers are .*mit_b5"),
        ("pvt_v2_b9", "'pvt_v2_b9'; did you mean .*pvt_v2_b5"),
        ("convnext_tiny", "'convnext_tiny' does not fit.*chain of five stages"),
        ("vit_tiny_patch16_224", "'vit_tiny_patch16_224' has no five stages.*use mit_b1"),
        ("zzz", "neither smp nor timm has an encoder 'zzz'"),
    ],
)
def test_what_is_no_pyramid_is_refused(name: str, message: str) -> None:
    with pytest.raises(OptionError, match=message) as caught:
        build_pyramid(name)
    one_line(caught.value)


@pytest.mark.parametrize("name", ["pvt_v2_b0", "resnet18"])
def test_the_published_rates_of_stage_2_are_the_mix_transformers(name: str) -> None:
    with pytest.raises(OptionError, match=f"stage2_rate_of belongs to the Mix Transformer.*{name}"):
        build_pyramid(name, stage2_rate_of=0)


def test_weights_of_another_encoder_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file(build_pyramid("mit_tiny").state_dict(), path)
    for name in ("mit_b0", "pvt_v2_b0", "resnet18"):
        with pytest.raises(WeightsError, match=f"does not fit encoder {name}"):
            build_pyramid(name, path)


def test_normalisation() -> None:
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    assert normalisation("mit_b1") == normalisation("pvt_v2_b2") == (mean, std)
    image = torch.rand(1, 3, 2, 2)
    wanted = (image - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    assert torch.allclose(BandInput("mit_tiny")(image), wanted)
