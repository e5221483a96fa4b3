"""What a folder of runs holds, as one page: every evaluation side by side, with links to the pages."""

from __future__ import annotations

import json
import math
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crossband.card import CARD_NAME
from crossband.errors import OptionError, WeightsError
from crossband.metrics.protocols import DEFAULT_PROTOCOL
from crossband.metrics.resampling import Interval
from crossband.report.charts import mean_iou_chart
from crossband.report.evaluation_files import system_in
from crossband.report.page import Cell, Page
from crossband.run_card import read_card
from crossband.text import DASH, counted, decimal, percent
from crossband.words import BAND_COMBINATIONS, PRECISIONS

INDEX_NAME = "index.html"
_EVALUATION = "evaluation.json"
_FUSION = "fusion.html"
_OTHERS = {
    "comparison.html": "comparison",
    _FUSION: "fused pictures",
    "robustness.html": "robustness",
    "report.html": "demo",
}
_TABLE = "table of a paper"
_NONE = Interval(math.nan, math.nan, math.nan)


@dataclass(frozen=True)
class Scored:
    """An evaluation that lies in a folder. run: what it is called; mean_iou: by band combination.

    place: of its folder, from the folder that was looked through. system: with its variant, if it has one.
    support: how it was meant, by bands. monitored: whether a band monitor could leave one of both out.
    precision: of the answers.
    """

    run: str
    place: Path
    system: str
    source: str
    split: str
    pairs: int
    mean_iou: Mapping[str, Interval]
    support: Mapping[str, str]
    monitored: bool = False
    precision: str = PRECISIONS[0]

    def how(self, bands: str) -> str:
        """What was not as usual in scores on some bands, in words."""
        watched = bands == "both" and self.monitored
        parts = ["with a band monitor"] if watched else []
        parts += [f"in {self.precision}"] if self.precision != PRECISIONS[0] else []
        return "".join(f" {part}" for part in parts)


@dataclass(frozen=True)
class Results:
    """What lies below a folder. others: pages of other kinds, by place. unscored: runs that have neither
    an evaluation nor scores in a table, and whether one only fuses, so that its pictures are to be scored.
    damaged: files that should hold an evaluation and do not."""

    scored: Sequence[Scored]
    others: Mapping[Path, str]
    unscored: Mapping[Path, bool]
    damaged: Sequence[Path]


def find_results(
    folder: Path,
    protocol: str = DEFAULT_PROTOCOL,
    *,
    tables: Sequence[Path] = (),
    in_a_table: Callable[[Path], bool] = lambda run: False,
) -> Results:
    """Look through a folder, at any depth. Hidden folders are passed over.

    protocol: whose mean IoU is told. tables: pages of tables of papers that lie there. in_a_table: whether
    a run folder has its scores in such a one. Raises OptionError where there is neither a run nor a result.
    """
    scored, damaged = [], []
    for path in _below(folder, _EVALUATION):
        try:
            scored.append(_read(folder, path, protocol))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            damaged.append(path.relative_to(folder))
    runs = [path.parent for path in _below(folder, CARD_NAME)]
    done = {folder / one.place for one in scored}
    pictures = {path.parent for path in _below(folder, _FUSION)}
    others = {
        path.relative_to(folder): kind for name, kind in _OTHERS.items() for path in _below(folder, name)
    }
    others |= {path.relative_to(folder): _TABLE for path in _shown(folder, tables)}
    if not (scored or runs or others):
        raise OptionError(f"{folder} holds neither runs nor results: name the folder that they lie in")
    return Results(
        scored=scored,
        others=others,
        unscored={
            run.relative_to(folder): fuses
            for run in runs
            if not in_a_table(run)
            for fuses in [_only_fuses(run)]
            if not any(place == run or run in place.parents for place in (pictures if fuses else done))
        },
        damaged=damaged,
    )


