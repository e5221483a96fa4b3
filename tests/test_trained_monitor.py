"""A run's own band monitor: what it looks at, what it learns, how it is kept, and where it decides."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from command_line import refused
from crossband.answer_statistics import answer_statistics
from crossband.band_monitor import BandSwitch, PairMonitor, faults_of
from crossband.card import Card
from crossband.cli import main
from crossband.errors import OptionError, WeightsError
from crossband.evaluation import evaluate
from crossband.evaluation.robustness import assess, conditions
from crossband.loading import load
from crossband.pairs.base import Pair, Pairs, PairView
from crossband.pairs.image_statistics import SMALLEST, pair_statistics
from crossband.pairs.opening import open_pairs
from crossband.pairs.writing import write_image
from crossband.pictures import to_uint8
from crossband.predictor import Predictor
from crossband.report import evaluation_text
from crossband.report.robustness_files import read_robustness, robustness_csv, robustness_text, write_progress
from crossband.run_card import read_card
from crossband.stream import RecordedCamera, Stream
from crossband.systems.base import NetworkSettings, Output, System
from crossband.trained_monitor import TrainedMonitor, bears_on, distances
from crossband.training.engine import train
from crossband.training.monitor_fitting import UNMATCHED, Answers, fit
from crossband.training.monitoring import answer
from crossband.weights import make_card, save_run
from crossband.words import IGNORE_INDEX, Band, Fault
from tiny_runs import tiny_options
from tiny_systems import TINY, build

DATA = "scenes,train=12,val=2,test=4,size=48x64"


def picture(seed: int = 0) -> np.ndarray:
    """A smooth grey picture, float32 (48, 64)."""
    noise = np.random.default_rng(seed).random((48, 64)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (9, 9), 2)
    return (smooth - smooth.min()) / (smooth.max() - smooth.min()) * 0.8 + 0.1


def statistics_of(visible: np.ndarray, infrared: np.ndarray) -> dict[str, float]:
    return pair_statistics(np.repeat(visible[..., None], 3, axis=2), infrared)


def test_statistics_tell_what_was_done_to_an_image() -> None:
    first, second = picture(), picture(1)
    rng = np.random.default_rng(2)
    clean = statistics_of(first, second)
    noisy = statistics_of(first, np.clip(second + rng.normal(0, 0.05, second.shape), 0, 1).astype(np.float32))
    assert noisy["infrared step 1 across"] > clean["infrared step 1 across"] + 0.5
    assert noisy["visible step 1 across"] == clean["visible step 1 across"]
    blurred = statistics_of(cv2.GaussianBlur(first, (15, 15), 4), second)
    assert blurred["visible step 1 down"] < clean["visible step 1 down"] - 0.5
    columns = rng.normal(0, 0.05, second.shape[1]).astype(np.float32)
    striped = statistics_of(first, np.clip(second + columns, 0, 1))
    assert striped["infrared stripes across"] > clean["infrared stripes across"] + 0.3
    assert striped["infrared stripes down"] < striped["infrared stripes across"] - 0.3
    hazy = statistics_of(0.3 * first + 0.7, second)
    assert hazy["visible haze"] > clean["visible haze"] + 0.2
    assert hazy["visible contrast 50 %"] < clean["visible contrast 50 %"] - 0.5


def test_statistics_tell_whether_the_bands_agree() -> None:
    image = picture()
    same, other = statistics_of(image, image), statistics_of(image, picture(1))
    assert same["edges alike"] == pytest.approx(1, abs=1e-3)
    assert other["edges alike"] < 0.5
    moved = statistics_of(image, np.roll(image, 6, axis=1))
    assert moved["offset across"] == pytest.approx(6 / 64, abs=0.02)
    assert moved["offset down"] == pytest.approx(0, abs=0.02)


@pytest.mark.parametrize("size", [(SMALLEST, SMALLEST), (24, 200), (300, 31)])
@pytest.mark.parametrize("level", [0.0, 1.0, None])
def test_statistics_are_finite_numbers(size: tuple[int, int], level: float | None) -> None:
    rng = np.random.default_rng(0)
    grey = rng.random(size, dtype=np.float32) if level is None else np.full(size, level, np.float32)
    found = statistics_of(grey, grey)
    assert np.isfinite(list(found.values())).all()
    assert found.keys() == statistics_of(picture(), picture()).keys()


NAMES = ("visible mean", "infrared mean", "edges alike")


def made_answers(count: int = 240, seed: int = 0) -> Answers:
    """Four pictures of each pair, two of a fault each; a far statistic 0 says that visible does harm, 1 that
    infrared does, 2 nothing."""
    rng = np.random.default_rng(seed)
    kind = np.tile([0, 1, 2, 3], count // 4)
    far = np.stack([kind == 1, kind == 2, kind == 3], axis=1) * rng.uniform(4, 8, (count, 1))
    statistics = rng.normal(0, 0.3, (count, 3)) + far * rng.choice([-1, 1], (count, 3))
    gains = np.where(np.stack([kind == 1, kind == 2], axis=1), 0.2, -0.1)
    number = np.repeat(np.arange(count // 4), 4)
    faults = np.where(
        kind == 0, "", np.char.add(kind.astype(str), np.char.add("-", (number % 2).astype(str)))
    )
    return Answers(NAMES, statistics, gains, number, faults)


@pytest.fixture(scope="module")
def fitted() -> TrainedMonitor:
    torch.manual_seed(1)
    return fit(made_answers())


def test_a_monitor_learns_which_band_does_harm_and_spares_whole_pairs(fitted: TrainedMonitor) -> None:
    monitor, new = fitted, made_answers(seed=1)
    left, kind = monitor.left_out(new.statistics), np.tile([0, 1, 2, 3], 60)
    assert np.mean(left[kind == 1] == 0) > 0.95
    assert np.mean(left[kind == 2] == 1) > 0.95
    assert np.mean(left[kind == 3] == -1) > 0.95
    assert np.mean(left[new.whole] == -1) > 0.98
    assert monitor.facts["gained"] > 0.08
    assert monitor.facts["gained_on_whole_pairs"] >= -0.001


def test_how_sure_a_monitor_must_be_is_said_of_each_band() -> None:
    answers = made_answers()
    statistics, gains = answers.statistics.copy(), answers.gains.copy()
    # Infrared of some whole pairs is as far off as it ever is where it does harm, and is much needed there.
    some = np.flatnonzero(answers.whole)[::10]
    statistics[some, 1], gains[some, 1] = 9.0, -1.0
    monitor = fit(replace(answers, statistics=statistics, gains=gains))
    kind, left = np.tile([0, 1, 2, 3], 60), monitor.left_out(made_answers(seed=1).statistics)
    assert np.mean(left[kind == 1] == 0) > 0.95
    assert np.mean(left[kind == 2] == 1) < 0.2
    assert monitor.needed[1] > monitor.needed[0] + 1


def test_where_no_band_is_worth_leaving_out_none_is() -> None:
    answers = made_answers()
    monitor = fit(replace(answers, gains=np.full_like(answers.gains, -0.1)))
    assert (monitor.left_out(made_answers(seed=1).statistics) == -1).all()
    assert monitor.facts["gained"] == 0


OF_ANSWER = ("visible mean", "infrared mean", "answer edges")


def test_of_an_answer_like_no_good_one_the_band_is_left_out_whose_image_is_farther_off() -> None:
    monitor = TrainedMonitor(
        names=OF_ANSWER,
        mean=np.zeros(3),
        deviation=np.ones(3),
        weight=np.zeros((2, 1, 3)),
        bias=np.zeros((2, 1)),
        last=np.ones((2, 1)),
        ending=np.zeros(2),
        needed=np.ones(2),
        farthest=np.log([4.0, 4.0, 4.0]),
        image_farthest=np.log([3.0, 5.0]),
        facts={},
    )
    seen = np.array([[0.0, 0, 9], [0, 5, 9], [3, 0, -9], [3, 4, 9], [3, 9, 9], [9, 0, 2]])
    assert monitor.left_out(seen).tolist() == [-1, 1, 0, 0, 1, -1]
    # By its scores it would always leave visible out.
    scored = replace(monitor, ending=np.array([2.0, 0.0]))
    assert scored.left_out(seen).tolist() == [0, 1, 0, 0, 1, 0]
    never = replace(monitor, farthest=np.full(3, 8.0))
    assert (never.left_out(seen) == -1).all()


def harmless(count: int = 240) -> Answers:
    """As `made_answers`, but leaving a band out always costs, and the answer is seen, which is as ever."""
    made = made_answers(count)
    edges = np.random.default_rng(1).normal(0, 0.3, count)
    statistics = np.column_stack([made.statistics[:, :2], edges])
    return replace(made, names=OF_ANSWER, statistics=statistics, gains=np.full((count, 2), -0.1))


@pytest.fixture(scope="module")
def of_harmless() -> TrainedMonitor:
    return fit(harmless())


def test_an_answer_like_no_good_one_is_not_trusted(of_harmless: TrainedMonitor) -> None:
    answers, monitor = harmless(), of_harmless
    assert monitor.facts["broken_pairs_touched"] < 0.01
    new = np.array([[0.0, 30, 30], [30, 0, 30], [0, 0, 30], [0, 30, 0]])
    assert monitor.distrusted(new).tolist() == [1, 0, -1, -1]
    without = answers.gains.copy()
    without[:, 1] = -1
    assert fit(replace(answers, gains=without)).distrusted(new).tolist() == [-1, 0, -1, -1]


def test_a_bad_answer_makes_no_other_one_trusted() -> None:
    answers = harmless()
    dark = np.tile([0, 1, 2, 3], 60) == 1
    answers.statistics[dark, 2] += 20
    answers.gains[dark, 0] = 0.2
    new = np.array([[30.0, 0, 20], [0, 30, 20], [0, 30, 0]])
    assert fit(answers).distrusted(new).tolist() == [0, 1, -1]


def test_an_answer_must_be_so_far_off_that_whole_pairs_are_spared(of_harmless: TrainedMonitor) -> None:
    answers = harmless()
    far = answers.statistics.copy()
    # Of a whole pair all is far off, as in no other one: the pairs of the other half know none like it.
    far[0] = 0, 9, 9
    assert answers.whole[0]
    monitors = of_harmless, fit(replace(answers, statistics=far))
    seen = distances(answers.statistics, monitors[0].mean, monitors[0].deviation)
    np.testing.assert_allclose(monitors[0].farthest, seen.max(0))
    seen = distances(far, monitors[1].mean, monitors[1].deviation)
    assert (monitors[1].farthest > seen.max(0) + 0.09).all()


def test_a_distance_is_counted_in_deviations() -> None:
    far = distances(np.array([[1.0, -2.0], [4.0, 1e9]]), np.array([1.0, 2.0]), np.array([1.0, 2.0]))
    np.testing.assert_allclose(far, [[0.0, np.log(3)], [np.log(4), 8.0]])


def test_what_is_farther_off_speaks_more_against_its_band_and_for_the_other(fitted: TrainedMonitor) -> None:
    np.testing.assert_array_equal(bears_on(NAMES), [[1, -1, 1], [-1, 1, 1]])
    assert (bears_on(["answer edges"]) == 1).all()
    usual = np.tile(fitted.mean, (50, 1))
    for place, name in enumerate(NAMES):
        moved = usual.copy()
        moved[:, place] += fitted.deviation[place] * np.geomspace(0.01, 1000, 50)
        steps = np.diff(fitted.scores(moved), axis=0)
        if name.startswith("visible"):
            assert (steps[:, 0] >= -1e-12).all()
            assert (steps[:, 1] <= 1e-12).all()
            assert steps[:, 0].sum() > 1
        elif name.startswith("infrared"):
            assert (steps[:, 1] >= -1e-12).all()
            assert (steps[:, 0] <= 1e-12).all()
            assert steps[:, 1].sum() > 1
        else:
            assert (steps >= -1e-12).all()


def test_most_units_judge_both_bands_alike(fitted: TrainedMonitor) -> None:
    """Three of four of each of four networks: a statistic of infrared weighs there as visible's does, up
    to what brings the distances of either to deviation 1."""
    alike = fitted.last[0] == fitted.last[1]
    assert (alike.reshape(4, 4).sum(1) == 3).all()
    ratio = fitted.weight[0, alike, 0] / fitted.weight[1, alike, 1]
    np.testing.assert_allclose(ratio, ratio[0])
    others = fitted.weight[0, ~alike, 0] / fitted.weight[1, ~alike, 1]
    assert np.abs(others / ratio[0] - 1).max() > 0.01


def test_an_answer_is_looked_at_by_hand_worked_numbers() -> None:
    labels = np.array([[0, 0, 1, 255], [0, 2, 1, 255]], np.uint8)
    confidence = np.array([[0.5, 0.7, 0.8, 0.0], [0.6, 0.4, 1.0, 0.0]], np.float32)
    found = answer_statistics(labels, confidence, 4)
    assert [found[f"answer share of class {k}"] for k in range(4)] == pytest.approx([3 / 6, 2 / 6, 1 / 6, 0])
    sure = [found[f"answer confidence of class {k}"] for k in range(4)]
    assert sure == pytest.approx([0.6, 0.9, 0.4, 0])
    assert found["answer confidence"] == pytest.approx(4.0 / 6)
    assert found["answer confidence 50 %"] == pytest.approx(0.65)
    # Of 159 steps one changes the class down, in a quarter of the columns; across it is 2 and 3 by row.
    assert found["answer edges"] == pytest.approx((1 / 4 + 5 / 2) / 159)
    nothing = answer_statistics(np.full((3, 1), 255, np.uint8), np.zeros((3, 1), np.float32), 4)
    assert nothing.keys() == found.keys()
    assert np.isfinite(list(nothing.values())).all()


def test_an_answer_looks_the_same_at_every_size() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, (40, 32)).astype(np.uint8)
    confidence = rng.random((40, 32), np.float32)
    found = answer_statistics(labels, confidence, 3)
    for factor in (3, 5, 10):
        larger = (np.repeat(np.repeat(one, factor, 0), factor, 1) for one in (labels, confidence))
        assert answer_statistics(*larger, 3) == found


def test_a_seed_makes_a_monitor(fitted: TrainedMonitor) -> None:
    torch.manual_seed(2)
    state = torch.get_rng_state()
    assert fit(made_answers()).to_fields() == fitted.to_fields()
    assert torch.equal(torch.get_rng_state(), state)
    assert fit(made_answers(), seed=5).to_fields() != fitted.to_fields()


class Reading(System):
    """A class of each pixel by its brightness: in visible where it is given, else in infrared."""

    name = "reading"
    supports: ClassVar[Any] = {"both": "designed", "infrared": "designed", "visible": "designed"}

    def __init__(self) -> None:
        super().__init__(2, NetworkSettings())

    def run(self, visible: Tensor | None, infrared: Tensor | None, *, features: bool) -> Output:
        image = infrared if visible is None else visible[:, :1]
        assert image is not None
        return Output(torch.cat([0.5 - image, image - 0.5], dim=1))

    def deployed(self, bands: str) -> list[torch.nn.Module]:
        return []


class TwoBands(Pairs):
    """Pairs whose label both bands show."""

    def __init__(self, count: int):
        scenes = open_pairs(f"scenes,train={count},val=1,test=1,size=48x64", "train")
        for name in ("source", "split", "scaling", "false_colour", "unpaired", "offsets", "registration"):
            setattr(self, name, getattr(scenes, name))
        assert scenes.classes is not None
        self.classes = replace(scenes.classes, names=("low", "high"), palette=scenes.classes.palette[:2])
        self.bands = ("visible", "infrared")
        self.count = count

    def __len__(self) -> int:
        return self.count

    def name(self, index: int) -> str:
        return str(index)

    def __getitem__(self, index: int) -> Pair:
        label = (picture(index) > 0.5).astype(np.uint8)
        image = np.where(label > 0, 0.75, 0.25).astype(np.float32)
        return Pair(str(index), np.repeat(image[..., None], 3, axis=2), image, label)


def test_what_leaving_a_band_out_gains_is_counted() -> None:
    pairs = TwoBands(6)
    everything = answer(Reading(), pairs, pictures=60)
    found = everything.matched()
    assert found.statistics.shape == (60, len(found.names))
    assert found.whole.sum() == 6
    np.testing.assert_allclose(found.gains[found.whole], 0, atol=1e-12)
    # Both bands are answered from visible: leaving infrared out changes nothing, and leaving out a visible
    # that is too dark makes all right.
    np.testing.assert_allclose(found.gains[:, 1], 0, atol=1e-12)
    assert found.gains[:, 0].max() > 0.2
    dark = found.statistics[:, found.names.index("visible mean")] < 0.2
    assert dark.any()
    assert (found.gains[dark, 0] > 0.2).all()


def test_infrared_of_another_pair_is_answered_too() -> None:
    found = answer(Reading(), TwoBands(6), pictures=60)
    unmatched = found.faults == UNMATCHED
    # One for every six, whatever is drawn of a pair.
    assert unmatched.sum() == 10
    assert set(found.places[unmatched]) == set(range(6))
    assert found.matching is not None
    assert found.matching.shape == (70, len(found.match_names))
    peak = found.matching[:, found.match_names.index("fine peak")]
    assert peak[unmatched].max() < peak[found.whole].min()
    # Without visible the answer is that of the other pair.
    assert (found.gains[unmatched, 0] < -0.1).all()
    of_many = answer(Reading(), TwoBands(9), pictures=18)
    assert (of_many.faults == UNMATCHED).sum() == 3
    np.testing.assert_allclose(found.gains[unmatched, 1], 0, atol=1e-12)


def hand_made(band: str) -> TrainedMonitor:
    """Finds a band harmful whose mean level is more than 0.3 from 0.25."""
    own = np.array([[name == band] for name in ("visible", "infrared")], float)
    return TrainedMonitor(
        names=(f"{band} mean",),
        mean=np.array([0.25]),
        deviation=np.array([0.3]),
        weight=own[..., None],
        bias=np.zeros((2, 1)),
        last=np.ones((2, 1)),
        ending=np.zeros(2),
        needed=np.full(2, np.log(2)),
        farthest=np.array([8.0]),
        image_farthest=np.array([8.0, 8.0]),
        facts={},
    )


def test_a_monitor_is_kept_as_plain_data(fitted: TrainedMonitor) -> None:
    again = TrainedMonitor.from_fields(json.loads(json.dumps(fitted.to_fields())))
    values = np.random.default_rng(0).random((5, len(fitted.names)))
    np.testing.assert_allclose(again.scores(values), fitted.scores(values), atol=1e-3)
    assert again.to_fields() == fitted.to_fields()
    new = made_answers(seed=1).statistics
    np.testing.assert_array_equal(again.left_out(new), fitted.left_out(new))


@pytest.mark.parametrize(
    "damage",
    [
        {"names": []},
        {"names": ["no such thing"]},
        {"names": ["answer share of class 1"]},
        {"mean": [0.5, 1.0]},
        {"mean": ["x"]},
        {"mean": "none"},
        {"deviation": [0.0]},
        {"needed": [float("nan"), 1.0]},
        {"needed": 1.0},
        {"weight": []},
        {"weight": [[[1.0, 2.0]], [[0.0, 0.0]]]},
        {"weight": [[[-1.0]], [[0.0]]]},
        {"last": [[-1.0], [0.0]]},
        {"last": 3},
        {"ending": [0.0]},
        {"farthest": [1.0, 2.0]},
        {"image_farthest": [1.0]},
    ],
)
def test_a_damaged_monitor_is_refused_in_one_line(damage: dict[str, Any]) -> None:
    with pytest.raises(WeightsError, match="band monitor is none that") as caught:
        TrainedMonitor.from_fields({**hand_made("visible").to_fields(), **damage})
    assert "\n" not in str(caught.value)


def brightened(pair: Pair, band: str) -> Pair:
    image = getattr(pair, band)
    return replace(pair, **{band: 0.8 + 0.19 * image})


def test_one_band_is_found_harmful_at_most_and_black_comes_first() -> None:
    pair = open_pairs(DATA, "test")[0]
    watching = PairMonitor(hand_made("infrared"))
    answer_of = np.zeros(pair.size, np.uint8), np.ones(pair.size, np.float32)
    assert watching.in_answer(pair.visible, 0.3 * pair.infrared, *answer_of) == {}
    bright = brightened(pair, "infrared")
    assert faults_of(bright.visible, bright.infrared) == {}
    assert watching.in_answer(bright.visible, bright.infrared, *answer_of) == {"infrared": "harmful"}
    assert watching.in_answer(bright.visible, bright.infrared[..., None], *answer_of) == {
        "infrared": "harmful"
    }
    assert faults_of(np.zeros_like(bright.visible), bright.infrared) == {"visible": "black"}
    assert watching.in_answer(None, bright.infrared, *answer_of) == {}
    assert watching.in_answer(bright.visible, bright.infrared, None, None) == {}
    assert PairMonitor().in_answer(bright.visible, bright.infrared, *answer_of) == {}
    for size, expected in ((SMALLEST - 1, None), (SMALLEST, "infrared")):
        image = 0.8 + 0.19 * picture()[:size]
        seen = answer_of[0][:size], answer_of[1][:size]
        assert hand_made("infrared").harmful(np.dstack([image] * 3), image, *seen) == expected


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of random weights that finds bright infrared harmful."""
    pairs = open_pairs(DATA, "test")
    assert pairs.classes is not None
    folder = tmp_path_factory.mktemp("run")
    torch.manual_seed(0)
    system = build("csknet", len(pairs.classes), **TINY)
    card = make_card(system, pairs.classes, "full-range", {})
    card.monitor = hand_made("infrared").to_fields()
    save_run(folder, system, card)
    return folder


