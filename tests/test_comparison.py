"""Which of two methods is better: intervals against scipy, simulation and counts by hand; the command."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from command_line import refused
from crossband.cli import main
from crossband.errors import OptionError
from crossband.evaluation.comparison import MethodRun, compare
from crossband.evaluation.pair_counts import PairCounts, read_pair_counts, write_pair_counts
from crossband.metrics import PROTOCOLS, protocol_scores, segmentation_scores
from crossband.metrics.resampling import (
    Interval,
    class_ious,
    interval,
    mean_class_accuracies,
    mean_iou_intervals,
    mean_ious,
    resampled,
    runs_error,
    runs_interval,
)
from crossband.pairs.base import Classes, Pair
from crossband.pictures import AGREEMENT_COLOURS, agreement_map
from crossband.report.charts import difference_chart
from crossband.report.comparison_files import (
    comparison_csv,
    comparison_dict,
    comparison_text,
    how_made,
    verdict,
)
from crossband.report.comparison_html import ComparedPair, comparison_page, write_comparison
from crossband.training.engine import train
from tiny_runs import TINY_DATA, tiny_options

NAMES = ("road", "car <b>", "person")
CLASSES = Classes(NAMES, ((0, 0, 0), (200, 0, 0), (0, 200, 0)))


def drawn_matrices(rng: np.random.Generator, pairs: int, skill: float, classes: int = 3) -> np.ndarray:
    """Pairs of different difficulty: int32 (N, C, C), the share of right pixels being about ``skill``."""
    hard = rng.beta(4, 4, size=pairs) - 0.5
    truth = rng.multinomial(400, np.array([0.7, 0.25, 0.05])[:classes], size=pairs)
    right = np.clip(skill + 0.4 * hard, 0.02, 0.98)
    matrices = np.zeros((pairs, classes, classes), np.int32)
    for pair in range(pairs):
        for label in range(classes):
            shares = np.full(classes, (1 - right[pair]) / (classes - 1))
            shares[label] = right[pair]
            matrices[pair, label] = rng.multinomial(truth[pair, label], shares)
    return matrices


def counts_of(matrices: np.ndarray, **changes: object) -> PairCounts:
    pairs = len(matrices)
    made = PairCounts(
        "memory",
        "test",
        CLASSES,
        tuple(f"p{i}" for i in range(pairs)),
        tuple("night" if i % 2 else "day" for i in range(pairs)),
        {"both": matrices},
    )
    return replace(made, **changes)


def run_of(matrices: np.ndarray, name: str = "run", **changes: object) -> MethodRun:
    return MethodRun(name, "both", counts_of(matrices, **changes))


def with_errors(matrices: np.ndarray, share: float) -> np.ndarray:
    """The same truth, where a share of the right pixels of every class is taken for the next one."""
    worse = matrices.copy()
    for label in range(matrices.shape[-1]):
        moved = (matrices[:, label, label] * share).astype(np.int32)
        worse[:, label, label] -= moved
        worse[:, label, (label + 1) % matrices.shape[-1]] += moved
    return worse


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_stack_of_matrices_is_scored_as_each_alone(protocol: str) -> None:
    stack = np.random.default_rng(0).integers(0, 50, (6, 4, 4))
    stack[2, 1] = 0
    stack[3, :, 2] = stack[3, 2] = 0
    alone = [protocol_scores(torch.from_numpy(matrix), protocol).mean_iou for matrix in stack]
    np.testing.assert_allclose(mean_ious(stack, protocol), alone, rtol=1e-12)
    each = [segmentation_scores(torch.from_numpy(matrix)).iou for matrix in stack]
    np.testing.assert_allclose(class_ious(stack), each, rtol=1e-12)


def test_replicates_are_sums_of_drawn_pairs_and_shared_by_runs() -> None:
    # Powers of two, so that a sum tells how often each pair was drawn.
    one = (16 ** np.arange(5, dtype=np.int64))[:, None, None] * np.eye(2, dtype=np.int64)
    drawn = resampled(np.stack([one, 3 * one]), replicates=50)
    assert drawn.shape == (2, 50, 2, 2)
    np.testing.assert_array_equal(drawn[1], 3 * drawn[0])
    for total in drawn[0, :, 0, 0].astype(int):
        times = [total // 16**pair % 16 for pair in range(5)]
        assert sum(times) == 5
    assert len(set(drawn[0, :, 0, 0])) > 10
    np.testing.assert_array_equal(resampled(one, replicates=50), drawn[0])
    assert (resampled(one, replicates=50, seed=1) != drawn[0]).any()


def test_blocks_stay_together() -> None:
    one = (16 ** np.arange(6, dtype=np.int64))[:, None, None] * np.eye(2, dtype=np.int64)
    for total in resampled(one, replicates=30, block=3)[:, 0, 0].astype(int):
        times = [total // 16**pair % 16 for pair in range(6)]
        assert times[0] == times[1] == times[2]
        assert times[3] == times[4] == times[5]
    with pytest.raises(OptionError, match="two blocks"):
        resampled(one, block=6)


def test_the_error_of_few_runs_is_students() -> None:
    a, b = np.array([0.51, 0.55, 0.50]), np.array([0.47, 0.52, 0.49, 0.48])
    draws = a.mean() - b.mean() + runs_error((a, b), 400_000)
    expected = stats.ttest_ind(a, b).confidence_interval(0.95)
    found = interval(float(a.mean() - b.mean()), draws)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=3e-4)
    mean = stats.t.interval(0.95, len(a) - 1, a.mean(), stats.sem(a))
    alone = interval(float(a.mean()), a.mean() + runs_error((a,), 400_000))
    assert (alone.low, alone.high) == pytest.approx(mean, abs=2e-3)
    assert not runs_error((a[:1], b[:1]), 10).any()


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """300 test sets of 60 pairs from one population, whose true difference a very large set tells."""
    rng = np.random.default_rng(3)
    share, trials = 0.03, 300

    def difference(base: np.ndarray) -> float:
        ours, theirs = base.sum(axis=0), with_errors(base, share).sum(axis=0)
        return float(mean_ious(ours) - mean_ious(theirs))

    true = difference(drawn_matrices(rng, 40_000, 0.7))
    held = 0
    for trial in range(trials):
        base = drawn_matrices(rng, 60, 0.7)
        draws = mean_ious(resampled(np.stack([base, with_errors(base, share)]), replicates=400, seed=trial))
        found = interval(difference(base), draws[0] - draws[1])
        held += found.low <= true <= found.high
    # 95 % of 300 is 285 +- 3.8; the bootstrap is known to be a little short with few pairs.
    assert 0.90 <= held / trials <= 0.985


@pytest.mark.parametrize("seeds", [2, 3])
def test_intervals_of_pooled_seeds_hold_the_truth_as_often_as_they_say(seeds: int) -> None:
    """150 test sets of 40 pairs; each training errs by a share of its own, about 3 % and 6 % by method."""
    rng = np.random.default_rng(7)
    trials, spread = 150, 0.006
    means = {"ours": 0.03, "theirs": 0.06}
    many = drawn_matrices(rng, 40_000, 0.7)
    # What trainings have in the mean: their scores are nearly straight in so small a share.
    scores = {name: float(mean_ious(with_errors(many, share).sum(axis=0))) for name, share in means.items()}
    true = scores["ours"] - scores["theirs"]
    held = 0
    for _ in range(trials):
        base = drawn_matrices(rng, 40, 0.7)
        methods = {
            name: [
                run_of(with_errors(base, share + spread * rng.standard_normal()), f"seed {seed}")
                for seed in range(seeds)
            ]
            for name, share in means.items()
        }
        found = compare(methods, replicates=300).differences[0].mean_iou
        held += found.low <= true <= found.high
    assert 0.90 <= held / trials <= 0.995


def test_equal_methods_are_rarely_told_apart() -> None:
    """Two methods of one skill that err independently: a difference is claimed in about 5 % of the cases."""
    rng = np.random.default_rng(5)
    claimed = 0
    for _ in range(150):
        truth = rng.multinomial(400, [0.7, 0.25, 0.05], size=40)
        right = np.clip(0.7 + 0.2 * rng.standard_normal(40), 0.05, 0.95)
        both = []
        for _ in range(2):
            matrices = np.zeros((40, 3, 3), np.int32)
            for pair in range(40):
                for label in range(3):
                    hits = rng.binomial(truth[pair, label], right[pair])
                    matrices[pair, label, label] = hits
                    matrices[pair, label, (label + 1) % 3] = truth[pair, label] - hits
            both.append(run_of(matrices))
        found = compare({"a": [both[0]], "b": [both[1]]}, replicates=300).differences[0]
        claimed += found.mean_iou.excludes_zero
    assert claimed / 150 <= 0.11


def test_what_is_better_and_what_carries_it() -> None:
    base = drawn_matrices(np.random.default_rng(1), 50, 0.8)
    worse = base.copy()
    worse[:, 2, 0] += worse[:, 2, 2]
    worse[:, 2, 2] = 0
    comparison = compare({"a": [run_of(base)], "b": [run_of(worse)]})
    difference = comparison.differences[0]
    assert difference.mean_iou.low > 0
    assert verdict(difference, comparison).startswith("a is better than b by ")
    assert [found.index for found in difference.classes] == [0, 1, 2]
    parts = [found.part for found in difference.classes]
    assert sum(parts) == pytest.approx(difference.mean_iou.value)
    assert max(parts) == parts[2]
    # Nothing of the third class is found any more, all of it is taken for the first.
    assert (difference.confusions[0].truth, difference.confusions[0].prediction) == (2, 0)
    assert difference.classes[2].second == 0
    assert {name: pairs for name, (pairs, _) in difference.conditions.items()} == {"day": 25, "night": 25}
    gaps = [abs(pair.first - pair.second) for pair in difference.pairs]
    assert gaps == sorted(gaps, reverse=True)
    turned = compare({"b": [run_of(worse)], "a": [run_of(base)]})
    assert turned.differences[0].mean_iou.high == pytest.approx(-difference.mean_iou.low)
    assert verdict(turned.differences[0], turned).startswith("b is worse than a by ")


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("seeds", [1, 2])
def test_the_parts_of_classes_sum_to_the_difference(protocol: str, seeds: int) -> None:
    """One method calls some pixels a class that is not there: by ``all-nan`` it averages one class more."""
    base = drawn_matrices(np.random.default_rng(3), 12, 0.8)
    base[:, 2] = base[:, :, 2] = 0
    stray = base.copy()
    stray[:, 1, 2] += stray[:, 1, 1] // 4
    stray[:, 1, 1] -= stray[:, 1, 1] // 4
    clean, again, other = run_of(base), run_of(base, "again"), run_of(stray, "other")
    for methods in ({"a": [clean, again][:seeds], "b": [other]}, {"b": [other, clean][:seeds], "a": [clean]}):
        found = compare(methods, protocol=protocol).differences[0]
        assert sum(one.part for one in found.classes) == pytest.approx(found.mean_iou.value, abs=1e-12)


def test_no_difference_is_said_to_be_none() -> None:
    base = drawn_matrices(np.random.default_rng(1), 20, 0.8)
    comparison = compare({"a": [run_of(base)], "b": [run_of(base)]})
    assert "No difference between a and b can be shown with these 20 pairs" in comparison_text(comparison)
    assert "what another seed would give" in comparison_text(comparison)


def test_a_method_s_interval_is_that_of_its_runs_alone() -> None:
    rng = np.random.default_rng(5)
    runs = np.stack([drawn_matrices(rng, 40, skill) for skill in (0.7, 0.75)])
    alone = runs_interval(runs[:1])
    assert alone == mean_iou_intervals(runs[0])["present"]
    # With two runs, what another would give is in it.
    both = runs_interval(runs)
    assert both.value == pytest.approx(np.mean([mean_ious(one.sum(axis=0)) for one in runs]))
    assert both.high - both.low > 2 * (alone.high - alone.low)


def test_accuracies_of_a_stack_are_those_of_each_matrix() -> None:
    stack = drawn_matrices(np.random.default_rng(6), 5, 0.6)
    stack[1, 2] = 0
    expected = [segmentation_scores(torch.from_numpy(one)).mean_class_accuracy for one in stack]
    np.testing.assert_allclose(mean_class_accuracies(stack), expected)
    assert np.isnan(mean_class_accuracies(np.zeros((3, 3), int)))


def test_the_spread_of_seeds_widens_the_interval() -> None:
    rng = np.random.default_rng(2)
    base = drawn_matrices(rng, 60, 0.8)
    seeds = [run_of(with_errors(base, share), f"s{share}") for share in (0.0, 0.1, 0.2)]
    other = with_errors(base, 0.12)
    alone = compare({"a": [seeds[1]], "b": [run_of(other)]}).differences[0].mean_iou
    pooled = compare({"a": seeds, "b": [run_of(other)]})
    assert pooled.methods[0].runs.keys() == {"s0.0", "s0.1", "s0.2"}
    found = pooled.differences[0].mean_iou
    assert found.high - found.low > 3 * (alone.high - alone.low)
    assert "The spread of the runs of a is in them. b has one run" in comparison_text(pooled)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"names": tuple(f"q{i}" for i in range(10))}, "other pairs"),
        ({"classes": replace(CLASSES, names=("x", "y", "z"))}, "other classes"),
    ],
)
def test_only_scores_on_the_same_pairs_are_compared(changes: dict[str, object], said: str) -> None:
    base = drawn_matrices(np.random.default_rng(1), 10, 0.8)
    with pytest.raises(OptionError, match=said):
        compare({"a": [run_of(base)], "b": [run_of(base, **changes)]})


def test_a_condition_named_all_is_not_all_pairs() -> None:
    base = drawn_matrices(np.random.default_rng(1), 12, 0.8)
    told = {"conditions": ("all",) * 5 + ("day",) * 7}
    comparison = compare({"a": [run_of(base, **told)], "b": [run_of(with_errors(base, 0.2), **told)]})
    scopes = [row["scope"] for row in csv.DictReader(io.StringIO(comparison_csv(comparison)))]
    assert scopes[:3] == ["all", "all (condition)", "day"]
    conditions = comparison_dict(comparison)["differences"][0]["conditions"]
    assert {name: one["pairs"] for name, one in conditions.items()} == {"all (condition)": 5, "day": 7}


def test_images_of_other_sources_are_told() -> None:
    """The labels are the same, such as those of a set and of its foggy copy."""
    base = drawn_matrices(np.random.default_rng(1), 4, 0.8)
    foggy = run_of(with_errors(base, 0.1), source="folder:foggy")
    comparison = compare({"a": [run_of(base)], "b": [foggy], "c": [run_of(base, "again")]})
    assert comparison_text(comparison).startswith("memory and folder:foggy, split test: 4 pairs\n")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_pair_on_which_nothing_was_counted_is_not_among_those_that_differ(protocol: str) -> None:
    base = drawn_matrices(np.random.default_rng(1), 4, 0.8)
    base[1] = 0
    pairs = compare({"a": [run_of(base)], "b": [run_of(with_errors(base, 0.1))]}, protocol=protocol)
    assert sorted(pair.index for pair in pairs.differences[0].pairs) == [0, 2, 3]


def test_a_run_is_no_second_seed_of_itself() -> None:
    run = run_of(drawn_matrices(np.random.default_rng(1), 4, 0.8))
    with pytest.raises(OptionError, match="'a' has two runs of one name"):
        compare({"a": [run, run], "b": [run]})


def test_other_labels_under_the_same_names_are_refused() -> None:
    base = drawn_matrices(np.random.default_rng(1), 10, 0.8)
    with pytest.raises(OptionError, match="other labels"):
        compare({"a": [run_of(base)], "b": [run_of(base + np.eye(3, dtype=np.int32))]})
    with pytest.raises(OptionError, match="two methods"):
        compare({"a": [run_of(base)]})


@pytest.mark.parametrize(
    ("replicates", "level", "least"), [(1, 0.95, 100), (99, 0.5, 100), (1999, 0.999, 2000)]
)
def test_too_few_draws_tell_no_interval(replicates: int, level: float, least: int) -> None:
    base = drawn_matrices(np.random.default_rng(1), 10, 0.8)
    said = rf"replicates must be at least {least} for an interval of level {level}, not {replicates}"
    both = {"a": [run_of(base)], "b": [run_of(base)]}
    with pytest.raises(OptionError, match=said):
        compare(both, replicates=replicates, level=level)
    with pytest.raises(OptionError, match=said):
        runs_interval(base[None], replicates=replicates, level=level)
    found = compare(both, replicates=least, level=level).differences[0].mean_iou
    assert (found.low, found.high) == (0, 0)


def test_counts_are_read_as_they_were_written(tmp_path: Path) -> None:
    counts = counts_of(drawn_matrices(np.random.default_rng(1), 5, 0.8))
    write_pair_counts(tmp_path / "x.npz", counts)
    read = read_pair_counts(tmp_path / "x.npz")
    np.testing.assert_array_equal(read.matrices["both"], counts.matrices["both"])
    assert replace(read, matrices={}) == replace(counts, matrices={})


@pytest.mark.parametrize(
    ("block", "dusk", "why"), [(1, 1, "a single pair"), (3, 1, "a single block"), (3, 3, "a single block")]
)
def test_a_condition_of_too_few_pairs_is_said_to_have_no_interval(block: int, dusk: int, why: str) -> None:
    base = drawn_matrices(np.random.default_rng(1), 12, 0.8)
    told = {"conditions": ("dusk",) * dusk + ("day",) * (12 - dusk)}
    ours, theirs = run_of(base, **told), run_of(with_errors(base, 0.2), **told)
    comparison = compare({"a": [ours], "b": [theirs]}, block=block)
    text, html = comparison_text(comparison), comparison_page(comparison, CLASSES).html()
    (line,) = [line for line in text.splitlines() if line.startswith(f"dusk ({dusk} pair")]
    assert line.split()[-1] == "none"
    assert f"There is none for dusk: {why} leaves nothing to draw from." in text
    assert f"There is none for dusk: {why} leaves nothing to draw from." in html
    assert "– to" not in text + html
    conditions = comparison_dict(comparison)["differences"][0]["conditions"]
    assert conditions["dusk"]["mean_iou"]["low"] is conditions["dusk"]["mean_iou"]["high"] is None
    assert conditions["day"]["mean_iou"]["low"] is not None
    assert "There is none" not in how_made(compare({"a": [run_of(base)], "b": [run_of(base)]}))


@pytest.mark.parametrize("keep", [0, 10, 200, -1])
def test_damaged_counts_are_refused(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "x.npz"
    write_pair_counts(path, counts_of(drawn_matrices(np.random.default_rng(1), 5, 0.8)))
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(OptionError, match=r"x\.npz holds no counts"):
        read_pair_counts(path)
    path.write_text("something else")
    with pytest.raises(OptionError, match="damaged or something else: evaluate again") as refused:
        read_pair_counts(path)
    assert "pickle" not in str(refused.value)


def test_counts_that_do_not_fit_together_are_refused(tmp_path: Path) -> None:
    counts = counts_of(drawn_matrices(np.random.default_rng(1), 5, 0.8))
    for wrong in (
        replace(counts, names=("a",)),
        replace(counts, matrices={"both": -1 - counts.matrices["both"]}),
        replace(counts, matrices={}),
    ):
        write_pair_counts(tmp_path / "x.npz", wrong)
        with pytest.raises(OptionError, match="do not fit together"):
            read_pair_counts(tmp_path / "x.npz")


def test_who_is_right_is_painted() -> None:
    truth = np.array([[0, 0, 1, 1, 255]], np.uint8)
    first, second = np.array([[0, 0, 0, 0, 0]], np.uint8), np.array([[0, 1, 1, 2, 0]], np.uint8)
    painted = agreement_map(first, second, truth)
    assert [tuple(int(v) for v in colour) for colour in painted[0]] == list(AGREEMENT_COLOURS)


def test_a_class_and_a_condition_of_one_name_have_a_line_each(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[str, Interval]] = []
    monkeypatch.setattr(
        "crossband.report.comparison_html.difference_chart",
        lambda differences: drawn.extend(differences) or difference_chart(differences),
    )
    classes = replace(CLASSES, names=("all", "day", "person"))
    base = drawn_matrices(np.random.default_rng(1), 12, 0.8)
    runs = {
        name: [run_of(matrices, classes=classes)]
        for name, matrices in {"a": base, "b": with_errors(base, 0.2)}.items()
    }
    comparison = compare(runs)
    comparison_page(comparison, classes)
    assert [name for name, _ in drawn] == ["all pairs", "all", "day", "person", "day", "night"]
    found = comparison.differences[0]
    assert drawn[0][1] == found.mean_iou
    assert drawn[4][1] == found.conditions["day"][1] != drawn[2][1]


def test_the_files_say_the_same(tmp_path: Path) -> None:
    base = drawn_matrices(np.random.default_rng(1), 12, 0.8)
    comparison = compare({"a <i>": [run_of(base)], "b": [run_of(with_errors(base, 0.2))]})
    label = np.zeros((6, 8), np.uint8)
    pair = Pair("p", np.zeros((6, 8, 3), np.float32), np.zeros((6, 8), np.float32), label)
    examples = {"b": [ComparedPair(pair, label, label + 1)]}
    write_comparison(comparison, tmp_path, CLASSES, examples, {"command": "x"})
    document = json.loads((tmp_path / "comparison.json").read_text())
    found = comparison.differences[0]
    assert document["differences"][0]["mean_iou"]["value"] == found.mean_iou.value
    assert document["differences"][0]["verdict"] == verdict(found, comparison)
    assert document["differences"][0]["conditions"]["day"]["pairs"] == 6
    rows = list(csv.DictReader((tmp_path / "comparison.csv").open()))
    assert float(rows[0]["difference"]) == found.mean_iou.value
    assert {row["measure"] for row in rows} == {"mean_iou", "iou"}
    page = (tmp_path / "comparison.html").read_text()
    assert "<i>" not in page
    assert "a &lt;i&gt; is better than b" in page
    assert page.count("<img") == 6
    assert comparison_page(comparison, CLASSES, examples).html().count("<img") == 6
    assert comparison_csv(comparison) == (tmp_path / "comparison.csv").read_text()
    assert comparison_dict(comparison)["pairs"] == 12


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("runs")
    made = []
    for name, seed, band in (("ir", 0, "infrared"), ("ir-1", 1, "infrared"), ("vis", 0, "visible")):
        options = tiny_options(folder / name, seed=seed)
        train(replace(options, network={**options.network, "band": band}), quiet=True)
        made.append(folder / name)
    return made


def _goes_early(text: str) -> int:
    raise BrokenPipeError


def test_the_command_compares_runs_and_their_evaluations(
    runs: list[Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, second, visible = map(str, runs)
    out = str(tmp_path / "out")
    arguments = ["--data", TINY_DATA, "--workers", "0", "--replicates", "200", "--examples", "2"]
    assert main(["compare", f"ir={first},{second}", visible, *arguments, "--out", out]) == 0
    said = capsys.readouterr().out
    assert "4 pairs" in said
    document = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert [m["name"] for m in document["methods"]] == ["ir", "vis"]
    assert [m["bands"] for m in document["methods"]] == ["infrared", "visible"]
    # 2 pairs, each with both bands, truth, two predictions, and who is right.
    assert (tmp_path / "out" / "comparison.html").read_text().count("<img") == 12
    folders = []
    for run in runs[:1] + runs[2:]:
        assert main(["evaluate", str(run), "--data", TINY_DATA, "--workers", "0"]) == 0
        folders.append(str(run / "evaluation-test"))
    capsys.readouterr()
    assert main(["compare", *folders, "--replicates", "200", "--out", str(tmp_path / "again")]) == 0
    again = json.loads((tmp_path / "again" / "comparison.json").read_text())
    assert [m["name"] for m in again["methods"]] == ["ir", "vis"]
    capsys.readouterr()
    for given in (["--split", "val"], ["--examples", "3"], ["--device", "cpu"], ["--batch_size", "2"]):
        assert f"{given[0]} belongs to runs" in refused(["compare", *folders, *given, "--out", out], capsys)
    alone = ["compare", first, visible, *arguments, "--out", str(tmp_path / "alone")]
    assert main(alone) == 0
    direct = json.loads((tmp_path / "alone" / "comparison.json").read_text())
    assert direct["differences"] == again["differences"]
    # `compare ... | head`: a reader that goes early takes no result with it.
    early = ["compare", *folders, "--replicates", "200", "--out", str(tmp_path / "early")]
    with open(os.devnull, "w") as nothing, monkeypatch.context() as patched:
        patched.setattr(nothing, "write", _goes_early)
        patched.setattr(sys, "stdout", nothing)
        assert main(early) == 1
    assert json.loads((tmp_path / "early" / "comparison.json").read_text())["differences"]
    apart = ["compare", f"ir={first},{second}", visible, *arguments, "--seeds", "apart", "--out", out]
    assert main(apart) == 0
    document = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert [m["name"] for m in document["methods"]] == ["ir ir", "ir ir-1", "vis"]
    apart[1] = f"{first},{second}@infrared"
    assert main(apart) == 0
    document = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert [m["name"] for m in document["methods"]] == ["ir@infrared", "ir-1@infrared", "vis"]


def test_mistakes_are_told_in_a_line(
    runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, _, visible = map(str, runs)
    out = ["--out", str(tmp_path / "out")]
    data = ["--data", TINY_DATA]
    assert "--data" in refused(["compare", first, visible, *out], capsys)
    assert "two methods" in refused(["compare", first, *data, *out], capsys)
    assert "nowhere is not there" in refused(["compare", first, "nowhere", *data, *out], capsys)
    assert "not 'thermal'" in refused(["compare", f"{first}@thermal", visible, *data, *out], capsys)
    assert "called 'ir'" in refused(["compare", first, f"ir={visible}", *data, *out], capsys)
    twice = ["compare", f"{first},{first}/../{Path(first).name}", visible, *data, *out]
    assert "names a run twice" in refused(twice, capsys)
    few = ["compare", first, visible, *data, *out, "--replicates", "1"]
    assert "replicates must be at least 100" in refused(few, capsys)
    assert not (tmp_path / "out" / "comparison.json").exists()
