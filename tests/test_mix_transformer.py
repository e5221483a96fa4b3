"""The Mix Transformer: its sizes, its maps beside transformers' SegFormer, and its layers one by one."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from crossband.blocks.encoder_weights import load_encoder_weights
from crossband.blocks.mix_transformer import (
    SIZES,
    MixBlock,
    MixTransformer,
    MixTransformerSize,
    ReducedAttention,
    depth_rates,
    initialise,
    to_grid,
    to_map,
)
from crossband.errors import OptionError

COUNTS = {
    "mit_b1": 13_151_424,
    "mit_b2": 24_196_288,
    "mit_b3": 44_072_128,
    "mit_b4": 60_842_688,
    "mit_b5": 81_443_008,
}


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


# --- the whole network


@pytest.mark.parametrize("name", COUNTS)
def test_parameters_of_one_stream(name: str) -> None:
    with torch.device("meta"):
        network = MixTransformer(SIZES[name])
    assert sum(parameter.numel() for parameter in network.parameters()) == COUNTS[name]


def test_parameters_by_part() -> None:
    with torch.device("meta"):
        network = MixTransformer(SIZES["mit_b4"])
    parts = {name: sum(p.numel() for p in part.parameters()) for name, part in network.named_children()}
    assert [parts[f"embed{level}"] for level in (1, 2, 3, 4)] == [9_600, 74_112, 369_600, 1_476_096]
    assert [parts[f"stage{level}"] for level in (1, 2, 3, 4)] == [944_640, 3_727_360, 44_720_640, 9_518_592]


def test_names_of_parameters() -> None:
    names = set(MixTransformer(SIZES["mit_tiny"]).state_dict())
    leaves = {
        *("embed{i}.proj", "embed{i}.norm", "norm{i}"),
        *(f"stage{{i}}.0.{leaf}" for leaf in ("norm1", "attn.q", "attn.kv", "attn.proj", "norm2")),
        *(f"stage{{i}}.0.ffn.{leaf}" for leaf in ("fc1", "dw", "fc2")),
    }
    wanted = {leaf.format(i=level) for leaf in leaves for level in (1, 2, 3, 4)}
    wanted |= {f"stage{level}.0.attn.{leaf}" for leaf in ("reduce", "reduce_norm") for level in (1, 2, 3)}
    assert names == {f"{leaf}.{kind}" for leaf in wanted for kind in ("weight", "bias")}


def segformer(size: MixTransformerSize, dtype: torch.dtype) -> nn.Module:
    """transformers' encoder of the same size, far from any random start."""
    import transformers

    torch.manual_seed(0)
    config = transformers.SegformerConfig(depths=list(size.depths), hidden_sizes=list(size.channels))
    network = transformers.SegformerModel(config).eval()
    for name, parameter in network.named_parameters():
        fan_in = parameter[0].numel() if parameter.ndim > 1 else 16
        parameter.data.add_(torch.randn_like(parameter) / math.sqrt(fan_in))
        # What is normed is made small, so that the norms' epsilons show.
        if "sequence_reduction.weight" in name or "patch_embeddings" in name:
            parameter.data.mul_(0.01)
    for name, module in network.named_modules():
        # transformers takes PyTorch's default for all; the authors' code has this at these places.
        if isinstance(module, nn.LayerNorm) and not name.endswith(
            ("embeddings.layer_norm", "reduction.layer_norm")
        ):
            module.eps = 1e-6
    return network.to(dtype)


@pytest.mark.parametrize(
    ("name", "dtype", "tolerance"),
    [
        ("mit_tiny", torch.float64, 1e-10),
        ("mit_b0", torch.float64, 1e-10),
        ("mit_b1", torch.float32, 1e-5),
    ],
)
def test_maps_are_those_of_transformers(
    name: str, dtype: torch.dtype, tolerance: float, tmp_path: Path
) -> None:
    size = SIZES[name]
    reference = segformer(size, dtype)
    reference.save_pretrained(tmp_path)
    network = MixTransformer(size).eval().to(dtype)
    load_encoder_weights(network, name, tmp_path / "model.safetensors")
    for height, width in [(64, 96), (253, 131), (29, 45)]:
        image = draw(2, 3, height, width, dtype=dtype)
        with torch.no_grad():
            wanted = reference(image, output_hidden_states=True).hidden_states[-4:]
            maps = network(image)
        for level, (ours, theirs) in enumerate(zip(maps, wanted, strict=True)):
            assert (
                ours.shape
                == theirs.shape
                == (
                    2,
                    size.channels[level],
                    math.ceil(height / 4 / 2**level),
                    math.ceil(width / 4 / 2**level),
                )
            )
            assert (ours - theirs).abs().max() <= tolerance


