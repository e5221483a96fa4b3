"""Jobs as they are done: trained once, scored, gone on with, shared by workers and by a cluster."""

from __future__ import annotations

import csv
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from command_line import refused
from crossband.cli import main
from crossband.errors import CrossbandError
from crossband.evaluation import evaluate
from crossband.locks import folder_lock
from crossband.many.cluster import Launcher
from crossband.pairs.opening import open_pairs
from crossband.report import evaluation_dict
from crossband.reproduce import running
from crossband.reproduce.estimate import estimate_jobs, training_operations
from crossband.reproduce.folders import folder_of, is_finished, run_of, scores_of, state_of
from crossband.reproduce.jobs import Job, Plan, Scoring
from crossband.reproduce.planning import make_plan
from crossband.reproduce.reproducing import reproduce
from crossband.reproduce.settings import Compute, Settings
from crossband.reproduce.table import Row
from crossband.reproduce.tables import TABLES, choose_rows, find_tables
from crossband.run_card import read_card
from crossband.systems import create
from crossband.systems.base import System
from crossband.training.options import TrainOptions
from crossband.weights import load_run, load_weights, make_card, save_run

DATA = "scenes,train=8,val=0,test=4,size=32x48"
RECIPE = {"epochs": 2, "batch_size": 4, "warmup_steps": 0}
SETTINGS = Settings(budget="quick", on=DATA, encoder="test_efficientnet", recipe=RECIPE)
CPU = Compute("cpu", workers=0)
ARGUMENTS = [
    *("--on", DATA, "--budget", "quick", "--encoder", "test_efficientnet", "--accelerator", "cpu"),
    *("--workers", "0", "--epochs", "2", "--recipe.batch_size", "4", "--recipe.warmup_steps", "0"),
]
VISIBLE, BOTH = 0, 5
"""Rows of CSK-Net's table 3."""


class PowerCutError(BaseException):
    """Not an Exception: nothing on the way out may clean up after it, as after a kill."""


def plan_of(*patterns: str, seeds: int = 1) -> Plan:
    tables = find_tables(["csknet/table-3"])
    return make_plan(tables, SETTINGS, seeds=seeds, rows=choose_rows(tables, patterns))


def run(plan: Plan, out: Path, launcher: Launcher | None = None) -> dict[str, str]:
    return reproduce(
        plan, out, compute=CPU, launcher=launcher or Launcher(), command="test", say=lambda line: None
    )


def job_of(plan: Plan, index: int) -> Job:
    return plan.jobs[f"{plan.reads['csknet/table-3', index, 'msrs'][0]}/seed0"]


