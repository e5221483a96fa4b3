"""Learning rates worked by hand, weight decay, and named recipes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import nn

from crossband.errors import OptionError
from crossband.recipe import RECIPES, Recipe, named_recipe
from crossband.systems import create, list_systems, loss_options, make_training
from crossband.systems.base import NetworkSettings, Output, Phase, System
from crossband.training.options import TrainOptions
from crossband.training.phase_module import PhaseModule
from crossband.training.resolving import resolve
from tiny_systems import CLASSES, TINY, labelled, tiny

STEPS = 10


def rates(recipe: Recipe) -> list[float]:
    """The rate of every step of a phase with ``STEPS`` steps in an epoch."""
    return [
        recipe.learning_rate(step // STEPS, step, STEPS) / recipe.lr for step in range(recipe.epochs * STEPS)
    ]


def test_the_rate_falls_per_epoch_or_per_step() -> None:
    per_epoch = rates(Recipe(epochs=4, power=0.9))
    assert per_epoch[:STEPS] == [1.0] * STEPS
    assert per_epoch[25] == pytest.approx(0.5**0.9)
    per_step = rates(Recipe(epochs=4, power=0.9, schedule_per="step"))
    assert per_step[25] == pytest.approx((1 - 25 / 40) ** 0.9)
    assert rates(Recipe(epochs=4, schedule="constant")) == [1.0] * 40


def test_a_warm_up_that_multiplies_ends_on_the_schedule() -> None:
    warmed = rates(Recipe(epochs=4, schedule_per="step", warmup_steps=3, warmup_epochs=1))
    plain = rates(Recipe(epochs=4, schedule_per="step"))
    assert warmed[0] == pytest.approx(1 / 14)
    assert warmed[12] == pytest.approx(plain[12] * 13 / 14)
    assert warmed[13:] == plain[13:]


def test_a_warm_up_that_replaces_rises_to_the_full_rate_and_drops() -> None:
    """AMDANet's published schedule for MFNet: 131 steps an epoch, 50 of 350 epochs warm up."""
    recipe = Recipe(epochs=350, lr=6.3e-5, schedule_per="step", warmup_epochs=50, warmup="replace", power=0.9)
    warmup = 50 * 131
    assert recipe.learning_rate(0, 0, 131) == 0
    assert recipe.learning_rate(49, warmup - 1, 131) == pytest.approx(6.3e-5 * (warmup - 1) / warmup)
    # The drop to 0.870 of the base rate that the published numbers of epochs imply.
    assert recipe.learning_rate(50, warmup, 131) / 6.3e-5 == pytest.approx(0.870, abs=5e-4)


def test_a_lagging_schedule_is_one_step_behind_and_starts_at_the_full_rate() -> None:
    settings = {"epochs": 3, "schedule_per": "step", "warmup_epochs": 1, "warmup": "replace"}
    plain, lagging = rates(Recipe(**settings)), rates(Recipe(**settings, schedule_lag=1))
    assert lagging[0] == 1.0
    assert lagging[1] == plain[0] == 0.0
    assert lagging[1:] == plain[:-1]
    by_epoch = rates(Recipe(epochs=3, schedule_lag=1))
    assert by_epoch[STEPS] == 1.0
    assert by_epoch[STEPS + 1] == pytest.approx((2 / 3) ** 0.9)


def test_drops_are_factors_over_equal_parts() -> None:
    """CEN's thirds, and a rate that is halved every 20 of 40 epochs."""
    assert (
        rates(Recipe(epochs=3, schedule="drops", drops=(1.0, 0.5, 0.2)))
        == [1.0] * 10 + [0.5] * 10 + [0.2] * 10
    )
    halved = Recipe(epochs=40, schedule="drops", drops=(1.0, 0.5))
    assert [halved.learning_rate(epoch, 0, 1) / halved.lr for epoch in (0, 19, 20, 39)] == [1, 1, 0.5, 0.5]


