"""What Crossband raises when the mistake is in what it was given.

Every message is one line that says what was wrong, which file or argument, and what to do. The command
line prints it as it is and exits with 2; anything else that is raised is a bug of ours.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class CrossbandError(Exception):
    """Base of all errors whose cause is the input, never the program."""


class PairError(CrossbandError):
    """An image pair, a label or a folder of them that cannot be used. The message names the file."""


class OptionError(CrossbandError):
    """An argument, a name or a combination of options that does not exist or does not fit."""


class FolderInUseError(OptionError):
    """A folder that another process or thread is writing to. The message names the folder and the other."""


class BandError(CrossbandError):
    """A system was asked to run on bands that it cannot run on."""


class WeightsError(CrossbandError):
    """Weights that cannot be had, read, or made to fit the network."""


def first_line(error: BaseException) -> str:
    """What another library's error says, fit for a line of ours; its type if it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def did_you_mean(name: str, known: Iterable[str], *, most: int = 1) -> str:
    """``; did you mean NAME?``, for the end of an error about an unknown name; empty if none is near it.

    known: the names there are, in small letters. most: so many of them are offered, the nearest first.
    """
    near = difflib.get_close_matches(name.lower(), list(known), n=most)
    return f"; did you mean {' or '.join(near)}?" if near else ""
