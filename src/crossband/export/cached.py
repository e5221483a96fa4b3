"""The graphs of a run that its own folder keeps: exported when they are first needed, used from then on."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from crossband.card import Card
from crossband.errors import BandError, OptionError, UnwritableError, WeightsError, first_line
from crossband.export.graph_speed import SIZE, kept_seconds, measure_seconds
from crossband.locks import folder_lock
from crossband.pairs.writing import write_text
from crossband.run_card import whole_weights
from crossband.runtime.exported import Exported
from crossband.runtime.sessions import Session, check_device, open_session, version_of
from crossband.version import __version__
from crossband.words import AUTO_EXPORTS_FROM, BAND_COMBINATIONS, Bands, RuntimeChoice, Support

CACHE_NAME = "graphs"
"""In a run folder. Nothing but time is lost with it."""

GraphRuntime = Literal["openvino", "onnxruntime"]
RUNTIMES: tuple[GraphRuntime, ...] = ("openvino", "onnxruntime")
"""What runs graphs; the first is taken where none was found to be faster."""

NEEDED = "onnx", "onnxscript", "onnxruntime", "torch"
"""What makes graphs."""


@dataclass(frozen=True)
class Choice:
    """What "auto" takes for a run, and why; None is PyTorch."""

    runtime: GraphRuntime | None
    why: str

    def __str__(self) -> str:
        return f"runtime: {self.runtime or 'torch'} ({self.why})"


def graphs_of(
    run: Path, card: Card | None, runtime: RuntimeChoice, *, expects: Mapping[Bands, int], device: str | None
) -> tuple[CachedRun | None, Choice | None]:
    """A run on graphs, as it was asked for or as "auto" decides; None is PyTorch. And what was decided.

    Every graph that is made is told of on standard error. card: of the run; None for the name of a system
    that needs no training. expects: as for `choose_runtime`. Raises OptionError for graphs of what has no
    folder to keep them; and as `CachedRun`, but under "auto", where PyTorch takes over.
    """
    if card is None:
        if runtime in ("onnxruntime", "openvino"):
            raise OptionError(
                f"{run} is no run folder, which would keep its graphs: export it (`crossband export {run}`) "
                "and name the file, or take runtime torch"
            )
        return None, None
    lacking = [bands for bands in expects if bands not in card.bands]
    if runtime in ("torch", "compile") or (lacking and runtime == "auto"):
        # PyTorch's system says what it lacks.
        return None, None
    if runtime == "onnxruntime" or runtime == "openvino":
        return CachedRun(run, card, runtime, bands=tuple(expects), device=device, tell=_say), None
    choice = choose_runtime(run, card, expects)
    if not on_cpu(device):
        choice = Choice(None, "on a GPU")
    if choice.runtime is None:
        return None, choice
    try:
        graphs = CachedRun(run, card, choice.runtime, bands=tuple(expects), device=device, tell=_say)
        if _weigh(run, card, expects):
            faster = choose_runtime(run, card, expects)
            if faster.runtime is not None and faster.runtime != choice.runtime:
                graphs = CachedRun(run, card, faster.runtime, bands=tuple(expects), device=device, tell=_say)
            choice = faster
        return graphs, choice
    except OptionError as error:
        return None, Choice(None, first_line(error))


def on_cpu(device: str | None) -> bool:
    """Whether a device, None being a GPU if there is one, is the CPU; PyTorch is asked only where need be."""
    if device is not None:
        return device.partition(":")[0] == "cpu"
    # The files by which Linux shows a GPU's driver: NVIDIA's, AMD's, and Windows' below WSL.
    if not any(Path("/dev", name).exists() for name in ("nvidiactl", "kfd", "dxg")):
        return True
    from crossband.devices import find_device

    return find_device(None).type == "cpu"


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def choose_runtime(run: Path, card: Card, expects: Mapping[Bands, int]) -> Choice:
    """The runtime that "auto" takes on a CPU in float32.

    expects: how many pairs of each combination of bands are to come; none where nobody knows. Graphs that the
    run's folder holds are used; they are made where `AUTO_EXPORTS_FROM` pairs or more are to come. Of two
    runtimes that of the least time for these pairs is taken, where it is known.
    """
    installed = _installed()
    if not installed:
        return Choice(None, "neither ONNX Runtime nor OpenVINO is installed")
    if card.weights_sha256 is None:
        return Choice(None, "the run's card has no hash of its weights, by which graphs are known")
    wanted = _wanted(card, expects)
    for bands in wanted:
        refusal = _refusal(run, card, bands)
        if refusal.is_file():
            return Choice(None, f"{refusal} says why there is no graph")
    lacking = [bands for bands in wanted if not graph_file(run, card, bands).is_file()]
    if not lacking:
        seconds = _seconds(run, card, expects)
        fastest = min(installed, key=lambda name: seconds.get(name, 0))
        times = "".join(f"; {name} {second:.2g} s" for name, second in seconds.items())
        return Choice(
            fastest,
            f"graphs that were held against PyTorch are in {run / CACHE_NAME}"
            + (f"; a pair of {SIZE[0]} x {SIZE[1]} takes{times[1:]}" if times else ""),
        )
    total = sum(expects.values())
    if total < AUTO_EXPORTS_FROM:
        return Choice(
            None,
            f"graphs are made for {AUTO_EXPORTS_FROM} pairs or more; "
            f"runtime {installed[0]} makes them at once",
        )
    absent = [name for name in NEEDED if version_of(name) == "none"]
    if absent:
        return Choice(None, f"{absent[0]} is not installed, which makes graphs")
    return Choice(installed[0], f"graphs for {total} pairs are kept in {run / CACHE_NAME}")


def _installed() -> list[GraphRuntime]:
    return [name for name in RUNTIMES if version_of(name) != "none"]


def _wanted(card: Card, expects: Mapping[Bands, int]) -> list[Bands]:
    return [bands for bands in BAND_COMBINATIONS if bands in (expects or card.bands)]


def _seconds(run: Path, card: Card, expects: Mapping[Bands, int]) -> dict[GraphRuntime, float]:
    """What a pair takes with each runtime, the mean over those to come; empty where it is not known."""
    installed, wanted = _installed(), _wanted(card, expects)
    kept = [kept_seconds(graph_file(run, card, bands), installed) for bands in wanted]
    share = [max(1, expects.get(bands, 1)) for bands in wanted]
    return {
        name: sum(count * each[name] for count, each in zip(share, kept, strict=True) if each) / sum(share)
        for name in installed
        if len(installed) > 1 and all(kept)
    }


def _weigh(run: Path, card: Card, expects: Mapping[Bands, int]) -> bool:
    """Time the runtimes on the graphs to come where this was not done; whether any was timed."""
    installed = _installed()
    if len(installed) < 2 or _seconds(run, card, expects):
        return False
    try:
        for bands in _wanted(card, expects):
            file = graph_file(run, card, bands)
            with folder_lock(file.parent, wait=True):
                if kept_seconds(file, installed) is None:
                    measure_seconds(file, installed)
    except UnwritableError:
        # Graphs of a folder that nothing can be kept in are used all the same.
        return False
    return True


def graph_file(run: Path, card: Card, bands: Bands) -> Path:
    """Where a run's folder keeps the graph of a combination."""
    # A graph is held against the runtimes as they are installed; another version may trace another graph.
    versions = [version_of(name) for name in RUNTIMES]
    named = json.dumps([card.weights_sha256, __version__, *versions])
    return run / CACHE_NAME / f"{bands}-{hashlib.sha256(named.encode()).hexdigest()[:16]}.onnx"


