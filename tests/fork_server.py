"""A process that has imported what commands need, and starts them as copies of itself.

To import takes five seconds of a processor, which a test of how a command ends need not wait for. What runs
is what ``python -m MODULE`` runs, in a process of its own, with its own number, signals and files.

Run with the number of a socket on which `processes` asks, a line of JSON each; each is answered by a line.
"""

from __future__ import annotations

import gc
import json
import os
import runpy
import socket
import sys
from collections.abc import Sequence
from typing import NoReturn

import crossband.cli.train
import crossband.predicting
import crossband.training.engine  # noqa: F401
from terminal import take_signals_of_a_terminal


def become(
    module: str, arguments: Sequence[str], folder: str, environment: dict[str, str], files: tuple[str, str]
) -> NoReturn:
    """Be ``python -m MODULE`` with these arguments, to the end of this process.

    files: what its standard output and its errors go to.
    """
    os.setsid()
    for path, number in ((os.devnull, 0), (files[0], 1), (files[1], 2)):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT), number)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    given = environment.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:0] = [path for path in given if path and path not in sys.path]
    sys.argv = [module, *arguments]
    take_signals_of_a_terminal()
    runpy.run_module(module, run_name="__main__", alter_sys=True)
    raise AssertionError("the command did not end its process")


def code_of(number: int) -> int | None:
    """The code that a process ended with, or the negative of its signal's number; None while it runs."""
    found, status = os.waitpid(number, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if found else None


def serve(asked: socket.socket) -> None:
    # What is imported by now is never collected, so that copies share its memory.
    gc.freeze()
    with asked, asked.makefile("rw", encoding="utf-8") as lines:
        for line in lines:
            job = json.loads(line)
            if "command" in job:
                answer: int | None = os.fork()
                if answer == 0:
                    asked.close()
                    become(**job["command"])
            else:
                answer = code_of(job["process"])
            lines.write(json.dumps(answer) + "\n")
            lines.flush()


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
