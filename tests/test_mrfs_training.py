"""MRFS's training: the terms of its loss, fewer bands, no labels, options, recipes, that it learns."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from crossband.errors import OptionError
from crossband.losses.fusion import fusion_loss
from crossband.pairs.batch import Batch
from crossband.recipe import Recipe
from crossband.systems import make_training
from crossband.systems.mrfs import MRFS
from crossband.systems.mrfs.training import MRFSTraining
from crossband.training.engine import train
from crossband.training.resolving import ResolvedTraining
from crossband.weights import load_run, load_weights, save_weights
from crossband.words import IGNORE_INDEX
from overfitting import SCENE_CLASS_COUNT, fit, four_scenes, mean_iou
from tiny_runs import curves_without_seconds, resolved, tiny_options
from tiny_systems import CLASSES, TINY, build, images, labelled

FUSION = {"intensity", "gradient", "colour"}
STEPS = 180


def mrfs(classes: int | None = CLASSES, **options: Any) -> MRFS:
    """A small one in training, without dropout and stochastic depth."""
    torch.manual_seed(0)
    defaults = {"encoder": "mit_tiny", "decoder_channels": 16, "stochastic_depth": 0.0, "dropout": 0.0}
    system = build("mrfs", classes, **{**defaults, **options})
    assert isinstance(system, MRFS)
    return system


def loss_of(system: MRFS, batch: Batch) -> dict[str, Tensor]:
    (phase,) = system.phases()
    return dict(phase.loss(batch))


# --- the loss


def test_the_loss_is_cross_entropy_and_a_tenth_of_the_fusion_loss() -> None:
    system, batch = mrfs().eval(), labelled()
    batch.valid = torch.ones(2, 64, 96, dtype=torch.bool)
    batch.valid[:, 40:] = False
    terms = loss_of(system, batch)
    assert set(terms) == {"ce"} | FUSION
    output = system(batch.visible, batch.infrared)
    entropy = F.cross_entropy(output.logits, batch.label, ignore_index=IGNORE_INDEX)
    parts = fusion_loss(
        output.fused,
        batch.visible,
        batch.infrared,
        valid=batch.valid,
        gamma=0.5,
        contrast=1.7,
        intensity_weight=0.5,
        gradient_weight=0.2,
        colour_weight=1.0,
    )
    assert terms["ce"].item() == pytest.approx(entropy.item(), rel=1e-5)
    for name, part in parts.items():
        assert terms[name].item() == pytest.approx(0.1 * part.item(), rel=1e-5)


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"fusion_weight": 1.0}, FUSION),
        ({"fusion_gamma": 0.8}, FUSION),
        ({"fusion_contrast": 1.0}, {"intensity", "gradient"}),
        ({"intensity_weight": 1.0}, {"intensity"}),
        ({"gradient_weight": 1.0}, {"gradient"}),
        ({"colour_weight": 2.0}, {"colour"}),
        ({"gradient_target": "magnitude"}, {"gradient"}),
        ({"fusion_mean": "all"}, FUSION),
    ],
)
def test_choices_reach_their_terms(options: dict[str, Any], names: set[str]) -> None:
    batch = labelled()
    batch.valid = torch.ones(2, 64, 96, dtype=torch.bool)
    batch.valid[:, 40:] = False
    before, after = loss_of(mrfs(), batch), loss_of(mrfs(**options), batch)
    differing = {name for name in before if not torch.isclose(before[name], after[name], rtol=1e-5, atol=0)}
    assert differing == names


@pytest.mark.parametrize(
    ("variant", "gamma", "contrast", "weight"),
    [("mfnet", 0.5, 1.7, 0.2), ("pst900", 0.5, 1.8, 0.2), ("fmb", 0.8, 1.0, 1.0)],
)
def test_variants_of_the_benchmarks(variant: str, gamma: float, contrast: float, weight: float) -> None:
    training = make_training("mrfs", variant=variant)
    assert isinstance(training, MRFSTraining)
    chosen = training.fusion_gamma, training.fusion_contrast, training.gradient_weight
    assert chosen == (gamma, contrast, weight)
    assert (training.intensity_weight, training.colour_weight) == (0.5, 1.0)
    assert build("mrfs", 3, variant=variant, **TINY).settings == build("mrfs", 3, **TINY).settings


@pytest.mark.parametrize("bands", ["infrared", "visible"])
def test_with_one_band_only_the_labels_are_left(bands: Any) -> None:
    batch = labelled().only(bands)
    assert set(loss_of(mrfs(), batch)) == {"ce"}
    with pytest.raises(OptionError, match=f"takes both bands, and not {bands} alone; leave out"):
        loss_of(mrfs(None), batch)


def test_without_labels_the_picture_alone_is_trained() -> None:
    system = mrfs(None)
    terms = loss_of(system, labelled())
    assert set(terms) == FUSION
    torch.stack(list(terms.values())).sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in system.parameters())
    assert set(loss_of(mrfs(), replace(labelled(), label=None))) == FUSION


# --- options and recipes


def test_the_published_codes_rates_of_stochastic_depth() -> None:
    def second_stage(system: MRFS, band: str) -> set[float]:
        stage = getattr(system, band).stage2
        return {round(block.drop_path.drop_prob, 6) for block in stage}

    ramp = [0.1 * block / 40 for block in range(3, 11)]
    with torch.device("meta"):
        published, ours = (build("mrfs", 3, variant=variant) for variant in ("as-published", "mfnet"))
    assert second_stage(published, "visible") == {round(ramp[0], 6)}
    assert second_stage(published, "infrared") == {round(ramp[1], 6)}
    for band in ("visible", "infrared"):
        assert second_stage(ours, band) == {round(rate, 6) for rate in ramp}
    assert published.settings.norm_eps == 0.01
    with pytest.raises(OptionError, match=r"as-published\) belongs to the Mix Transformer; set it to ramp"):
        build("mrfs", 3, variant="as-published", **TINY)


@pytest.mark.parametrize(
    "option", ["stage2_depth", "input_normalisation", "missing", "gradient_target", "fusion_mean"]
)
def test_values_that_do_not_exist_are_refused(option: str) -> None:
    with pytest.raises(OptionError, match=rf"mrfs\.{option} must be one of .*, not 'other'"):
        mrfs(**{option: "other"})


def options(recipe: str) -> ResolvedTraining:
    return resolved("mrfs", recipe)


def test_recipe() -> None:
    recipe = options("paper").recipe()
    assert (recipe.optimizer, recipe.lr, recipe.weight_decay) == ("adamw", 6e-5, 0.01)
    assert (recipe.batch_size, recipe.decay_norms, recipe.power) == (6, False, 0.9)
    steps = 131
    rates = [recipe.learning_rate(epoch, epoch * steps, steps) for epoch in range(300)]
    assert rates.index(max(rates)) in (9, 10)
    assert rates[150] == pytest.approx(6e-5 * 0.5**0.9)
    augmentation = options("paper").augmentation()
    assert (augmentation.crop, augmentation.scale, augmentation.flip) == ((480, 640), (0.5, 1.75), 0.5)
    assert options("common").recipe() == Recipe()
    assert options("quick").recipe().optimizer == "adamw"


def test_the_published_recipe_never_leaves_its_warm_up() -> None:
    recipe = options("as-published").recipe()
    assert recipe.learning_rate(299, 300 * 131 - 1, 131) == pytest.approx(3.6e-6, rel=1e-3)
    assert recipe.learning_rate(150, 150 * 131, 131) == pytest.approx(1.8e-6, rel=1e-3)
    assert options("as-published").augmentation() == options("paper").augmentation()


# --- it learns


@pytest.mark.slow
def test_it_overfits_four_scenes_in_classes_and_picture(tmp_path: Path) -> None:
    batch = four_scenes()
    torch.manual_seed(0)
    small: dict[str, Any] = {"classes": SCENE_CLASS_COUNT, "encoder": "mit_tiny", "decoder_channels": 64}
    system = build("mrfs", **small, dropout=0.0, stochastic_depth=0.0)
    (phase,) = system.phases()
    course = fit(phase, batch, STEPS, 1e-2)
    fusion = [sum(terms[name] for name in FUSION) for terms in course]
    assert sum(fusion[-10:]) / 10 < 0.5 * fusion[0]
    assert mean_iou(system, batch) > 0.85
    with torch.no_grad():
        output = system(batch.visible, batch.infrared)
    # Saved and loaded, it gives the same.
    save_weights(system, tmp_path / "weights.safetensors")
    again = build("mrfs", **small).eval()
    load_weights(again, tmp_path / "weights.safetensors")
    with torch.no_grad():
        loaded = again(batch.visible, batch.infrared)
    assert torch.equal(loaded.logits, output.logits)
    assert torch.equal(loaded.fused, output.fused)


@pytest.mark.parametrize("without_labels", [False, True])
def test_a_run(tmp_path: Path, without_labels: bool) -> None:
    made = {"without_labels": without_labels, "recipe": {"name": "quick", "epochs": 1, "batch_size": 4}}
    folder = train(tiny_options(tmp_path / "run", "mrfs", **made), quiet=True)
    (row,) = curves_without_seconds(folder)
    assert row["phase"] == "mrfs"
    assert float(row["val_loss" if without_labels else "val_miou_both"]) > 0
    assert ("ce" in row) != without_labels
    system, _ = load_run(folder)
    assert system.segments != without_labels
    with torch.no_grad():
        assert system(*images(32, 48)).fused.shape == (2, 3, 32, 48)
