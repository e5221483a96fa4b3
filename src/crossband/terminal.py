"""What every command shares: a parser whose errors are one plain line, and a progress bar."""

from __future__ import annotations

import re
import shlex
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, NoReturn

from jsonargparse import ArgumentParser, get_loader, set_loader
from yaml import YAMLError

from crossband.errors import CrossbandWarning, OptionError
from crossband.words import AUTO_EXPORTS_FROM, Band, Contrast
from crossband.yaml_files import check_yaml

_PLACED = "source|runs?|what|file|methods|repository|folder|corrected"
"""Arguments that have a place and no name with dashes."""
_COMMANDS = (
    "evaluate|predict|fuse|stream|align|serve|recalibrate|robustness|verify|show|export|annotate|labels"
)
_PLAINER = (
    (r'^Parser key "([\w.]+)":', r"--\1:"),
    (rf"(?<= )(?:[a-z]+\.)+(?=(?:{_PLACED})\b)", ""),
    (rf"(?<= )(?:data\.)?(?:{_COMMANDS})\.(?=\w)", "--"),
    (r"Expected an? (?=<class|typing)", "expected "),
    (r"<class '(\w+)'>", r"\1"),
    (r"typing\.Literal\[([^]]*)\]", r"one of \1"),
    (r"\. Got value:", ", not"),
    (
        r"Does not validate against any of the Union subtypes Subtypes: .*? Errors: - (.*?)"
        r"(?: - expected NoneType)? Given value type: \w+ Given value: (.*)",
        r"\1, not \2",
    ),
)
"""What jsonargparse says in Python's words, and how a user would say it."""

Progress = Callable[[int, int], None]

SOURCE_HELP = (
    "pairs: NAME:PATH[,key=value...], such as msrs:PATH, folder:PATH or scenes,seed=3 "
    "(see `crossband data list`)"
)


def monitor_arguments(parser: ArgumentParser) -> None:
    """``--monitor`` of a command that runs systems on pairs."""
    parser.add_argument(
        "--monitor",
        action="store_true",
        help="drop a band that does harm, where the system can do without it, as the run's own monitor finds "
        "(`train --band_monitor`), else one that is black, saturated or a fixed pattern: see "
        "docs/robustness.md",
    )


def rig_arguments(parser: ArgumentParser) -> None:
    """``--rig`` and ``--frame`` of a command that reads pairs."""
    parser.add_argument(
        "--rig",
        type=str | None,
        help="rig.json of two cameras that are not aligned (`crossband align` makes it): one band's images "
        "are "
        "brought into the other's frame as they are read",
    )
    parser.add_argument(
        "--frame",
        type=Band | None,
        help="with --rig: the camera whose images stay as they are (default: visible)",
    )


def with_rig(source: str, rig: str | None, frame: str | None) -> str:
    """A source of pairs, read through a rig: ``folder:PATH,rig=rig.json,frame=infrared``.

    Raises OptionError for a path that cannot stand in a source, and for a frame without a rig.
    """
    if rig is None:
        if frame is not None:
            raise OptionError(f"--frame {frame} means a camera of a rig; give --rig too, or leave it out")
        return source
    if "," in rig:
        raise OptionError(f"--rig {rig}: a path with a comma cannot be part of a source; rename the file")
    return f"{source},rig={rig},frame={frame or 'visible'}"


DEVICE_HELP = "where to compute: cpu, cuda, cuda:1, ... (default: a GPU if there is one)"
RUNTIME_HELP = (
    "what computes a run: torch; compile (torch.compile); onnxruntime or openvino, on graphs that are made "
    "of the run, held against PyTorch and kept in its folder; auto: such graphs where they are there, or "
    f"{AUTO_EXPORTS_FROM} pairs or more are to come, on a CPU in float32 without tiles, else torch"
)


def display_arguments(parser: ArgumentParser) -> None:
    """How infrared is shown in pictures, which no system sees."""
    parser.add_argument(
        "--display",
        type=Contrast,
        default="linear",
        help="of infrared in pictures: linear, or agc, histogram equalisation fitted over the sequence; no "
        "system sees it",
    )
    parser.add_argument(
        "--colours",
        type=str,
        default="grey",
        help="of infrared in pictures, with a bar of its values: grey, iron, inferno, turbo, ...",
    )


_LONGEST_ERROR = 600
"""Characters of an error; jsonargparse repeats the whole file or value that it cannot use."""

