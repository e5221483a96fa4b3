"""One pass over labelled pairs, against counts made by scikit-learn, torchmetrics and by hand."""

import csv
import io
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import confusion_matrix as sklearn_confusion
from torch import nn
from torchmetrics.classification import MulticlassJaccardIndex

from crossband.errors import BandError, OptionError, PairError
from crossband.evaluation import ALL, UNSPECIFIED, Evaluation, evaluate
from crossband.metrics import PROTOCOLS
from crossband.pairs.base import Classes, Pair, Pairs
from crossband.report import evaluation_csv, evaluation_dict, evaluation_text
from crossband.systems.base import NetworkSettings, Output, System
from crossband.words import IGNORE_INDEX

NAMES = ("road", "car <b>", "Fußgänger", "rare, very", "never")
CLASSES = Classes(NAMES, ((0, 0, 0), (200, 0, 0), (0, 200, 0), (0, 0, 200), (200, 200, 0)))


class ArrayPairs(Pairs):
    """Pairs held in memory."""

    source, split = "memory:<here>", "test"

    def __init__(self, pairs, classes=CLASSES, bands=("visible", "infrared")):
        self.pairs, self.classes, self.bands = pairs, classes, bands
        self.reads = []

    def __len__(self):
        return len(self.pairs)

    def __getitem__(self, index):
        self.reads.append(index)
        return self.pairs[index]

    def name(self, index):
        return self.pairs[index].name

    def condition(self, index):
        return self.pairs[index].condition


class BrightnessSystem(System):
    """Tells classes apart by brightness: infrared where it is given, else the visible red channel.

    The brightness (id + 0.5) / C gives class id: -(x - m_c)^2 is linear in x up to what all classes share.
    """

    name, summary, paper = "brightness", "", ""
    supports = {"both": "designed", "infrared": "designed", "visible": "fallback"}  # noqa: RUF012
    multiple = 4

    def __init__(self, classes=5):
        super().__init__(classes, NetworkSettings())
        centres = (torch.arange(classes) + 0.5) / classes
        self.head = nn.Conv2d(1, classes, 1)
        self.head.weight.data = 2 * centres.view(-1, 1, 1, 1)
        self.head.bias.data = -(centres**2)
        self.dropout = nn.Dropout(0.9)

    def run(self, visible, infrared, *, features):
        brightness = infrared if infrared is not None else visible[:, :1]
        return Output(logits=self.dropout(self.head(brightness)))

    def deployed(self, bands):
        return [self.head]


def brightness(ids):
    return ((ids + 0.5) / len(CLASSES)).astype(np.float32)


def make_pair(rng, name, size, condition, classes=4):
    """Infrared shows the label with 30 % of its pixels wrong, visible with 60 %."""
    label = rng.integers(0, classes, size).astype(np.uint8)
    shown = []
    for wrong in (0.6, 0.3):
        ids = np.where(rng.random(size) < wrong, rng.integers(0, len(CLASSES), size), label)
        shown.append(ids)
    label[rng.random(size) < 0.1] = IGNORE_INDEX
    visible = np.repeat(brightness(shown[0])[..., None], 3, axis=2)
    return Pair(name, visible, brightness(shown[1]), label, condition), shown


@pytest.fixture
def drawn():
    """Pairs of three sizes and two conditions, and the ids that each band shows."""
    rng = np.random.default_rng(7)
    sizes = [(9, 13), (9, 13), (8, 8), (5, 3), (5, 3)]
    conditions = ["night", "day", "day", "night", "night"]
    made = [
        make_pair(rng, f"p{i}", size, condition)
        for i, (size, condition) in enumerate(zip(sizes, conditions, strict=True))
    ]
    return ArrayPairs([pair for pair, _ in made]), [shown for _, shown in made]


