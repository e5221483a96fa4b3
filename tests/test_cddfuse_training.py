"""CDDFuse's training: its phases, what each reads and keeps, runs with and without labels, that it learns."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from crossband.blocks.luma import luma
from crossband.cli import main
from crossband.loading import load
from crossband.pairs.scenes import Scenes
from crossband.recipe import Recipe
from crossband.run_card import read_card
from crossband.systems import create, make_training
from crossband.systems.base import Phase
from crossband.systems.cddfuse import losses
from crossband.systems.cddfuse.network import CDDFuse, blended
from crossband.training.curves import read_curves
from crossband.training.engine import resume, train
from crossband.training.options import TrainOptions
from crossband.training.phase_module import PhaseModule
from crossband.training.resolving import ResolvedTraining, resolve
from crossband.weights import load_run
from crossband.words import Band
from overfitting import SCENE_CLASS_COUNT, fit, four_scenes, mean_iou
from tiny_runs import TINY_DATA, curves_without_seconds
from tiny_systems import CLASSES, TINY_OPTIONS, labelled, tiny

FUSION = ("reconstruction", "fusion")
STEP = {"reconstruction": 5, "fusion": 3, "segmentation": 2}


def options(out: Path, *, labels: bool = True, **changes: Any) -> TrainOptions:
    """An epoch of every phase on five generated pairs, with three held out."""
    values: dict[str, Any] = {
        "data": TINY_DATA,
        "encoder": "test_efficientnet",
        "network": {"decoder_channels": 16, **TINY_OPTIONS["cddfuse"]},
        "without_labels": not labels,
        "recipe": {"epochs": 1, "batch_size": 2},
        "augmentation": {"crop": [32, 32]},
        "accelerator": "cpu",
        "workers": 0,
        **changes,
    }
    return TrainOptions(system="cddfuse", out=str(out), **values)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(options(tmp_path_factory.mktemp("runs") / "cddfuse"), quiet=True)


@pytest.fixture(scope="module")
def fusing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(options(tmp_path_factory.mktemp("runs") / "fusing", labels=False), quiet=True)


def prepared(system: CDDFuse) -> dict[str, Phase]:
    return {phase.name: phase for phase in system.phases()}


def total(terms: Any) -> Tensor:
    return torch.stack(list(terms.values())).sum()


def system_with(**changes: Any) -> CDDFuse:
    system = tiny("cddfuse", **changes)
    assert isinstance(system, CDDFuse)
    return system


def fusion_state(system: CDDFuse) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in system.fusion.state_dict().items()}


# --- phases


def test_phases_with_and_without_classes() -> None:
    system = system_with()
    phases = system.phases()
    assert [phase.name for phase in phases] == [*FUSION, "segmentation"]
    assert [phase.chosen_by for phase in phases] == ["loss", "loss", "score"]
    assert phases[0].keeps is phases[1].keeps
    assert phases[0].keeps.fusion is system.fusion
    assert not phases[0].keeps.segments
    assert phases[2].trained is system.segmenter
    assert phases[2].frozen == (system.fusion,)
    assert phases[2].keeps is system
    only = create("cddfuse", **TINY_OPTIONS["cddfuse"])
    assert [phase.name for phase in only.phases()] == list(FUSION)
    assert all(phase.keeps is only for phase in only.phases())


def test_what_each_phase_trains() -> None:
    system = system_with()
    for phase in system.phases():
        groups = [p for module in phase.groups.values() for p in module.parameters()]
        assert len(groups) == len(set(groups))
        if phase.name in FUSION:
            assert set(groups) == set(phase.trained.parameters())
        names = {
            "reconstruction": {"encoder", "decoder"},
            "fusion": {"encoder", "decoder", "base_fusion", "detail_fusion"},
            "segmentation": set(),
        }
        assert set(phase.groups) == names[phase.name]


def test_terms_of_the_losses() -> None:
    phases, batch = prepared(system_with()), labelled()
    terms = {name: set(phase.loss(batch)) for name, phase in phases.items()}
    both = {"ssim_visible", "mse_visible", "ssim_infrared", "mse_infrared", "edges_visible", "decomposition"}
    assert terms == {
        "reconstruction": both,
        "fusion": {"intensity", "gradient", "decomposition"},
        "segmentation": {"ce", "dice"},
    }


def test_a_band_is_restored_onto_its_own_image() -> None:
    """With a decoder that adds nothing the restored image is the sigmoid of the image."""
    system = system_with()
    torch.nn.init.zeros_(system.fusion.decoder.output[-1].weight)
    batch = labelled()
    terms = prepared(system)["reconstruction"].loss(batch)
    infrared = batch.infrared
    assert infrared is not None
    wanted = ((infrared.sigmoid() - infrared) ** 2).mean()
    assert torch.allclose(terms["mse_infrared"], wanted)
    assert terms["mse_visible"].item() != pytest.approx(wanted.item(), rel=1e-4)


@pytest.mark.parametrize(
    ("option", "scaled", "published"),
    [
        ("ssim_weight", {"ssim_visible", "ssim_infrared"}, 5),
        ("edge_weight", {"edges_visible"}, 5),
        ("gradient_weight", {"gradient"}, 10),
        ("decomposition_weight", {"decomposition"}, 2),
    ],
)
def test_weights_of_the_terms_scale_them(option: str, scaled: set[str], published: float) -> None:
    batch = labelled(32, 48)
    one, other = prepared(system_with()), prepared(system_with(**{option: 1.0}))
    for phase in FUSION:
        terms, changed = one[phase].loss(batch), other[phase].loss(batch)
        for name, value in terms.items():
            factor = published if name in scaled else 1
            assert value.item() == pytest.approx(factor * changed[name].item(), rel=1e-5), name


@pytest.mark.parametrize("missing", ["visible", "infrared"])
def test_a_batch_that_misses_a_band_has_the_terms_of_the_other(missing: str) -> None:
    other: Band = "infrared" if missing == "visible" else "visible"
    batch = labelled().only(other)
    phases = prepared(system_with())
    names = {name: set(phase.loss(batch)) for name, phase in phases.items()}
    assert names["fusion"] == {"intensity", "gradient"}
    assert {f"ssim_{other}", f"mse_{other}"} <= names["reconstruction"]
    assert not any(missing in name or name == "decomposition" for name in names["reconstruction"])
    for phase in phases.values():
        total(phase.loss(batch)).backward()


def test_the_segmenter_learns_from_pictures_and_the_fusion_stays() -> None:
    system = system_with()
    module = PhaseModule(prepared(system)["segmentation"], Recipe(), CLASSES, seed=0)
    before, batch = fusion_state(system), labelled()
    optimiser = module.configure_optimizers()
    total(module.phase.loss(batch)).backward()
    assert all(p.grad is None for p in system.fusion.parameters())
    optimised = {id(p) for group in optimiser.param_groups for p in group["params"]}
    assert system.segmenter is not None
    assert optimised == {id(p) for p in system.segmenter.parameters()}
    optimiser.step()
    assert all(torch.equal(value, before[key]) for key, value in system.fusion.state_dict().items())


def test_pictures_in_training_are_spread_over_what_is_valid() -> None:
    """A pair that was padded to a larger one gives the darkest and brightest pixel of its own image."""
    system = system_with()
    batch = labelled(32, 48)
    valid = torch.ones(2, 32, 48, dtype=torch.bool)
    valid[:, 20:] = False
    seen: list[Tensor] = []
    assert system.segmenter is not None
    system.segmenter.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(kwargs["visible"]), with_kwargs=True
    )
    prepared(system)["segmentation"].loss(replace(batch, valid=valid))
    with torch.no_grad():
        wanted, _ = system.fuse(batch.visible, batch.infrared, valid)
        other, _ = system.fuse(batch.visible, batch.infrared)
    assert torch.equal(seen[0], wanted)
    assert not torch.allclose(seen[0], other, atol=1e-3)


# --- recipes


def resolved(recipe: str, **changes: Any) -> ResolvedTraining:
    return resolve(TrainOptions(system="cddfuse", data="scenes", out="x", recipe={"name": recipe}, **changes))


def recipes(name: str) -> dict[str, Recipe]:
    training = resolved(name)
    return {phase: training.recipe(phase) for phase in STEP}


def rates(recipe: Recipe, group: str) -> list[float]:
    of_group = recipe.of_group(group)
    return [of_group.learning_rate(epoch, epoch * 10, 10) for epoch in range(recipe.epochs)]


@pytest.mark.parametrize("name", ["paper", "common"])
def test_the_published_recipe_of_the_fusion(name: str) -> None:
    """Halved every 20 of 120 epochs for encoder and decoder, from the 41st on for the fusion parts."""
    made = recipes(name)
    assert [made[phase].epochs for phase in FUSION] == [40, 80]
    for phase in FUSION:
        recipe = made[phase]
        assert (recipe.optimizer, recipe.batch_size, recipe.weight_decay) == ("adam", 8, 0)
        assert recipe.clip_norm == 0.01
    for part in ("encoder", "decoder"):
        both = rates(made["reconstruction"], part) + rates(made["fusion"], part)
        assert both == pytest.approx([1e-4 * 0.5 ** (epoch // 20) for epoch in range(120)])
        assert min(both) > 1e-6
    for part in ("base_fusion", "detail_fusion"):
        wanted = [1e-4 * 0.5 ** (epoch // 20) for epoch in range(80)]
        assert rates(made["fusion"], part) == pytest.approx(wanted)
    assert made["segmentation"] == Recipe()


@pytest.mark.parametrize("name", ["paper", "common"])
@pytest.mark.parametrize("changes", [{"variant": "light"}, {"loss": {"reconstruction": False}}], ids=str)
def test_without_a_reconstruction_all_parts_start_at_the_full_rate(name: str, changes: Any) -> None:
    made = resolved(name, **changes).recipe("fusion")
    for part in ("encoder", "decoder", "base_fusion", "detail_fusion"):
        assert rates(made, part) == pytest.approx([1e-4 * 0.5 ** (epoch // 20) for epoch in range(80)])
    # What is given for a group still counts.
    given = {"fusion": {"groups": {"encoder": {"lr": 1e-5}}}}
    made = resolved(name, phases=given, **changes).recipe("fusion")
    assert made.of_group("encoder").lr == 1e-5


def test_the_quick_recipe_is_short() -> None:
    made = recipes("quick")
    assert [made[phase].epochs for phase in STEP] == [10, 10, 20]
    assert made["segmentation"].optimizer == "sgd"
    for phase in FUSION:
        rate = made[phase].of_group("encoder").learning_rate(0, 0, 5)
        assert rate == pytest.approx(1e-3)


@pytest.mark.parametrize("recipe", ["paper", "common", "quick"])
def test_the_fusion_is_trained_on_crops_and_the_segmenter_on_images(recipe: str) -> None:
    training = resolved(recipe)
    assert [training.augmentation(phase).crop for phase in STEP] == [(128, 128), (128, 128), None]
    assert training.augmentation().crop is None


def test_each_part_is_clipped_by_itself() -> None:
    system = system_with()
    phase = prepared(system)["fusion"]
    module = PhaseModule(phase, recipes("paper")["fusion"], None, seed=0)
    total(phase.loss(labelled())).backward()
    module.on_before_optimizer_step(module.configure_optimizers())
    for part in phase.groups.values():
        norm = torch.stack([p.grad.norm() for p in part.parameters() if p.grad is not None]).norm()
        assert norm.item() == pytest.approx(0.01, rel=1e-3)


# --- runs


def test_one_run_trains_all_phases(run: Path) -> None:
    rows = read_curves(run)
    assert [row.phase for row in rows] == list(STEP)
    assert "decomposition" in rows[0].losses
    assert rows[0].validation_loss is not None
    card = read_card(run)
    chosen = card.training["checkpoint"]
    assert "lowest loss" in chosen["fusion"]["chosen_by"]
    assert "best mean IoU" in chosen["segmentation"]["chosen_by"]
    system, _ = load_run(run)
    assert isinstance(system, CDDFuse)
    assert system.segments
    predictor = load(run, device="cpu")
    pair = Scenes("test", count=1, size=(32, 48))[0]
    result = predictor(pair.visible, pair.infrared)
    assert result.labels.shape == (32, 48)
    assert result.fused.shape == (32, 48, 3)
    # Half a grey level of rounding: the luma of a picture reaches from black to white, unless colours clip.
    assert predictor(None, pair.infrared).fused.min() == 0
    assert predictor(None, pair.infrared).fused.max() == 255


def test_the_segmentation_leaves_the_fusion_of_its_phases(run: Path) -> None:
    system, _ = load_run(run)
    from safetensors.torch import load_file

    kept = load_file(run / "phases" / "fusion.safetensors")
    first = load_file(run / "phases" / "reconstruction.safetensors")
    state = system.state_dict()
    assert set(kept) == {key for key in state if key.startswith("fusion.")}
    assert all(torch.equal(value, state[key]) for key, value in kept.items())
    assert any(not torch.equal(value, state[key]) for key, value in first.items())


def test_a_run_without_labels_fuses(fusing: Path, tmp_path: Path) -> None:
    assert [row.phase for row in read_curves(fusing)] == list(FUSION)
    assert read_card(fusing).classes is None
    data = tmp_path / "pairs"
    assert main(["data", "export", TINY_DATA, "--out", str(data)]) == 0
    bands = [f"--{band}={data / 'test' / band}" for band in ("visible", "infrared")]
    assert main(["fuse", str(fusing), *bands, "--out", str(tmp_path / "fused"), "--device", "cpu"]) == 0
    assert len(list((tmp_path / "fused").glob("*.png"))) == 4


def test_the_fusion_of_a_run_without_labels_can_be_reused(fusing: Path, tmp_path: Path) -> None:
    """The reconstruction, which would undo it, is reused with it."""
    reuse = {"fusion": str(fusing)}
    again = train(options(tmp_path / "again", reuse=reuse), quiet=True)
    assert [row.phase for row in read_curves(again)] == ["segmentation"]
    chosen = read_card(again).training["checkpoint"]
    assert chosen["reconstruction"] == chosen["fusion"] == {"reused": str(fusing)}
    assert set(read_card(again).training["recipes"]) == {"segmentation"}
    wanted, state = load_run(fusing)[0].state_dict(), load_run(again)[0].state_dict()
    assert all(torch.equal(value, state[key]) for key, value in wanted.items())


def test_the_fusion_of_a_run_with_labels_can_be_reused(run: Path, tmp_path: Path) -> None:
    """In a run without labels, and in one that trains a segmenter on other classes."""
    only = train(options(tmp_path / "only", labels=False, reuse={"fusion": str(run)}), quiet=True)
    assert not (only / "curves.csv").exists()
    assert load_run(only)[0].state_dict().keys() == {
        key for key in load_run(run)[0].state_dict() if key.startswith("fusion.")
    }


def test_a_whole_run_is_reused_with_its_fusion(run: Path, tmp_path: Path) -> None:
    """The segmenter knows the pictures of its own fusion: no phase of it may be trained again."""
    again = train(options(tmp_path / "again", reuse={"segmentation": str(run)}), quiet=True)
    chosen = read_card(again).training["checkpoint"]
    assert chosen == {key: {"reused": str(run)} for key in ("reconstruction", "fusion", "segmentation")}
    assert (again / "weights.safetensors").read_bytes() == (run / "weights.safetensors").read_bytes()


def test_the_reconstruction_alone_can_be_reused(fusing: Path, tmp_path: Path) -> None:
    again = train(
        options(tmp_path / "again", labels=False, reuse={"reconstruction": str(fusing)}), quiet=True
    )
    assert [row.phase for row in read_curves(again)] == ["fusion"]


def test_a_run_that_is_cut_off_in_the_last_phase_ends_with_the_same_bits(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class PowerCutError(BaseException):
        """Not an Exception: nothing on the way out may clean up after it."""

    def cut(*_: Any) -> None:
        raise PowerCutError

    with monkeypatch.context() as patch:
        # Only the segmentation makes pictures in training.
        patch.setattr(CDDFuse, "fuse", cut)
        with pytest.raises(PowerCutError):
            train(options(tmp_path / "cut"), quiet=True)
    assert (tmp_path / "cut" / "phases" / "fusion.safetensors").exists()
    torch.rand(7)
    folder = resume(tmp_path / "cut", quiet=True)
    assert curves_without_seconds(folder) == curves_without_seconds(run)
    weights = "weights.safetensors"
    assert (folder / weights).read_bytes() == (run / weights).read_bytes()


# --- it learns


@pytest.mark.slow
def test_it_overfits_four_scenes() -> None:
    batch = four_scenes()
    torch.manual_seed(0)
    system = create(
        "cddfuse",
        classes=SCENE_CLASS_COUNT,
        encoder="test_efficientnet",
        decoder_channels=64,
        **TINY_OPTIONS["cddfuse"],
    )
    reconstruction, fusion, segmentation = system.phases()
    assert batch.visible is not None
    assert batch.infrared is not None
    crops = replace(batch, visible=batch.visible[..., :32, :48], infrared=batch.infrared[..., :32, :48])
    for phase in (reconstruction, fusion):
        course = fit(phase, crops, 30, 5e-3)
        assert course[-1]["total"] < 0.7 * course[0]["total"], phase.name
    fit(segmentation, batch, 180, 1e-2)
    assert mean_iou(system, batch) > 0.85


# --- the variant of ours


def test_the_light_variant_has_one_phase_and_its_own_terms() -> None:
    system = create("cddfuse", None, variant="light")
    training = make_training("cddfuse", variant="light")
    (phase,) = training.phases(system)
    assert phase.name == "fusion"
    terms = phase.loss(labelled(48, 64))
    assert list(terms) == ["intensity", "gradient", "fidelity", "difference"]
    sum(terms.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in system.fusion.parameters())


def test_the_visible_share_of_fidelity_can_be_a_term_of_its_own() -> None:
    system = create("cddfuse", None, variant="light")
    training = make_training("cddfuse", variant="light", fidelity_weight=0.0, visible_fidelity_weight=0.5)
    batch = labelled(48, 64)
    with torch.no_grad():
        terms = training.phases(system)[0].loss(batch)
        grey = luma(batch.visible)
        kept = losses.fidelity(system.fusion(grey, batch.infrared).fused, grey, batch.infrared)
    assert list(terms) == ["intensity", "gradient", "visible_fidelity", "difference"]
    assert terms["visible_fidelity"].item() == pytest.approx(0.5 * (1 - kept[0].item()), rel=1e-5)


def test_a_blended_picture_can_be_either_image() -> None:
    visible, infrared = torch.rand(2, 1, 1, 8, 9)
    zero = torch.zeros(1, 1, 8, 9)
    for first, wanted in ((20.0, infrared), (-20.0, visible), (0.0, (visible + infrared) / 2)):
        made = blended(visible, infrared, torch.cat((zero + first, zero), dim=1))
        torch.testing.assert_close(made, wanted)


def test_a_blended_picture_knows_which_band_is_which() -> None:
    """The features are added up, and a sum is the same whichever band its terms are of."""
    network = create("cddfuse", None, variant="light").eval()
    assert isinstance(network, CDDFuse)
    torch.manual_seed(0)
    visible, infrared = torch.rand(2, 1, 1, 24, 32)
    with torch.no_grad():
        difference = network.fusion(visible, infrared).fused - network.fusion(infrared, visible).fused
    assert difference.abs().max() > 1e-3
