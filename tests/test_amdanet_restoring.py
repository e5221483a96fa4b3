"""AMDANet with a reliability gate and reconstruction: bands that are missing or broken."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from skimage.metrics import structural_similarity
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from crossband.blocks.alignment import LocalAlignment
from crossband.pairs.batch import Batch
from crossband.systems.amdanet.consistency import SemanticConsistency, similarity
from crossband.systems.amdanet.network import AMDANet
from crossband.systems.amdanet.reliability import (
    ReliabilityEstimate,
    blend,
    break_band,
    reconstruction_loss,
    reliability_loss,
    surviving_structure,
    trust_of,
)
from crossband.weights import count_parameters
from tiny_systems import CLASSES, build, images, labelled, randomise_norms

BOTH = {"reliability_gate": True, "reconstruction": True}
OPTIONS = [{"reliability_gate": True}, {"reconstruction": True}, BOTH]
LOSSES = {"broken_ce", "broken_dice", "broken_fusion"}


def amdanet(**options: Any) -> AMDANet:
    """A small one in evaluation, whose layers all have a say."""
    torch.manual_seed(0)
    defaults = {"encoder": "mit_tiny", "decoder_channels": 16, "stochastic_depth": 0.0, "dropout": 0.0}
    system = build("amdanet", CLASSES, **{**defaults, **options})
    assert isinstance(system, AMDANet)
    for name, parameter in system.named_parameters():
        if parameter.ndim > 1 or "gamma_" in name:
            parameter.data.normal_(0, 0.3)
    randomise_norms(system)
    return system.double().eval()


def inputs(batch: int = 2) -> tuple[Tensor, Tensor]:
    visible, infrared = images(64, 96, batch=batch)
    return visible.double(), infrared.double()


def shut(system: AMDANet, band: int) -> None:
    """Make the estimates say that one band is not to be believed, and the other wholly, whatever they see."""
    for level in (1, 2, 3, 4):
        last = system.enc.part("reliability", level).last
        nn.init.zeros_(last.weight)
        last.bias.data = torch.tensor([60.0, 60.0], dtype=torch.float64)
        last.bias.data[band] = -60.0


# --- without the options


def test_without_the_options_nothing_is_added() -> None:
    plain = amdanet()
    names = {name for name, _ in plain.enc.named_children()}
    assert not {name for name in names if name.startswith(("reliability", "visible_from", "infrared_from"))}
    assert plain(*inputs()).reliability == {}


def test_what_the_options_add() -> None:
    with torch.device("meta"):
        counts = [
            count_parameters(build("amdanet", 9, encoder="mit_b1", **options)) for options in ({}, *OPTIONS)
        ]
    gate, reconstruction, both = (count - counts[0] for count in counts[1:])
    assert both == gate + reconstruction
    # Linear of 2 C to C / 4, 5 x 5 per channel, linear to 2, two norms; C = 64, 128, 320, 512.
    assert gate == sum(c * c // 2 + c // 4 + 26 * c // 4 + c // 2 + 2 + 4 * c for c in (64, 128, 320, 512))
    # Twice: norm, linear C to 2 C, 3 x 3 per channel, linear back.
    assert reconstruction == sum(2 * (4 * c * c + 2 * c + 2 * c + 20 * c + c) for c in (64, 128, 320, 512))


# --- a band that is missing


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_missing_band_is_what_the_system_is_for(options: dict[str, Any]) -> None:
    system = amdanet(**options)
    assert set(system.supports.values()) == {"designed"}
    (phase,) = system.phases()
    assert phase.validate == ("both", "infrared", "visible")


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize(("missing", "idle"), [(0, "rgb"), (1, "ir")])
def test_the_encoder_of_a_missing_band_does_not_run(options: dict[str, Any], missing: int, idle: str) -> None:
    system = amdanet(**options)
    ran: set[str] = set()
    for name, module in system.enc.named_modules():
        module.register_forward_hook(lambda *_, name=name: ran.add(name))
    given: list[Tensor | None] = list(inputs())
    given[missing] = None
    output = system(*given)
    other = {"rgb": "ir", "ir": "rgb"}[idle]
    assert any(name.startswith(f"{other}.stage") for name in ran)
    assert not {name for name in ran if name.startswith((f"{idle}.", "sci", "reliability"))}
    deployed = system.deployed("infrared" if missing == 0 else "visible")
    covered = {id(p) for module in deployed for p in module.parameters()}
    used = {id(p) for name in ran for p in system.enc.get_submodule(name).parameters(recurse=False)}
    assert used <= covered
    if options.get("reliability_gate"):
        bands = ("visible", "infrared")
        assert not output.reliability[bands[missing]].any()
        assert (output.reliability[bands[1 - missing]] == 1).all()
    else:
        assert output.reliability == {}


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("missing", [0, 1])
def test_training_treats_a_missing_band_as_inference_does(options: dict[str, Any], missing: int) -> None:
    """In training its image is there and counts nothing: in a batch beside a pair that has both."""
    system = amdanet(**options)
    pair = inputs()
    there = [torch.ones(2, 1, 1, 1, dtype=torch.float64) for _ in range(2)]
    there[missing][1] = 0
    levels, pictures, _ = system.encode(*pair, (there[0], there[1]))
    fused = system.fuse(levels.aligned, pictures)
    logits = system.segment(levels.shared, (64, 96))
    alone: list[Tensor | None] = [image[1:] for image in pair]
    alone[missing] = None
    wanted = system(*alone)
    assert torch.allclose(logits[1:], wanted.logits, atol=1e-9 * wanted.logits.abs().max().item())
    assert torch.allclose(fused[1:], wanted.fused, atol=1e-9)
    whole = system(*(image[:1] for image in pair))
    assert torch.allclose(logits[:1], whole.logits, atol=1e-9 * whole.logits.abs().max().item())
    assert torch.allclose(fused[:1], whole.fused, atol=1e-9)


@pytest.mark.parametrize("options", [{"reconstruction": True}, BOTH], ids=str)
@pytest.mark.parametrize("missing", [0, 1])
def test_the_norms_of_a_missing_bands_encoder_see_only_the_pairs_that_have_it(
    options: dict[str, Any], missing: int
) -> None:
    """What stands in for a missing band would spoil statistics that are used where the band is there."""
    system = amdanet(**options, encoder="test_efficientnet").train()
    seen: tuple[set[int], set[int]] = (set(), set())
    for pairs, pyramid in zip(seen, (system.enc.rgb, system.enc.ir), strict=True):
        for norm in pyramid.modules():
            if isinstance(norm, _BatchNorm):
                norm.register_forward_hook(lambda _, given, __, pairs=pairs: pairs.add(len(given[0])))
    there = [torch.ones(3, 1, 1, 1, dtype=torch.float64) for _ in range(2)]
    there[missing][2] = 0
    system.encode(*inputs(batch=3), (there[0], there[1]))
    assert seen[missing] == {2}
    assert seen[1 - missing] == {3}


def test_reconstruction_alone_leaves_both_bands_as_they_are() -> None:
    plain, system = amdanet(), amdanet(reconstruction=True)
    system.load_state_dict(plain.state_dict(), strict=False)
    assert torch.equal(system(*inputs()).logits, plain(*inputs()).logits)
    assert torch.equal(system(*inputs()).fused, plain(*inputs()).fused)


# --- a band that is not believed


@pytest.mark.parametrize("options", [{"reliability_gate": True}, BOTH], ids=str)
@pytest.mark.parametrize("band", [0, 1])
def test_a_band_that_is_not_believed_is_shut_out(options: dict[str, Any], band: int) -> None:
    """Whatever it shows, nothing changes; and what comes out is what comes out without it."""
    system = amdanet(**options)
    shut(system, band)
    pair: list[Tensor | None] = list(inputs())
    output = system(*pair)
    pair[band] = 1 - pair[band]  # type: ignore[operator]
    changed = system(*pair)
    assert torch.allclose(output.logits, changed.logits, atol=1e-9 * output.logits.abs().max().item())
    assert torch.allclose(output.fused, changed.fused, atol=1e-9)
    pair[band] = None
    alone = system(*pair)
    assert torch.allclose(output.logits, alone.logits, atol=1e-9 * output.logits.abs().max().item())
    assert torch.allclose(output.fused, alone.fused, atol=1e-9)
    name = ("visible", "infrared")[band]
    assert output.reliability[name].max() < 1e-20
    # The other way round, what is believed does matter.
    other = list(inputs())
    other[1 - band] = 1 - other[1 - band]
    assert not torch.allclose(system(*other).logits, output.logits)


@pytest.mark.parametrize("size", [(29, 29), (37, 50), (61, 90)], ids=str)
def test_without_padding_bands_are_weighed_at_any_size(size: tuple[int, int]) -> None:
    """A level of 7 places a side is followed by one of 4, whose last place covers one of them."""
    system = amdanet(**BOTH, padding="none")
    visible, infrared = (image.double() for image in images(*size))
    output = system(visible, infrared)
    assert {weight.shape for weight in output.reliability.values()} == {(2, 1, *size)}
    label = torch.randint(0, CLASSES, (2, *size), generator=torch.Generator().manual_seed(0))
    (phase,) = system.train().phases()
    terms = phase.loss(Batch(visible=visible, infrared=infrared, label=label))
    assert all(torch.isfinite(term) for term in terms.values())


def test_a_verdict_goes_on_as_the_mean_of_what_a_place_covers() -> None:
    estimate = ReliabilityEstimate(8).eval()
    nn.init.zeros_(estimate.last.weight)
    nn.init.zeros_(estimate.last.bias)
    before = torch.rand(1, 5, 7, 2)
    grid = torch.rand(1, 3, 4, 8)
    after = estimate(grid, grid, before)
    assert torch.allclose(after[0, 0, 0], before[0, :2, :2].mean(dim=(0, 1)))
    assert torch.allclose(after[0, 2, 1], before[0, 4, 2:4].mean(dim=0))
    assert torch.allclose(after[0, 2, 3], before[0, 4, 6])


def test_with_full_trust_the_gate_changes_nothing() -> None:
    plain, system = amdanet(), amdanet(**BOTH)
    system.load_state_dict(plain.state_dict(), strict=False)
    shut(system, 0)
    for level in (1, 2, 3, 4):
        system.enc.part("reliability", level).last.bias.data.fill_(60.0)
    output, wanted = system(*inputs()), plain(*inputs())
    assert torch.allclose(output.logits, wanted.logits, atol=1e-9 * wanted.logits.abs().max().item())
    assert torch.allclose(output.fused, wanted.fused, atol=1e-9)
    assert (output.reliability["visible"] > 1 - 1e-9).all()


def test_reliability_has_the_image_size_and_starts_near_one() -> None:
    torch.manual_seed(0)
    system = build("amdanet", CLASSES, encoder="mit_tiny", decoder_channels=16, **BOTH).eval()
    with torch.no_grad():
        output = system(*images(41, 55))
    assert set(output.reliability) == {"visible", "infrared"}
    for weight in output.reliability.values():
        assert weight.shape == (2, 1, 41, 55)
        assert ((weight > 0.9) & (weight < 1)).all()


def test_what_a_band_gives_to_the_other_is_weighed() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 1, 4, 4, 8, generator=generator)
    nothing, everything = torch.zeros(1, 4, 4, 1), torch.ones(1, 4, 4, 1)
    mixing = SemanticConsistency(8, gate="always")
    mixed = mixing(a, b, similarity(a, b), (nothing, everything))
    assert torch.equal(mixed[1], b)
    assert torch.equal(mixed[0], mixing(a, b, similarity(a, b))[0])
    aligning = LocalAlignment(8)
    plain, weighed = aligning(a, b), aligning(a, b, (nothing, everything))
    assert torch.allclose(weighed[0], plain[0])
    assert not torch.allclose(weighed[1], plain[1])
    assert all(torch.equal(x, y) for x, y in zip(aligning(a, b, (everything,) * 2), plain, strict=True))


def test_trust_by_hand() -> None:
    logits = torch.tensor([[0.0, 2.0], [-1.0, 1.0]]).view(2, 1, 1, 2)
    half, most = 0.5, torch.sigmoid(torch.tensor(2.0)).item()
    visible, infrared = trust_of(logits, None)  # type: ignore[misc]
    assert visible[0].item() == half
    assert infrared[0].item() == pytest.approx(most)
    there = torch.tensor([1.0, 0.0]).view(2, 1, 1, 1)
    visible, infrared = trust_of(logits, (there, torch.ones(2, 1, 1, 1)))  # type: ignore[misc]
    assert visible.flatten().tolist() == [half, 0]
    assert infrared.flatten().tolist() == pytest.approx([most, 1])
    assert trust_of(None, None) is None


def test_blending_by_hand() -> None:
    own, other = torch.tensor([4.0]), torch.tensor([8.0])
    assert blend(own, other, torch.tensor(0.25)).item() == 7
    assert blend(own, None, torch.tensor(0.25)).item() == 1


def test_a_level_starts_from_what_the_level_before_said() -> None:
    estimate = ReliabilityEstimate(8)
    nn.init.zeros_(estimate.last.weight)
    nn.init.zeros_(estimate.last.bias)
    grid = torch.randn(1, 4, 6, 8)
    assert (estimate(grid, grid, None) == 3).all()
    before = torch.arange(2 * 8 * 12.0).view(1, 8, 12, 2)
    said = estimate(grid, grid, before)
    assert torch.equal(said[0, 0, 0], before[0, :2, :2].mean(dim=(0, 1)))


# --- training


def loss_of(system: AMDANet, seed: int) -> dict[str, Tensor]:
    (phase,) = system.phases()
    batch = labelled(batch=3)
    batch.visible, batch.infrared = batch.visible.double(), batch.infrared.double()  # type: ignore[union-attr]
    torch.manual_seed(seed)
    return dict(phase.loss(batch))


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_half_of_the_pairs_are_trained_on_once_more_with_a_broken_band(options: dict[str, Any]) -> None:
    system = amdanet(**options, gate="always").train()
    sizes: list[int] = []
    system.seg.register_forward_hook(lambda module, arguments, result: sizes.append(len(result)))
    names: set[str] = set()
    for seed in range(8):
        terms = loss_of(system, seed)
        assert all(torch.isfinite(term) for term in terms.values())
        assert terms.keys() >= LOSSES
        names |= terms.keys() - LOSSES
        torch.stack(list(terms.values())).sum().backward()
    # Three pairs and two of them again; the masked pass has the three.
    assert set(sizes) == {5, 3}
    assert ("reconstruction" in names) == bool(options.get("reconstruction"))
    assert ("reliability" in names) == bool(options.get("reliability_gate"))
    assert not [name for name, p in system.named_parameters() if p.grad is None or not p.grad.any()]


def test_the_clean_part_is_trained_as_without_the_options() -> None:
    """In evaluation mode of the norms, the terms of the pairs as they are do not know of the broken ones."""
    plain, system = amdanet(a3=0.0), amdanet(a3=0.0, reconstruction=True)
    system.load_state_dict(plain.state_dict(), strict=False)
    for network in (plain, system):
        network.train()
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
    wanted, terms = loss_of(plain, 0), loss_of(system, 0)
    for name, value in wanted.items():
        assert terms[name].item() == pytest.approx(value.item(), rel=1e-5)


def test_the_gradient_of_a_reconstruction_stops_at_its_target() -> None:
    predicted, true = torch.zeros(2, 3, 3, 4, requires_grad=True), torch.randn(2, 3, 3, 4, requires_grad=True)
    reconstruction_loss(predicted, true).backward()
    assert true.grad is None
    assert predicted.grad is not None


def test_a_reconstruction_by_the_channels_means_costs_one() -> None:
    true = torch.randn(2, 5, 5, 4, dtype=torch.float64) * 7 + 3
    means = true.mean(dim=(0, 1, 2), keepdim=True).expand_as(true)
    assert reconstruction_loss(means, true).item() == pytest.approx(1, rel=1e-5)
    assert reconstruction_loss(true, true) == 0
    # A constant can be predicted: nothing is divided by zero.
    assert torch.isfinite(reconstruction_loss(torch.zeros(1, 2, 2, 2), torch.zeros(1, 2, 2, 2)))


def test_reliability_loss_by_hand() -> None:
    wanted = torch.tensor([[1.0, 0.0], [0.0, 0.0]]).view(1, 1, 2, 2)
    loss = reliability_loss(torch.tensor([[[0.0]]]), wanted)
    assert loss.item() == pytest.approx(torch.tensor(2.0).log().item())
    # At the logit of the mean, 1/4, the gradient is 0.
    logit = torch.tensor([[[0.25]]]).logit().requires_grad_()
    reliability_loss(logit, wanted).backward()
    assert logit.grad.abs().max() < 1e-6


# --- broken images


def test_broken_bands_are_in_range_new_and_seeded() -> None:
    image = images(40, 50, batch=64)[0] * 0.6 + 0.2
    original = image.clone()
    torch.manual_seed(1)
    broken = break_band(image)
    assert torch.equal(image, original)
    assert broken.shape == image.shape
    assert 0 <= broken.min() <= broken.max() <= 1
    torch.manual_seed(1)
    assert torch.equal(break_band(image), broken)
    assert not torch.equal(break_band(image), broken)
    assert (broken - image).abs().amax(dim=(1, 2, 3)).min() > 0.05
    # All four troubles occur: white-out, darkness, blocks that leave the rest as it was, noise.
    bright, dark = broken.mean(dim=(1, 2, 3)) > 0.75, broken.mean(dim=(1, 2, 3)) < 0.15
    untouched = (broken == image).float().mean(dim=(1, 2, 3))
    blocks = untouched > 0.2
    others = ~(bright | dark | blocks)
    assert all(kind.sum() >= 5 for kind in (bright, dark, blocks, others))


def test_surviving_structure_is_ssim() -> None:
    """scikit-image, away from the border, where it reflects and ours shrinks its window."""
    image, other = images(40, 50)[1], images(40, 50, seed=1)[1]
    broken = 0.7 * image + 0.3 * other
    result = surviving_structure(image, broken)
    for i in range(2):
        _, wanted = structural_similarity(
            image[i, 0].double().numpy(),
            broken[i, 0].double().numpy(),
            win_size=11,
            data_range=1,
            use_sample_covariance=False,
            full=True,
        )
        assert torch.allclose(result[i, 0, 6:-6, 6:-6], torch.tensor(wanted).float()[6:-6, 6:-6], atol=1e-4)


def test_surviving_structure_of_what_is_left_and_what_is_gone() -> None:
    visible = images(40, 50)[0]
    assert torch.allclose(surviving_structure(visible, visible), torch.ones(2, 1, 40, 50), atol=1e-4)
    gone = torch.where(torch.arange(50) < 25, visible, 1.0)
    left = surviving_structure(visible, gone)
    assert left[..., :19].min() > 0.999
    assert left[..., 31:].max() < 0.05
    # A dark flat image that stays as it is has lost nothing.
    flat = torch.full((1, 3, 20, 20), 0.1)
    assert torch.allclose(surviving_structure(flat, flat), torch.ones(1, 1, 20, 20), atol=1e-4)
    assert surviving_structure(flat, torch.ones_like(flat)).max() < 0.3