def reference(pairs, predictions):
    """scikit-learn's counts over the pixels of all pairs together."""
    truth = np.concatenate([pair.label.ravel() for pair in pairs])
    guess = np.concatenate([ids.ravel() for ids in predictions])
    counted = truth != IGNORE_INDEX
    return sklearn_confusion(truth[counted], guess[counted], labels=range(len(CLASSES)))


def test_two_pairs_counted_by_hand():
    # truth  0 1 | prediction 0 1        truth 1 1 | prediction 0 1
    #        2 - |            1 2  (- is ignored)
    first = Pair(
        "a",
        None,
        brightness(np.array([[0, 1], [1, 2]])),
        np.array([[0, 1], [2, IGNORE_INDEX]], np.uint8),
        "day",
    )
    second = Pair("b", None, brightness(np.array([[0, 1]])), np.array([[1, 1]], np.uint8), "night")
    pairs = ArrayPairs([first, second], bands=("infrared",))
    result = evaluate(BrightnessSystem(), pairs, bands=["infrared"]).results["infrared"]
    expected = torch.zeros(5, 5, dtype=torch.int64)
    expected[0, 0], expected[1, 1], expected[2, 1], expected[1, 0] = 1, 2, 1, 1
    assert result.confusion.dtype == torch.int64
    assert torch.equal(result.confusion, expected)
    # IoU: 0 is 1/2, 1 is 2/4, 2 is 0/1; classes 3 and 4 occur nowhere.
    assert result.overall.iou[:3] == (0.5, 0.5, 0.0)
    assert all(math.isnan(iou) for iou in result.overall.iou[3:])
    assert result.overall.protocols["present"].mean_iou == pytest.approx(1 / 3)


@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("workers", [0, 2])
def test_every_combination_agrees_with_scikit_learn(drawn, batch_size, workers):
    pairs, shown = drawn
    evaluation = evaluate(
        BrightnessSystem(),
        pairs,
        bands=["both", "infrared", "visible"],
        batch_size=batch_size,
        workers=workers,
    )
    for bands, band in (("both", 1), ("infrared", 1), ("visible", 0)):
        expected = reference(pairs.pairs, [ids[band] for ids in shown])
        assert (evaluation.results[bands].confusion.numpy() == expected).all(), bands
        night = [index for index, pair in enumerate(pairs.pairs) if pair.condition == "night"]
        expected = reference([pairs.pairs[i] for i in night], [shown[i][band] for i in night])
        assert (evaluation.results[bands].confusion_by_condition["night"].numpy() == expected).all()
    assert evaluation.results["visible"].support == "fallback"
    assert evaluation.pairs_by_condition == {"day": 2, "night": 3}


def test_iou_agrees_with_torchmetrics(drawn):
    pairs, shown = drawn
    theirs = MulticlassJaccardIndex(len(CLASSES), average="none", ignore_index=IGNORE_INDEX)
    for pair, (_, ids) in zip(pairs.pairs, shown, strict=True):
        theirs.update(torch.from_numpy(ids), torch.from_numpy(pair.label))
    ours = evaluate(BrightnessSystem(), pairs, bands=["infrared"]).results["infrared"].overall.iou
    assert ours == pytest.approx(theirs.compute().tolist(), abs=1e-6)


def test_conditions_sum_to_the_whole(drawn):
    for result in evaluate(BrightnessSystem(), drawn[0], bands=["both", "visible"]).results.values():
        assert torch.equal(sum(result.confusion_by_condition.values()), result.confusion)


def test_each_pair_is_read_once_whatever_is_asked_for(drawn):
    pairs, _ = drawn
    seen = []
    evaluate(
        BrightnessSystem(),
        pairs,
        bands=["both", "infrared", "visible"],
        progress=lambda done, total: seen.append((done, total)),
    )
    assert pairs.reads == [0, 1, 2, 3, 4]
    assert seen == [(done, 5) for done in range(1, 6)]


