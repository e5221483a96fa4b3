"""An answer as HTML to look at, without a script: pictures, shares of classes, and a switch between bands."""

from __future__ import annotations

import base64
import io
from html import escape

import numpy as np
from PIL import Image

from crossband.pairs.base import IGNORE_COLOUR, Classes
from crossband.pictures import class_shares, to_uint8
from crossband.prediction import Prediction
from crossband.serve.answer import Answer, changed, pictures_of
from crossband.serve.service import Batch
from crossband.text import counted
from crossband.words import IGNORE_INDEX, Bands

_QUALITY = 88
_SPOKEN = {"both": "both bands", "visible": "visible alone", "infrared": "infrared alone"}
_CAPTIONS = {"confidence": "confidence (white: certain)"}
_MOST_FAILURES = 10

STYLE = """
.cb { font-size: .95rem; line-height: 1.5; }
.cb p { margin: .5rem 0; max-width: 46rem; overflow-wrap: anywhere; }
.cb .error { border-left: 4px solid #b91c1c; padding: .5rem .9rem; }
.cb .grid {
  display: grid; gap: .9rem;
  grid-template-columns: repeat(auto-fit, minmax(min(17rem, 100%), 1fr));
}
.cb figure { margin: 0; max-width: 44rem; }
.cb figure img { width: 100%; height: auto; display: block; border-radius: .3rem; }
.cb figcaption { font-size: .88rem; opacity: .8; margin-top: .25rem; }
.cb > input { position: absolute; opacity: 0; }
.cb > label {
  display: inline-block; border: 1px solid rgb(128 128 128 / .6); border-radius: 2rem; padding: .25rem .9rem;
  margin: .9rem .35rem .9rem 0; cursor: pointer;
}
.cb > input:checked + label { background: #1d4ed8; border-color: #1d4ed8; color: #fff; }
.cb > input:focus-visible + label { outline: 2px solid #1d4ed8; outline-offset: 2px; }
.cb > section { display: none; }
.cb.single > section { display: block; }
.cb > #cb-0:checked ~ section.v0, .cb > #cb-1:checked ~ section.v1, .cb > #cb-2:checked ~ section.v2,
.cb > #cb-3:checked ~ section.v3 { display: block; }
.cb table { border-collapse: collapse; margin: .9rem 0; font-variant-numeric: tabular-nums; border: 0; }
.cb tr { border: 0 !important; }
.cb td, .cb th { padding: .25rem .9rem .25rem 0; border: 0; text-align: left; font-weight: 400; }
.cb td.number { text-align: right; }
.cb .swatch {
  display: inline-block; width: .85em; height: .85em; margin-right: .5em; border-radius: .2em;
  box-shadow: inset 0 0 0 1px rgb(128 128 128 / .55); vertical-align: -.08em;
}
.cb .bar { display: inline-block; height: .55em; border-radius: .2em; background: #1d4ed8; }
.cb td.long { width: 12rem; }
"""


def answer_html(answer: Answer, max_side: int = 1024) -> str:
    """An answer: what was sent, what the system sees, and the same on each band alone, one by one or abreast.

    Pictures are JPEG, made smaller where their longer side is above ``max_side`` pixels. Texts are escaped.
    """
    pair = answer.whole.pair
    sent: dict[str, np.ndarray] = {}
    if pair.visible is not None:
        sent["visible, as it is read"] = to_uint8(pair.visible)
    if pair.infrared is not None:
        how = "" if answer.scaling is None else f" (scaled by {answer.scaling})"
        sent[f"infrared, as it is read{how}"] = to_uint8(pair.infrared)
    inputs = f"<h3>What was sent</h3>{_gallery(sent, max_side)}"
    views: list[tuple[str, str]] = [(_SPOKEN[answer.whole.bands], _view(answer.whole, None, max_side))]
    for bands, one in answer.alone.items():
        views.append((_SPOKEN[bands], _view(one, answer.changed(bands), max_side)))
    if answer.alone:
        views.append(("side by side", _abreast(answer, max_side)))
    if len(views) == 1:
        return f'<div class="cb single"><section>{views[0][1]}</section>{inputs}</div>'
    switches = "".join(
        f'<input type="radio" name="cb-view" id="cb-{place}"{" checked" if place == 0 else ""}>'
        f'<label for="cb-{place}">{escape(title)}</label>'
        for place, (title, _) in enumerate(views)
    )
    sections = "".join(f'<section class="v{place}">{view}</section>' for place, (_, view) in enumerate(views))
    return f'<div class="cb">{switches}{sections}{inputs}</div>'


