"""One self-contained HTML file: text, tables, charts and pictures, with nothing fetched from anywhere."""

from __future__ import annotations

import base64
import io
import math
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias
from urllib.parse import quote

import numpy as np
from PIL import Image

from crossband.pairs.base import Classes
from crossband.pairs.writing import write_text
from crossband.report.style import STYLE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Colour: TypeAlias = tuple[int, int, int]
_SIDES = {"l": "left", "r": "right", "c": "center"}
_LEAST_REM_AN_INCH = 4.3

_HEAD = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main>
<h1>{title}</h1>
{body}
</main>
</body>
</html>
"""
# The browser itself then refuses whatever is not inside the file.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_WITH_SCRIPT = "; script-src 'unsafe-inline'"


def document(title: str, body: str, *, style: str = "", script: bool = False) -> str:
    """A whole page: its heading, and HTML below it. style: CSS beside ours. script: whether it has one."""
    policy = _POLICY + (_WITH_SCRIPT if script else "")
    return _HEAD.format(policy=policy, title=escape(title), style=STYLE + style, body=body)


@dataclass(frozen=True)
class Cell:
    """A table cell that is more than its text.

    strong: in bold. note: said after the text, smaller. badge: a label in a frame after the text.
    swatch: an sRGB colour (0..255) shown before the text. shade: strength in [0, 1] of the colour behind
    the text, in the colour of ``tone``; NaN leaves it out. link: a file beside the page, as a path relative
    to it, that the text leads to.
    """

    text: str
    strong: bool = False
    note: str = ""
    badge: str = ""
    swatch: Colour | None = None
    shade: float | None = None
    tone: Literal["right", "wrong"] = "right"
    link: str = ""


class Page:
    """A report that is put together from top to bottom.

    Every text is taken as text: it is escaped, never read as HTML. Follows the reader's light or dark
    scheme, and what is wider than the screen scrolls within itself.
    """

    def __init__(self, title: str):
        self.title = title
        self._parts: list[str] = []
        self._figures = 0

    def heading(self, text: str, level: int = 2) -> None:
        """A heading of level 2 to 6; level 1 is the page's title."""
        if level not in range(2, 7):
            raise ValueError(f"a heading's level lies between 2 and 6, not {level}")
        self._parts.append(f"<h{level}>{escape(text)}</h{level}>")

    def paragraph(self, text: str) -> None:
        self._parts.append(f"<p>{escape(text)}</p>")

    def bullets(self, texts: Iterable[str]) -> None:
        items = "".join(f"<li>{escape(text)}</li>" for text in texts)
        self._parts.append(f"<ul>{items}</ul>")

    def code(self, text: str) -> None:
        """Text in a typewriter face with its line breaks kept, such as a command."""
        self._parts.append(f"<pre><code>{escape(text)}</code></pre>")

    def definitions(self, items: Mapping[str, object], *, code: bool = False) -> None:
        """Names and what they stand for. code: in a typewriter face, as for commands and paths."""
        body = "".join(f"<dt>{escape(name)}</dt><dd>{escape(str(text))}</dd>" for name, text in items.items())
        self._parts.append(f'<dl class="code">{body}</dl>' if code else f"<dl>{body}</dl>")

    def outline(self, items: Mapping[str, object]) -> None:
        """Names and what they stand for, where some stand for such a mapping themselves: these fold away."""
        self._parts.append(_outline(items))

    def legend(self, classes: Classes) -> None:
        """The names of the classes beside their colours."""
        items = "".join(
            f"<li>{_swatch(colour)}{escape(name)}</li>"
            for name, colour in zip(classes.names, classes.palette, strict=True)
        )
        self._parts.append(f'<ul class="legend" aria-label="Classes">{items}</ul>')

    def table(
        self,
        header: Sequence[str | Cell],
        rows: Sequence[Sequence[str | Cell]],
        *,
        caption: str = "",
        align: str = "",
        groups: Sequence[int] = (),
        upright: bool = False,
    ) -> None:
        """A table whose first column names its rows.

        align: one letter per column, as in LaTeX: l, r or c; without it the first column is left and all
            others are right.
        groups: the rows that a rule above sets apart. upright: turn the header's texts, all but the first,
        to stand; for many narrow columns. Raises ValueError for a row whose length is not the header's.
        """
        sides = [_SIDES[letter] for letter in align or "l" + "r" * (len(header) - 1)]
        head = "".join(
            f'<th scope="col" class="{side}">{_header(cell, upright=upright and column > 0)}</th>'
            for column, (cell, side) in enumerate(zip(header, sides, strict=True))
        )
        body = "".join(_row(row, sides, ruled=index in groups) for index, row in enumerate(rows))
        shaded = any(isinstance(cell, Cell) and cell.shade is not None for row in rows for cell in row)
        kind = ' class="shaded"' if shaded else ""
        table = f"<table{kind}>{_caption(caption)}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        self._parts.append(_scroll(table, caption or "table"))

    def figure(self, figure: Figure, caption: str, alt: str) -> None:
        """A matplotlib figure as an inline SVG.

        Its black becomes the colour of the page's text and its white the page's background, so that the
        figure follows the light or dark scheme. alt: what the figure shows, for those who cannot see it.
        """
        self._figures += 1
        drawing = _inline_svg(figure, alt, prefix=f"figure{self._figures}-")
        self._parts.append(
            f"<figure>{_scroll(drawing, caption)}<figcaption>{escape(caption)}</figcaption></figure>"
        )

    def image_grid(
        self,
        columns: Sequence[str],
        rows: Sequence[tuple[str, Sequence[np.ndarray | None]]],
        *,
        caption: str = "",
        max_side: int = 640,
        groups: Sequence[int] = (),
        level: int = 3,
    ) -> None:
        """Pictures in rows with a title, each over the title of its column.

        They stand beside each other as far as the screen has room, and go on in the next line. groups: the
        columns that begin a line of their own. level: of the rows' titles as headings.

        A picture is uint8, (H, W, 3) sRGB or (H, W) grey, or None where there is none. A colour picture of
        at most 256 colours, as painted labels are, is kept without loss (PNG); any other is JPEG. Pictures
        with a longer side above ``max_side`` pixels are made smaller. Raises ValueError for a row whose
        length is not that of ``columns``.
        """
        told = f"<p>{escape(caption)}</p>" if caption else ""
        body = "".join(
            _picture_row(title, pictures, columns, max_side, groups, level) for title, pictures in rows
        )
        self._parts.append(f'<section class="pictures" aria-label="Pictures">{told}{body}</section>')

    def gallery(self, pictures: Mapping[str, np.ndarray], *, max_side: int = 640) -> None:
        """Photographs under their titles, as many beside each other as the screen has room for.

        A picture is uint8, (H, W, 3) sRGB or (H, W) grey; it is kept as JPEG, and made smaller if its longer
        side is above ``max_side`` pixels.
        """
        figures = "".join(
            f"<figure>{_photograph(image, title, max_side)}<figcaption>{escape(title)}</figcaption></figure>"
            for title, image in pictures.items()
        )
        self._parts.append(f'<div class="gallery">{figures}</div>')

    def html(self) -> str:
        """The whole page."""
        return document(self.title, "\n".join(self._parts))

    def write(self, path: Path) -> None:
        """Write the page to a file that is either whole or not there."""
        write_text(path, self.html())


