"""One writer per folder, between real processes."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from crossband.errors import CrossbandError, FolderInUseError, OptionError
from crossband.locks import LOCK_NAME, folder_lock, holder_of, is_vacant

HOLD = """
import sys
from pathlib import Path
from crossband.locks import folder_lock
print("asking", flush=True)
with folder_lock(Path(sys.argv[1]), wait=len(sys.argv) > 2):
    print("held", flush=True)
    sys.stdin.read()
"""

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts processes that hold a folder until their input is closed; kills what is left of them."""
    started = []

    def run(*arguments: str | Path) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", HOLD, *map(str, arguments)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "asking\n"
        return process

    yield run
    for process in started:
        process.kill()
        with process:
            pass


def held(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"


def end(process: subprocess.Popen[str]) -> None:
    process.communicate()
    assert process.returncode == 0


def test_a_second_process_is_refused_by_name_until_the_first_ends(tmp_path: Path, start: Start) -> None:
    folder = tmp_path / "runs" / "mine"
    first = start(folder)
    held(first)
    assert holder_of(folder) == f"process {first.pid} on {os.uname().nodename}"
    said = f"{re.escape(str(folder))} is being written to by process {first.pid} on .+; wait until"
    with pytest.raises(FolderInUseError, match=said) as caught, folder_lock(folder):
        pass
    assert "\n" not in str(caught.value)
    end(first)
    assert not (tmp_path / "runs").exists()
    assert holder_of(folder) is None
    with folder_lock(folder):
        assert holder_of(folder) == f"process {os.getpid()} on {os.uname().nodename}"


def test_a_killed_process_holds_nothing_and_its_file_does_not_count(tmp_path: Path, start: Start) -> None:
    first = start(tmp_path)
    held(first)
    first.kill()
    first.wait()
    assert [path.name for path in tmp_path.iterdir()] == [LOCK_NAME]
    assert is_vacant(tmp_path)
    assert holder_of(tmp_path) is None
    with folder_lock(tmp_path):
        assert holder_of(tmp_path) == f"process {os.getpid()} on {os.uname().nodename}"
    assert list(tmp_path.iterdir()) == []


def test_who_waits_gets_the_folder_in_turn(tmp_path: Path, start: Start) -> None:
    """Though the one before takes the lock's file, and the folder it made, away."""
    folder = tmp_path / "new"
    first = start(folder)
    held(first)
    others = [start(folder, "wait") for _ in range(2)]
    end(first)
    for other in others:
        assert other.stdin is not None
        other.stdin.close()
    for other in others:
        held(other)
        assert other.wait() == 0
    assert not folder.exists()


MANY = """
import os, sys
from pathlib import Path
from crossband.locks import folder_lock
for turn in range(60):
    folder = Path(sys.argv[1], f"above{turn}", "new")
    children = []
    for _ in range(5):
        child = os.fork()
        if child == 0:
            with folder_lock(folder, wait=True):
                pass
            os._exit(0)
        children.append(child)
    failed = [child for child in children if os.waitpid(child, 0)[1] != 0]
    print(len(failed), len([path for path in folder.parent.rglob("*") if path.is_file()]))
"""


def test_of_many_who_come_at_once_none_fails_or_leaves_a_file(tmp_path: Path) -> None:
    """While some make the folder and what is above it, others take both away."""
    command = [sys.executable, "-c", MANY, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["0 0"] * 60


def test_what_was_written_stays(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    with folder_lock(folder):
        (folder / "file").touch()
    assert [path.name for path in folder.iterdir()] == ["file"]
    (folder / "file").unlink()
    with folder_lock(folder):
        pass
    assert folder.is_dir()


def test_one_thread_may_hold_a_folder_twice_and_another_may_not(tmp_path: Path) -> None:
    refused: list[BaseException] = []

    def try_it() -> None:
        try:
            with folder_lock(tmp_path):
                pass
        except CrossbandError as error:
            refused.append(error)

    with folder_lock(tmp_path) as outer:
        with folder_lock(tmp_path / "x" / "..", wait=True) as inner:
            assert inner == outer
        assert holder_of(tmp_path) is not None
        thread = threading.Thread(target=try_it)
        thread.start()
        thread.join()
    assert [type(error) for error in refused] == [FolderInUseError]
    assert holder_of(tmp_path) is None


def test_an_error_inside_lets_go(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), folder_lock(tmp_path / "new"):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_a_folder_removed_inside_is_no_error(tmp_path: Path) -> None:
    """As a training removes its folder if it fails before its first epoch."""
    folder = tmp_path / "new"
    with folder_lock(folder):
        (folder / LOCK_NAME).unlink()
        folder.rmdir()
    assert list(tmp_path.iterdir()) == []


def test_a_forked_process_does_not_keep_its_parent_s_lock(tmp_path: Path) -> None:
    """A loader's workers may live a little longer than a process that was killed."""
    asked, answer = os.pipe()
    with folder_lock(tmp_path) as descriptor:
        child = os.fork()
        if not child:
            try:
                fcntl.fcntl(descriptor, fcntl.F_GETFD)
            except OSError as error:
                os.write(answer, str(error.errno).encode())
            os._exit(0)
        os.waitpid(child, 0)
        os.close(answer)
        assert holder_of(tmp_path) is not None
    with os.fdopen(asked) as reader:
        assert reader.read() == str(errno.EBADF)


def test_a_program_that_got_the_descriptor_holds_the_folder_too(tmp_path: Path) -> None:
    code = (
        "import os, subprocess, sys\nfrom pathlib import Path\nfrom crossband.locks import folder_lock\n"
        "with folder_lock(Path(sys.argv[1])) as lock:\n"
        "    wait = 'import sys; print(1, flush=True); sys.stdin.read()'\n"
        "    child = subprocess.Popen([sys.executable, '-c', wait], pass_fds=(lock,))\n"
        "    os.kill(os.getpid(), 9)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    assert parent.stdout.readline() == "1\n"
    parent.wait()
    with pytest.raises(FolderInUseError), folder_lock(tmp_path):
        pass
    parent.communicate()
    with folder_lock(tmp_path, wait=True):
        pass


def test_places_that_cannot_be_held_are_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OptionError, match="file is a file, not a folder"), folder_lock(tmp_path / "file"):
        pass
    said = r"cannot write into .+: Not a directory; choose"
    with pytest.raises(OptionError, match=said), folder_lock(tmp_path / "file" / "run"):
        pass

    def read_only(*arguments: object) -> int:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "open", read_only)
    said = r"cannot write into .+: Read-only file system; choose"
    with pytest.raises(OptionError, match=said), folder_lock(tmp_path):
        pass


def test_a_file_system_without_locks_says_so_and_is_left_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    said = r"has no locks \(.+\), so that two .+; choose a folder on"
    with pytest.raises(OptionError, match=said), folder_lock(tmp_path / "new"):
        pass
    assert list(tmp_path.iterdir()) == []
    (tmp_path / LOCK_NAME).touch()
    with pytest.raises(OptionError, match="has no locks"):
        holder_of(tmp_path)


def test_what_is_vacant(tmp_path: Path) -> None:
    assert is_vacant(tmp_path)
    assert is_vacant(tmp_path / "missing")
    (tmp_path / LOCK_NAME).touch()
    assert is_vacant(tmp_path)
    (tmp_path / "file").touch()
    assert not is_vacant(tmp_path)
    assert not is_vacant(tmp_path / "file")
    (tmp_path / "link").symlink_to("nowhere")
    assert not is_vacant(tmp_path / "link")


def test_a_lock_loads_nothing_heavy() -> None:
    code = "import sys, crossband.locks; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
