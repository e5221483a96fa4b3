"""DisOptNet's training: what learns from what, the terms of its loss, recipes, that it learns."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crossband.errors import OptionError
from crossband.losses.distillation import soft_cross_entropy
from crossband.recipe import Recipe
from crossband.run_card import read_card
from crossband.systems import create
from crossband.systems.base import Phase
from crossband.systems.disoptnet.network import DisOptNet
from crossband.training.engine import train
from crossband.training.options import TrainOptions
from crossband.training.phase_module import PhaseModule
from crossband.training.resolving import resolve
from crossband.weights import count_parameters, load_run, make_card, save_run
from overfitting import SCENE_CLASS_COUNT, fit, four_scenes, mean_iou
from tiny_runs import curves_without_seconds, tiny_options
from tiny_systems import CLASSES, TINY, answer, images, labelled, randomise_norms, tiny

ONE_EPOCH: dict[str, Any] = {
    "recipe": {"epochs": 1, "batch_size": 4},
    "augmentation": {"crop": [32, 32]},
}
IMITATING = {"ce_imitating", "dice_imitating", "soft_imitating"}
LABELLED = {"ce_student", "dice_student", "ce_fused", "dice_fused"}


def disoptnet(**options: Any) -> DisOptNet:
    system = tiny("disoptnet", **options)
    assert isinstance(system, DisOptNet)
    return system


def prepared(system: DisOptNet) -> tuple[Phase, Phase]:
    """Both phases, the teacher of the second frozen as training has it."""
    first, second = system.phases()
    for module in second.frozen:
        module.eval().requires_grad_(False)
    return first, second


# --- what learns from what


def test_phases() -> None:
    system = disoptnet()
    teacher, student = system.phases()
    assert (teacher.name, student.name) == ("teacher", "disoptnet")
    assert (teacher.validate, student.validate) == (("visible",), ("infrared",))
    assert (teacher.reads, student.reads) == (None, "both")
    assert (teacher.chosen_by, student.chosen_by) == ("score", "last")
    assert disoptnet(kept_epoch="best").phases()[1].chosen_by == "score"
    assert student.frozen == (teacher.keeps,)
    start, own = teacher.keeps.network.encoder.state_dict(), system.student.encoder.state_dict()
    assert all(torch.equal(start[key], own[key]) for key in own)
    assert not {p.data_ptr() for p in teacher.keeps.parameters()} & {
        p.data_ptr() for p in system.parameters()
    }


def reached(terms: dict[str, Tensor], parameters: list[nn.Parameter]) -> set[str]:
    """The terms that give any of the parameters a gradient."""
    names = set()
    for name, term in terms.items():
        gradients = torch.autograd.grad(term, parameters, retain_graph=True, allow_unused=True)
        if any(gradient is not None and gradient.any() for gradient in gradients):
            names.add(name)
    return names


def test_which_terms_reach_which_part() -> None:
    system = disoptnet()
    _, phase = prepared(system)
    terms = dict(phase.loss(labelled()))
    assert set(terms) == LABELLED | IMITATING | {"distill_features"}
    fused, student = {"ce_fused", "dice_fused"}, {"ce_student", "dice_student"}

    def reaching(part: nn.Module) -> set[str]:
        return reached(terms, list(part.parameters()))

    # Labels come to the tail through the fused prediction only, and to the imitating head not at all.
    assert reaching(system.tail) == fused | IMITATING | {"distill_features"}
    assert reaching(system.imitating_decoder) == fused | IMITATING | {"distill_features"}
    assert reaching(system.imitating_head) == IMITATING
    assert reaching(system.student.decoder) == fused | student
    assert reaching(system.student.segmentation_head) == student
    assert reaching(system.fusion) == reaching(system.fused_head) == fused
    assert reached(terms, [system.student.encoder.model.conv_stem.weight]) == set(terms)


def test_without_the_teachers_terms_labels_reach_the_tail_through_the_fusion_alone() -> None:
    system = disoptnet(distill_predictions_weight=0, distill_features_weight=0)
    _, phase = prepared(system)
    terms = dict(phase.loss(labelled()))
    assert set(terms) == LABELLED
    student = terms["ce_student"] + terms["dice_student"]
    tail = list(system.tail.parameters())
    assert all(g is None for g in torch.autograd.grad(student, tail, retain_graph=True, allow_unused=True))
    assert any(g.any() for g in torch.autograd.grad(terms["ce_fused"], tail))


def test_labels_change_no_term_of_the_teacher_and_the_visible_image_none_of_the_labels() -> None:
    _, phase = prepared(disoptnet().eval())
    batch = labelled()
    # A teacher at its start has one class for every pixel, whatever it sees.
    teacher = phase.frozen[0]
    randomise_norms(teacher)
    head = teacher.network.segmentation_head[0]
    torch.manual_seed(0)
    head.weight.normal_()
    head.bias.zero_()
    head.bias.sub_(answer(teacher(batch.visible)).mean(dim=(0, 2, 3)))
    terms = phase.loss(batch)
    relabelled = replace(batch, label=torch.zeros_like(batch.label))  # type: ignore[arg-type]
    mirrored = replace(batch, visible=batch.visible.flip(-1))  # type: ignore[union-attr]
    for other, changed in ((relabelled, LABELLED), (mirrored, IMITATING | {"distill_features"})):
        again = phase.loss(other)  # type: ignore[arg-type]
        assert {name for name in terms if not torch.allclose(terms[name], again[name], rtol=1e-6)} == changed


def test_the_teacher_is_frozen_and_out_of_the_optimiser() -> None:
    _, phase = disoptnet().phases()
    module = PhaseModule(phase, Recipe(), CLASSES, seed=0)
    teacher = phase.frozen[0]
    assert not any(part.training for part in teacher.modules())
    torch.stack(list(phase.loss(labelled()).values())).sum().backward()
    assert all(p.grad is None and not p.requires_grad for p in teacher.parameters())
    optimised = {id(p) for group in module.configure_optimizers().param_groups for p in group["params"]}
    assert optimised == {id(p) for p in phase.keeps.parameters()}


def test_terms_by_hand() -> None:
    system = disoptnet().eval()
    randomise_norms(system)
    _, phase = prepared(system)
    teacher, batch = phase.frozen[0], labelled()
    randomise_norms(teacher, seed=1)
    with torch.no_grad():
        terms = phase.loss(batch)
        taught = teacher(visible=batch.visible, features=True)
        output = system(infrared=batch.infrared, features=True)
    own = output.branches["imitating"].log_softmax(dim=1)
    soft = -(taught.logits.softmax(dim=1) * own).sum(dim=1).mean()
    hard = F.nll_loss(own, taught.logits.argmax(dim=1))
    dice = smp.losses.DiceLoss("multiclass")(output.branches["imitating"], taught.logits.argmax(dim=1))
    (g4, g5), (*_, t4, t5) = output.features.tail, taught.features.stages
    decoders = output.features.decoder, taught.features.decoder
    errors = [F.mse_loss(g4, t4), F.mse_loss(g5, t5), F.mse_loss(*decoders)]
    wanted = {
        "soft_imitating": soft,
        "ce_imitating": hard,
        "dice_imitating": dice,
        "distill_features": sum(errors) / 3,
        "ce_student": F.cross_entropy(output.branches["student"], batch.label, ignore_index=255),
        "ce_fused": F.cross_entropy(output.branches["fused"], batch.label, ignore_index=255),
    }
    for name, value in wanted.items():
        assert terms[name].item() == pytest.approx(value.item(), rel=1e-4), name


@pytest.mark.parametrize("batch", [1, 3])
def test_the_published_soft_cross_entropy_grows_with_the_batch(batch: int) -> None:
    student, teacher = torch.randn(2, batch, 4, 5, 6, dtype=torch.float64)
    by_pixel = -(teacher.softmax(dim=1) * student.log_softmax(dim=1)).sum()
    assert soft_cross_entropy(student, teacher).item() == pytest.approx(by_pixel.item() / (batch * 30))
    published = soft_cross_entropy(student, teacher, mean_over="places")
    assert published.item() == pytest.approx(by_pixel.item() / 30)
    with pytest.raises(ValueError, match="same shape"):
        soft_cross_entropy(student, teacher[..., :5])


def test_options_reach_their_terms() -> None:
    def terms(**options: Any) -> dict[str, Tensor]:
        torch.manual_seed(1)
        _, phase = prepared(disoptnet(**options).eval())
        return dict(phase.loss(labelled()))

    plain = terms()
    for options, factors in (
        ({"soft_mean": "places"}, {"soft_imitating": 2}),
        ({"distill_predictions_weight": 0.5}, dict.fromkeys(IMITATING, 0.5)),
        ({"distill_features_weight": 3.0}, {"distill_features": 3}),
    ):
        for name, value in terms(**options).items():
            expected = factors.get(name, 1) * plain[name].item()
            assert value.item() == pytest.approx(expected, rel=1e-4), (options, name)
    assert terms(dice_form="global")["dice_fused"].item() != pytest.approx(plain["dice_fused"].item())


@pytest.mark.parametrize("option", ["deploy", "soft_mean", "kept_epoch", "dice_form"])
def test_values_that_do_not_exist_are_refused(option: str) -> None:
    with pytest.raises(OptionError, match=rf"disoptnet\.{option} must be one of .*, not 'other'"):
        disoptnet(**{option: "other"})


def test_recipes() -> None:
    """SGD 5e-3, momentum 0.9, Nesterov, 1e-4, poly 0.9 per step, 200 epochs of 16 and of 8 pairs."""
    paper = resolve(TrainOptions(system="disoptnet", data="scenes", out="nowhere"))
    for phase, batch_size in (("teacher", 16), ("disoptnet", 8)):
        recipe = paper.recipe(phase)
        assert (recipe.epochs, recipe.batch_size, recipe.schedule_per) == (200, batch_size, "step")
        assert (recipe.optimizer, recipe.lr, recipe.momentum) == ("sgd", 5e-3, 0.9)
        assert (recipe.nesterov, recipe.weight_decay, recipe.power) == (True, 1e-4, 0.9)
    assert paper.augmentation().crop == (512, 512)
    common = resolve(replace(paper.options, recipe={"name": "common"}))
    assert common.recipe("teacher") == common.recipe("disoptnet") == Recipe()
    assert common.augmentation().crop is None


# --- it learns


@pytest.mark.slow
def test_it_overfits_four_scenes() -> None:
    batch = four_scenes()
    torch.manual_seed(0)
    system = create("disoptnet", classes=SCENE_CLASS_COUNT, encoder=TINY["encoder"], decoder_channels=64)
    for phase, steps in zip(system.phases(), (40, 220), strict=True):
        fit(phase, batch, steps, 1e-2)
    for deploy in ("fused", "student"):
        system.deploy = deploy
        assert mean_iou(system, batch, "infrared") > 0.85, deploy


def test_a_run_trains_both_phases_and_its_student_is_a_run_too(tmp_path: Path) -> None:
    network: dict[str, Any] = {"decoder_channels": 16, "head_kernel": 1}
    folder = train(tiny_options(tmp_path / "run", "disoptnet", network=network, **ONE_EPOCH), quiet=True)
    rows = curves_without_seconds(folder)
    assert [row["phase"] for row in rows] == ["teacher", "disoptnet"]
    assert rows[-1]["val_miou_infrared"]
    card = read_card(folder)
    assert card.training["checkpoint"]["disoptnet"] == {"chosen_by": "last epoch", "epoch": 1}
    system, _ = load_run(folder)
    assert isinstance(system, DisOptNet)
    student = system.student_system()
    save_run(tmp_path / "student", student, make_card(student, card.classes, card.infrared_scaling, {}))
    again, _ = load_run(tmp_path / "student")
    system.deploy = "student"
    infrared = images(32, 48)[1]
    with torch.no_grad():
        assert torch.equal(again(infrared=infrared).logits, system(infrared=infrared).logits)
    # A DeepLabV3+ on visible images serves as the teacher, as it does in CSK-Net.
    teacher = create("deeplabv3plus", classes=len(card.classes.names), **TINY)
    save_run(tmp_path / "visible", teacher, make_card(teacher, card.classes, card.infrared_scaling, {}))
    changes: dict[str, Any] = {"reuse": {"teacher": str(tmp_path / "visible")}, **ONE_EPOCH}
    network |= {"deploy": "student"}
    folder = train(tiny_options(tmp_path / "second", "disoptnet", network=network, **changes), quiet=True)
    assert [row["phase"] for row in curves_without_seconds(folder)] == ["disoptnet"]
    system, _ = load_run(folder)
    assert count_parameters(*system.deployed("infrared")) == count_parameters(system.student)
