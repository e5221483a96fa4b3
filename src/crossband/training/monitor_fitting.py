"""The fitting of a run's own band monitor to what the run made of training pictures.

A monitor learns to gain as much mean IoU as it can by leaving bands out, from how far the statistics of
images and answers are from those of whole pairs. What the run made of the pictures is counted by
`crossband.training.monitoring`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crossband.match_rule import MatchRule
from crossband.trained_monitor import (
    FARTHEST,
    TrainedMonitor,
    bears_on,
    chosen,
    distances,
    image_distances,
)
from crossband.training.match_fitting import fit_match_rule
from crossband.words import BANDS

UNMATCHED = "unmatched"
"""In place of a corruption's name, of a pair with the infrared image of another one."""
_WIDTH, _SHARED, _NETWORKS = 4, 3, 4
"""Units of a network, of which the first so many are the same for both bands: what harm a fault of one does
tells of the other, of which few of the drawn faults may matter."""
_STEPS, _BATCH, _RATE, _DECAY = 200, 256, 2e-2, 1e-3
_NOISE, _HIDDEN = 0.1, 0.1
"""What is added to distances in training, and the share that is left out: a monitor must not know single
pairs by heart."""
_LEAST, _FAINT = 0.02, 0.05
"""The least deviation of a statistic: this share of its mean's size, which is taken to be so much larger."""
_MOST_LOST = 0.001
"""Mean IoU that leaving bands out of whole pairs may cost."""
_LEVELS = 41
"""How sure a monitor must be of either band: so many degrees are tried."""
_MARGINS = (0.0, 0.1, 0.25, 0.5, 1.0, FARTHEST)
"""By how much an answer must be farther off than any good one; by the last none is."""
_GOOD = 0.005
"""An answer is good where leaving a band out would add no more mean IoU than this."""


@dataclass(frozen=True)
class Answers:
    """What the run made of N pictures of S statistics.

    names: of the statistics. statistics: (N, S). gains: (N, 2), what leaving visible or infrared out would
    add to the mean IoU if all pictures were like this one. places: (N,) of their pairs in the list. faults:
    (N,) the corruption of each, "" for a whole pair, `UNMATCHED` for one that has the infrared image of
    another. matching: (N, A), of the A statistics of `match_names`; None where there are none of `UNMATCHED`.
    """

    names: tuple[str, ...]
    statistics: np.ndarray
    gains: np.ndarray
    places: np.ndarray
    faults: np.ndarray
    match_names: tuple[str, ...] = ()
    matching: np.ndarray | None = None

    @property
    def whole(self) -> np.ndarray:
        """(N,) bool: the pairs that are not broken."""
        return self.faults == ""

    def matched(self) -> Answers:
        """Those whose images are of one moment."""
        kept = self.faults != UNMATCHED
        arrays = (self.statistics, self.gains, self.places, self.faults)
        return Answers(self.names, *(each[kept] for each in arrays))


def fit(answers: Answers, *, seed: int = 0) -> TrainedMonitor:
    """A monitor that gains as much mean IoU as it can by leaving bands out.

    How sure it must be, and how far off an answer must be to be distrusted, is chosen on what its networks
    have not seen: corruptions that the others were left to learn from, and whole pairs of the other half of
    the list. From pairs that do not match only the rule for such learns (`fit_match_rule`).
    """
    matched = answers.matched()
    monitor, left_out = _fit_matched(matched, seed)
    rule, found = _match_rule(answers, monitor, left_out)
    left_out = np.where(found[answers.faults != UNMATCHED], BANDS.index("infrared"), left_out)
    gained, touched, whole = _gained(left_out, matched.gains), left_out >= 0, matched.whole
    facts = {
        "pictures": len(left_out),
        "gained": round(float(gained.mean()), 5),
        "could_gain": round(float(np.maximum(matched.gains.max(1), 0).mean()), 5),
        "gained_on_whole_pairs": round(float(gained[whole].mean()), 5),
        "whole_pairs_touched": round(float(touched[whole].mean()), 4),
        "broken_pairs_touched": round(float(touched[~whole].mean()), 4),
    }
    if rule is not None:
        unmatched = found[answers.faults == UNMATCHED]
        facts["unmatched_pairs_touched"] = round(float(unmatched.mean()), 4)
    return replace(monitor, match=rule, facts=facts)


def _fit_matched(answers: Answers, seed: int) -> tuple[TrainedMonitor, np.ndarray]:
    """A monitor without a rule and without facts, and what is left out of each picture (N,)."""
    everything = np.ones(len(answers.gains), bool)
    owns, others = zip(*_folds(answers), strict=True)
    *partial, monitor = _fitted(answers, [*others, everything], seed)
    folds = list(zip(owns, partial, strict=True))
    scores = np.zeros_like(answers.gains)
    for own, network in folds:
        scores[own] = network.scores(answers.statistics[own])
    needed = _needed(answers, scores)
    margin, distrusted = _least_margin(answers, folds)
    fitted = replace(monitor, needed=needed, farthest=monitor.farthest + margin)
    return fitted, chosen(scores, needed, distrusted)


