"""Very many pairs in parts: each done once, whole, whatever becomes of the workers."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from command_line import refused
from crossband.cli import main
from crossband.errors import OptionError
from crossband.evaluation.pair_counts import PairCounts, joined, read_pair_counts
from crossband.many.cluster import Launcher
from crossband.many.jobs import Done, Job, PredictParts, ScoreParts, as_columns, begun
from crossband.many.parts import Cut, settle
from crossband.many.working import do_parts
from crossband.results import open_results
from crossband.training.engine import train
from crossband.words import PAIR_COUNTS_NAME
from tiny_runs import tiny_options

PAIRS = "scenes,train=1,val=0,test=7,size=32x48"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("many") / "run"
    return train(tiny_options(folder, "csknet", recipe={"epochs": 1, "batch_size": 4}), quiet=True)


def cut(run: Path | str = "run", **changes: object) -> Cut:
    given = {"task": "evaluate", "source": PAIRS, "split": "test", "pairs": 7, "size": 3}
    return Cut(run=str(run), weights_sha256=None, **{**given, **changes})  # type: ignore[arg-type]


def job(run: Path, out: Path) -> ScoreParts:
    return ScoreParts(cut(run), out, Path.cwd(), {"device": "cpu"}, batch_size=2, bands=("both", "infrared"))


def whole(run: Path, out: Path) -> PairCounts:
    """What one process counts."""
    assert main(["evaluate", str(run), "--data", PAIRS, "--out", str(out), "--device", "cpu"]) == 0
    return read_pair_counts(out / PAIR_COUNTS_NAME)


def test_parts_hold_every_pair_once_in_order() -> None:
    assert [list(cut().part(index)) for index in range(len(cut()))] == [[0, 1, 2], [3, 4, 5], [6]]
    assert len(cut(pairs=6)) == 2
    assert [*cut().names()] == ["part-000000", "part-000001", "part-000002"]


def test_a_folder_holds_the_parts_of_one_cut(tmp_path: Path) -> None:
    settle(tmp_path, cut())
    settle(tmp_path, cut())
    with pytest.raises(OptionError, match="of which size is 3, not 4"):
        settle(tmp_path, cut(size=4))
    with pytest.raises(OptionError, match="of which bands is None, not 'both'"):
        settle(tmp_path, cut(how={"bands": "both"}))
    (tmp_path / "parts.json").write_text("[")
    with pytest.raises(OptionError, match=r"parts\.json cannot be read"):
        settle(tmp_path, cut())
    (tmp_path / "parts.json").write_text("[]")
    with pytest.raises(OptionError, match=r"parts\.json does not say how"):
        settle(tmp_path, cut())


def test_parts_are_counted_as_the_whole_is(run: Path, tmp_path: Path) -> None:
    work = job(run, tmp_path)
    do = begun(work)
    assert [do(index) for index in range(3)] == [Done(3), Done(3), Done(1)]
    ours = joined([read_pair_counts(work.file(index)) for index in range(3)])
    theirs = whole(run, tmp_path / "whole")
    assert ours.names == theirs.names
    assert ours.conditions == theirs.conditions
    np.testing.assert_array_equal(ours.matrices["infrared"], theirs.matrices["infrared"])


def test_a_part_that_is_there_is_left_alone(run: Path, tmp_path: Path) -> None:
    work = job(run, tmp_path)
    work.file(1).write_bytes(b"whole")
    assert begun(work)(1) == Done(3)
    assert work.file(1).read_bytes() == b"whole"


def test_parts_are_predicted_as_the_whole_is(run: Path, tmp_path: Path) -> None:
    pairs = tmp_path / "pairs"
    assert main(["data", "export", PAIRS, "--out", str(pairs)]) == 0
    visible = sorted((pairs / "test" / "visible").iterdir())
    visible[4].write_bytes(visible[4].read_bytes()[:80])
    whole = tmp_path / "whole"
    plain = ["predict", str(run), "--data", f"folder:{pairs}", "--split", "test", "--out", str(whole)]
    assert main([*plain, "--device", "cpu", "--missing", "use"]) == 3
    made = cut(run, task="predict", source=f"folder:{pairs}")
    work = PredictParts(made, tmp_path / "out", Path.cwd(), {"device": "cpu"}, 2, "use")
    do = begun(work)
    (work.out / ".part-000000" / "label").mkdir(parents=True)
    assert [do(index) for index in range(3)] == [Done(3), Done(3, 1), Done(1)]
    assert do(1) == Done(3, 1)
    assert sorted(path.name for path in work.out.iterdir()) == [*made.names()]
    for index in range(3):
        assert not (work.folder(index) / "failures.csv").exists() or index == 1
        for label in (work.folder(index) / "label").iterdir():
            assert label.read_bytes() == (whole / "label" / label.name).read_bytes()
    assert len([*work.out.glob("part-*/label/*.png")]) == 6
    again = open_results(work.folder(0))
    assert [again[index].visible is not None for index in range(len(again))] == [True] * 3


def test_what_cannot_be_done_is_told_for_every_part(tmp_path: Path) -> None:
    do = begun(job(tmp_path / "nowhere", tmp_path))
    assert "nowhere" in str(do(0).problem)
    assert do(0) == do(1)


def test_a_list_that_a_worker_sees_otherwise_is_refused(run: Path, tmp_path: Path) -> None:
    work = ScoreParts(cut(run, pairs=8), tmp_path, Path.cwd(), {"device": "cpu"}, 1, ("both",))
    assert "has 7 pairs here, and 8 where" in str(begun(work)(0).problem)


def test_counts_of_different_lists_are_not_joined() -> None:
    def counted(source: str) -> PairCounts:
        from crossband.pairs.base import Classes

        classes = Classes(("a", "b"), ((0, 0, 0), (9, 9, 9)))
        return PairCounts(source, "test", classes, ("x",), ("day",), {"both": np.ones((1, 2, 2), np.int32)})

    assert joined([counted("one"), counted("one")]).names == ("x", "x")
    with pytest.raises(OptionError, match="of two cannot be joined with those of one"):
        joined([counted("one"), counted("two")])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--part_size", "3"], "--part_size is for a Ray cluster"),
        (["--launcher", "ray"], "--launcher ray needs --out"),
        (["--launcher", "ray", "--out", "o", "--cpus", "0"], "--cpus must be 1 or more"),
    ],
)
def test_options_of_a_cluster(
    run: Path, capsys: pytest.CaptureFixture[str], given: list[str], said: str
) -> None:
    assert said in refused(["evaluate", str(run), "--data", PAIRS, *given], capsys)


def without_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a worker does is done in this process."""

    def in_this_process(ray: object, job: Job, waiting: list[int], *room: int) -> list[dict[str, Any]]:
        do = begun(job)
        columns = [as_columns([(index, do(index))]) for index in waiting]
        return [{name: values[0] for name, values in each.items()} for each in columns]

    fake = SimpleNamespace(cluster_resources=lambda: {"CPU": 1})
    monkeypatch.setattr("crossband.many.working._rows", in_this_process)
    monkeypatch.setattr("crossband.many.working.cluster", lambda address: nullcontext(fake))


