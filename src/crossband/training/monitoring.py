"""The training of a run's own band monitor: which band of a broken pair is better left out.

The run answers training pairs on both bands and on either alone, some as they are and most with one band
broken by what no test holds out (`drawn_corruption`). What leaving a band out of a pair would add to the mean
IoU is known there, and the monitor learns to gain as much of it as it can from how far cheap statistics of
the two images (`pair_statistics`) and of the answer to both (`answer_statistics`) are from those of whole
pairs (`crossband.training.monitor_fitting`). From pairs with the infrared image of another it learns when two
images do not match (`match_statistics`). The run's weights stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from crossband.answer_statistics import answer_statistics, leave_unseen_out
from crossband.devices import find_device
from crossband.errors import OptionError
from crossband.metrics.resampling import mean_ious
from crossband.metrics.segmentation import confusion_matrix
from crossband.pairs.augmentation import Augmentation, augment
from crossband.pairs.base import Pair, Pairs
from crossband.pairs.corruption import drawn_corruption
from crossband.pairs.image_statistics import SMALLEST, pair_statistics
from crossband.pairs.match_statistics import match_statistics
from crossband.systems.base import System
from crossband.training.monitor_fitting import UNMATCHED, Answers, fit
from crossband.training.options import TrainOptions
from crossband.words import BANDS, Bands

PICTURES = 1200
"""Pairs that the run answers for its monitor; of a longer list, each pair once as it is and once broken."""
_MOST_DRAWS = 30
_UNMATCHED = 6
"""To so many pictures one more is added, of a pair with the infrared image of another."""
_GIVEN: tuple[Bands, Bands, Bands] = ("both", "infrared", "visible")
"""All of a pair, and what is left of it without visible and without infrared, in the order of `BANDS`."""


def check_can_be_monitored(system: System, pairs: Pairs, scale: tuple[float, float] = (1.0, 1.0)) -> None:
    """Raise OptionError for a system or pairs that no monitor can be trained for.

    scale: by which training resizes pairs. Of their sizes that of the first is looked at.
    """
    if "both" not in system.supports or len(system.supports) < 2:
        able = ", ".join(system.supports)
        raise OptionError(
            f"band_monitor: {system.name} runs on {able} alone, so no band can be left out; leave it out"
        )
    if set(pairs.bands) != set(BANDS):
        raise OptionError(f"band_monitor: {pairs.source} has only {pairs.bands[0]} images; leave it out")
    if pairs.classes is None or not system.segments:
        raise OptionError("band_monitor: what leaving a band out costs is known by labels only; leave it out")
    if len(pairs) < 2:
        raise OptionError(
            f"band_monitor: it is tried on other pairs than it learns from, and {pairs.source}, split "
            f"{pairs.split}, has {len(pairs)}; leave it out"
        )
    first = pairs[0]
    height, width = (max(1, round(side * scale[0])) for side in first.size)
    _check_size(first.name, (height, width))


def _check_size(name: str, size: tuple[int, int]) -> None:
    """Raise OptionError for a size (height, width) at which no statistics can be taken."""
    if min(size) < SMALLEST:
        raise OptionError(
            f"band_monitor: pair {name} is seen at {size[0]} x {size[1]} pixels, and {SMALLEST} a side are "
            "needed; leave it out"
        )


def train_monitor(
    system: System, pairs: Pairs, scale: tuple[float, float], options: TrainOptions
) -> dict[str, Any]:
    """The band monitor of a trained system, as a card holds it.

    pairs: those it was trained on. scale: by which training resizes them. Raises OptionError as
    `check_can_be_monitored`.
    """
    device = find_device("cpu" if options.accelerator == "cpu" else None)
    answers = answer(system, pairs, scale=scale, seed=options.seed, device=device)
    return fit(answers, seed=options.seed).to_fields()


def answer(
    system: System,
    pairs: Pairs,
    *,
    scale: tuple[float, float] = (1.0, 1.0),
    seed: int = 0,
    device: str | torch.device = "cpu",
    pictures: int = PICTURES,
) -> Answers:
    """Run a system on whole and broken pairs, on both bands and without either.

    scale: the factor by which pairs are resized first is uniform in it. pictures: how many, about.
    """
    check_can_be_monitored(system, pairs, scale)
    assert pairs.classes is not None
    draws = min(max(pictures // len(pairs), 2), _MOST_DRAWS)
    statistics: list[dict[str, float]] = []
    matrices: list[Tensor] = []
    matching: list[dict[str, float]] = []
    faults: list[str] = []
    places: list[int] = []
    was_training = system.training
    system.eval().to(device)
    with torch.inference_mode():
        whole = None
        for place, pair, fault in _drawn(pairs, draws, scale, seed):
            seen = _Seen.of(system, pair, len(pairs.classes), device, whole if fault else None)
            places.append(place)
            faults.append(fault)
            statistics.append(seen.statistics)
            matrices.append(seen.matrices)
            matching.append(seen.matching)
            if not fault:
                whole = pair, seen
    system.to("cpu").train(was_training)
    matched = np.array(faults) != UNMATCHED
    gains = _gains(torch.stack(matrices).numpy(), matched, [bands in system.supports for bands in _GIVEN[1:]])
    return Answers(
        names=tuple(statistics[0]),
        statistics=np.array([list(one.values()) for one in statistics]),
        gains=gains,
        places=np.array(places),
        faults=np.array(faults),
        match_names=tuple(matching[0]),
        matching=np.array([list(one.values()) for one in matching]),
    )


def _drawn(
    pairs: Pairs, draws: int, scale: tuple[float, float], seed: int
) -> Iterator[tuple[int, Pair, str]]:
    """Every pair as it is, then broken in so many ways but one, then with infrared of others; its place, and
    by what. All are of the size at which they are seen.
    """
    resized = Augmentation(flip=0.0, scale=scale)
    for place in range(len(pairs)):
        rng = np.random.default_rng((seed, place))
        seen = augment(pairs[place], resized, rng)
        _check_size(seen.name, seen.size)
        yield place, seen, ""
        for _ in range(draws - 1):
            corruption, severity = drawn_corruption(seen, rng)
            yield place, corruption.apply(seen, severity, rng), corruption.name
        more = (place + 1) * draws // _UNMATCHED - place * draws // _UNMATCHED
        for _ in range(more if len(pairs) > 1 else 0):
            other = (place + int(rng.integers(1, len(pairs)))) % len(pairs)
            # The same numbers are drawn, so that it is seen at the same scale.
            infrared = augment(pairs[other], resized, np.random.default_rng((seed, place))).infrared
            # A pair of another size is of another camera.
            if infrared is not None and infrared.shape == seen.size:
                yield place, replace(seen, infrared=infrared), UNMATCHED


@dataclass(frozen=True)
class _Seen:
    """What the run makes of one pair.

    statistics: of its images and of the answer to both. matrices: int64 (3, C, C), the confusion matrices of
    both bands, of infrared and of visible; 0 of what cannot be. matching: how well the images match.
    """

    statistics: dict[str, float]
    matrices: Tensor
    matching: dict[str, float]

    @classmethod
    def of(
        cls,
        system: System,
        pair: Pair,
        classes: int,
        device: str | torch.device,
        known: tuple[Pair, _Seen] | None = None,
    ) -> _Seen:
        """known: a pair whose matrix of one band is that of this pair too where the image is the same."""
        assert pair.visible is not None
        assert pair.infrared is not None
        assert pair.label is not None
        visible = torch.from_numpy(np.array(pair.visible.transpose(2, 0, 1)))[None].to(device)
        infrared = torch.from_numpy(np.array(pair.infrared))[None, None].to(device)
        label = torch.from_numpy(np.array(pair.label)).long().to(device)
        statistics = pair_statistics(pair.visible, pair.infrared)
        counted = []
        for place, bands in enumerate(_GIVEN):
            if known is not None and bands != "both" and getattr(pair, bands) is getattr(known[0], bands):
                counted.append(known[1].matrices[place])
                continue
            if bands not in system.supports:
                counted.append(torch.zeros(classes, classes, dtype=torch.int64))
                continue
            logits = system(
                None if bands == "infrared" else visible, None if bands == "visible" else infrared
            ).logits
            assert logits is not None
            likeliest, ids = logits[0].float().softmax(dim=0).max(dim=0)
            counted.append(confusion_matrix(ids, label, classes).cpu())
            if bands == "both":
                labels, confidence = ids.to(torch.uint8).cpu().numpy(), likeliest.cpu().numpy()
                # As in the answer of a predictor, which is what the monitor will see.
                leave_unseen_out(labels, confidence, pair.valid)
                statistics |= answer_statistics(labels, confidence, classes)
        return cls(statistics, torch.stack(counted), match_statistics(pair.visible, pair.infrared))


def _gains(matrices: np.ndarray, counted: np.ndarray, able: Sequence[bool]) -> np.ndarray:
    """(N, 2): by how much the mean IoU of those counted moves if a picture is answered without a band, times
    how many they are.

    matrices: (N, 3, C, C). counted: bool (N,); each of the others is added to those by itself. able: whether
    the system runs without visible, without infrared; a band that it cannot do without is never worth leaving
    out.
    """
    rest = matrices[counted, 0].sum(0, keepdims=True) - np.where(counted[:, None, None], matrices[:, 0], 0)
    both, *changed = (mean_ious(rest + matrices[:, k], "present") for k in range(3))
    gains = (np.stack(changed, axis=1) - both[:, None]) * counted.sum()
    return np.where(able, gains, -1.0)
