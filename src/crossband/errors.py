"""What Crossband raises when the mistake is in what it was given.

Every message is one line that says what was wrong, which file or argument, and what to do. The command
line prints it as it is and exits with 2; anything else that is raised is a bug of ours.
"""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterable


class CrossbandError(Exception):
    """Base of all errors whose cause is the input, never the program."""


class PairError(CrossbandError):
    """An image pair, a label or a folder of them that cannot be used. The message names the file."""


class OptionError(CrossbandError):
    """An argument, a name or a combination of options that does not exist or does not fit."""


class UnwritableError(OptionError):
    """A file or folder that the file system refuses to write, for the reason that it gives."""

    def __init__(self, path: object, reason: str):
        super().__init__(path, reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"cannot write {self.args[0]}: {self.reason}; choose another place"


class FolderInUseError(OptionError):
    """A folder that another process or thread is writing to. The message names the folder and the other."""


class BandError(CrossbandError):
    """A system was asked to run on bands that it cannot run on."""


class WeightsError(CrossbandError):
    """Weights that cannot be had, read, or made to fit the network."""


class CrossbandWarning(UserWarning):
    """Something that was done, but that whoever gave the input should know. The message is one line."""


_MOST_QUOTED = 240
"""Characters of a quoted value."""


class _ShortRepr(reprlib.Repr):
    def repr_int(self, value: int, level: int) -> str:
        # Python refuses to spell very long integers, and takes long over those that it spells.
        return repr(value) if value.bit_length() <= 128 else f"an integer of {value.bit_length()} bits"


_SHORT = _ShortRepr()
_SHORT.maxlevel = 3
_SHORT.maxlist = _SHORT.maxtuple = _SHORT.maxdict = _SHORT.maxset = 4
_SHORT.maxstring = _SHORT.maxother = 160


def quoted(value: object) -> str:
    """A value as it is quoted in a message: its ``repr`` in one line, its middle left out where it is long.

    Whatever a file holds, the text has some hundred characters, and making it takes no longer than that.
    """
    text = _SHORT.repr(value)
    return text if len(text) <= _MOST_QUOTED else f"{text[: _MOST_QUOTED - 3]}..."


def first_line(error: BaseException) -> str:
    """What another library's error says, fit for a line of ours; its type if it says nothing."""
    line = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return line if len(line) <= _MOST_QUOTED else f"{line[: _MOST_QUOTED - 3]}..."


def did_you_mean(name: str, known: Iterable[str], *, most: int = 1) -> str:
    """``; did you mean NAME?``, for the end of an error about an unknown name; empty if none is near it.

    known: the names there are, in small letters. most: so many of them are offered, the nearest first.
    """
    near = difflib.get_close_matches(name.lower(), list(known), n=most)
    return f"; did you mean {' or '.join(near)}?" if near else ""
