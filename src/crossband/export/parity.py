"""Whether an exported graph gives the answer that PyTorch gives, in several sizes and batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from crossband.errors import OptionError, PairError
from crossband.export.deployable import LOGITS, Deployable
from crossband.metrics.segmentation import confusion_matrix, protocol_scores
from crossband.pairs.base import Classes, Pair, Pairs, WithoutLabels
from crossband.pairs.infrared_scaling import InfraredScaling
from crossband.runtime.levels import infrared_levels, visible_levels
from crossband.runtime.sessions import Arrays, Session
from crossband.words import Band, ExportPrecision, LevelType

LABELS_AGREE: dict[ExportPrecision, float] = {"fp32": 0.9999, "fp16": 0.995, "bf16": 0.98, "int8": 0.9}
"""The least share of pixels whose label is PyTorch's, by precision; what agrees on fewer is not written."""
LOGITS_WITHIN = 1e-4
"""The most that float32 logits may differ, as a share of the largest of them."""
LARGEST = 480, 640
"""Height and width that pairs are cut to for the check: larger ones take longer and show nothing more."""
BATCHES = 1, 3


def check_asked(least: float | None, **counts: int) -> None:
    """Raise OptionError for a share of labels that is none, or fewer pairs than one, by the option's name."""
    if least is not None and not 0 <= least <= 1:
        raise OptionError(f"--least_agreement is a share from 0 to 1, such as 0.99, not {least:g}")
    for name, count in counts.items():
        if count < 1:
            raise OptionError(f"--{name} must be at least 1, not {count}")


@dataclass
class Parity:
    """What a check found.

    pixels: how many were compared. agree: the share of them whose label is PyTorch's; None without labels.
    logits, confidence, reliability: the largest difference, logits as a share of the largest of them.
    fused: the share of fused values within one level of 255.
    mean_iou: (PyTorch's, the graph's) under protocol present, where it was asked for and pairs have labels.
    """

    runtime: str
    device: str
    precision: ExportPrecision
    data: str
    pixels: int = 0
    agree: float | None = None
    logits: float | None = None
    confidence: float | None = None
    reliability: float | None = None
    fused: float | None = None
    mean_iou: tuple[float, float] | None = None

    def text(self) -> str:
        """In one line."""
        parts = []
        if self.agree is not None:
            parts.append(f"labels agree on {100 * self.agree:.4f} % of {self.pixels:,} pixels")
        if self.logits is not None:
            parts.append(f"logits within {self.logits:.1e}")
        if self.confidence is not None:
            parts.append(f"confidence within {self.confidence:.1e}")
        if self.fused is not None:
            parts.append(f"fused within one level on {100 * self.fused:.4f} %")
        if self.reliability is not None:
            parts.append(f"reliability within {self.reliability:.1e}")
        if self.mean_iou is not None:
            ours, theirs = (100 * value for value in self.mean_iou)
            parts.append(f"mIoU {theirs:.2f} where PyTorch has {ours:.2f}: {ours - theirs:+z.2f} lost")
        return f"{self.runtime} on {self.device}, {self.precision}: {', '.join(parts)}"

    def failure(self, least: float | None = None) -> str | None:
        """What is beyond tolerance; None where nothing is. least: of labels that agree, as a share."""
        wanted = LABELS_AGREE[self.precision] if least is None else least
        if self.agree is not None and self.agree < wanted:
            return f"labels agree on {100 * self.agree:.4f} % of pixels, less than {100 * wanted:g} %"
        if self.precision != "fp32":
            return None
        if self.logits is not None and not self.logits <= LOGITS_WITHIN:
            return f"logits differ by {self.logits:.1e} of the largest, more than {LOGITS_WITHIN:g}"
        if self.fused is not None and self.fused < wanted:
            return (
                f"fused values agree to one level on {100 * self.fused:.4f} %, less than {100 * wanted:g} %"
            )
        if self.reliability is not None and not self.reliability <= 10 * LOGITS_WITHIN:
            return f"reliability differs by {self.reliability:.1e}, more than {10 * LOGITS_WITHIN:g}"
        return None


