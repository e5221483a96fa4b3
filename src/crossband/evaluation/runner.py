"""One pass over labelled pairs, counting what a system gets right on every combination of bands."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from crossband.band_monitor import PairMonitor, bands_left
from crossband.devices import autocast
from crossband.errors import BandError, OptionError, PairError
from crossband.evaluation.pair_counts import PairCounts
from crossband.evaluation.passing import (
    UNSPECIFIED,
    check_exported,
    check_pass,
    exported_answer,
    pairs_by_condition,
    ready,
)
from crossband.evaluation.result import BandResult, Evaluation
from crossband.metrics.segmentation import confusion_matrix
from crossband.pairs.base import Classes, Pairs
from crossband.pairs.batch import Batch
from crossband.pairs.loading import evaluation_loader
from crossband.runtime.exported import Exported
from crossband.systems.base import System
from crossband.words import BANDS, Band, Bands, Precision, Support


def evaluate(
    system: System | Exported,
    pairs: Pairs,
    *,
    bands: Sequence[Bands],
    by: Literal["condition"] | None = "condition",
    workers: int = 0,
    batch_size: int = 1,
    device: str | torch.device = "cpu",
    precision: Precision = "float32",
    monitor: PairMonitor | bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Score a system on labelled pairs, each read once and run with every combination of bands.

    Pixels are counted per pair and added up per combination and condition, at the labels' own size and
    without test-time augmentation.

    system: PyTorch's, or an exported one (`crossband.load` of a file, its ``system``), whose images are
        rounded to the levels that it takes.
    bands: the combinations to run. by: "condition" splits the counts by day, night, ... where the pairs
        tell; None does not.
    batch_size: pairs per forward pass; only pairs of one size share one.
    device: where to run; the system is brought there and back, and is in eval mode meanwhile.
    precision: that of autocast, "float32" being without.
    monitor: leave out a band of a pair that does harm, as `Predictor` does, whose monitor this may be; True
        takes one that looks for what an image shows by itself. Scores stay those of the combination that was
        asked for.
    progress: called with (pairs done, pairs in all) after every batch.

    Raises BandError if the system or the pairs cannot serve a combination, PairError for pairs without
    labels, OptionError for a system without logits, with another number of classes or whose logits are NaN.
    """
    supports = {name: system.check_bands(name) for name in bands}
    check_exported(system, precision)
    classes = _check_request(pairs, supports, by, precision)
    matrices: dict[Bands, list[np.ndarray]] = {name: [] for name in supports}
    watching = PairMonitor() if monitor is True else monitor or None
    dropped: dict[Bands, Counter[Band]] = {name: Counter() for name in supports}
    names: list[str] = []
    conditions: list[str] = []
    loader = evaluation_loader(pairs, batch_size=batch_size, workers=workers)
    with ready(system, device), torch.inference_mode(), autocast(device, precision):
        for batch in loader:
            moved = batch.to(device)
            label = _label(moved, pairs)
            for name in supports:
                if watching is None:
                    prediction = _predict(system, moved, name, len(classes), batch.names)
                else:
                    left = [_left(watching, system, moved, name, place) for place in range(len(batch.names))]
                    prediction = _predict_left(system, moved, left, len(classes))
                    dropped[name].update(band for one in left for band in BANDS if _misses(name, one, band))
                matrices[name].extend(
                    confusion_matrix(*one, len(classes)).to(torch.int32).cpu().numpy()
                    for one in zip(prediction, label, strict=True)
                )
            names.extend(batch.names)
            conditions.extend((by and condition) or UNSPECIFIED for condition in batch.conditions)
            if progress is not None:
                progress(len(names), len(pairs))
    counts = PairCounts(
        source=pairs.source,
        split=pairs.split,
        classes=classes,
        names=tuple(names),
        conditions=tuple(conditions),
        matrices={name: np.stack(each) for name, each in matrices.items()},
    )
    evaluation = evaluation_of(counts, system=system.name, supports=supports, precision=precision)
    if watching is not None:
        evaluation.dropped = {name: {band: dropped[name][band] for band in BANDS} for name in supports}
    return evaluation


def evaluation_of(
    counts: PairCounts, *, system: str, supports: Mapping[Bands, Support], precision: Precision
) -> Evaluation:
    """The scores of what was counted in every pair. system: its name. supports: how it runs on what bands."""
    split = pairs_by_condition(Counter(counts.conditions))
    results = {name: _band_result(name, support, counts, list(split)) for name, support in supports.items()}
    return Evaluation(
        system=system,
        source=counts.source,
        split=counts.split,
        classes=counts.classes,
        pairs=len(counts.names),
        precision=precision,
        results=results,
        pairs_by_condition=split,
        counts=counts,
    )