def test_a_condition_named_all_is_not_all_pairs(drawn):
    pairs = ArrayPairs(
        [replace(pair, condition=pair.condition.replace("day", "all")) for pair in drawn[0].pairs]
    )
    evaluation = evaluate(BrightnessSystem(), pairs, bands=["both"])
    assert {scope.condition: scope.pairs for scope in evaluation.scopes()} == {
        ALL: 5,
        "all (condition)": 2,
        "night": 3,
    }
    rows = csv.DictReader(io.StringIO(evaluation_csv(evaluation)))
    assert {row["condition"]: row["pairs"] for row in rows} == {
        "all": "5",
        "all (condition)": "2",
        "night": "3",
    }
    assert list(evaluation_dict(evaluation)["results"]["both"]["by_condition"]) == [
        "all (condition)",
        "night",
    ]


def test_pairs_without_conditions_are_not_split(drawn):
    pairs, _ = drawn
    plain = ArrayPairs([replace(pair, condition=None) for pair in pairs.pairs])
    for evaluation in (
        evaluate(BrightnessSystem(), plain, bands=["both"]),
        evaluate(BrightnessSystem(), pairs, bands=["both"], by=None),
    ):
        assert evaluation.pairs_by_condition == {}
        assert evaluation.results["both"].by_condition == {}
        assert evaluation.results["both"].confusion.sum() > 0


def test_a_pair_without_a_condition_among_others_is_not_lost(drawn):
    pairs, _ = drawn
    mixed = ArrayPairs([replace(pairs.pairs[0], condition=None), *pairs.pairs[1:]])
    evaluation = evaluate(BrightnessSystem(), mixed, bands=["both"], batch_size=2)
    assert evaluation.pairs_by_condition == {"day": 2, "night": 2, UNSPECIFIED: 1}
    result = evaluation.results["both"]
    assert torch.equal(sum(result.confusion_by_condition.values()), result.confusion)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_autocast_is_used_and_agrees(drawn, precision):
    pairs, _ = drawn
    system, dtypes = BrightnessSystem(), []
    system.head.register_forward_hook(lambda *args: dtypes.append(args[2].dtype))
    low = evaluate(system, pairs, bands=["both"], precision=precision).results["both"].overall
    assert set(dtypes) == {getattr(torch, precision)}
    full = evaluate(system, pairs, bands=["both"]).results["both"].overall
    assert low.pixel_accuracy == pytest.approx(full.pixel_accuracy, abs=0.01)


def test_the_system_is_in_eval_mode_and_then_as_before(drawn):
    pairs, _ = drawn
    system = BrightnessSystem().train()
    system.head.eval()
    inside = []
    system.dropout.register_forward_hook(lambda module, *_: inside.append(module.training))
    evaluate(system, pairs, bands=["both"])
    assert inside == [False] * 5
    assert (system.training, system.dropout.training, system.head.training) == (True, True, False)

    broken = ArrayPairs([replace(pairs.pairs[0], label=None)])
    with pytest.raises(PairError):
        evaluate(system, broken, bands=["both"])
    assert (system.training, system.dropout.training, system.head.training) == (True, True, False)


def test_no_gradients_are_kept(drawn):
    system, grads = BrightnessSystem(), []
    system.head.register_forward_hook(lambda *args: grads.append(args[2].requires_grad))
    evaluate(system, drawn[0], bands=["both"])
    assert grads == [False] * 5


class NoLogits(BrightnessSystem):
    def run(self, visible, infrared, *, features):
        return Output(fused=visible)


class Diverged(BrightnessSystem):
    def run(self, visible, infrared, *, features):
        return Output(logits=super().run(visible, infrared, features=features).logits * math.nan)


class InfraredOnly(BrightnessSystem):
    supports = {"infrared": "designed"}  # noqa: RUF012


class HeldSystem:
    """What a predictor is to an evaluation."""

    def __init__(self):
        self.system = BrightnessSystem()


