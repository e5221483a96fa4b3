"""Pairs to look through: one page with both bands, what was made of them, and switches; opens offline."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path

import numpy as np
from PIL import Image

from crossband.pairs.base import IGNORE_COLOUR, Classes, Pairs
from crossband.pairs.writing import write_text
from crossband.pictures import class_shares, colour_labels, to_uint8
from crossband.report.page import document
from crossband.results import ResultPairs
from crossband.text import counted
from crossband.words import IGNORE_INDEX

Progress = Callable[[int, int], None]

_QUALITY = 80
_MOST_NAMED = 12

_STYLE = """
.stage { position: relative; background: var(--raised); border-radius: .3rem; overflow: hidden; }
.stage img { width: 100%; position: absolute; inset: 0; height: 100%; }
.stage img.base { position: static; height: auto; }
.stage img.label { image-rendering: pixelated; }
.controls { display: flex; flex-wrap: wrap; gap: .6rem 1.2rem; align-items: center; margin: .8rem 0; }
.controls label { display: flex; gap: .4rem; align-items: center; }
.controls input[type=range] { width: min(14rem, 60vw); }
.controls button, .controls select {
  font: inherit; color: inherit; background: var(--raised); border: 1px solid var(--rule);
  border-radius: .3rem; padding: .3rem .8rem; max-width: 100%;
}
[hidden] { display: none !important; }
"""

_SCRIPT = """
"use strict";
const pairs = JSON.parse(document.getElementById("pairs").textContent);
const by = id => document.getElementById(id);
let at = 0;
function draw() {
  const pair = pairs[at];
  const left = by("left").value, right = by("right").value;
  const show = (id, kind) => {
    by(id).hidden = !pair[kind];
    if (pair[kind]) by(id).src = pair[kind]; else by(id).removeAttribute("src");
  };
  const first = pair[left] ? left : pair[right] ? right : Object.keys(pair.kinds)[0];
  show("under", first);
  show("over", pair[right] ? right : first);
  show("painted", "label");
  by("over").style.clipPath = `inset(0 0 0 ${by("slide").value}%)`;
  by("painted").hidden = !pair.label || !by("labels").checked;
  by("painted").style.opacity = by("opacity").value / 100;
  by("name").value = String(at);
  by("told").textContent = `${at + 1} of ${pairs.length}: ${pair.told}`;
}
function go(step) { at = (at + step + pairs.length) % pairs.length; draw(); }
by("before").onclick = () => go(-1);
by("next").onclick = () => go(1);
by("name").onchange = () => { at = Number(by("name").value); draw(); };
for (const id of ["left", "right", "slide", "labels", "opacity"]) by(id).oninput = draw;
document.onkeydown = event => {
  if (["INPUT", "SELECT"].includes(event.target.tagName)) return;
  if (event.key === "ArrowLeft") go(-1);
  if (event.key === "ArrowRight") go(1);
};
draw();
"""

_BODY = """<p>{about}</p>
<div class="controls">
<button id="before" type="button">Previous</button>
<button id="next" type="button">Next</button>
<select id="name" aria-label="Pair">{names}</select>
</div>
<p id="told" aria-live="polite"></p>
<div class="controls">
<label>left <select id="left">{left}</select></label>
<label>slider <input id="slide" type="range" min="0" max="100" value="50"></label>
<label>right <select id="right">{right}</select></label>
<label><input id="labels" type="checkbox" checked> labels</label>
<label>opacity <input id="opacity" type="range" min="0" max="100" value="50"></label>
</div>
{legend}
<div class="stage">
<img id="under" class="base" alt="left picture">
<img id="over" alt="right picture">
<img id="painted" class="label" alt="labels in colours">
</div>
<script type="application/json" id="pairs">{pairs}</script>
<script>{script}</script>"""


def write_view(
    pairs: Pairs, path: Path, *, most: int = 24, max_side: int = 800, progress: Progress | None = None
) -> int:
    """Write a page over pairs, evenly chosen where there are more than ``most``; gives how many it shows.

    Pictures whose longer side is above ``max_side`` pixels are made smaller. Bands, fused pictures and
    confidence are JPEG at quality 80, labels PNG with alpha, transparent where they are ignored. Every text
    is escaped, and the page may fetch nothing. progress is called with (pairs done, pairs shown).

    Raises PairError for a pair that cannot be read, OptionError if the page cannot be written.
    """
    count = min(most, len(pairs))
    chosen = np.unique(np.linspace(0, len(pairs) - 1, count).round().astype(int)).tolist()
    shown: list[dict[str, object]] = []
    for number, index in enumerate(chosen, start=1):
        shown.append(_shown(pairs, index, max_side))
        if progress is not None:
            progress(number, len(chosen))
    write_text(path, _page(pairs, shown))
    return len(shown)


def _page(pairs: Pairs, shown: list[dict[str, object]]) -> str:
    found: set[str] = set()
    for one in shown:
        kinds = one["kinds"]
        assert isinstance(kinds, dict)
        found |= set(kinds)
    kinds = [kind for kind in ("visible", "infrared", "fused", "confidence") if kind in found]
    of = f"{counted(len(pairs), 'pair')} of {pairs.source}"
    about = of if len(shown) == len(pairs) else f"{len(shown)} of {of}, evenly chosen"
    body = _BODY.format(
        about=f"{escape(about)}. Arrow keys turn the pages.",
        names="".join(
            f'<option value="{place}">{escape(str(one["name"]))}</option>' for place, one in enumerate(shown)
        ),
        left=_options(kinds, 0),
        right=_options(kinds, 1),
        legend="" if pairs.classes is None else _legend(pairs.classes),
        # A text that ends the script early would be taken for HTML.
        pairs=json.dumps(shown).replace("<", "\\u003c"),
        script=_SCRIPT,
    )
    return document(Path(pairs.source).name or pairs.source, body, style=_STYLE, script=True)


def _options(kinds: Sequence[str], chosen: int) -> str:
    chosen = min(chosen, len(kinds) - 1)
    return "".join(
        f"<option{' selected' if place == chosen else ''}>{kind}</option>" for place, kind in enumerate(kinds)
    )


def _legend(classes: Classes) -> str:
    entries = [*zip(classes.names, classes.palette, strict=True), ("ignored: transparent", IGNORE_COLOUR)]
    items = "".join(
        f'<li><span class="swatch" style="background:rgb({red} {green} {blue})"></span>{escape(name)}</li>'
        for name, (red, green, blue) in entries
    )
    return f'<ul class="legend" aria-label="Classes">{items}</ul>'


def _shown(pairs: Pairs, index: int, max_side: int) -> dict[str, object]:
    pair = pairs[index]
    pictures: dict[str, np.ndarray] = {}
    if pair.visible is not None:
        pictures["visible"] = to_uint8(pair.visible)
    if pair.infrared is not None:
        pictures["infrared"] = to_uint8(pair.infrared)
    if isinstance(pairs, ResultPairs):
        for kind in ("fused", "confidence"):
            picture = pairs.picture(index, kind)
            if picture is not None:
                pictures[kind] = picture
    one: dict[str, object] = {kind: _jpeg(picture, max_side) for kind, picture in pictures.items()}
    one["kinds"] = dict.fromkeys(pictures, True)
    one["name"] = pairs.name(index)
    one["told"] = pairs.name(index)
    if pair.label is not None and pairs.classes is not None:
        one["label"] = _painted(pair.label, pairs.classes, max_side)
        one["told"] = f"{pairs.name(index)}. {_shares(pair.label, pairs.classes)}"
    return one


def _shares(label: np.ndarray, classes: Classes) -> str:
    """The share of the area that each class has, the largest first."""
    shares = [(one, share) for one, share in class_shares(label) if one != IGNORE_INDEX]
    told = [f"{classes.names[one]} {100 * share:.1f} %" for one, share in shares[:_MOST_NAMED]]
    return ", ".join(told) or "all ignored"


def _jpeg(picture: np.ndarray, max_side: int) -> str:
    image = Image.fromarray(picture)
    image.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
    return _embedded(image, "jpeg", quality=_QUALITY)


def _painted(label: np.ndarray, classes: Classes, max_side: int) -> str:
    colours = colour_labels(label, classes.palette)
    alpha = np.where(label == IGNORE_INDEX, 0, 255).astype(np.uint8)
    image = Image.fromarray(np.dstack([colours, alpha]))
    image.thumbnail((max_side, max_side), Image.Resampling.NEAREST)
    return _embedded(image, "png", optimize=True)


def _embedded(image: Image.Image, kind: str, **options: object) -> str:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