def _match_rule(
    answers: Answers, monitor: TrainedMonitor, left_out: np.ndarray
) -> tuple[MatchRule | None, np.ndarray]:
    """The rule for pairs that do not match, and what it finds of all pictures, bool (N,).

    left_out: what the monitor leaves out of those that do match.
    """
    unmatched = answers.faults == UNMATCHED
    if answers.matching is None:
        return None, unmatched
    left = monitor.left_out(answers.statistics)
    left[~unmatched] = left_out
    far = monitor.image_distances(answers.statistics)
    return fit_match_rule(
        answers.match_names,
        answers.matching,
        unmatched,
        answers.whole,
        answers.gains[:, BANDS.index("infrared")] - _gained(left, answers.gains),
        visible_far=far[:, BANDS.index("visible")],
        asked=(far <= monitor.image_farthest)[:, BANDS.index("infrared")],
        halves=answers.places % 2 == 0,
    )


def _needed(answers: Answers, scores: np.ndarray) -> np.ndarray:
    """(2,) the scores that gain most, of those by which whole pairs lose no more than a tenth of a point.

    Each band has its own: to lose one may cost whole pairs much, and to lose the other hardly anything.
    """
    none = np.full(len(scores), -1)
    # By the last level of a band it is never left out.
    degrees = np.quantile(scores.clip(min=0), np.linspace(0, 1, _LEVELS), axis=0)
    most, needed = -np.inf, degrees[-1]
    for levels in map(np.array, itertools.product(*degrees.T)):
        gained = _gained(chosen(scores, levels, none), answers.gains)
        if gained.mean() > most and gained[answers.whole].mean() >= -_MOST_LOST:
            most, needed = gained.mean(), levels
    return needed


def _least_margin(
    answers: Answers, folds: Sequence[tuple[np.ndarray, TrainedMonitor]]
) -> tuple[float, np.ndarray]:
    """The least margin by which what is left out of pictures with distrusted answers loses no more than a
    tenth of a point, of all pictures and of whole pairs; and what that is (N,).

    Not that which gains most: faults of which nothing is known may be worse than all that are drawn.
    """
    for margin in _MARGINS:
        distrusted = np.zeros(len(answers.gains), int)
        for own, network in folds:
            wider = replace(network, farthest=network.farthest + margin)
            distrusted[own] = wider.distrusted(answers.statistics[own])
        gained = _gained(distrusted, answers.gains)
        if min(gained.mean(), gained[answers.whole].mean()) >= -_MOST_LOST:
            break
    return margin, distrusted