@pytest.mark.parametrize("device", ["nowhere", "meta"])
def test_a_device_that_is_not_there_leaves_a_system_as_it_was(drawn, device):
    pairs, _ = drawn
    system = BrightnessSystem().train()
    with pytest.raises(OptionError, match=f"cannot compute on device {device}"):
        evaluate(system, pairs, bands=["both"], device=device)
    assert all(module.training for module in system.modules())
    assert pairs.reads == []


def test_a_system_that_cannot_be_moved_is_left_as_it_was(drawn, monkeypatch):
    system = BrightnessSystem().train()
    home, asked = system.to, []

    def full(device):
        asked.append(device)
        if len(asked) == 1:
            raise RuntimeError("out of memory")
        return home(device)

    monkeypatch.setattr(system, "to", full)
    modes = [module.training for module in system.modules()]
    with pytest.raises(RuntimeError, match="out of memory"):
        evaluate(system, drawn[0], bands=["both"])
    assert [module.training for module in system.modules()] == modes


def test_requests_that_cannot_be_served_are_one_clear_line(drawn):
    pairs, _ = drawn
    unlabelled = ArrayPairs([*pairs.pairs[:1], replace(pairs.pairs[1], label=None)])
    cases = [
        (InfraredOnly(), pairs, {"bands": ["infrared", "both"]}, BandError, "cannot run on both bands"),
        (
            BrightnessSystem(),
            ArrayPairs(pairs.pairs, bands=("infrared",)),
            {},
            BandError,
            "no visible images",
        ),
        (BrightnessSystem(), ArrayPairs(pairs.pairs, classes=None), {}, PairError, "has no labels"),
        (BrightnessSystem(), unlabelled, {}, PairError, "'p1'.*has no label"),
        (BrightnessSystem(), ArrayPairs([]), {}, PairError, "has no pairs"),
        (NoLogits(), pairs, {}, OptionError, "only fuses"),
        (Diverged(), pairs, {}, OptionError, "NaN on both for p0"),
        (BrightnessSystem(classes=3), pairs, {}, OptionError, "3 classes apart, but the labels have 5"),
        (BrightnessSystem(), pairs, {"bands": []}, OptionError, "no band combination"),
        (BrightnessSystem(), pairs, {"by": "weather"}, OptionError, "'weather'"),
        (BrightnessSystem(), pairs, {"precision": "int8"}, OptionError, "unknown precision 'int8'"),
        (BrightnessSystem(), pairs, {"bands": "both"}, OptionError, r"in a list, such as \['both'\], not"),
        (BrightnessSystem(), pairs, {"device": "nowhere"}, OptionError, "cannot compute on device nowhere"),
        (
            HeldSystem(),
            pairs,
            {},
            OptionError,
            r"system is a HeldSystem: give .* `crossband.load\(run\).system`",
        ),
    ]
    for system, data, options, error, message in cases:
        with pytest.raises(error, match=message) as caught:
            evaluate(system, data, **{"bands": ["both"], **options})
        assert "\n" not in str(caught.value)


def test_a_compiled_system_is_scored_as_it_is(drawn):
    system = BrightnessSystem()
    compiled = evaluate(torch.compile(system, backend="eager"), drawn[0], bands=["both"])
    plain = evaluate(system, drawn[0], bands=["both"])
    assert torch.equal(compiled.results["both"].confusion, plain.results["both"].confusion)


def test_bands_are_checked_before_anything_is_read(drawn):
    pairs, _ = drawn
    with pytest.raises(BandError):
        evaluate(InfraredOnly(), pairs, bands=["infrared", "visible"])
    assert pairs.reads == []


@pytest.fixture
def evaluation(drawn) -> Evaluation:
    found = evaluate(BrightnessSystem(), drawn[0], bands=["both", "visible"])
    found.provenance["command"] = 'crossband evaluate "runs/a & b"'
    return found


