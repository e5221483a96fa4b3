"""What a person sees of an evaluation: chosen pairs, intervals, provenance, the index of runs."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from command_line import refused
from crossband.card_words import kept_words, recipe_words, training_words
from crossband.cli import main
from crossband.evaluation import evaluate
from crossband.evaluation.choosing import chosen_pairs
from crossband.evaluation.pair_counts import PairCounts
from crossband.metrics import PROTOCOLS
from crossband.metrics.resampling import class_iou_intervals, interval, mean_iou_intervals
from crossband.pairs.base import Classes, Pair
from crossband.pairs.opening import open_pairs
from crossband.prediction import Prediction
from crossband.predictor import Predictor
from crossband.report import per_class_iou_chart
from crossband.report.charts import mean_iou_chart
from crossband.report.index_html import find_results, index_page
from crossband.reproduce.folders import TABLES_NAME, run_of, scores_of
from crossband.reproduce.jobs import Scoring
from crossband.weights import make_card, save_run
from tiny_runs import TINY_DATA
from tiny_systems import build

CLASSES = Classes(("road", "car"), ((0, 0, 0), (200, 0, 0)))


def counts_with(shares: list[float | None]) -> PairCounts:
    """Pairs of two classes with 100 pixels each, of which a share is right; None: nothing was counted."""
    matrices = np.zeros((len(shares), 2, 2), np.int32)
    for pair, share in enumerate(shares):
        if share is not None:
            right = round(100 * share)
            matrices[pair] = [[right, 100 - right], [100 - right, right]]
    names = tuple(f"p{pair}" for pair in range(len(shares)))
    return PairCounts("memory", "test", CLASSES, names, ("day",) * len(shares), {"both": matrices})


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_pair_on_which_nothing_was_counted_is_never_shown(protocol: str) -> None:
    chosen = chosen_pairs(counts_with([0.5, None, 0.1, 0.6]), "both", protocol=protocol)
    assert sorted(one.name for one in chosen) == ["p0", "p2", "p3"]


def test_the_worst_the_typical_and_the_best_are_chosen() -> None:
    shares: list[float | None] = [0.5, 0.9, None, 0.1, 0.6, 0.2, 0.7, 0.4]
    chosen = chosen_pairs(counts_with(shares), "both", each=2)
    assert [(one.kind, one.name) for one in chosen] == [
        *(("worst", "p3"), ("worst", "p5")),
        *(("typical", "p7"), ("typical", "p0")),
        *(("best", "p1"), ("best", "p6")),
    ]
    # Both classes: 10 right of 100 + 100 - 10.
    assert chosen[0].mean_iou == pytest.approx(10 / 190)


@pytest.mark.parametrize(
    ("number", "each", "kinds"),
    [
        (0, 3, []),
        (1, 3, ["typical"]),
        (2, 3, ["worst", "best"]),
        (5, 3, ["worst", "typical", "best"]),
        (9, 0, []),
    ],
)
def test_no_pair_is_chosen_twice(number: int, each: int, kinds: list[str]) -> None:
    chosen = chosen_pairs(counts_with([0.1 * (place + 1) for place in range(number)]), "both", each=each)
    assert [one.kind for one in chosen] == kinds
    assert len({one.index for one in chosen}) == len(chosen)


def test_a_class_has_the_interval_that_the_bootstrap_of_its_iou_has() -> None:
    rng = np.random.default_rng(3)
    matrices = rng.integers(1, 60, size=(30, 2, 2)).astype(np.int32)
    found = class_iou_intervals(matrices)
    # The same replicates as those of the mean IoU: drawn here pair by pair, in words of its own.
    draws = np.random.default_rng(0).multinomial(30, np.full(30, 1 / 30), size=2000)
    summed = np.einsum("rn,nij->rij", draws, matrices)
    right = summed[:, 1, 1]
    ious = right / (summed[:, 1, :].sum(1) + summed[:, :, 1].sum(1) - right)
    assert (found[1].low, found[1].high) == pytest.approx(tuple(np.quantile(ious, [0.025, 0.975])))
    mean = mean_iou_intervals(matrices)["present"]
    assert mean.value == pytest.approx((found[0].value + found[1].value) / 2)
    assert np.isnan(class_iou_intervals(matrices[:1])[0].low)


def test_lines_over_bars_are_the_intervals() -> None:
    bars = [interval(0.5, np.array([0.4, 0.6])), interval(np.nan, np.array([np.nan]))]
    (axes,) = mean_iou_chart({"both": bars}, ["all", "night"]).axes
    (lines,) = axes.collections
    start, end = lines.get_segments()[0]
    assert (start[0], end[0]) == pytest.approx((40.25, 59.75), abs=0.3)
    assert [text.get_text() for text in axes.texts] == ["50.0", "–"]


@pytest.mark.parametrize("names", [["a", "b"], [f"DeepLabV3+ number {n} on both" for n in range(7)]])
def test_no_legend_is_wider_than_its_chart(names: list[str]) -> None:
    bars = [interval(0.5, np.array([0.4, 0.6]))]
    figure = mean_iou_chart(dict.fromkeys(names, bars), ["all"])
    figure.canvas.draw()
    (legend,) = figure.legends
    box = legend.get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.width
    assert box.height < figure.bbox.height / 2


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with random weights, as a training leaves it."""
    folder = tmp_path_factory.mktemp("runs") / "one"
    pairs = open_pairs(TINY_DATA, "test")
    assert pairs.classes is not None
    system = build("csknet", len(pairs.classes), encoder="test_efficientnet", decoder_channels=16)
    training = {
        "data": TINY_DATA,
        "split": "train",
        "pairs": 7,
        "checkpoint": {"teacher": {"reused": "runs/t"}, "student": {"chosen_by": "last epoch", "epoch": 2}},
        "recipes": {"student": {"epochs": 2, "batch_size": 2, "lr": 0.005, "schedule": "poly"}},
        "seed": 3,
    }
    save_run(folder, system, make_card(system, pairs.classes, "full-range", training))
    return folder


