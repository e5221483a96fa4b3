"""Draw docs/images/demo.jpg, the table and the pictures of the demo's report, from a folder that the demo
made.

    crossband demo --out demo
    python docs/draw_demo.py demo

Beside it stands demo.json with what the picture was made of: the demo's rows, columns and trainings,
checksums of the scenes that it shows, and one of the picture. A test draws these facts again, so that the
picture cannot stay behind when the demo shows other things, trains by other options or generates other
scenes. That a network computes something else by the same options is not seen: training again is what tells.
"""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from crossband.demo import (
    FUSIONS,
    ROWS,
    SHOWN_CONDITIONS,
    DemoSize,
    picture_rows,
    scored,
    scores_of,
    trainings,
)
from crossband.evaluation import Evaluation
from crossband.pairs.base import Pair, Pairs
from crossband.pairs.opening import open_pairs
from crossband.pictures import pair_pictures
from crossband.training.options import TrainOptions

PICTURE = Path(__file__).parent / "images" / "demo.jpg"
FACTS = PICTURE.with_suffix(".json")
SEED = 0
COLUMNS = ("visible", "infrared", *FUSIONS, "label", *(row.label for row in ROWS))
_GIVEN = 3 + len(FUSIONS)
"""Columns of what is given, and of fusions; they stand in a line of their own."""
_CELL, _GAP, _LINE = 200, 8, 20
_ACROSS = 6
_INK, _FAINT, _RULE = (27, 31, 36), (91, 101, 112), (217, 222, 228)


def facts() -> dict[str, Any]:
    """What the picture shows, as far as it can be told without training anything."""
    size = DemoSize()
    options = trainings(Path("demo"), "scenes", size, SEED)
    source = f"scenes,seed={SEED},train={size.train},val=0,test={size.test},size={size.height}x{size.width}"
    test = open_pairs(source, "test")
    assert test.classes is not None
    return {
        "rows": [asdict(row) for row in ROWS],
        "columns": list(COLUMNS),
        "trainings": {name: _given(one) for name, one in options.items()},
        "classes": list(test.classes.names),
        "scenes": {
            condition: _checksum(pair_pictures(pair, test.classes.palette))
            for condition, pair in _shown(test).items()
        },
    }


def _given(options: TrainOptions) -> dict[str, Any]:
    """The options that are not left as they are."""
    untouched = asdict(TrainOptions("", "", ""))
    return {name: value for name, value in asdict(options).items() if value != untouched[name]}


def picture_checksum() -> str:
    return hashlib.sha256(PICTURE.read_bytes()).hexdigest()


def _shown(test: Pairs) -> dict[str, Pair]:
    """The first scene of each shown condition."""
    first: dict[str, int] = {}
    for index in range(len(test)):
        first.setdefault(test.condition(index) or "", index)
    return {condition: test[first[condition]] for condition in SHOWN_CONDITIONS}


def _checksum(pictures: list[np.ndarray | None]) -> str:
    digest = hashlib.sha256()
    for picture in pictures:
        assert picture is not None
        digest.update(np.ascontiguousarray(picture).tobytes())
    return digest.hexdigest()


def draw(folder: Path) -> Image.Image:
    """The picture: the table of scores, then every shown scene with what was made of it."""
    test, predictors, evaluations = scored(folder)
    assert test.classes is not None
    rows = picture_rows(test, predictors, test.classes)
    height, width = test[0].size
    cell_height = round(_CELL * height / width)
    lines = 1 + -(-len(ROWS) // _ACROSS)
    block = _LINE + lines * (cell_height + _LINE)
    table = 12 + _LINE * (len(ROWS) + 1) + 16
    sheet = Image.new(
        "RGB", (_GAP + _ACROSS * (_CELL + _GAP), table + len(rows) * (block + _GAP)), (255, 255, 255)
    )
    pen = ImageDraw.Draw(sheet)
    _draw_table(pen, evaluations, sheet.width)
    top = table
    for condition, pictures in rows:
        pen.text((_GAP, top), condition, _INK, font=_font(15))
        for place, (title, picture) in enumerate(zip(COLUMNS, pictures, strict=True)):
            # What is given in the first line, what is made of it in the second.
            line, column = divmod(place + (_ACROSS - _GIVEN if place >= _GIVEN else 0), _ACROSS)
            left = _GAP + column * (_CELL + _GAP)
            above = top + _LINE + line * (cell_height + _LINE)
            assert picture is not None
            resized = Image.fromarray(picture).convert("RGB").resize((_CELL, cell_height))
            sheet.paste(resized, (left, above))
            pen.text((left, above + cell_height + 2), title, _FAINT, font=_font(13))
        top += block + _GAP
    return sheet


def _draw_table(pen: ImageDraw.ImageDraw, evaluations: dict[str, Evaluation], width: int) -> None:
    conditions = list(scores_of(evaluations, ROWS[0]))
    pen.text((_GAP, 10), "mean IoU, %", _FAINT, font=_font(14))
    edges = [360 + number * (width - 380) // (len(conditions) - 1) for number in range(len(conditions))]
    for edge, condition in zip(edges, conditions, strict=True):
        pen.text((edge, 10), condition, _FAINT, font=_font(14), anchor="ra")
    for number, row in enumerate(ROWS, start=1):
        top = 10 + number * _LINE
        pen.line((_GAP, top - 2, width - _GAP, top - 2), fill=_RULE)
        note = f" ({row.note})" if row.note else ""
        pen.text((_GAP, top), f"{row.label}{note}", _INK, font=_font(14))
        for edge, score in zip(edges, scores_of(evaluations, row).values(), strict=True):
            pen.text((edge, top), f"{100 * score:.1f}", _INK, font=_font(14), anchor="ra")


def _font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)


def main(folder: str) -> None:
    draw(Path(folder)).save(PICTURE, quality=88)
    document = {"facts": facts(), "picture": picture_checksum()}
    FACTS.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print(f"written: {PICTURE} and {FACTS.name}")


if __name__ == "__main__":
    main(*sys.argv[1:])