@pytest.fixture(scope="module")
def watching(run: Path) -> Predictor:
    return load(run, device="cpu", monitor=True)


def test_a_card_keeps_its_monitor_and_one_without_is_as_before(run: Path) -> None:
    card = read_card(run)
    assert card.monitor == hand_made("infrared").to_fields()
    card.monitor = None
    fields = json.loads(card.to_json())
    assert "monitor" not in fields
    assert Card.from_fields(fields).monitor is None


def test_a_predictor_asks_the_runs_own_monitor(run: Path, watching: Predictor) -> None:
    pair = open_pairs(DATA, "test")[0]
    bright = brightened(pair, "infrared")
    found = watching.predict(bright)
    assert (found.bands, found.faults) == ("visible", {"infrared": "harmful"})
    plain = load(run, device="cpu")
    np.testing.assert_array_equal(found.labels, plain.predict(bright.only("visible")).labels)
    assert plain.predict(bright).bands == "both"


class Bright(TwoBands):
    """Every second pair of a list has bright infrared."""

    def __init__(self, pairs: Pairs):
        super().__init__(len(pairs))
        self.pairs, self.classes = pairs, pairs.classes

    def __getitem__(self, index: int) -> Pair:
        pair = self.pairs[index]
        return brightened(pair, "infrared") if index % 2 else replace(pair, infrared=0.3 * pair.infrared)


