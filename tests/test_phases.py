"""What a phase can ask of training: groups of parameters, clipping, what chooses its epoch, preparation."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from crossband.errors import OptionError, PairError
from crossband.pairs.augmentation import Augmentation
from crossband.pairs.batch import Batch
from crossband.pairs.export import export_folder
from crossband.recipe import Recipe
from crossband.run_card import read_card
from crossband.systems.base import EpochRow, NetworkSettings, Output, Phase, System, Training
from crossband.systems.registry import registered
from crossband.training import engine
from crossband.training.curves import read_curves
from crossband.training.engine import resume, train
from crossband.training.options import TrainOptions
from crossband.training.phase_module import PhaseModule, compile_trained
from crossband.training.resolving import resolve
from crossband.words import IGNORE_INDEX, Bands, Support
from tiny_runs import TINY_DATA, curves_without_seconds
from tiny_systems import labelled, tiny


@dataclass(frozen=True, kw_only=True)
class AlternatingSettings(NetworkSettings):
    pass


class Alternating(System):
    """A picture (one convolution) and labels of it (another), trained in turns; infrared alone at the end."""

    name = "alternating"
    summary = "two convolutions"
    paper = "none"
    supports: Mapping[Bands, Support] = {"infrared": "designed"}
    fuses = True
    built_from = AlternatingSettings
    trained_by = f"{__name__}:AlternatingTraining"

    def __init__(self, classes: int | None, settings: AlternatingSettings):
        super().__init__(classes, settings)
        self.picture = nn.Conv2d(1, 3, 3, padding=1)
        self.labels = nn.Conv2d(3, self.need_classes(classes), 3, padding=1)
        self.prepared: list[tuple[str, int, list[float]]] = []

    def run(self, visible: Tensor | None, infrared: Tensor | None, *, features: bool) -> Output:
        assert infrared is not None
        fused = self.picture(infrared).sigmoid()
        return Output(self.labels(fused), fused)

    def deployed(self, bands: Bands) -> list[nn.Module]:
        self.check_bands(bands)
        return [self]

    def likeness(self, batch: Batch) -> dict[str, Tensor]:
        assert batch.infrared is not None
        wanted = (1 - batch.infrared).expand(-1, 3, -1, -1)
        return {"likeness": F.mse_loss(self(None, batch.infrared).fused, wanted)}

    def entropy(self, batch: Batch) -> dict[str, Tensor]:
        logits = self(None, batch.infrared).logits
        return {"ce": F.cross_entropy(logits, batch.label, ignore_index=IGNORE_INDEX)}


@dataclass(frozen=True, kw_only=True)
class AlternatingTraining(Training[Alternating]):
    reads: Bands = "infrared"

    recipes: ClassVar[Mapping[str, Mapping[str, Any]]] = {"paper": {"lr": 0.01, "optimizer": "adam"}}
    phase_recipes: ClassVar[Mapping[str, Mapping[str, Mapping[str, Any]]]] = {
        "paper": {"picture": {"lr": 0.03, "epochs": 5}}
    }
    augmentations: ClassVar[Mapping[str, Mapping[str, Any]]] = {"paper": {"gain": 0.1}}
    phase_augmentations: ClassVar[Mapping[str, Mapping[str, Mapping[str, Any]]]] = {
        "paper": {"picture": {"crop": (20, 24)}}
    }

    def phases(self, system: Alternating) -> list[Phase]:
        def prepare(epoch: int, epochs: int, rows: Sequence[EpochRow]) -> None:
            system.prepared.append(("again", epoch, [row.scores["infrared"] for row in rows]))

        def picture(batch: Batch) -> dict[str, Tensor]:
            return system.likeness(batch)

        def labels(batch: Batch) -> dict[str, Tensor]:
            return system.entropy(batch)

        every: dict[str, Any] = {"keeps": system, "validate": ("infrared",)}
        return [
            Phase("picture", system.picture, loss=picture, chooses="loss", reads=self.reads, **every),
            Phase("labels", system.labels, loss=labels, frozen=(system.picture,), **every),
            Phase(
                "again",
                system.picture,
                loss=labels,
                frozen=(system.labels,),
                chooses="last",
                prepare=prepare,
                groups={"kernel": system.picture},
                **every,
            ),
        ]


@pytest.fixture(autouse=True, scope="module")
def alternating() -> Iterator[None]:
    with registered(Alternating):
        yield


def options(out: Path, **changes: Any) -> TrainOptions:
    values: dict[str, Any] = {
        "data": TINY_DATA,
        "recipe": {"epochs": 3, "batch_size": 2, "lr": 0.1},
        "accelerator": "cpu",
        "workers": 0,
        **changes,
    }
    return TrainOptions(system="alternating", out=str(out), **values)


def recorded(options: TrainOptions, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Alternating]:
    """Train, and give the system that was trained, which remembers how it was prepared."""
    made = []
    create = engine.create

    def remember(*arguments: Any, **named: Any) -> System:
        made.append(create(*arguments, **named))
        return made[-1]

    with monkeypatch.context() as patch:
        patch.setattr(engine, "create", remember)
        folder = train(options, quiet=True)
    (system,) = made
    assert isinstance(system, Alternating)
    return folder, system


def test_a_part_is_trained_then_frozen_then_trained_again(tmp_path: Path) -> None:
    weights: dict[str, dict[str, Tensor]] = {}
    save = engine.save_weights

    def watch(module: nn.Module, path: Path) -> None:
        save(module, path)
        if path.parent.name == "phases":
            weights[path.stem] = load_file(path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "save_weights", watch)
        train(options(tmp_path / "run"), quiet=True)
    first, second, third = (weights[name] for name in ("picture", "labels", "again"))
    for part, (before, middle, after) in {
        key: (first[key], second[key], third[key]) for key in first
    }.items():
        if part.startswith("picture"):
            assert torch.equal(before, middle)
            assert not torch.equal(middle, after)
        else:
            assert not torch.equal(before, middle)
            assert torch.equal(middle, after)


def test_each_phase_says_what_chose_its_epoch(tmp_path: Path) -> None:
    folder = train(options(tmp_path / "run"), quiet=True)
    chosen = read_card(folder).training["checkpoint"]
    rows = {name: [row for row in read_curves(folder) if row.phase == name] for name in chosen}
    assert chosen["picture"]["chosen_by"].startswith("lowest loss on ")
    assert chosen["picture"]["loss"] == min(row.validation_loss for row in rows["picture"])
    assert rows["picture"][0].scores == {}
    assert chosen["labels"]["chosen_by"].startswith("best mean IoU (protocol present, infrared)")
    assert chosen["labels"]["mean_iou"] == max(row.scores["infrared"] for row in rows["labels"])
    assert chosen["again"] == {"chosen_by": "last epoch", "epoch": 3}
    assert rows["again"][0].scores


def test_a_phase_that_only_fuses_is_never_scored_on_labels() -> None:
    system = Alternating(3, AlternatingSettings())
    only = Alternating(3, AlternatingSettings())
    only.segments = False
    for kept, scored in ((system, True), (only, False)):
        phase = Phase("picture", system.picture, kept, system.likeness, (), ("infrared",), chooses="last")
        module = PhaseModule(phase, Recipe(), 3, seed=0)
        module.on_validation_epoch_start()
        assert bool(module.scores) is scored


def test_a_phase_is_prepared_with_what_was_logged_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, system = recorded(options(tmp_path / "run"), monkeypatch)
    scores = [row.scores["infrared"] for row in read_curves(folder) if row.phase == "again"]
    assert system.prepared == [("again", epoch, scores[:epoch]) for epoch in range(3)]


def test_a_phase_that_is_cut_off_is_prepared_as_if_it_were_not(tmp_path: Path) -> None:
    whole = train(options(tmp_path / "whole"), quiet=True)

    def cut(row: EpochRow) -> None:
        if (row.phase, row.epoch) == ("again", 2):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(options(tmp_path / "cut"), quiet=True, after_epoch=cut)
    resume(tmp_path / "cut", quiet=True)
    assert curves_without_seconds(tmp_path / "cut") == curves_without_seconds(whole)
    name = "weights.safetensors"
    assert (tmp_path / "cut" / name).read_bytes() == (whole / name).read_bytes()


def test_recipes_of_single_phases_lie_between_the_named_one_and_what_is_asked_for() -> None:
    def recipe(phase: str, **changes: Any) -> Recipe:
        return resolve(options(Path("run"), **{"recipe": {}, **changes})).recipe(phase)

    assert (recipe("picture").lr, recipe("picture").epochs) == (0.03, 5)
    assert (recipe("labels").lr, recipe("labels").optimizer) == (0.01, "adam")
    assert recipe("picture", recipe={"lr": 0.5}) == Recipe(lr=0.5, epochs=5, optimizer="adam")
    assert recipe("picture", recipe={"lr": 0.5}, phases={"picture": {"epochs": 1}}).epochs == 1
    assert recipe("picture", recipe={"name": "common"}) == Recipe()


def test_augmentations_of_single_phases_lie_there_too() -> None:
    def augmentation(phase: str | None, **changes: Any) -> Augmentation:
        return resolve(options(Path("run"), **changes)).augmentation(phase)

    assert augmentation("picture") == Augmentation(crop=(20, 24), gain=0.1)
    assert augmentation("labels") == augmentation(None) == Augmentation(gain=0.1)
    assert augmentation("picture", augmentation={"flip": 0.0}) == Augmentation(0.0, crop=(20, 24), gain=0.1)
    assert augmentation("picture", augmentation={"crop": None}).crop is None
    assert augmentation("picture", recipe={"name": "common"}) == Augmentation()


def test_a_phase_is_trained_with_its_own_augmentation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, set[tuple[int, ...]]] = {"picture": set(), "labels": set()}

    def watched(name: str, loss: Callable[..., Any]) -> Callable[..., Any]:
        def watch(system: Alternating, batch: Batch) -> Any:
            if torch.is_grad_enabled():
                assert batch.infrared is not None
                seen[name].add(tuple(batch.infrared.shape[-2:]))
            return loss(system, batch)

        return watch

    for name, method in (("picture", "likeness"), ("labels", "entropy")):
        monkeypatch.setattr(Alternating, method, watched(name, getattr(Alternating, method)))
    folder = train(options(tmp_path / "run"), quiet=True)
    assert seen == {"picture": {(20, 24)}, "labels": {(32, 48)}}
    training = read_card(folder).training
    assert (training["augmentation"]["gain"], training["augmentation"]["crop"]) == (0.1, None)
    assert list(training["phase_augmentations"]) == ["picture"]
    assert training["phase_augmentations"]["picture"]["crop"] == [20, 24]
    assert training["phase_augmentations"]["picture"]["gain"] == 0.1


def test_a_reused_phase_brings_those_before_it_that_keep_the_same(tmp_path: Path) -> None:
    """Training these would undo it; the phases after it are trained."""
    whole = train(options(tmp_path / "whole"), quiet=True)
    again = train(options(tmp_path / "again", reuse={"labels": str(whole)}), quiet=True)
    assert {row.phase for row in read_curves(again)} == {"again"}
    chosen = read_card(again).training["checkpoint"]
    assert chosen["picture"] == chosen["labels"] == {"reused": str(whole)}
    assert set(read_card(again).training["recipes"]) == {"again"}


def test_bands_that_training_reads_must_be_there(tmp_path: Path) -> None:
    pairs = tmp_path / "pairs"
    export_folder(TINY_DATA, pairs)
    for split in ("train", "val", "test"):
        shutil.rmtree(pairs / split / "visible")
    with pytest.raises(PairError, match="phase picture of alternating trains on infrared and visible"):
        train(options(tmp_path / "run", loss={"reads": "both"}, data=f"folder:{pairs}"), quiet=True)


def test_groups_follow_their_own_rate_decay_and_momentum() -> None:
    system = Alternating(3, AlternatingSettings())
    recipe = Recipe(
        epochs=4,
        lr=0.1,
        weight_decay=0.5,
        groups={"kernel": {"lr": 1.0, "schedule": "drops", "drops": (1.0, 0.5), "momentum": 0.25}},
    )
    phase = Phase("again", system, system, system.entropy, groups={"kernel": system.labels})
    rest, kernel = PhaseModule(phase, recipe, 3, seed=0).configure_optimizers().param_groups
    if rest["name"] == "kernel":
        rest, kernel = kernel, rest
    assert [id(p) for p in kernel["params"]] == [id(p) for p in system.labels.parameters()]
    assert [id(p) for p in rest["params"]] == [id(p) for p in system.picture.parameters()]
    assert (rest["momentum"], kernel["momentum"], kernel["weight_decay"]) == (0.9, 0.25, 0.5)
    of_kernel = recipe.of_group("kernel")
    assert [of_kernel.learning_rate(epoch, 0, 1) for epoch in range(4)] == [1.0, 1.0, 0.5, 0.5]
    assert recipe.of_group("").learning_rate(2, 0, 1) == pytest.approx(0.1 * 0.5**0.9)


def test_the_rate_of_a_group_reaches_its_parameters(tmp_path: Path) -> None:
    """A rate of 0 leaves a group as it was."""
    still = options(tmp_path / "run", phases={"again": {"groups": {"kernel": {"weight_decay": 0.0}}}})
    still.phases["again"]["groups"]["kernel"]["schedule"] = "drops"
    still.phases["again"]["groups"]["kernel"]["drops"] = [0.0]
    weights: list[dict[str, Tensor]] = []
    save = engine.save_weights

    def watch(module: nn.Module, path: Path) -> None:
        save(module, path)
        if path.parent.name == "phases":
            weights.append(load_file(path))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "save_weights", watch)
        train(still, quiet=True)
    assert all(torch.equal(weights[1][key], weights[2][key]) for key in weights[1])


def test_a_group_that_a_phase_does_not_have_is_refused(tmp_path: Path) -> None:
    wrong = options(tmp_path / "run", recipe={"groups": {"kernel": {"lr": 1.0}}})
    with pytest.raises(OptionError, match=r"phase picture of alternating has no group 'kernel'; it has none"):
        train(wrong, quiet=True)


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ({"kernel": {"epochs": 3}}, r"recipe.groups cannot change 'epochs' of 'kernel'; a group has lr"),
        ({"kernel": {"lr": -1.0}}, r"recipe.lr must be above 0"),
        ({"kernel": {"lr": "fast"}}, r"recipe.lr must be a number"),
    ],
)
def test_groups_are_checked_as_the_recipe_is(groups: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        Recipe(groups=groups)


def test_gradients_are_cut_for_each_group_apart() -> None:
    system = Alternating(3, AlternatingSettings())
    recipe = Recipe(clip_norm=0.5, groups={"kernel": {"clip_norm": 0.0}})
    phase = Phase("again", system, system, system.entropy, groups={"kernel": system.labels})
    module = PhaseModule(phase, recipe, 3, seed=0)
    for parameter in system.parameters():
        parameter.grad = torch.full_like(parameter, 2.0)
    module.on_before_optimizer_step(module.configure_optimizers())

    def norm(part: nn.Module) -> float:
        return torch.stack([p.grad.square().sum() for p in part.parameters()]).sum().sqrt().item()  # type: ignore[union-attr]

    assert norm(system.picture) == pytest.approx(0.5, rel=1e-4)
    assert norm(system.labels) == pytest.approx(
        2.0 * sum(p.numel() for p in system.labels.parameters()) ** 0.5
    )


@pytest.mark.parametrize("name", ["csknet", "cddfuse", "mmanet", "segmif"])
def test_what_is_compiled_is_what_the_loss_of_each_phase_calls(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the loss calls parts of the system alone."""
    called: list[int] = []

    def compile(call: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args, **kwargs: called.append(1) or call(*args, **kwargs)

    monkeypatch.setattr(torch, "compile", compile)
    for phase in tiny(name).phases():
        compile_trained(phase)
        called.clear()
        phase.loss(labelled())
        assert called, phase.name
