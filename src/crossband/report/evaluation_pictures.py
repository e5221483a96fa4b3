"""The pictures of an evaluation: chosen pairs with both bands, label, prediction and error map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from crossband.evaluation.choosing import ChosenPair
from crossband.pairs.base import IGNORE_COLOUR, Classes, Pair
from crossband.pictures import RIGHT_COLOUR, WRONG_COLOUR, colour_labels, error_map, pair_pictures
from crossband.report.page import Page
from crossband.text import counted, percent
from crossband.words import Bands

_HEADINGS = {
    "worst": "Worst",
    "typical": "Typical: around the median",
    "best": "Best",
}
_MAX_SIDE = 360


@dataclass(frozen=True)
class ShownPair:
    """A chosen pair as it was read, with what the system saw in it: labels uint8 (H, W) by bands given."""

    chosen: ChosenPair
    pair: Pair
    labels: Mapping[Bands, np.ndarray]


def add_pictures(page: Page, shown: Sequence[ShownPair], classes: Classes) -> None:
    """Add the chosen pairs to a page, by kind: the bands and the label, then prediction and errors per bands.

    shown: every pair with a label and with predictions on the same combinations of bands.
    """
    bands = list(shown[0].labels)
    page.heading("Pairs")
    page.paragraph(
        f"Chosen by the mean IoU that each pair has by itself, given {bands[0]}: "
        f"{counted(len(shown), 'pair')}. A class that is a few pixels in a pair weighs there as much as the "
        "road does, so that a low figure may be one small thing that was missed."
    )
    page.legend(classes)
    page.legend(Classes(("right", "wrong", "no label"), (RIGHT_COLOUR, WRONG_COLOUR, IGNORE_COLOUR)))
    columns = ["visible", "infrared", "label"]
    for one in bands:
        columns += [f"given {one}", f"errors given {one}"]
    for kind, heading in _HEADINGS.items():
        rows = [
            (_title(one.chosen), _pictures(one, bands, classes)) for one in shown if one.chosen.kind == kind
        ]
        if rows:
            page.heading(heading, 3)
            # What is given above what is made of it, where all would not fit beside each other.
            page.image_grid(columns, rows, max_side=_MAX_SIDE, level=4, groups=[3] if len(bands) > 1 else [])


def _title(chosen: ChosenPair) -> str:
    condition = f" ({chosen.condition})" if chosen.condition else ""
    return f"{chosen.name}{condition}: {percent(chosen.mean_iou)} %"


def _pictures(shown: ShownPair, bands: Sequence[Bands], classes: Classes) -> list[np.ndarray | None]:
    truth = shown.pair.label
    assert truth is not None
    pictures = pair_pictures(shown.pair, classes.palette)
    for one in bands:
        labels = shown.labels[one]
        pictures += [colour_labels(labels, classes.palette), error_map(labels, truth)]
    return pictures
