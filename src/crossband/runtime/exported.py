"""Exported files in place of a run: one graph, or a bundle with one for every combination of bands."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from crossband.card import Card
from crossband.errors import BandError, CrossbandWarning, WeightsError, first_line
from crossband.pairs.base import bands_of
from crossband.pairs.infrared_scaling import InfraredScaling
from crossband.runtime.answer import Answer
from crossband.runtime.graph_card import KEY, GraphCard, read_graph_card
from crossband.runtime.levels import infrared_levels, visible_levels
from crossband.runtime.sessions import SUFFIXES, RuntimeName, Session, open_session
from crossband.words import BANDS, Band, Bands, ExportPrecision, Precision, Support

BUNDLE_NAME = "bundle.json"

_COMPUTED: Mapping[ExportPrecision, Precision] = {"fp32": "float32", "bf16": "bfloat16"}


def is_exported(path: Path) -> bool:
    """Whether a path names an exported file, by its suffix, or a folder that holds a bundle."""
    return path.suffix in SUFFIXES or (path / BUNDLE_NAME).is_file()


class Exported:
    """The exported graphs of one run, as a predictor uses them in place of a system.

    graphs: the file and the card by combination of bands. A graph is loaded when it is first asked for, so
    that infrared alone costs nothing of the others. runtime, device, threads: as for `open_session`.
    sessions: those that are loaded already.
    """

    def __init__(
        self,
        graphs: Mapping[Bands, tuple[Path, GraphCard]],
        *,
        runtime: RuntimeName | None = None,
        device: str | None = None,
        threads: int | None = None,
        sessions: Mapping[Bands, Session] | None = None,
    ):
        self.graphs = graphs
        self.device = device or "cpu"
        self._runtime: RuntimeName | None = runtime
        self._threads = threads
        self._sessions = dict(sessions or {})
        first = next(iter(graphs.values()))[1]
        self.card: Card = first.run
        self.name = first.run.system
        self.variant = first.run.variant
        # Its scaling rule is in the graph, as that of a trained run is in its card.
        self.trained_by = self.name
        self.segments = any(card.segments for _, card in graphs.values())
        self.fuses = any(card.fuses for _, card in graphs.values())
        self.scaling = InfraredScaling.parse(first.run.infrared_scaling)

    @property
    def supports(self) -> dict[Bands, Support]:
        return {bands: card.support for bands, (_, card) in self.graphs.items()}

    @property
    def precision(self) -> str:
        """What its graphs compute in, in the words of `Precision`; else "fp16" or "int8", as exported."""
        found = {_COMPUTED.get(card.precision, card.precision) for _, card in self.graphs.values()}
        return ", ".join(sorted(found))

    @property
    def rescales(self) -> bool:
        """Whether infrared is scaled in the graph by the limits of each image, whatever has changed these
        since it was read and scaled: a corruption, or a rig that leaves a part of it."""
        return self.scaling.of_each_image

    def check_bands(self, bands: Bands) -> Support:
        """How the system supports a combination. Raises BandError where there is no graph for it."""
        if bands not in self.graphs:
            spoken = "both bands" if bands == "both" else f"{bands} alone"
            raise BandError(
                f"this exported {self.name} has no graph for {spoken}, only for {', '.join(self.graphs)}; "
                "`crossband export RUN --bands all` exports all that the system runs on"
            )
        return self.graphs[bands][1].support

    def session(self, bands: Bands) -> Session:
        """The graph of a combination, loaded.

        Raises as `open_session`, and WeightsError for a file that is not what its bundle says.
        """
        if bands not in self._sessions:
            path, told = self.graphs[bands]
            session = open_session(path, runtime=self._runtime, device=self.device, threads=self._threads)
            if session.card != told:
                raise WeightsError(
                    f"{path} is not the graph that {BUNDLE_NAME} beside it tells of, but one that was made "
                    f"{session.card.created or 'at another time'}: export all of them again"
                )
            self._sessions[bands] = session
        return self._sessions[bands]

    def answer(self, visible: np.ndarray | None, infrared: np.ndarray | None) -> Answer:
        """As `crossband.runtime.answer.Runtime.answer`; what is no level of the graph's type is rounded."""
        bands = bands_of(visible, infrared)
        self.check_bands(bands)
        session = self.session(bands)
        return answer_of(session.run(self.arrays(visible, infrared)))

    def arrays(self, visible: np.ndarray | None, infrared: np.ndarray | None) -> dict[str, np.ndarray]:
        """What the graph takes for images that were read."""
        types = self.graphs[bands_of(visible, infrared)][1].types
        arrays: dict[str, np.ndarray] = {}
        if visible is not None:
            arrays["visible"] = visible_levels(visible, types["visible"])
        if infrared is not None:
            arrays["infrared"] = infrared_levels(infrared, self.scaling, types["infrared"])
        return arrays


