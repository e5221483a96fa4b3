"""MMANet's network: its size, its parts against references, its bands, its modality dropout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from crossband.blocks.encoders import encoder_stages
from crossband.errors import OptionError
from crossband.info import Parameters, count_all, count_flops
from crossband.systems import create, make_training
from crossband.systems.mmanet.esanet import (
    ContextModule,
    LearnedUpsampling,
    NonBottleneck1D,
    SqueezeExcitation,
    bin_means,
)
from crossband.systems.mmanet.network import DRAWS, MMANet
from crossband.systems.mmanet.training import ABLATIONS, MMANetTraining
from crossband.weights import count_parameters
from stored_weights import as_safetensors
from tiny_systems import CLASSES, TINY, images, randomise_norms, tiny


def mmanet(**options: Any) -> MMANet:
    system = tiny("mmanet", **options)
    assert isinstance(system, MMANet)
    return system


def evaluated(**options: Any) -> MMANet:
    system = mmanet(**options).eval()
    randomise_norms(system)
    return system


def on_meta(classes: int, **options: Any) -> MMANet:
    with torch.device("meta"):
        system = create("mmanet", classes=classes, **options)
    assert isinstance(system, MMANet)
    return system


# --- size


@pytest.mark.parametrize(
    ("classes", "both", "infrared", "visible", "training"),
    [
        (9, 71_669_312, 47_460_300, 47_466_572, 87_940_376),
        (26, 71_704_536, 47_495_524, 47_501_796, 88_010_824),
    ],
)
def test_published_size(classes: int, both: int, infrared: int, visible: int, training: int) -> None:
    system = on_meta(classes)
    assert count_parameters(*system.deployed("both")) == count_parameters(system) == both
    assert count_parameters(*system.deployed("infrared")) == infrared
    assert count_parameters(*system.deployed("visible")) == visible
    with torch.device("meta"):
        teacher, student = system.phases()
        counts = count_all(system)
    assert count_parameters(student.trained) == training
    assert count_parameters(teacher.trained) == both
    # What training needs beyond: the other band's encoder and gates, the second decoder, the teacher.
    assert counts["both"] == Parameters(both, 0, training)
    assert counts["infrared"] == Parameters(infrared, 0, training + both - infrared)


def test_size_of_the_parts() -> None:
    system = on_meta(9)
    with torch.device("meta"):
        reference = torchvision.models.resnet50()
    assert count_parameters(system.visible) == count_parameters(reference) - count_parameters(reference.fc)
    assert count_parameters(system.visible) == 23_508_032
    assert count_parameters(system.infrared) == 23_501_760
    gates = zip(system.visible_gates, system.infrared_gates, strict=True)
    assert [count_parameters(*pair) for pair in gates] == [1_160, 16_928, 66_624, 264_320, 1_052_928]
    assert [count_parameters(skip) for skip in system.skips] == [525_312, 131_584, 33_024]
    assert count_parameters(system.context) == 6_296_576
    assert count_parameters(system.decoder) == 16_271_064
    assert count_parameters(on_meta(26).decoder) == 16_306_288
    assert count_parameters(*(step.side for step in system.decoder.steps)) == 9 * 899


def test_what_an_encoder_has_but_segmentation_never_uses_is_dead() -> None:
    with torch.device("meta"):
        system = create("mmanet", classes=9, encoder="efficientnet-b3")
    assert count_parameters(*system.dead()) == 2 * 592_896


def test_other_bins_of_the_context_module_have_the_same_size() -> None:
    other = on_meta(9, variant="cityscapes")
    assert [branch[0].out_channels for branch in other.context.branches] == [512] * 4
    assert count_parameters(other.context) == 6_296_576


# --- parts


@pytest.mark.parametrize("size", [(15, 20), (1, 2), (60, 80), (7, 3)])
@pytest.mark.parametrize("bins", [(1, 1), (5, 5), (30, 40)])
def test_bins_are_those_of_adaptive_pooling(size: tuple[int, int], bins: tuple[int, int]) -> None:
    x = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(bin_means(x, bins), F.adaptive_avg_pool2d(x, bins), atol=1e-6)


def test_upsampling_starts_out_bilinear() -> None:
    x = torch.randn(2, 3, 6, 8, generator=torch.Generator().manual_seed(0))
    wanted = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
    with torch.no_grad():
        result = LearnedUpsampling(3)(x)
    assert result.shape == (2, 3, 12, 16)
    # Beyond the border are zeros, as published.
    assert torch.allclose(result[..., 1:-1, 1:-1], wanted[..., 1:-1, 1:-1], atol=1e-6)
    assert not torch.allclose(result[..., 0, :], wanted[..., 0, :], atol=1e-3)


def test_gates_keep_zeros_and_weigh_channels() -> None:
    torch.manual_seed(0)
    gate = SqueezeExcitation(64)
    assert not gate(torch.zeros(2, 64, 3, 4)).any()
    x = torch.randn(2, 64, 3, 4)
    mean = x.mean(dim=(2, 3))
    hidden = (mean @ gate.squeeze.weight[:, :, 0, 0].T + gate.squeeze.bias).clamp(min=0)
    weight = 1 / (1 + (-(hidden @ gate.excite.weight[:, :, 0, 0].T + gate.excite.bias)).exp())
    assert torch.allclose(gate(x), x * weight[:, :, None, None], atol=1e-6)
    assert hidden.shape[1] == 4


def test_residual_blocks_by_hand() -> None:
    torch.manual_seed(0)
    block = NonBottleneck1D(4).eval()
    randomise_norms(block)
    first, _, second, norm1, _, third, _, fourth, norm2 = block.layers
    assert norm1.eps == norm2.eps == 1e-3
    assert [conv.weight.shape[2:] for conv in (first, second, third, fourth)] == [(3, 1), (1, 3)] * 2

    def conv(layer: nn.Module, x: Tensor) -> Tensor:
        return F.conv2d(x, layer.weight, layer.bias, padding=[size // 2 for size in layer.weight.shape[2:]])

    def norm(layer: nn.Module, x: Tensor) -> Tensor:
        return F.batch_norm(x, layer.running_mean, layer.running_var, layer.weight, layer.bias, eps=1e-3)

    x = torch.randn(2, 4, 5, 6)
    with torch.no_grad():
        y = norm(norm1, conv(second, conv(first, x).relu())).relu()
        y = norm(norm2, conv(fourth, conv(third, y).relu()))
        assert torch.allclose(block(x), (x + y).relu(), atol=1e-6)


def test_context_module_by_hand() -> None:
    torch.manual_seed(0)
    module = ContextModule(8, 6, (1, 5)).eval()
    x = torch.randn(2, 8, 7, 9)
    with torch.no_grad():
        one, five = (
            F.interpolate(branch(F.adaptive_avg_pool2d(x, bins)), (7, 9))
            for branch, bins in zip(module.branches, (1, 5), strict=True)
        )
        assert torch.allclose(module(x), module.merge(torch.cat([x, one, five], dim=1)), atol=1e-6)


# --- the network


def by_hand(system: MMANet, visible: Tensor | None, infrared: Tensor | None) -> Tensor:
    """Logits, the fusion written out band by band."""
    mean, std = system.band_input.mean, system.band_input.std
    a = None if visible is None else (visible - mean) / std
    b = None if infrared is None else (infrared - mean.mean()) / std.mean()
    fused = []
    for level in range(5):
        total = torch.zeros(())
        if a is not None:
            for layer in encoder_stages(system.visible)[level]:
                a = layer(a)
            total = total + system.visible_gates[level](a)
        if b is not None:
            for layer in encoder_stages(system.infrared)[level]:
                b = layer(b)
            total = total + system.infrared_gates[level](b)
        # The visible stream goes on from the sum, the infrared one from its own map.
        a = None if a is None else total
        fused.append(total)
    x = system.context(fused[4])
    for step, skip, level in zip(system.decoder.steps, system.skips, (3, 2, 1), strict=True):
        x = step.enlarge(step.body(x)) + skip(fused[level])
    return system.decoder.enlarge(system.decoder.head(x))


def test_the_network_by_hand() -> None:
    system = evaluated()
    visible, infrared = images(64, 96)
    with torch.no_grad():
        for given in ((visible, infrared), (None, infrared), (visible, None)):
            logits = system(*given).logits
            assert torch.allclose(logits, by_hand(system, *given), atol=1e-5)
            assert logits.std() > 0
        maps = system(visible, infrared, features=True).features
        assert [side.shape[2:] for side in maps.sides] == [(8, 12), (4, 6), (2, 3)]
        first = system.decoder.steps[0]
        assert torch.equal(maps.decoder, first.enlarge(first.body(maps.context)) + maps.skips[0])


@pytest.mark.parametrize(
    ("encoder", "channels"),
    [
        ("resnet18", (64, 64, 128, 256, 512)),
        ("tf_efficientnet_lite0", (16, 24, 40, 112, 320)),
    ],
)
def test_any_convolutional_encoder_will_do(encoder: str, channels: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    system = create("mmanet", classes=3, encoder=encoder, decoder_channels=8).eval()
    assert tuple(system.visible.out_channels[1:]) == tuple(system.infrared.out_channels[1:]) == channels
    visible, infrared = images(40, 70)
    with torch.no_grad():
        for given in ((visible, infrared), (None, infrared), (visible, None)):
            assert system(*given).logits.shape == (2, 3, 40, 70)


def test_infrared_starts_from_the_sums_over_colours(tmp_path: Path) -> None:
    torch.manual_seed(3)
    classifier = timm.create_model(TINY["encoder"])
    randomise_norms(classifier)
    path = as_safetensors(classifier.state_dict(), tmp_path)
    system = create("mmanet", classes=CLASSES, encoder_weights=path, **TINY).eval()
    reference = timm.create_model(TINY["encoder"], features_only=True).eval()
    reference.load_state_dict(classifier.state_dict(), strict=False)
    x = torch.randn(2, 1, 64, 96)
    with torch.no_grad():
        wanted = reference(x.repeat(1, 3, 1, 1))
        for ours, theirs in zip(system.infrared(x)[1:], wanted, strict=True):
            assert torch.allclose(ours, theirs, atol=1e-4)
    assert system.infrared.model.conv_stem.weight.shape[1] == 1


# --- bands


def test_infrared_alone_is_both_with_the_visible_maps_zeroed() -> None:
    system = evaluated()
    visible, infrared = images(64, 96)
    present = torch.tensor([[False, True], [False, True]])
    with torch.no_grad():
        zeroed = system.encode(visible, infrared, present)
        other = system.encode(1 - visible, infrared, present)
        alone = system.encode(None, infrared)
        whole = system.encode(visible, infrared)
        for level in range(5):
            assert torch.equal(zeroed[level], other[level])
            assert torch.allclose(zeroed[level], alone[level], atol=1e-6)
            assert not torch.allclose(zeroed[level], whole[level], atol=1e-3)
        lost = system.encode(visible, infrared, ~present)
        for ours, wanted in zip(lost, system.encode(visible, None), strict=True):
            assert torch.allclose(ours, wanted, atol=1e-6)


def test_each_pair_of_a_batch_can_lose_another_band() -> None:
    system = evaluated()
    visible, infrared = images(64, 96, batch=3)
    with torch.no_grad():
        mixed = system.encode(visible, infrared, torch.tensor([[True, False], [False, True], [True, True]]))
        alone = [
            system.encode(visible[:1], None),
            system.encode(None, infrared[1:2]),
            system.encode(visible[2:], infrared[2:]),
        ]
    for level in range(5):
        for pair, maps in enumerate(alone):
            assert torch.allclose(mixed[level][pair], maps[level][0], atol=1e-5)


@pytest.mark.parametrize(("band", "other"), [("infrared", "visible"), ("visible", "infrared")])
def test_one_band_runs_nothing_of_the_other(band: str, other: str) -> None:
    system = evaluated()
    ran: set[str] = set()
    for name, module in system.named_modules():
        module.register_forward_hook(lambda *_, name=name: ran.add(name))
    visible, infrared = images(32, 48)
    given = {"visible": visible, "infrared": infrared}
    with torch.no_grad():
        system(**{band: given[band]})
    assert any(name.startswith(f"{band}_gates.4") for name in ran)
    assert not {name for name in ran if name.startswith((f"{other}.", f"{other}_gates"))}
    # Side outputs are counted as deployed, as published, but only training runs them.
    assert not {name for name in ran if name.endswith(".side")}
    running = {id(p) for module in system.deployed(band) for p in module.parameters()}
    idle = {id(p) for part in (other, f"{other}_gates") for p in getattr(system, part).parameters()}
    assert running | idle == {id(p) for p in system.parameters()}
    assert not running & idle


def test_one_band_saves_an_encoder() -> None:
    """Its ResNet-50, by torchvision's code, is what infrared alone does not run, but for the small gates."""
    system = on_meta(9)
    with torch.device("meta"):
        flops = {bands: count_flops(system, bands, (480, 640)) for bands in system.supports}
        encoder = torchvision.models.resnet50().eval()
        encoder.fc = nn.Identity()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            encoder(torch.zeros(1, 3, 480, 640))
    saved = flops["both"] - flops["infrared"]
    assert 0 <= saved - counter.get_total_flops() < 1e-3 * saved
    assert flops["infrared"] < flops["visible"] < flops["both"]


