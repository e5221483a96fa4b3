"""One pass over labelled pairs, counting what a system gets right on every combination of bands."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from crossband.answer_statistics import leave_unseen_out
from crossband.band_monitor import PairMonitor, bands_left, faults_of
from crossband.devices import autocast
from crossband.errors import BandError, OptionError, PairError
from crossband.evaluation.pair_counts import PairCounts
from crossband.evaluation.passing import (
    check_exported,
    check_pass,
    condition_name,
    exported_answer,
    pairs_by_condition,
    ready,
    variant_told,
)
from crossband.evaluation.result import BandResult, Evaluation
from crossband.metrics.segmentation import confusion_matrix
from crossband.pairs.base import Classes, Pairs
from crossband.pairs.batch import Batch
from crossband.pairs.loading import evaluation_loader
from crossband.runtime.answer import Answer
from crossband.runtime.exported import Exported, precision_of
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

    The provenance of what comes back names the system's variant, where it has one: tables and pages tell it.

    Raises BandError if the system or the pairs cannot serve a combination, PairError for pairs without
    labels, OptionError for a system without logits, with another number of classes or whose logits are NaN,
    for a device that is not there, and for what is no system or no list of combinations.
    """
    # By what it can do: one that `torch.compile` wraps is no System, and runs all the same.
    if not hasattr(system, "check_bands"):
        raise OptionError(
            f"system is a {type(system).__name__}: give a system, such as `crossband.load(run).system`"
        )
    if isinstance(bands, str):
        raise OptionError(f"bands are combinations in a list, such as [{bands!r}], not {bands!r} alone")
    supports = {name: system.check_bands(name) for name in bands}
    classes = _check_request(pairs, supports, by, precision)
    check_exported(system, precision, pairs)
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
                    prediction = _ids(system, moved, name, len(classes))
                else:
                    prediction, left = _watched(watching, system, moved, name, len(classes))
                    dropped[name].update(band for one in left for band in BANDS if _misses(name, one, band))
                matrices[name].extend(
                    confusion_matrix(*one, len(classes)).to(torch.int32).cpu().numpy()
                    for one in zip(prediction, label, strict=True)
                )
            names.extend(batch.names)
            conditions.extend(condition_name(condition if by else None) for condition in batch.conditions)
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
    told = precision_of(system, precision)
    evaluation = evaluation_of(counts, system=system.name, supports=supports, precision=told)
    evaluation.provenance = variant_told(system)
    if watching is not None:
        evaluation.dropped = {name: {band: dropped[name][band] for band in BANDS} for name in supports}
    return evaluation


def evaluation_of(
    counts: PairCounts, *, system: str, supports: Mapping[Bands, Support], precision: str
) -> Evaluation:
    """The scores of what was counted in every pair. system: its name. supports: how it runs on what bands.
    precision: that of the answers (`precision_of`)."""
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


def _watched(
    monitor: PairMonitor, system: System | Exported, batch: Batch, bands: Bands, classes: int
) -> tuple[Tensor, list[Bands]]:
    """Class ids (B, H, W) without the bands that a monitor leaves out, and what it leaves of each pair."""
    given = batch.only(bands)
    images = [
        (_image(given.visible, place), _image(given.infrared, place)) for place in range(len(batch.names))
    ]
    faults = [faults_of(*one) for one in images]
    left = [bands_left(bands, found, system.supports) for found in faults]
    ids, confidence = _predict_left(system, batch, left, classes)
    asked = monitor.trained is not None and bands == "both"
    judged = [place for place, found in enumerate(faults) if asked and not found]
    for place in judged:
        labels, sure = ids[place].to(torch.uint8).cpu().numpy(), confidence[place].cpu().numpy()
        # As in the answer of a predictor, which is what the monitor sees elsewhere.
        leave_unseen_out(labels, sure, None if batch.valid is None else batch.valid[place].cpu().numpy())
        found = monitor.in_answer(*images[place], labels, sure)
        left[place] = bands_left(bands, found, system.supports)
        if left[place] != bands:
            ids[place] = _predict(system, batch.at([place]), left[place], classes)[0][0]
    return ids, left


def _misses(given: Bands, left: Bands, band: Band) -> bool:
    """Whether a monitor left a band out."""
    return given == "both" and left not in ("both", band)


def _predict_left(
    system: System | Exported, batch: Batch, left: Sequence[Bands], classes: int
) -> tuple[Tensor, Tensor]:
    """As `_predict`, each pair with its own bands."""
    size, device = (len(left), *batch.size), batch_device(batch)
    label = torch.empty(size, dtype=torch.int64, device=device)
    confidence = torch.empty(size, device=device)
    for bands in dict.fromkeys(left):
        chosen = [place for place, one in enumerate(left) if one == bands]
        label[chosen], confidence[chosen] = _predict(system, batch.at(chosen), bands, classes)
    return label, confidence


def _image(images: Tensor | None, place: int) -> np.ndarray | None:
    """One image of a batch, float (H, W, channels)."""
    return None if images is None else images[place].permute(1, 2, 0).cpu().numpy()


def _predict(system: System | Exported, batch: Batch, bands: Bands, classes: int) -> tuple[Tensor, Tensor]:
    """Class ids and their probabilities, (B, H, W) each, for the batch with only these bands."""
    if isinstance(system, Exported):
        answer = _exported(system, batch.only(bands), classes)
        assert answer.labels is not None
        assert answer.confidence is not None
        device = batch_device(batch)
        ids, confidence = torch.from_numpy(answer.labels), torch.from_numpy(answer.confidence)
        return ids.long().to(device), confidence.to(device)
    likeliest, ids = _logits(system, batch, bands, classes).float().softmax(dim=1).max(dim=1)
    return ids, likeliest


def _ids(system: System | Exported, batch: Batch, bands: Bands, classes: int) -> Tensor:
    """Class ids (B, H, W) for the batch with only these bands."""
    if isinstance(system, Exported):
        labels = _exported(system, batch.only(bands), classes).labels
        assert labels is not None
        return torch.from_numpy(labels).long().to(batch_device(batch))
    return _logits(system, batch, bands, classes).argmax(dim=1)


def _exported(system: Exported, batch: Batch, classes: int) -> Answer:
    if system.card.classes is None or len(system.card.classes) != classes:
        raise OptionError(
            f"the exported {system.name} does not tell {classes} classes apart: evaluate on data with "
            "the classes it was trained on"
        )
    return exported_answer(system, batch)


def _logits(system: System, batch: Batch, bands: Bands, classes: int) -> Tensor:
    """(B, C, H, W), none NaN."""
    chosen = batch.only(bands)
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
            f"{system.name} gave NaN on {bands} for {', '.join(batch.names)}: use precision float32; if that "
            "does not help, its training diverged"
        )
    return logits