@pytest.mark.parametrize("schedule_per", ["epoch", "step"])
def test_one_cycle_is_pytorchs(schedule_per: str) -> None:
    recipe = Recipe(epochs=40, lr=0.01, schedule="one-cycle", schedule_per=schedule_per)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    total = 40 if schedule_per == "epoch" else 400
    # PyTorch's last rate is that of the last of ``total_steps``; ours is where the schedule would end.
    theirs = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        0.01,
        total_steps=total + 1,
        pct_start=(0.1 * total + 1) / (total + 1),
        final_div_factor=1e4,
    )
    for position in range(total):
        place = (position, 10 * position) if schedule_per == "epoch" else (position // 10, position)
        assert recipe.learning_rate(*place, 10) == pytest.approx(theirs.get_last_lr()[0], rel=1e-9)
        optimizer.step()
        theirs.step()


def test_a_horizon_beyond_the_phase_leaves_the_schedule_unfinished() -> None:
    recipe = Recipe(epochs=2, schedule_per="step", power=1.0, horizon=4.0)
    assert rates(recipe)[10] == pytest.approx(1 - 10 / 80)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"horizon": 0.5}, "recipe.horizon must be 1 or more, not 0.5"),
        ({"momentum": 1.0}, r"recipe.momentum must lie in \[0, 1\), not 1.0"),
        ({"schedule": "drops"}, r"recipe.schedule drops needs its factors: set recipe.drops"),
        ({"schedule": "drops", "drops": (1.0, -1.0)}, r"recipe.drops must be 0 or more, not \[1.0, -1.0\]"),
        ({"clip_norm": -1.0}, "recipe.clip_norm must be 0 or more, not -1.0"),
    ],
)
def test_schedules_that_make_no_sense_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        Recipe(**changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "make",
    [
        lambda text: named_recipe(text),
        lambda text: Recipe().replace({text: 1}),
        lambda text: Recipe(groups={text: {"epochs": 1}}),
        lambda text: Recipe(groups={"kernel": {text: 1}}),
        lambda text: Recipe(drops=(-1.0,) * len(text)),
    ],
)
def test_long_values_are_quoted_shortly(make: Callable[[str], object]) -> None:
    with pytest.raises(OptionError) as caught:
        make("x\n" * 100_000)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1000


def test_norms_and_biases_can_be_left_out_of_the_weight_decay() -> None:
    layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))
    layers.register_parameter("scalar", nn.Parameter(torch.tensor(0.5)))

    class Stub(System):
        name = "stub"
        supports = {"both": "designed"}  # noqa: RUF012

        def run(self, visible: object, infrared: object, *, features: bool) -> Output:
            return Output()

        def deployed(self, bands: str) -> list[nn.Module]:
            return [self]

    for optimizer in ("sgd", "adamw", "adam"):
        recipe = Recipe(optimizer=optimizer, weight_decay=0.25, decay_norms=False)
        phase = Phase("stub", layers, Stub(2, NetworkSettings()), lambda batch: {})
        decayed, spared = PhaseModule(phase, recipe, 2, seed=0).configure_optimizers().param_groups
        assert (decayed["weight_decay"], spared["weight_decay"]) == (0.25, 0.0)
        assert [p.ndim for p in decayed["params"]] == [4, 2]
        assert sum(p.numel() for p in spared["params"]) == 1 + 4 + 4 + 4 + 2
        recipe = Recipe(optimizer=optimizer, weight_decay=0.25)
        (all_of_them,) = PhaseModule(phase, recipe, 2, seed=0).configure_optimizers().param_groups
        assert len(all_of_them["params"]) == 7


def test_a_system_changes_a_recipe_and_adds_its_own() -> None:
    own = {"paper": {"optimizer": "adamw", "lr": 1e-4}, "as-published": {"schedule_lag": 1}}
    assert named_recipe("paper", own) == Recipe(optimizer="adamw", lr=1e-4)
    assert named_recipe("common", own) == named_recipe("paper") == Recipe()
    assert named_recipe("quick", own) == Recipe().replace(RECIPES["quick"])
    assert named_recipe("as-published", own) == Recipe(schedule_lag=1)
    with pytest.raises(OptionError, match=r"no recipe 'fast'; there are paper, common, quick, as-published"):
        named_recipe("fast", own)


