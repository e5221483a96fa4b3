"""What a system loses when a camera breaks, and whether a broken band is worse than none.

Every condition is one more pass over the pairs (`crossband.evaluation.evaluate`), under one of the
corruptions, band states and random losses of `crossband.pairs.corruption`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import comb
from typing import Any, Literal

import numpy as np

from crossband.band_monitor import PairMonitor
from crossband.errors import OptionError
from crossband.evaluation.passing import check_pass, variant_told, widest
from crossband.evaluation.runner import evaluate
from crossband.metrics.protocols import DEFAULT_PROTOCOL, find_protocol
from crossband.pairs.base import Pairs
from crossband.pairs.corruption import (
    BAND_STATES,
    CORRUPTIONS,
    SEVERITIES,
    InState,
    NamedCorruption,
    Noisy,
    RandomlyMissing,
    find_corruption,
)
from crossband.runtime.exported import Exported
from crossband.systems.base import System
from crossband.words import BANDS, Band, Bands

Kind = Literal["visible", "infrared", "pair", "state", "random-missing", "noise"]
MISSING_SHARES = (0.25, 0.5, 0.75)
NOISE_DEVIATIONS = (0.1, 0.2, 0.4)
FAILURE_PROBABILITIES = (0.2, 0.1, 0.05)
CLEAN = "clean"


@dataclass(frozen=True)
class Condition:
    """One way in which the pairs are shown: a corruption at a severity, a band state, or a random loss.

    name: of the corruption or the state. level: the severity, the share of missing pixels or the deviation of
    the noise; None where there is none.
    """

    kind: Kind
    name: str
    level: float | None = None

    @property
    def key(self) -> str:
        """One text for it: ``fog/3``, ``black visible``."""
        return self.name if self.level is None else f"{self.name}/{self.level:g}"


@dataclass
class Robustness:
    """The mean IoU of one system under every condition, in [0, 1]; NaN where no class was averaged.

    bands: what it was given under corruptions. monitor: whether a band monitor dropped what looked broken.
    alone: its mean IoU on the other combinations that it takes, clean. scores: by `Condition.key`.
    dropped: by the same key, and "clean", of how many pairs the monitor left each band out; those of "clean"
    are false alarms.
    """

    system: str
    source: str
    split: str
    pairs: int
    protocol: str
    seed: int
    bands: Bands
    clean: float = float("nan")
    alone: dict[Bands, float] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    monitor: bool = False
    dropped: dict[str, dict[Band, int]] = field(default_factory=dict)

    def by_corruption(self, kind: Kind | None = None) -> dict[str, dict[int, float]]:
        """By corruption, then severity, what was scored; of one kind, or of all."""
        found: dict[str, dict[int, float]] = {}
        for name, corruption in CORRUPTIONS.items():
            if kind is not None and corruption.kind != kind:
                continue
            scored = {
                severity: self.scores[key]
                for severity in SEVERITIES
                for key in (Condition(corruption.kind, name, severity).key,)
                if key in self.scores
            }
            if scored:
                found[name] = scored
        return found

    def without(self, name: str) -> float:
        """The mean IoU on the clean band that a corruption or state leaves whole: what must not be undercut.

        Visible where infrared is moved or late, as labels are of the visible image. The better of the two
        where both are touched. NaN where the system cannot run without the broken band.
        """
        kind = CORRUPTIONS[name].kind if name in CORRUPTIONS else name.rpartition(" ")[2]
        if kind in (*BANDS, "pair"):
            return self.alone.get("infrared" if kind == "visible" else "visible", float("nan"))
        known = [value for value in self.alone.values() if np.isfinite(value)]
        return max(known, default=float("nan"))

    def margin(self, key: str) -> float:
        """A score minus that without the band that is broken; NaN for random losses and noise."""
        name = key.partition("/")[0]
        broken = name in CORRUPTIONS or name in BAND_STATES
        return self.scores[key] - self.without(name) if broken else float("nan")

    def margins(self) -> dict[str, float]:
        """Every `margin` that exists, by condition."""
        found = {key: self.margin(key) for key in self.scores}
        return {key: margin for key, margin in found.items() if not np.isnan(margin)}

    @property
    def retention(self) -> float:
        """The mean score under corruptions over the clean one; each corruption counts alike.

        NaN without corruptions, and where nothing is right even on clean pairs.
        """
        means = [float(np.mean(list(scored.values()))) for scored in self.by_corruption().values()]
        return float(np.mean(means)) / self.clean if means and self.clean else float("nan")

    def failures(self) -> BandFailures | None:
        """The averages of Liao et al. over entirely missing bands; None for a system of one band."""
        if self.bands != "both" or set(self.alone) != set(BANDS):
            return None
        return band_failures(self.clean, (self.alone["infrared"], self.alone["visible"]))

    def random_losses(self) -> dict[float, BandFailures]:
        """The same averages, by the share of pixels that a failing band loses."""
        found = {}
        for share in MISSING_SHARES:
            damaged = [self.scores.get(f"random-missing {band}/{share:g}") for band in BANDS]
            if None not in damaged:
                found[share] = band_failures(self.clean, [score for score in damaged if score is not None])
        return found


@dataclass(frozen=True)
class BandFailures:
    """average: over the combinations in which at least one band is whole, each alike. expected: by the
    probability with which each band fails on its own, given that not all do."""

    average: float
    expected: Mapping[float, float]


def band_failures(
    whole: float,
    damaged: Sequence[float],
    *,
    bands: int = 2,
    probabilities: Sequence[float] = FAILURE_PROBABILITIES,
) -> BandFailures:
    """The averages of Liao et al. (CVPR 2025 workshops, arXiv 2503.18445).

    whole: the score with all bands. damaged: those of every combination in which some, but not all, of the
        bands fail; for two bands, two numbers. With more bands they are ordered by how many fail, and all of
        one number are expected (2 ** bands - 2 in all).

    That the expectation leaves out the case in which every band fails is our reading. Their published tables
    agree with it: solved for the score with all bands, four tables of one method give one number.

    Raises ValueError for another number of scores.
    """
    if len(damaged) != 2**bands - 2:
        raise ValueError(f"{bands} bands have {2**bands - 2} damaged combinations, not {len(damaged)}")
    failing = [k for k in range(1, bands) for _ in range(comb(bands, k))]
    scores = [whole, *damaged]
    expected = {}
    for p in probabilities:
        weights = [(1 - p) ** (bands - k) * p**k for k in (0, *failing)]
        expected[p] = sum(w * s for w, s in zip(weights, scores, strict=True)) / sum(weights)
    return BandFailures(sum(scores) / len(scores), expected)


def conditions(
    system: System,
    pairs: Pairs,
    corruptions: Sequence[str] | None = None,
    severities: Sequence[int] = SEVERITIES,
) -> list[Condition]:
    """What a system can be tried under on these pairs: only what touches a band that it is given.

    corruptions: some of `CORRUPTIONS`; None takes all, and band states, random losses and noise as well.
    Raises OptionError for an unknown corruption or severity.
    """
    wrong = [severity for severity in severities if severity not in SEVERITIES]
    if wrong or not severities:
        raise OptionError(f"severities are some of {', '.join(map(str, SEVERITIES))}, not {wrong or 'none'}")
    given = widest(system.supports, pairs.bands)
    wanted = [find_corruption(name) for name in (CORRUPTIONS if corruptions is None else corruptions)]
    touching = [c for c in wanted if given == "both" or c.kind == given]
    found = [Condition(c.kind, c.name, severity) for c in touching for severity in severities]
    if corruptions is None:
        if given == "both":
            found += [Condition("state", name) for name in BAND_STATES]
            found += [
                Condition("random-missing", f"random-missing {band}", share)
                for share in MISSING_SHARES
                for band in BANDS
            ]
        found += [Condition("noise", "noise", deviation) for deviation in NOISE_DEVIATIONS]
    return found


def check_outside_graph(system: System | Exported, pairs: Pairs, wanted: Iterable[Condition]) -> None:
    """Raise OptionError for an exported system whose graph undoes what a condition does to infrared."""
    if not isinstance(system, Exported) or not system.rescales:
        return
    given = widest(system.supports, pairs.bands)
    if given != "visible" and any(condition.kind != "visible" for condition in wanted):
        raise OptionError(
            f"this exported {system.name} scales infrared by {system.scaling} in its graph, which undoes "
            "what is done to it here: score the run that it was made of, which gives the same answers"
        )


def assess(
    system: System | Exported,
    pairs: Pairs,
    wanted: Sequence[Condition],
    *,
    protocol: str = DEFAULT_PROTOCOL,
    seed: int = 0,
    monitor: PairMonitor | None = None,
    done: Robustness | None = None,
    progress: Callable[[int, int], None] | None = None,
    **passing: Any,
) -> Iterator[Robustness]:
    """Score a system under one condition after the other, and give what is known after each.

    monitor: what leaves out bands that do harm, as that of a `Predictor`. done: what an earlier, unfinished
    assessment knew; its conditions are not scored again, and those that are not wanted are left out.
    progress: called with (conditions done, conditions in all).
    passing: as `evaluate` takes them: workers, batch_size, device.

    Raises what `evaluate` raises, and OptionError for a seed below 0, and for an exported system whose graph
    undoes what a corruption does to infrared.
    """
    find_protocol(protocol)
    if seed < 0:
        raise OptionError(f"the seed must be 0 or more, not {seed}")
    check_pass(pairs, None, "float32")
    given = widest(system.supports, pairs.bands)
    check_outside_graph(system, pairs, wanted)

    if done is None:
        result = Robustness(
            *(system.name, pairs.source, pairs.split, len(pairs), protocol, seed, given),
            monitor=monitor is not None,
            provenance=variant_told(system),
        )
    else:
        keys = {CLEAN, *(condition.key for condition in wanted)}
        result = replace(
            done,
            scores={key: score for key, score in done.scores.items() if key in keys},
            dropped={key: counts for key, counts in done.dropped.items() if key in keys},
        )

    def score(shown: Pairs, bands: Bands, key: str) -> float:
        found = evaluate(system, shown, bands=[bands], by=None, monitor=monitor or False, **passing)
        if bands in found.dropped and bands == "both":
            result.dropped[key] = found.dropped[bands]
        return found.results[bands].overall.protocols[protocol].mean_iou

    if done is None:
        result.clean = score(pairs, given, CLEAN)
        single: list[Bands] = [band for band in ("infrared", "visible") if band in system.supports]
        result.alone = {band: score(pairs, band, band) for band in single if given == "both"}
    yield result
    missing = [condition for condition in wanted if condition.key not in result.scores]
    for number, condition in enumerate(missing, start=len(wanted) - len(missing)):
        if progress is not None:
            # Before the first, so that what an earlier command scored is not taken for this one's pace.
            progress(number, len(wanted))
        result.scores[condition.key] = score(_shown(pairs, condition, seed), given, condition.key)
        yield result
    if progress is not None:
        progress(len(wanted), len(wanted))


def _shown(pairs: Pairs, condition: Condition, seed: int) -> Pairs:
    level = condition.level
    if condition.kind == "state":
        return InState(pairs, condition.name)
    assert level is not None
    if condition.kind == "noise":
        return Noisy(pairs, level, seed=seed)
    if condition.kind == "random-missing":
        band = next(band for band in BANDS if condition.name.endswith(band))
        return RandomlyMissing(pairs, band, level, seed=seed)
    return NamedCorruption(pairs, condition.name, int(level), seed=seed)
