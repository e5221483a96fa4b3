"""A variant of ours passes nowhere for the paper's method: what names a run's system names its variant."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from crossband.cli import main
from crossband.pairs.opening import open_pairs
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
    few = ["--replicates", "50"]
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
