"""A filled table as Markdown, CSV and HTML: what is printed in the paper beside what we have."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from crossband.info import Parameters
from crossband.pairs.benchmarks import BENCHMARKS
from crossband.pairs.opening import parse_source
from crossband.pairs.writing import csv_text, write_text
from crossband.report.page import Page
from crossband.reproduce.filling import Block, Filled, FilledRow, Ours
from crossband.reproduce.table import LABEL, PARAMETERS, Column, Table

NOTHING = "–"
CSV_COLUMNS = (
    *("table", "row", "system", "bands", "benchmark", "measure", "protocol", "published", "source"),
    *("ours_mean", "ours_min", "ours_max", "seeds", "difference", "ours_on", "problem"),
)


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


@dataclass(frozen=True)
class _Sheet:
    """A filled table as texts: scores, parameters, and what is said about them."""

    title: str
    paragraphs: list[str]
    scores: list[list[str]]
    parameters: list[list[str]]
    notes: list[str]
    facts: dict[str, str]


def write_table(filled: Filled, folder: Path) -> Path:
    """Write ``NAME.md``, ``.csv`` and ``.html``, each whole or not at all; the path of the Markdown."""
    name = file_name(filled.table)
    sheet = _sheet(filled)
    write_text(folder / f"{name}.md", _markdown(sheet))
    write_text(folder / f"{name}.csv", to_csv(filled))
    _page(sheet).write(folder / f"{name}.html")
    return folder / f"{name}.md"


def file_name(table: Table) -> str:
    """A table's name as that of a file: ``csknet-table-3``."""
    return table.name.replace("/", "-")


def to_markdown(filled: Filled) -> str:
    """Scores, parameters, footnotes and what they were made with."""
    return _markdown(_sheet(filled))


def to_csv(filled: Filled) -> str:
    """One figure a line: shares in percent, parameters as counts; empty where there is none.

    Columns: table, row, system, bands, benchmark, measure (``mean_iou``, ``mean_class_accuracy``, and
    ``parameters_deployed``, ``_dead``, ``_training_only``, at the paper's size and, with ``_as_run``, of the
    network behind our figures), protocol, published, source (of what is published), mean and range of ours,
    seeds (how many), difference, ours_on (the data of ours), problem (why there is none of ours).
    """
    rows = (
        {
            "table": filled.table.name,
            "row": row.row.label,
            "system": row.row.system,
            "bands": row.row.bands,
            **line,
        }
        for row in filled.rows
        for line in _csv_lines(filled, row)
    )
    return csv_text(CSV_COLUMNS, rows)


def _csv_lines(filled: Filled, row: FilledRow) -> Iterator[dict[str, object]]:
    for number, block in enumerate(filled.blocks):
        for column in block.columns:
            printed = row.row.published.get(column.key, "")
            for protocol in filled.protocols(block):
                ours = row.ours[number, protocol]
                values = [100 * value for value in ours.values]
                line: dict[str, object] = {
                    "benchmark": column.benchmark,
                    "measure": column.measure,
                    "protocol": protocol or "",
                    "published": printed,
                    "source": row.row.sources.get(column.key, filled.table.source) if printed else "",
                    "ours_on": block.benchmark if block.comparable else _other_data(filled),
                    "problem": ours.problem,
                }
                if values:
                    line |= {
                        "ours_mean": f"{100 * ours.mean:.4f}",
                        "ours_min": f"{min(values):.4f}",
                        "ours_max": f"{max(values):.4f}",
                        "seeds": len(values),
                    }
                if values and printed and block.comparable and protocol in (filled.table.protocol, None):
                    line["difference"] = f"{100 * ours.mean - float(printed):.4f}"
                yield line
    if row.row.parameters:
        yield {
            "measure": "parameters_millions",
            "published": row.row.parameters,
            "source": filled.table.source,
        }
    for size, suffix in ((row.published_size, ""), (row.run_size, "_as_run")):
        if size is not None:
            for part in ("deployed", "dead", "training_only"):
                yield {"measure": f"parameters_{part}{suffix}", "ours_mean": getattr(size, part)}


def _sheet(filled: Filled) -> _Sheet:
    notes = _Footnotes()
    grouped = any(row.row.group for row in filled.rows)
    scores = [_score_header(filled, grouped)]
    scores += [_score_row(filled, row, notes, grouped) for row in filled.rows]
    parameters = [_PARAMETER_HEADER, *(_parameter_row(row, notes) for row in filled.rows)]
    table = filled.table
    about = list(table.notes)
    if filled.settings.on is None:
        about += [use.note for use in table.uses.values() if use.note]
    notes.mark(about)
    return _Sheet(
        title=f"{table.name}: {table.title}",
        paragraphs=_paragraphs(filled),
        scores=scores,
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
            f"Ours: on {_other_data(filled)}, mean over seeds (lowest to highest, number of seeds). "
            "Published figures are on other data. A difference between the two would mean nothing, so there "
            "is none."
        )
    if filled.settings.budget == "quick":
        lines.append(
            "Preset quick: one small encoder, one width and one short training for all systems. It does not "
            "follow the papers, and its figures do not speak for or against theirs."
        )
    lines.append(f"Protocol: {table.protocol_note}")
    return lines


