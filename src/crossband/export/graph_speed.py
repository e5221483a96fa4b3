"""How long the runtimes take for a graph: measured once where it is used, and kept beside it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from crossband.errors import OptionError, WeightsError
from crossband.pairs.writing import write_text
from crossband.runtime.sessions import RuntimeName, Session, open_session

SIZE = 480, 640
"""Height and width of the pair that is timed."""
ROUNDS = 3
ENOUGH = 10.0
"""Seconds after which no further round begins."""


def kept_seconds(graph: Path, runtimes: Sequence[RuntimeName]) -> dict[RuntimeName, float] | None:
    """Seconds a pair by runtime, as they were measured with as many threads; None where they were not."""
    try:
        kept = json.loads(_place(graph).read_text(encoding="utf-8"))
        seconds = {name: float(kept["seconds"][name]) for name in runtimes}
        return seconds if kept["threads"] == _threads() else None
    except (OSError, ValueError, KeyError, TypeError):
        # Not there, or damaged: it is measured again.
        return None


def measure_seconds(graph: Path, runtimes: Sequence[RuntimeName]) -> None:
    """Time a graph of float images on a CPU in each runtime, in turn, and keep the least of each.

    A runtime that cannot run it is kept as taking forever. Raises UnwritableError.
    """
    sessions: dict[RuntimeName, Session] = {}
    seconds: dict[RuntimeName, float] = dict.fromkeys(runtimes, float("inf"))
    for name in runtimes:
        try:
            sessions[name] = open_session(graph, runtime=name)
        except (OptionError, WeightsError):
            continue
        # The first pair of a size costs more than those that follow.
        _timed(sessions[name])
    began = time.monotonic()
    for _ in range(ROUNDS):
        for name, session in sessions.items():
            seconds[name] = min(seconds[name], _timed(session))
        if time.monotonic() - began > ENOUGH:
            break
    write_text(_place(graph), json.dumps({"threads": _threads(), "size": SIZE, "seconds": seconds}) + "\n")


def _timed(session: Session) -> float:
    random = np.random.default_rng(0)
    arrays: dict[str, np.ndarray] = {
        band: random.random((1, *SIZE, 3) if band == "visible" else (1, *SIZE), np.float32)
        for band in session.card.types
    }
    began = time.perf_counter()
    session.run(arrays)
    return time.perf_counter() - began


def _threads() -> str:
    """What decides how many threads a runtime takes."""
    return os.environ.get("OMP_NUM_THREADS") or str(os.cpu_count())


def _place(graph: Path) -> Path:
    return graph.with_suffix(".speed.json")