def test_both_bands_alone_are_designed_where_they_are_trained_for() -> None:
    assert set(mmanet().supports.values()) == {"designed"}
    assert dict(mmanet(modality_dropout=False).supports) == {
        "both": "designed",
        "infrared": "fallback",
        "visible": "fallback",
    }


# --- modality dropout


def draws(system: MMANet, batch: int = 300, seed: int = 0) -> Tensor:
    torch.manual_seed(seed)
    with torch.no_grad():
        return system(*images(32, 32, batch=batch), features=True).features.present


def test_each_pair_draws_one_of_three_combinations() -> None:
    present = draws(mmanet())
    assert present.shape == (300, 2)
    assert present.any(dim=1).all()
    share = [(present == torch.tensor(combination)).all(dim=1).float().mean() for combination in DRAWS]
    # Five standard deviations of a share of a third of 300.
    assert all(abs(value - 1 / 3) < 5 * (2 / 9 / 300) ** 0.5 for value in share)
    assert not torch.equal(present, draws(mmanet(), seed=1))
    assert torch.equal(present, draws(mmanet()))


def test_nothing_is_dropped_otherwise() -> None:
    for system in (mmanet().eval(), mmanet(modality_dropout=False)):
        assert draws(system, 30).all()
    system = mmanet()
    visible, infrared = images(32, 64)
    assert system(visible, None).features.present.tolist() == [[True, False]] * 2
    assert system(None, infrared).features.present.tolist() == [[False, True]] * 2