def _band_result(bands: Bands, support: Support, counts: PairCounts, conditions: Sequence[str]) -> BandResult:
    """The matrices of the pairs added up: over all, and over those of each condition."""
    matrices = counts.matrices[bands]
    by_condition = {
        condition: _added(matrices[[other == condition for other in counts.conditions]])
        for condition in conditions
    }
    return BandResult(bands, support, _added(matrices), by_condition)


def _added(matrices: np.ndarray) -> Tensor:
    return torch.from_numpy(matrices.sum(axis=0, dtype=np.int64))


def _check_request(pairs: Pairs, supports: dict[Bands, Support], by: str | None, precision: str) -> Classes:
    """Find before the pass what would fail in it; the classes of the pairs."""
    if not supports:
        raise OptionError("no band combination was asked for: name both, infrared or visible")
    check_pass(pairs, by, precision)
    if pairs.classes is None:
        raise PairError(f"{pairs.source}, split {pairs.split}, has no labels, so nothing can be scored on it")
    for name in supports:
        missing = {"visible", "infrared"} if name == "both" else {name}
        missing -= set(pairs.bands)
        if missing:
            raise BandError(
                f"{pairs.source} has no {' and no '.join(sorted(missing))} images, so nothing can be scored "
                f"on {name}: ask for {' or '.join(pairs.bands)}"
            )
    return pairs.classes


def _label(batch: Batch, pairs: Pairs) -> Tensor:
    label = batch.label
    if label is None:
        raise PairError(
            f"pair {batch.names[0]!r} of {pairs.source}, split {pairs.split}, has no label: add it or "
            "leave the pair out"
        )
    return label


def batch_device(batch: Batch) -> torch.device:
    """Where a batch lies."""
    image = batch.visible if batch.visible is not None else batch.infrared
    assert image is not None
    return image.device


def _left(monitor: PairMonitor, system: System | Exported, batch: Batch, bands: Bands, place: int) -> Bands:
    """The bands that a monitor leaves of those that one pair of a batch is given."""
    given = batch.only(bands)
    faults = monitor.faults(_image(given.visible, place), _image(given.infrared, place))
    return bands_left(bands, faults, system.supports)


def _misses(given: Bands, left: Bands, band: Band) -> bool:
    """Whether a monitor left a band out."""
    return given == "both" and left not in ("both", band)


def _predict_left(system: System | Exported, batch: Batch, left: Sequence[Bands], classes: int) -> Tensor:
    """As `_predict`, each pair with its own bands."""
    label = torch.empty((len(left), *batch.size), dtype=torch.int64, device=batch_device(batch))
    for bands in dict.fromkeys(left):
        chosen = [place for place, one in enumerate(left) if one == bands]
        names = [batch.names[place] for place in chosen]
        label[chosen] = _predict(system, batch.at(chosen), bands, classes, names)
    return label


def _image(images: Tensor | None, place: int) -> np.ndarray | None:
    """One image of a batch, float (H, W, channels)."""
    return None if images is None else images[place].permute(1, 2, 0).cpu().numpy()


def _predict(
    system: System | Exported, batch: Batch, bands: Bands, classes: int, names: Sequence[str]
) -> Tensor:
    """Class ids (B, H, W) for the batch with only these bands."""
    chosen = batch.only(bands)
    if isinstance(system, Exported):
        if system.card.classes is None or len(system.card.classes) != classes:
            raise OptionError(
                f"the exported {system.name} does not tell {classes} classes apart: evaluate on data with "
                "the classes it was trained on"
            )
        labels = exported_answer(system, chosen).labels
        assert labels is not None
        return torch.from_numpy(labels).long().to(batch_device(batch))
    logits = system(chosen.visible, chosen.infrared).logits
    if logits is None:
        raise OptionError(f"{system.name} gives no class logits (it only fuses), so nothing can be scored")
    if logits.shape[1] != classes:
        raise OptionError(
            f"{system.name} tells {logits.shape[1]} classes apart, but the labels have {classes}: evaluate "
            "on data with the classes it was trained on"
        )
    if logits.isnan().any():
        # argmax would turn NaN into a class, and the scores would not show it.
        raise OptionError(
            f"{system.name} gave NaN on {bands} for {', '.join(names)}: use precision float32; if that does "
            "not help, its training diverged"
        )
    return logits.argmax(dim=1)
