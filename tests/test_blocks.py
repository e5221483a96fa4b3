"""Layers by themselves: the exchange, the gated unit, tying, projections, the input of a band."""

from math import exp, tanh

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms.v2 import functional as tv

from crossband.blocks.band_input import BandInput
from crossband.blocks.encoders import IMAGENET_MEAN, IMAGENET_STD
from crossband.blocks.exchange import exchange_channels, exchange_columns, small_gammas
from crossband.blocks.tied import copy_weights, tie
from crossband.errors import OptionError
from crossband.systems.csknet.gated_unit import GatedSpectralUnit
from crossband.systems.csknet.projection import LevelProjections
from tiny_systems import images


def maps(seed: int = 0, width: int = 5) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(2, 4, 3, width, generator=generator),
        torch.randn(2, 4, 3, width, generator=generator),
    )


def mask(*channels: int) -> Tensor:
    redundant = torch.zeros(4, dtype=torch.bool)
    redundant[list(channels)] = True
    return redundant


# --- which channels are redundant


def test_small_gammas_by_quantile() -> None:
    # |gamma| sorted: 0.1, 0.2, 0.5, 1, 3; the 0.5-quantile is 0.5, and "below" is strict.
    gamma = torch.tensor([-0.1, 3.0, 0.5, -1.0, 0.2])
    assert small_gammas(gamma, "quantile", 0.5).tolist() == [True, False, False, False, True]


def test_small_gammas_by_absolute_value() -> None:
    gamma = torch.tensor([-0.01, 0.02, 0.0, 1.0, -3.0])
    assert small_gammas(gamma, "absolute", 0.02).tolist() == [True, False, True, False, False]


@pytest.mark.parametrize("value", [1.0, 0.1, -0.37, 0.0])
@pytest.mark.parametrize("quantile", [0.1, 0.5, 1.0])
def test_equal_gammas_give_nothing_away_under_quantile(value: float, quantile: float) -> None:
    assert not small_gammas(torch.full((37,), value), "quantile", quantile).any()


def test_small_gammas_ask_for_no_gradient() -> None:
    assert not small_gammas(nn.Parameter(torch.tensor([0.1, 1.0])), "quantile", 0.9).requires_grad


# --- exchange of channels


def test_channels_come_from_the_other_map_as_it_was_before() -> None:
    visible, infrared = maps()
    # Channel 1 is redundant in both: the two swap it, which only works if both read the old values.
    new_visible, new_infrared = exchange_channels(visible, infrared, mask(0, 1), mask(1, 3))
    for channel, (visible_from, infrared_from) in enumerate(
        [(infrared, infrared), (infrared, visible), (visible, infrared), (visible, visible)]
    ):
        assert torch.equal(new_visible[:, channel], visible_from[:, channel])
        assert torch.equal(new_infrared[:, channel], infrared_from[:, channel])


def test_channel_exchange_is_the_identity_on_equal_maps() -> None:
    visible, _ = maps()
    for result in exchange_channels(visible, visible.clone(), mask(0, 1), mask(1, 2)):
        assert torch.equal(result, visible)


def test_channel_exchange_with_equal_masks_is_an_involution() -> None:
    start = maps()
    once = exchange_channels(*start, mask(0, 2), mask(0, 2))
    twice = exchange_channels(*once, mask(0, 2), mask(0, 2))
    assert not torch.equal(once[0], start[0])
    assert torch.equal(twice[0], start[0])
    assert torch.equal(twice[1], start[1])


def test_channel_exchange_without_redundant_channels_changes_nothing() -> None:
    start = maps()
    for result, old in zip(exchange_channels(*start, mask(), mask()), start, strict=True):
        assert torch.equal(result, old)


def test_channel_exchange_to_infrared_leaves_visible() -> None:
    visible, infrared = maps()
    new_visible, new_infrared = exchange_channels(visible, infrared, mask(0, 1), mask(2), "to-infrared")
    assert torch.equal(new_visible, visible)
    assert torch.equal(new_infrared[:, 2], visible[:, 2])
    assert torch.equal(new_infrared[:, [0, 1, 3]], infrared[:, [0, 1, 3]])


# --- exchange of columns


