"""Signals that end a command: each raises where the program stands, so that what it holds is put away."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

ENDING = (signal.SIGTERM, signal.SIGHUP)
_SET_DEATH_SIGNAL = 1


class Interrupted(KeyboardInterrupt):
    """A signal other than Ctrl-C's asked the program to end. number: the signal's."""

    def __init__(self, number: int):
        super().__init__(number)
        self.number = number


@contextmanager
def signals_interrupt() -> Iterator[None]:
    """SIGTERM and SIGHUP raise `Interrupted` inside of the block, as Ctrl-C raises KeyboardInterrupt.

    In other threads than the main one, which alone gets signals, it does nothing. A signal that is ignored,
    as under ``nohup``, stays ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in ENDING}
    for number, handler in before.items():
        if handler != signal.SIG_IGN:
            signal.signal(number, _interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise Interrupted(number)


def number_of(interruption: KeyboardInterrupt) -> int:
    """The number of the signal behind an interruption; the exit code is 128 more."""
    return interruption.number if isinstance(interruption, Interrupted) else int(signal.SIGINT)


def spoken(interruption: KeyboardInterrupt) -> str:
    """What ended the program, and how to go on, where somebody on the way out has left a note of that."""
    number = number_of(interruption)
    what = "interrupted" if number == signal.SIGINT else f"ended by {signal.Signals(number).name}"
    notes = getattr(interruption, "__notes__", [])
    return "; ".join([what, *notes[-1:]])


def die_with_parent(parent: int) -> None:
    """Let the system end this process when the one that started it ends, however it ends. Linux only.

    parent: that process, as it said itself; who asks the system is told of another one if it has ended.

    For the further processes of a training on several devices, which would otherwise wait for a first one
    that was killed.
    """
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None, use_errno=True).prctl(_SET_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        # It ended before the system was asked, perhaps while Python was still starting here.
        os.kill(os.getpid(), signal.SIGKILL)