def precision_of(system: object, asked: Precision) -> str:
    """The precision of answers: that which was asked for, but for an exported system, which has its own."""
    return system.precision if isinstance(system, Exported) else asked


def warn_of_rig(system: object, registration: object) -> None:
    """Warn where a graph scales infrared anew by what a rig leaves of each image: a run has scaled the whole
    image by then, and answers otherwise. registration: None where there is no rig."""
    if registration is not None and isinstance(system, Exported) and system.rescales:
        warnings.warn(
            f"this exported {system.name} scales infrared by {system.scaling} of what the rig leaves of an "
            "image, where its run takes the whole image: answers differ; take the run, or export one under a "
            "fixed rule",
            CrossbandWarning,
            stacklevel=3,
        )


def answer_of(made: Mapping[str, np.ndarray]) -> Answer:
    """A graph's outputs as an answer."""
    reliability: dict[Band, np.ndarray] = {
        band: made[f"reliability_{band}"] for band in BANDS if f"reliability_{band}" in made
    }
    confidence = made.get("confidence")
    return Answer(
        labels=made.get("labels"),
        confidence=confidence,
        fused=made.get("fused"),
        reliability=reliability,
        diverged=confidence is not None and bool(np.isnan(confidence).any()),
    )


def open_exported(
    path: Path,
    *,
    runtime: RuntimeName | None = None,
    device: str | None = None,
    threads: int | None = None,
) -> Exported:
    """An exported file, or a folder of them that `crossband export` wrote.

    runtime: "onnxruntime" or "openvino"; None takes the one that the suffix is meant for. Raises
    WeightsError for what is none, or damaged; OptionError for a runtime or device that is not there.
    """
    if (path / BUNDLE_NAME).is_file():
        return Exported(read_bundle(path), runtime=runtime, device=device, threads=threads)
    session = open_session(path, runtime=runtime, device=device or "cpu", threads=threads)
    bands = session.card.bands
    return Exported(
        {bands: (path, session.card)},
        runtime=runtime,
        device=device,
        threads=threads,
        sessions={bands: session},
    )


def bundle_text(files: Mapping[Bands, tuple[str, GraphCard]]) -> str:
    """The text of a bundle's one card: the run's, and what each graph is."""
    run = next(iter(files.values()))[1].run
    graphs: dict[str, dict[str, Any]] = {}
    for bands, (name, card) in files.items():
        graphs[bands] = {"file": name, **asdict(card)}
        del graphs[bands]["run"]
    return json.dumps({"run": run.to_fields(), "graphs": graphs}, indent=2) + "\n"


def read_bundle(folder: Path) -> dict[Bands, tuple[Path, GraphCard]]:
    """The files and cards of a bundle. Raises WeightsError for a damaged one."""
    path = folder / BUNDLE_NAME
    graphs: dict[Bands, tuple[Path, GraphCard]] = {}
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        for fields in document["graphs"].values():
            # A name, never a path: a stranger's bundle opens no file outside its folder.
            file = folder / Path(str(fields.pop("file"))).name
            card = read_graph_card({KEY: json.dumps({**fields, "run": document["run"]})}, path)
            graphs[card.bands] = (file, card)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise WeightsError(f"{path} describes no exported graphs ({first_line(error)})") from error
    if not graphs:
        raise WeightsError(f"{path} names no graph")
    return graphs
