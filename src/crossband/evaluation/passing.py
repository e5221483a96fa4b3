"""What every pass over pairs needs, whatever it scores: the request checked, the system ready, conditions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any

import torch

from crossband.devices import find_device
from crossband.errors import OptionError, PairError
from crossband.evaluation.result import ALL
from crossband.pairs.base import Pairs
from crossband.pairs.batch import Batch
from crossband.runtime.answer import Answer
from crossband.runtime.exported import Exported, warn_of_rig
from crossband.systems.base import System
from crossband.words import BAND_COMBINATIONS, PRECISIONS, Bands

UNSPECIFIED = "unspecified"
"""The condition of a pair that has none, in a list where others have one."""


def condition_name(condition: str | None) -> str:
    """What scores call the condition of a pair: ``UNSPECIFIED`` for none.

    One that has the name of all pairs together is told apart from them.

    >>> condition_name("night"), condition_name("all"), condition_name(None)
    ('night', 'all (condition)', 'unspecified')
    """
    return f"{ALL} (condition)" if condition == ALL else condition or UNSPECIFIED


def combinations(supports: Iterable[Bands], bands: Sequence[str]) -> list[Bands]:
    """The combinations of bands that a system and its data offer. Raises OptionError if there are none."""
    offered = [name for name in supports if name in bands or (name == "both" and len(bands) == 2)]
    if not offered:
        raise OptionError(
            f"the system runs on {', '.join(supports)}, but the data has only {' and '.join(bands)}"
        )
    return offered


def widest(supports: Iterable[Bands], bands: Sequence[str]) -> Bands:
    """Of `combinations`, the one of the most bands: both, then infrared."""
    return min(combinations(supports, bands), key=BAND_COMBINATIONS.index)


def check_pass(pairs: Pairs, by: str | None, precision: str) -> None:
    """Raise OptionError for what is no source of pairs, or an unknown split of scores or precision; PairError
    if there are no pairs."""
    if isinstance(pairs, list | tuple | str):
        raise OptionError(
            f"pairs is a {type(pairs).__name__}: give what `crossband.open_pairs` opens, such as "
            'open_pairs("folder:my-pairs", "test")'
        )
    if by not in ("condition", None):
        raise OptionError(f"scores can be split by 'condition' or not at all (None), not by {by!r}")
    if precision not in PRECISIONS:
        raise OptionError(f"unknown precision {precision!r}: use one of {', '.join(PRECISIONS)}")
    if not len(pairs):
        raise PairError(f"{pairs.source}, split {pairs.split}, has no pairs: check the path and the split")


@contextmanager
def ready(system: System | Exported, device: str | torch.device) -> Iterator[None]:
    """The system on the device and in eval mode; afterwards every module is as it was.

    An exported one is ready as it is, on the device that it was opened for. Raises OptionError for a device
    that is not there.
    """
    there = find_device(device)
    if isinstance(system, Exported):
        yield
        return
    modes = {module: module.training for module in system.modules()}
    tensor = next(chain(system.parameters(), system.buffers()), None)
    home = tensor.device if tensor is not None else there
    try:
        system.eval().to(there)
        yield
    finally:
        system.to(home)
        for module, training in modes.items():
            module.training = training


def variant_told(system: System | Exported) -> dict[str, Any]:
    """A provenance that names a system's variant, as `crossband.report` reads it; empty without one."""
    return {} if system.variant is None else {"variant": system.variant}


def exported_answer(system: Exported, batch: Batch) -> Answer:
    """What an exported system gives for a batch. Raises OptionError if that is NaN."""
    visible, infrared = batch.visible, batch.infrared
    answer = system.answer(
        None if visible is None else visible.permute(0, 2, 3, 1).cpu().numpy(),
        None if infrared is None else infrared[:, 0].cpu().numpy(),
    )
    if answer.diverged:
        raise OptionError(f"{system.name} gave NaN for {', '.join(batch.names)}: its training diverged")
    return answer


def check_exported(system: System | Exported, precision: str, pairs: Pairs) -> None:
    """Raise OptionError for a precision that an exported system was not asked for when it was made; warn of
    pairs of a rig that its graph scales otherwise."""
    warn_of_rig(system, pairs.registration)
    if isinstance(system, Exported) and precision != "float32":
        raise OptionError(
            f"an exported file computes in the precision it was exported in; leave precision {precision} "
            "out, or export it so"
        )


def pairs_by_condition(counts: Mapping[str, int]) -> dict[str, int]:
    """How many pairs each condition has, by name with ``UNSPECIFIED`` last; empty if no pair has one."""
    order = sorted(counts, key=lambda condition: (condition == UNSPECIFIED, condition))
    return {} if order == [UNSPECIFIED] else {condition: counts[condition] for condition in order}
