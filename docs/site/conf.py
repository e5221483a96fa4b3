"""Sphinx's configuration of the documentation; docs/build_site.py gathers the pages and runs it."""

from __future__ import annotations

import re
from typing import Any

from crossband.version import __version__

project = "Crossband"
copyright = "the authors of Crossband, Apache-2.0"
version = release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc"]
html_theme = "furo"
html_title = f"Crossband {__version__}"
html_static_path = ["static"]
html_css_files = ["tables.css"]
# GitHub's anchors, by which the pages link to each other.
myst_heading_anchors = 4
autodoc_member_order = "bysource"
autodoc_typehints = "none"

_RANGE = re.compile(r"(?<=\d) to (?=-?\d)")
_ENTRY = re.compile(r"[a-z_]\w*(?:, \w+)*: ")


def as_rst(lines: list[str]) -> list[str]:
    """A docstring of ours, which is plain text, as reStructuredText.

    Its paragraphs become paragraphs, an entry ``name: text`` a point of a list, what stands indented after a
    blank line a literal block, and a name in single backticks code. Nothing else is markup.
    """
    made: list[str] = []
    for paragraph in re.split(r"\n(?:[ \t]*\n)+", "\n".join(lines).strip("\n")):
        rows = paragraph.split("\n")
        if rows[0].lstrip().startswith(">>>"):
            made += [*rows, ""]
            continue
        if all(row.startswith("    ") for row in rows):
            made += ["::", "", *rows, ""]
            continue
        parts: list[str] = []
        for row in rows:
            begins = _ENTRY.match(row) is not None
            if begins or not parts:
                parts.append(row.strip())
            else:
                parts[-1] += " " + row.strip()
        for part in parts:
            made += [f"- {_plain(part)}" if _ENTRY.match(part) else _plain(part), ""]
    return made


def _plain(text: str) -> str:
    """A paragraph whose only markup is code in backticks."""
    pieces = re.split(r"(``[^`]+``|`[^`]+`)", text)
    return "".join(
        f"``{piece.strip('`')}``" if piece.startswith("`") else re.sub(r"([*|_\\])", r"\\\1", piece)
        for piece in pieces
    )


def range_kept_together(text: str) -> str:
    """A text whose ranges, such as ``53.1 to 54.9``, are never broken between two lines."""
    return _RANGE.sub("\u00a0to\u00a0", text)


def _keep_ranges_together(app: Any, doctree: Any, name: str) -> None:
    """In the cells of tables, which would be as high as a range has words."""
    from docutils.nodes import Text, entry

    for cell in doctree.findall(entry):
        for text in list(cell.findall(Text)):
            text.parent.replace(text, Text(range_kept_together(text)))


def _read(app: Any, what: str, name: str, owner: Any, options: Any, lines: list[str]) -> None:
    lines[:] = as_rst(lines)


def setup(app: Any) -> None:
    app.connect("autodoc-process-docstring", _read)
    app.connect("doctree-resolved", _keep_ranges_together)