def test_parts_that_were_counted_otherwise_are_not_taken(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs, out = tmp_path / "pairs", tmp_path / "out"
    assert main(["data", "export", PAIRS, "--out", str(pairs)]) == 0
    command = ["evaluate", str(run), "--data", f"folder:{pairs}", "--device", "cpu"]
    command += ["--launcher", "ray", "--part_size", "3", "--out", str(out)]
    without_a_cluster(monkeypatch)
    assert main([*command, "--bands", "infrared"]) == 0
    capsys.readouterr()
    assert "of which bands is 'infrared', not 'both, infrared, visible'" in refused(command, capsys)
    command += ["--bands", "infrared"]
    assert "of which by is 'condition', not 'none'" in refused([*command, "--by", "none"], capsys)
    assert "precision is 'float32', not 'bfloat16'" in refused([*command, "--precision", "bfloat16"], capsys)
    assert main(command) == 0
    capsys.readouterr()
    os.utime(next((pairs / "test" / "label").iterdir()), (1, 1))
    assert "holds parts of pairs of which a file has changed since" in refused(command, capsys)


def test_parts_of_images_that_changed_are_not_taken(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs, out = tmp_path / "pairs", tmp_path / "out"
    assert main(["data", "export", PAIRS, "--out", str(pairs)]) == 0
    command = ["predict", str(run), "--data", f"folder:{pairs}", "--split", "test", "--device", "cpu"]
    command += ["--launcher", "ray", "--part_size", "3", "--out", str(out)]
    without_a_cluster(monkeypatch)
    for _ in range(2):
        assert main(command) == 0
    # A label is not what predictions are made of.
    os.utime(next((pairs / "test" / "label").iterdir()), (1, 1))
    assert main(command) == 0
    capsys.readouterr()
    os.utime(next((pairs / "test" / "infrared").iterdir()), (1, 1))
    assert "holds parts of pairs of which a file has changed since" in refused(command, capsys)


@dataclass(frozen=True)
class DiesOnce(ScoreParts):
    """Its worker is killed in the middle of the second part, the first time."""

    def begin(self) -> Callable[[int], Done]:
        do = super().begin()

        def dies(index: int) -> Done:
            marker = self.out / "died"
            if index == 1 and not marker.exists():
                marker.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return do(index)

        return dies


@pytest.mark.slow
def test_a_worker_that_is_killed_costs_nothing_but_time(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = pytest.importorskip("ray", reason="Ray is not installed (extra ray)")
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    expected = whole(run, tmp_path / "whole")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    out = tmp_path / "out"
    out.mkdir()
    try:
        plain = job(run, out)
        work = DiesOnce(**{name: getattr(plain, name) for name in plain.__dataclass_fields__})
        seen: list[tuple[int, int]] = []
        assert do_parts(work, Launcher("ray"), progress=lambda *at: seen.append(at)) == Done(7)
        assert (out / "died").exists()
        assert seen[-1] == (7, 7)
        ours = joined([read_pair_counts(work.file(index)) for index in range(3)])
        assert ours.names == expected.names
        np.testing.assert_array_equal(ours.matrices["infrared"], expected.matrices["infrared"])

        there = {path.name: path.stat().st_mtime_ns for path in out.glob("*.npz")}
        work.file(2).unlink()
        assert do_parts(work, Launcher("ray")) == Done(7)
        del there["part-000002.npz"]
        assert {name: (out / name).stat().st_mtime_ns for name in there} == there
        work.file(2).unlink()
        with pytest.raises(OptionError, match="takes 99 CPUs, but the Ray cluster has 2"):
            do_parts(work, Launcher("ray", cpus=99))

        arguments = [
            "evaluate",
            str(run),
            "--data",
            PAIRS,
            "--out",
            str(tmp_path / "told"),
            "--device",
            "cpu",
        ]
        assert main([*arguments, "--launcher", "ray", "--part_size", "2"]) == 0
        found = [json.loads((tmp_path / name / "evaluation.json").read_text()) for name in ("told", "whole")]
        assert found[0]["results"] == found[1]["results"]

        plain = ["predict", str(run), "--data", PAIRS, "--split", "test", "--device", "cpu"]
        parts = ["--launcher", "ray", "--part_size", "4", "--out", str(tmp_path / "labels")]
        assert main([*plain, *parts]) == 0
        assert len([*(tmp_path / "labels").glob("part-*/label/*.png")]) == 7
    finally:
        ray.shutdown()