def _refusal(run: Path, card: Card, bands: Bands) -> Path:
    """Where it is kept that a combination has no graph, so that it is not tried every time."""
    return graph_file(run, card, bands).with_suffix(".refused.txt")


class CachedRun(Exported):
    """A run on ONNX Runtime or OpenVINO, its graphs those of its own folder.

    A graph is made, and held against PyTorch on this machine, when its bands are first asked for and the
    folder has none of these weights and for the runtimes as they are installed. It takes images as they were
    read, in [0, 1], so that whatever a camera stores, the answer is PyTorch's.

    bands: those that are made ready at once; none takes those that the folder has, or else the first that the
    system was designed for. device: as for `open_session`. tell: is told, a line at a time, what is made.
    Raises OptionError where a graph cannot be made, its answer is not PyTorch's, or the folder cannot be
    written to; WeightsError where its weights are not those of its card; as `open_session` too.
    """

    trained: Card
    """The card of the run; that of the graphs says what they take."""

    def __init__(
        self,
        run: Path,
        card: Card,
        runtime: GraphRuntime,
        *,
        bands: Sequence[Bands] = (),
        device: str | None = None,
        tell: Callable[[str], None] = print,
    ):
        self._run, self._tell, self._on = run, tell, device or "cpu"
        # Before a graph is made, which takes long; one that is there is of the card's weights alone.
        check_device(runtime, self._on)
        whole_weights(run, card)
        self.trained = card
        self._with: GraphRuntime = runtime
        sessions = {each: self._ready(each) for each in bands or self._likely()}
        graphs = {each: (graph_file(run, card, each), session.card) for each, session in sessions.items()}
        super().__init__(graphs, runtime=runtime, device=device, sessions=sessions)
        self._made = graphs

    @property
    def supports(self) -> dict[Bands, Support]:
        told: Mapping[Any, Any] = self.trained.bands
        return {bands: told[bands] for bands in BAND_COMBINATIONS if bands in told}

    def check_bands(self, bands: Bands) -> Support:
        """How the system supports a combination. Raises BandError where it does not."""
        if bands not in self.supports:
            able = ", ".join(f"{name} ({support})" for name, support in self.supports.items())
            raise BandError(f"{self.name} cannot run on {bands}; it runs on: {able}")
        return self.supports[bands]

    def session(self, bands: Bands) -> Session:
        """The graph of a combination, made if need be, and loaded. Raises as the class does."""
        if bands not in self._sessions:
            self._sessions[bands] = self._ready(bands)
            self._made[bands] = graph_file(self._run, self.trained, bands), self._sessions[bands].card
        return self._sessions[bands]

    def _likely(self) -> list[Bands]:
        there = [bands for bands in self.supports if graph_file(self._run, self.trained, bands).is_file()]
        designed = [bands for bands, support in self.supports.items() if support == "designed"]
        return there or designed[:1]

    def _ready(self, bands: Bands) -> Session:
        file = graph_file(self._run, self.trained, bands)
        session = self._open(file)
        if session is not None:
            return session
        with folder_lock(file.parent, wait=True):
            # Who held the folder before may have made it.
            session = self._open(file)
            if session is None:
                self._make(bands, file)
                session = open_session(file, runtime=self._with, device=self._on)
        return session

    def _open(self, file: Path) -> Session | None:
        """The session of a graph that is there and sound."""
        if not file.is_file():
            return None
        try:
            return open_session(file, runtime=self._with, device=self._on)
        except WeightsError:
            return None

    def _make(self, bands: Bands, file: Path) -> None:
        absent = [name for name in NEEDED if version_of(name) == "none"]
        if absent:
            raise OptionError(
                f"{self._run} has no graph for {bands} yet, and {absent[0]}, which makes it, is not there: "
                "pip install 'crossband[export]', or take runtime torch"
            )
        self._tell(f"making the graph of {self._run} for {bands}, which is kept in {file.parent}")
        from crossband.export.exporting import export_as_read
        from crossband.weights import load_run

        refusal = _refusal(self._run, self.trained, bands)
        try:
            export_as_read(*load_run(self._run), bands, file, self._tell)
        except UnwritableError:
            raise
        except OptionError as error:
            write_text(refusal, f"{first_line(error)}\n")
            raise
        refusal.unlink(missing_ok=True)
