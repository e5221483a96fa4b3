"""``crossband verify``: an exported file held against the run that it came from, on any pairs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from crossband.errors import OptionError, WeightsError
from crossband.export.deployable import Deployable
from crossband.export.parity import Parity, check_asked, compare, pairs_to_check
from crossband.pairs.infrared_scaling import InfraredScaling
from crossband.pairs.opening import open_pairs
from crossband.runtime.exported import Exported
from crossband.systems import create, list_systems
from crossband.systems.base import System
from crossband.weights import load_run


def verify_exported(
    exported: Exported,
    run: str,
    data: str,
    split: str,
    *,
    pairs: int = 12,
    least: float | None = None,
    tell: Callable[[str], None] = print,
) -> dict[str, Parity]:
    """Compare every graph with PyTorch on some pairs, and tell what the file is of and what is found.

    least: the share of labels that must agree; None for the precision's own. Raises WeightsError if the file
    was not made of this run, OptionError where an answer is not PyTorch's, and for a share that is none or
    no pairs.
    """
    check_asked(least, pairs=pairs)
    card = exported.card
    tell(f"of run {card.weights_sha256 or 'without weights'}, by Crossband {card.crossband}")
    system = _system(run, exported)
    opened = open_pairs(data, split, infrared_scaling=card.infrared_scaling)
    chosen = pairs_to_check(opened, max(3, pairs), card.classes)
    found: dict[str, Parity] = {}
    for bands, (path, graph) in exported.graphs.items():
        deployable = Deployable(system, bands, InfraredScaling.parse(card.infrared_scaling), graph.types)
        classes = len(card.classes) if card.classes is not None and graph.segments else 0
        session = exported.session(bands)
        parity = compare(session, deployable, chosen, f"{opened.source} {split}", count_iou=classes)
        tell(f"{bands}: {parity.text()}")
        failure = parity.failure(least)
        if failure is not None:
            raise OptionError(f"{path} is not what {run} gives: {failure}")
        found[bands] = parity
    return found


def _system(run: str, exported: Exported) -> System:
    """The system that a file was exported from. Raises WeightsError if this is another."""
    card = exported.card
    trained = None if run in list_systems() and not Path(run).is_dir() else load_run(run)
    name, sha256 = (run, None) if trained is None else (trained[0].name, trained[1].weights_sha256)
    if name != exported.name or sha256 != card.weights_sha256:
        raise WeightsError(
            f"the file was exported from a {exported.name} with weights {card.weights_sha256}, but "
            f"{run} is a {name} with {sha256}: name the run that it was made of"
        )
    system = create(run, **card.network) if trained is None else trained[0]
    return system.eval()
