"""One writer per folder: a lock that the operating system drops when its holder ends, however it ends.

The lock is `flock` on a file in the folder, which says who holds it and how many folders that made. The file
is there while the folder is held, or after a crash, when it holds nobody back.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from crossband.errors import FolderInUseError, OptionError, first_line
from crossband.leftovers import is_temporary, remove_leftovers

LOCK_NAME = ".crossband.lock"


_MOST_VANISHED = 1000
"""Times that a folder may vanish while it is being made; one turn of another takes it away once."""


@dataclass(frozen=True)
class _Hold:
    """A lock of this process. made: the folders that taking it made, innermost first."""

    descriptor: int
    made: list[Path]
    thread: int = field(default_factory=threading.get_ident)


_holds: dict[Path, _Hold] = {}
"""By folder; at most one each, since the system's lock keeps other threads out too."""


@contextmanager
def folder_lock(folder: Path, *, wait: bool = False) -> Iterator[int]:
    """Hold a folder as its only writer. A folder that does not exist is made, and removed if it stays empty.

    Who waits takes that over. Only one that comes in the moment of the removal may leave the folder, empty.

    Temporary files directly in it, which a killed writer left, are removed first.
    wait: for another holder to end, for as long as it takes, in the place of an error. A thread may take a
    lock that it holds already; the outermost block lets go of it. Processes that are forked inside of the
    block do not hold it, nor do programs that are started, but for those that get the descriptor.

    Gives the file descriptor that the lock is on: a program that is started with it (``pass_fds``) holds the
    folder as well, should this process die alone. Raises FolderInUseError, naming the holder, where another
    process or thread has the folder, and OptionError where the folder cannot be written to or its file system
    has no locks.
    """
    place = folder.resolve()
    hold = _holds.get(place)
    if hold is not None and hold.thread == threading.get_ident():
        yield hold.descriptor
        return
    hold = _acquire(folder, place, wait)
    _holds[place] = hold
    try:
        remove_leftovers(place)
        yield hold.descriptor
    finally:
        # Not there in a forked process that comes this way: the lock is its parent's.
        if _holds.pop(place, None) is not None:
            _release(place, hold)


def holder_of(folder: Path) -> str | None:
    """Who holds a folder, such as "process 4711 on gpu3", or None. Only looks: it makes and writes nothing.

    Raises OptionError if the lock cannot be looked at.
    """
    path = folder / LOCK_NAME
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise OptionError(
            f"cannot see who writes into {folder} ({path}: {error.strerror}); let yourself read that file"
        ) from error
    try:
        # Shared, so that two who look do not see each other.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _name_in(descriptor)
    except OSError as error:
        raise _no_locks(folder, error) from error
    finally:
        os.close(descriptor)
    return None


def check_unheld(folder: Path) -> None:
    """Raise FolderInUseError for a folder that somebody holds, to say so before a long preparation.

    It is no lock: who writes there takes one all the same.
    """
    holder = holder_of(folder)
    if holder is not None:
        raise _in_use(folder, holder)


def is_vacant(folder: Path) -> bool:
    """Whether nothing is at a path, or a folder with nothing but a lock and what a killed writer left."""
    if not folder.is_dir():
        return not os.path.lexists(folder)
    return all(entry.name == LOCK_NAME or is_temporary(entry.name) for entry in folder.iterdir())


def fill_held(folder: Path, content: Path) -> None:
    """Put a folder that was made elsewhere in the place of an empty one that is held, which stays held.

    Raises OSError if the file system refuses, or the held folder is not empty.
    """
    place = folder.resolve()
    # The lock goes along: a folder takes the place of an empty one only.
    os.replace(place / LOCK_NAME, content / LOCK_NAME)
    os.replace(content, place)