def rows_of(out: Path, name: str = "csknet-table-3") -> list[dict[str, str]]:
    with open(out / "tables" / f"{name}.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The baseline and CSK-Net on both bands and on infrared alone, by the command."""
    out = tmp_path_factory.mktemp("reproduce") / "out"
    arguments = ["reproduce", "csknet/table-3", *ARGUMENTS, "--out", str(out), "--seeds", "1"]
    assert main([*arguments, "--rows", "^VI", "--rows", "csk-net"]) == 0
    return out


def test_the_command_fills_the_rows_and_says_why_others_are_empty(filled: Path) -> None:
    assert {path.name for path in (filled / "tables").iterdir()} == {
        f"csknet-table-3.{suffix}" for suffix in ("md", "csv", "html")
    }
    scores = [row for row in rows_of(filled) if row["measure"] == "mean_iou"]
    assert len(scores) == 2 * 10
    for row in scores:
        filled_in = row["row"] in ("VI", "CSK-Net")
        assert bool(row["ours_mean"]) == filled_in
        assert row["problem"] == ("" if filled_in else "left out by --rows")
        # On other data than the paper's, a difference means nothing.
        assert row["difference"] == ""
        assert row["ours_on"] == "generated scenes"
    text = (filled / "tables" / "csknet-table-3.md").read_text(encoding="utf-8")
    assert "Published figures are on other data" in text
    assert "difference |" not in text


def test_figures_are_those_of_the_runs(filled: Path) -> None:
    """The table's mean IoU is that of `evaluate` on the run's own weights, under both protocols."""
    plan = plan_of()
    test = open_pairs(DATA, "test")
    for index, bands in ((VISIBLE, "visible"), (BOTH, "both"), (9, "infrared")):
        system, _ = load_run(run_of(filled, job_of(plan, index)))
        evaluation = evaluate(system, test, bands=[bands])
        scores = evaluation.results[bands].overall
        for protocol in ("all-nan", "present"):
            (row,) = (
                row
                for row in rows_of(filled)
                if (row["bands"], row["protocol"]) == (bands, protocol) and row["row"] in ("VI", "CSK-Net")
            )
            expected = 100 * scores.protocols[protocol].mean_iou  # type: ignore[index]
            assert float(row["ours_mean"]) == pytest.approx(expected, abs=1e-4)
            interval = evaluation.intervals[bands][protocol]
            bounds = float(row["ours_low"]), float(row["ours_high"])
            assert bounds == pytest.approx((100 * interval.low, 100 * interval.high), abs=1e-4)


def test_the_script_of_a_results_page_prints_the_tables_and_what_rows_have_over_others(
    filled: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(Path(__file__).resolve().parents[1] / "speed")
    script = importlib.import_module("scenes_tables")
    monkeypatch.setattr(sys, "argv", ["scenes_tables.py", str(filled), "--seeds", "1"])
    script.main()
    lines = capsys.readouterr().out.splitlines()
    scores = {
        (row["row"], row["bands"]): float(row["ours_mean"])
        for row in rows_of(filled)
        if row["protocol"] == "present" and row["ours_mean"]
    }
    for (label, bands), score in scores.items():
        assert any(line.startswith(f"| {label} | {bands} | ") and f" {score:.1f} (" in line for line in lines)
    over = scores["CSK-Net", "both"] - scores["VI", "visible"]
    (line,) = (line for line in lines if line.startswith("| CSK-Net | VI, given visible | both |"))
    assert f" {over:+.1f} | {over:+.1f} | one seed: none |" in line


def test_csknet_took_the_baseline_for_its_teacher(filled: Path) -> None:
    plan = plan_of()
    card = read_card(run_of(filled, job_of(plan, BOTH)))
    assert card.training["checkpoint"]["teacher"] == {"reused": str(run_of(filled, job_of(plan, VISIBLE)))}
    assert not (run_of(filled, job_of(plan, BOTH)) / "phases").exists()


def test_what_is_finished_is_not_done_again(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise AssertionError("trained or scored again")

    for name in ("train", "resume", "evaluate"):
        monkeypatch.setattr(running, name, refuse)
    plan = plan_of("^VI", "csk-net")
    assert all(state_of(filled, job) == "finished" for job in plan.jobs.values())
    assert run(plan, filled) == {}
    # Another row's bands are scored, without a training.
    score = scores_of(filled, job_of(plan, BOTH), Scoring("infrared"))
    kept = score.read_text()
    score.unlink()
    monkeypatch.setattr(running, "evaluate", evaluate)
    assert run(plan, filled) == {}
    assert score.read_text() == kept


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"results": {"visible": 3}, "pairs": 4}'])
def test_scores_that_are_damaged_are_named(
    filled: Path, tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    shutil.copytree(filled, out)
    (scores,) = out.glob("jobs/scenes/deeplabv3plus-*/seed0/evaluation-visible.json")
    scores.write_text(text)
    arguments = [
        "reproduce",
        "csknet/table-3",
        *ARGUMENTS,
        "--out",
        str(out),
        "--seeds",
        "1",
        "--rows",
        "^VI",
    ]
    line = refused(arguments, capsys)
    assert line.startswith(f"{scores} is damaged")
    assert line.endswith("; delete it, and the same command scores this job again")
    counts = scores.with_name("evaluation-visible-pairs.npz")
    shutil.copyfile(next(filled.glob(f"jobs/scenes/deeplabv3plus-*/seed0/{scores.name}")), scores)
    counts.write_text(text or "x")
    line = refused(arguments, capsys)
    assert line.startswith(f"{counts} is damaged; delete it and {scores.name} beside it")
    counts.unlink()
    scores.unlink()
    assert main(arguments) == 0
    assert rows_of(out)[0]["ours_mean"] == rows_of(filled)[0]["ours_mean"]


def test_estimates_rest_on_finished_jobs_of_the_system(filled: Path) -> None:
    plan = plan_of("^VI", "^IR", "csk-net", seeds=2)
    estimates = estimate_jobs(plan.jobs, filled, CPU)
    seconds = read_card(run_of(filled, job_of(plan, VISIBLE))).training["seconds"]
    other = job_of(plan, 1)
    assert state_of(filled, other) == "to do"
    assert estimates[other.name].seconds == seconds
    assert estimates[other.name].origin == "1 finished job of deeplabv3plus"


def test_estimates_of_other_systems_rest_on_the_speed_of_finished_jobs(
    filled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(device: str) -> float:
        raise AssertionError("measured on a machine that other jobs share")

    monkeypatch.setattr("crossband.reproduce.estimate.measured_speed", refuse)
    visible = job_of(plan_of("^VI"), VISIBLE)
    plan = plan_of("^VI", "C.E.N.")
    estimates = estimate_jobs(plan.jobs, filled, CPU)
    other = next(job for job in plan.jobs.values() if job.options.system == "cen")
    faster = training_operations(other.options, set()) / training_operations(visible.options, set())
    seconds = read_card(run_of(filled, visible)).training["seconds"]
    assert estimates[other.name].seconds == pytest.approx(faster * seconds)
    assert estimates[other.name].origin.endswith("GFLOP/s, as 1 finished job had")


def test_a_job_that_was_cut_off_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, filled: Path
) -> None:
    put = os.replace

    def cut(old: Path, new: Path) -> None:
        put(old, new)
        if Path(new).suffix == ".ckpt":
            raise PowerCutError

    plan = plan_of("^VI")
    (job,) = plan.jobs.values()
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", cut)
        with pytest.raises(PowerCutError):
            run(plan, tmp_path)
    assert state_of(tmp_path, job) == "interrupted"
    assert list(run_of(tmp_path, job).rglob("*.ckpt"))
    config = run_of(tmp_path, job) / "config.yaml"
    begun_elsewhere = replace(TrainOptions.from_yaml(config), accelerator="gpu", workers=3)
    config.write_text(begun_elsewhere.to_yaml())
    with monkeypatch.context() as patch:
        patch.setattr(running, "train", None)
        assert run(plan, tmp_path) == {}
    going_on = TrainOptions.from_yaml(config)
    assert (going_on.accelerator, going_on.workers) == ("cpu", 0)
    whole, resumed = (
        json.loads(scores_of(folder, job, Scoring("visible")).read_text()) for folder in (filled, tmp_path)
    )
    assert resumed["results"] == whole["results"]


def test_what_a_kill_left_before_the_first_file_is_cleared(tmp_path: Path) -> None:
    plan = plan_of("^VI")
    (job,) = plan.jobs.values()
    left = run_of(tmp_path, job)
    left.mkdir(parents=True)
    (left / ".config.yaml.1234.tmp").write_text("system: deep")
    assert state_of(tmp_path, job) == "to do"
    assert run(plan, tmp_path) == {}
    assert not (left / ".config.yaml.1234.tmp").exists()


def test_options_at_test_share_the_training(filled: Path) -> None:
    plain = Row("plain", "both", "csknet", published=("50.00",))
    rows = (plain, replace(plain, at_test={"exchange": False}))
    plan = make_plan([replace(TABLES["csknet/table-3"], rows=rows)], SETTINGS, seeds=1)
    (job,) = (job for job in plan.jobs.values() if job.scorings)
    assert [test.name for test in job.scorings] == ["both", "both,exchange=False"]
    assert run(plan, filled) == {}
    _, card = load_run(run_of(filled, job))
    system = create(card.system, len(card.classes), **{**card.network, "exchange": False})
    load_weights(system, run_of(filled, job) / "weights.safetensors")
    expected = evaluation_dict(evaluate(system.eval(), open_pairs(DATA, "test"), bands=["both"]))
    found = [json.loads(scores_of(filled, job, test).read_text())["results"]["both"] for test in job.scorings]
    assert found[1]["overall"] == expected["results"]["both"]["overall"]
    assert found[0] != found[1]


def test_a_job_of_an_earlier_version_is_scored_as_the_network_that_it_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its card does not name what that version did not know, and the weights fit either network."""
    pairs = open_pairs(DATA, "test")
    small = {"encoder": "test_efficientnet", "decoder_channels": 16, "fusion_width": 8}
    earlier = create("segmif", len(pairs.classes or ()), **small, interaction="adds", semantics="visible")
    job = Job("scenes/segmif-0/seed0", TrainOptions("segmif", data=DATA, out=""), {}, "test")
    run = run_of(tmp_path, job)
    run.mkdir(parents=True)
    save_run(run, earlier, make_card(earlier, pairs.classes, "full-range", {}))
    card = json.loads((run / "card.json").read_text())
    del card["network"]["interaction"]
    (run / "card.json").write_text(json.dumps(card))
    scored = []

    def seen(system: System, *arguments: object, **more: object) -> object:
        scored.append(system)
        return evaluate(system, *arguments, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(running, "evaluate", seen)
    running.score(job, Scoring("both"), tmp_path, CPU)
    assert [system.settings for system in scored] == [earlier.settings]
    assert scores_of(tmp_path, job, Scoring("both")).is_file()


def test_a_job_that_fails_is_said_and_does_not_stop_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    train = running.train

    def fail(options, **more):  # type: ignore[no-untyped-def]
        if options.network.get("band", "visible") == "visible":
            raise CrossbandError("training diverged in epoch 1")
        return train(options, **more)

    monkeypatch.setattr(running, "train", fail)
    arguments = ["reproduce", "csknet/table-3", *ARGUMENTS, "--out", str(tmp_path), "--seeds", "1"]
    assert main([*arguments, "--rows", "^VI", "--rows", "^IR", "--rows", "csk-net"]) == 1
    captured = capsys.readouterr()
    assert captured.err.count("training diverged in epoch 1") == 2
    assert "it needs scenes/deeplabv3plus-" in captured.err
    by_row = {row["row"] + row["bands"]: row for row in rows_of(tmp_path) if row["protocol"] == "present"}
    assert by_row["IRinfrared"]["ours_mean"]
    assert "training diverged" in by_row["VIvisible"]["problem"]
    assert "it needs" in by_row["CSK-Netboth"]["problem"]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB"),
            "the device's memory does not hold it",
        ),
        (ValueError("something new\nwith details"), "ValueError: something new"),
        (KeyError(), "KeyError: no reason given"),
    ],
)
def test_an_error_that_nobody_foresaw_is_its_own_job_s_alone(
    filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, message: str
) -> None:
    """Scoring fails for one job; the next one is done."""
    plan = plan_of("^VI", "^IR")
    score = running.score

    def fail(job: Job, *more: object) -> None:
        if job is job_of(plan, VISIBLE):
            raise error
        score(job, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(running, "score", fail)
    shutil.copytree(run_of(filled, job_of(plan, VISIBLE)), run_of(tmp_path, job_of(plan, VISIBLE)))
    ((name, problem),) = run(plan, tmp_path).items()
    assert name == job_of(plan, VISIBLE).name
    assert message in problem


def test_a_job_that_another_worker_holds_is_left_alone_and_a_dead_worker_holds_nothing(
    tmp_path: Path,
) -> None:
    plan = plan_of("^VI")
    (job,) = plan.jobs.values()
    folder = folder_of(tmp_path, job)
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom crossband.locks import folder_lock\n"
        "with folder_lock(Path(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(600)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    try:
        assert holder.stdout.readline() == "held\n"
        assert state_of(tmp_path, job) == "running"
        assert not running.attempt(job, tmp_path, CPU, print)
        assert not run_of(tmp_path, job).exists()
    finally:
        holder.kill()
        holder.wait()
    assert state_of(tmp_path, job) == "to do"
    with folder_lock(folder):
        assert state_of(tmp_path, job) == "running"


@pytest.mark.slow
def test_two_workers_share_a_folder(tmp_path: Path) -> None:
    """Each job is trained by one of them, and both end with the same whole table."""
    arguments = ["reproduce", "csknet/table-3", *ARGUMENTS, "--out", str(tmp_path), "--seeds", "2"]
    command = [sys.executable, "-m", "crossband", *arguments, "--rows", "^VI", "--rows", "^IR"]
    workers = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)
    ]
    ends = [worker.communicate(timeout=300) for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], ends
    plan = plan_of("^VI", "^IR", seeds=2)
    assert len(plan.jobs) == 4
    for name, job in plan.jobs.items():
        assert is_finished(tmp_path, job)
        assert sum(f"{name}: training" in out for out, _ in ends) == 1
    rows = [row for row in rows_of(tmp_path) if row["ours_mean"] and row["measure"] == "mean_iou"]
    assert [row["seeds"] for row in rows] == ["2"] * 4
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.mark.slow
def test_a_ray_cluster_of_two_workers_does_the_jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray", reason="Ray is not installed (extra ray)")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        plan = plan_of("^VI", "^IR", "csk-net")
        said: list[str] = []
        failed = reproduce(
            plan, tmp_path, compute=CPU, launcher=Launcher("ray"), command="test", say=said.append
        )
    finally:
        ray.shutdown()
    assert failed == {}
    assert all(is_finished(tmp_path, job) for job in plan.jobs.values())
    # CSK-Net waited for the baseline that it takes for its teacher.
    baseline, csknet = job_of(plan, VISIBLE).name, job_of(plan, BOTH).name
    assert said.index(f"{baseline}: finished") < said.index(f"{csknet}: finished")
    rows = [row for row in rows_of(tmp_path) if row["ours_mean"] and row["measure"] == "mean_iou"]
    assert len(rows) == 2 * 4


def test_failures_on_ray_reach_the_table(tmp_path: Path) -> None:
    """A task says why it failed, and one that needs it does not start."""
    launcher = pytest.importorskip("crossband.reproduce.ray_launcher")
    plan = plan_of("^VI", "csk-net")
    bad = job_of(plan, VISIBLE)
    bad = replace(bad, options=replace(bad.options, data="scenes,train=0,val=0,test=4,size=32x48"))
    problem = launcher.do_task(bad, tmp_path, CPU, [])
    assert problem
    after = launcher.do_task(job_of(plan, BOTH), tmp_path, CPU, [bad.name], problem)
    assert after == f"it needs {bad.name}: {problem}"
    assert not run_of(tmp_path, job_of(plan, BOTH)).exists()


@pytest.mark.slow
def test_a_job_may_train_on_two_devices(tmp_path: Path) -> None:
    arguments = ["reproduce", "csknet/table-3", *ARGUMENTS, "--out", str(tmp_path), "--seeds", "1"]
    command = [sys.executable, "-m", "crossband", *arguments, "--rows", "^VI", "--devices", "2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    (job,) = plan_of("^VI").jobs.values()
    assert read_card(run_of(tmp_path, job)).training["devices"] == 2
    assert is_finished(tmp_path, job)


@pytest.mark.slow
@pytest.mark.parametrize("devices", [1, 2])
def test_a_signal_ends_it_by_its_number_and_the_same_command_goes_on(devices: int, tmp_path: Path) -> None:
    """Trained in its own process, and in two others."""
    arguments = ["reproduce", "csknet/table-3", *ARGUMENTS, "--out", str(tmp_path), "--seeds", "2"]
    command = [sys.executable, "-m", "crossband", *arguments, "--rows", "^IR", "--epochs", "400"]
    process = subprocess.Popen(
        [*command, "--devices", str(devices)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while process.poll() is None and not [*tmp_path.rglob("curves.csv")]:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert error == "crossband: ended by SIGTERM; go on with the same command\n"
    assert not [*tmp_path.rglob("card.json")]