def test_json_is_strict_and_holds_the_counts(evaluation):
    text = json.dumps(evaluation_dict(evaluation), allow_nan=False)
    document = json.loads(text)
    both = document["results"]["both"]
    confusion = np.array(both["overall"]["confusion"])
    assert (confusion == evaluation.results["both"].confusion.numpy()).all()
    assert both["overall"]["accuracy"][4] is None, "a class without truth has no accuracy"
    for protocol in PROTOCOLS:
        score = both["by_condition"]["day"]["mean_iou"][protocol]
        assert score["classes_averaged"] == len(score["ids"])
    assert document["results"]["visible"]["support"] == "fallback"
    assert document["classes"]["names"] == list(NAMES)
    assert document["provenance"] == {"command": 'crossband evaluate "runs/a & b"'}


def test_csv_holds_every_number(evaluation):
    rows = list(csv.DictReader(io.StringIO(evaluation_csv(evaluation))))
    scopes = 2 * 3
    assert len(rows) == scopes * (len(PROTOCOLS) + 2 + 3 * len(CLASSES))
    by_key = {
        (row["bands"], row["condition"], row["measure"], row["protocol"], row["class_id"]): row
        for row in rows
    }
    assert len(by_key) == len(rows)
    day = evaluation.results["both"].by_condition["day"]
    row = by_key["both", "day", "iou", "", "3"]
    assert row["class"] == "rare, very"
    assert float(row["value"]) == day.iou[3]
    row = by_key["both", "day", "mean_iou", "no-background", ""]
    assert (float(row["value"]), row["classes_averaged"], row["pairs"]) == (
        day.protocols["no-background"].mean_iou,
        "3",
        "2",
    )
    assert by_key["visible", ALL, "pixels", "", "4"]["value"] == "0"
    assert by_key["visible", ALL, "accuracy", "", "4"]["value"] == ""


def test_csv_runs_no_class_name(evaluation):
    names = ("=1+1", *evaluation.classes.names[1:])
    table = evaluation_csv(replace(evaluation, classes=replace(evaluation.classes, names=names)))
    assert {row["class"] for row in csv.DictReader(io.StringIO(table))} == {"", "'=1+1", *names[1:]}


def test_text_tells_every_protocol_with_its_classes_and_names_the_fallback(evaluation):
    text = evaluation_text(evaluation, "all-zero")
    both = evaluation.results["both"].overall
    for protocol in PROTOCOLS:
        score = both.protocols[protocol]
        assert f"{100 * score.mean_iou:.2f} ({score.classes_averaged})" in text
    lines = text.splitlines()
    columns = next(line for line in lines if "all-nan" in line)
    assert lines[0] == "brightness on memory:<here>"
    assert columns.split()[3] == "all-zero", "the chosen protocol is the first column of scores"
    assert "visible (fallback)" in text
    for name, pixels in zip(NAMES, both.support, strict=True):
        line = next(line for line in lines if line.startswith(name))
        assert f" {pixels:,} " in line
    with pytest.raises(OptionError, match="unknown protocol 'mean'"):
        evaluation_text(evaluation, "mean")


def test_old_methods_say_what_the_report_says_and_warn(evaluation, tmp_path):
    for call, expected in (
        (lambda: evaluation.to_text("all-zero"), evaluation_text(evaluation, "all-zero")),
        (evaluation.to_csv, evaluation_csv(evaluation)),
        (evaluation.to_dict, evaluation_dict(evaluation)),
    ):
        with pytest.warns(DeprecationWarning, match=r"Evaluation\.to_\w+ is deprecated: use crossband"):
            assert call() == expected
    with pytest.warns(DeprecationWarning, match=r"use crossband\.report\.write_evaluation"):
        evaluation.write(tmp_path / "new" / "folder")
    folder = tmp_path / "new" / "folder"
    assert json.loads((folder / "evaluation.json").read_text("utf-8")) == evaluation_dict(evaluation)
    assert (folder / "evaluation.csv").read_text("utf-8") == evaluation_csv(evaluation)
    assert (folder / "evaluation.txt").read_text("utf-8") == evaluation_text(evaluation)
