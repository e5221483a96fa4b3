"""What MMANet is trained on: its phases, the terms of its loss, and that it learns."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from crossband.recipe import Recipe
from crossband.systems import create
from crossband.systems.mmanet import training as mmanet_training
from crossband.systems.mmanet.esanet import Decoder
from crossband.systems.mmanet.margin import margin_aware_distillation, prediction_entropy
from crossband.systems.mmanet.multiscale import multiscale_cross_entropy
from crossband.systems.mmanet.network import MMANet
from crossband.systems.mmanet.training import ABLATIONS
from crossband.training.engine import train
from crossband.training.options import TrainOptions
from crossband.training.phase_module import PhaseModule
from crossband.weights import load_run
from crossband.words import IGNORE_INDEX
from overfitting import SCENE_CLASS_COUNT, fit, four_scenes, mean_iou
from tiny_mmanet import SEGMENTATION, mmanet, prepared, seed_of, terms_of
from tiny_runs import curves_without_seconds, tiny_options
from tiny_systems import CLASSES, TINY, labelled, randomise_norms

# --- phases


def test_phases() -> None:
    system = mmanet()
    first, second = system.phases()
    teacher = first.keeps
    assert isinstance(teacher, MMANet)
    assert (first.name, second.name) == ("teacher", "mmanet")
    assert (first.validate, second.validate) == (("both",), ("both", "infrared", "visible"))
    assert first.trained is teacher
    assert second.frozen == (teacher,)
    assert second.keeps is system
    assert not teacher.settings.modality_dropout
    for encoder in ("visible", "infrared"):
        start, own = getattr(teacher, encoder).state_dict(), getattr(system, encoder).state_dict()
        assert all(torch.equal(start[key], own[key]) for key in own)
    ours = {p.data_ptr() for p in second.trained.parameters()}
    assert not ours & {p.data_ptr() for p in teacher.parameters()}
    assert isinstance(second.trained["regularisation"], Decoder)
    assert not any(name.startswith("regularisation") for name, _ in system.named_parameters())


@pytest.mark.parametrize(
    ("row", "names", "terms"),
    [
        ("MMANet", ["teacher", "mmanet"], {"distill", "regularise"}),
        ("w/o margin-aware distillation", ["mmanet"], {"regularise"}),
        ("w/o modality-aware regularisation", ["teacher", "mmanet"], {"distill"}),
        ("modality dropout alone", ["mmanet"], set()),
        ("full modalities (ESANet)", ["segmentation"], set()),
    ],
)
def test_ablations_leave_out_what_they_do_not_need(row: str, names: list[str], terms: set[str]) -> None:
    system = mmanet(**ABLATIONS[row])
    assert [phase.name for phase in system.phases()] == names
    phase = prepared(system)
    assert set(phase.loss(labelled())) == SEGMENTATION | terms
    assert len(phase.frozen) == ("teacher" in names)
    if "regularise" not in terms:
        assert sum(p.numel() for p in phase.trained.parameters()) == sum(
            p.numel() for p in system.parameters()
        )


def test_the_teacher_is_frozen_in_eval_mode_and_never_loses_a_band() -> None:
    phase = mmanet().phases()[-1]
    module = PhaseModule(phase, Recipe(), CLASSES, seed=0)
    module.train()
    teacher = phase.frozen[0]
    assert not any(part.training for part in teacher.modules())
    before = {key: value.clone() for key, value in teacher.state_dict().items()}
    torch.stack(list(phase.loss(labelled()).values())).sum().backward()
    assert all(p.grad is None for p in teacher.parameters())
    assert all(torch.equal(value, before[key]) for key, value in teacher.state_dict().items())
    optimised = {id(p) for group in module.configure_optimizers().param_groups for p in group["params"]}
    assert optimised == {id(p) for p in phase.trained.parameters()}


def test_one_step_of_every_phase_moves_all_that_is_trained() -> None:
    seed = seed_of([(1, 0), (0, 1), (1, 1), (1, 1)])
    for phase in mmanet().phases():
        module = PhaseModule(phase, Recipe(lr=0.1, weight_decay=0.0), CLASSES, seed=0)
        (optimiser,) = [module.configure_optimizers()]
        before = {name: value.detach().clone() for name, value in phase.trained.named_parameters()}
        torch.stack(list(terms_of(phase, labelled(batch=4), seed).values())).sum().backward()
        optimiser.step()
        still = {name for name, value in phase.trained.named_parameters() if torch.equal(value, before[name])}
        # A bias right before a batch norm changes nothing in training: its gradient is rounding alone.
        assert all(name.endswith((".layers.2.bias", ".layers.7.bias")) for name in still)
        module.release()


# --- the terms


def test_segmentation_is_four_cross_entropies() -> None:
    system, batch = mmanet(modality_dropout=False), labelled(48, 80)
    terms = terms_of(prepared(system), batch)
    output = system(batch.visible, batch.infrared, features=True)
    label = batch.label
    assert label is not None
    padded = system.pad_label(label)
    assert [side.shape[-2:] for side in output.features.sides] == [(8, 12), (4, 6), (2, 3)]
    scales = [output.logits, *output.features.sides]
    for name, stride, logits in zip(("ce", "ce_8", "ce_16", "ce_32"), (1, 8, 16, 32), scales, strict=True):
        wanted = label if stride == 1 else padded[:, ::stride, ::stride]
        expected = torch.nn.functional.cross_entropy(logits, wanted, ignore_index=IGNORE_INDEX)
        assert terms[name].item() == pytest.approx(expected.item(), rel=1e-4)


def test_class_weights_reach_every_scale() -> None:
    batch = labelled()
    plain = terms_of(prepared(mmanet()), batch)
    weighted = terms_of(prepared(mmanet(class_weights=[4.0, 1.0, 1.0, 1.0, 0.1])), batch)
    alike = terms_of(prepared(mmanet(class_weights=[2.0] * 5)), batch)
    for name in (*SEGMENTATION, "regularise"):
        assert weighted[name].item() != pytest.approx(plain[name].item(), rel=1e-3) or not plain[name]
        assert alike[name].item() == pytest.approx(plain[name].item(), rel=1e-5)


def test_distillation_by_hand() -> None:
    """The sum over the context map and the two coarser skips, each weighed by the teacher's entropy there."""
    for uncertainty in ("logits", "feature"):
        system = mmanet(uncertainty=uncertainty, modality_dropout=True)
        phase = prepared(system)
        (teacher,) = phase.frozen
        randomise_norms(teacher)
        batch = labelled(160, 224)
        terms = terms_of(phase, batch)
        torch.manual_seed(0)
        given = batch.visible, batch.infrared
        ours = system(*given, features=True).features
        theirs = teacher(*given, features=True)
        source = theirs.logits if uncertainty == "logits" else theirs.features.decoder
        total = 0.0
        for student, taught in zip(
            [ours.context, *ours.skips[:2]],
            [theirs.features.context, *theirs.features.skips[:2]],
            strict=True,
        ):
            pooled = torch.nn.functional.adaptive_avg_pool2d(source, student.shape[-2:])
            total += margin_aware_distillation(student, taught, prediction_entropy(pooled)).item()
        assert terms["distill"].item() == pytest.approx(4 * total, rel=1e-4)
        assert total > 0.01


