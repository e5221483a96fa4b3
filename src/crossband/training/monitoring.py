"""The training of a run's own band monitor: which band of a broken pair is better left out.

The run answers training pairs on both bands and on either alone, some as they are and most with one band
broken by what no test holds out (`drawn_corruption`). What leaving a band out of a pair would add to the mean
IoU is known there, and the monitor learns to gain as much of it as it can from how far cheap statistics of
the two images (`pair_statistics`) are from those of whole pairs. The run's weights stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from crossband.devices import find_device
from crossband.errors import OptionError
from crossband.metrics.resampling import mean_ious
from crossband.metrics.segmentation import confusion_matrix
from crossband.pairs.augmentation import Augmentation, augment
from crossband.pairs.base import Pair, Pairs
from crossband.pairs.corruption import drawn_corruption
from crossband.pairs.image_statistics import SMALLEST, pair_statistics
from crossband.systems.base import System
from crossband.trained_monitor import Mismatch, TrainedMonitor, Usual
from crossband.training.monitor_networks import Lesson, train_networks
from crossband.training.options import TrainOptions
from crossband.words import BANDS, Bands

PICTURES = 1200
"""Pairs that the run answers for its monitor; of a longer list, each pair once as it is and once broken."""
_MOST_DRAWS = 30
_NETWORKS = 4
_SHRUNK, _LEAST = 0.3, 0.02
"""How far a correlation of few pairs is drawn towards none, and the least deviation, as a share of a mean."""
_MOST_LOST = 0.001
"""Mean IoU that leaving bands out of whole pairs may cost."""
_PAIR = "pair"
"""The group of the statistics of both images together."""
_NEARLY_ALL, _CLEARLY = 0.95, float(np.log(2))
"""Share of the whole pairs, and how much farther than these, by the logarithm of the squared distance, is no
longer usual."""
_LEVELS = 41
"""How sure a monitor must be: so many degrees are tried."""
_KINDS = {
    "levels": ("mean", "deviation", "level ", "dark", "bright"),
    "colours": ("red", "blue", "chroma", "haze"),
    "contrast": ("contrast",),
}
"""How the statistics of a band that belong together begin; all others are detail."""
_GIVEN: tuple[Bands, Bands, Bands] = ("both", "infrared", "visible")
"""All of a pair, and what is left of it without visible and without infrared, in the order of `BANDS`."""


@dataclass(frozen=True)
class Answers:
    """What the run made of N pictures of S statistics.

    names: of the statistics. statistics: (N, S). gains: (N, 2), what leaving visible or infrared out would
    add to the mean IoU if all pictures were like this one. places: (N,) of their pairs in the list.
    faults: (N,) the corruption of each, "" for a whole pair.
    """

    names: tuple[str, ...]
    statistics: np.ndarray
    gains: np.ndarray
    places: np.ndarray
    faults: np.ndarray

    @property
    def whole(self) -> np.ndarray:
        """(N,) bool: the pairs that are not broken."""
        return self.faults == ""


def check_can_be_monitored(system: System, pairs: Pairs) -> None:
    """Raise OptionError for a system or pairs that no monitor can be trained for."""
    if "both" not in system.supports or len(system.supports) < 2:
        able = ", ".join(system.supports)
        raise OptionError(
            f"band_monitor: {system.name} runs on {able} alone, so no band can be left out; leave it out"
        )
    if set(pairs.bands) != set(BANDS):
        raise OptionError(f"band_monitor: {pairs.source} has only {pairs.bands[0]} images; leave it out")
    if pairs.classes is None or not system.segments:
        raise OptionError("band_monitor: what leaving a band out costs is known by labels only; leave it out")


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
    check_can_be_monitored(system, pairs)
    assert pairs.classes is not None
    draws = min(max(pictures // len(pairs), 2), _MOST_DRAWS)
    statistics: list[list[float]] = []
    matrices: list[Tensor] = []
    faults: list[str] = []
    names: tuple[str, ...] = ()
    was_training = system.training
    system.eval().to(device)
    with torch.inference_mode():
        whole = None
        for number, (pair, fault) in enumerate(_drawn(pairs, draws, scale, seed)):
            assert pair.visible is not None
            assert pair.infrared is not None
            found = pair_statistics(pair.visible, pair.infrared)
            names = tuple(found)
            faults.append(fault)
            statistics.append(list(found.values()))
            matrices.append(_counted(system, pair, len(pairs.classes), device, whole))
            if number % draws == 0:
                whole = pair, matrices[-1]
    system.to("cpu").train(was_training)
    return Answers(
        names=names,
        statistics=np.array(statistics),
        gains=_gains(torch.stack(matrices).numpy(), [bands in system.supports for bands in _GIVEN[1:]]),
        places=np.repeat(np.arange(len(pairs)), draws),
        faults=np.array(faults),
    )


def _drawn(pairs: Pairs, draws: int, scale: tuple[float, float], seed: int) -> Iterator[tuple[Pair, str]]:
    """Every pair as it is, then broken in so many ways but one, at the size at which it is seen; by what."""
    resized = Augmentation(flip=0.0, scale=scale)
    for place in range(len(pairs)):
        rng = np.random.default_rng((seed, place))
        seen = augment(pairs[place], resized, rng)
        if min(seen.size) < SMALLEST:
            raise OptionError(
                f"band_monitor: pair {seen.name} is seen at {seen.size[0]} x {seen.size[1]} pixels, and "
                f"{SMALLEST} a side are needed; leave it out"
            )
        yield seen, ""
        for _ in range(draws - 1):
            corruption, severity = drawn_corruption(seen, rng)
            yield corruption.apply(seen, severity, rng), corruption.name


def _counted(
    system: System,
    pair: Pair,
    classes: int,
    device: str | torch.device,
    known: tuple[Pair, Tensor] | None = None,
) -> Tensor:
    """int64 (3, C, C): the confusion matrices of both bands, of infrared and of visible; 0 of what cannot be.

    known: a pair and its matrices, which are those of an image alone that is this pair's too.
    """
    assert pair.visible is not None
    assert pair.infrared is not None
    assert pair.label is not None
    visible = torch.from_numpy(np.array(pair.visible.transpose(2, 0, 1)))[None].to(device)
    infrared = torch.from_numpy(np.array(pair.infrared))[None, None].to(device)
    label = torch.from_numpy(np.array(pair.label)).long().to(device)
    counted = []
    for place, bands in enumerate(_GIVEN):
        if known is not None and bands != "both" and getattr(pair, bands) is getattr(known[0], bands):
            counted.append(known[1][place])
            continue
        if bands not in system.supports:
            counted.append(torch.zeros(classes, classes, dtype=torch.int64))
            continue
        logits = system(
            None if bands == "infrared" else visible, None if bands == "visible" else infrared
        ).logits
        assert logits is not None
        counted.append(confusion_matrix(logits.argmax(1)[0], label, classes).cpu())
    return torch.stack(counted)


def _gains(matrices: np.ndarray, able: Sequence[bool]) -> np.ndarray:
    """(N, 2): by how much the mean IoU of all pictures moves if one is answered without a band, times N.

    matrices: (N, 3, C, C). able: whether the system runs without visible, without infrared; a band that it
    cannot do without is never worth leaving out.
    """
    total = matrices[:, 0].sum(0, keepdims=True)
    both = mean_ious(total, "present")[0]
    changed = [mean_ious(total - matrices[:, 0] + matrices[:, k], "present") for k in (1, 2)]
    gains = (np.stack(changed, axis=1) - both) * len(matrices)
    return np.where(able, gains, -1.0)


def fit(answers: Answers, *, seed: int = 0) -> TrainedMonitor:
    """A monitor that gains as much mean IoU as it can by leaving bands out.

    How sure it must be is chosen on what its networks have not seen: corruptions that the others were left to
    learn from, and whole pairs of the other half of the list. So that it gains most on faults that are new to
    it, and whole pairs lose no more than a tenth of a point.
    """
    everything = np.ones(len(answers.gains), bool)
    owns, others = zip(*_folds(answers), strict=True)
    *partial, monitor = _fitted(answers, [*others, everything], seed)
    distances = np.zeros((len(answers.gains), len(monitor.usual)))
    scores = np.zeros_like(answers.gains)
    for own, network in zip(owns, partial, strict=True):
        distances[own] = _distances(answers, network.usual, own)
        scores[own] = network.scores(distances[own])
    # The last level is that at which nothing is left out.
    levels = np.quantile(scores.max(1).clip(min=0), np.linspace(0, 1, _LEVELS))
    gained = {level: _gained(scores, answers.gains, level) for level in levels}
    sure = [level for level in levels if gained[level][answers.whole].mean() >= -_MOST_LOST]
    needed = max(sure, key=lambda level: gained[level].mean())
    touched = scores.max(1) > needed
    mismatch = _mismatch(answers, monitor.usual, distances, ~touched)
    mismatched = ~touched & (mismatch.found(distances) if mismatch else False)
    facts = {
        "pictures": len(scores),
        "gained": round(float(gained[needed].mean()), 5),
        "could_gain": round(float(np.maximum(answers.gains.max(1), 0).mean()), 5),
        "gained_on_whole_pairs": round(float(gained[needed][answers.whole].mean()), 5),
        "whole_pairs_touched": round(float(touched[answers.whole].mean()), 4),
        "broken_pairs_touched": round(float(touched[~answers.whole].mean()), 4),
        "whole_pairs_mismatched": round(float(mismatched[answers.whole].mean()), 4),
        "broken_pairs_mismatched": round(float(mismatched[~answers.whole].mean()), 4),
    }
    return replace(monitor, needed=float(needed), facts=facts, mismatch=mismatch)


def _mismatch(
    answers: Answers, usual: Sequence[Usual], distances: np.ndarray, rest: np.ndarray
) -> Mismatch | None:
    """From where on bands do not match; None where that cannot be told, or no band can be left out.

    distances: (N, K), from what the others of a fold have as usual. rest: bool (N,), where the network finds
    nothing. Nearly all whole pairs are clearly nearer than what is beyond. By the whole pairs and faults that
    lie beyond nevertheless, such as small shifts, the run loses nothing to speak of.
    """
    kinds = [_kind_of(one.names[0]) for one in usual]
    gains = answers.gains[answers.whole].mean(0)
    if _PAIR not in kinds or gains.max() <= -1:
        return None
    group, place = kinds.index(_PAIR), int(gains.argmax())
    whole, worth = answers.whole, answers.gains[:, place] * rest
    farthest = np.quantile(distances[whole], _NEARLY_ALL, axis=0) + _CLEARLY

    def beyond(limit: float) -> Mismatch:
        return Mismatch(group, np.where(np.arange(len(usual)) == group, limit, farthest), BANDS[place])

    def spares(mismatch: Mismatch) -> bool:
        gained = worth * mismatch.found(distances)
        return gained[whole].mean() >= -_MOST_LOST and gained[~whole].sum() >= 0

    farther = sorted(distances[distances[:, group] > farthest[group], group])
    return next(filter(spares, map(beyond, (farthest[group], *farther))))


def _folds(answers: Answers) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(own, other): what is scored, and what its networks learn from, as bool (N,)."""
    half = answers.places % 2 == 0
    for side in (half, ~half):
        yield answers.whole & side, ~side
    for fault in sorted(set(answers.faults[~answers.whole])):
        own = answers.faults == fault
        yield own, ~own