def _acquire(folder: Path, place: Path, wait: bool) -> _Hold:
    made: list[Path] = []
    vanished = 0
    while True:
        missing = [each for each in (place, *place.parents) if not each.exists()]
        made = max(made, missing, key=len)
        try:
            place.mkdir(parents=True, exist_ok=True)
            # For writing, without which NFS gives no exclusive lock.
            descriptor = os.open(place / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        except (FileNotFoundError, FileExistsError) as error:
            # A folder on the way that another made, and takes away just now. What is truly in the way stays.
            vanished += 1
            if vanished == _MOST_VANISHED:
                if folder.is_file():
                    raise OptionError(f"{folder} is a file, not a folder; choose another place") from error
                raise _cannot_write(folder, error) from error
            continue
        except OSError as error:
            raise _cannot_write(folder, error) from error
        # Who waits for one that made the folder may still find it there in its turn, and takes it over.
        made = max(made, [place, *place.parents][: _made_by(descriptor)], key=len)
        hold = _Hold(descriptor, made)
        try:
            _lock(folder, descriptor, wait)
            if _is_at(place / LOCK_NAME, descriptor):
                _sign(folder, hold)
                return hold
        except (FolderInUseError, KeyboardInterrupt):
            os.close(descriptor)
            raise
        except OptionError:
            _release(place, hold)
            raise
        # Its last holder took the file away between our opening and locking it.
        os.close(descriptor)


def _in_use(folder: Path, holder: str) -> FolderInUseError:
    return FolderInUseError(
        f"{folder} is being written to by {holder}; wait until that has ended, or choose another folder"
    )


def _lock(folder: Path, descriptor: int, wait: bool) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise _in_use(folder, _name_in(descriptor)) from error
    except OSError as error:
        raise _no_locks(folder, error) from error


def _no_locks(folder: Path, error: OSError) -> OptionError:
    return OptionError(
        f"the file system of {folder} has no locks ({error.strerror or first_line(error)}), so that two "
        "processes could write there at once; choose a folder on another disk"
    )


def _cannot_write(folder: Path, error: OSError) -> OptionError:
    return OptionError(f"cannot write into {folder}: {error.strerror}; choose another place")


def _sign(folder: Path, hold: _Hold) -> None:
    """Leave word of who holds the lock, and of how many folders that made."""
    try:
        os.ftruncate(hold.descriptor, 0)
        name = f"process {os.getpid()} on {os.uname().nodename}\n{len(hold.made)}\n"
        os.pwrite(hold.descriptor, name.encode(), 0)
    except OSError as error:
        raise _cannot_write(folder, error) from error


def _name_in(descriptor: int) -> str:
    """What the holder signed with; it may not have come to that yet."""
    return _word_in(descriptor)[0] or "another process"


def _made_by(descriptor: int) -> int:
    """How many folders the holder made, as far as it has come to saying so."""
    _, *told = _word_in(descriptor)
    return int(told[0]) if told and told[0].isdecimal() else 0


def _word_in(descriptor: int) -> list[str]:
    return os.pread(descriptor, 200, 0).decode(errors="replace").split("\n")


def _is_at(path: Path, descriptor: int) -> bool:
    """Whether an open file is still the one at a path."""
    try:
        return os.path.samestat(os.stat(path, follow_symlinks=False), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _release(place: Path, hold: _Hold) -> None:
    # Only while it is still ours to take away: a held folder may have been removed and made anew.
    if _is_at(place / LOCK_NAME, hold.descriptor):
        (place / LOCK_NAME).unlink(missing_ok=True)
    # Before those who wait come in: they make what they miss, and take it away themselves.
    for folder in hold.made:
        # One that is not empty stays; nor is it for us to complain of one that is gone.
        with suppress(OSError):
            folder.rmdir()
    # Explicitly: a copy of the descriptor in a program that was started would go on holding those who wait.
    with suppress(OSError):  # A file system without locks has none to let go of either.
        fcntl.flock(hold.descriptor, fcntl.LOCK_UN)
    os.close(hold.descriptor)


def _forget() -> None:
    """In a forked process: let go of the parent's locks, which would otherwise outlive it there."""
    for hold in _holds.values():
        os.close(hold.descriptor)
    _holds.clear()


os.register_at_fork(after_in_child=_forget)