def index_page(folder: Path, results: Results, protocol: str = DEFAULT_PROTOCOL) -> Page:
    """Every evaluation in a table and a chart for each test set, and links to all pages below a folder."""
    page = Page(f"Runs in {folder.resolve().name or folder}")
    sets = dict.fromkeys((one.source, one.split) for one in results.scored)
    for source, split in sets:
        there = [one for one in results.scored if (one.source, one.split) == (source, split)]
        page.heading(f"{source}, split {split}")
        _add_scored(page, there, protocol)
    if results.others:
        page.heading("Other results")
        page.table(
            ["page", "what"],
            [
                [Cell(_place_of(path, kind), link=path.as_posix()), kind]
                for path, kind in results.others.items()
            ],
            align="ll",
        )
    if results.unscored:
        page.heading("Not evaluated")
        page.paragraph("Runs without an evaluation beside them, and how each gets one:")
        for run, fuses in results.unscored.items():
            command = ["crossband", "evaluate", str(folder / run), *(["--fusion"] if fuses else [])]
            page.code(f"{shlex.join(command)} --data SOURCE")
    return page


def _only_fuses(run: Path) -> bool:
    """Whether a run has no classes; of a damaged card nothing is known."""
    try:
        return read_card(run).classes is None
    except WeightsError:
        return False


def _place_of(page: Path, kind: str) -> str:
    """Where a page lies: its folder, whose only page of the kind it is, but for tables of papers."""
    return (page.with_suffix("") if kind == _TABLE else page.parent).as_posix()


def _add_scored(page: Page, scored: Sequence[Scored], protocol: str) -> None:
    bands = [one for one in BAND_COMBINATIONS if any(one in each.mean_iou for each in scored)]
    times = Counter(each.run for each in scored)
    # Of one run there may be several, such as with a band monitor and without.
    names = [each.run if times[each.run] == 1 else each.place.as_posix() for each in scored]
    page.figure(
        mean_iou_chart(
            {one: [each.mean_iou.get(one, _NONE) for each in scored] for one in bands},
            names,
        ),
        f"Mean IoU (protocol {protocol}) by run and by the bands it was given. A line over a bar is the 95 % "
        "interval over pairs; it does not say what another training would give.",
        "Bar chart of the mean IoU of every run; the table below has the numbers.",
    )
    page.table(
        ["run", "system", "pairs", "bands", "mean IoU", "95 % interval"],
        [
            [
                Cell(name, link=(each.place / "evaluation.html").as_posix()),
                each.system,
                f"{each.pairs:,}",
                Cell(
                    one,
                    note=each.how(one),
                    badge="fallback" if each.support.get(one) == "fallback" else "",
                ),
                percent(found.value),
                DASH
                if math.isnan(found.low)
                else f"{decimal(100 * found.low, 1)} to {decimal(100 * found.high, 1)}",
            ]
            for name, each in zip(names, scored, strict=True)
            for one, found in each.mean_iou.items()
        ],
        caption=f"{counted(len(scored), 'evaluation')}; mean IoU in percent. A run's name leads to its page.",
        align="llrlrr",
    )


def _below(folder: Path, name: str) -> Iterator[Path]:
    """Files of a name at any depth, sorted, hidden folders left out."""
    return _shown(folder, sorted(folder.rglob(name)))


def _shown(folder: Path, paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        if not any(part.startswith(".") for part in path.relative_to(folder).parts):
            yield path


def _read(folder: Path, path: Path, protocol: str) -> Scored:
    """Raises what reading and looking into a damaged document raises."""
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    place = path.parent
    run = place.parent if place.name.startswith("evaluation-") and place != folder else place
    return Scored(
        run=run.relative_to(folder).as_posix() if run != folder else folder.resolve().name,
        place=place.relative_to(folder),
        system=system_in(document),
        source=str(document["source"]),
        split=str(document["split"]),
        pairs=int(document["pairs"]),
        mean_iou={bands: _interval(found, protocol) for bands, found in document["results"].items()},
        support={bands: str(found["support"]) for bands, found in document["results"].items()},
        monitored="dropped" in document["results"].get("both", {}),
        precision=str(document.get("precision", PRECISIONS[0])),
    )


def _interval(found: Mapping[str, Any], protocol: str) -> Interval:
    value = found["overall"]["mean_iou"][protocol]["value"]
    low, high = found.get("mean_iou_interval", {}).get(protocol) or (math.nan, math.nan)
    return Interval(math.nan if value is None else float(value), float(low), float(high))
