"""How SegMiF learns: two networks in turns, each on what the other makes, and a run from end to end."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from crossband.blocks.luma import luma
from crossband.cli import main
from crossband.loading import load
from crossband.losses.segmentation import cross_entropy
from crossband.pairs.batch import Batch
from crossband.recipe import Recipe
from crossband.systems import create
from crossband.systems.base import Phase
from crossband.systems.segmif.network import SegMiF
from crossband.systems.segmif.pseudo_target import imitation_loss, likeness_loss, pseudo_target
from crossband.training.curves import read_curves
from crossband.training.engine import train
from crossband.training.phase_module import PhaseModule
from overfitting import SCENE_CLASS_COUNT, fit, four_scenes, mean_iou
from tiny_runs import resolved, tiny_options
from tiny_systems import CLASSES, TINY, build, labelled, resting, tiny


def segmif(**options: Any) -> SegMiF:
    """A small one without anything random in training."""
    system = tiny("segmif", **{"encoder": "mit_tiny", "stochastic_depth": 0.0, "dropout": 0.0, **options})
    assert isinstance(system, SegMiF)
    return system


def phase_of(system: SegMiF, name: str) -> Phase:
    (phase,) = [phase for phase in system.phases() if phase.name == name]
    return phase


def loss_of(system: SegMiF, name: str, batch: Batch) -> dict[str, Tensor]:
    return dict(phase_of(system, name).loss(batch))


# --- phases


def test_phases_take_turns() -> None:
    system = segmif(rounds=3)
    phases = system.phases()
    assert [phase.name for phase in phases] == [
        f"{part}-{number}" for number in (1, 2, 3) for part in ("fusion", "segmentation")
    ]
    for phase in phases:
        fuses = phase.name.startswith("fusion")
        assert phase.trained is (system.fusion if fuses else system.segmenter)
        assert phase.frozen == ((system.segmenter,) if fuses else (system.fusion,))
        assert phase.keeps is system
        assert phase.chosen_by == ("loss" if fuses else "score")
        assert phase.validate == ("both",)
    assert phases[1].groups["head"] is system.segmenter.head
    assert len(build("segmif", 3, encoder="mit_tiny", fusion_width=8).phases()) == 14


def test_each_phase_moves_what_it_trains_and_nothing_else() -> None:
    system = segmif()
    for phase in system.phases():
        before = {key: value.clone() for key, value in system.state_dict().items()}
        with resting(phase):
            phase.trained.train()
            optimiser = torch.optim.SGD(phase.trained.parameters(), lr=1e-2)
            torch.stack(list(phase.loss(labelled()).values())).sum().backward()
            optimiser.step()
            optimiser.zero_grad()
        part = "fusion." if phase.trained is system.fusion else "segmenter."
        moved = {key for key, value in system.state_dict().items() if not torch.equal(value, before[key])}
        unread = ("fusion.interaction2.", "segmenter.classifier.")
        trained = {key for key, _ in system.named_parameters() if key.startswith(part)}
        # The batch norm behind the embeddings of the head takes their biases away.
        still = {key for key in trained - moved if not key.startswith(unread)}
        assert still <= {f"segmenter.head.embed{level}.bias" for level in (1, 2, 3, 4)}
        assert all(key.startswith(part) and not key.startswith(unread) for key in moved)


# --- losses


def test_the_first_fusion_imitates_the_target() -> None:
    for kind in ("saliency", "maximum"):
        system, batch = segmif(target=kind), labelled()
        visible, infrared = batch.visible, batch.infrared
        assert visible is not None
        assert infrared is not None
        terms = loss_of(system, "fusion-1", batch)
        target = pseudo_target(luma(visible), infrared, kind=kind)
        wanted = imitation_loss(system.fuse(visible, infrared), target)
        assert terms.keys() == {"intensity", "gradient"}
        assert all(torch.allclose(terms[name], wanted[name]) for name in terms)


def test_later_fusions_are_also_about_the_classes_in_the_picture() -> None:
    system, batch = segmif(rounds=4), labelled()
    visible, infrared, label = batch.visible, batch.infrared, batch.label
    assert visible is not None
    assert infrared is not None
    assert label is not None
    system.segmenter.eval()
    output = system(visible, infrared, features=True)
    target = pseudo_target(luma(visible), infrared)
    likeness = likeness_loss(output.features.grey, target)
    for number in (2, 4):
        terms = loss_of(system, f"fusion-{number}", batch)
        assert terms.keys() == {"intensity", "structure", "ce"}
        for name in ("intensity", "structure"):
            assert torch.allclose(terms[name], 0.4 / number * likeness[name])
        assert torch.allclose(terms["ce"], 0.8 * cross_entropy(output.logits, label), atol=1e-6)


def test_the_classes_teach_the_fusion_through_the_frozen_segmentation() -> None:
    system = segmif()
    phase = phase_of(system, "fusion-2")
    with resting(phase):
        phase.loss(labelled())["ce"].backward()
    gradients = {
        key: p.grad for key, p in system.fusion.named_parameters() if not key.startswith("interaction2")
    }
    assert all(gradient is not None and gradient.any() for gradient in gradients.values())
    assert all(p.grad is None for p in system.segmenter.parameters())


def test_the_segmentation_learns_from_pictures_of_the_resting_fusion() -> None:
    system, batch = segmif(), labelled()
    terms = loss_of(system, "segmentation-1", batch)
    assert terms.keys() == {"ce"}
    terms["ce"].backward()
    assert all(p.grad is None for p in system.fusion.parameters())
    logits = system(batch.visible, batch.infrared).logits
    assert logits is not None
    assert batch.label is not None
    assert torch.allclose(terms["ce"], cross_entropy(logits, batch.label))


@pytest.mark.parametrize(
    ("options", "name", "factor"),
    [
        ({"fusion_weight": 0.8}, "intensity", 2),
        ({"fusion_weight": 0.8}, "structure", 2),
        ({"ssim_weight": 3.3}, "structure", 3),
        ({"ce_weight": 0.4}, "ce", 0.5),
    ],
    ids=str,
)
def test_weights_of_single_terms(options: dict[str, Any], name: str, factor: float) -> None:
    plain, changed = (loss_of(segmif(**each), "fusion-2", labelled())[name] for each in ({}, options))
    assert changed.item() == pytest.approx(factor * plain.item(), rel=1e-5)


@pytest.mark.parametrize("name", ["fusion-1", "fusion-2"])
def test_padded_pixels_change_no_fusion_term(name: str) -> None:
    """What lies there reaches the network, so that its picture is held fixed."""
    system, batch = segmif(), labelled()
    valid = torch.ones(2, 64, 96, dtype=torch.bool)
    valid[:, 32:] = False
    batch.valid = valid
    grey = torch.rand(2, 1, 64, 96, generator=torch.Generator().manual_seed(0))
    system.fuse = lambda *_: grey  # type: ignore[method-assign]
    before = loss_of(system, name, batch)
    assert batch.visible is not None
    other = replace(batch, visible=batch.visible.clone())  # type: ignore[typeddict-item]
    other.visible[:, :, 32:] = 0.5  # type: ignore[index]
    after = loss_of(system, name, other)
    for term in before.keys() - {"ce"}:
        assert after[term].item() == pytest.approx(before[term].item(), rel=1e-5)


def test_validating_draws_nothing() -> None:
    system = segmif(dropout=0.5, stochastic_depth=0.5).eval()
    for phase in system.phases():
        with torch.no_grad():
            assert dict(phase.loss(labelled())) == dict(phase.loss(labelled()))


# --- recipes


def recipe_of(recipe: str, phase: str) -> Recipe:
    return resolved("segmif", recipe).recipe(phase)


def test_recipe_of_the_published_fusion() -> None:
    """MFNet has 784 images: 392 steps of 2. 6,000 and 4,000 steps of a linear decay over 20,000."""
    first, third = recipe_of("paper", "fusion-1"), recipe_of("paper", "fusion-3")
    assert (first.optimizer, first.weight_decay, first.batch_size) == ("adamw", 0.01, 2)
    assert first.epochs * 392 == pytest.approx(6000, rel=0.03)
    assert third.epochs * 392 == pytest.approx(4000, rel=0.03)
    assert first.learning_rate(0, 0, 392) == 1e-4
    assert third.learning_rate(0, 0, 392) == pytest.approx(1e-4 / 3)
    end = first.epochs * 392 - 1
    assert first.learning_rate(end // 392, end, 392) == pytest.approx(1e-4 * (1 - 6000 / 20000), rel=1e-3)
    end = third.epochs * 392 - 1
    assert third.learning_rate(end // 392, end, 392) == pytest.approx(1e-4 / 3 * (1 - 0.2), rel=1e-3)


def test_recipe_of_the_published_segmentation() -> None:
    """10,000 steps a round of one linear decay over 160,000, ten times the rate in the head.

    The first 3,000 of all warm up.
    """
    for number in range(1, 8):
        recipe = recipe_of("paper", f"segmentation-{number}")
        assert (recipe.optimizer, recipe.weight_decay, recipe.decay_norms) == ("adamw", 0.01, True)
        assert recipe.epochs * 392 == pytest.approx(10000, rel=0.03)
        head = recipe.of_group("head")
        for step, share in ((1499, 1500 / 3001), (3000, 1.0), (10000, 1.0)):
            past = (number - 1) * 26 * 392 + step
            rate = recipe.learning_rate(step // 392, step, 392)
            share = share if number == 1 else 1.0
            assert rate == pytest.approx(8e-5 * share * (1 - past / (16 * 26 * 392)), rel=1e-3)
            assert head.learning_rate(step // 392, step, 392) == pytest.approx(10 * rate)


@pytest.mark.parametrize("recipe", ["paper", "quick"])
def test_weight_decay_spares_the_norms_of_the_encoder_and_nothing_else(recipe: str) -> None:
    system = segmif()
    phase = phase_of(system, "segmentation-1")
    module = PhaseModule(phase, recipe_of(recipe, phase.name), CLASSES, seed=0)
    groups = module.configure_optimizers().param_groups
    decay = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    names = {name for name, p in system.segmenter.named_parameters() if decay[id(p)] == 0}
    norms = {name for name, _ in system.segmenter.encoder.named_parameters() if "norm" in name}
    assert names == {f"encoder.{name}" for name in norms}
    assert set(decay.values()) == {0.0, 0.01}


@pytest.mark.parametrize("recipe", ["paper", "common", "quick"])
def test_segmentation_goes_on_where_the_round_before_ended(recipe: str) -> None:
    """On MFNet the first 3,000 steps warm up; what comes after a warm-up is no part of a later round."""
    for number in range(1, 7):
        before, after = (recipe_of(recipe, f"segmentation-{n}") for n in (number, number + 1))
        end = before.epochs * 392
        # The rate that one step (or one epoch) more of the round would have.
        next_epoch, next_step = before.epochs, end
        wanted = before.learning_rate(next_epoch, next_step, 392)
        assert after.learning_rate(0, 0, 392) == pytest.approx(wanted)
        assert after.warmup_steps == 0


def test_other_recipes_have_every_phase_too() -> None:
    epochs = {
        recipe: sum(recipe_of(recipe, f"segmentation-{n}").epochs for n in range(1, 8))
        for recipe in ("paper", "common", "quick")
    }
    assert epochs == {"paper": 182, "common": 203, "quick": 21}
    for recipe in ("common", "quick"):
        last, first = recipe_of(recipe, "fusion-7"), recipe_of(recipe, "fusion-1")
        assert last.optimizer == "adamw"
        assert last.lr == pytest.approx(first.lr / 7)


def test_the_common_recipe_is_one_decay_through_all_rounds() -> None:
    """That of every system, over 203 epochs: SGD, 5e-3, (1 - epoch / epochs)^0.9 for each epoch."""
    whole = Recipe(epochs=203)
    for number in range(1, 8):
        recipe = recipe_of("common", f"segmentation-{number}")
        assert (recipe.optimizer, recipe.batch_size, recipe.schedule_per) == ("sgd", 8, "epoch")
        for epoch in (0, 10, 28):
            past = 29 * (number - 1) + epoch
            wanted = whole.learning_rate(past, 100 * past, 100)
            assert recipe.learning_rate(epoch, 100 * epoch, 100) == pytest.approx(wanted)


# --- it learns


@pytest.mark.slow
def test_it_overfits_four_scenes() -> None:
    """Two rounds."""
    batch = four_scenes(16, 16)
    torch.manual_seed(0)
    system = create(
        "segmif",
        classes=SCENE_CLASS_COUNT,
        encoder=TINY["encoder"],
        decoder_channels=64,
        fusion_width=8,
        dropout=0.0,
        rounds=2,
    )
    stages = ((25, 1e-2), (40, 1e-2), (6, 1e-3), (90, 1e-2))
    for phase, (steps, rate) in zip(system.phases(), stages, strict=True):
        course = fit(phase, batch, steps, rate)
        wanted = {"fusion-1": 0.75, "fusion-2": 1.0}.get(phase.name)
        assert wanted is None or course[-1]["total"] < wanted * course[0]["total"]
    assert mean_iou(system, batch) > 0.85


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "segmif"
    sizes = {"decoder_channels": 16, "fusion_width": 8}
    recipe = {"name": "quick", "epochs": 1, "batch_size": 2, "warmup_steps": 0}
    options = tiny_options(out, "segmif", network=sizes, loss={"rounds": 2}, recipe=recipe)
    return train(options, quiet=True)


def test_a_run_has_all_its_phases(run: Path) -> None:
    rows = {row.phase: row for row in read_curves(run)}
    assert list(rows) == ["fusion-1", "segmentation-1", "fusion-2", "segmentation-2"]
    for name, row in rows.items():
        chosen = row.validation_loss if name.startswith("fusion") else row.scores["both"]
        assert chosen is not None
        assert np.isfinite(chosen)
    assert {"intensity", "structure", "ce"} <= set(rows["fusion-2"].losses)


def test_a_run_answers_as_the_system_that_was_saved(run: Path, tmp_path: Path) -> None:
    predictor = load(run)
    visible = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    infrared = np.random.default_rng(1).integers(0, 256, (40, 50), np.uint8)
    result = predictor(visible=visible, infrared=infrared)
    assert result.fused is not None
    assert result.fused.shape == (40, 50, 3)
    assert result.labels.shape == (40, 50)
    for name, image in (("visible", visible), ("infrared", infrared)):
        (tmp_path / name).mkdir()
        Image.fromarray(image).save(tmp_path / name / "a.png")
    out = tmp_path / "fused"
    arguments = ["--visible", str(tmp_path / "visible"), "--infrared", str(tmp_path / "infrared")]
    assert main(["fuse", str(run), *arguments, "--out", str(out), "--device", "cpu"]) == 0
    assert np.array_equal(np.asarray(Image.open(next(out.rglob("*.png")))), result.fused)
