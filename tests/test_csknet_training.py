"""CSK-Net's training: its phases, the terms of its loss, the rows of its ablation, and that it learns."""

from dataclasses import asdict
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from crossband.errors import OptionError
from crossband.pairs.batch import Batch
from crossband.recipe import Recipe
from crossband.systems import create
from crossband.systems.base import Phase, System
from crossband.systems.csknet import training
from crossband.systems.csknet.training import ABLATIONS, CSKNet
from crossband.training.phase_module import PhaseModule
from overfitting import SCENE_CLASS_COUNT, fit, four_scenes, mean_iou
from tiny_systems import CLASSES, TINY, csknet, labelled, randomise_norms


def prepared(system: CSKNet) -> tuple[Phase, Phase]:
    """Both phases, the teacher of the second frozen as training has it."""
    first, second = system.phases()
    for module in second.frozen:
        module.eval().requires_grad_(False)
    return first, second


# --- phases and terms


def test_phases() -> None:
    system = csknet()
    teacher, student = system.phases()
    assert (teacher.name, student.name) == ("teacher", "csknet")
    assert (teacher.validate, student.validate) == (("visible",), ("both", "infrared"))
    assert student.frozen == (teacher.keeps,)
    assert student.keeps is system
    start, own = teacher.keeps.network.encoder.state_dict(), system.visible.encoder.state_dict()
    assert all(torch.equal(start[key], own[key]) for key in own)
    assert not {p.data_ptr() for p in teacher.keeps.parameters()} & {
        p.data_ptr() for p in system.parameters()
    }


def test_loss_terms_are_those_of_equation_11() -> None:
    _, phase = prepared(csknet())
    assert set(phase.loss(labelled())) == {
        "ce_fused",
        "dice_fused",
        "ce_infrared",
        "dice_infrared",
        "distill_predictions",
        "distill_features",
        "contrast",
    }


def test_the_visible_head_learns_from_the_teacher_alone() -> None:
    system = csknet()
    _, phase = prepared(system)
    terms = phase.loss(labelled())
    head = system.visible.segmentation_head[0].weight
    for name, term in terms.items():
        (gradient,) = torch.autograd.grad(term, head, retain_graph=True, allow_unused=True)
        assert (gradient is not None) == (name == "distill_predictions"), name


def test_the_teacher_is_frozen_in_eval_mode_and_out_of_the_optimiser() -> None:
    system = csknet()
    _, phase = system.phases()
    module = PhaseModule(phase, Recipe(), CLASSES, seed=0)
    module.train()
    teacher = phase.frozen[0]
    assert system.training
    assert not any(part.training for part in teacher.modules())
    before = {key: value.clone() for key, value in teacher.state_dict().items()}
    torch.stack(list(phase.loss(labelled()).values())).sum().backward()
    assert all(p.grad is None and not p.requires_grad for p in teacher.parameters())
    assert all(torch.equal(value, before[key]) for key, value in teacher.state_dict().items())
    optimised = {id(p) for group in module.configure_optimizers().param_groups for p in group["params"]}
    assert not optimised & {id(p) for p in teacher.parameters()}
    assert optimised == {id(p) for p in phase.trained.parameters()}


def test_the_loss_gives_the_teacher_no_gradient_even_if_nobody_froze_it() -> None:
    _, phase = csknet().phases()
    torch.stack(list(phase.loss(labelled()).values())).sum().backward()
    assert all(p.grad is None for p in phase.frozen[0].parameters())


def test_no_contrast_no_projections() -> None:
    _, with_contrast = prepared(csknet())
    _, without = prepared(csknet(contrastive_weight=0))
    assert "contrast" not in without.loss(labelled())
    extra = {name for name, _ in with_contrast.trained.named_parameters()} - {
        name for name, _ in without.trained.named_parameters()
    }
    assert extra
    assert all(name.startswith("projections.") for name in extra)
    assert not any("projections" in name for name, _ in with_contrast.keeps.named_parameters())


@pytest.mark.parametrize(
    ("bands", "names"),
    [
        ("infrared", {"ce_infrared", "dice_infrared"}),
        ("visible", {"distill_predictions"}),
    ],
)
def test_a_batch_that_misses_a_band_has_the_terms_of_the_other(bands: str, names: set[str]) -> None:
    _, phase = prepared(csknet())
    batch = labelled()
    alone = batch.only(bands)
    terms = phase.loss(alone)
    assert set(terms) == names
    total = torch.stack(list(terms.values())).sum()
    assert torch.isfinite(total)
    total.backward()


def test_weights_of_the_terms_scale_them() -> None:
    options = {
        "distill_predictions_weight": 0.5,
        "distill_features_weight": 3.0,
        "contrastive_weight": 0.25,
        "infrared_weight": 2.0,
    }
    scaled = {"distill_predictions": 0.5, "distill_features": 3.0, "contrast": 0.25}
    scaled |= {"ce_infrared": 2.0, "dice_infrared": 2.0}

    def terms(**options: float) -> dict[str, Tensor]:
        torch.manual_seed(1)
        _, phase = prepared(csknet(**options))
        torch.manual_seed(2)
        return dict(phase.loss(labelled()))

    one, other = terms(), terms(**options)
    for name, value in one.items():
        assert other[name].item() == pytest.approx(scaled.get(name, 1.0) * value.item(), rel=1e-4), name