def _kind_of(name: str) -> str:
    """The group that a statistic is of, such as "visible levels"."""
    band, _, rest = name.partition(" ")
    if band not in BANDS:
        return _PAIR
    kind = next((kind for kind, begins in _KINDS.items() if rest.startswith(begins)), "detail")
    return f"{band} {kind}"


def _usual(answers: Answers, chosen: np.ndarray) -> tuple[Usual, ...]:
    """What each group of statistics usually is, by the whole ones of the chosen pictures."""
    whole = answers.statistics[chosen & answers.whole]
    groups: dict[str, list[int]] = {}
    for place, name in enumerate(answers.names):
        groups.setdefault(_kind_of(name), []).append(place)
    found = []
    for places in groups.values():
        mean = whole[:, places].mean(0)
        deviation = whole[:, places].std(0) + _LEAST * (np.abs(mean) + 0.05)
        values = (whole[:, places] - mean) / deviation
        shrunk = (1 - _SHRUNK) * (values.T @ values) / len(values) + _SHRUNK * np.eye(len(places))
        inverse = np.linalg.inv(shrunk) / np.outer(deviation, deviation)
        found.append(Usual(tuple(answers.names[place] for place in places), mean, inverse))
    return tuple(found)


def _distances(answers: Answers, usual: Sequence[Usual], chosen: np.ndarray) -> np.ndarray:
    """(N, K): of each chosen picture, how far each group is from the usual."""
    places = {name: place for place, name in enumerate(answers.names)}
    columns = [[places[name] for name in one.names] for one in usual]
    statistics = answers.statistics[chosen]
    return np.stack(
        [one.distance(statistics[:, each]) for one, each in zip(usual, columns, strict=True)], axis=1
    )


