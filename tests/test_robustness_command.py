"""What a system loses when a camera breaks: the averages, the bookkeeping, and the command."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from command_line import refused
from crossband.cli import main
from crossband.errors import OptionError
from crossband.evaluation import evaluate
from crossband.evaluation.robustness import Robustness, assess, band_failures, conditions
from crossband.loading import load
from crossband.pairs.corruption import NamedCorruption
from crossband.pairs.export import export_folder
from crossband.pairs.opening import open_pairs
from crossband.report.robustness_files import (
    read_robustness,
    robustness_csv,
    robustness_document,
    robustness_text,
    verdict,
    write_progress,
)
from crossband.report.robustness_html import robustness_page
from crossband.training.engine import train
from tiny_runs import TINY_DATA, tiny_options

# Liao et al., CVPR 2025 workshops, arXiv 2503.18445: average, and expected for p = 0.2, 0.1 and 0.05, of four
# bands on DELIVER; by table (entirely missing, then 75, 50 and 25 % of the pixels) and method.
PUBLISHED = {
    "CMNeXt": ((37.90, 54.46, 60.41, 63.38), (42.17, 56.66, 61.60, 63.99)),
    "GeminiFusion": ((37.07, 54.33, 60.62, 63.77), (39.78, 55.88, 61.47, 64.22)),
    "MAGIC": ((44.97, 58.66, 62.68, 64.47), (45.30, 58.77, 62.72, 64.49)),
    "MAGIC++": ((44.85, 59.18, 63.52, 65.50), (47.06, 59.81, 63.78, 65.62)),
    "StitchFusion": ((41.98, 58.02, 63.29, 65.80), (45.16, 59.44, 64.02, 66.17)),
}


@pytest.mark.parametrize("method", PUBLISHED)
def test_the_averages_are_those_of_the_published_tables(method: str) -> None:
    """Each published row is four linear equations for the summed scores with 0, 1, 2 and 3 bands failing.

    Solved by our weights, two tables of one method must give one score with all bands whole.
    """
    number = (1, 4, 6, 4)
    units = [[float(k == failing) for k in range(1, 4) for _ in range(number[k])] for failing in range(1, 4)]
    columns = [band_failures(1, [0] * 14, bands=4), *(band_failures(0, unit, bands=4) for unit in units)]
    equations = np.array([[c.average, *c.expected.values()] for c in columns]).T
    whole = [np.linalg.solve(equations, row)[0] for row in PUBLISHED[method]]
    assert whole[0] == pytest.approx(whole[1], abs=0.04)


def test_two_bands_by_hand() -> None:
    found = band_failures(60, [40, 20], probabilities=[0.2])
    assert found.average == 40
    # 0.64 both, 0.16 either; 0.96 in all.
    assert found.expected[0.2] == pytest.approx((0.64 * 60 + 0.16 * 40 + 0.16 * 20) / 0.96)
    with pytest.raises(ValueError, match="2 damaged"):
        band_failures(60, [40])


def made() -> Robustness:
    return Robustness(
        "sys",
        "memory",
        "test",
        4,
        "present",
        0,
        "both",
        clean=0.6,
        alone={"infrared": 0.5, "visible": 0.4},
        scores={
            "fog/1": 0.55,
            "fog/5": 0.48,
            "halo/1": 0.45,
            "shift/1": 0.52,
            "black visible": 0.3,
            "noise/0.1": 0.2,
            **{
                f"random-missing {band}/0.5": score for band, score in (("visible", 0.45), ("infrared", 0.35))
            },
        },
    )


def test_a_margin_is_over_the_band_that_is_left() -> None:
    one = made()
    assert one.margins() == pytest.approx(
        {"fog/1": 0.05, "fog/5": -0.02, "halo/1": 0.05, "shift/1": 0.12, "black visible": -0.2}
    )
    # fog (0.55 + 0.48) / 2, halo 0.45, shift 0.52, each alike, over 0.6
    assert one.retention == pytest.approx((0.515 + 0.45 + 0.52) / 3 / 0.6)
    assert one.failures() == band_failures(0.6, (0.5, 0.4))
    assert one.random_losses()[0.5].average == pytest.approx((0.6 + 0.45 + 0.35) / 3)
    assert "under 2 of 5 conditions" in verdict("x", one)
    assert "black visible, -20.0" in verdict("x", one)
    text = robustness_text({"x": one})
    assert "fog" in text
    assert re.search(r"noise, deviation 0.1 +20.00\n", text)


def test_a_run_that_is_right_nowhere_keeps_nothing_and_is_told_all_the_same() -> None:
    zero = replace(made(), clean=0.0)
    assert np.isnan(zero.retention)
    assert robustness_document(zero)["retention"] is None
    assert "retention" not in robustness_text({"x": zero})


def test_why_nothing_can_be_said_without_a_band() -> None:
    nowhere = {"infrared": float("nan"), "visible": float("nan")}
    assert "there is no score to hold against it" in verdict("x", replace(made(), alone=nowhere))
    assert "it runs on both only" in verdict("x", replace(made(), alone={}))


def test_the_files_hold_what_the_text_says() -> None:
    one = made()
    document = robustness_document(one)
    assert document["retention"] == one.retention
    assert document["margins"] == one.margins()
    assert document["band_missing"]["average"] == pytest.approx((0.6 + 0.5 + 0.4) / 3)
    assert document["band_missing"]["expected"]["0.2"] == one.failures().expected[0.2]
    assert document["share_of_a_band_missing"]["0.5"]["average"] == one.random_losses()[0.5].average
    rows = {row["condition"]: row for row in csv.DictReader(robustness_csv({"x": one}).splitlines())}
    assert float(rows["infrared alone"]["mean_iou"]) == 0.5
    assert rows["infrared alone"]["margin"] == ""
    page = robustness_page({"x": one, "y": one}).html()
    assert page.count(">Corruptions<") == 1


def test_what_is_known_is_read_as_it_was_written(tmp_path: Path) -> None:
    one = made()
    one.scores["halo/2"] = float("nan")
    write_progress(tmp_path / "x.json", one)
    read = read_robustness(tmp_path / "x.json")
    assert np.isnan(read.scores.pop("halo/2"))
    del one.scores["halo/2"]
    assert read == one
    write_progress(tmp_path / "x.json", replace(one, clean=float("nan")))
    assert np.isnan(read_robustness(tmp_path / "x.json").clean)
    for text in ("", "[]", "{}", '{"scores": 3}'):
        (tmp_path / "x.json").write_text(text)
        with pytest.raises(OptionError, match="no unfinished assessment"):
            read_robustness(tmp_path / "x.json")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("runs")
    plain = tiny_options(folder / "plain")
    train(replace(plain, network={**plain.network, "band": "infrared"}), quiet=True)
    train(tiny_options(folder / "csknet", "csknet", recipe={"epochs": 1, "batch_size": 2}), quiet=True)
    return {"plain": folder / "plain", "csknet": folder / "csknet"}


def test_a_score_is_that_of_the_corrupted_pairs(runs: dict[str, Path]) -> None:
    system = load(runs["csknet"], device="cpu").system
    pairs = open_pairs(TINY_DATA, "test")
    wanted = conditions(system, pairs, ["fog", "halo"], [2, 5])
    assert [condition.key for condition in wanted] == ["fog/2", "fog/5", "halo/2", "halo/5"]
    *_, found = assess(system, pairs, wanted)
    alone = evaluate(system, NamedCorruption(pairs, "fog", 5), bands=["both"]).results["both"]
    assert found.scores["fog/5"] == alone.overall.protocols["present"].mean_iou
    assert set(found.alone) == {"infrared", "visible"}
    *_, fewer = assess(system, pairs, conditions(system, pairs, ["fog"], [5]), done=found)
    assert fewer.scores == {"fog/5": found.scores["fog/5"]}
    told: list[tuple[int, int]] = []
    more = conditions(system, pairs, ["fog"], [1, 2, 5])
    list(assess(system, pairs, more, done=found, progress=lambda done, total: told.append((done, total))))
    assert told == [(2, 3), (3, 3)]
    plain = load(runs["plain"], device="cpu").system
    assert {c.kind for c in conditions(plain, pairs)} == {"infrared", "noise"}
    with pytest.raises(OptionError, match="severities"):
        conditions(system, pairs, ["fog"], [7])


def test_the_command_goes_on_where_it_was(
    runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["robustness", *map(str, runs.values()), "--data", TINY_DATA, "--workers", "0"]
    arguments += ["--corruptions", "fog,halo", "--severities", "1,5", "--limit", "2"]
    whole, out = tmp_path / "whole", tmp_path / "out"
    assert main([*arguments, "--out", str(whole)]) == 0
    told = json.loads((whole / "robustness.json").read_text())
    assert set(told) == {"plain", "csknet"}
    assert set(told["plain"]["scores"]) == {"halo/1", "halo/5"}
    assert {path.suffix for path in whole.iterdir()} == {".json", ".csv", ".txt", ".html"}

    asked = NamedCorruption.__getitem__
    seen: list[str] = []

    def ends_at_halo(self: NamedCorruption, index: int) -> object:
        seen.append(self.corruption.name)
        if self.corruption.name == "halo" and len(runs) and not (out / "go").exists() and "fog" in seen:
            raise KeyboardInterrupt
        return asked(self, index)

    monkeypatch.setattr(NamedCorruption, "__getitem__", ends_at_halo)
    assert main([*arguments, "--out", str(out)]) == 130
    assert not (out / "robustness.json").exists()
    (out / "go").touch()
    seen.clear()
    assert main([*arguments, "--out", str(out)]) == 0
    assert "fog" not in seen
    (out / "go").unlink()
    again = json.loads((out / "robustness.json").read_text())
    for name in told:
        assert again[name]["scores"] == told[name]["scores"]
    assert not list(out.glob("*.progress.json"))
    capsys.readouterr()


def interrupted(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin the command, and end it at the first corruption."""

    def ends(self: NamedCorruption, index: int) -> object:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(NamedCorruption, "__getitem__", ends)
        assert main(arguments) == 130