def known(provenance: Mapping[str, object]) -> dict[str, object]:
    """What is kept beside numbers, for `Page.outline`, without what is None."""
    return {name: fact for name, fact in provenance.items() if fact is not None}


def _outline(items: Mapping[str, object]) -> str:
    plain = {name: _spoken(fact) for name, fact in items.items() if not isinstance(fact, Mapping)}
    listed = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in plain.items())
    folded = "".join(
        f"<details><summary>{escape(name)}</summary>{_outline(fact)}</details>"
        for name, fact in items.items()
        if isinstance(fact, Mapping)
    )
    return (f'<dl class="code">{listed}</dl>' if listed else "") + folded


def _spoken(fact: object) -> str:
    """A fact in one line, as a person would write it."""
    if fact is None:
        return "none"
    if isinstance(fact, bool):
        return "yes" if fact else "no"
    if isinstance(fact, float):
        return f"{fact:.6g}"
    if isinstance(fact, list | tuple):
        return ", ".join(map(_spoken, fact)) or "none"
    if isinstance(fact, Mapping):
        return ", ".join(f"{name} {_spoken(value)}" for name, value in fact.items()) or "none"
    return str(fact)


def _scroll(content: str, label: str) -> str:
    # Focusable, so that the keyboard can scroll it too.
    return f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(label)}">{content}</div>'


def _caption(text: str) -> str:
    return f"<caption><span>{escape(text)}</span></caption>" if text else ""


def _header(cell: str | Cell, *, upright: bool) -> str:
    return f'<span class="upright">{_cell(cell)}</span>' if upright else _cell(cell)


def _row(row: Sequence[str | Cell], sides: Sequence[str], *, ruled: bool) -> str:
    (name, side), *others = zip(row, sides, strict=True)
    cells = "".join(_data_cell(cell, other_side) for cell, other_side in others)
    kind = ' class="ruled"' if ruled else ""
    return f'<tr{kind}><th scope="row" class="{side}">{_cell(name)}</th>{cells}</tr>'