def test_where_the_uncertainty_comes_from_matters() -> None:
    values = set()
    for uncertainty in ("logits", "feature"):
        phase = prepared(mmanet(uncertainty=uncertainty))
        randomise_norms(phase.frozen[0])
        values.add(round(terms_of(phase, labelled())["distill"].item(), 6))
    assert len(values) == 2


def test_large_maps_are_averaged_to_thirty_by_forty_and_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, ...]] = []

    def spied(student: Tensor, *others: Tensor, max_rows: int) -> Tensor:
        seen.append((*student.shape[-2:], max_rows))
        return margin_aware_distillation(student, *others, max_rows=max_rows)

    monkeypatch.setattr(mmanet_training, "margin_aware_distillation", spied)
    with torch.no_grad():
        terms_of(prepared(mmanet(max_rows=64)), labelled(320, 352))
    assert seen == [(10, 11, 64), (20, 22, 64), (30, 40, 64)]


def test_a_student_like_its_teacher_has_nothing_to_learn_from_it() -> None:
    system = mmanet()
    phase = prepared(system)
    teacher = phase.frozen[0]
    randomise_norms(system)
    teacher.load_state_dict(system.state_dict())
    system.eval()
    assert terms_of(phase, labelled())["distill"].item() < 1e-8
    system.train()
    assert terms_of(phase, labelled())["distill"].item() > 1e-3


def test_regularisation_is_that_of_the_pairs_with_the_weak_band_alone() -> None:
    system, batch = mmanet(), labelled(batch=3)
    phase = prepared(system)
    seed = seed_of([(1, 0), (0, 1), (1, 1)])
    term = terms_of(phase, batch, seed)["regularise"]
    torch.manual_seed(seed)
    maps = system(batch.visible, batch.infrared, features=True).features
    decoder = phase.trained["regularisation"]
    decoded = decoder(maps.context, maps.skips, sides=True)
    label = batch.label
    assert label is not None
    own = [logits[1:2] for logits in (decoded.logits, *decoded.sides)]
    wanted = torch.stack(multiscale_cross_entropy(own, label[1:2])).sum()
    assert term.item() == pytest.approx(0.2 * wanted.item(), rel=1e-4)
    # Label of others: not read.
    other = replace(batch, label=label.clone())
    other.label[[0, 2]] = 0  # type: ignore[index]
    assert terms_of(phase, other, seed)["regularise"].item() == pytest.approx(term.item(), rel=1e-5)


