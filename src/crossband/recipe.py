"""How a training phase is optimised, as plain data that YAML and the command line can set."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, Literal

from crossband.errors import OptionError, quoted
from crossband.option_ranges import AT_LEAST_1, NOT_NEGATIVE, POSITIVE, SHARE_BELOW_1, Range, check_ranges
from crossband.option_types import check_types, types_of

ONE_CYCLE_RISE = 0.1
ONE_CYCLE_START = 25
ONE_CYCLE_END = 25e4


@dataclass(frozen=True)
class Recipe:
    """Optimisation of one phase. The defaults are CSK-Net's (arXiv 2312.02240, section 3.1.1).

    The paper gives SGD, 5e-3, batch 8, 200 epochs and the polynomial decay per epoch; momentum, weight
    decay and Nesterov are those of DisOptNet, whose recipe it shares.

    epochs: passes over the training pairs. batch_size: pairs in one step on one device.
    schedule: "poly" is (1 - progress) ** power, "constant" is 1, "drops" takes the factors of ``drops`` over
    equal parts of the phase, "one-cycle" rises from 1/25 to 1 over the first tenth and falls to 1/250,000,
    both along half a cosine (Smith & Topin, 2018, as PyTorch's OneCycleLR has it).
    schedule_per: whether progress moves with each "epoch" or each "step". horizon: the length of the schedule
    in lengths of the phase; above 1, the phase ends before the schedule does.
    warmup_steps, warmup_epochs: steps (and epochs, counted in steps) over which the rate first rises
    linearly from 0. warmup: "multiply" ends where the schedule stands, "replace" rises to ``lr`` itself and
    then drops to the schedule. schedule_lag: 1 uses at each step the rate that was meant for the one before
    it, and ``lr`` itself at the first, as a training loop does that sets the rate after its step.
    decay_norms: False takes biases, norms and scalars (parameters of fewer than 2 dimensions) out of the
    weight decay.
    """

    epochs: int = 200
    batch_size: int = 8
    optimizer: Literal["sgd", "adamw", "adam"] = "sgd"
    lr: float = 5e-3
    momentum: float = 0.9
    weight_decay: float = 1e-4
    nesterov: bool = True
    schedule: Literal["poly", "constant", "drops", "one-cycle"] = "poly"
    schedule_per: Literal["epoch", "step"] = "epoch"
    power: float = 0.9
    drops: tuple[float, ...] = ()
    horizon: float = 1.0
    warmup_steps: int = 0
    warmup_epochs: int = 0
    warmup: Literal["multiply", "replace"] = "multiply"
    schedule_lag: Literal[0, 1] = 0
    decay_norms: bool = True
    clip_norm: float = 0.0
    groups: dict[str, dict[str, Any]] = field(default_factory=dict)

    ranges: ClassVar[Mapping[str, Range]] = {
        **dict.fromkeys(("epochs", "batch_size", "lr"), POSITIVE),
        **dict.fromkeys(
            ("weight_decay", "power", "warmup_steps", "warmup_epochs", "clip_norm"), NOT_NEGATIVE
        ),
        "momentum": SHARE_BELOW_1,
        "horizon": AT_LEAST_1,
    }

    def __post_init__(self) -> None:
        check_ranges("recipe.", self, self.ranges)
        if self.schedule == "drops" and not self.drops:
            raise OptionError("recipe.schedule drops needs its factors: set recipe.drops, such as [1, 0.1]")
        if not all(factor in NOT_NEGATIVE for factor in self.drops):
            raise OptionError(f"recipe.drops must be 0 or more, not {quoted(list(self.drops))}")
        for group, changes in self.groups.items():
            unknown = sorted(map(str, set(changes) - set(_OF_GROUPS)))
            if unknown:
                raise OptionError(
                    f"recipe.groups cannot change {quoted(', '.join(unknown))} of {quoted(group)}; "
                    f"a group has {', '.join(_OF_GROUPS)}"
                )
            self.of_group(group)

    def learning_rate(self, epoch: int, step: int, steps_per_epoch: int) -> float:
        """The rate for a step, as a pure function of where training stands (so a resumed run agrees).

        epoch: from 0. step: from 0, counted over the whole phase.
        """
        if self.schedule_lag:
            if step == 0:
                return self.lr
            step -= 1
            epoch = step // steps_per_epoch
        if self.schedule_per == "epoch":
            progress = epoch / self.epochs
        else:
            progress = step / (self.epochs * steps_per_epoch)
        factor = self._factor(progress / self.horizon)
        warmup = self.warmup_steps + self.warmup_epochs * steps_per_epoch
        if step < warmup:
            factor = step / warmup if self.warmup == "replace" else factor * (step + 1) / (warmup + 1)
        return self.lr * factor

    def _factor(self, progress: float) -> float:
        """The schedule's share of the rate after a share of its length, in [0, 1)."""
        if self.schedule == "constant":
            return 1.0
        if self.schedule == "poly":
            return (1 - progress) ** self.power
        if self.schedule == "drops":
            return self.drops[int(progress * len(self.drops))]
        if progress < ONE_CYCLE_RISE:
            first, last, share = 1 / ONE_CYCLE_START, 1.0, progress / ONE_CYCLE_RISE
        else:
            first, last = 1.0, 1 / ONE_CYCLE_END
            share = (progress - ONE_CYCLE_RISE) / (1 - ONE_CYCLE_RISE)
        return last + (first - last) * (1 + math.cos(math.pi * share)) / 2

    def of_group(self, name: str) -> Recipe:
        """The recipe of a group of parameters, its own changes made. Names without changes have none."""
        return replace(self, groups={}).replace(self.groups.get(name, {}))

    def replace(self, overrides: Mapping[str, Any]) -> Recipe:
        """A copy with some fields changed. Raises OptionError for a field or a value that does not exist."""
        known = {field.name for field in fields(self)}
        unknown = sorted(map(str, set(overrides) - known))
        if unknown:
            raise OptionError(
                f"a recipe has no {quoted(', '.join(unknown))}; it has {', '.join(sorted(known))}"
            )
        return replace(self, **check_types("recipe", types_of(Recipe), overrides))


_OF_GROUPS = tuple(
    field.name
    for field in fields(Recipe)
    if field.name not in ("epochs", "batch_size", "optimizer", "decay_norms", "groups")
)

RECIPES: dict[str, dict[str, Any]] = {
    # What the system's own paper trains it with.
    "paper": {},
    # One recipe for all, CSK-Net's: to compare systems and not their recipes.
    "common": {},
    # A first look at a system in minutes instead of hours: fewer epochs, a decay per step, and a rate
    # that a short run needs.
    "quick": {"epochs": 20, "lr": 2e-2, "schedule_per": "step", "warmup_steps": 20},
}
"""Named recipes, as changes to the defaults. A system may change them further (`Training.recipes`)."""


def named_recipe(name: str, of_system: Mapping[str, Mapping[str, Any]] | None = None) -> Recipe:
    """A recipe by its name. of_system: what the system makes of it, its `Training.recipes`.

    Raises OptionError for a name that neither has.
    """
    own = of_system or {}
    names = [*RECIPES, *(key for key in own if key not in RECIPES)]
    if name not in names:
        raise OptionError(f"there is no recipe {quoted(name)}; there are {', '.join(names)}")
    return Recipe().replace({**RECIPES.get(name, {}), **own.get(name, {})})