def test_what_is_left_out_is_counted(watching: Predictor, tmp_path: Path) -> None:
    pairs = Bright(open_pairs(DATA, "test"))
    found = evaluate(watching.system, pairs, bands=["both", "infrared"], monitor=watching.monitor or False)
    assert found.dropped == {
        "both": {"visible": 0, "infrared": 2},
        "infrared": {"visible": 0, "infrared": 0},
    }
    assert "left out visible of 0 and infrared of 2 of 4 pairs" in evaluation_text(found)
    assert evaluate(watching.system, pairs, bands=["both"]).dropped == {}
    wanted = conditions(watching.system, pairs, ["fog"], [1, 5])
    *_, told = assess(watching.system, pairs, wanted, monitor=watching.monitor)
    assert set(told.dropped) == {"clean", "fog/1", "fog/5"}
    assert told.dropped["clean"] == {"visible": 0, "infrared": 2}
    assert "0 + 2" in robustness_text({"x": told})
    header, first = robustness_csv({"x": told}).splitlines()[:2]
    assert header.endswith("visible_dropped,infrared_dropped")
    assert first.endswith(",0,2")
    write_progress(tmp_path / "x.json", told)
    assert read_robustness(tmp_path / "x.json") == told


class PartlySeen(PairView):
    """Pairs whose left half only one camera of a rig saw."""

    def __getitem__(self, index: int) -> Pair:
        pair = super().__getitem__(index)
        valid = np.ones(pair.size, bool)
        valid[:, : pair.size[1] // 2] = False
        assert pair.label is not None
        return replace(pair, label=np.where(valid, pair.label, np.uint8(IGNORE_INDEX)), valid=valid)


class Asked(PairMonitor):
    """A monitor that keeps what it is asked about, and finds nothing."""

    def __init__(self) -> None:
        super().__init__(hand_made("infrared"))
        self.answers: list[tuple[np.ndarray, np.ndarray]] = []

    def in_answer(self, visible: Any, infrared: Any, labels: Any, confidence: Any) -> dict[Band, Fault]:
        self.answers.append((labels.copy(), confidence.copy()))
        return {}


@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_monitor_is_asked_alike_where_scores_are_made_and_where_answers_are(
    run: Path, batch_size: int
) -> None:
    """Of a rig's pair it never sees what the run makes of pixels that only one camera saw."""
    predictor, pairs = load(run, device="cpu"), PartlySeen(open_pairs(DATA, "test"))
    scoring = Asked()
    evaluate(predictor.system, pairs, bands=["both"], monitor=scoring, batch_size=batch_size)
    predictor.monitor = answering = Asked()
    for pair in pairs:
        predictor.predict(pair)
    assert len(scoring.answers) == len(answering.answers) == len(pairs)
    for (labels, sure), (expected, as_sure) in zip(scoring.answers, answering.answers, strict=True):
        assert (labels[:, :32] == IGNORE_INDEX).all()
        np.testing.assert_array_equal(labels, expected)
        np.testing.assert_allclose(sure, as_sure, atol=1e-5)


def test_a_monitor_learns_from_answers_as_it_will_see_them(run: Path) -> None:
    predictor, pairs = load(run, device="cpu"), PartlySeen(open_pairs(DATA, "test"))
    assert pairs.classes is not None
    found = answer(predictor.system, pairs, pictures=8)
    seen = predictor.predict(pairs[0])
    assert seen.labels is not None
    assert seen.confidence is not None
    told = answer_statistics(seen.labels, seen.confidence, len(pairs.classes))
    whole = dict(zip(found.names, found.statistics[0], strict=True))
    assert {name: whole[name] for name in told} == pytest.approx(told, abs=1e-5)


def test_a_switch_waits_for_faults_that_follow_each_other() -> None:
    switch = BandSwitch()
    assert switch.note("harmful").on
    assert switch.note(None).on
    assert [switch.note("harmful").on for _ in range(3)] == [True, False, False]
    assert [switch.note(None).on for _ in range(5)] == [False] * 4 + [True]
    assert all(BandSwitch(ignore=["harmful"]).note("harmful").on for _ in range(3))


def test_a_stream_turns_a_harmful_band_off_and_on_again(watching: Predictor) -> None:
    pair = open_pairs(DATA, "test")[0]
    rng = np.random.default_rng(0)

    def camera(band: str) -> RecordedCamera:
        image = np.asarray(getattr(pair, band))

        def frame(number: int) -> np.ndarray:
            moved = np.roll(image, number, axis=1) * (1.0 if band == "visible" else 0.3)
            if band == "infrared" and 4 <= number < 9:
                moved = 0.8 + 0.19 * np.roll(image, number, axis=1)
            noisy = moved + rng.normal(0, 0.004, image.shape)
            top, kind = (255, np.uint8) if band == "visible" else (65535, np.uint16)
            return np.rint(noisy.clip(0, 1) * top).astype(kind)

        return RecordedCamera([number * 50_000_000 for number in range(20)], frame)

    moments = list(Stream(watching, camera("visible"), camera("infrared")))
    bands = [moment.prediction.bands for moment in moments if moment.prediction]
    assert bands == ["both"] * 5 + ["visible"] * 8 + ["both"] * 7
    changes = [change for moment in moments for change in moment.changes]
    assert [str(change) for change in changes] == ["infrared off: harmful", "infrared is back"]
    assert moments[6].faults == {"visible": None, "infrared": "harmful"}
    ignoring = Stream(watching, camera("visible"), camera("infrared"), ignore=["harmful"])
    assert {moment.prediction.bands for moment in ignoring if moment.prediction} == {"both"}


def test_a_training_makes_a_monitor_that_every_command_takes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crossband.training.monitoring._MOST_DRAWS", 10)
    recipe = {"epochs": 1, "batch_size": 2}
    options = tiny_options(tmp_path / "run", "csknet", data=DATA, recipe=recipe, band_monitor=True)
    card = read_card(train(options, quiet=True))
    assert card.monitor is not None
    facts = TrainedMonitor.from_fields(card.monitor).facts
    assert facts["pictures"] >= 70
    capsys.readouterr()
    common = ["--data", DATA, "--device", "cpu", "--monitor"]
    assert main(["evaluate", str(tmp_path / "run"), *common]) == 0
    assert "band monitor, both: left out" in capsys.readouterr().out
    scores = tmp_path / "run" / "evaluation-test-monitor"
    assert "dropped" in json.loads((scores / "evaluation.json").read_text())["results"]["both"]
    assert main(["predict", str(tmp_path / "run"), *common, "--out", str(tmp_path / "labels")]) == 0
    assert main(["info", str(tmp_path / "run")]) == 0
    assert "band monitor" in capsys.readouterr().out


def test_fuse_takes_a_monitor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pair = open_pairs(DATA, "test")[0]
    write_image(tmp_path / "visible" / "a.png", np.zeros(pair.visible.shape, np.uint8))
    write_image(tmp_path / "infrared" / "a.png", to_uint8(pair.infrared))
    sides = ["--visible", str(tmp_path / "visible"), "--infrared", str(tmp_path / "infrared")]
    assert main(["fuse", "laplacian", *sides, "--out", str(tmp_path / "fused"), "--monitor"]) == 0
    assert "band monitor: visible black in 1" in capsys.readouterr().out
    told = (tmp_path / "fused" / "faults.csv").read_text().splitlines()[1]
    assert told.startswith("a,visible,black,")


def test_what_cannot_have_a_monitor_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(OptionError, match="deeplabv3plus runs on visible alone, so no band"):
        train(tiny_options(tmp_path / "a", band_monitor=True), quiet=True)
    assert not (tmp_path / "a").exists()
    with pytest.raises(OptionError, match="known by labels only"):
        train(
            tiny_options(tmp_path / "b", "amdanet", without_labels=True, band_monitor=True, network={}),
            quiet=True,
        )
    for changes, message in (
        ({"data": "scenes,train=1,size=32x48", "hold_out": 0.0}, "split train, has 1; leave it out"),
        ({"augmentation": {"scale": [0.5, 1.0]}}, "is seen at 16 x 24 pixels, and 24 a side are needed"),
    ):
        with pytest.raises(OptionError, match=message):
            train(tiny_options(tmp_path / "d", "csknet", band_monitor=True, **changes), quiet=True)
        # Before anything is trained.
        assert not (tmp_path / "d").exists()
    with pytest.raises(OptionError, match="band_monitor must be true or false"):
        tiny_options(tmp_path / "c", band_monitor="yes")
    ray = ["evaluate", "run", "--data", DATA, "--launcher", "ray", "--monitor", "--out", "x"]
    assert "--monitor counts in one process" in refused(ray, capsys)
    assert "--monitor" in refused(["evaluate", "laplacian", "--data", DATA, "--fusion", "--monitor"], capsys)
