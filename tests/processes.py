"""Commands in processes of their own, which start in a moment: see `fork_server`."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

SERVER = Path(__file__).parent / "fork_server.py"


class Server:
    """One for each process that runs tests; it ends when that does, whose end of the socket it reads."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, str(SERVER), str(theirs.fileno())]
            self.process = subprocess.Popen(command, pass_fds=[theirs.fileno()])
        self.lines = ours.makefile("rw", encoding="utf-8")

    def ask(self, **question: object) -> Any:
        self.lines.write(json.dumps(question) + "\n")
        self.lines.flush()
        answer = self.lines.readline()
        assert answer, f"{SERVER} ended with {self.process.wait()}"
        return json.loads(answer)


server = cache(Server)


class Command:
    """A run of ``python -m crossband``, or of another module, much as `subprocess.Popen` has it.

    It is in a session of its own, with the signals of a terminal.

    returncode: the negative of a signal's number where one ended it, None while it runs.
    """

    def __init__(
        self,
        *arguments: str | Path,
        environment: Mapping[str, str] | None = None,
        module: str = "crossband",
    ):
        self.returncode: int | None = None
        self._folder = tempfile.TemporaryDirectory(prefix="crossband-command-")
        self._files = [str(Path(self._folder.name) / name) for name in ("out", "error")]
        self.pid: int = server().ask(
            command={
                "module": module,
                "arguments": list(map(str, arguments)),
                "folder": os.getcwd(),
                "environment": dict(environment or os.environ),
                "files": self._files,
            }
        )

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = server().ask(process=self.pid)
        return self.returncode

    def wait(self, timeout: float = 300) -> int:
        """The code, once it has ended. Raises TimeoutError where it has not after so many seconds."""
        until = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > until:
                raise TimeoutError(f"process {self.pid} has not ended after {timeout:g} s")
            time.sleep(0.01)
        return code

    def communicate(self, timeout: float = 300) -> tuple[str, str]:
        """What it printed, and its errors, once it has ended."""
        self.wait(timeout)
        out, error = (Path(file).read_text(encoding="utf-8") for file in self._files)
        return out, error

    def send_signal(self, number: signal.Signals) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)
