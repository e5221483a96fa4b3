"""What every command shares: a parser whose errors are one plain line, and a progress bar."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, NoReturn

from jsonargparse import ArgumentParser

_PLAINER = (
    (r'^Parser key "([\w.]+)":', r"--\1:"),
    (r"(?<= )(?:[a-z]+\.)+(?=(?:source|run|what)\b)", ""),
    (r"(?<= )(?:data\.)?(?:evaluate|predict|fuse|recalibrate|show|export)\.(?=\w)", "--"),
    (r"Expected an? (?=<class|typing)", "expected "),
    (r"<class '(\w+)'>", r"\1"),
    (r"typing\.Literal\[([^]]*)\]", r"one of \1"),
    (r"\. Got value:", ", not"),
)
"""What jsonargparse says in Python's words, and how a user would say it."""

Progress = Callable[[int, int], None]

SOURCE_HELP = (
    "pairs: NAME:PATH[,key=value...], such as msrs:PATH, folder:PATH or scenes,seed=3 "
    "(see `crossband data list`)"
)


DEVICE_HELP = "where to compute: cpu, cuda, cuda:1, ... (default: a GPU if there is one)"


class Parser(ArgumentParser):
    """A parser whose errors are one line on standard error, and exit code 2."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        text = " ".join(str(message).split())
        for pattern, plain in _PLAINER:
            text = re.sub(pattern, plain, text)
        print(f"crossband: error: {text} (see `{self.prog} --help`)", file=sys.stderr)
        sys.exit(2)


def choice(names: Iterable[str]) -> Any:
    """The type of an argument that is one of some names."""
    literal: Any = Literal
    return literal[tuple(names)]


def config_first(arguments: list[str]) -> list[str]:
    """Move ``--config FILE`` to the front, so that the command line wins over the file wherever it stands."""
    configs, others = [], []
    waiting = iter(arguments)
    for argument in waiting:
        value = next(waiting, None) if argument == "--config" else None
        if value is not None:
            configs += [argument, value]
        elif argument.startswith("--config="):
            configs.append(argument)
        else:
            others.append(argument)
    return others[:1] + configs + others[1:]


@contextmanager
def progress_bar(what: str) -> Iterator[Progress]:
    """A progress bar on standard error, where that is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TextColumn("ETA"), TimeRemainingColumn())
    with Bar(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
