"""What one run has over another on the same pairs: seed by seed, with intervals over seeds and over pairs.

A script whose runs are scored pair by pair keeps the counts of each beside it (`keep_counts`), from which the
interval is that of `crossband compare`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import mean, stdev

from scipy.stats import t as student_t

from crossband.evaluation import Evaluation
from crossband.evaluation.comparison import MethodRun, compare
from crossband.evaluation.pair_counts import read_pair_counts, write_pair_counts
from crossband.metrics.resampling import Interval
from crossband.words import Bands

BLOCKS = {"msrs_boxes": 4}
"""By the set's name, how many pairs are drawn together: frames of a drive resemble each other."""
TITLES = ("run", "over", "given", "by seed", "mean", "95 % over seeds", "95 % over pairs and seeds")


@dataclass(frozen=True)
class Scored:
    """What a run had on the test split with one seed.

    given: on what, in words, which may say more than the bands. mean_iou: in [0, 1]. counts: where what it
    counted in every pair lies, if it was kept.
    """

    run: str
    given: str
    bands: Bands
    seed: int
    mean_iou: float
    counts: Path


def counts_of(folder: Path, name: str) -> Path:
    """Where what was counted lies, in a folder of runs of one set and seed."""
    return folder / "counts" / f"{name.replace(', ', '-')}.npz"


def keep_counts(path: Path, evaluation: Evaluation) -> None:
    """Keep what an evaluation counted in every pair."""
    assert evaluation.counts is not None
    write_pair_counts(path, evaluation.counts)


def interval(values: Sequence[float]) -> tuple[float, float] | None:
    """The 95 % interval of the mean, by the t distribution; None for fewer than two values."""
    if len(values) < 2:
        return None
    half = float(student_t.ppf(0.975, len(values) - 1)) * stdev(values) / len(values) ** 0.5
    return mean(values) - half, mean(values) + half


def paired_interval(pairs: Sequence[tuple[Scored, Scored]], block: int) -> Interval | None:
    """The 95 % interval of the first method minus the second, over pairs and seeds (`crossband compare`).

    pairs: a run of either method for each seed. None where what they counted was not kept.
    """
    if not all(one.counts.exists() for both in pairs for one in both):
        return None
    methods = {
        str(index): [MethodRun(str(one.counts), one.bands, read_pair_counts(one.counts)) for one in method]
        for index, method in enumerate(zip(*pairs, strict=True))
    }
    return compare(methods, block=block).differences[0].mean_iou


def table_of_differences(
    scored: Sequence[Scored], runs: Sequence[str], others: Sequence[str], block: int
) -> str:
    """Markdown: what each run has over each other one, on the same pairs and with the seeds that both have.

    A run is held against the other given the same; where that one is given one thing alone, against that.
    """
    rows = [_row(TITLES), "|---" * len(TITLES) + "|"]
    by_run: dict[str, dict[str, dict[int, Scored]]] = {}
    for one in scored:
        by_run.setdefault(one.run, {}).setdefault(one.given, {})[one.seed] = one
    for run, other in product(runs, others):
        theirs = by_run.get(other, {})
        for given, ours in by_run.get(run, {}).items():
            like = given if given in theirs else next(iter(theirs)) if len(theirs) == 1 else None
            seeds = sorted(ours.keys() & theirs[like]) if like is not None else []
            if like is None or not seeds:
                continue
            pairs = [(ours[seed], theirs[like][seed]) for seed in seeds]
            named = other if like == given else f"{other}, given {like}"
            rows.append(_row([run, named, given, *_cells(pairs, block)]))
    return "\n".join(rows)


def _cells(pairs: Sequence[tuple[Scored, Scored]], block: int) -> list[str]:
    values = [100 * (ours.mean_iou - theirs.mean_iou) for ours, theirs in pairs]
    ends = interval(values)
    drawn = paired_interval(pairs, block)
    return [
        ", ".join(f"{value:+.1f}" for value in values),
        f"{mean(values):+.1f}",
        "one seed: none" if ends is None else f"{ends[0]:+.1f} to {ends[1]:+.1f}",
        "not kept" if drawn is None else f"{100 * drawn.low:+.1f} to {100 * drawn.high:+.1f}",
    ]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