def test_distillation_taps() -> None:
    """With the odd columns of stages 4 and 5 swapped, the maps before and after the exchange differ."""

    def term(tap: str) -> float:
        torch.manual_seed(1)
        _, phase = prepared(csknet(distill_tap=tap))
        torch.manual_seed(2)
        return phase.loss(labelled())["distill_features"].item()

    assert term("pre") != pytest.approx(term("post"), rel=1e-3)


def test_large_features_make_no_large_loss_where_they_are_normalised() -> None:
    def terms(form: str) -> dict[str, Tensor]:
        torch.manual_seed(1)
        _, phase = prepared(csknet(distill_features_form=form))
        for norm in phase.frozen[0].modules():
            if isinstance(norm, nn.BatchNorm2d):
                norm.weight.data.mul_(3)
        torch.manual_seed(2)
        return dict(phase.loss(labelled()))

    published, normalised = terms("published"), terms("normalised")
    assert published["distill_features"] > 2 > normalised["distill_features"] > 0
    assert all(
        torch.equal(term, normalised[name]) for name, term in published.items() if name != "distill_features"
    )


@pytest.mark.parametrize("row", ABLATIONS, ids=str)
def test_every_row_of_the_papers_ablation_trains(row: str) -> None:
    _, phase = prepared(csknet(**ABLATIONS[row]))
    total = torch.stack(list(phase.loss(labelled()).values())).sum()
    assert torch.isfinite(total)
    total.backward()


def test_the_rows_of_the_papers_ablation_are_five_different_networks() -> None:
    assert len(ABLATIONS) == 5
    assert len({str(sorted(options.items())) for options in ABLATIONS.values()}) == 5
    assert ABLATIONS["CSK-Net"] == {}


@pytest.mark.parametrize(
    "options",
    [
        {"distill_form": "soft_hard"},
        {"distill_features_form": "normalised"},
        {"contrastive_branches": "both"},
        {"projection": "concat", "projection_width": 32},
        {"dice_form": "global"},
        {"private_from_stage": 4},
        {"band_rank": 2, "private_from_stage": 5, "share_decoder": "all"},
        {"infrared_supervision": "exchanged"},
        {"infrared_norms": "own-statistics"},
        {"start": "teacher", "fused_teaches_weight": 1.0},
        {"exchange_site": "dw_bn", "exchange_threshold": 0.3},
        {"exchange_mode": "absolute", "exchange_threshold": 0.02, "exchange_direction": "to-infrared"},
        {"gated_unit_hidden_kernel": 1, "gated_unit_gate_kernel": 3, "gated_unit_bias": False},
        {"contrastive_anchors": 64, "contrastive_per_class": 5, "contrastive_hard_fraction": 0.5},
    ],
    ids=str,
)
def test_every_other_reading_trains(options: dict[str, Any]) -> None:
    _, phase = prepared(csknet(**options))
    total = torch.stack(list(phase.loss(labelled()).values())).sum()
    assert torch.isfinite(total)
    total.backward()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in phase.trained.parameters())


# --- where the infrared head gets its labels


def without_dropout(system: System) -> System:
    """Two passes of one network draw different channels otherwise."""
    for module in system.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return system


def infrared_terms(phase: Phase, batch: Batch) -> Tensor:
    terms = phase.loss(batch)
    return terms["ce_infrared"] + terms["dice_infrared"]


