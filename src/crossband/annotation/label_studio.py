"""Label Studio: tasks with brush masks as predictions, and a labelling interface that shows both bands.

Formats: https://labelstud.io/tags/brushlabels and https://labelstud.io/guide/predictions.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from crossband.annotation.brush import decode_brush, encode_brush
from crossband.annotation.files import shown_bands
from crossband.annotation.labels import ToolLabel
from crossband.annotation.record import Item, Record
from crossband.errors import PairError, quoted
from crossband.pairs.base import Pair
from crossband.pairs.writing import write_image, write_text
from crossband.words import IGNORE_INDEX

_CONTROL, _IMAGE = "label", "drawn"
_OTHER_REGIONS = tuple(
    f"{shape}{labelled}"
    for shape in ("brush", "polygon", "rectangle", "ellipse", "keypoint", "bitmask", "vector")
    for labelled in ("", "labels")
    if shape + labelled != "brushlabels"
)
"""Types of regions that say where something is, too, and hold no mask that is read."""


def write_label_studio(folder: Path, pairs: Iterable[tuple[Item, Pair]], labels: Sequence[ToolLabel]) -> None:
    """Write ``images/``, ``tasks.json`` and ``labelling.xml``."""
    tasks = []
    both = False
    for item, pair in pairs:
        assert pair.label is not None
        places = {}
        for band, picture in shown_bands(pair).items():
            write_image(folder / "images" / f"{item.file}_{band}.png", picture)
            places[band] = f"/data/local-files/?d={quote(folder.name)}/images/{item.file}_{band}.png"
        both |= len(places) == 2
        drawn = next(iter(places.values()))
        other = places.get("infrared", drawn)
        regions = [_region(item, pair.label, label) for label in labels if (pair.label == label.id).any()]
        tasks.append(
            {
                "data": {_IMAGE: drawn, "other": other, "file": item.file, "pair": item.pair},
                "predictions": [{"model_version": "crossband", "result": regions}],
            }
        )
    write_text(folder / "tasks.json", json.dumps(tasks, ensure_ascii=False) + "\n")
    write_text(folder / "labelling.xml", _interface(labels, both))


def read_label_studio(path: Path, record: Record) -> Iterator[tuple[Item, np.ndarray]]:
    """The masks of an export as JSON: items, and ids uint8 (H, W), of tasks that somebody annotated.

    A later region covers an earlier one; of several annotations of a task, the last counts. What nobody
    painted becomes ``IGNORE_INDEX``. Raises PairError for a file that is no such export, or a label that was
    not given to Label Studio.
    """
    try:
        tasks = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise PairError(f"{path}: is no JSON that can be read; export from Label Studio as JSON") from error
    items = {item.file: item for item in record.items}
    ids = {label.name: label.id for label in record.labels}
    if not isinstance(tasks, list):
        raise PairError(f"{path}: is no list of tasks; export from Label Studio as JSON")
    for task in tasks:
        try:
            item = items.get(task["data"]["file"])
            made = [one for one in task.get("annotations", []) if not one.get("was_cancelled")]
            if item is not None and made:
                yield item, _painted(path, item, made[-1]["result"], ids)
        except (KeyError, TypeError, AttributeError, IndexError) as error:
            raise PairError(
                f"{path}: a task is not as in Label Studio's JSON ({type(error).__name__}: {error}); export "
                'as "JSON", not "JSON-MIN"'
            ) from error


def _region(item: Item, label: np.ndarray, one: ToolLabel) -> dict[str, Any]:
    return {
        "id": f"{item.file}-{one.id}",
        "type": "brushlabels",
        "from_name": _CONTROL,
        "to_name": _IMAGE,
        "original_width": item.width,
        "original_height": item.height,
        "image_rotation": 0,
        "value": {"format": "rle", "rle": encode_brush(label == one.id), "brushlabels": [one.name]},
    }


def _painted(
    path: Path, item: Item, result: Sequence[Mapping[str, Any]], ids: Mapping[str, int]
) -> np.ndarray:
    labels = np.full((item.height, item.width), IGNORE_INDEX, np.uint8)
    for region in result:
        kind = region.get("type")
        if kind in _OTHER_REGIONS:
            raise PairError(
                f"{path}: pair {quoted(item.pair)}: a region of the type {quoted(kind)}, which is no mask of "
                "a class; paint it with a labelled brush, or remove it"
            )
        if kind != "brushlabels":
            continue
        names = region["value"].get("brushlabels") or [None]
        if (name := names[0]) is None:
            raise PairError(f"{path}: pair {quoted(item.pair)}: a region has no label; give it one")
        if name not in ids:
            raise PairError(
                f"{path}: the label {quoted(name)} is no class of these pairs; rename it to one of "
                f"{', '.join(ids)}"
            )
        try:
            mask = decode_brush(region["value"]["rle"], item.height, item.width)
        except PairError as error:
            raise PairError(f"{path}: pair {quoted(item.pair)}: {error}") from error
        labels[mask] = ids[name]
    return labels


def _interface(labels: Sequence[ToolLabel], both: bool) -> str:
    choices = "\n".join(
        f'    <Label value="{escape(label.name)}" background="{label.hex}"/>' for label in labels
    )
    other = '    <Image name="beside" value="$other" zoom="true"/>\n' if both else ""
    return (
        "<View>\n"
        f'  <BrushLabels name="{_CONTROL}" toName="{_IMAGE}">\n{choices}\n  </BrushLabels>\n'
        '  <View style="display: flex; gap: 1em">\n'
        f'    <Image name="{_IMAGE}" value="${_IMAGE}" zoom="true"/>\n{other}'
        "  </View>\n</View>\n"
    )