def test_what_is_known_of_a_run_stays_in_the_folder_of_the_results(
    runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two runs of one name, whose whole paths are their names."""
    same = [tmp_path / name / "run" for name in ("first", "second")]
    for place in same:
        shutil.copytree(runs["csknet"], place)
    out = tmp_path / "out"
    arguments = ["robustness", *map(str, same), "--data", TINY_DATA, "--workers", "0", "--out", str(out)]
    arguments += ["--corruptions", "fog", "--severities", "1", "--limit", "1"]
    interrupted(arguments, monkeypatch)
    assert [path for path in tmp_path.rglob("*.progress.json") if path.parent != out] == []
    assert len(list(out.iterdir())) == 1
    assert main(arguments) == 0
    assert {path.suffix for path in out.iterdir()} == {".json", ".csv", ".txt", ".html"}
    assert set(json.loads((out / "robustness.json").read_text())) == set(map(str, same))


def test_what_is_known_of_other_pairs_or_another_run_is_not_gone_on_with(
    runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs, twin, out = tmp_path / "pairs", tmp_path / "twin" / "csknet", tmp_path / "out"
    assert main(["data", "export", TINY_DATA, "--out", str(pairs)]) == 0
    shutil.copytree(runs["csknet"], twin)
    more = ["--data", f"folder:{pairs}", "--workers", "0", "--corruptions", "fog", "--severities", "1"]
    more += ["--out", str(out)]
    interrupted(["robustness", str(runs["csknet"]), *more], monkeypatch)
    capsys.readouterr()
    said = refused(["robustness", str(twin), *more], capsys)
    assert "an unfinished assessment with run" in said
    label = sorted((pairs / "test" / "label").iterdir())[0]
    os.utime(label, ns=(1, 1))
    said = refused(["robustness", str(runs["csknet"]), *more], capsys)
    assert "an unfinished assessment of other images or labels" in said
    (out / "csknet.progress.json").unlink()
    assert main(["robustness", str(runs["csknet"]), *more]) == 0


def test_mistakes_are_told_in_a_line(
    runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = ["robustness", str(runs["csknet"]), "--data", TINY_DATA, "--out", str(tmp_path / "out")]
    assert "did you mean" in refused([*base, "--corruptions", "fogg"], capsys)
    assert "--severities" in refused([*base, "--severities", "a"], capsys)
    assert "--limit" in refused([*base, "--limit", "0"], capsys)
    assert "--seed must be 0 or more, not -1" in refused([*base, "--seed", "-1"], capsys)


def test_a_run_that_cannot_be_scored_is_told_before_another_one_is(
    runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "pairs"
    export_folder(TINY_DATA, other)
    declared = yaml.safe_load((other / "classes.yaml").read_text())
    declared = {"names": [*declared["names"], "more"], "palette": [*declared["palette"], [1, 2, 3]]}
    (other / "classes.yaml").write_text(yaml.safe_dump(declared))
    more = train(tiny_options(tmp_path / "more", data=f"folder:{other}"), quiet=True)
    base = ["--data", TINY_DATA, "--out", str(tmp_path / "out")]
    assert "average only fuses" in refused(["robustness", str(runs["csknet"]), "average", *base], capsys)
    assert "the run was trained on 11 classes" in refused(
        ["robustness", str(runs["csknet"]), str(more), *base], capsys
    )
    assert not (tmp_path / "out").exists()
