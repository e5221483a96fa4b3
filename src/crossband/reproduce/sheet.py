"""A filled table as texts, from which every form of it is printed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from crossband.info import Parameters
from crossband.pairs.benchmarks import BENCHMARKS
from crossband.pairs.opening import parse_source
from crossband.reproduce.filling import Block, Filled, FilledRow, Ours
from crossband.reproduce.table import Cell, Column
from crossband.text import DASH

ABOUT_PARAMETERS = (
    "Parameters, counted alike for every row: deployed is what inference on these bands touches, shared ones "
    "once; dead is what nothing reads; training only is what else its training holds, such as a teacher. "
    "First at the paper's size, with the classes of the table's first benchmark, then as run here."
)
_PARAMETER_HEADER = (
    *("row", "bands", "published", "deployed", "of them dead", "training only"),
    *("as run: deployed", "as run: dead", "as run: training only"),
)


@dataclass(frozen=True)
class Sheet:
    """Scores and parameters, each a header and rows, and what is said about them.

    notes: the footnotes, from number 1.
    """

    title: str
    paragraphs: list[str]
    score_header: list[str]
    scores: list[list[str]]
    parameter_header: list[str]
    parameters: list[list[str]]
    notes: list[str]
    facts: dict[str, str]


@dataclass
class _Footnotes:
    """Texts in the order in which they are first asked for."""

    texts: list[str] = field(default_factory=list)

    def mark(self, texts: Sequence[str]) -> str:
        """The marks of some notes, such as `` [1] [3]``."""
        for text in texts:
            if text not in self.texts:
                self.texts.append(text)
        return "".join(f" [{self.texts.index(text) + 1}]" for text in texts)


def sheet_of(filled: Filled) -> Sheet:
    """What there is to be printed of a table."""
    notes = _Footnotes()
    grouped = any(row.row.group for row in filled.rows)
    scores = [_score_row(filled, row, notes, grouped) for row in filled.rows]
    parameters = [_parameter_row(filled, row, notes) for row in filled.rows]
    table = filled.table
    about = list(table.notes)
    if filled.settings.on is None:
        about += [note for key in table.benchmarks if (note := table.uses[key].note)]
    notes.mark(about)
    return Sheet(
        title=f"{table.name}: {table.title}",
        paragraphs=_paragraphs(filled),
        score_header=_score_header(filled, grouped),
        scores=scores,
        parameter_header=list(_PARAMETER_HEADER),
        parameters=parameters,
        notes=notes.texts,
        facts=dict(filled.facts),
    )


def _paragraphs(filled: Filled) -> list[str]:
    table = filled.table
    lines = [f"Published: {table.paper}. Mean IoU and accuracies in percent."]
    if filled.settings.on is None:
        lines.append("Ours: mean over seeds (lowest to highest, number of seeds), and ours less published.")
    else:
        lines.append(
            f"Ours: on {data_of(filled, filled.blocks[0])}, mean over seeds (lowest to highest, number of "
            "seeds). Published figures are on other data. A difference between the two would mean nothing, "
            "so there is none."
        )
    if filled.settings.budget == "quick":
        lines.append(
            "Budget quick: one small encoder, one width and one short training for all systems. It does not "
            "follow the papers, and its figures do not speak for or against theirs."
        )
    if any(ours.interval is not None for row in filled.rows for ours in row.ours.values()):
        lines.append(
            "After 95 %: the interval of the mean, by a bootstrap over the test pairs, with the spread of "
            "the seeds where there are two or more. With one seed, it does not say what another one would "
            "give."
        )
    lines.append(f"Protocol: {table.protocol_note}")
    return lines


def data_of(filled: Filled, block: Block) -> str:
    """What a block's figures of ours are on: a benchmark's key, or other data in words."""
    if filled.settings.on is None:
        return block.benchmark
    return "generated scenes" if parse_source(filled.settings.on).name == "scenes" else "a folder of pairs"


def _title(column: Column) -> str:
    return f"{BENCHMARKS[column.benchmark].title.split(' (')[0]} {column.heading}"


def _score_header(filled: Filled, grouped: bool) -> list[str]:
    header = ["setting", "row", "bands"] if grouped else ["row", "bands"]
    for block in filled.blocks:
        header += [f"{_title(column)}, published" for column in block.columns]
        for protocol in filled.protocols(block):
            header.append(f"ours, {protocol}" if protocol else "ours, mean class accuracy")
            if filled.is_held(block, protocol):
                header.append("difference")
    return header


def _score_row(filled: Filled, row: FilledRow, notes: _Footnotes, grouped: bool) -> list[str]:
    label = row.row.label + notes.mark(row.row.notes)
    bands = f"{row.row.bands} (fallback)" if row.fallback else row.row.bands
    cells = [row.row.group, label, bands] if grouped else [label, bands]
    for number, block in enumerate(filled.blocks):
        for column in block.columns:
            cells.append(_printed(filled.table.cell(row.row, column), notes))
        for protocol in filled.protocols(block):
            ours = row.ours[number, protocol]
            cells.append(_spread(ours, block.columns[0].digits, notes))
            if filled.is_held(block, protocol):
                cells.append(_difference(ours, filled.table.cell(row.row, block.columns[0]), block))
    return cells


def _printed(cell: Cell, notes: _Footnotes, unit: str = "") -> str:
    return (cell.text + unit if cell.text else DASH) + notes.mark([cell.note] if cell.note else [])


def _spread(ours: Ours, digits: int, notes: _Footnotes) -> str:
    if not ours.values:
        return DASH + notes.mark([f"None of ours: {ours.problem}."])
    shown = [f"{100 * value:.{digits}f}" for value in (ours.mean, min(ours.values), max(ours.values))]
    count = len(ours.values)
    said = f"{shown[1]} to {shown[2]}, n = {count}" if count > 1 else "n = 1"
    if ours.interval is not None:
        bounds = [f"{100 * bound:.{digits}f}" for bound in (ours.interval.low, ours.interval.high)]
        said += f"; 95 %: {bounds[0]} to {bounds[1]}"
    return f"{shown[0]} ({said})"


def _difference(ours: Ours, printed: Cell, block: Block) -> str:
    if not ours.values or not printed.text:
        return DASH
    return f"{100 * ours.mean - float(printed.text):+z.{block.columns[0].digits}f}".replace("-", "−")


def _parameter_row(filled: Filled, row: FilledRow, notes: _Footnotes) -> list[str]:
    return [
        row.row.label,
        row.row.bands,
        _printed(filled.table.parameters(row.row), notes, " M"),
        *_counts(row.published_size),
        *_counts(row.run_size),
    ]


def _counts(size: Parameters | None) -> list[str]:
    if size is None:
        return [DASH] * 3
    return [f"{count:,}" for count in (size.deployed, size.dead, size.training_only)]