def _other_data(filled: Filled) -> str:
    assert filled.settings.on is not None
    name = parse_source(filled.settings.on).name
    return "generated scenes" if name == "scenes" else "a folder of pairs"


def _title(column: Column) -> str:
    return f"{BENCHMARKS[column.benchmark].title.split(' (')[0]} {column.heading}"


def _score_header(filled: Filled, grouped: bool) -> list[str]:
    header = ["setting", "row", "bands"] if grouped else ["row", "bands"]
    for block in filled.blocks:
        header += [f"{_title(column)}, published" for column in block.columns]
        for protocol in filled.protocols(block):
            header.append(f"ours, {protocol}" if protocol else "ours, mean class accuracy")
            if block.comparable and protocol in (filled.table.protocol, None):
                header.append("difference")
    return header


def _score_row(filled: Filled, row: FilledRow, notes: _Footnotes, grouped: bool) -> list[str]:
    label = row.row.label + notes.mark(row.row.notes.get(LABEL, ()))
    bands = f"{row.row.bands} (fallback)" if row.fallback else row.row.bands
    cells = [row.row.group, label, bands] if grouped else [label, bands]
    for number, block in enumerate(filled.blocks):
        for column in block.columns:
            printed = row.row.published.get(column.key, NOTHING)
            cells.append(printed + notes.mark(row.row.notes.get(column.key, ())))
        for protocol in filled.protocols(block):
            ours = row.ours[number, protocol]
            cells.append(_spread(ours, block.columns[0].digits, notes))
            if block.comparable and protocol in (filled.table.protocol, None):
                cells.append(_difference(ours, row, block))
    return cells


def _spread(ours: Ours, digits: int, notes: _Footnotes) -> str:
    if not ours.values:
        return NOTHING + notes.mark([f"None of ours: {ours.problem}."])
    shown = [f"{100 * value:.{digits}f}" for value in (ours.mean, min(ours.values), max(ours.values))]
    count = len(ours.values)
    return f"{shown[0]} (n = 1)" if count == 1 else f"{shown[0]} ({shown[1]} to {shown[2]}, n = {count})"


def _difference(ours: Ours, row: FilledRow, block: Block) -> str:
    printed = row.row.published.get(block.columns[0].key)
    if not ours.values or printed is None:
        return NOTHING
    return f"{100 * ours.mean - float(printed):+.{block.columns[0].digits}f}".replace("-", "−")


_PARAMETER_HEADER = [
    *("row", "bands", "published", "deployed", "of them dead", "training only"),
    *("as run: deployed", "as run: dead", "as run: training only"),
]


def _parameter_row(row: FilledRow, notes: _Footnotes) -> list[str]:
    printed = f"{row.row.parameters} M" if row.row.parameters else NOTHING
    return [
        row.row.label,
        row.row.bands,
        printed + notes.mark(row.row.notes.get(PARAMETERS, ())),
        *_counts(row.published_size),
        *_counts(row.run_size),
    ]


def _counts(size: Parameters | None) -> list[str]:
    if size is None:
        return [NOTHING] * 3
    return [f"{count:,}" for count in (size.deployed, size.dead, size.training_only)]


_ABOUT_PARAMETERS = (
    "Parameters, counted alike for every row: deployed is what inference on these bands touches, shared ones "
    "once; dead is what nothing reads; training only is what else its training holds, such as a teacher. "
    "First at the paper's size, with the classes of the table's first benchmark, then as run here."
)


def _markdown(sheet: _Sheet) -> str:
    parts = [f"# {sheet.title}", *sheet.paragraphs, _markdown_table(sheet.scores)]
    parts += ["## Parameters", _ABOUT_PARAMETERS, _markdown_table(sheet.parameters)]
    parts += ["## Notes", "\n".join(f"{i}. {text}" for i, text in enumerate(sheet.notes, 1))]
    facts = "\n".join(f"- {name}: {_code(name, text)}" for name, text in sheet.facts.items())
    return "\n\n".join([*parts, "## What ours were made with", facts]) + "\n"


def _code(name: str, text: str) -> str:
    return f"`{text}`" if name == "command" else text


def _markdown_table(rows: list[list[str]]) -> str:
    lines = [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


def _page(sheet: _Sheet) -> Page:
    page = Page(sheet.title)
    for text in sheet.paragraphs:
        page.paragraph(text)
    scores = sheet.scores[1:]
    # With a column of settings first, each of them is set apart.
    new = [index for index, row in enumerate(scores) if index and row[0] != scores[index - 1][0]]
    grouped = new if sheet.scores[0][0] == "setting" else []
    page.table(sheet.scores[0], scores, caption="Scores", align=_sides(sheet.scores), groups=grouped)
    page.heading("Parameters")
    page.paragraph(_ABOUT_PARAMETERS)
    page.table(sheet.parameters[0], sheet.parameters[1:], align=_sides(sheet.parameters))
    page.heading("Notes")
    page.bullets(f"[{number}] {text}" for number, text in enumerate(sheet.notes, 1))
    page.heading("What ours were made with")
    page.definitions(sheet.facts)
    return page


def _sides(rows: list[list[str]]) -> str:
    """Texts up to the bands to the left, figures to the right."""
    left = rows[0].index("bands") + 1
    return "l" * left + "r" * (len(rows[0]) - left)
