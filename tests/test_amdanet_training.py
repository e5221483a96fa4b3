"""What AMDANet is trained on: the factored loss, the masked pass, fewer bands, no labels, its recipe."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from crossband.blocks.pyramid_encoder import LEVELS
from crossband.errors import OptionError
from crossband.losses.fusion import fusion_loss
from crossband.losses.segmentation import cross_entropy, smoothed_dice
from crossband.pairs.batch import Batch
from crossband.systems.amdanet.network import AMDANet
from crossband.training.resolving import ResolvedTraining
from crossband.words import IGNORE_INDEX
from overfitting import SCENE_CLASS_COUNT, fit, four_scenes, mean_iou
from tiny_runs import resolved
from tiny_systems import CLASSES, build, labelled

SEGMENTATION, FUSION = {"ce", "dice"}, {"intensity", "gradient", "colour"}
MASKED = {"masked_ce", "masked_dice", "masked_fusion"}


def amdanet(classes: int | None = CLASSES, **options: Any) -> AMDANet:
    """A small one in training, without dropout and stochastic depth."""
    torch.manual_seed(0)
    defaults = {"encoder": "mit_tiny", "decoder_channels": 16, "stochastic_depth": 0.0, "dropout": 0.0}
    system = build("amdanet", classes, **{**defaults, **options})
    assert isinstance(system, AMDANet)
    return system


def loss_of(system: AMDANet, batch: Batch, seed: int = 0) -> dict[str, Tensor]:
    (phase,) = system.phases()
    torch.manual_seed(seed)
    return dict(phase.loss(batch))


def unlabelled() -> Batch:
    return replace(labelled(), label=None)


def seed_of_case(first: bool) -> int:
    """A seed whose first draw is the first case of the masked pass, or the second."""
    for seed in range(100):
        torch.manual_seed(seed)
        if bool(torch.rand(()) < 0.5) is first:
            return seed
    raise AssertionError


# --- the terms


def test_the_terms_are_the_factored_form_of_the_published_loss() -> None:
    """total = CE + 2 D + 1/2 L_fus + 1/4 CE_m + 1/2 D_m + 1/4 L_fus_m, as the published code adds it up."""
    system, batch = amdanet(), labelled()
    terms = loss_of(system, batch, seed_of_case(False))
    assert set(terms) == SEGMENTATION | FUSION | MASKED
    label = batch.label
    output = system(batch.visible, batch.infrared, features=True)
    torch.manual_seed(seed_of_case(False))
    masked_logits, masked_fused = system.masked(output.features.levels, output.features.pictures)
    pair = batch.visible, batch.infrared
    total = cross_entropy(output.logits, label) + 2 * smoothed_dice(output.logits, label)
    total += 0.5 * torch.stack(list(fusion_loss(output.fused, *pair).values())).sum()
    total += 0.25 * cross_entropy(masked_logits, label) + 0.5 * smoothed_dice(masked_logits, label)
    total += 0.25 * torch.stack(list(fusion_loss(masked_fused, *pair).values())).sum()
    assert torch.stack(list(terms.values())).sum().item() == pytest.approx(total.item(), rel=1e-5)


@pytest.mark.parametrize(("option", "changed"), [("a1", SEGMENTATION), ("a2", FUSION), ("a3", MASKED)])
def test_each_weight_scales_its_own_terms(option: str, changed: set[str]) -> None:
    plain, double = loss_of(amdanet(), labelled()), loss_of(amdanet(**{option: 2.0}), labelled())
    factor = 2.0 if option == "a1" else 4.0
    for name, value in plain.items():
        expected = value.item() * (factor if name in changed else 1)
        assert double[name].item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("options", "name", "factor"),
    [
        ({"dice_weight": 1.0}, "dice", 0.5),
        ({"masked_ce_weight": 1.0}, "masked_ce", 2),
        ({"masked_dice_weight": 3.0}, "masked_dice", 3),
        ({"masked_fusion_weight": 0.1}, "masked_fusion", 0.2),
        ({"intensity_weight": 1.0}, "intensity", 2),
        ({"gradient_weight": 3.0}, "gradient", 3),
        ({"colour_weight": 4.0}, "colour", 4),
    ],
)
def test_weights_of_single_terms(options: dict[str, Any], name: str, factor: float) -> None:
    plain, changed = loss_of(amdanet(), labelled())[name], loss_of(amdanet(**options), labelled())[name]
    assert changed.item() == pytest.approx(factor * plain.item(), rel=1e-5)


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"dice_classes": "all"}, {"dice", "masked_dice"}),
        ({"dice_ignored_as_zero": True}, {"dice", "masked_dice"}),
        ({"gradient_target": "magnitude"}, {"gradient", "masked_fusion"}),
        ({"fusion_gamma": 0.5}, FUSION | {"masked_fusion"}),
        ({"fusion_mean": "all"}, FUSION | {"masked_fusion"}),
    ],
)
def test_choices_reach_their_terms(options: dict[str, Any], names: set[str]) -> None:
    batch = labelled()
    batch.label = torch.where(batch.label == 3, 2, batch.label)  # type: ignore[index]
    batch.valid = torch.ones(2, 64, 96, dtype=torch.bool)
    batch.valid[:, 40:] = False
    plain, changed = loss_of(amdanet(), batch), loss_of(amdanet(**options), batch)
    differing = {name for name in plain if not torch.isclose(plain[name], changed[name], rtol=1e-5, atol=0)}
    assert differing == names


def test_ignored_and_padded_pixels_change_no_term() -> None:
    """A batch norm sees every pixel, so the network is in evaluation; what is compared are the losses."""
    system = amdanet().eval()
    batch = labelled()
    batch.label[:, 32:] = IGNORE_INDEX  # type: ignore[index]
    batch.valid = torch.ones(2, 64, 96, dtype=torch.bool)
    batch.valid[:, 32:] = False
    terms = loss_of(system, batch)
    assert set(terms) == SEGMENTATION | FUSION
    other = replace(batch)
    other.visible = batch.visible.clone()  # type: ignore[union-attr]

    def pretend(*_: object, **__: object) -> Any:
        output = AMDANet.forward(system, batch.visible, batch.infrared, features=True)
        output.logits[:, :, 32:] = 7.0
        output.fused[:, :, 32:] = 0.1
        return output

    system.forward = pretend  # type: ignore[method-assign]
    changed = loss_of(system, other)
    assert {name: value.item() for name, value in changed.items()} == pytest.approx(
        {name: value.item() for name, value in terms.items()}
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("options", [{}, {"reliability_gate": True, "reconstruction": True}])
def test_losses_in_half_precision_are_near(dtype: torch.dtype, options: dict[str, Any]) -> None:
    full = loss_of(amdanet(**options), labelled())
    with torch.autocast("cpu", dtype=dtype):
        half = loss_of(amdanet(**options), labelled())
    assert full.keys() == half.keys()
    for name, value in half.items():
        assert value.dtype == torch.float32
        assert value.item() == pytest.approx(full[name].item(), rel=0.1, abs=0.02)


# --- the masked pass


def masked_of(first: bool, **options: Any) -> tuple[AMDANet, Any, Any]:
    system, batch = amdanet(**options), labelled()
    output = system(batch.visible, batch.infrared, features=True)
    torch.manual_seed(seed_of_case(first))
    return system, output, system.masked(output.features.levels, output.features.pictures)


def test_one_case_masks_the_shared_maps_and_leaves_the_picture() -> None:
    _, output, (logits, fused) = masked_of(True)
    assert fused is None
    assert not torch.allclose(logits, output.logits, atol=1e-4)


def test_the_other_case_masks_the_maps_of_both_bands_and_leaves_the_logits() -> None:
    _, output, (logits, fused) = masked_of(False)
    assert torch.allclose(logits, output.logits, atol=1e-5)
    assert not torch.allclose(fused, output.fused, atol=1e-4)
    # But for dropout, which is drawn anew.
    _, output, (logits, _) = masked_of(False, dropout=0.5)
    assert not torch.allclose(logits, output.logits, atol=1e-4)


def test_a_share_of_the_elements_is_zeroed_and_the_others_stay() -> None:
    system, output, _ = masked_of(False)
    seen: list[Tensor] = []
    system.fus.register_forward_pre_hook(lambda module, arguments: seen.extend(arguments[0] + arguments[1]))
    torch.manual_seed(seed_of_case(False))
    system.masked(output.features.levels, output.features.pictures)
    aligned = output.features.levels.aligned
    originals = [x for x, _ in aligned] + [y for _, y in aligned]
    assert len(seen) == len(originals) == 8
    for masked, original in zip(seen, originals, strict=True):
        kept = masked != 0
        assert torch.equal(masked[kept], original[kept])
        # Of 2048 elements at least: four standard deviations of a share of 0.85.
        assert kept.float().mean().item() == pytest.approx(0.85, abs=4 * (0.85 * 0.15 / kept.numel()) ** 0.5)
    assert masked_of(True, mask_keep=1.0)[2][0] is not None


@pytest.mark.parametrize("first", [True, False])
def test_one_band_can_be_masked_before_the_alignment(first: bool) -> None:
    system, output, (logits, fused) = masked_of(first, mask_site="modality")
    assert not torch.allclose(logits, output.logits, atol=1e-5)
    assert not torch.allclose(fused, output.fused, atol=1e-5)
    levels = output.features.levels
    given: list[tuple[Tensor, Tensor]] = []
    align = system.enc.align
    system.enc.align = lambda level, x, y, trust: (given.append((x, y)), align(level, x, y, trust))[1]
    system.masked(output.features.levels, output.features.pictures)
    assert len(given) == len(LEVELS)
    untouched = {
        band
        for pair, original in zip(given, levels.unaligned, strict=True)
        for band in (0, 1)
        if torch.equal(pair[band], original[band])
    }
    assert len(untouched) == 1


def test_both_bands_get_their_turn_when_one_is_masked() -> None:
    drawn = {masked_of(first, mask_site="modality")[2][0].sum().item() for first in (True, False)}
    assert len(drawn) == 2


def test_without_its_weight_there_is_no_masked_pass() -> None:
    system = amdanet(a3=0.0)
    runs: list[object] = []
    system.fus.register_forward_hook(lambda *_: runs.append(None))
    assert set(loss_of(system, labelled())) == SEGMENTATION | FUSION
    assert len(runs) == 1


def test_evaluation_of_the_loss_draws_nothing() -> None:
    system = amdanet(reliability_gate=True, reconstruction=True).eval()
    assert loss_of(system, labelled(), seed=0) == loss_of(system, labelled(), seed=1)


# --- fewer bands, no labels


@pytest.mark.parametrize("bands", ["infrared", "visible"])
def test_with_one_band_only_the_labels_are_left(bands: Any) -> None:
    batch = labelled().only(bands)
    for options in ({}, {"reliability_gate": True, "reconstruction": True}):
        terms = loss_of(amdanet(**options), batch)
        assert set(terms) == SEGMENTATION | {"masked_ce", "masked_dice"}
        assert torch.isfinite(torch.stack(list(terms.values()))).all()


def test_without_labels_the_picture_alone_is_trained() -> None:
    system = amdanet(None)
    for batch in (unlabelled(), labelled()):
        terms = loss_of(system, batch)
        assert set(terms) == FUSION | {"masked_fusion"}
    torch.stack(list(terms.values())).sum().backward()
    # At its identity start, of a local alignment only the steps are moved by a loss.
    moved = {name: p for name, p in system.named_parameters() if ".local" not in name or "gamma_" in name}
    assert all(p.grad is not None and p.grad.any() for p in moved.values())
    # Its maps are masked every time: there is no other case.
    assert len({loss_of(system, unlabelled(), seed)["masked_fusion"].item() for seed in range(5)}) == 5
    with pytest.raises(OptionError, match=r"takes both bands; leave out augmentation.band_dropout"):
        loss_of(system, unlabelled().only("infrared"))


def test_a_batch_without_labels_trains_the_picture_of_a_system_that_segments() -> None:
    assert set(loss_of(amdanet(), unlabelled())) == FUSION | {"masked_fusion"}


# --- the recipe


def options(recipe: str) -> ResolvedTraining:
    return resolved("amdanet", recipe)


def test_recipe_of_the_published_code() -> None:
    """MFNet: 131 steps per epoch, 45850 in all, of which 6550 warm up."""
    published = options("as-published").recipe()
    assert (published.optimizer, published.lr, published.weight_decay) == ("adamw", 6.3e-5, 0.01)
    assert (published.batch_size, published.epochs, published.decay_norms) == (6, 350, False)
    steps = {step: published.learning_rate(step // 131, step, 131) for step in (0, 1, 2, 6550, 6551, 45849)}
    # Step j has the rate of step j - 1; the first has the base rate.
    assert steps[0] == 6.3e-5
    assert steps[1] == 0
    assert steps[2] == pytest.approx(6.3e-5 / 6550)
    assert steps[6550] == pytest.approx(6.3e-5 * 6549 / 6550)
    assert steps[6551] == pytest.approx(6.3e-5 * (1 - 6550 / 45850) ** 0.9)
    assert steps[6551] / 6.3e-5 == pytest.approx(0.870, abs=1e-3)
    assert steps[45849] == pytest.approx(6.3e-5 * (2 / 45850) ** 0.9)


def test_the_default_recipe_sets_the_rate_in_time_and_without_a_jump() -> None:
    recipe = options("paper").recipe()
    rates = [recipe.learning_rate(step // 131, step, 131) for step in range(0, 45850, 131)]
    assert max(rates) < 6.3e-5
    assert recipe.learning_rate(0, 0, 131) == pytest.approx(6.3e-5 / 6551)
    jumps = [abs(after - before) for before, after in pairwise(rates)]
    assert max(jumps) < 6.3e-5 / 49


def test_augmentations_of_the_published_code() -> None:
    for recipe in ("paper", "as-published"):
        augmentation = options(recipe).augmentation()
        assert (augmentation.crop, augmentation.scale, augmentation.flip) == ((480, 640), (0.5, 1.75), 0.5)
    assert options("quick").augmentation().crop is None
    assert options("quick").recipe().optimizer == "adamw"


# --- it learns


@pytest.mark.slow
def test_it_overfits_four_scenes_in_classes_and_picture() -> None:
    batch = four_scenes()
    system = amdanet(SCENE_CLASS_COUNT, decoder_channels=64)
    (phase,) = system.phases()
    course = fit(phase, batch, 150, 1e-2)
    fusion = [sum(terms[name] for name in FUSION) for terms in course]
    assert sum(fusion[-10:]) / 10 < 0.5 * fusion[0]
    # A masked pass is all that trains the masked terms, and it learns too.
    masked = [sum(terms[name] for name in MASKED) for terms in course]
    assert sum(masked[-10:]) / 10 < 0.5 * masked[0]
    assert mean_iou(system, batch) > 0.8
