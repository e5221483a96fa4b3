"""How a training phase is optimised, as plain data that YAML and the command line can set."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_type_hints

from crossband.errors import OptionError
from crossband.option_types import check_types


@dataclass(frozen=True)
class Recipe:
    """Optimisation of one phase. The defaults are CSK-Net's (arXiv 2312.02240, section 3.1.1).

    The paper gives SGD, 5e-3, batch 8, 200 epochs and the polynomial decay per epoch; momentum, weight
    decay and Nesterov are those of DisOptNet, whose recipe it shares.

    epochs: passes over the training pairs. batch_size: pairs in one step on one device.
    schedule: "poly" is (1 - progress) ** power, "constant" is 1. schedule_per: whether progress moves with
    each "epoch" or each "step".
    warmup_steps, warmup_epochs: steps (and epochs, counted in steps) over which the rate first rises
    linearly from 0. warmup: "multiply" ends where the schedule stands, "replace" rises to ``lr`` itself and
    then drops to the schedule. schedule_lag: 1 uses at each step the rate that was meant for the one before
    it, and ``lr`` itself at the first, as a training loop does that sets the rate after its step.
    decay_norms: False takes biases, norms and scalars (parameters of fewer than 2 dimensions) out of the
    weight decay.
    """

    epochs: int = 200
    batch_size: int = 8
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: float = 5e-3
    momentum: float = 0.9
    weight_decay: float = 1e-4
    nesterov: bool = True
    schedule: Literal["poly", "constant"] = "poly"
    schedule_per: Literal["epoch", "step"] = "epoch"
    power: float = 0.9
    warmup_steps: int = 0
    warmup_epochs: int = 0
    warmup: Literal["multiply", "replace"] = "multiply"
    schedule_lag: Literal[0, 1] = 0
    decay_norms: bool = True

    def __post_init__(self) -> None:
        # Written so that NaN fails too.
        for name in ("epochs", "batch_size", "lr"):
            if not 0 < getattr(self, name) < math.inf:
                raise OptionError(f"recipe.{name} must be above 0, not {getattr(self, name)}")
        for name in ("momentum", "weight_decay", "power", "warmup_steps", "warmup_epochs"):
            if not 0 <= getattr(self, name) < math.inf:
                raise OptionError(f"recipe.{name} must be 0 or more, not {getattr(self, name)}")

    def learning_rate(self, epoch: int, step: int, steps_per_epoch: int) -> float:
        """The rate for a step, as a pure function of where training stands (so a resumed run agrees).

        epoch: from 0. step: from 0, counted over the whole phase.
        """
        if self.schedule_lag:
            if step == 0:
                return self.lr
            step -= 1
            epoch = step // steps_per_epoch
        if self.schedule == "constant":
            factor = 1.0
        elif self.schedule_per == "epoch":
            factor = (1 - epoch / self.epochs) ** self.power
        else:
            factor = (1 - step / (self.epochs * steps_per_epoch)) ** self.power
        warmup = self.warmup_steps + self.warmup_epochs * steps_per_epoch
        if step < warmup:
            factor = step / warmup if self.warmup == "replace" else factor * (step + 1) / (warmup + 1)
        return self.lr * factor

    def replace(self, overrides: dict[str, Any]) -> Recipe:
        """A copy with some fields changed. Raises OptionError for a field or a value that does not exist."""
        known = {field.name for field in fields(self)}
        unknown = sorted(set(overrides) - known)
        if unknown:
            raise OptionError(f"a recipe has no {', '.join(unknown)}; it has {', '.join(sorted(known))}")
        return replace(self, **check_types("recipe", get_type_hints(Recipe), overrides))


PRESETS: dict[str, dict[str, Any]] = {
    # What the system's own paper trains it with.
    "paper": {},
    # One recipe for all, CSK-Net's: to compare systems and not their recipes.
    "common": {},
    # A first look at a system in minutes instead of hours: fewer epochs, a decay per step, and a rate
    # that a short run needs.
    "quick": {"epochs": 20, "lr": 2e-2, "schedule_per": "step", "warmup_steps": 20},
}
"""Named recipes, as changes to the defaults. A system may change them further (`System.recipes`)."""


def preset(name: str, of_system: Mapping[str, Mapping[str, Any]] | None = None) -> Recipe:
    """The recipe of a named preset. of_system: what the system makes of it, its `System.recipes`.

    Raises OptionError for a name that neither has.
    """
    own = of_system or {}
    names = [*PRESETS, *(key for key in own if key not in PRESETS)]
    if name not in names:
        raise OptionError(f"there is no preset {name!r}; there are {', '.join(names)}")
    return Recipe().replace({**PRESETS.get(name, {}), **own.get(name, {})})