def test_a_forward_is_embeddings_and_blocks_in_turn() -> None:
    network = MixTransformer(SIZES["mit_tiny"]).eval()
    features = draw(1, 3, 70, 90, dtype=torch.float32)
    with torch.no_grad():
        for level, want in enumerate(network(features), start=1):
            started = network.embed(level, features)
            assert started.is_contiguous(memory_format=torch.channels_last)
            features = network.blocks(level, started)
            assert features.is_contiguous(memory_format=torch.channels_last)
            assert features.shape == started.shape
            assert torch.equal(features, want)


def test_every_parameter_is_trained() -> None:
    network = MixTransformer(SIZES["mit_tiny"], drop_path=0.0)
    torch.manual_seed(0)
    maps = network(draw(2, 3, 64, 64, dtype=torch.float32))
    sum((features * torch.randn_like(features)).sum() for features in maps).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_memory_is_not_copied_between_maps_and_grids() -> None:
    features = draw(2, 5, 6, 7).to(memory_format=torch.channels_last)
    grid = to_grid(features)
    assert grid.shape == (2, 6, 7, 5)
    assert grid.is_contiguous()
    assert grid.data_ptr() == features.data_ptr()
    assert to_map(grid).data_ptr() == features.data_ptr()
    assert torch.equal(to_map(grid), features)
    copied = to_grid(features.contiguous())
    assert copied.is_contiguous()
    assert torch.equal(copied, grid)


# --- attention


def attention_by_hand(unit: ReducedAttention, query: Tensor, source: Tensor, reduction: int) -> Tensor:
    """The paper's equations 1 and 2, one head, one sample and one window at a time."""
    channels = query.shape[-1]
    width = channels // unit.heads
    rows, columns = source.shape[1] // reduction, source.shape[2] // reduction
    result = torch.zeros_like(query)
    for sample in range(len(query)):
        tokens = []
        for row in range(rows):
            for column in range(columns):
                window = source[
                    sample,
                    row * reduction : (row + 1) * reduction,
                    column * reduction : (column + 1) * reduction,
                ]
                if reduction == 1:
                    tokens.append(window[0, 0])
                    continue
                token = torch.einsum("ocij,ijc->o", unit.reduce.weight, window) + unit.reduce.bias
                token = (token - token.mean()) / (token.var(unbiased=False) + 1e-5).sqrt()
                tokens.append(token * unit.reduce_norm.weight + unit.reduce_norm.bias)
        both = unit.kv(torch.stack(tokens))
        keys, values = both[:, :channels], both[:, channels:]
        queries = unit.q(query[sample]).reshape(-1, channels)
        for head in range(unit.heads):
            part = slice(head * width, (head + 1) * width)
            weights = (queries[:, part] @ keys[:, part].T / math.sqrt(width)).softmax(dim=1)
            result[sample].view(-1, channels)[:, part] = weights @ values[:, part]
    return result


@pytest.mark.parametrize("reduction", [1, 2, 4])
@pytest.mark.parametrize("bias", [True, False])
def test_attention_to_another_map(reduction: int, bias: bool) -> None:
    torch.manual_seed(1)
    unit = ReducedAttention(12, 3, reduction, bias=bias).double()
    for parameter in unit.parameters():
        parameter.data.normal_()
    assert (unit.q.bias is None) == (unit.kv.bias is None) == (not bias)
    assert (unit.reduce is None) == (unit.reduce_norm is None) == (reduction == 1)
    query, source = draw(2, 3, 5, 12), draw(2, 9, 6, 12, seed=1)
    with torch.no_grad():
        wanted = attention_by_hand(unit, query, source, reduction)
        assert torch.allclose(unit.attend(query, source), wanted, rtol=0, atol=1e-12)
        assert torch.allclose(unit(query, source), unit.proj(wanted), rtol=0, atol=1e-11)
        assert torch.equal(unit(source), unit(source, source))


def test_what_is_left_over_at_the_border_is_not_looked_at() -> None:
    unit = ReducedAttention(8, 2, 4).double()
    source = draw(1, 9, 10, 8)
    changed = source.clone()
    changed[:, 8:] = 7
    changed[:, :, 8:] = -7
    query = draw(1, 4, 4, 8, seed=1)
    assert torch.equal(unit(query, source), unit(query, changed))
    changed[:, 7, 7] = 5
    assert not torch.equal(unit(query, source), unit(query, changed))