@pytest.mark.parametrize("width", [1, 2, 5])
def test_odd_columns_are_swapped(width: int) -> None:
    visible, infrared = maps(width=width)
    new_visible, new_infrared = exchange_columns(visible, infrared)
    assert torch.equal(new_visible[..., 0::2], visible[..., 0::2])
    assert torch.equal(new_visible[..., 1::2], infrared[..., 1::2])
    assert torch.equal(new_infrared[..., 0::2], infrared[..., 0::2])
    assert torch.equal(new_infrared[..., 1::2], visible[..., 1::2])


def test_column_exchange_is_an_involution_and_the_identity_on_equal_maps() -> None:
    visible, infrared = maps()
    twice = exchange_columns(*exchange_columns(visible, infrared))
    assert torch.equal(twice[0], visible)
    assert torch.equal(twice[1], infrared)
    for result in exchange_columns(visible, visible.clone()):
        assert torch.equal(result, visible)


def test_column_exchange_to_infrared_leaves_visible() -> None:
    visible, infrared = maps()
    new_visible, new_infrared = exchange_columns(visible, infrared, "to-infrared")
    assert torch.equal(new_visible, visible)
    assert torch.equal(new_infrared[..., 1::2], visible[..., 1::2])
    assert torch.equal(new_infrared[..., 0::2], infrared[..., 0::2])


def test_gradients_follow_the_values_into_both_branches() -> None:
    visible, infrared = (x.requires_grad_() for x in maps())
    new_visible, _ = exchange_columns(*exchange_channels(visible, infrared, mask(0), mask(3)))
    new_visible.sum().backward()
    # Of the new visible map, channel 0 came from infrared; then the odd columns came from the other map,
    # whose channel 3 was visible's.
    odd = torch.tensor([False, True, False, True, False])
    from_visible = torch.zeros(2, 4, 3, 5)
    from_visible[:, 1:, :, ~odd] = 1
    from_visible[:, 3, :, odd] = 1
    from_infrared = torch.zeros(2, 4, 3, 5)
    from_infrared[:, 0, :, ~odd] = 1
    from_infrared[:, :3, :, odd] = 1
    assert torch.equal(visible.grad, from_visible)
    assert torch.equal(infrared.grad, from_infrared)


# --- the gated unit


def test_gated_unit_size() -> None:
    with torch.device("meta"):
        count = sum(p.numel() for p in GatedSpectralUnit(256).parameters())
        without_bias = sum(p.numel() for p in GatedSpectralUnit(256, bias=False).parameters())
    assert count == 2_360_832
    assert without_bias == 2_359_296


def test_gated_unit_by_hand() -> None:
    # One channel, one pixel: the 3 x 3 kernel sees its middle alone.
    unit = GatedSpectralUnit(1, 1)
    hidden, gates = (
        [(0.5, 0.1), (-1.0, 0.2), (0.25, -0.3)],
        [
            ((1.0, 0.0, 0.0), 0.5),
            ((0.0, -2.0, 0.0), 0.0),
            ((0.5, 0.5, 0.5), -1.0),
        ],
    )
    with torch.no_grad():
        for layer, (weight, bias) in zip(unit.hidden, hidden, strict=True):
            layer.weight.fill_(99)
            layer.weight[0, 0, 1, 1] = weight
            layer.bias.fill_(bias)
        for layer, (weights, bias) in zip(unit.gates, gates, strict=True):
            layer.weight[0, :, 0, 0] = torch.tensor(weights)
            layer.bias.fill_(bias)
    infrared, visible = 2.0, -0.4
    both = infrared + visible

    def sigmoid(x: float) -> float:
        return 1 / (1 + exp(-x))

    expected = (
        sigmoid(1.0 * infrared + 0.5) * tanh(0.5 * infrared + 0.1)
        + sigmoid(-2.0 * visible) * tanh(-1.0 * visible + 0.2)
        + sigmoid(0.5 * (infrared + visible + both) - 1.0) * tanh(0.25 * both - 0.3)
    )
    result = unit(torch.full((1, 1, 1, 1), infrared), torch.full((1, 1, 1, 1), visible))
    assert result.item() == pytest.approx(expected, rel=1e-6)


def test_gated_unit_of_nothing_is_nothing() -> None:
    unit = GatedSpectralUnit(4, 6)
    for layer in (*unit.hidden, *unit.gates):
        nn.init.zeros_(layer.bias)
    zeros = torch.zeros(1, 4, 5, 3)
    assert torch.equal(unit(zeros, zeros), torch.zeros(1, 6, 5, 3))


