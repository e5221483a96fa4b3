"""Weights that a training takes from finished runs: where it starts, and phases that it does not train."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from crossband.errors import OptionError
from crossband.pairs.base import Pairs
from crossband.systems.base import Phase, System
from crossband.terms import made_of, taken_over
from crossband.text import listed
from crossband.weights import load_run


@dataclass(frozen=True)
class Taken:
    """Weights that a system takes from the finished run ``origin``.

    setting: of the options, which names that run. need: what the system is here, to say in an error.
    """

    system: System
    setting: str
    origin: str
    need: str

    def load(self, pairs: Pairs) -> list[dict[str, Any]]:
        """Load them; returns the runs that they come from, for the card. pairs: what the new run trains on.

        Raises OptionError, naming the setting, if they do not fit.
        """
        other, card = load_run(self.origin)
        if type(other) is not type(self.system):
            raise OptionError(
                f"{self.setting}: {self.origin} holds a {other.name}, but {self.need} a {self.system.name}"
            )
        state = other.state_dict()
        names = None if card.classes is None else card.classes.names
        if not self.system.segments:
            # A network that only fuses may come from a run without labels, or be a part of one that had
            # any; whatever that one's classes are, they have no place here.
            state = {key: state[key] for key in state if key in self.system.state_dict()}
        elif names != (None if pairs.classes is None else pairs.classes.names):
            raise OptionError(
                f"{self.setting}: {self.origin} was trained on other classes than those of {pairs.source}"
            )
        elif self.setting == "reuse" and set(other.supports) != set(self.system.supports):
            # What starts from other weights is trained on; what is reused must read what it was trained on.
            raise OptionError(
                f"{self.setting}: {self.origin} runs on {listed([*other.supports])}, but {self.need} a "
                f"{self.system.name} for {listed([*self.system.supports])}"
            )
        try:
            self.system.load_state_dict(state)
        except RuntimeError as error:
            raise OptionError(
                f"{self.setting}: the network in {self.origin} differs from the one that {self.need} "
                "(encoder or widths)"
            ) from error
        return [{"run": self.origin, **made_of(card)}, *taken_over(card)]


def with_earlier(reuse: Mapping[str, str], phases: Sequence[Phase]) -> dict[str, str]:
    """What is reused, with the phases before it that train a part of it: training these would undo it."""
    complete = dict(reuse)
    for number, phase in enumerate(phases):
        kept = {id(parameter) for parameter in phase.keeps.parameters()}
        for earlier in phases[:number]:
            trains_it = any(id(parameter) in kept for parameter in earlier.trained.parameters())
            if phase.name in reuse and trains_it:
                complete.setdefault(earlier.name, reuse[phase.name])
    return complete


def check_start_is_kept(system: System, phases: Sequence[Phase], reuse: Mapping[str, str]) -> None:
    """Raise OptionError where a phase does not begin at the weights of the system that ``start_from`` is for:
    one that is reused brings them all, and an option of the training may bring others.
    """
    for phase in phases:
        if phase.keeps is not system:
            continue
        if phase.name in reuse:
            raise OptionError(
                f"start_from: phase {phase.name}, which is reused from {reuse[phase.name]}, brings every "
                "weight of this network; leave one of the two out"
            )
        if phase.start_from is not None:
            raise OptionError(
                f"start_from: phase {phase.name} begins at other weights by {phase.start_from}, which would "
                "undo it; leave start_from out, or set that option to its default"
            )