def batch_html(batch: Batch) -> str:
    """What became of a batch."""
    told = f"<p>{counted(batch.done, 'pair')} answered.</p>"
    if batch.failed:
        lines = "".join(f"<li>{escape(why)}</li>" for _, why in batch.failed[:_MOST_FAILURES])
        told += (
            f'<p class="error">{counted(len(batch.failed), "pair")} could not be used (all: failures.csv):'
            f"</p><ul>{lines}</ul>"
        )
    return f'<div class="cb">{told}</div>'


def error_html(message: str) -> str:
    """One line that says why there is no answer."""
    return f'<div class="cb"><p class="error" role="alert">{escape(message)}</p></div>'


def _view(prediction: Prediction, change: float | None, max_side: int) -> str:
    told = f"Answered on {_SPOKEN[prediction.bands]} ({_support(prediction)})."
    if change is not None:
        told += f" {_change(prediction, change)}"
    pictures = {_CAPTIONS.get(name, name): one for name, one in pictures_of(prediction).items()}
    return f"<p>{escape(told)}</p>{_gallery(pictures, max_side)}{_legend(prediction)}"


def _support(prediction: Prediction) -> str:
    return "a fallback" if prediction.support == "fallback" else "designed for it"


def _change(prediction: Prediction, change: float) -> str:
    if prediction.labels is None:
        return f"The fused picture is {100 * change:.1f} % of the range from that of both bands (mean)."
    return f"{100 * change:.1f} % of the pixels have another class than with both bands."


def _abreast(answer: Answer, max_side: int) -> str:
    every: dict[Bands, Prediction] = {"both": answer.whole, **answer.alone}
    kind = "overlay" if answer.whole.labels is not None else "fused"
    pictures = {}
    for bands, one in every.items():
        share = changed(answer.whole, one)
        what = "of the pixels change" if kind == "overlay" else "of the range apart"
        told = "" if bands == "both" else f": {100 * share:.1f} % {what}"
        pictures[f"{_SPOKEN[bands]}{told}"] = pictures_of(one)[kind]
    return _gallery(pictures, max_side) + _shares_abreast(every)


def _shares_abreast(every: dict[Bands, Prediction]) -> str:
    """The area of each class on each combination of bands."""
    first = every["both"]
    if first.labels is None or first.classes is None:
        return ""
    shares = {bands: dict(class_shares(one.labels)) for bands, one in every.items() if one.labels is not None}
    found = [number for number, _ in class_shares(first.labels)]
    found += sorted({number for one in shares.values() for number in one} - set(found))
    header = "".join(f"<th>{escape(_SPOKEN[bands])}</th>" for bands in shares)
    rows = "".join(
        f"<tr><th>{_named(number, first.classes)}</th>"
        + "".join(f'<td class="number">{100 * one.get(number, 0.0):.1f} %</td>' for one in shares.values())
        + "</tr>"
        for number in found
    )
    return f"<table><thead><tr><th>share of the area</th>{header}</tr></thead><tbody>{rows}</tbody></table>"


def _legend(prediction: Prediction) -> str:
    """The classes that occur, with the share of the area that each has."""
    if prediction.labels is None or prediction.classes is None:
        return ""
    rows = "".join(
        f'<tr><th>{_named(number, prediction.classes)}</th><td class="number">{100 * share:.1f} %</td>'
        f'<td class="long"><span class="bar" style="width:{100 * share:.2f}%"></span></td></tr>'
        for number, share in class_shares(prediction.labels)
    )
    return f'<table aria-label="Classes and their shares of the area">{rows}</table>'


def _named(number: int, classes: Classes) -> str:
    ignored = number == IGNORE_INDEX
    name, (red, green, blue) = (
        ("ignored", IGNORE_COLOUR) if ignored else (classes.names[number], classes.palette[number])
    )
    return f'<span class="swatch" style="background:rgb({red} {green} {blue})"></span>{escape(name)}'


def _gallery(pictures: dict[str, np.ndarray], max_side: int) -> str:
    figures = "".join(
        f'<figure><img alt="{escape(title)}" src="{_jpeg(picture, max_side)}">'
        f"<figcaption>{escape(title)}</figcaption></figure>"
        for title, picture in pictures.items()
    )
    return f'<div class="grid">{figures}</div>'


def _jpeg(picture: np.ndarray, max_side: int) -> str:
    image = Image.fromarray(picture)
    image.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "jpeg", quality=_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