def test_infrared_norms_see_the_images_that_are_dropped_too() -> None:
    """Its stream goes on from its own map, so that its statistics are those of inference."""
    dropping, whole = mmanet(), mmanet(modality_dropout=False)
    inputs = images(64, 64, batch=6)
    torch.manual_seed(0)
    present = dropping(*inputs).features.present
    assert not present[:, 1].all()
    whole(*inputs)
    ours, theirs = (dict(system.infrared.named_buffers()) for system in (dropping, whole))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert not torch.equal(dropping.visible.model.bn1.running_mean, torch.zeros(16))


# --- options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"uncertainty": "entropy"}, "uncertainty must be one of logits, feature, not 'entropy'"),
        ({"weak": "both"}, "weak must be one of mined, infrared, visible, not 'both'"),
        ({"max_rows": 1}, "max_rows must be 2 or more, not 1"),
        ({"distillation_weight": -1.0}, "distillation_weight must be 0 or more"),
        ({"regularisation_weight": float("nan")}, "regularisation_weight must be finite, not nan"),
        ({"warmup_epochs": -1}, "warmup_epochs must be 0 or more, not -1"),
        ({"decoder_channels": 0}, "decoder_channels must be 1 or more, not 0"),
        ({"context_bins": ()}, r"context_bins must be one number or more, each 1 or more, not \[\]"),
        ({"class_weights": [1.0, -2.0]}, r"class_weights must be numbers of 0 or more, not \[1.0, -2.0\]"),
        ({"class_weights": [float("nan")] * 5}, "class_weights must be finite"),
        ({"encoder": "convnext_atto"}, "encoder 'convnext_atto' does not fit: the encoder does not run as a"),
        ({"encoder": "mit_b0"}, "Mix Transformer is under a non-commercial licence"),
    ],
    ids=str,
)
def test_what_does_not_exist_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        mmanet(**options)


