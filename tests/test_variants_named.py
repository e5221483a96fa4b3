"""A variant of ours passes nowhere for the paper's method: what names a run's system names its variant."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import crossband as cb
from crossband.cli import main
from crossband.evaluation import evaluate_fusion
from crossband.evaluation.robustness import assess
from crossband.pairs.opening import open_pairs
from crossband.report import evaluation_text
from crossband.report.evaluation_files import scored_system
from crossband.report.robustness_files import assessed_system
from crossband.result_folder import MANIFEST_NAME
from crossband.run_card import read_card
from crossband.runtime.exported import BUNDLE_NAME, bundle_text
from crossband.runtime.graph_card import GraphCard, read_graph_card
from crossband.serve.page import about
from crossband.serve.service import Service
from crossband.weights import make_card, save_run
from tiny_runs import TINY_DATA
from tiny_systems import build

FIRM = "csknet, variant firm"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two runs of CSK-Net with random weights, ``ours`` of the variant firm and ``paper`` of none."""
    folder = tmp_path_factory.mktemp("runs")
    classes = open_pairs(TINY_DATA, "test").classes
    assert classes is not None
    for name, variant in (("ours", "firm"), ("paper", None)):
        system = build(
            "csknet", len(classes), variant=variant, encoder="test_efficientnet", decoder_channels=16
        )
        save_run(folder / name, system, make_card(system, classes, "full-range", {}, variant=variant))
    return {name: folder / name for name in ("ours", "paper")}


def scored(command: str, runs: dict[str, Path], out: Path, *more: str) -> list[str]:
    given = ["--data", TINY_DATA, "--device", "cpu", "--workers", "0", "--out", str(out)]
    return [command, *map(str, runs.values()), *given, *more]