def _gained(scores: np.ndarray, gains: np.ndarray, needed: float) -> np.ndarray:
    """(N,): the gain of each picture by what such scores leave out."""
    chosen = gains[np.arange(len(gains)), scores.argmax(1)]
    return np.where(scores.max(1) > needed, chosen, 0.0)


def _fitted(answers: Answers, choices: Sequence[np.ndarray], seed: int) -> list[TrainedMonitor]:
    """A monitor from each choice of pictures, bool (N,), for which any score is enough.

    Each is the mean of a few small networks, on pictures drawn with replacement, as one network.
    """
    usuals = [_usual(answers, chosen) for chosen in choices]
    lessons, scales = [], []
    for chosen, usual in zip(choices, usuals, strict=True):
        values, gains = _distances(answers, usual, chosen), answers.gains[chosen]
        mean, scale = values.mean(0), values.std(0) + 1e-3
        scales.append((mean, scale))
        lessons += [Lesson((values - mean) / scale, gains, [seed, number]) for number in range(_NETWORKS)]
    first, bias, last, ending = (part.detach().numpy().astype(float) for part in train_networks(lessons))
    monitors = []
    for place, (usual, (mean, scale)) in enumerate(zip(usuals, scales, strict=True)):
        own = slice(place * _NETWORKS, (place + 1) * _NETWORKS)
        # What brings the distances to mean 0 and deviation 1 goes into the first layer.
        weight = np.concatenate(list(first[own])) / scale
        layers = (
            (weight, np.concatenate(list(bias[own])) - weight @ mean),
            (np.concatenate(list(last[own]), axis=1) / _NETWORKS, ending[own].mean(0)),
        )
        monitors.append(TrainedMonitor(usual, layers, 0.0, {}))
    return monitors