_load_yaml = get_loader("yaml")


def _load_checked_yaml(text: str, path: str = "") -> Any:
    """What jsonargparse makes of a YAML text, which `check_yaml` has looked through first.

    path: of the file that holds it, or "" for an option's value; jsonargparse passes it on.
    """
    try:
        check_yaml(text)
    except OptionError as error:
        raise ValueError(f"{path}: {error}" if path else str(error)) from error
    values = _load_yaml(text)
    if path and isinstance(values, dict) and isinstance(values.get("recipe"), str):
        # As `named_recipe_apart` has it on the command line.
        values["recipe"] = {"name": values["recipe"]}
    return values


# For option values and --config files alike.
set_loader("yaml", _load_checked_yaml, (ValueError, YAMLError))


class Parser(ArgumentParser):
    """A parser whose errors are one line on standard error, and exit code 2."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        text = " ".join(str(message).split())
        if text.startswith("--print_shtab "):
            # An option that jsonargparse once gave every program, and of which it tells how to have it back.
            text = "unrecognized arguments: --print_shtab"
        for pattern, plain in _PLAINER:
            text = re.sub(pattern, plain, text)
        if len(text) > _LONGEST_ERROR:
            text = f"{text[: _LONGEST_ERROR // 2]} [...] {text[-_LONGEST_ERROR // 2 :]}"
        print(f"crossband: error: {text} (see `{self.prog} --help`)", file=sys.stderr)
        sys.exit(2)


@contextmanager
def told_after(text: str) -> Iterator[None]:
    """Print a result when it has been written, so that one is not lost with a reader of the output that goes
    early, such as ``head``; and where it cannot be written, all the same."""
    try:
        yield
    finally:
        print(text)


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


def named_recipe_apart(arguments: list[str]) -> list[str]:
    """``--recipe NAME`` as ``--recipe.name NAME``: a recipe is a name, and changes to its fields."""
    made = []
    for argument, following in zip(arguments, [*arguments[1:], ""], strict=True):
        name, equals, value = argument.partition("=")
        given = value if equals else following
        is_name = name == "--recipe" and given and not given.lstrip().startswith(("{", "-"))
        made.append(f"--recipe.name{equals}{value}" if is_name else argument)
    return made


def command_line() -> str:
    """The command line of this process, as a shell would read it."""
    return shlex.join(["crossband", *sys.argv[1:]])


@contextmanager
def plain_warnings() -> Iterator[None]:
    """Print our warnings as one line on standard error, without the line of code that they come from.

    Pillow's are not shown: what is wrong with an image ends in an error of ours, or does not matter.
    """
    with warnings.catch_warnings():
        show = warnings.showwarning

        def show_plainly(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
            if issubclass(category, CrossbandWarning):
                print(f"crossband: warning: {message}", file=sys.stderr)
            else:
                show(message, category, *where, **more)

        warnings.showwarning = show_plainly
        warnings.filterwarnings("always", category=CrossbandWarning)
        warnings.filterwarnings("ignore", module=r"PIL\b")
        yield


class ProgressLines:
    """Progress as lines, for a log: one every ten seconds.

    what: what is done. clock: gives seconds. write: takes a line.
    """

    every = 10.0

    def __init__(self, what: str, clock: Callable[[], float], write: Callable[[str], None]):
        self._what, self._clock, self._write = what, clock, write
        self._started = self._told = clock()
        self._first: int | None = None

    def __call__(self, done: int, total: int) -> None:
        """Say how far it is, and how long it will take at the pace since the first call, if a line is due."""
        if self._first is None:
            self._first = done
        now = self._clock()
        if now - self._told < self.every:
            return
        self._told = now
        pace = (done - self._first) / (now - self._started)
        left = f", {_spoken(round((total - done) / pace))} left" if pace > 0 else ""
        self._write(f"{self._what}: {done} of {total}, {pace:.3g} a second{left}")


def _spoken(seconds: int) -> str:
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


@contextmanager
def progress_bar(what: str) -> Iterator[Progress]:
    """A progress bar on standard error, where that is a terminal; else a line every ten seconds."""
    if not sys.stderr.isatty():
        yield ProgressLines(what, time.monotonic, lambda line: print(line, file=sys.stderr, flush=True))
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TextColumn("ETA"), TimeRemainingColumn())
    with Bar(*columns, console=console, transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