def test_a_comparison_of_runs_and_of_their_evaluations(
    runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = ["--replicates", "100"]
    assert main(scored("compare", runs, tmp_path / "runs", "--examples", "0", *few)) == 0
    data = ["--data", TINY_DATA, "--device", "cpu", "--workers", "0", "--examples", "0"]
    for name, run in runs.items():
        assert main(["evaluate", str(run), "--out", str(tmp_path / name), "--bands", "both", *data]) == 0
    capsys.readouterr()
    folders = [str(tmp_path / name) for name in runs]
    assert main(["compare", *folders, "--out", str(tmp_path / "evaluations"), *few]) == 0
    for out in (tmp_path / "runs", tmp_path / "evaluations"):
        methods = json.loads((out / "comparison.json").read_text("utf-8"))["methods"]
        assert {one["name"]: one["system"] for one in methods} == {"ours": FIRM, "paper": "csknet"}
        assert f'<td class="left">{FIRM}</td>' in (out / "comparison.html").read_text("utf-8")
        lines = (out / "comparison.txt").read_text("utf-8").splitlines()
        (paper,) = (line for line in lines if line.startswith("paper  "))
        assert paper.split()[:3] == ["paper", "csknet", "both"]
        assert any(line.startswith("ours ") and FIRM in line for line in lines)
    # Counts alone, as a program may keep them, name no system.
    for name in runs:
        (tmp_path / name / "evaluation.json").unlink()
    assert main(["compare", *folders, "--out", str(tmp_path / "bare"), *few]) == 0
    assert "csknet" not in (tmp_path / "bare" / "comparison.txt").read_text("utf-8")


def test_what_is_lost_when_a_camera_breaks(
    runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = ["--corruptions", "fog", "--severities", "1", "--limit", "1"]
    assert main(scored("robustness", runs, tmp_path, *few)) == 0
    assert f"\nours: {FIRM}\npaper: csknet\n" in capsys.readouterr().out
    page = (tmp_path / "robustness.html").read_text("utf-8")
    assert f"<dt>ours</dt><dd>{FIRM}</dd><dt>paper</dt><dd>csknet</dd>" in page
    with open(tmp_path / "robustness.csv", newline="", encoding="utf-8") as file:
        assert {(row["run"], row["system"]) for row in csv.DictReader(file)} == {
            ("ours", FIRM),
            ("paper", "csknet"),
        }


def test_what_python_scores(runs: dict[str, Path]) -> None:
    pairs = open_pairs(TINY_DATA, "test")
    for name, told in (("ours", FIRM), ("paper", "csknet")):
        system = cb.load(runs[name], device="cpu").system
        evaluation = cb.evaluate(system, pairs, bands=["infrared"])
        assert scored_system(evaluation) == told
        assert evaluation_text(evaluation).startswith(f"{told} on ")
        (state,) = assess(system, pairs, [])
        assert assessed_system(state) == told
    methods = {"made": cb.create("cddfuse", variant="light", width=8, heads=2, blocks=1)}
    fusion = evaluate_fusion(methods, pairs, metrics=["SD"], bands_alone=False)
    assert fusion.methods["made"].origin == "cddfuse, variant light"


def test_scores_of_fused_pictures(tmp_path: Path) -> None:
    for name, variant in (("ours", "light"), ("paper", None)):
        system = build("cddfuse", None, variant=variant, width=8, heads=2, blocks=1)
        save_run(tmp_path / name, system, make_card(system, None, "full-range", {}, variant=variant))
    names = [str(tmp_path / name) for name in ("ours", "paper")]
    given = ["--data", TINY_DATA, "--device", "cpu", "--workers", "0", "--metrics", "SD"]
    assert main(["evaluate", *names, "average", "--fusion", *given, "--out", str(tmp_path / "out")]) == 0
    methods = json.loads((tmp_path / "out" / "fusion.json").read_text("utf-8"))["methods"]
    origins = [methods[name]["origin"] for name in ("ours", "paper", "average")]
    assert origins == ["cddfuse, variant light", "cddfuse", "average"]


def test_an_exported_file(runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = {}
    for name, run in runs.items():
        card = GraphCard(
            run=read_card(run),
            bands="infrared",
            support="designed",
            types={"infrared": "uint8"},
            outputs=("labels", "confidence"),
            format_of_file="onnx",
        )
        assert read_graph_card(card.metadata(), "a file").run.variant == card.run.variant
        # A folder of files is described by its card alone; no graph is opened.
        (tmp_path / name).mkdir()
        (tmp_path / name / BUNDLE_NAME).write_text(
            bundle_text({"infrared": ("infrared.onnx", card)}), "utf-8"
        )
        assert main(["info", str(tmp_path / name)]) == 0
        told[name] = capsys.readouterr().out
    assert told["ours"].startswith(f"{FIRM}, exported from weights ")
    assert "\nvariant: firm, ours and not the paper's\n" in told["ours"]
    assert told["paper"].startswith("csknet, exported from weights ")
    assert "variant" not in told["paper"]


def test_a_folder_of_results(runs: dict[str, Path], tmp_path: Path) -> None:
    infrared, out = tmp_path / "infrared", tmp_path / "out"
    infrared.mkdir()
    Image.fromarray(np.zeros((32, 48), np.uint8)).save(infrared / "a.png")
    given = ["predict", str(runs["ours"]), "--infrared", str(infrared), "--out", str(out), "--device", "cpu"]
    assert main(given) == 0
    document = json.loads((out / MANIFEST_NAME).read_text("utf-8"))
    assert (document["made_by"]["system"], document["made_by"]["variant"]) == ("csknet", "firm")
    # What an earlier version left, which named no variant, is gone on with.
    del document["made_by"]["variant"]
    (out / MANIFEST_NAME).write_text(json.dumps(document), "utf-8")
    assert main([*given, "--resume"]) == 0
    again = json.loads((out / MANIFEST_NAME).read_text("utf-8"))
    assert again["counts"] == {"done": 0, "there_already": 1, "failed": 0}
    assert again["made_by"]["variant"] == "firm"


def test_what_is_served(runs: dict[str, Path]) -> None:
    service = Service({name: cb.load(run, device="cpu") for name, run in runs.items()})
    try:
        systems = service.described()["systems"]
        assert [(one["system"], one["variant"]) for one in systems] == [("csknet", "firm"), ("csknet", None)]
        page = about(service)
    finally:
        service.close()
    assert f"- `ours` ({FIRM}) makes labels from: both (designed)" in page
    assert "- `paper` (csknet) makes labels from:" in page
