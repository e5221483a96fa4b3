"""A filled table as Markdown, CSV and HTML: what is printed in the paper beside what we have."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from crossband.pairs.writing import csv_text, write_text
from crossband.report.page import Page
from crossband.reproduce.filling import Filled, FilledRow
from crossband.reproduce.sheet import ABOUT_PARAMETERS, Sheet, data_of, sheet_of
from crossband.reproduce.table import Table
from crossband.text import markdown_table

CSV_COLUMNS = (
    *("table", "row", "system", "bands", "benchmark", "measure", "protocol", "published", "source"),
    *("ours_mean", "ours_min", "ours_max", "seeds", "difference", "ours_on", "problem"),
    *("ours_low", "ours_high"),
)


def write_table(filled: Filled, folder: Path) -> Path:
    """Write ``NAME.md``, ``.csv`` and ``.html``, each whole or not at all; the path of the Markdown."""
    name = file_name(filled.table)
    sheet = sheet_of(filled)
    write_text(folder / f"{name}.md", _markdown(sheet))
    write_text(folder / f"{name}.csv", to_csv(filled))
    _page(sheet).write(folder / f"{name}.html")
    return folder / f"{name}.md"


def file_name(table: Table) -> str:
    """A table's name as that of a file: ``csknet-table-3``."""
    return table.name.replace("/", "-")


def to_markdown(filled: Filled) -> str:
    """Scores, parameters, footnotes and what they were made with."""
    return _markdown(sheet_of(filled))


def to_csv(filled: Filled) -> str:
    """One figure a line: shares in percent, parameters as counts; empty where there is none.

    Columns: table, row, system, bands, benchmark, measure (``mean_iou``, ``mean_class_accuracy``, and
    ``parameters_deployed``, ``_dead``, ``_training_only``, at the paper's size and, with ``_as_run``, of the
    network behind our figures), protocol, published, source (of what is published), mean and range of ours,
    seeds (how many), difference, ours_on (the data of ours), problem (why there is none of ours), ours_low
    and ours_high (the 95 % interval of the mean).
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
            printed = filled.table.cell(row.row, column)
            for protocol in filled.protocols(block):
                ours = row.ours[number, protocol]
                values = [100 * value for value in ours.values]
                line: dict[str, object] = {
                    "benchmark": column.benchmark,
                    "measure": column.measure,
                    "protocol": protocol or "",
                    "published": printed.text,
                    "source": (printed.source or filled.table.source) if printed.text else "",
                    "ours_on": data_of(filled, block),
                    "problem": ours.problem,
                }
                if values:
                    line |= {
                        "ours_mean": f"{100 * ours.mean:.4f}",
                        "ours_min": f"{min(values):.4f}",
                        "ours_max": f"{max(values):.4f}",
                        "seeds": len(values),
                    }
                if ours.interval is not None:
                    line["ours_low"] = f"{100 * ours.interval.low:.4f}"
                    line["ours_high"] = f"{100 * ours.interval.high:.4f}"
                if values and printed.text and filled.is_held(block, protocol):
                    line["difference"] = f"{100 * ours.mean - float(printed.text):.4f}"
                yield line
    if parameters := filled.table.parameters(row.row).text:
        yield {
            "measure": "parameters_millions",
            "published": parameters,
            "source": filled.table.source,
        }
    for size, suffix in ((row.published_size, ""), (row.run_size, "_as_run")):
        if size is not None:
            for part in ("deployed", "dead", "training_only"):
                yield {"measure": f"parameters_{part}{suffix}", "ours_mean": getattr(size, part)}


def _markdown(sheet: Sheet) -> str:
    parts = [f"# {sheet.title}", *sheet.paragraphs, markdown_table(sheet.score_header, sheet.scores)]
    parts += ["## Parameters", ABOUT_PARAMETERS, markdown_table(sheet.parameter_header, sheet.parameters)]
    parts += ["## Notes", "\n".join(f"{i}. {text}" for i, text in enumerate(sheet.notes, 1))]
    facts = "\n".join(f"- {name}: {_code(name, text)}" for name, text in sheet.facts.items())
    return "\n\n".join([*parts, "## What ours were made with", facts]) + "\n"


def _code(name: str, text: str) -> str:
    return f"`{text}`" if name == "command" else text


def _page(sheet: Sheet) -> Page:
    page = Page(sheet.title)
    for text in sheet.paragraphs:
        page.paragraph(text)
    header, rows = sheet.score_header, sheet.scores
    # With a column of settings first, each of them is set apart.
    new = [index for index, row in enumerate(rows) if index and row[0] != rows[index - 1][0]]
    grouped = new if header[0] == "setting" else []
    page.table(header, rows, caption="Scores", align=_sides(header), groups=grouped)
    page.heading("Parameters")
    page.paragraph(ABOUT_PARAMETERS)
    page.table(sheet.parameter_header, sheet.parameters, align=_sides(sheet.parameter_header))
    page.heading("Notes")
    page.bullets(f"[{number}] {text}" for number, text in enumerate(sheet.notes, 1))
    page.heading("What ours were made with")
    page.definitions(sheet.facts)
    return page


def _sides(header: list[str]) -> str:
    """Texts up to the bands to the left, figures to the right."""
    left = header.index("bands") + 1
    return "l" * left + "r" * (len(header) - left)