def test_the_weak_band_can_be_visible_and_may_not_be_drawn() -> None:
    batch = labelled(batch=3)
    seed = seed_of([(1, 0), (1, 1), (1, 1)])
    assert terms_of(prepared(mmanet()), batch, seed)["regularise"].item() == 0
    assert terms_of(prepared(mmanet(weak="visible")), batch, seed)["regularise"].item() > 0.01
    # A term without a pair still belongs to the graph, so that every device's step has the same one.
    assert terms_of(prepared(mmanet()), batch, seed)["regularise"].requires_grad


def test_regularisation_reaches_the_network_through_its_maps() -> None:
    system = mmanet()
    phase = prepared(system)
    phase.loss(labelled().only("infrared"))["regularise"].backward()
    decoder = phase.trained["regularisation"]
    assert all(p.grad is not None and p.grad.any() for p in decoder.parameters())
    assert all(p.grad is not None for p in system.infrared.parameters())
    assert all(p.grad is None for p in system.decoder.parameters())


@pytest.mark.parametrize(("bands", "weak"), [("infrared", True), ("visible", False)])
def test_a_batch_without_a_band_has_no_distillation(bands: Any, weak: bool) -> None:
    terms = terms_of(prepared(mmanet()), labelled().only(bands))
    assert set(terms) == SEGMENTATION | {"regularise"}
    assert (terms["regularise"].item() > 0) is weak


def test_weights_scale_their_terms() -> None:
    batch = labelled()
    plain = terms_of(prepared(mmanet()), batch)
    other = terms_of(prepared(mmanet(distillation_weight=8.0, regularisation_weight=0.6)), batch)
    for name, factor in {"distill": 2, "regularise": 3, "ce": 1, "ce_32": 1}.items():
        assert other[name].item() == pytest.approx(factor * plain[name].item(), rel=1e-4), name


# --- it learns


@pytest.mark.slow
def test_it_overfits_four_scenes() -> None:
    """Infrared alone, which one batch in three trains, learns them too."""
    batch = four_scenes(16, 16)
    torch.manual_seed(0)
    system = create("mmanet", classes=SCENE_CLASS_COUNT, encoder=TINY["encoder"], decoder_channels=64)
    for phase, steps in zip(system.phases(), (30, 130), strict=True):
        fit(phase, batch, steps, 3e-2)
    assert mean_iou(system, batch) > 0.85
    assert mean_iou(system, batch, "infrared") > 0.6


def test_a_run_trains_both_phases_and_can_teach_another(tmp_path: Path) -> None:
    def options(name: str, epochs: int, **changes: Any) -> TrainOptions:
        recipe = {"epochs": epochs, "batch_size": 2}
        return tiny_options(
            tmp_path / name, "mmanet", recipe=recipe, augmentation={"crop": [96, 128]}, **changes
        )

    folder = train(options("run", 2), quiet=True)
    curves = curves_without_seconds(folder)
    assert [(row["phase"], row["epoch"]) for row in curves] == [
        *(("teacher", str(epoch)) for epoch in (1, 2)),
        *(("mmanet", str(epoch)) for epoch in (1, 2)),
    ]
    for row in curves[2:]:
        assert all(row[f"val_miou_{bands}"] for bands in ("both", "infrared", "visible"))
        assert bool(row["distill"]) == bool(row["regularise"]) == (int(row["epoch"]) > 1)
    system, card = load_run(folder)
    assert system.name == "mmanet"
    assert set(card.training["recipes"]) == {"teacher", "mmanet"}
    assert card.training["recipes"]["mmanet"]["schedule"] == "one-cycle"
    batch = labelled(32, 48)
    with torch.no_grad():
        for bands in system.eval().supports:
            given = batch.only(bands)
            assert torch.isfinite(system(given.visible, given.infrared).logits).all()

    plain = {"decoder_channels": 16, "modality_dropout": False}
    teacher = train(options("teacher", 1, network=plain), quiet=True)
    taught = options("taught", 2, reuse={"teacher": str(teacher)})
    curves = curves_without_seconds(train(taught, quiet=True))
    assert {row["phase"] for row in curves} == {"mmanet"}
    assert curves[-1]["distill"]