def test_gated_unit_stays_below_three() -> None:
    torch.manual_seed(0)
    unit = GatedSpectralUnit(4)
    infrared, visible = maps()
    result = unit.double()(5 * infrared.double(), 5 * visible.double())
    assert 1 < result.abs().max() < 3


def test_gated_unit_without_bias_and_other_kernels() -> None:
    unit = GatedSpectralUnit(4, 7, hidden_kernel=1, gate_kernel=3, bias=False)
    assert unit(*maps()).shape == (2, 7, 3, 5)
    assert sum(p.numel() for p in unit.parameters()) == 3 * 4 * 7 + 3 * 12 * 7 * 9


def test_gated_unit_refuses_even_kernels() -> None:
    with pytest.raises(OptionError, match="not 2 and 1"):
        GatedSpectralUnit(4, hidden_kernel=2)


# --- tying


def chain(width: int = 3) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, width, 1), nn.BatchNorm2d(width), nn.Conv2d(width, 2, 1))


def test_tie_shares_convolutions_and_keeps_norms() -> None:
    source, target = chain(), chain()
    tie(source, target)
    for index in (0, 2):
        assert target[index].weight is source[index].weight
        assert target[index].bias is source[index].bias
    assert target[1].weight is not source[1].weight
    assert target[1].running_mean is not source[1].running_mean


def test_tie_leaves_private_parts_alone() -> None:
    source, target = chain(), chain()
    tie(source, target, private=[source[2]])
    assert target[0].weight is source[0].weight
    assert target[2].weight is not source[2].weight


@pytest.mark.parametrize(
    "target",
    [chain(width=4), nn.Sequential(nn.Conv2d(3, 3, 1, bias=False)), nn.Sequential()],
    ids=["other width", "no bias", "fewer layers"],
)
def test_tie_refuses_another_shape(target: nn.Sequential) -> None:
    with pytest.raises(ValueError, match="differ in shape"):
        tie(chain(), target)


class Picky(nn.Sequential):
    """Leaves out what it is given, as some of smp's encoders leave out a classifier."""

    def load_state_dict(self, *arguments: object, **options: object) -> None:  # type: ignore[override]
        pass


def test_copied_weights_are_equal_and_stay_two() -> None:
    source, target = chain(), Picky(*chain())
    source[1].running_mean.fill_(7)
    copy_weights(source, target)
    for (name, ours), theirs in zip(source.state_dict().items(), target.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs), name
    assert target[0].weight is not source[0].weight
    assert target[1].running_mean is not source[1].running_mean
    with pytest.raises(RuntimeError, match="size mismatch"):
        copy_weights(source, chain(width=4))


# --- projections


def test_projections_per_level() -> None:
    levels = [torch.randn(2, 4, 6, 8), torch.randn(2, 7, 3, 4)]
    embeddings = LevelProjections([4, 7], 5)(levels)
    assert [tuple(x.shape) for x in embeddings] == [(2, 5, 6, 8), (2, 5, 3, 4)]


def test_projection_of_the_joined_levels() -> None:
    projections = LevelProjections([4, 7], 5, form="concat").eval()
    levels = [torch.randn(2, 4, 6, 8), torch.randn(2, 7, 3, 4)]
    (embeddings,) = projections(levels)
    coarse = F.interpolate(levels[1], (6, 8), mode="bilinear", align_corners=True)
    assert torch.allclose(embeddings, projections.heads[0](torch.cat([levels[0], coarse], dim=1)))
    assert embeddings.shape == (2, 5, 6, 8)


def test_projections_refuse_another_form() -> None:
    with pytest.raises(OptionError, match="per-level or concat"):
        LevelProjections([4], form="pooled")  # type: ignore[arg-type]


# --- the input of a band


def test_band_input_normalises_like_torchvision() -> None:
    visible, infrared = images(4, 5)
    band_input = BandInput("resnet18")
    mean, std = list(IMAGENET_MEAN), list(IMAGENET_STD)
    assert torch.allclose(band_input(visible), tv.normalize(visible, mean, std))
    assert torch.allclose(band_input(infrared), tv.normalize(infrared.repeat(1, 3, 1, 1), mean, std))
    assert not band_input.state_dict()
