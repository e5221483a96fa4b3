"""How a training phase is optimised, as plain data that YAML and the command line can set."""

from __future__ import annotations

import math
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
    each "epoch" or each "step". warmup_steps: steps over which the rate first rises linearly from 0.
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

    def __post_init__(self) -> None:
        # Written so that NaN fails too.
        for name in ("epochs", "batch_size", "lr"):
            if not 0 < getattr(self, name) < math.inf:
                raise OptionError(f"recipe.{name} must be above 0, not {getattr(self, name)}")
        for name in ("momentum", "weight_decay", "power", "warmup_steps"):
            if not 0 <= getattr(self, name) < math.inf:
                raise OptionError(f"recipe.{name} must be 0 or more, not {getattr(self, name)}")

    def learning_rate(self, epoch: int, step: int, steps_per_epoch: int) -> float:
        """The rate for a step, as a pure function of where training stands (so a resumed run agrees).

        epoch: from 0. step: from 0, counted over the whole phase.
        """
        if self.schedule == "constant":
            factor = 1.0
        elif self.schedule_per == "epoch":
            factor = (1 - epoch / self.epochs) ** self.power
        else:
            factor = (1 - step / (self.epochs * steps_per_epoch)) ** self.power
        if step < self.warmup_steps:
            factor *= (step + 1) / (self.warmup_steps + 1)
        return self.lr * factor

    def replace(self, overrides: dict[str, Any]) -> Recipe:
        """A copy with some fields changed. Raises OptionError for a field or a value that does not exist."""
        known = {field.name for field in fields(self)}
        unknown = sorted(set(overrides) - known)
        if unknown:
            raise OptionError(f"a recipe has no {', '.join(unknown)}; it has {', '.join(sorted(known))}")
        return replace(self, **check_types("recipe", get_type_hints(Recipe), overrides))


PRESETS: dict[str, dict[str, Any]] = {
    "paper": {},
    # A first look at a system in minutes instead of hours: fewer epochs, a decay per step, and a rate
    # that a short run needs.
    "quick": {"epochs": 20, "lr": 2e-2, "schedule_per": "step", "warmup_steps": 20},
}


def preset(name: str) -> Recipe:
    """The recipe of a named preset. Raises OptionError for a name that does not exist."""
    if name not in PRESETS:
        raise OptionError(f"there is no preset {name!r}; there are {', '.join(PRESETS)}")
    return Recipe().replace(PRESETS[name])