def levels_of(
    pair: Pair, types: Mapping[Band, LevelType], scaling: InfraredScaling, size: tuple[int, int] | None = None
) -> Arrays:
    """One pair as a graph takes it, cut to (height, width) from its middle: arrays with a batch of 1."""
    arrays: Arrays = {}
    for band, type in types.items():
        image = getattr(pair, band)
        if image is None:
            raise OptionError(f"pair {pair.name!r} has no {band} image, which the graph takes")
        levels = visible_levels(image, type) if band == "visible" else infrared_levels(image, scaling, type)
        if size is not None:
            top, left = ((have - want) // 2 for have, want in zip(levels.shape, size, strict=False))
            levels = levels[top : top + size[0], left : left + size[1]]
        arrays[band] = np.ascontiguousarray(levels)[None]
    return arrays


def check_sizes(pairs: Sequence[Pair]) -> list[tuple[int, int]]:
    """Three sizes within the smallest pair: as it is, one of odd sides, and about half of it."""
    height = min(LARGEST[0], *(pair.size[0] for pair in pairs))
    width = min(LARGEST[1], *(pair.size[1] for pair in pairs))
    odd = max(1, height * 3 // 4) | 1, max(1, width * 3 // 4) | 1
    return [(height, width), (min(odd[0], height), min(odd[1], width)), (-(-height // 2), -(-width // 2))]


def check_batches(
    pairs: Sequence[Pair], types: Mapping[Band, LevelType], scaling: InfraredScaling
) -> Iterator[Arrays]:
    """The pairs in three sizes, each in batches of one and of three; fewer pairs come again."""
    for size in check_sizes(pairs):
        singles = [levels_of(pair, types, scaling, size) for pair in pairs]
        for count in BATCHES:
            chosen = [singles[number % len(singles)] for number in range(count)]
            yield {band: np.concatenate([single[band] for single in chosen]) for band in types}


def reference(deployable: Deployable, arrays: Arrays) -> Arrays:
    """What PyTorch gives for what a graph is given."""
    with torch.inference_mode():
        made = deployable(**{band: torch.from_numpy(levels) for band, levels in arrays.items()})
    return {name: tensor.numpy() for name, tensor in made.items()}


def compare(
    session: Session, deployable: Deployable, pairs: Sequence[Pair], data: str, *, count_iou: int = 0
) -> Parity:
    """Hold a graph against PyTorch on some pairs. count_iou: of how many classes, to tell what mean IoU is
    lost on the pairs' labels."""
    found = Parity(session.runtime, session.device, session.precision, data)
    agreeing = near = fused_values = 0
    batches = list(check_batches(pairs[: max(BATCHES)], deployable.types, deployable.scaling))
    for arrays in batches:
        ours, theirs = reference(deployable, arrays), session.run(arrays)
        _check_shapes(session, ours, theirs)
        if "labels" in ours:
            agreeing += int((ours["labels"] == theirs["labels"]).sum())
            found.pixels += ours["labels"].size
            found.confidence = _worst(found.confidence, ours["confidence"], theirs["confidence"])
        if LOGITS in ours and LOGITS in theirs:
            found.logits = _worst(found.logits, ours[LOGITS], theirs[LOGITS], np.abs(ours[LOGITS]).max())
        if "fused" in ours:
            near += int((np.abs(ours["fused"].astype(int) - theirs["fused"]) <= 1).sum())
            fused_values += ours["fused"].size
        for name in ours:
            if name.startswith("reliability"):
                found.reliability = _worst(found.reliability, ours[name], theirs[name])
    if found.pixels:
        found.agree = agreeing / found.pixels
    if fused_values:
        found.fused = near / fused_values
    labelled = [pair for pair in pairs if pair.label is not None]
    if count_iou and labelled:
        found.mean_iou = _mean_ious(session, deployable, labelled, count_iou)
    return found


def _check_shapes(session: Session, ours: Arrays, theirs: Arrays) -> None:
    """Raise OptionError for a graph whose answer has another size, which a faulty runtime may give."""
    for name, array in theirs.items():
        if array.shape != ours[name].shape:
            raise OptionError(
                f"{session.runtime} gives {name} of {array.shape} where PyTorch gives {ours[name].shape}: "
                "the runtime does not compute this graph, and nothing is written"
            )


def _mean_ious(
    session: Session, deployable: Deployable, pairs: Sequence[Pair], classes: int
) -> tuple[float, float]:
    totals = [torch.zeros(classes, classes, dtype=torch.int64) for _ in range(2)]
    for pair in pairs:
        assert pair.label is not None
        arrays = levels_of(pair, deployable.types, deployable.scaling)
        truth = torch.from_numpy(pair.label)
        for total, made in zip(totals, (reference(deployable, arrays), session.run(arrays)), strict=True):
            total += confusion_matrix(torch.from_numpy(made["labels"][0]), truth, classes)
    ours, theirs = (protocol_scores(total, "present").mean_iou for total in totals)
    return ours, theirs


def _worst(before: float | None, ours: np.ndarray, theirs: np.ndarray, unit: float = 1.0) -> float:
    """The largest difference so far. NaN stays NaN, which no tolerance takes."""
    difference = float(np.abs(ours - theirs).max()) / max(float(unit), 1e-12)
    return difference if before is None or not difference <= before else before


def pairs_to_check(pairs: Pairs, most: int, classes: Classes | None) -> list[Pair]:
    """Some pairs, spread evenly over a list; without labels where those are of another number of classes.

    Raises PairError for a list of none.
    """
    if not len(pairs):
        raise PairError(f"{pairs.source}, split {pairs.split}, has no pairs: check the path and the split")
    if classes is None or pairs.classes is None or len(classes) != len(pairs.classes):
        pairs = WithoutLabels(pairs)
    count = min(most, len(pairs))
    return [pairs[len(pairs) * number // count] for number in range(count)]