# --- stochastic depth and the random start


def test_rates_rise_linearly() -> None:
    rates = depth_rates((3, 4, 6, 3), 0.1)
    assert [len(level) for level in rates] == [3, 4, 6, 3]
    assert [rate for level in rates for rate in level] == pytest.approx(
        [0.1 * block / 15 for block in range(16)]
    )
    network = MixTransformer(SIZES["mit_b0"], drop_path=0.7)
    found = [
        block.drop_path.drop_prob for level in (1, 2, 3, 4) for block in getattr(network, f"stage{level}")
    ]
    assert found == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7])


def test_rates_of_stage_2_as_amdanet_published_them() -> None:
    plain = depth_rates((3, 8, 27, 3), 0.1)
    for block in (0, 1):
        rates = depth_rates((3, 8, 27, 3), 0.1, block)
        assert rates[1] == pytest.approx([0.1 * (3 + block) / 40] * 8)
        assert rates[:1] + rates[2:] == plain[:1] + plain[2:]
    network = MixTransformer(SIZES["mit_tiny"], drop_path=0.3, stage2_rate_of=1)
    assert network.stage2[0].drop_path.drop_prob == pytest.approx(0.2)
    for wrong in (-1, 3):
        with pytest.raises(OptionError, match=f"stage2_rate_of must be .* not {wrong}"):
            MixTransformer(SIZES["mit_tiny"], stage2_rate_of=wrong)


def test_skipped_samples_are_made_up_for_by_the_others() -> None:
    block = MixBlock(8, 1, 1, drop_path=0.25)
    for layer in (block.attn.proj, block.ffn.fc2):
        nn.init.zeros_(layer.weight)
        nn.init.constant_(layer.bias, 3.0)
    torch.manual_seed(0)
    grid = draw(4000, 1, 2, 8, dtype=torch.float32)
    with torch.no_grad():
        added = block(grid) - grid
        assert torch.allclose(block.eval()(grid) - grid, torch.tensor(6.0), atol=1e-5)
    # Each of the two layers adds 3 / 0.75, or nothing, to all of a sample.
    steps = added[:, 0, 0, 0].div(4).round()
    assert torch.allclose(added, 4 * steps[:, None, None, None], atol=1e-5)
    shares = [(steps == count).float().mean().item() for count in (0, 1, 2)]
    assert shares == pytest.approx([0.0625, 0.375, 0.5625], abs=0.03)


def test_random_start() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Linear(400, 300), nn.Conv2d(64, 128, 3, groups=2), nn.LayerNorm(40), nn.Linear(4, 4, bias=False)
    )
    for parameter in network.parameters():
        nn.init.constant_(parameter, 9.0)
    network.apply(initialise)
    linear, convolution, norm, unbiased = network
    assert linear.weight.std().item() == pytest.approx(0.02, rel=0.02)
    # 3 x 3 kernels, 128 outputs in two groups.
    assert convolution.weight.std().item() == pytest.approx(math.sqrt(2 / (9 * 64)), rel=0.02)
    assert torch.equal(norm.weight, torch.ones(40))
    assert unbiased.weight.abs().max() < 0.2
    for layer in (linear, convolution, norm):
        assert layer.bias.abs().max() == 0


def test_the_random_start_is_the_networks() -> None:
    torch.manual_seed(0)
    network = MixTransformer(SIZES["mit_b0"])
    assert network.stage4[1].ffn.fc1.weight.std().item() == pytest.approx(0.02, rel=0.02)
    # Depth-wise: one output in each group.
    assert network.stage3[1].ffn.dw.weight.std().item() == pytest.approx(math.sqrt(2 / 9), rel=0.05)
    assert 0 < network.embed1.proj.bias.std().item() < 0.03
    assert network.embed2.proj.bias.abs().max() == 0


def test_a_black_image_has_gradients_of_the_size_of_any_other() -> None:
    """From a random start all of its tokens could be 0, where a norm's slope is 1000."""
    torch.manual_seed(0)
    network = MixTransformer(SIZES["mit_b0"])
    largest = []
    for image in (torch.rand(1, 3, 32, 64), torch.zeros(1, 3, 32, 64)):
        network.zero_grad()
        (network(image)[-1] * torch.arange(256.0)[:, None, None]).mean().backward()
        largest.append(max(p.grad.abs().max().item() for p in network.parameters() if p.grad is not None))
    assert largest[1] < 100 * largest[0]
