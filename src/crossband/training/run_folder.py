"""The folder of a training: who may begin in it, who may write to it, and what is left of one that failed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from crossband.card import CARD_NAME
from crossband.errors import OptionError
from crossband.leftovers import remove_leftovers
from crossband.locks import LOCK_NAME, folder_lock, is_vacant


def check_folder(folder: Path) -> None:
    """Raise OptionError, saying what is there, for a folder that no training may begin in."""
    if folder.exists() and not folder.is_dir():
        raise OptionError(f"run folder {folder} is a file; choose another one")
    if not is_vacant(folder):
        if (folder / CARD_NAME).exists():
            raise OptionError(f"run folder {folder} holds a finished run; choose another one")
        if (folder / "config.yaml").exists():
            raise OptionError(
                f"run folder {folder} holds an unfinished run; choose another one, or go on with "
                f"`crossband train --resume {folder}`"
            )
        raise OptionError(f"run folder {folder} is not empty; choose another one")


def check_resumable(folder: Path) -> None:
    """Raise OptionError for a folder that holds neither a finished run nor one to go on with."""
    if not (folder / CARD_NAME).exists() and not (folder / "config.yaml").is_file():
        raise OptionError(f"{folder} holds no run to go on with: it has no config.yaml")


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Hold the run folder in the first process of a training; the others work for that one."""
    from crossband.training.fitting import is_main_process

    if not is_main_process():
        yield
        return
    with folder_lock(folder):
        remove_leftovers(folder / "phases", folder / "checkpoints")
        yield


def clear(folder: Path) -> None:
    """Remove everything but the lock, which its holder removes, and the folder with it."""
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        elif entry.name != LOCK_NAME:
            entry.unlink(missing_ok=True)
