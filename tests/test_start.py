"""What is wrong with a command is found before PyTorch is loaded, and so is what a list of systems says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from crossband.info import count_flops
from crossband.locks import folder_lock
from crossband.systems import create, list_systems, system_class
from crossband.systems.registry import describe_systems, needs_training

MANY = """
import json, sys
from crossband.cli import main
answers = []
for command in json.loads(sys.stdin.read()):
    try:
        code = main(command)
    except SystemExit as end:
        code = end.code
    answers.append([code, "torch" in sys.modules])
print(json.dumps(answers))
"""


def test_wrong_arguments_are_refused_without_pytorch(tmp_path: Path) -> None:
    finished = tmp_path / "finished"
    finished.mkdir()
    (finished / "card.json").write_text("{}")
    held = tmp_path / "held"
    held.mkdir()
    (held / "config.yaml").touch()
    for name, size in (("a", (64, 48)), ("b", (60, 48))):
        Image.new("L", size).save(tmp_path / f"{name}.png")
    wide, narrow, lost, out = (str(tmp_path / name) for name in ("a.png", "b.png", "lost.png", "out"))
    train = ["train", "csknet", "--data", "scenes"]
    refused = [
        [*train, "--split", "nowhere", "--out", out],
        [*train, "--out", str(finished)],
        [*train, "--out", out, "--reuse.teacher", lost],
        ["train", "csknet", "--data", f"folder:{lost}", "--out", out],
        ["train", "cskmet", "--data", "scenes", "--out", out],
        ["train", "--resume", lost],
        ["train", "--resume", str(held)],
        ["predict", lost, "--visible", wide, "--out", out],
        ["predict", str(finished), "--visible", wide, "--out", out],
        ["predict", "csknet", "--visible", wide, "--out", out],
        ["fuse", "laplacian", "--visible", wide, "--infrared", narrow, "--out", out],
        ["fuse", "laplacian", "--visible", lost, "--out", out],
        ["evaluate", lost, "--data", "scenes"],
        ["evaluate", "average", "--fusion", "--data", "scenes", "--split", "nowhere"],
        ["recalibrate", lost, "--data", "scenes", "--out", out],
        ["info", lost],
    ]
    with folder_lock(held):
        done = subprocess.run(
            [sys.executable, "-c", MANY],
            input=json.dumps([["systems"], *refused]),
            capture_output=True,
            text=True,
            env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
            check=True,
        )
    answers = json.loads(done.stdout.splitlines()[-1])
    assert answers == [[0, False], *[[2, False]] * len(refused)]
    lines = done.stderr.splitlines()
    assert len(lines) == len(refused), done.stderr
    assert all(line.startswith("crossband: error: ") for line in lines)


@pytest.mark.parametrize("name", list_systems())
def test_the_list_says_what_the_class_says(name: str) -> None:
    system = system_class(name)
    line = next(line for line in describe_systems() if line.startswith(f"{name} "))
    assert system.summary in line
    assert system.paper == "none" or f"({system.paper})" in line
    assert needs_training(name) == (system.trained_by is not None)


@pytest.mark.parametrize("name", ["deeplabv3plus", "disoptnet"])
def test_operations_counted_by_shapes_alone_are_those_of_computing(name: str) -> None:
    """A convolution's count is linear in its output's pixels, so that a small image tells of a large one."""
    system = create(name, classes=5, encoder="resnet18")
    bands = next(iter(system.supports))
    computed, followed = (count_flops(system, bands, (64 * n, 64 * n)) for n in (1, 4))
    assert followed == pytest.approx(16 * computed, rel=1e-3)
    assert all(type(parameter).__name__ == "Parameter" for parameter in system.parameters())


def test_help_loads_nothing_heavy() -> None:
    """Not even NumPy: `crossband --help` answers at once."""
    code = "import sys, crossband.cli; print(sorted({'cv2', 'numpy', 'torch'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_only_the_command_itself_spares_the_collector() -> None:
    program = (
        "import gc, sys; from crossband.cli import main; before = gc.get_threshold()[0]; main(['systems']); "
        "called = gc.get_threshold()[0]; sys.argv = ['crossband', 'systems']; main(); "
        "print(before, called, gc.get_threshold()[0], file=sys.stderr)"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    before, called, commanded = map(int, ran.stderr.split())
    assert before == called < commanded