@pytest.mark.parametrize("norms", ["shared", "own-statistics"])
def test_with_the_infrared_loss_alone_it_trains_as_the_plain_network_does(norms: str) -> None:
    system = csknet(infrared_norms=norms)
    plain = system.infrared_system()
    for network in (system, plain):
        without_dropout(network)
    _, phase = prepared(system)
    (plain_phase,) = plain.phases()
    optimiser = torch.optim.SGD(system.infrared.parameters(), lr=0.05)
    plain_optimiser = torch.optim.SGD(plain.parameters(), lr=0.05)
    for seed in range(4):
        batch = labelled(seed=seed)
        ours, plains = infrared_terms(phase, batch), sum(plain_phase.loss(batch).values())
        assert ours.item() == plains.item()
        for stepper, loss in ((optimiser, ours), (plain_optimiser, plains)):
            stepper.zero_grad()
            loss.backward()
            stepper.step()
    for one, other in zip(system.infrared.parameters(), plain.network.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(("supervision", "sees"), [("alone", False), ("exchanged", True)])
def test_whether_the_infrared_loss_sees_the_visible_image(supervision: str, sees: bool) -> None:
    _, phase = prepared(csknet(infrared_supervision=supervision))
    batch = labelled()
    batch.visible.requires_grad_()
    loss = infrared_terms(phase, batch)
    (gradient,) = torch.autograd.grad(loss, batch.visible, allow_unused=True)
    assert (gradient is not None and bool(gradient.abs().sum() > 0)) == sees


def test_the_hard_pixels_of_the_contrastive_loss_are_those_of_the_lone_pass(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[Tensor] = []

    def watching(embeddings: Tensor, label: Tensor, *, prediction: Tensor, **_: Any) -> Tensor:
        seen.append(prediction)
        return embeddings.sum()

    monkeypatch.setattr(training, "pixel_contrast", watching)
    system = without_dropout(csknet())
    _, phase = prepared(system)
    batch = labelled()
    phase.loss(batch)
    lone = system(infrared=batch.infrared).logits.argmax(dim=1)
    in_pair = system(batch.visible, batch.infrared).branches["infrared"].argmax(dim=1)
    assert seen
    assert all(torch.equal(prediction, system.pad_label(lone)) for prediction in seen)
    assert not torch.equal(lone, in_pair)


def test_exchanged_supervision_does_not_go_with_norms_of_infrared_alone() -> None:
    with pytest.raises(OptionError, match="nothing trains the norms of infrared alone"):
        csknet(infrared_supervision="exchanged", infrared_norms="own-statistics").phases()


def test_the_fused_head_teaches_and_does_not_learn_from_infrared() -> None:
    system = csknet(fused_teaches_weight=1.0)
    _, phase = prepared(system)
    phase.loss(labelled())["distill_fused"].backward()
    assert system.infrared.segmentation_head[0].weight.grad.abs().sum() > 0
    assert system.fused_head[0].weight.grad is None
    assert system.visible.segmentation_head[0].weight.grad is None


@pytest.mark.parametrize("norms", ["shared", "own-statistics"])
def test_both_branches_start_where_the_teacher_ended(norms: str) -> None:
    system = csknet(start="teacher", infrared_norms=norms)
    teacher, student = prepared(system)
    randomise_norms(teacher.keeps)
    learnt = teacher.keeps.network.state_dict()
    assert student.prepare is not None
    student.prepare(0, 2, [])
    for branch in system.branches():
        assert all(torch.equal(value, learnt[key]) for key, value in branch.state_dict().items())
    with torch.no_grad():
        system.infrared.segmentation_head[0].bias.add_(1)
    trained = system.infrared.segmentation_head[0].bias.clone()
    student.prepare(1, 2, [])
    assert torch.equal(system.infrared.segmentation_head[0].bias, trained)


def test_the_firm_variant_is_told_apart() -> None:
    system = csknet(variant="firm")
    paper, firm = csknet().given_training, system.given_training
    assert system.infrared_in_pair is not None
    assert csknet().infrared_in_pair is None
    changed = {name for name, value in asdict(firm).items() if value != getattr(paper, name)}
    assert changed == set(training.FIRM)
    _, phase = prepared(system)
    assert "distill_fused" in phase.loss(labelled())


def statistics(branch: nn.Module) -> list[Tensor]:
    return [buffer for name, buffer in branch.named_buffers() if "running" in name]


def test_own_statistics_are_those_of_a_plain_network_and_of_the_pair() -> None:
    system = csknet(infrared_norms="own-statistics")
    plain, exchanged = system.infrared_system(), csknet(infrared_supervision="exchanged")
    for network in (system, plain, exchanged):
        without_dropout(network)
    batch = labelled()
    for network in (system, exchanged):
        prepared(network)[1].loss(batch)
    plain(infrared=batch.infrared)
    for branch, alike, other in (
        (system.infrared, plain.network, exchanged.infrared),
        (system.infrared_in_pair, exchanged.infrared, plain.network),
    ):
        assert all(map(torch.equal, statistics(branch), statistics(alike)))
        assert not all(map(torch.equal, statistics(branch), statistics(other)))


def test_own_statistics_change_no_weight() -> None:
    systems = [csknet(infrared_norms=norms) for norms in ("shared", "own-statistics")]
    for system in systems:
        without_dropout(system)
        torch.manual_seed(0)
        _, phase = prepared(system)
        optimiser = torch.optim.SGD(system.parameters(), lr=0.01)
        for seed in range(2):
            torch.manual_seed(seed)
            torch.stack(list(phase.loss(labelled(seed=seed)).values())).sum().backward()
            optimiser.step()
            optimiser.zero_grad()
    weights = [dict(system.named_parameters()) for system in systems]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


def test_shared_statistics_take_both_passes() -> None:
    system, once = csknet(), csknet(infrared_supervision="exchanged")
    for network in (system, once):
        prepared(network)[1].loss(labelled())
    norm, one = (network.infrared.encoder.model.bn1 for network in (system, once))
    assert (norm.num_batches_tracked, one.num_batches_tracked) == (2, 1)


# --- it learns


@pytest.mark.slow
def test_it_overfits_four_scenes() -> None:
    batch = four_scenes()
    torch.manual_seed(0)
    system = create(
        "csknet",
        classes=SCENE_CLASS_COUNT,
        encoder=TINY["encoder"],
        decoder_channels=64,
        contrastive_anchors=64,
    )
    for phase, steps in zip(system.phases(), (80, 180), strict=True):
        fit(phase, batch, steps, 1e-2)
    assert mean_iou(system, batch) > 0.9
