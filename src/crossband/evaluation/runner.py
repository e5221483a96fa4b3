"""One pass over labelled pairs, counting what a system gets right on every combination of bands."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from itertools import chain
from typing import Literal

import torch
from torch import Tensor

from crossband.errors import BandError, OptionError, PairError
from crossband.evaluation.result import BandResult, Evaluation, Precision
from crossband.metrics.segmentation import SegmentationMetric
from crossband.pairs.base import Classes, Pairs
from crossband.pairs.loading import PairBatch, evaluation_loader
from crossband.systems.base import Bands, Batch, Support, System, select_bands

UNSPECIFIED = "unspecified"
"""The condition of a pair that has none, in a list where others have one."""

_AUTOCAST = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


def evaluate(
    system: System,
    pairs: Pairs,
    *,
    bands: Sequence[Bands],
    by: Literal["condition"] | None = "condition",
    workers: int = 0,
    batch_size: int = 1,
    device: str | torch.device = "cpu",
    precision: Precision = "float32",
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Score a system on labelled pairs, each read once and run with every combination of bands.

    Pixels of all pairs are counted into one matrix per combination and condition, at the labels' own size
    and without test-time augmentation.

    bands: the combinations to run. by: "condition" splits the counts by day, night, ... where the pairs
        tell; None does not.
    batch_size: pairs per forward pass; only pairs of one size share one.
    device: where to run; the system is brought there and back, and is in eval mode meanwhile.
    precision: that of autocast, "float32" being without.
    progress: called with (pairs done, pairs in all) after every batch.

    Raises BandError if the system or the pairs cannot serve a combination, PairError for pairs without
    labels, OptionError for a system without logits, with another number of classes or whose logits are NaN.
    """
    supports = {name: system.check_bands(name) for name in bands}
    classes = _check_request(pairs, supports, by, precision)
    metrics: dict[tuple[Bands, str], SegmentationMetric] = {}
    counts: Counter[str] = Counter()
    loader = evaluation_loader(pairs, batch_size=batch_size, workers=workers)
    with _ready(system, device), torch.inference_mode(), _autocast(device, precision):
        for batch in loader:
            label = _label(batch, pairs)
            tensors = Batch(
                visible=_moved(batch["visible"], device),
                infrared=_moved(batch["infrared"], device),
                label=label.to(device),
                valid=None,
            )
            conditions = [(by and condition) or UNSPECIFIED for condition in batch["condition"]]
            for name in supports:
                prediction = _predict(system, tensors, name, len(classes), batch["name"])
                for condition in set(conditions):
                    members = [index for index, other in enumerate(conditions) if other == condition]
                    metric = metrics.setdefault((name, condition), SegmentationMetric(len(classes)))
                    metric.update(prediction[members], tensors["label"][members])  # type: ignore[index]
            counts.update(conditions)
            if progress is not None:
                progress(counts.total(), len(pairs))
    # Conditions in the order of their names, with what has none at the end.
    order = sorted(counts, key=lambda condition: (condition == UNSPECIFIED, condition))
    split = {} if order == [UNSPECIFIED] else {condition: counts[condition] for condition in order}
    results = {}
    for name, support in supports.items():
        by_condition = {condition: metrics[name, condition].confusion for condition in order}
        total = torch.stack(list(by_condition.values())).sum(0)
        results[name] = BandResult(name, support, total, by_condition if split else {})
    return Evaluation(
        system=system.name,
        source=pairs.source,
        split=pairs.split,
        classes=classes,
        pairs=counts.total(),
        precision=precision,
        results=results,
        pairs_by_condition=split,
    )


def _check_request(pairs: Pairs, supports: dict[Bands, Support], by: str | None, precision: str) -> Classes:
    """Find before the pass what would fail in it; the classes of the pairs."""
    if not supports:
        raise OptionError("no band combination was asked for: name both, infrared or visible")
    if by not in ("condition", None):
        raise OptionError(f"scores can be split by 'condition' or not at all (None), not by {by!r}")
    if precision not in _AUTOCAST:
        raise OptionError(f"unknown precision {precision!r}: use one of {', '.join(_AUTOCAST)}")
    if not len(pairs):
        raise PairError(f"{pairs.source}, split {pairs.split}, has no pairs: check the path and the split")
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


@contextmanager
def _ready(system: System, device: str | torch.device) -> Iterator[None]:
    """The system on the device and in eval mode; afterwards every module is as it was."""
    modes = {module: module.training for module in system.modules()}
    tensor = next(chain(system.parameters(), system.buffers()), None)
    home = tensor.device if tensor is not None else device
    system.eval().to(device)
    try:
        yield
    finally:
        system.to(home)
        for module, training in modes.items():
            module.training = training


def _autocast(device: str | torch.device, precision: Precision) -> AbstractContextManager[object]:
    dtype = _AUTOCAST[precision]
    return torch.autocast(torch.device(device).type, dtype=dtype, enabled=dtype is not None)


def _label(batch: PairBatch, pairs: Pairs) -> Tensor:
    label = batch["label"]
    if label is None:
        raise PairError(
            f"pair {batch['name'][0]!r} of {pairs.source}, split {pairs.split}, has no label: add it or "
            "leave the pair out"
        )
    return label


def _moved(image: Tensor | None, device: str | torch.device) -> Tensor | None:
    return None if image is None else image.to(device)


def _predict(system: System, batch: Batch, bands: Bands, classes: int, names: Sequence[str]) -> Tensor:
    """Class ids (B, H, W) for the batch with only these bands."""
    chosen = select_bands(batch, bands)
    logits = system(chosen["visible"], chosen["infrared"]).logits
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
