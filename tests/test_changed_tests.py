"""Which slow tests continuous integration runs for what changed (`make test-changed`)."""

from __future__ import annotations

import importlib.util
import os
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType

import pytest

from crossband.systems import list_systems, system_class

ROOT = Path(__file__).resolve().parents[1]


def load_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("changed_tests", ROOT / ".ci" / "changed_tests.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


CHANGED = load_script()
TWO = "(test_amdanet or test_csknet) and not compilation"
TWO_EXPORTED = "(test_amdanet or test_csknet or onnx and amdanet) and not compilation"


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["src/crossband/systems/cen/network.py"], "(test_cen or onnx and cen) and not compilation"),
        (
            ["src/crossband/systems/deeplabv3plus.py"],
            "(test_deeplabv3plus or onnx and deeplabv3plus) and not compilation",
        ),
        (["src/crossband/systems/csknet/network.py"], "(test_csknet) and not compilation"),
        (
            ["src/crossband/systems/amdanet/network.py"],
            "(test_amdanet or onnx and amdanet) and not compilation",
        ),
        (["src/crossband/export/tracing.py"], "(test_export.py) and not compilation"),
        (["tests/test_mrfs_training.py"], "(test_mrfs) and not compilation"),
        (["src/crossband/reproduce/filling.py"], "(test_reproduce) and not compilation"),
        (["src/crossband/systems/base.py"], TWO),
        (["src/crossband/systems/creation.py"], TWO),
        (["src/crossband/blocks/luma.py"], TWO_EXPORTED),
        (["src/crossband/losses/fusion.py"], TWO),
        (["src/crossband/recipe.py"], TWO),
        (["src/crossband/pairs/batch.py"], TWO),
        (
            ["src/crossband/training/engine.py", "src/crossband/systems/cen/training.py"],
            "(test_amdanet or test_cen or test_csknet or test_training.py or onnx and cen) "
            "and not compilation",
        ),
        (["src/crossband/pairs/folder.py", "README.md", "tests/test_text.py"], ""),
        ([], ""),
    ],
)
def test_the_tests_of_what_changed(paths: list[str], expected: str) -> None:
    assert CHANGED.expression(paths) == expected


def test_what_a_system_is_made_of_asks_for_its_export() -> None:
    for name in set(list_systems()) - {CHANGED.EXPORTED_ANYWAY}:
        for kind in system_class(name).__mro__:
            module = kind.__module__.replace(".", "/")
            if module.startswith("crossband/systems/") and module != "crossband/systems/base":
                chosen = CHANGED.expression([f"src/{module}.py"])
                assert f"onnx and {name}" in chosen, (module, chosen)


def test_every_system_that_is_trained_has_a_test_that_it_learns() -> None:
    for name in list_systems():
        if system_class(name).trained_by is not None:
            text = (ROOT / "tests" / f"test_{name}_training.py").read_text(encoding="utf-8")
            before, found, _ = text.partition(f"def {CHANGED.ALL_SYSTEMS}")
            assert found, name
            assert "@pytest.mark.slow" in before.rpartition("\n\n\n")[2], name


def repository(folder: Path, *commits: tuple[str, str]) -> Path:
    """A repository with commits of a date and a path each."""

    def git(*arguments: str, date: str = "") -> None:
        place = {"GIT_AUTHOR_DATE": date, "GIT_COMMITTER_DATE": date} if date else {}
        who = ["-c", "user.name=T", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", *who, *arguments], cwd=folder, check=True, env={**os.environ, **place})

    folder.mkdir()
    git("init", "--quiet")
    for date, path in commits:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(date)
        git("add", ".")
        git("commit", "--quiet", "-m", path, date=date)
    return folder


OLD, NEW = "2020-01-01T00:00:00", "2020-01-02T00:00:00"
CEN, BASE = "src/crossband/systems/cen/network.py", "src/crossband/systems/base.py"


def test_the_last_commit_is_looked_at_however_old_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = repository(tmp_path / "it", (OLD, BASE), (NEW, CEN))
    assert CHANGED.main(folder) == 0
    assert capsys.readouterr().out == "(test_cen or onnx and cen) and not compilation\n"


def test_what_was_committed_hours_before_has_been_tested(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    now = datetime.now(UTC)
    old, first, last = ((now - timedelta(hours=hours)).isoformat(timespec="seconds") for hours in (5, 3, 1))
    folder = repository(tmp_path / "it", (old, BASE), (first, CEN), (last, "README.md"))
    assert CHANGED.main(folder) == 0
    assert capsys.readouterr().out == "(test_cen or onnx and cen) and not compilation\n"


def test_without_an_earlier_commit_every_system_is_tested(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = repository(tmp_path / "it", (OLD, BASE), (NEW, CEN))
    shallow = tmp_path / "shallow"
    clone = ["git", "clone", "--quiet", "--depth", "1", f"file://{folder}", str(shallow)]
    subprocess.run(clone, check=True)
    for place in (shallow, repository(tmp_path / "first", (OLD, CEN))):
        assert CHANGED.main(place) == 0
        out, err = capsys.readouterr()
        assert out == "test_it_overfits\n"
        assert err == "no earlier commit to compare with: the slow test of every system\n"


def test_what_git_cannot_do_is_said_and_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert CHANGED.main(tmp_path) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("what changed cannot be told: fatal: not a git repository")
    assert err.count("\n") == 1
