"""The signals as a terminal leaves them, for tests of how commands end."""

from __future__ import annotations

import signal


def take_signals_of_a_terminal() -> None:
    """Let Ctrl-C and a hang-up end what is started from here on, whatever this process was started with.

    A shell starts jobs in the background with Ctrl-C ignored, and ``nohup`` with hang-ups ignored; what they
    start inherits that.
    """
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