def _swatch(colour: Colour) -> str:
    red, green, blue = colour
    return f'<span class="swatch" style="background:rgb({red} {green} {blue})"></span>'


def _cell(cell: str | Cell) -> str:
    if isinstance(cell, str):
        return _breakable(cell)
    text = f"<strong>{_breakable(cell.text)}</strong>" if cell.strong else _breakable(cell.text)
    return (
        (_swatch(cell.swatch) if cell.swatch else "")
        + (f'<a href="{escape(quote(cell.link))}">{text}</a>' if cell.link else text)
        + (f'<span class="note">{escape(cell.note)}</span>' if cell.note else "")
        + (f'<span class="badge">{escape(cell.badge)}</span>' if cell.badge else "")
    )


def _breakable(text: str) -> str:
    """Text of a cell: a run on some bands, as in ``csknet@infrared``, may go on in the next line."""
    return escape(text).replace("@", "@<wbr>")


def _data_cell(cell: str | Cell, side: str) -> str:
    if isinstance(cell, Cell) and cell.shade is not None and not math.isnan(cell.shade):
        return f'<td class="{cell.tone}" style="--shade:{cell.shade:.3f}">{_cell(cell)}</td>'
    return f'<td class="{side}">{_cell(cell)}</td>'


def _inline_svg(figure: Figure, alt: str, prefix: str) -> str:
    import matplotlib

    buffer = io.StringIO()
    # Text stays text: it is small, can be searched, and is drawn in the page's own face, so that a glyph
    # which matplotlib's face lacks is none of its concern. The salt makes the ids the same in every run.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": prefix}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)
        figure.savefig(
            buffer,
            format="svg",
            transparent=True,
            metadata={"Date": None, "Creator": None, "Format": None, "Type": None},
        )
    drawing = buffer.getvalue()
    drawing = drawing[drawing.index("<svg") :]
    drawing = re.sub(r"<[^>]+>", lambda tag: _for_page(tag.group(), prefix), drawing)
    # Below this its text would be hard to read: a narrower screen scrolls.
    least = f"min-width:{_LEAST_REM_AN_INCH * figure.get_figwidth():.1f}rem"
    opening = f'<svg class="chart" style="{least}" role="img" aria-label="{escape(alt)}"'
    return drawing.replace("<svg", opening, 1)


def _for_page(tag: str, prefix: str) -> str:
    """A tag of a drawing, made to fit a page: its own ids, the page's colours, no namespaces."""
    tag = re.sub(r' xmlns(:\w+)?="[^"]*"', "", tag)
    tag = re.sub(r'\bid="', f'id="{prefix}', tag)
    tag = re.sub(r'(url\(|href=")#', rf"\g<1>#{prefix}", tag)
    return tag.replace("#000000", "currentColor").replace("#ffffff", "var(--paper)")


def _picture_row(
    title: str,
    pictures: Sequence[np.ndarray | None],
    columns: Sequence[str],
    max_side: int,
    groups: Sequence[int],
    level: int,
) -> str:
    figures = [
        f"<li><figure>{_picture(picture, f'{title}: {column}', max_side)}"
        f"<figcaption>{escape(column)}</figcaption></figure></li>"
        for column, picture in zip(columns, pictures, strict=True)
    ]
    edges = [0, *groups, len(figures)]
    lines = ("".join(figures[start:end]) for start, end in pairwise(edges))
    return f"<h{level}>{escape(title)}</h{level}>" + "".join(f"<ul>{line}</ul>" for line in lines)


def _picture(picture: np.ndarray | None, alt: str, max_side: int) -> str:
    if picture is None:
        return '<span class="absent">none</span>'
    image = Image.fromarray(picture)
    if image.mode != "RGB" or not image.getcolors(256):
        return _photograph(picture, alt, max_side)
    image.thumbnail((max_side, max_side), Image.Resampling.NEAREST)
    return _embedded(_indexed(image), "png", alt, optimize=True)


def _photograph(picture: np.ndarray, alt: str, max_side: int) -> str:
    image = Image.fromarray(picture)
    image.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
    return _embedded(image, "jpeg", alt, quality=88)


def _embedded(image: Image.Image, kind: str, alt: str, **options: Any) -> str:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    return (
        f'<img src="data:image/{kind};base64,{data}" alt="{escape(alt)}" '
        f'width="{image.width}" height="{image.height}">'
    )


def _indexed(image: Image.Image) -> Image.Image:
    """An RGB image of at most 256 colours as a palette image, exactly."""
    pixels = np.asarray(image)
    colours, indices = np.unique(pixels.reshape(-1, 3), axis=0, return_inverse=True)
    indexed = Image.fromarray(indices.reshape(pixels.shape[:2]).astype(np.uint8))
    indexed.putpalette(colours.astype(np.uint8).tobytes())
    return indexed
