"""CSK-Net: its size, its tied branches, its exchange, its losses."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.flop_counter import FlopCounterMode

from crossband.blocks.encoders import encoder_stages
from crossband.errors import OptionError
from crossband.info import count_flops
from crossband.systems import create
from crossband.systems.csknet.network import CSKNet
from crossband.weights import count_parameters
from tiny_systems import CLASSES, TINY, csknet, images, randomise_norms

# --- size


@pytest.mark.parametrize(
    ("classes", "baseline", "default"), [(9, 11_682_241, 14_221_283), (26, 11_686_610, 14_234_390)]
)
def test_published_size(classes: int, baseline: int, default: int) -> None:
    with torch.device("meta"):
        single = create("deeplabv3plus", classes=classes)
        both = create("csknet", classes=classes)
    assert count_parameters(single) == baseline
    assert count_parameters(both) == default
    assert abs(default - 14.24e6) < 0.01 * 14.24e6
    # What each combination of bands costs: alone, a branch is the baseline.
    assert count_parameters(*both.deployed("both")) == default
    assert count_parameters(*both.deployed("infrared")) == baseline
    assert count_parameters(*both.deployed("visible")) == baseline


@pytest.mark.parametrize(
    ("options", "count"),
    [
        ({"share_decoder": "all"}, 14_139_187),
        ({"share_decoder": "none"}, 15_118_691),
        ({"gated_unit": False}, 14_221_283 - 2_360_832),
        # Each of the three hidden kernels loses eight of its nine taps.
        ({"share_decoder": "all", "gated_unit_hidden_kernel": 1}, 14_139_187 - 3 * 256 * 256 * 8),
    ],
    ids=str,
)
def test_size_of_other_readings(options: dict[str, Any], count: int) -> None:
    with torch.device("meta"):
        assert count_parameters(create("csknet", classes=9, **options)) == count


@pytest.mark.parametrize(("first", "stages"), [(5, [4]), (4, [3, 4])])
def test_private_stages(first: int, stages: list[int]) -> None:
    with torch.device("meta"):
        shared = create("csknet", classes=9)
        private = create("csknet", classes=9, private_from_stage=first)
    cut = encoder_stages(private.visible.encoder)
    blocks = [layer.func for stage in stages for layer in cut[stage]]
    norms = [module for block in blocks for module in block.modules() if isinstance(module, _BatchNorm)]
    own = count_parameters(*blocks) - count_parameters(*norms)
    assert count_parameters(private) == count_parameters(shared) + own


# --- tied branches


def branch_parameters(system: CSKNet) -> Iterator[tuple[str, bool, bool]]:
    """(name, whether it belongs to a norm, whether both branches hold the same object)."""
    assert system.visible.state_dict().keys() == system.infrared.state_dict().keys()
    norms = {name for name, module in system.visible.named_modules() if isinstance(module, _BatchNorm)}
    others = dict(system.infrared.named_parameters())
    for name, parameter in system.visible.named_parameters():
        yield name, name.rpartition(".")[0] in norms, others[name] is parameter


@pytest.mark.parametrize(
    ("share_decoder", "own"),
    [
        ("aspp", ("decoder.block1.", "decoder.block2.", "segmentation_head.")),
        ("all", ("segmentation_head.",)),
        ("none", ("decoder.", "segmentation_head.")),
    ],
)
def test_branches_are_smp_networks_with_the_same_convolutions(
    share_decoder: str, own: tuple[str, ...]
) -> None:
    system = csknet(share_decoder=share_decoder)
    assert type(system.visible) is type(system.infrared) is smp.DeepLabV3Plus
    for name, of_norm, same in branch_parameters(system):
        assert same is not (of_norm or name.startswith(own)), name
    visible_buffers = {buffer.data_ptr() for buffer in system.visible.buffers()}
    assert not visible_buffers & {buffer.data_ptr() for buffer in system.infrared.buffers()}


def test_branches_start_from_the_same_norms() -> None:
    system = csknet()
    visible, infrared = system.visible.encoder.state_dict(), system.infrared.encoder.state_dict()
    assert all(torch.equal(visible[key], infrared[key]) for key in visible)


def test_norms_of_the_branches_see_their_own_band() -> None:
    system = csknet()
    stem = system.visible.encoder.model.conv_stem
    visible, infrared = images(32, 48)
    with torch.no_grad():
        means = [stem(system.band_input(image)).mean(dim=(0, 2, 3)) for image in (visible, infrared)]
        system(visible, infrared)
    for branch, mean in zip((system.visible, system.infrared), means, strict=True):
        # momentum 0.1 from a start at 0
        assert torch.allclose(branch.encoder.model.bn1.running_mean, 0.1 * mean, atol=1e-6)
    assert not torch.allclose(means[0], means[1], atol=1e-3)


@pytest.mark.parametrize(("band", "still"), [("infrared", "visible"), ("visible", "infrared")])
def test_training_on_one_band_leaves_the_other_branchs_norms(band: str, still: str) -> None:
    system = csknet()
    inputs = dict(zip(("visible", "infrared"), images(32, 48), strict=True))
    before = {name: buffer.clone() for name, buffer in system.named_buffers()}
    system(**{band: inputs[band]})
    changed = {name for name, buffer in system.named_buffers() if not torch.equal(buffer, before[name])}
    moving = {name for name in before if name.startswith(f"{band}.")}
    assert changed == moving
    assert not any(name.startswith(f"{still}.") for name in changed)


def test_a_step_on_infrared_moves_the_shared_convolutions_of_visible() -> None:
    system = csknet()
    convolution = system.visible.encoder.model.conv_stem.weight
    before = convolution.detach().clone()
    system(infrared=images(32, 48)[1]).logits.square().sum().backward()
    torch.optim.SGD(system.parameters(), lr=0.1).step()
    assert not torch.equal(convolution, before)
    assert system.infrared.encoder.model.conv_stem.weight is convolution


# --- infrared alone


def test_the_infrared_branch_is_a_plain_deeplabv3plus() -> None:
    system = csknet().eval()
    randomise_norms(system)
    plain = smp.DeepLabV3Plus(
        f"tu-{TINY['encoder']}",
        encoder_weights=None,
        decoder_channels=TINY["decoder_channels"],
        classes=CLASSES,
    ).eval()
    plain.load_state_dict(system.infrared.state_dict())
    infrared = images(64, 96)[1]
    mean, std = system.band_input.mean, system.band_input.std
    with torch.no_grad():
        logits = system(infrared=infrared).logits
        wanted = plain((infrared.repeat(1, 3, 1, 1) - mean) / std)
    assert logits.std() > 0
    assert (logits - wanted).abs().max() < 1e-4
    alone = system.infrared_system()
    with torch.no_grad():
        assert torch.equal(alone(infrared=infrared).logits, logits)
    assert not {p.data_ptr() for p in alone.parameters()} & {p.data_ptr() for p in system.parameters()}


def test_infrared_alone_runs_no_module_of_the_visible_branch() -> None:
    system = csknet().eval()
    ran: set[str] = set()
    for name, module in system.named_modules():
        module.register_forward_hook(lambda *_, name=name: ran.add(name))
    visible, infrared = images(32, 48)
    elsewhere = ("visible", "gated_unit", "fused_head")
    with torch.no_grad():
        system(None, infrared)
        assert ran
        assert not {name for name in ran if name.startswith(elsewhere)}
        assert {name for name in ran if name.startswith("infrared.segmentation_head")}
        ran.clear()
        # The same hooks do fire when both bands are there.
        system(visible, infrared)
    assert all(any(name.startswith(part) for name in ran) for part in elsewhere)


def test_infrared_alone_costs_what_the_baseline_costs() -> None:
    with torch.device("meta"):
        system = create("csknet", classes=9)
        plain = smp.DeepLabV3Plus("efficientnet-b3", encoder_weights=None, classes=9).eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            plain(torch.zeros(1, 3, 480, 640))
        baseline = counter.get_total_flops()
        assert baseline > 1e10
        assert count_flops(system, "infrared", (480, 640)) == baseline
        # Both: two branches without their heads, the gated unit, whose gates read two maps of their three,
        # the fused head.
        pixels, width = 120 * 160, 256
        unit = 2 * pixels * 3 * (9 * width * width + 2 * width * width)
        head = 2 * pixels * width * 9
        assert count_flops(system, "both", (480, 640)) == 2 * baseline + unit - head
    assert system.training


def test_visible_alone_is_a_fallback() -> None:
    system = csknet().eval()
    assert dict(system.supports) == {"both": "designed", "infrared": "designed", "visible": "fallback"}
    assert system.check_bands("visible") == "fallback"
    visible = images(32, 48)[0]
    with torch.no_grad():
        assert torch.equal(system(visible).logits, system.visible(system.band_input(visible)))


# --- the exchange inside the network


def by_hand(system: CSKNet, visible: Tensor, infrared: Tensor, order: str = "channels first") -> Tensor:
    """Logits of both bands, the exchange written out with indices as the paper words it."""
    quantile = system.settings.exchange_threshold
    v, i = system.band_input(visible), system.band_input(infrared)
    visible_maps, infrared_maps = [v], [i]

    def swap_channels(v: Tensor, i: Tensor, redundant: list[Tensor]) -> tuple[Tensor, Tensor]:
        new_v, new_i = v.clone(), i.clone()
        new_v[:, redundant[0]] = i[:, redundant[0]]
        new_i[:, redundant[1]] = v[:, redundant[1]]
        return (v if system.settings.exchange_direction == "to-infrared" else new_v), new_i

    def swap_columns(v: Tensor, i: Tensor) -> tuple[Tensor, Tensor]:
        new_v, new_i = v.clone(), i.clone()
        new_v[..., 1::2], new_i[..., 1::2] = i[..., 1::2], v[..., 1::2]
        return (v if system.settings.exchange_direction == "to-infrared" else new_v), new_i

    layers = zip(encoder_stages(system.visible.encoder), encoder_stages(system.infrared.encoder), strict=True)
    for stage, pair in enumerate(layers, start=1):
        for of_visible, of_infrared in zip(*pair, strict=True):
            v, i = of_visible(v), of_infrared(i)
        redundant = []
        for branch in pair:
            norms = [m for layer in branch for m in layer.modules() if isinstance(m, _BatchNorm)]
            gamma = norms[-1].weight.abs()
            redundant.append(gamma < gamma.quantile(quantile))
        steps = []
        if stage in system.settings.exchange_stages:
            steps.append(lambda v, i, redundant=redundant: swap_channels(v, i, redundant))
        if stage in system.settings.spatial_stages:
            steps.append(swap_columns)
        for step in steps if order == "channels first" else steps[::-1]:
            v, i = step(v, i)
        visible_maps.append(v)
        infrared_maps.append(i)
    fused = system.gated_unit(system.infrared.decoder(infrared_maps), system.visible.decoder(visible_maps))
    return system.fused_head(fused)


EXCHANGES: list[dict[str, Any]] = [
    {},
    {"exchange_direction": "to-infrared"},
    {"exchange_stages": (2, 5)},
    {"spatial_stages": ()},
    {"spatial_stages": (4,)},
    {"spatial_stages": (5,)},
    {"exchange_stages": (), "spatial_stages": (1,)},
]


@pytest.mark.parametrize("options", EXCHANGES, ids=str)
def test_the_network_exchanges_as_the_paper_words_it(options: dict[str, Any]) -> None:
    system = csknet(exchange_threshold=0.4, **options).eval()
    randomise_norms(system)
    visible, infrared = images(64, 96)
    with torch.no_grad():
        logits = system(visible, infrared).logits
        assert torch.allclose(logits, by_hand(system, visible, infrared), atol=1e-6)
        # Every setting makes a difference, so that none of them can be ignored unseen.
        for other in EXCHANGES:
            if other != options:
                changed = {
                    "exchange_direction": other.get("exchange_direction", "both"),
                    "exchange_stages": other.get("exchange_stages", (1, 2, 3, 4, 5)),
                    "spatial_stages": other.get("spatial_stages", (4, 5)),
                }
                system.settings = replace(system.settings, **changed)
                assert not torch.allclose(system(visible, infrared).logits, logits, atol=1e-5)


def test_channels_are_exchanged_before_columns() -> None:
    system = csknet(exchange_threshold=0.4).eval()
    randomise_norms(system)
    inputs = images(64, 96)
    with torch.no_grad():
        logits = system(*inputs).logits
        assert not torch.allclose(logits, by_hand(system, *inputs, order="columns first"), atol=1e-5)


def test_columns_swapped_at_stage_4_come_home_after_stage_5() -> None:
    """At output stride 16 both stages have the same columns; an odd one is a visitor for one stage."""
    system = csknet(exchange_stages=()).eval()
    randomise_norms(system)
    with torch.no_grad():
        maps = system(*images(64, 96), features=True).features
        (before_v, before_i), (after_v, after_i) = maps.before[3], maps.after[3]
        assert torch.equal(after_v[..., 1::2], before_i[..., 1::2])
        assert torch.equal(after_i[..., ::2], before_i[..., ::2])
        (before_v, before_i), (after_v, after_i) = maps.before[4], maps.after[4]
        assert torch.equal(after_v[..., 1::2], before_i[..., 1::2])
        assert torch.equal(after_v[..., ::2], before_v[..., ::2])
        assert torch.equal(after_i[..., 1::2], before_v[..., 1::2])


def test_a_fresh_network_exchanges_no_channels() -> None:
    system = csknet(spatial_stages=()).eval()
    with torch.no_grad():
        maps = system(*images(32, 48), features=True).features
    for before, after in zip(maps.before, maps.after, strict=True):
        assert torch.equal(before[0], after[0])
        assert torch.equal(before[1], after[1])


def test_absolute_threshold_exchanges_everything_above_all_gammas() -> None:
    system = csknet(spatial_stages=(), exchange_mode="absolute", exchange_threshold=9.0).eval()
    with torch.no_grad():
        maps = system(*images(32, 48), features=True).features
    for before, after in zip(maps.before, maps.after, strict=True):
        assert torch.equal(before[0], after[1])
        assert torch.equal(before[1], after[0])


def test_without_exchange_the_branches_are_alone_until_the_decoders_meet() -> None:
    system = csknet(exchange=False).eval()
    randomise_norms(system)
    visible, infrared = images(32, 48)
    with torch.no_grad():
        branches = system(visible, infrared, features=True).branches
        assert torch.allclose(branches["infrared"], system(None, infrared).logits, atol=1e-5)
        assert torch.allclose(branches["visible"], system(visible, None).logits, atol=1e-5)


def test_without_the_gated_unit_the_decoders_are_added() -> None:
    system = csknet(gated_unit=False).eval()
    with torch.no_grad():
        output = system(*images(32, 48), features=True)
        visible, infrared = output.features.decoder
        assert torch.allclose(output.logits, system.fused_head(visible + infrared), atol=1e-6)


def test_unequal_width_of_the_gated_unit() -> None:
    system = csknet(gated_unit_width=24).eval()
    with torch.no_grad():
        assert system(*images(20, 30)).logits.shape == (2, CLASSES, 20, 30)
    assert system.fused_head[0].in_channels == 24


# --- refusals


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"share_decoder": "half"}, "share_decoder must be one of aspp, all, none, not 'half'"),
        ({"private_from_stage": 3}, "private_from_stage must be one of 4, 5 or null, not 3"),
        ({"exchange_mode": "rank"}, "exchange_mode must be one of"),
        ({"exchange_site": "block"}, "exchange_site must be one of"),
        ({"exchange_direction": "to-visible"}, "exchange_direction must be one of"),
        (
            {"exchange_stages": (0,)},
            r"exchange_stages must be a list, each of it one of 1, 2, 3, 4, 5",
        ),
        ({"exchange_threshold": 1.5}, r"exchange_threshold must lie in \[0, 1.0\]"),
        (
            {"exchange_threshold": -1, "exchange_mode": "absolute"},
            r"exchange_threshold must lie in \[0, inf\]",
        ),
        ({"distill_tap": "mid"}, "distill_tap must be one of"),
        ({"distill_form": "kl"}, "distill_form must be one of"),
        ({"contrastive_branches": "visible"}, "contrastive_branches must be one of"),
        ({"contrastive_temperature": 0}, "contrastive_temperature must be above 0, not 0"),
        ({"contrastive_anchors": 0}, "anchors and per_class must be at least 1"),
        ({"projection": "pooled"}, "projection must be one of"),
        ({"dice_form": "mean"}, "dice_form must be one of"),
        ({"gated_unit_hidden_kernel": 2}, "kernels must be odd"),
        ({"gated_unit_gate_kernel": -1}, "gated_unit_gate_kernel must be 1 or more, not -1"),
    ],
    ids=str,
)
def test_values_that_do_not_exist_are_refused_when_it_is_built(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        csknet(**options)