def test_the_page_shows_chosen_pairs_and_says_where_numbers_come_from(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["evaluate", str(run), "--data", TINY_DATA, "--device", "cpu", "--workers", "0"]
    assert main([*arguments, "--examples", "1"]) == 0
    html = (run / "evaluation-test" / "evaluation.html").read_text(encoding="utf-8")
    # Of three pairs: visible, infrared, label, and prediction and errors given both, infrared and visible.
    assert html.count("data:image/") == 3 * (3 + 3 * 2)
    for heading in ("Worst", "Typical: around the median", "Best"):
        assert f"<h3>{heading}</h3>" in html
    counts = evaluate_again(run)
    for one in chosen_pairs(counts, "both", each=1):
        assert f"{one.name} ({one.condition}): {100 * one.mean_iou:.2f} %" in html
    assert "<dt>kept, phase student</dt><dd>epoch 2, last epoch</dd>" in html
    assert "<summary>training</summary>" in html
    assert "{&quot;" not in html
    assert main([*arguments, "--examples", "0"]) == 0
    assert "data:image/" not in (run / "evaluation-test" / "evaluation.html").read_text(encoding="utf-8")
    capsys.readouterr()
    assert "--examples must be at least 0" in refused([*arguments, "--examples", "-1"], capsys)
    assert "--examples 2 does not apply" in refused([*arguments, "--fusion", "--examples", "2"], capsys)


def test_what_is_shown_is_computed_as_what_was_scored(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    precisions, predict = [], Predictor.predict

    def recorded(predictor: Predictor, pair: Pair) -> Prediction:
        precisions.append(predictor.precision)
        return predict(predictor, pair)

    monkeypatch.setattr(Predictor, "predict", recorded)
    arguments = ["--data", TINY_DATA, "--device", "cpu", "--workers", "0", "--examples", "1"]
    assert main(["evaluate", str(run), "--bands", "infrared", "--precision", "bfloat16", *arguments]) == 0
    assert set(precisions) == {"bfloat16"}


def test_scores_of_another_precision_do_not_replace_those_without(run: Path) -> None:
    arguments = ["evaluate", str(run), "--data", TINY_DATA, "--bands", "infrared", "--device", "cpu"]
    arguments += ["--workers", "0", "--examples", "0"]
    assert main(arguments) == 0
    kept = (run / "evaluation-test" / "evaluation.json").read_bytes()
    assert main([*arguments, "--precision", "bfloat16"]) == 0
    assert (run / "evaluation-test" / "evaluation.json").read_bytes() == kept
    rough = json.loads((run / "evaluation-test-bfloat16" / "evaluation.json").read_text(encoding="utf-8"))
    assert rough["precision"] == "bfloat16"


def evaluate_again(run: Path) -> PairCounts:
    from crossband.loading import load

    found = evaluate(load(run, device="cpu").system, open_pairs(TINY_DATA, "test"), bands=["both"])
    assert found.counts is not None
    assert set(found.condition_intervals["both"]) == set(found.pairs_by_condition)
    assert len(found.class_intervals["both"]) == len(found.classes)
    # Where nobody kept what each pair counts, there is nothing to draw from.
    without = replace(found, counts=None)
    assert without.class_intervals == without.condition_intervals == {}
    return found.counts


def test_one_page_over_several_runs(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = run.parent
    arguments = ["--data", TINY_DATA, "--device", "cpu", "--workers", "0", "--examples", "0"]
    assert main(["evaluate", str(run), *arguments]) == 0
    other = folder / "other" / "scores"
    other.mkdir(parents=True)
    (other / "comparison.html").touch()
    (other / "evaluation.json").write_text("{}")
    (folder / "bare").mkdir(exist_ok=True)
    (folder / "bare" / "card.json").write_text((run / "card.json").read_text())
    capsys.readouterr()
    assert main(["report", str(folder)]) == 0
    out, err = capsys.readouterr()
    assert out == f"written: {folder / 'index.html'}\n"
    assert "evaluation.json holds no evaluation of ours" in err
    html = (folder / "index.html").read_text(encoding="utf-8")
    links = re.findall(r'href="([^"#]+)"', html)
    assert {"one/evaluation-test/evaluation.html", "other/scores/comparison.html"} <= set(links)
    assert all((folder / link).is_file() for link in links)
    document = json.loads((run / "evaluation-test" / "evaluation.json").read_text("utf-8"))
    for found in document["results"].values():
        assert f"{100 * found['overall']['mean_iou']['present']['value']:.2f}" in html
    assert f"crossband evaluate {folder / 'bare'} --data" in html
    assert f"crossband evaluate {folder / 'one'} --data" not in html


def test_tables_of_papers_and_their_runs_are_told_on_the_index(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    papers = tmp_path / "papers"
    for seed, scored in ((0, True), (1, False)):
        job = f"scenes/csknet-1a2b3c4d/seed{seed}"
        run_of(papers, job).mkdir(parents=True)
        shutil.copyfile(run / "card.json", run_of(papers, job) / "card.json")
        if scored:
            scores_of(papers, job, Scoring("infrared")).write_text("{}")
    (papers / TABLES_NAME).mkdir()
    for name in ("csknet-table-3.html", "csknet-table-3.csv", "notes.html"):
        (papers / TABLES_NAME / name).touch()
    assert main(["report", str(tmp_path)]) == 0
    capsys.readouterr()
    html = (tmp_path / "index.html").read_text("utf-8")
    page = "papers/tables/csknet-table-3"
    assert re.findall(r'href="([^"#]+)"[^>]*>([^<]+)', html) == [(f"{page}.html", page)]
    assert "table of a paper" in html
    assert re.findall(r"crossband evaluate (\S+)", html) == [str(run_of(papers, job))]


def test_a_run_that_only_fuses_is_told_how_its_pictures_are_scored(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    card = {**json.loads((run / "card.json").read_text("utf-8")), "classes": None}
    for name in ("my fuser", "scored"):
        (tmp_path / name / "fusion-test").mkdir(parents=True)
        (tmp_path / name / "card.json").write_text(json.dumps(card))
    (tmp_path / "scored" / "fusion-test" / "fusion.html").touch()
    assert main(["report", str(tmp_path)]) == 0
    html = unescape((tmp_path / "index.html").read_text("utf-8"))
    assert re.findall("crossband evaluate (.*) --data SOURCE", html) == [f"'{tmp_path}/my fuser' --fusion"]


def test_a_variant_is_named_beside_its_system(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, variant in (("one", "firm"), ("two", None)):
        shutil.copytree(run, tmp_path / name, ignore=shutil.ignore_patterns("evaluation-*"))
        card = tmp_path / name / "card.json"
        card.write_text(json.dumps({**json.loads(card.read_text("utf-8")), "variant": variant}))
        arguments = ["--data", TINY_DATA, "--device", "cpu", "--workers", "0", "--examples", "0"]
        assert main(["evaluate", str(tmp_path / name), "--bands", "infrared", *arguments]) == 0
        said = "csknet, variant firm on" if variant else "csknet on"
        assert capsys.readouterr().out.startswith(said)
        page = (tmp_path / name / "evaluation-test" / "evaluation.html").read_text("utf-8")
        assert f"<h1>{said}" in page
    assert {one.system for one in find_results(tmp_path).scored} == {"csknet, variant firm", "csknet"}


def test_a_folder_without_runs_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "neither runs nor results" in refused(["report", str(tmp_path)], capsys)
    assert "not a folder" in refused(["report", str(tmp_path / "none")], capsys)


def test_an_evaluation_of_one_pair_has_no_interval_on_the_index(tmp_path: Path) -> None:
    document = {
        "system": "s",
        "source": "d",
        "split": "test",
        "pairs": 1,
        "results": {
            "both": {
                "support": "designed",
                "overall": {"mean_iou": {"present": {"value": None}}},
                "mean_iou_interval": {"present": None},
            }
        },
    }
    (tmp_path / "evaluation.json").write_text(json.dumps(document))
    (found,) = find_results(tmp_path).scored
    assert np.isnan([found.mean_iou["both"].value, found.mean_iou["both"].low]).all()


def test_an_evaluation_with_a_band_monitor_is_told_apart_on_the_index(tmp_path: Path) -> None:
    found = {"support": "designed", "overall": {"mean_iou": {"present": {"value": 0.5}}}}
    for name in ("plain", "watched"):
        counts = {"dropped": {"visible": 0, "infrared": 0}} if name == "watched" else {}
        document = {"system": "s", "source": "d", "split": "test", "pairs": 9}
        (tmp_path / name).mkdir()
        (tmp_path / name / "evaluation.json").write_text(
            json.dumps({**document, "results": {key: {**found, **counts} for key in ("both", "infrared")}})
        )
    results = find_results(tmp_path)
    assert {one.run: one.monitored for one in results.scored} == {"plain": False, "watched": True}
    index_page(tmp_path, results).write(tmp_path / "index.html")
    assert (tmp_path / "index.html").read_text("utf-8").count("with a band monitor") == 1


def test_an_evaluation_in_another_precision_is_told_apart_on_the_index(tmp_path: Path) -> None:
    found = {"support": "designed", "overall": {"mean_iou": {"present": {"value": 0.5}}}}
    for precision in ("float32", "int8"):
        document = {"system": "s", "source": "d", "split": "test", "pairs": 9, "precision": precision}
        (tmp_path / precision).mkdir()
        (tmp_path / precision / "evaluation.json").write_text(
            json.dumps({**document, "results": {"both": found}})
        )
    html = index_page(tmp_path, find_results(tmp_path)).html()
    assert html.count("in int8") == 1
    assert "in float32" not in html


def test_an_evaluation_that_is_ended_at_its_page_leaves_the_files_that_were_there(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["evaluate", str(run), "--device", "cpu", "--workers", "0", "--bands", "infrared"]
    arguments += ["--examples", "0", "--out", str(tmp_path / "out"), "--data"]
    assert main([*arguments, TINY_DATA]) == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}

    def ended(*given: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("crossband.report.evaluation_html.evaluation_page", ended)
    assert main([*arguments, TINY_DATA.replace("test=4", "test=2")]) == 130
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


def written_evaluation(folder: Path) -> None:
    found = {"support": "designed", "overall": {"mean_iou": {"present": {"value": 0.5}}}}
    document = {"system": "s", "source": "d", "split": "test", "pairs": 9, "results": {"both": found}}
    folder.mkdir(parents=True)
    (folder / "evaluation.json").write_text(json.dumps(document))


def test_evaluations_of_one_run_are_told_apart_on_the_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in ("a/evaluation-test", "a/evaluation-test-monitor", "b/evaluation-test"):
        written_evaluation(tmp_path / place)
    drawn: list[Sequence[str]] = []

    def chart(bars: object, rows: Sequence[str]) -> Figure:
        drawn.append(rows)
        return Figure()

    monkeypatch.setattr("crossband.report.index_html.mean_iou_chart", chart)
    html = index_page(tmp_path, find_results(tmp_path)).html()
    assert drawn == [["a/evaluation-test", "a/evaluation-test-monitor", "b"]]
    assert ">a/evaluation-test-monitor<" in html


def test_the_folder_of_an_evaluation_has_an_index_too(tmp_path: Path) -> None:
    written_evaluation(tmp_path / "evaluation-test")
    (found,) = find_results(tmp_path / "evaluation-test").scored
    assert found.run == "evaluation-test"


def test_a_training_is_told_in_words() -> None:
    assert kept_words({"chosen_by": "lowest loss on val", "epoch": 7, "loss": 0.12345}) == (
        "epoch 7, lowest loss on val: 0.1235"
    )
    assert recipe_words({"epochs": 1, "batch_size": 8, "optimizer": "sgd", "lr": 5e-3}) == (
        "1 epoch, batches of 8, sgd, learning rate 0.005"
    )
    told = training_words(
        {"data": "msrs:x", "split": "train", "pairs": 1083, "seconds": 90.0, "hardware": "A"}
    )
    assert told == {"trained on": "msrs:x, split train: 1083 pairs", "computed on": "A, 2 min"}
    assert training_words({"recipes": 3, "checkpoint": None}) == {}


def test_what_a_training_took_and_changed_is_told_in_words() -> None:
    flipped = "flipped in 50 % of the pairs"
    assert training_words(
        {
            "trained_on": {
                "visible": None,
                "infrared": {"images": 9, "types": {"uint16": 9}, "low": 7012.0, "high": 15000.5},
            },
            "augmentation": {"flip": 0.5, "scale": [1.0, 1.0], "crop": None, "noise": 0.0},
            "phase_augmentations": {
                "plain": {"flip": 0.0},
                "last": {
                    "flip": 0.5,
                    "scale": [0.5, 2.0],
                    "crop": [64, 96],
                    "contrast": 0.4,
                    "corrupted": 0.5,
                },
            },
            "deterministic": True,
            "devices": 2,
            "precision": "float32",
        }
    ) == {
        "images": "infrared uint16, nearly all from 7012 to 15000.5",
        "augmented": flipped,
        "augmented, phase plain": "not at all",
        "augmented, phase last": f"{flipped}, scaled by 0.5 to 2, cropped to 64 x 96, visible contrast 0.4; "
        "of the bands one broken in 50 % of the pairs",
        "computed on": "2 devices, float32, deterministic",
    }
    damaged = {"trained_on": {"visible": {"types": 3}}, "augmentation": {"flip": "x", "scale": [1, "a"]}}
    assert training_words({**damaged, "phase_augmentations": 4, "devices": 1}) == {}


@pytest.mark.parametrize(
    ("augmentation", "said"),
    [
        (
            {"corrupted": 0.5, "band_dropout": 0.2, "broken_epochs": 0.5},
            "one broken in 50 % of the pairs, one left out in 20 % of the steps, "
            "in the first 50 % of the epochs",
        ),
        ({"corrupted": 0.25, "band_dropout": 0.0, "broken_epochs": 1.0}, "one broken in 25 % of the pairs"),
        ({"corrupted": 0.0, "band_dropout": 0.0, "broken_epochs": 0.5}, None),
        ({"flip": 0.5}, None),
        ("damaged", None),
    ],
)
def test_what_a_training_broke_is_told_in_words(augmentation: object, said: str | None) -> None:
    assert training_words({"augmentation": augmentation}).get("bands") == said


def test_ranges_are_drawn_for_the_bars_that_have_them() -> None:
    from crossband.metrics import segmentation_scores

    torch = pytest.importorskip("torch")
    scores = segmentation_scores(torch.tensor([[6, 2], [0, 2]]))
    one = interval(0.75, np.array([0.6, 0.8]))
    (axes,) = per_class_iou_chart({"a": scores, "b": scores}, CLASSES, {"a": [one, one]}).axes
    assert len(axes.collections) == 1
