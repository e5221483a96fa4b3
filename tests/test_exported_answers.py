"""Exported graphs in place of a run: what is told of them, and where they would answer otherwise."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from command_line import refused
from crossband.cli import main
from crossband.errors import OptionError
from crossband.evaluation import evaluate
from crossband.evaluation.passing import check_exported
from crossband.evaluation.robustness import Condition, assess
from crossband.pairs.base import Classes, Listed, Pairs
from crossband.pairs.opening import open_pairs
from crossband.predicting import predict_files
from crossband.predictor import Predictor
from crossband.report import evaluation_text
from crossband.report.evaluation_files import evaluation_dict
from crossband.result_folder import read_manifest
from crossband.runtime.exported import Exported
from crossband.runtime.graph_card import GraphCard
from crossband.stream.stream import Stream
from crossband.weights import make_card
from crossband.words import ExportPrecision
from simulated_cameras import camera
from tiny_systems import csknet
from unaligned import a_rig, write_unaligned

SCENES = "scenes,train=0,val=0,test=1,size=32x48"
CONTRAST = Condition("infrared", "contrast-collapse", 5)
OF_EACH = ["minmax", "percentile(1, 99)"]
OF_ALL = ["full-range", "fixed(0, 30000)"]


class Constant:
    """A session of a graph that says 0 everywhere."""

    runtime, device, precision = "onnxruntime", "cpu", "fp32"

    def __init__(self, card: GraphCard):
        self.card = card

    def run(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        shape = arrays["infrared"].shape
        return {"labels": np.zeros(shape, np.uint8), "confidence": np.ones(shape, np.float32)}


def exported(rule: str, classes: Classes, precision: ExportPrecision = "fp32") -> Exported:
    card = GraphCard(
        run=make_card(csknet(), classes, rule, {}),
        bands="both",
        support="designed",
        types={"visible": "uint8", "infrared": "uint16"},
        outputs=("labels", "confidence"),
        format_of_file="onnx",
        precision=precision,
    )
    return Exported({"both": (Path("both.onnx"), card)}, sessions={"both": Constant(card)})


@pytest.fixture(scope="module")
def pairs() -> Pairs:
    return open_pairs(SCENES, "test")


def classes_of(pairs: Pairs) -> Classes:
    assert pairs.classes is not None
    return pairs.classes


@pytest.mark.parametrize(
    ("precision", "told"),
    [("fp32", "float32"), ("bf16", "bfloat16"), ("fp16", "fp16"), ("int8", "int8")],
)
def test_results_are_of_the_precision_of_the_graph(
    precision: ExportPrecision, told: str, pairs: Pairs, tmp_path: Path
) -> None:
    system = exported("full-range", classes_of(pairs), precision)
    evaluation = evaluate(system, pairs, bands=["both"], device="cpu")
    assert evaluation_dict(evaluation)["precision"] == told
    assert f", {told}\n" in evaluation_text(evaluation)
    predict_files(Predictor(system, system.card), [Listed("0", pairs, 0)], tmp_path)
    manifest = read_manifest(tmp_path)
    assert manifest is not None
    assert manifest.precision == told
    other = exported("full-range", classes_of(pairs), "fp16" if precision == "int8" else "int8")
    with pytest.raises(OptionError, match=f"with precision {told}, not "):
        predict_files(Predictor(other, other.card), [Listed("0", pairs, 0)], tmp_path)


@pytest.mark.parametrize("rule", OF_EACH)
def test_what_a_graph_would_undo_is_not_scored(rule: str, pairs: Pairs) -> None:
    system = exported(rule, classes_of(pairs))
    with pytest.raises(OptionError, match="score the run that it was made of"):
        next(assess(system, pairs, [CONTRAST], device="cpu"))
    assert list(assess(system, pairs, [Condition("visible", "fog", 1)], device="cpu"))


def test_a_file_that_cannot_be_scored_is_told_before_another_one_is(
    pairs: Pairs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    classes = classes_of(pairs)
    fewer = Classes(classes.names[:2], classes.palette[:2])
    files = {"good.onnx": ("full-range", classes), "other.onnx": ("full-range", fewer)}
    files["undoes.onnx"] = ("minmax", classes)
    opened = []

    def load(run: str, **how: object) -> Predictor:
        opened.append(run)
        system = exported(*files[run])
        return Predictor(system, system.card)

    monkeypatch.setattr("crossband.loading.load", load)
    monkeypatch.chdir(tmp_path)
    arguments = [
        "--data",
        SCENES,
        "--workers",
        "0",
        "--corruptions",
        "contrast-collapse",
        "--severities",
        "5",
    ]
    assert "trained on 2 classes" in refused(["robustness", "good.onnx", "other.onnx", *arguments], capsys)
    said = refused(["robustness", "good.onnx", "undoes.onnx", *arguments], capsys)
    assert "score the run that it was made of" in said
    assert not any(tmp_path.iterdir())
    opened.clear()
    assert main(["robustness", "good.onnx", *arguments]) == 0
    assert opened == ["good.onnx"]


@pytest.mark.parametrize("rule", OF_ALL)
def test_graphs_of_one_rule_for_all_images_are_scored(rule: str, pairs: Pairs) -> None:
    *_, found = assess(exported(rule, classes_of(pairs)), pairs, [CONTRAST], device="cpu")
    assert set(found.scores) == {CONTRAST.key}


@pytest.mark.parametrize("rule", OF_EACH)
def test_smoothing_that_a_graph_would_undo_is_refused(rule: str, pairs: Pairs) -> None:
    system = exported(rule, classes_of(pairs))
    predictor = Predictor(system, system.card)
    cameras = {"visible": camera("visible", 10, 1, None), "infrared": camera("infrared", 10, 1, None)}
    with pytest.raises(OptionError, match="leave out --smooth_scaling"):
        Stream(predictor, **cameras, smooth_scaling=3)
    Stream(predictor, **cameras)


@pytest.mark.parametrize("rule", [*OF_EACH, *OF_ALL])
def test_answers_that_a_rig_makes_others_are_warned_of(rule: str, pairs: Pairs, tmp_path: Path) -> None:
    rig = tmp_path / "rig.json"
    rig.write_text(a_rig().to_json())
    folder = write_unaligned(tmp_path / "pairs", 1)
    registered = open_pairs(f"folder:{folder},rig={rig}", "train", labels=False)
    system = exported(rule, classes_of(pairs))

    def told(what: Callable[[], object]) -> int:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            what()
        return sum("of what the rig leaves of an image" in str(one.message) for one in caught)

    ways: list[Callable[[], object]] = [
        lambda: Predictor(system, system.card, rig=rig),
        lambda: check_exported(system, "float32", registered),
        lambda: predict_files(Predictor(system, system.card), [Listed("0", registered, 0)], tmp_path / "out"),
    ]
    assert [told(way) for way in ways] == [int(rule in OF_EACH)] * 3
    assert told(lambda: check_exported(system, "float32", pairs)) == 0