@pytest.mark.parametrize("modality_dropout", [True, False])
def test_class_weights_are_as_many_as_the_classes(modality_dropout: bool) -> None:
    system = mmanet(modality_dropout=modality_dropout, class_weights=[1.0, 2.0])
    with pytest.raises(OptionError, match="class_weights must be 5 numbers, one per class"):
        system.phases()


def test_variants_are_the_two_published_settings() -> None:
    plain, other = (create("mmanet", classes=4, variant=name, **TINY) for name in ("nyuv2", "cityscapes"))
    assert plain.settings == create("mmanet", classes=4, **TINY).settings
    assert (plain.settings.context_bins, other.settings.context_bins) == ((1, 5), (1, 2, 4, 8))
    assert make_training("mmanet", variant="nyuv2") == MMANetTraining()
    training = make_training("mmanet", variant="cityscapes")
    assert training == MMANetTraining(distillation_weight=10.0, regularisation_weight=0.1)
    assert (MMANetTraining().distillation_weight, MMANetTraining().regularisation_weight) == (4.0, 0.2)


@pytest.mark.parametrize("row", ABLATIONS, ids=str)
def test_ablations_keep_the_network(row: str) -> None:
    assert count_parameters(mmanet(**ABLATIONS[row])) == count_parameters(mmanet())
