"""One writer per folder, whatever the command: real processes, and one folder."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from command_line import refused
from crossband.cli import main
from crossband.locks import folder_lock, is_vacant
from crossband.training.engine import train
from processes import Command
from stored_images import noise
from tiny_runs import TINY_DATA, tiny_options

HOLD = (
    "import sys; from pathlib import Path; from crossband.locks import folder_lock\n"
    "with folder_lock(Path(sys.argv[1])): print(flush=True); sys.stdin.read()"
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of CSK-Net, and a visible image."""
    place = tmp_path_factory.mktemp("writers")
    train(tiny_options(place / "run", "csknet", recipe={"epochs": 1, "batch_size": 4}), quiet=True)
    Image.fromarray(noise(32, 48, 3)).save(place / "a.png")
    return place


@pytest.mark.parametrize(
    "command",
    [
        ["predict", "{run}", "--visible", "{image}"],
        ["fuse", "average", "--visible", "{image}"],
        ["evaluate", "{run}", "--data", TINY_DATA, "--workers", "0"],
        ["evaluate", "average", "--fusion", "--data", TINY_DATA, "--workers", "0"],
        ["recalibrate", "{run}", "--data", TINY_DATA],
        ["data", "export", TINY_DATA],
    ],
    ids=["predict", "fuse", "evaluate", "evaluate --fusion", "recalibrate", "data export"],
)
def test_a_held_folder_is_refused_in_one_line(
    command: list[str], place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(out)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        holder.stdout.readline()
        told = [part.format(run=place / "run", image=place / "a.png") for part in command]
        line = refused([*told, "--out", str(out)], capsys)
        assert line.startswith(f"{out} is being written to by process {holder.pid} on ")
    finally:
        holder.communicate()
    assert not out.exists()


def test_of_two_exports_at_once_one_is_refused(tmp_path: Path) -> None:
    both = [
        Command(
            *("data", "export", f"scenes,seed={seed},train=40,val=0,test=1,size=32x48"),
            *("--out", tmp_path / "out"),
        )
        for seed in (0, 1)
    ]
    errors = [process.communicate()[1] for process in both]
    assert sorted(process.poll() or 0 for process in both) == [0, 2]
    (error,) = filter(None, errors)
    assert error.count("\n") == 1
    assert len(list((tmp_path / "out" / "train" / "visible").iterdir())) == 40
    assert [path.name for path in tmp_path.iterdir()] == ["out"], "nothing is left beside it"


def test_what_a_killed_export_left_is_removed_by_the_next(tmp_path: Path) -> None:
    source, out = "scenes,train=400,val=0,test=0,size=32x48", tmp_path / "out"
    killed = Command("data", "export", source, "--out", out)
    while not list(tmp_path.glob(".*.export/out/train/visible/*.png")):
        assert killed.poll() is None
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert is_vacant(out)
    assert main(["data", "export", TINY_DATA, "--out", str(out)]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    names = [path.name for path in sorted(out.iterdir())]
    assert names == ["classes.yaml", "legend.png", "test", "train", "val"]


def test_a_folder_that_is_exported_to_may_be_a_link(tmp_path: Path) -> None:
    with folder_lock(tmp_path / "real"):
        (tmp_path / "real" / "kept").touch()
    (tmp_path / "real" / "kept").unlink()
    (tmp_path / "link").symlink_to("real")
    assert main(["data", "export", TINY_DATA, "--out", str(tmp_path / "link")]) == 0
    assert (tmp_path / "real" / "train").is_dir()
    assert (tmp_path / "link").is_symlink()
