"""`.ci/run`: what it has running ends with it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

STEP = """#!/usr/bin/env bash
echo "$*" >>told
if [ "${HANG:-}" != "$1" ]; then [ "${FAIL:-}" != "$*" ]; exit; fi
sleep 600 &
echo $! $$ >"$$.pids"
wait
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with the script, and with a step that runs nothing, and hangs or fails where it is told to."""
    (tmp_path / ".ci").mkdir()
    shutil.copy(Path(__file__).resolve().parents[1] / ".ci" / "run", tmp_path / ".ci" / "run")
    step = tmp_path / ".ci" / "step"
    step.write_text(STEP)
    step.chmod(0o755)
    return tmp_path


def started(checkout: Path, **more: str) -> subprocess.Popen[bytes]:
    # What runs the tests may ignore a signal, which its children would ignore too.
    command = ["env", "--default-signal=HUP,INT,TERM", str(checkout / ".ci" / "run")]
    return subprocess.Popen(command, env={**os.environ, **more})


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize(("hanging", "steps"), [("test", 1), ("--whole", 2)])
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM])
def test_what_runs_ends_with_the_script(
    checkout: Path, number: signal.Signals, hanging: str, steps: int
) -> None:
    script = started(checkout, HANG=hanging)
    until = time.monotonic() + 60
    while len(lines := [p.read_text() for p in checkout.glob("*.pids")]) < steps or not all(lines):
        assert time.monotonic() < until
        assert script.poll() is None
        time.sleep(0.02)
    running = [int(word) for line in lines for word in line.split()]
    assert all(map(alive, running))
    script.send_signal(number)
    code = script.wait(30)
    # A process that was sent a signal may take a moment to be gone, on a machine that is not idle.
    until = time.monotonic() + 10
    while any(map(alive, running)) and time.monotonic() < until:
        time.sleep(0.02)
    left = list(filter(alive, running))
    for process in left:
        os.kill(process, signal.SIGKILL)
    assert (code, left) == (128 + number, [])


def told(checkout: Path) -> list[str]:
    """The steps that were begun, in their order; those that are begun together by their names."""
    steps = (checkout / "told").read_text().splitlines()
    where = steps.index("test") if "test" in steps else len(steps)
    return [*sorted(steps[:where]), *steps[where : where + 1], *sorted(steps[where + 1 :])]


def test_every_step_is_run_whatever_fails_among_the_last(checkout: Path) -> None:
    assert started(checkout, FAIL="--whole lint").wait(60) == 123
    assert told(checkout) == [
        *("--whole browser", "--whole extras", "--whole setup", "test", "--whole docs", "--whole lint"),
        *("--whole reproduce-two-rows", "--whole soak-short", "--whole test-changed"),
        *("--whole test-serve", "--whole test-snippets"),
    ]


@pytest.mark.parametrize("failing", ["setup", "extras"])
def test_nothing_is_run_after_a_set_up_that_failed(checkout: Path, failing: str) -> None:
    assert started(checkout, FAIL=f"--whole {failing}").wait(60) == 123
    assert told(checkout) == ["--whole browser", "--whole extras", "--whole setup"]
