"""Whether two images are of one moment: what is looked at, the rule that is learned, and when it is asked."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest

from crossband.errors import WeightsError
from crossband.match_rule import MatchRule
from crossband.pairs.image_statistics import pair_statistics
from crossband.pairs.match_statistics import match_statistics
from crossband.pairs.opening import open_pairs
from crossband.trained_monitor import TrainedMonitor
from crossband.training.match_fitting import fit_match_rule
from crossband.training.monitor_fitting import UNMATCHED, Answers, fit

NAMES = tuple(match_statistics(np.zeros((4, 4, 3), np.float32), np.zeros((4, 4), np.float32)))


def texture(seed: int, size: tuple[int, int] = (120, 160)) -> np.ndarray:
    noise = np.random.default_rng(seed).random(size).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 3)
    return (smooth - smooth.min()) / (smooth.max() - smooth.min())


def of(visible: np.ndarray, infrared: np.ndarray) -> dict[str, float]:
    return match_statistics(np.repeat(visible[..., None], 3, axis=2), infrared)


def test_images_of_one_scene_match_whatever_the_sign_and_strength_of_their_edges() -> None:
    image, other = texture(0), texture(1)
    apart = of(image, other)
    for infrared in (image, 1 - image, 0.4 + 0.1 * image**2):
        found = of(image, infrared)
        assert found["fine peak"] > apart["fine peak"] + 10
        assert found["fine lead"] > 5
    assert apart["fine lead"] < 1


def test_a_little_displaced_they_still_match_and_far_displaced_they_do_not() -> None:
    image = texture(0)
    in_place = of(image, image)
    near, far = (of(image, np.roll(image, step, axis=1)) for step in (4, 40))
    assert near["fine peak"] > 0.7 * in_place["fine peak"]
    assert far["fine lead"] < -5


def test_the_amount_of_edges_does_not_count() -> None:
    image = texture(0)
    empty = np.full_like(image, 0.5)
    few = np.where(np.arange(160) < 80, image, empty).astype(np.float32)
    assert of(few, few)["fine lead"] > 5


@pytest.mark.parametrize("size", [(24, 24), (24, 200), (300, 31), (2, 2)])
@pytest.mark.parametrize("level", [0.0, 1.0, None])
def test_statistics_are_finite_numbers(size: tuple[int, int], level: float | None) -> None:
    grey = texture(0, size) if level is None else np.full(size, level, np.float32)
    found = of(grey, grey)
    assert np.isfinite(list(found.values())).all()
    assert tuple(found) == NAMES


def pictures(count: int = 400) -> dict[str, Any]:
    """Of four one is unmatched: its statistic 0 is low, and to leave infrared out gains."""
    rng = np.random.default_rng(0)
    kind = np.tile([0, 1, 2, 3], count // 4)
    unmatched = kind == 3
    statistics = rng.normal(0, 1, (count, 2)) + np.array([6.0, 0.0]) * ~unmatched[:, None]
    return {
        "names": NAMES[:2],
        "statistics": statistics,
        "unmatched": unmatched,
        "whole": kind == 0,
        "gains": np.where(unmatched, 0.1, -0.2),
        "visible_far": np.full(count, 0.5),
        "asked": np.ones(count, bool),
        "halves": np.arange(count) // 4 % 2 == 0,
    }


def test_a_rule_finds_what_does_not_match_and_spares_the_rest() -> None:
    given = pictures()
    rule, found = fit_match_rule(**given)
    assert rule is not None
    assert np.mean(found[given["unmatched"]]) > 0.95
    assert found[given["whole"]].sum() == 0
    assert (rule.weight <= 0).all()
    assert rule.weight[0] < 5 * rule.weight[1]
    scores = rule.scores(given["statistics"])
    assert np.mean((scores > rule.needed) == given["unmatched"]) > 0.98


@pytest.mark.parametrize(
    "change",
    [
        {"gains": np.full(400, -0.1)},
        {"asked": np.zeros(400, bool)},
        {"visible_far": np.where(np.arange(400) % 4 == 3, 1.0, 0.5)},
        {"unmatched": np.zeros(400, bool)},
        # No score is above that of whole pairs, which need infrared.
        {"statistics": np.zeros((400, 2))},
    ],
)
def test_where_a_rule_would_lose_or_find_nothing_there_is_none(change: dict[str, Any]) -> None:
    rule, found = fit_match_rule(**pictures() | change)
    assert rule is None
    assert not found.any()


def test_whole_pairs_must_not_lose_by_it() -> None:
    given = pictures()
    some = np.flatnonzero(given["whole"])[::10]
    statistics = given["statistics"].copy()
    statistics[some] = statistics[given["unmatched"]].min(axis=0) - 1
    _, found = fit_match_rule(**given | {"statistics": statistics, "gains": given["gains"] * 10})
    assert found[some].sum() == 0
    assert found.sum() == 0


def test_what_does_not_match_is_left_out_unless_that_is_shown_to_lose() -> None:
    given = pictures()
    rng = np.random.default_rng(1)
    for mean, expected in ((-0.02, True), (-0.4, False)):
        gains = np.where(given["unmatched"], rng.normal(mean, 0.5, 400), given["gains"])
        rule, _ = fit_match_rule(**given | {"gains": gains})
        assert (rule is not None) == expected


def test_it_is_asked_only_where_visible_is_as_usual_if_more_are_found_so() -> None:
    given = pictures()
    # Every second broken pair matches nothing, as its visible image is far off, and needs infrared.
    kind = np.arange(400) % 8
    blind = (kind == 1) | (kind == 2)
    statistics = np.where(blind[:, None], -2.0, given["statistics"])
    rng = np.random.default_rng(1)
    far = np.where(blind, 0.95, rng.uniform(0, 0.9, 400))
    far[given["whole"]] = np.linspace(0, 1, 100)
    rule, found = fit_match_rule(**given | {"statistics": statistics, "visible_far": far})
    assert rule is not None
    assert 0.85 < rule.visible_farthest < 0.95
    assert not found[blind].any()
    assert np.mean(found[given["unmatched"]]) > 0.9


def test_a_statistic_that_speaks_for_a_match_never_counts_against_it() -> None:
    given = pictures()
    statistics = given["statistics"].copy()
    statistics[:, 1] = given["unmatched"] * 3.0 + np.random.default_rng(1).normal(0, 1, 400)
    rule, _ = fit_match_rule(**given | {"statistics": statistics})
    assert rule is not None
    assert rule.weight[1] == 0


@pytest.fixture(scope="module")
def scenes() -> list[tuple[np.ndarray, np.ndarray]]:
    pairs = open_pairs("scenes,train=80,val=1,test=1,size=120x160", "train")
    read = [pairs[index] for index in range(len(pairs))]
    return [(np.asarray(pair.visible), np.asarray(pair.infrared)) for pair in read]


def seen(pairs: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    statistics = np.array([list(pair_statistics(*pair).values()) for pair in pairs])
    return statistics, np.array([list(match_statistics(*pair).values()) for pair in pairs])


@pytest.fixture(scope="module")
def watching(scenes: list[tuple[np.ndarray, np.ndarray]]) -> TrainedMonitor:
    """Fitted to half of the scenes, as they are and with the infrared image of the next but one."""
    learned = scenes[:40]
    exchanged = [(learned[i][0], learned[(i + 2) % 40][1]) for i in range(40)]
    statistics, matching = seen(learned + exchanged)
    whole = np.arange(80) < 40
    # To lose visible costs whole pairs much, and to lose infrared less.
    gains = np.stack([np.full(80, -0.3), np.where(whole, -0.1, 0.1)], axis=1)
    faults = np.where(whole, "", UNMATCHED)
    names = tuple(pair_statistics(*scenes[0]))
    places = np.tile(np.arange(40), 2)
    # One of them is called broken; of one the networks learn nothing, and are not asked.
    faults[39] = "blur"
    monitor = fit(Answers(names, statistics, gains, places, faults, NAMES, matching))
    return replace(monitor, needed=np.full(2, 1e9))


def left_out(monitor: TrainedMonitor, pairs: list[tuple[np.ndarray, np.ndarray]]) -> list[str | None]:
    label = np.zeros((120, 160), np.uint8)
    return [monitor.harmful(*pair, label, label.astype(np.float32)) for pair in pairs]


def test_late_infrared_is_left_out_of_scenes_that_were_not_learned_from(
    scenes: list[tuple[np.ndarray, np.ndarray]], watching: TrainedMonitor
) -> None:
    new = scenes[40:]
    late = [(new[i][0], new[i - 1][1]) for i in range(40)]
    assert watching.match is not None
    assert watching.match.visible_farthest <= watching.image_farthest[0] + 1e-9
    assert watching.facts["unmatched_pairs_touched"] > 0.8
    assert left_out(watching, new).count("infrared") <= 2
    assert left_out(watching, late).count("infrared") >= 20
    assert "visible" not in left_out(watching, new + late)


def test_it_is_not_asked_where_an_image_by_itself_is_off(
    scenes: list[tuple[np.ndarray, np.ndarray]], watching: TrainedMonitor
) -> None:
    late = [(scenes[i][0], scenes[i - 1][1]) for i in range(40, 80)]
    found = next(pair for pair in late if left_out(watching, [pair]) == ["infrared"])
    fogged = (0.05 * found[0] + 0.9, found[1])
    statistics = np.array([list(pair_statistics(*fogged).values())])
    assert watching.match is not None
    assert watching.image_distances(statistics)[0, 0] > watching.match.visible_farthest
    assert watching.match.unmatched(*fogged)
    assert left_out(watching, [fogged]) == [None]


def test_a_rule_is_kept_with_its_monitor_and_one_without_is_as_before(watching: TrainedMonitor) -> None:
    fields = watching.to_fields()
    kept = TrainedMonitor.from_fields(fields)
    assert kept.match is not None
    assert kept.to_fields() == fields
    earlier = TrainedMonitor.from_fields({name: value for name, value in fields.items() if name != "match"})
    assert earlier.match is None
    assert replace(kept, match=None).to_fields() == earlier.to_fields()


@pytest.mark.parametrize(
    "damage",
    [
        {"names": ["visible mean"]},
        {"names": []},
        {"weight": [-1.0]},
        {"weight": [1.0] * len(NAMES)},
        {"weight": [float("nan")] * len(NAMES)},
        {"needed": None},
        {"needed": float("inf")},
        {"visible_farthest": float("nan")},
    ],
)
def test_a_damaged_rule_is_refused_in_one_line(watching: TrainedMonitor, damage: dict[str, Any]) -> None:
    fields = watching.to_fields()
    rule = MatchRule(NAMES, np.full(len(NAMES), -1.0), 0.0, 1.0).to_fields()
    with pytest.raises(WeightsError, match=r"^the card's band monitor is none .*: train again"):
        TrainedMonitor.from_fields(fields | {"match": rule | damage})
