"""What a service answers of one pair, as arrays and as what JSON can hold."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from crossband.pairs.writing import png_bytes
from crossband.pictures import class_shares, to_uint8
from crossband.prediction import Prediction
from crossband.words import IGNORE_INDEX, Bands


@dataclass(frozen=True)
class Answer:
    """whole: on all images that were sent. alone: on one band of both. scaling: how infrared was read."""

    whole: Prediction
    alone: Mapping[Bands, Prediction]
    scaling: str | None

    def changed(self, bands: Bands) -> float:
        """How much another answer it is on one band: see `changed`."""
        return changed(self.whole, self.alone[bands])

    def as_json(self) -> dict[str, Any]:
        """Everything, pictures as PNG in base64."""
        return {
            **_told(self.whole),
            "size": list(self.whole.pair.size),
            "infrared_scaling": self.scaling,
            "pictures": _encoded(self.whole),
            "alone": {
                bands: {**_told(one), "changed": self.changed(bands), "pictures": _encoded(one)}
                for bands, one in self.alone.items()
            },
        }


def changed(first: Prediction, second: Prediction) -> float:
    """The share of pixels that have another class, of those that have one in either; in [0, 1].

    Of systems that only fuse, the mean difference of the fused pictures as a share of the whole range.
    """
    if first.labels is not None and second.labels is not None:
        seen = (first.labels != IGNORE_INDEX) | (second.labels != IGNORE_INDEX)
        return float((first.labels != second.labels).sum() / max(int(seen.sum()), 1))
    assert first.fused is not None
    assert second.fused is not None
    return float(np.abs(first.fused.astype(np.int16) - second.fused).mean() / 255)


def pictures_of(prediction: Prediction) -> dict[str, np.ndarray]:
    """What there is to look at, uint8 (H, W) or (H, W, 3): overlay, fused and confidence, if there are any.

    Reliability of bands comes as "reliability-BAND".
    """
    pictures: dict[str, np.ndarray] = {}
    if prediction.labels is not None:
        pictures["overlay"] = np.asarray(prediction.overlay())
    if prediction.fused is not None:
        pictures["fused"] = prediction.fused
    if prediction.confidence is not None:
        pictures["confidence"] = to_uint8(prediction.confidence)
    for band, weight in prediction.reliability.items():
        pictures[f"reliability-{band}"] = to_uint8(weight)
    return pictures


def _told(prediction: Prediction) -> dict[str, Any]:
    told: dict[str, Any] = {"bands": prediction.bands, "support": prediction.support, "shares": None}
    if prediction.labels is not None and prediction.classes is not None:
        names = prediction.classes.names
        told["shares"] = [
            {"id": number, "name": "ignored" if number == IGNORE_INDEX else names[number], "share": share}
            for number, share in class_shares(prediction.labels)
        ]
    return told


def _encoded(prediction: Prediction) -> dict[str, str]:
    pictures = pictures_of(prediction)
    if prediction.labels is not None:
        # The ids themselves.
        pictures["label"] = prediction.labels
    return {name: base64.b64encode(png_bytes(one)).decode("ascii") for name, one in pictures.items()}
