"""The scripts that train and score many small runs: what they print, and one run from end to end."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import timm
import yaml
from PIL import Image
from safetensors.torch import save_file

from crossband.card import Card
from crossband.evaluation.pair_counts import PairCounts, read_pair_counts, write_pair_counts
from crossband.pairs.base import Classes

SPEED = Path(__file__).resolve().parents[1] / "speed"
CLASSES = Classes(("one", "other"), ((0, 0, 0), (255, 0, 0)))


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> ModuleType:
    """The module of a script, as if it had been started."""
    monkeypatch.syspath_prepend(SPEED)
    return importlib.import_module(request.param)


def printed(
    script: ModuleType,
    arguments: list[object],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> list[str]:
    monkeypatch.setattr(sys, "argv", [str(script.__file__), *map(str, arguments)])
    script.main()
    return capsys.readouterr().out.splitlines()


def write_lines(path: Path, columns: str, lines: list[str]) -> None:
    path.write_text("\n".join([columns, *lines]) + "\n")


@pytest.mark.parametrize("script", ["infrared_alone"], indirect=True)
def test_a_difference_is_taken_seed_by_seed_with_its_interval(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scores = {("firm", 0): 0.52, ("firm", 1): 0.54, ("firm", 2): 0.59, ("infrared", 0): 0.51}
    scores |= {("infrared", 1): 0.52, ("infrared", 2): 0.56, ("infrared", 3): 0.9, ("alone", 0): 0.5}
    # In the order of the seeds, whatever order they were trained in.
    lines = [f"cwfid,{run},{seed},infrared,{score}" for (run, seed), score in reversed(scores.items())]
    lines.append("scenes,firm,0,infrared,0.1")
    write_lines(tmp_path / "runs.csv", "set,run,seed,given,mean_iou", lines)
    given = ["cwfid", "firm", "alone", "--over", "infrared", "--out", tmp_path]
    rows = printed(script, given, monkeypatch, capsys)
    # Mean 2, deviation 1, three seeds: 2 -+ 4.3027 / sqrt(3).
    assert rows[2:] == [
        "| firm | infrared | infrared | +1.0, +2.0, +3.0 | +2.0 | -0.5 to +4.5 | not kept |",
        "| alone | infrared | infrared | -1.0 | -1.0 | one seed: none | not kept |",
    ]
    # All pairs alike: to draw them again changes nothing, and what is left is the spread of the seeds.
    for (run, seed), score in scores.items():
        right = round(2e6 * score / (1 + score))  # of a million of either class, so that the IoU is the score
        wrong = 1_000_000 - right
        matrices = np.tile(np.array([[right, wrong], [wrong, right]], np.int32), (5, 1, 1))
        path = script.counts_of(tmp_path / "cwfid" / f"seed{seed}", f"{run}-infrared")
        counts = PairCounts("made", "test", CLASSES, tuple("abcde"), ("day",) * 5, {"infrared": matrices})
        write_pair_counts(path, counts)
    firm, alone = printed(script, given, monkeypatch, capsys)[2:]
    low, high = (float(end) for end in firm.split(" | ")[-1].rstrip(" |").split(" to "))
    # Variances 13 and 7 of three seeds each: 2 -+ 2.7764 sqrt(10 (1/3 + 1/3)), by 2,000 draws.
    assert (low, high) == (pytest.approx(-5.17, abs=0.5), pytest.approx(9.17, abs=0.5))
    assert alone.endswith("| one seed: none | -1.0 to -1.0 |")


@pytest.mark.parametrize("script", ["infrared_alone"], indirect=True)
def test_an_overview_holds_every_run_against_one_on_every_set(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = ["cwfid,alone,0,both,0.60", "cwfid,alone,1,both,0.62", "cwfid,firm,0,both,0.61"]
    lines += ["cwfid,firm,1,both,0.65", "cwfid,firm,2,both,0.99", "scenes,alone,0,infrared,0.5"]
    lines += ["scenes,sgd,0,infrared,0.4", "scenes,visible,0,visible,0.3", "msrs_boxes,firm,0,both,0.2"]
    write_lines(tmp_path / "runs.csv", "set,run,seed,given,mean_iou", lines)
    rows = printed(script, ["all", "--over", "alone", "--out", tmp_path], monkeypatch, capsys)
    assert rows == [
        *("**`cwfid`**", "", "| run | both |", "|---|---|", "| firm | +2.0 (+1.0 to +3.0) |", ""),
        *("**`scenes`**", "", "| run | infrared |", "|---|---|", "| sgd | -10.0 (one seed) |"),
    ]


@pytest.mark.parametrize("script", ["infrared_alone"], indirect=True)
def test_trainings_of_both_places_are_pooled(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = ["cwfid,firm,0,infrared,0.62", "cwfid,infrared,0,infrared,0.61", "cwfid,firm,0,both,0.9"]
    lines += ["cwfid,firm,5,infrared,0.9", "scenes,firm,0,infrared,0.5", "scenes,infrared,0,infrared,0.52"]
    write_lines(tmp_path / "runs.csv", "set,run,seed,given,mean_iou", lines)
    lines = ["cwfid,firm,infrared,infrared,0,+2.0", "cwfid,firm,infrared,infrared,1,+3.0"]
    lines += ['cwfid,firm,infrared,"infrared, recalibrated",1,-1.0', "cwfid,alone,infrared,infrared,0,+9"]
    write_lines(tmp_path / "other-place.csv", "set,run,over,given,seed,points", lines)
    given = ["all", "firm", "--over", "infrared", "visible", "--out", tmp_path]
    assert printed(script, given, monkeypatch, capsys)[2:] == [
        # 1, 2 and 3 points: 2 -+ 4.3027 / sqrt(3).
        "| cwfid | firm | infrared | 3 | +2.0 (-0.5 to +4.5) | -1.0 (no interval) |",
        "| scenes | firm | infrared | 1 | -2.0 (no interval) | – |",
    ]


@pytest.mark.parametrize("script", ["infrared_alone"], indirect=True)
def test_scores_of_every_set_stand_in_one_table(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = ["scenes,visible,0,visible,0.3", "cwfid,alone,0,both,0.60", "cwfid,alone,1,both,0.62"]
    lines += ["cwfid,alone,1,infrared,0.5", 'cwfid,alone,0,"infrared, recalibrated",0.4']
    lines.append("cwfid,sgd,0,both,0.1")
    write_lines(tmp_path / "runs.csv", "set,run,seed,given,mean_iou", lines)
    given = ["all", "visible", "alone", "--out", tmp_path]
    assert printed(script, given, monkeypatch, capsys)[2:] == [
        "| cwfid | alone | 2 | 61.0 (60.0 to 62.0) | 50.0 | 40.0 |",
        "| scenes | visible | 1 | 30.0 | – | – |",
    ]


@pytest.mark.parametrize("script", ["thermal_streets"], indirect=True)
def test_both_bands_are_held_against_what_a_plain_network_is_given(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = ["csknet,0,both,all,0.60", "csknet,0,both,night,0.99", "csknet,0,infrared,all,0.40"]
    lines += ["infrared,0,infrared,all,0.50", "infrared,0,infrared,night,0.10", "cen,0,both,all,0.45"]
    write_lines(tmp_path / "labels.csv", "run,seed,given,scope,mean_iou", lines)
    rows = printed(script, ["csknet", "--over", "infrared", "--out", tmp_path], monkeypatch, capsys)
    assert rows[2:] == [
        "| csknet | infrared, given infrared | both | +10.0 | +10.0 | one seed: none | not kept |",
        "| csknet | infrared | infrared | -10.0 | -10.0 | one seed: none | not kept |",
    ]
    # A run that was given two things is held against only where both were given the same.
    rows = printed(script, ["cen", "--over", "csknet", "--out", tmp_path], monkeypatch, capsys)
    assert rows[2:] == ["| cen | csknet | both | -15.0 | -15.0 | one seed: none | not kept |"]
    # What was counted of all bands lies in one file; all pairs alike, drawing them changes nothing.
    matrices = {bands: np.array([[[90, 10], [10, 90]]] * 8, np.int32) for bands in ("both", "infrared")}
    folder = tmp_path / "msrs_boxes" / "seed0"
    for run, given in (("csknet", ("both", "infrared")), ("infrared", ("infrared",))):
        kept = {bands: matrices[bands] for bands in given}
        counts = PairCounts("made", "test", CLASSES, tuple("abcdefgh"), ("day",) * 8, kept)
        write_pair_counts(script.counts_of(folder, run), counts)
    rows = printed(script, ["csknet", "--over", "infrared", "--out", tmp_path], monkeypatch, capsys)
    assert [row.split(" | ")[-1] for row in rows[2:]] == ["+0.0 to +0.0 |"] * 2


@pytest.mark.parametrize("script", ["alignment"], indirect=True)
def test_starts_are_held_against_others_set_by_set(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = ["cwfid,10,identity,0,0.61", "cwfid,10,without,0,0.60", "cwfid,20,without,0,0.90"]
    lines += ["scenes,6,identity,0,0.5", "scenes,6,without,0,0.47"]
    write_lines(tmp_path / "runs.csv", "set,epochs,start,seed,mean_iou", lines)
    rows = printed(script, ["--over", "without", "--out", tmp_path], monkeypatch, capsys)
    assert [row for row in rows if row.startswith(("**", "| identity"))] == [
        "**`cwfid`**, 10 epochs.",
        "| identity | without | both | +1.0 | +1.0 | one seed: none | not kept |",
        "**`cwfid`**, 20 epochs.",
        "**`scenes`**, 6 epochs.",
        "| identity | without | both | +3.0 | +3.0 | one seed: none | not kept |",
    ]


@pytest.mark.slow
@pytest.mark.parametrize("script", ["thermal_streets"], indirect=True)
def test_a_run_is_trained_and_scored_once(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    folder = tmp_path / "msrs_boxes"
    for split in ("train", "test"):
        for name in ("1D", "2N", "3D", "4N"):
            for part in ("visible", "infrared", "label"):
                (folder / split / part).mkdir(parents=True, exist_ok=True)
                shape = (64, 96, 3) if part == "visible" else (64, 96)
                image = rng.integers(0, 4 if part == "label" else 256, shape, np.uint8)
                Image.fromarray(image).save(folder / split / part / f"{name}.png")
    names = ["background", "person", "bicycle", "car"]
    palette = [[0, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 255]]
    (folder / "classes.yaml").write_text(yaml.safe_dump({"names": names, "palette": palette}))
    weights = tmp_path / "weights.safetensors"
    save_file(timm.create_model("tf_efficientnet_lite0").state_dict(), weights)
    place = ["--pairs", tmp_path, "--weights", weights, "--out", tmp_path / "runs"]
    printed(script, ["infrared", "average", *place], monkeypatch, capsys)
    lines = (tmp_path / "runs" / "labels.csv").read_text()
    printed(script, ["infrared", "average", *place], monkeypatch, capsys)
    assert (tmp_path / "runs" / "labels.csv").read_text() == lines
    assert [line.split(",")[4] for line in lines.splitlines()] == ["scope", "all", "day", "night"]
    counts = read_pair_counts(script.counts_of(tmp_path / "runs" / "msrs_boxes" / "seed0", "infrared"))
    assert list(counts.matrices) == ["infrared"]
    assert len(counts.names) == 4
    rows = printed(script, ["--out", tmp_path / "runs"], monkeypatch, capsys)
    assert sum(row.startswith("| infrared | infrared | 1 |") for row in rows) == 1
    assert sum(row.startswith("| average | – |") for row in rows) == 3


def counted_of_a_run(shown: int, right: int) -> dict[str, np.ndarray]:
    """What is counted of a run on four pairs of 100 pixels, 50 of each class. shown, right: of these
    50, with a broken band and without it."""

    def of(right: int) -> np.ndarray:
        return np.tile(np.array([[right, 50 - right], [50 - right, right]], np.int32), (4, 1, 1))

    counted = {"alone|infrared": of(right), "alone|visible": of(10), "none|clean": of(45)}
    counted |= {f"{way}|clean": of(45) for way in ("thresholds", "trained")}
    for condition in ("fog/1", "fog/2", "frame-lag/1", "black visible", "black infrared"):
        counted |= {f"none|{condition}": of(shown), f"thresholds|{condition}": of(shown)}
        counted[f"trained|{condition}"] = of(shown if condition == "fog/2" else right)
    for condition in ("clean", "fog/1", "fog/2", "frame-lag/1", "black visible", "black infrared"):
        lost = 0 if condition in ("clean", "fog/2") else 1
        counted[f"trained left|{condition}"] = np.array([lost, 0, 2, 0])
    return counted


@pytest.mark.parametrize("script", ["broken_bands_tables"], indirect=True)
def test_lines_of_broken_bands_hold_margins_over_the_whole_band(script: ModuleType) -> None:
    lines = {line["condition"]: line for line in script.lines_of_counts(counted_of_a_run(20, 40))}
    # IoU of either class: right / (100 - right).
    assert lines["infrared alone"] == {"pairs": 4, "condition": "infrared alone", "none": "0.66667"}
    fog, late = lines["fog/1"], lines["frame-lag/1"]
    assert (fog["without"], fog["none"], fog["trained"]) == ("0.66667", "0.25000", "0.66667")
    # Late infrared is the broken band: labels are of the visible image.
    assert late["without"] == "0.11111"
    # All pairs alike: drawn again, they have the same margin.
    assert (fog["none_low"], fog["none_high"]) == ("-0.41667", "-0.41667")
    assert (fog["no_visible"], fog["no_infrared"], lines["clean"]["no_visible"]) == (1, 1, 0)
    assert "without" not in lines["clean"]


@pytest.mark.parametrize("script", ["broken_bands"], indirect=True)
def test_tables_of_broken_bands_say_what_is_left(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tables = importlib.import_module("broken_bands_tables")
    runs = {("csknet", 1): (20, 40), ("csknet", 0): (42, 40), ("csknet-robust", 0): (20, 40)}
    lines = [
        {"set": "cwfid", "run": run, "seed": seed, **line, "revision": "abc"}
        for (run, seed), counted in runs.items()
        for line in script.lines_of_counts(counted_of_a_run(*counted))
    ]
    lines.append({"set": "cwfid", "run": "infrared", "seed": 0, "condition": "infrared alone", "none": "0.7"})
    script.append(tmp_path / "runs.csv", tables.COLUMNS, lines)
    monkeypatch.setattr(tables, "HELD_OUT_CORRUPTIONS", ("fog", "frame-lag"))

    rows = printed(script, ["--out", tmp_path], monkeypatch, capsys)

    assert rows[2] == (
        "| cwfid | csknet | 2 | 2 (2); -41.7 fog/1 | 2 (2); -41.7 fog/1 | 1 (1); -41.7 fog/2 | 0, 1 "
        "| 81.8 (81.8 to 81.8) | 66.7 (66.7 to 66.7) | 11.1 (11.1 to 11.1) |"
    )
    assert "| cwfid | csknet | fog |  | -41.7 (2) |" in rows
    # Without a monitor (5.75 - 41.67) / 2; with it one of four is left.
    assert "| fog | -18.0 → -9.0 (-41.7; 1) | -41.7 → -20.8 (-41.7; 1) |" in rows
    assert (
        "| cwfid | csknet-robust | 1 | +0.0 (one seed) | 1 of 4 | +0.0 (one seed) | +0.0 (one seed) |" in rows
    )
    assert "| cwfid | csknet-robust | +0.0 (one seed) | -3.3 (one seed) | – |" in rows


@pytest.mark.parametrize("script", ["broken_bands"], indirect=True)
def test_what_is_counted_is_told_once(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "counts").mkdir()
    for seed in (1, 11):
        np.savez_compressed(tmp_path / "counts" / f"cwfid-csknet-{seed}.npz", **counted_of_a_run(20, 40))
    card = Card("csknet", {}, CLASSES, "full-range", {}, {}, git_revision="abc")
    monkeypatch.setattr(script, "read_card", lambda folder: card)
    given = ["csknet", "--weights", "none", "--out", tmp_path, "--seeds"]
    printed(script, [*given, 11], monkeypatch, capsys)
    printed(script, [*given, 1], monkeypatch, capsys)
    printed(script, [*given, 1, 11], monkeypatch, capsys)

    lines = script.lines_of(tmp_path / "runs.csv")
    assert [line["seed"] for line in lines] == ["11"] * 8 + ["1"] * 8
    assert {(line["set"], line["run"], line["revision"]) for line in lines} == {("cwfid", "csknet", "abc")}