def _folds(answers: Answers) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(own, other): what is scored, and what its networks learn from, as bool (N,)."""
    half = answers.places % 2 == 0
    for side in (half, ~half):
        yield answers.whole & side, ~side
    for fault in sorted(set(answers.faults[~answers.whole])):
        own = answers.faults == fault
        yield own, ~own


def _gained(left_out: np.ndarray, gains: np.ndarray) -> np.ndarray:
    """(N,): the gain of each picture by what is left out of it, the place of a band or -1."""
    return np.where(left_out < 0, 0.0, gains[np.arange(len(gains)), left_out])


def _fitted(answers: Answers, choices: Sequence[np.ndarray], seed: int) -> list[TrainedMonitor]:
    """A monitor from each choice of pictures, bool (N,), for which any score is enough.

    Each is the mean of a few small networks, on pictures drawn with replacement, as one network.
    """
    signs, places = bears_on(answers.names), _counterparts(answers.names)
    # What a system cannot do without is worth -1 throughout, and is never left out.
    needed = (answers.gains <= -1).all(axis=0)
    usuals, lessons, scales = [], [], []
    for members in choices:
        whole = answers.statistics[members & answers.whole]
        mean = whole.mean(0)
        deviation = whole.std(0) + _LEAST * (np.abs(mean) + _FAINT)
        values, gains = distances(answers.statistics[members], mean, deviation), answers.gains[members]
        good = answers.whole[members] | (gains.max(axis=1) <= _GOOD)
        off = image_distances(answers.names, values[answers.whole[members]]).max(axis=0)
        usuals.append((mean, deviation, values[good].max(axis=0), np.where(needed, FARTHEST, off)))
        middle, scale = values.mean(0), values.std(0) + 1e-3
        scales.append((middle, scale))
        lessons += [_Lesson((values - middle) / scale, gains, [seed, number]) for number in range(_NETWORKS)]
    parts = [part.detach().numpy().astype(float) for part in _networks(lessons, signs, places)]
    monitors = []
    for place, (usual, (middle, scale)) in enumerate(zip(usuals, scales, strict=True)):
        mean, deviation, farthest, image_farthest = usual
        own = slice(place * _NETWORKS, (place + 1) * _NETWORKS)
        # Side by side, (M, 2, W, ...) to (2, M * W, ...), the networks are one.
        weight, bias, last = (np.concatenate(list(part[own]), axis=1) for part in parts[:3])
        # What brings the distances to mean 0 and deviation 1 goes into the first layer.
        weight = weight / scale
        monitors.append(
            TrainedMonitor(
                names=answers.names,
                mean=mean,
                deviation=deviation,
                weight=weight,
                bias=bias - weight @ middle,
                last=last / _NETWORKS,
                ending=parts[3][own].mean(0),
                needed=np.zeros(2),
                farthest=farthest,
                image_farthest=image_farthest,
                facts={},
            )
        )
    return monitors


class _Lesson:
    """What one network learns from: pictures drawn with replacement, and what each band left out is worth."""

    def __init__(self, values: np.ndarray, gains: np.ndarray, seed: Sequence[int]):
        drawing = np.random.default_rng(seed)
        chosen = drawing.integers(len(values), size=len(values))
        self.inputs = torch.from_numpy(values[chosen]).float()
        self.worth = torch.from_numpy(gains[chosen] / max(float(np.abs(gains).mean()), 1e-9)).float()
        self.random = torch.Generator().manual_seed(int(drawing.integers(2**31)))
        own = torch.Generator().manual_seed(int(drawing.integers(2**31)))
        bands, size = len(BANDS), values.shape[1]
        # Before the softplus that makes weights positive: most begin near 0.
        self.start = [
            0.5 * torch.randn(bands, _WIDTH, size, generator=own) - 1.5,
            0.5 * torch.randn(bands, _WIDTH, generator=own),
            0.3 * torch.randn(bands, _WIDTH, generator=own) - 1.5,
            torch.full((bands,), -0.5),
        ]

    def batch(self) -> tuple[Tensor, Tensor]:
        """Inputs (B, S), disturbed, and their worth (B, 2) by B; a short one is filled with worth 0."""
        size = min(_BATCH, len(self.inputs))
        members = torch.randint(len(self.inputs), (size,), generator=self.random)
        seen = self.inputs[members]
        seen = seen + _NOISE * torch.randn(seen.shape, generator=self.random)
        seen = seen * (torch.rand(seen.shape, generator=self.random) >= _HIDDEN)
        filling = (0, 0, 0, _BATCH - size)
        return F.pad(seen, filling), F.pad(self.worth[members] / size, filling)


def _counterparts(names: Sequence[str]) -> list[int]:
    """Of each statistic the place of the other band's that is the same, or its own where there is none."""
    places = {name: place for place, name in enumerate(names)}
    first, second = (f"{band} " for band in BANDS)
    swapped = [
        second + name.removeprefix(first) if name.startswith(first) else first + name.removeprefix(second)
        for name in names
    ]
    return [places.get(other, places[name]) for name, other in zip(names, swapped, strict=True)]


def _for_both(part: Tensor, places: Sequence[int] | None = None) -> Tensor:
    """(M, 2, W, ...) with the shared units of visible for infrared too, at its own statistics' places."""
    shared = part[:, 0, :_SHARED]
    shared = shared if places is None else shared[..., list(places)]
    return torch.stack([part[:, 0], torch.cat([shared, part[:, 1, _SHARED:]], dim=1)], dim=1)


def _networks(lessons: Sequence[_Lesson], signs: np.ndarray, places: Sequence[int]) -> list[Tensor]:
    """Weights (M, 2, W, S), (M, 2, W), (M, 2, W), (M, 2) of a network for each lesson, trained side by side.

    signs: (2, S), those of the weights of either score. places: `_counterparts`. The softmax over a network's
    scores and 0 is how likely it leaves out visible, infrared or none. It is trained for the expected gain.
    """
    parts = [nn.Parameter(torch.stack(each)) for each in zip(*(one.start for one in lessons), strict=True)]
    signed = torch.from_numpy(signs).float()[:, None]

    def weights() -> tuple[Tensor, Tensor, Tensor, Tensor]:
        first, bias, last, ending = parts
        positive = _for_both(F.softplus(first), places)
        return positive * signed, _for_both(bias), _for_both(F.softplus(last)), ending

    optimizer = torch.optim.AdamW(parts, lr=_RATE, weight_decay=_DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, _STEPS)
    for _ in range(_STEPS):
        seen, worth = map(torch.stack, zip(*(one.batch() for one in lessons), strict=True))
        first, bias, last, ending = weights()
        # (M, 2, W, S) as (M, 2 W, S): one product for both bands.
        hidden = torch.relu(torch.baddbmm(bias.flatten(1)[:, None], seen, first.flatten(1, 2).mT))
        scores = (hidden.unflatten(2, bias.shape[1:]) * last[:, None]).sum(3) + ending[:, None]
        likely = torch.softmax(F.pad(scores, (1, 0)), dim=2)
        # Summed, so that no network's step depends on how many there are.
        loss = -(likely[..., 1:] * worth).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return list(weights())
