"""CEN's training: its losses, its batch norms, its recipe, and that it learns."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from crossband.recipe import Recipe
from crossband.systems import create
from crossband.systems.cen.network import CEN
from crossband.systems.cen.sparsity import halved_sparsity
from crossband.systems.cen.training import CENTraining
from crossband.training.engine import train
from crossband.training.phase_module import PhaseModule
from crossband.weights import load_run
from crossband.words import IGNORE_INDEX
from overfitting import SCENE_CLASS_COUNT, fit, four_scenes, mean_iou
from test_cen import cen, norms_of, site_norms
from tiny_runs import curves_without_seconds, tiny_options
from tiny_systems import CLASSES, TINY, images, labelled, randomise_norms

# --- ensemble and losses


def test_the_prediction_is_the_weighted_sum_of_the_streams() -> None:
    system = cen().eval()
    randomise_norms(system)
    system.ensemble.alpha.data = torch.tensor([0.3, -1.2])
    with torch.no_grad():
        output = system(*images(40, 50), features=True)
    share = 1 / (1 + torch.tensor(-1.2 - 0.3).exp())
    wanted = share * output.branches["visible"] + (1 - share) * output.branches["infrared"]
    assert torch.allclose(output.logits, wanted, atol=1e-5)


def test_the_streams_get_no_gradient_from_the_ensemble_and_it_none_from_them() -> None:
    system = cen()
    (phase,) = system.phases()
    terms = phase.loss(labelled())
    alpha = system.ensemble.alpha
    others = [p for p in system.parameters() if p is not alpha]
    for name, term in terms.items():
        of_alpha, *rest = torch.autograd.grad(term, [alpha, *others], retain_graph=True, allow_unused=True)
        assert (of_alpha is not None and bool(of_alpha.any())) == (name == "ce_ensemble"), name
        assert any(gradient is not None for gradient in rest) == (name != "ce_ensemble"), name


def test_loss_terms_by_hand() -> None:
    weight = 3e-3
    system = cen(sparsity_weight=weight, dropout=0.0)
    randomise_norms(system)
    (phase,) = system.phases()
    batch = labelled()
    assert batch.label is not None
    terms = phase.loss(batch)
    output = system(batch.visible, batch.infrared)
    logits = {"ensemble": output.logits, **output.branches}
    assert set(terms) == {*(f"ce_{name}" for name in logits), "sparsity"}
    for name, values in logits.items():
        wanted = F.cross_entropy(values, batch.label, ignore_index=IGNORE_INDEX)
        assert torch.allclose(terms[f"ce_{name}"], wanted, rtol=1e-4)
    total = 0.0
    for of_visible, of_infrared in zip(site_norms(system.visible), site_norms(system.infrared), strict=True):
        half = of_visible.num_features // 2
        total += of_visible.weight[:half].abs().sum().item() + of_infrared.weight[half:].abs().sum().item()
    # Once for each of the three outputs.
    assert terms["sparsity"].item() == pytest.approx(3 * weight * total, rel=1e-5)


def test_the_penalty_pulls_on_disjoint_halves_of_the_sites_scales_alone() -> None:
    system = cen(sparsity_weight=0.5)
    randomise_norms(system)
    (phase,) = system.phases()
    phase.loss(labelled())["sparsity"].backward()
    for encoder, first in ((system.visible, True), (system.infrared, False)):
        sites = site_norms(encoder)
        assert len(sites) == 11
        for norm in sites:
            assert norm.weight.grad is not None
            half = norm.num_features // 2
            pulled, free = norm.weight.grad[:half], norm.weight.grad[half:]
            if not first:
                pulled, free = free, pulled
            assert torch.equal(pulled, torch.full_like(pulled, 1.5))
            assert not free.any()
        of_sites = {id(norm.weight) for norm in sites}
        assert all(p.grad is None for p in encoder.parameters() if id(p) not in of_sites)


def test_penalty_of_an_odd_number_of_channels() -> None:
    visible, infrared = torch.tensor([1.0, -2.0, 4.0]), torch.tensor([8.0, 16.0, -32.0])
    assert halved_sparsity([visible], [infrared]).item() == 1 + 16 + 32
    assert halved_sparsity([visible, visible], [infrared, infrared]).item() == 2 * 49


@pytest.mark.parametrize("options", [{"exchange": False}, {"sparsity_weight": 0.0}], ids=str)
def test_no_exchange_no_penalty(options: dict[str, Any]) -> None:
    (phase,) = cen(**options).phases()
    assert set(phase.loss(labelled())) == {"ce_visible", "ce_infrared", "ce_ensemble"}


@pytest.mark.parametrize("band", ["visible", "infrared"])
def test_a_batch_that_misses_a_band_trains_the_other_stream(band: str) -> None:
    system = cen()
    (phase,) = system.phases()
    batch = labelled()
    terms = phase.loss(batch.only(band))  # type: ignore[misc, literal-required]
    assert set(terms) == {f"ce_{band}"}
    terms[f"ce_{band}"].backward()
    other = system.infrared if band == "visible" else system.visible
    assert all(p.grad is None for norm in norms_of(other) for p in norm.parameters())


# --- batch norms


def test_the_streams_norms_collect_the_statistics_of_their_own_band() -> None:
    system = cen(exchange=False)
    visible, infrared = images(64, 96)
    stem = system.visible.model.conv_stem
    with torch.no_grad():
        means = [stem(system.band_input(image)).mean(dim=(0, 2, 3)) for image in (visible, infrared)]
        system(visible, infrared)
    for encoder, mean in zip((system.visible, system.infrared), means, strict=True):
        assert torch.allclose(encoder.model.bn1.running_mean, 0.1 * mean, atol=1e-6)


def test_frozen_norms_keep_their_statistics_and_train_their_scales() -> None:
    system = cen(freeze_bn=True)
    randomise_norms(system)
    assert not any(norm.training for norm in norms_of(system))
    assert system.training
    assert system.decoder.dropout.training
    before = {name: buffer.clone() for name, buffer in system.named_buffers()}
    (phase,) = system.phases()
    torch.stack(list(phase.loss(labelled()).values())).sum().backward()
    assert all(torch.equal(buffer, before[name]) for name, buffer in system.named_buffers())
    assert all(norm.weight.grad is not None and norm.weight.grad.any() for norm in norms_of(system))
    system.eval().train()
    assert not any(norm.training for norm in norms_of(system))
    assert all(norm.training for norm in norms_of(cen().eval().train()))


def test_the_published_variant_freezes_them() -> None:
    published = cen(variant="as-published")
    assert published.settings.freeze_bn
    assert not any(norm.training for norm in norms_of(published))
    assert not cen().settings.freeze_bn


# --- recipe


def test_published_rates() -> None:
    """Thirds of 67, 67 and 66 epochs: 5e-4, 2.5e-4, 1e-4, and in the decoder 3e-3, 1.5e-3, 7e-4."""
    recipe = Recipe().replace(CENTraining.recipes["paper"])
    rates = {
        name: [recipe.of_group(name).learning_rate(e, e, 1) for e in range(200)] for name in ("", "decoder")
    }
    assert rates[""] == pytest.approx([5e-4] * 67 + [2.5e-4] * 67 + [1e-4] * 66)
    assert rates["decoder"] == pytest.approx([3e-3] * 67 + [1.5e-3] * 67 + [7e-4] * 66)
    assert (recipe.optimizer, recipe.momentum, recipe.weight_decay, recipe.nesterov) == (
        "sgd",
        0.9,
        1e-5,
        False,
    )
    own = Recipe().replace(CENTraining.recipes["as-published"])
    assert (own.epochs, own.batch_size) == (300, 6)
    changes = [
        e for e, (a, b) in enumerate(pairwise([own.learning_rate(e, e, 1) for e in range(300)]), 1) if a != b
    ]
    assert changes == [100, 200]


def test_a_label_without_any_counted_pixel_costs_only_the_penalty() -> None:
    (phase,) = cen().phases()
    batch = labelled()
    terms = phase.loss(replace(batch, label=torch.full((2, 64, 96), IGNORE_INDEX)))
    assert {name for name, term in terms.items() if term.item() != 0} == {"sparsity"}


def test_the_decoder_and_the_ensemble_have_rates_of_their_own() -> None:
    system = cen()
    (phase,) = system.phases()
    recipe = Recipe().replace(CENTraining.recipes["paper"])
    groups = PhaseModule(phase, recipe, CLASSES, seed=0).configure_optimizers().param_groups
    members = {group["name"]: {id(p) for p in group["params"]} for group in groups}
    assert set(members) == {"", "decoder"}
    assert members["decoder"] == {id(p) for m in (system.decoder, system.ensemble) for p in m.parameters()}
    assert members[""] == {id(p) for m in (system.visible, system.infrared) for p in m.parameters()}


# --- it learns


@pytest.mark.parametrize("recipe", ["paper", "common", "quick", "as-published"])
def test_a_run_from_training_to_the_stored_system(recipe: str, tmp_path: Path) -> None:
    options = tiny_options(
        tmp_path / "run",
        "cen",
        variant="as-published" if recipe == "as-published" else None,
        network={"decoder_channels": 8},
        recipe={"name": recipe, "epochs": 2, "batch_size": 2},
        augmentation={} if recipe in ("common", "quick") else {"crop": [32, 48]},
    )
    folder = train(options, quiet=True)
    rows = curves_without_seconds(folder)
    assert len(rows) == 2
    assert all(float(row["sparsity"]) > 0 and 0 <= float(row["val_miou_both"]) <= 1 for row in rows)
    system, card = load_run(folder)
    assert isinstance(system, CEN)
    assert system.settings.freeze_bn == (recipe == "as-published")
    assert (
        card.training["recipes"]["segmentation"]["groups"].keys()
        == CENTraining.recipes.get(recipe, {}).get("groups", {}).keys()
    )
    again, _ = load_run(folder)
    with torch.no_grad():
        pair = images(40, 50)
        assert torch.equal(system.eval()(*pair).logits, again.eval()(*pair).logits)


@pytest.mark.slow
def test_it_overfits_four_scenes() -> None:
    batch = four_scenes()
    torch.manual_seed(0)
    # Without dropout: what is asked is whether it can learn these four by heart.
    system = create(
        "cen", classes=SCENE_CLASS_COUNT, encoder=TINY["encoder"], decoder_channels=32, dropout=0.0
    )
    (phase,) = system.phases()
    decoder = phase.groups["decoder"]
    fit(
        phase,
        batch,
        150,
        4e-3,
        before_step=lambda: torch.nn.utils.clip_grad_norm_(decoder.parameters(), 1.0),
    )
    for bands in ("both", "infrared"):
        assert mean_iou(system, batch, bands) > 0.85, bands
