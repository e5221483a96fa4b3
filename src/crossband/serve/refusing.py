"""What is said to who sent a request that cannot be answered: one line, without a path of the server."""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from crossband.errors import CrossbandError

_PLACE = re.compile(r"(?<![\w.:/-])/(?:[^\s/:;,'\"()]+/)+[^\s/:;,'\"()]*")
_LONGEST_NAME = 80


class Refused(CrossbandError):
    """A request that is not answered. status: of HTTP."""

    def __init__(self, message: str, status: int = 400):
        super().__init__(message)
        self.status = status


def plain_name(name: str) -> str:
    """A file's name as its sender gave it, without folders and what does not print."""
    last = name.replace("\\", "/").rpartition("/")[2]
    return "".join(letter if letter.isprintable() else "?" for letter in last)


def shown_name(name: str) -> str:
    """`plain_name`, short enough for a line."""
    plain = plain_name(name)
    return plain if len(plain) <= _LONGEST_NAME else f"{plain[: _LONGEST_NAME - 3]}..."


def without_places(text: str, names: Mapping[Path, str]) -> str:
    """A message in which files go by the names that they were sent under. names: of their paths here.

    Of any other absolute path its last part is left.
    """
    for path in sorted(names, key=lambda one: -len(str(one))):
        text = text.replace(str(path), names[path])
    return _PLACE.sub(lambda found: found[0].rstrip("/").rpartition("/")[2], text)


@contextmanager
def refusing(names: Mapping[Path, str]) -> Iterator[None]:
    """What goes wrong inside becomes `Refused`; what is no fault of the request goes to standard error."""
    try:
        yield
    except Refused:
        raise
    except CrossbandError as error:
        raise Refused(without_places(str(error), names)) from error
    except Exception as error:
        traceback.print_exc()
        raise Refused(
            "something went wrong that is no fault of the images; the server's log says what", status=500
        ) from error
