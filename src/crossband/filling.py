"""A folder that is filled all at once or not at all."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from crossband.errors import OptionError, UnwritableError
from crossband.locks import fill_held, folder_lock, is_vacant


def check_fillable(out: Path) -> None:
    """Raise OptionError for what `filling` takes no folder for, to say so before a long preparation."""
    if not is_vacant(out.resolve()):
        raise OptionError(f"{out.resolve()} exists and is not an empty folder; give --out a new name")


@contextmanager
def filling(out: Path) -> Iterator[Path]:
    """Give a folder of the same name in a hidden one beside ``out``; it takes that place when the block ends.

    ``out`` is held meanwhile, and left as it was if the block ends in an error. What a killed writer left in
    the hidden folder is removed first. A link is followed: what it leads to is filled.

    Raises OptionError if out exists and is not an empty folder, FolderInUseError if another fills it, and
    UnwritableError, which names out and not the hidden folder, where the file system refuses.
    """
    check_fillable(out)
    out = out.resolve()
    with folder_lock(out):
        if not is_vacant(out):
            raise OptionError(f"{out} has been filled in the meantime; give --out a new name")
        # The same one for every writer of a folder, which one alone holds; short, whatever that is called.
        hidden = out.with_name(f".{hashlib.sha256(os.fsencode(out.name)).hexdigest()[:12]}.export")
        try:
            if hidden.exists():
                shutil.rmtree(hidden)
            inside = hidden / out.name
            inside.mkdir(parents=True)
            yield inside
            fill_held(out, inside)
        except UnwritableError as error:
            raise UnwritableError(out, error.reason) from error
        except OSError as error:
            raise UnwritableError(out, error.strerror or str(error)) from error
        finally:
            shutil.rmtree(hidden, ignore_errors=True)