def test_the_augmentation_of_a_recipe_is_where_changes_start(monkeypatch: pytest.MonkeyPatch) -> None:
    training = tiny("csknet").training_class()
    monkeypatch.setattr(training, "augmentations", {"paper": {"crop": [480, 640], "flip": 0.25}})
    options = TrainOptions("csknet", "scenes", "x", augmentation={"crop": [32, 32]})
    augmentation = resolve(options).augmentation()
    assert (augmentation.crop, augmentation.flip) == ((32, 32), 0.25)
    assert resolve(replace(options, recipe={"name": "common"})).augmentation().flip == 0.5


def test_what_is_given_wins_over_the_variant_and_the_variant_over_the_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    system = type(tiny("csknet"))
    monkeypatch.setattr(system, "variants", {"plain": {"exchange": False, "gated_unit": False}})
    monkeypatch.setattr(system.training_class(), "variants", {"plain": {"contrastive_weight": 0.0}})
    built = create("csknet", CLASSES, variant="plain", gated_unit=True, **TINY)
    assert (built.settings.exchange, built.settings.gated_unit) == (False, True)
    assert make_training("csknet", variant="plain").contrastive_weight == 0  # type: ignore[attr-defined]
    assert make_training("csknet", variant="plain", contrastive_weight=2).contrastive_weight == 2  # type: ignore[attr-defined]
    for wrong in (create, make_training):
        with pytest.raises(OptionError, match=r"csknet has no variant 'fancy'; it has plain"):
            wrong("csknet", variant="fancy")


def test_values_of_the_wrong_type_and_names_that_do_not_exist_are_refused_by_create_and_by_train() -> None:
    wrong = {
        "exchange_mode": ("median", r"exchange_mode must be one of quantile, absolute, not 'median'"),
        "decoder_channels": ("many", "decoder_channels must be an integer, not 'many'"),
        "exchang": (False, "no network option exchang; did you mean exchange"),
    }
    for name, (value, message) in wrong.items():
        with pytest.raises(OptionError, match=message):
            create("csknet", CLASSES, **{name: value})
        with pytest.raises(OptionError, match=message):
            resolve(TrainOptions("csknet", "scenes", "x", network={name: value}))
    with pytest.raises(OptionError, match="no loss option contrast; did you mean contrastive_weight"):
        resolve(TrainOptions("csknet", "scenes", "x", loss={"contrast": 1}))


def test_a_loss_is_never_weighted_below_0() -> None:
    """A loss of the published ones would grow by it, or be left out as if the weight were 0."""
    for system in list_systems():
        for name in loss_options(system):
            if name.endswith("_weight") or name in ("a1", "a2", "a3"):
                with pytest.raises(OptionError, match=f"{system}: {name} must be 0 or more, not -0.1"):
                    make_training(system, **{name: -0.1})


def test_old_spellings_go_on_working_and_say_what_takes_their_place() -> None:
    with pytest.warns(DeprecationWarning, match="variant, network and loss"):
        old = TrainOptions(
            "amdanet", "scenes", "x", options={"preset": "clean", "tau": 0.6, "a1": 2}, recipe="quick"
        )
    assert (old.variant, old.network, old.loss) == ("clean", {"tau": 0.6}, {"a1": 2})
    assert old.recipe == {"name": "quick"}
    with pytest.warns(DeprecationWarning, match="recipe="):
        assert TrainOptions("csknet", "scenes", "x", preset="quick").recipe == {"name": "quick"}
    with pytest.warns(DeprecationWarning, match=r"create\('csknet', contrastive_weight=...\).*make_training"):
        system = create("csknet", CLASSES, contrastive_weight=0, **TINY)
    assert set(system.phases()[-1].trained) == {"system"}, "no projection heads without the contrastive loss"
    with pytest.warns(DeprecationWarning, match="use variant="):
        assert create("cen", CLASSES, preset="as-published", **TINY).settings.freeze_bn


def test_a_system_of_a_variant_is_trained_by_that_variant() -> None:
    system = create("mrfs", CLASSES, variant="fmb", **TINY)
    assert system.given_training == make_training("mrfs", variant="fmb") != make_training("mrfs")
    torch.manual_seed(0)
    (ours,), (plain,) = system.phases(), system.phases(make_training("mrfs"))
    batch = labelled()
    system.eval()
    assert ours.loss(batch)["gradient"] > 2 * plain.loss(batch)["gradient"]
