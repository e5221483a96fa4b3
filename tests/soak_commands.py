"""The commands that write, as the soak starts, kills and compares them."""

from __future__ import annotations

import atexit
import functools
import hashlib
import io
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from crossband.cli import main
from crossband.locks import LOCK_NAME
from crossband.pairs.export import export_folder
from crossband.result_folder import MANIFEST_NAME

HANG = 180
"""Seconds after which a command that should have ended counts as one that hangs."""
TINY = [
    *("--encoder", "mobilenetv3_small_050", "--network.decoder_channels", "16", "--workers", "0"),
    *("--accelerator", "cpu", "--recipe.batch_size", "2"),
]
DATA = "scenes,train=8,val=3,test=4,size=32x48"

# Forked from a server that has loaded everything: a command is a process of its own at once.
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(
    [
        *("crossband.training.engine", "crossband.predicting", "crossband.evaluation", "crossband.report"),
        *("crossband.recalibration", "crossband.reproduce.reproducing", "crossband.pairs.export"),
        *("crossband.systems.csknet", "crossband.cli", "soak_commands", "test_mutated_files"),
    ]
)


class Command:
    """A command as a process of its own group. place: the folder that it runs in."""

    def __init__(self, arguments: list[str], place: Path, umask: int | None = None):
        file, path = tempfile.mkstemp()
        os.close(file)
        self._said = Path(path)
        details = (arguments, place, self._said, umask)
        self.process = _FORKS.Process(target=_run, args=details)
        self.process.start()
        self.pid = self.process.pid

    def kill(self) -> None:
        """SIGKILL to it and what it started."""
        for kill, target in ((os.killpg, self.pid), (os.kill, self.pid)):
            try:
                kill(target, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.finish()

    def finish(self) -> tuple[int, str]:
        """The exit code and standard error; -1 and "hangs" for one that does not end."""
        self.process.join(HANG)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
            return -1, "hangs"
        said = self._said.read_text(errors="replace") if self._said.exists() else ""
        self._said.unlink(missing_ok=True)
        code = self.process.exitcode
        self.process.close()
        return -1 if code is None else code, said


def _run(arguments: list[str], place: Path, said: Path, umask: int | None) -> None:
    os.setsid()
    if umask is not None:
        os.umask(umask)
    os.chdir(place)
    with open(said, "wb") as error, open(os.devnull, "wb") as nothing:
        os.dup2(error.fileno(), 2)
        os.dup2(nothing.fileno(), 1)
    sys.stdout = io.TextIOWrapper(os.fdopen(1, "wb", closefd=False), write_through=True)
    sys.stderr = io.TextIOWrapper(os.fdopen(2, "wb", closefd=False), write_through=True)
    sys.argv = ["crossband", *arguments]
    sys.exit(main(arguments))


def run(arguments: list[str], place: Path) -> tuple[int, str]:
    """A command from its beginning to its end."""
    return Command(arguments, place).finish()


def contents(folder: Path, *, without: tuple[str, ...] = ()) -> dict[str, str]:
    """A hash of every file of a folder, by its place in it."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not any(part in str(path.relative_to(folder)) for part in without)
    }


def _only(*endings: str) -> Callable[[Path], dict[str, str]]:
    """What is the same from one run of a command to the next; and nothing that was left half-written."""

    def chosen(folder: Path) -> dict[str, str]:
        there = contents(folder)
        return {n: h for n, h in there.items() if n.endswith((*endings, ".tmp", ".export"))}

    return chosen


def _names(folder: Path) -> dict[str, str]:
    """The files of a folder, of which the bytes hold the time of their making."""
    return dict.fromkeys(contents(folder, without=(LOCK_NAME,)), "there")


@dataclass(frozen=True)
class Writing:
    """A command that writes into the folder ``out`` of where it runs.

    sides: its arguments, in two settings that give two results. again: those that end what was begun.
    keep: what of its folder must be the same. prepared: what the folder holds before. finished: by which file
    a folder shows that nothing is left to do, where the command refuses that. shared: whether another may
    write into it when the first has ended.
    """

    name: str
    sides: tuple[list[str], list[str]]
    keep: Callable[[Path], dict[str, str]]
    again: tuple[list[str], list[str]] | None = None
    prepared: Path | None = None
    finished: str | None = None
    shared: bool = False

    def begin(self, place: Path, side: int = 0) -> Command:
        """Start it in a folder that is made ready for it, unless it is there already."""
        if not place.exists():
            place.mkdir()
            if self.prepared is not None:
                shutil.copytree(self.prepared, place / "out")
        return Command(self.sides[side], place)

    def end(self, place: Path, side: int = 0) -> tuple[int, str]:
        """Bring what was killed to its end, as a user does."""
        folder = place / "out"
        if self.finished is not None and (folder / self.finished).exists():
            return 0, ""
        begun = self.name != "train" or (folder / "config.yaml").is_file()
        code, error = run((self.again if begun and self.again else self.sides)[side], place)
        if self.name == "stream" and "is there already; choose another folder" in error:
            # A stream does not go on where another one was.
            shutil.rmtree(folder)
            return run(self.sides[side], place)
        if self.name == "recalibrate" and "is not empty; choose another run folder" in error:
            # Weights without a card: killed between the two files.
            shutil.rmtree(folder)
            return run(self.sides[side], place)
        return code, error

    def kept(self, place: Path) -> dict[str, str]:
        """What must be the same, of what it wrote; and what lies beside its folder, where nothing should."""
        beside = {path.name: "beside" for path in place.iterdir() if path.name != "out"}
        # The lock's file stays where a kill came after the last of the work, and holds nobody back.
        return beside | {n: h for n, h in self.keep(place / "out").items() if n != LOCK_NAME}


@functools.cache
def writings() -> Mapping[str, Writing]:
    """Every command that writes into a folder, with the pairs and runs that it needs."""
    out = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, out, ignore_errors=True)
    pairs = out / "pairs"
    export_folder(DATA, pairs)
    images = ["--visible", str(pairs / "test" / "visible"), "--infrared", str(pairs / "test" / "infrared")]
    runs = {}
    for name, system, seed in (("one", "csknet", 0), ("other", "csknet", 1)):
        runs[name] = str(out / name)
        options = ["--seed", str(seed), "--recipe.epochs", "1", "--out", runs[name]]
        code, error = run(["train", system, "--data", DATA, *TINY, *options], out)
        if code:
            raise RuntimeError(f"{name}: {code} {error}")

    def train(seed: int) -> list[str]:
        options = ["--recipe.epochs", "4", "--seed", str(seed), "--out", "out"]
        return ["train", "deeplabv3plus", "--data", DATA, *TINY, *options]

    unfinished = out / "unfinished" / "out"
    unfinished.parent.mkdir()
    begun = Command(train(0), unfinished.parent)
    while not (unfinished / "curves.csv").is_file() and begun.process.is_alive():
        begun.process.join(0.01)
    begun.kill()

    def two(make: Callable[[str], list[str]], *values: str) -> tuple[list[str], list[str]]:
        first, second = map(make, values)
        return [*first, "--out", "out"], [*second, "--out", "out"]

    def resumed(sides: tuple[list[str], list[str]]) -> tuple[list[str], list[str]]:
        return [*sides[0], "--resume"], [*sides[1], "--resume"]

    predict = two(lambda run: ["predict", run, *images], runs["one"], runs["other"])
    fuse = two(lambda system: ["fuse", system, *images], "average", "maximum")
    tables = ["reproduce", "csknet/table-3", "--on", DATA, "--budget", "quick", "--accelerator", "cpu"]
    tables += ["--workers", "0", "--encoder", "mobilenetv3_small_050", "--seeds", "1", "--rows", "^VI"]
    tables += ["--epochs", "2", "--recipe.batch_size", "2", "--recipe.warmup_steps", "0", "--out", "out"]
    made = partial(contents, without=(MANIFEST_NAME,))
    weights = _only("weights.safetensors")
    scored = _only(".csv")
    resume = ["train", "--resume", "out"]
    score = ["--data", DATA, "--workers", "0"]
    listed = (
        Writing("train", (train(0), train(1)), weights, again=(resume, resume)),
        Writing("train --resume", (resume, resume), weights, prepared=unfinished),
        Writing(
            "recalibrate",
            two(lambda seed: ["recalibrate", runs["one"], "--data", DATA, "--seed", seed], "0", "1"),
            weights,
            finished="card.json",
        ),
        Writing("predict", predict, made, again=resumed(predict)),
        Writing("fuse", fuse, made, again=resumed(fuse)),
        Writing("stream", two(lambda system: ["stream", system, *images], "average", "maximum"), made),
        Writing(
            "evaluate",
            two(lambda split: ["evaluate", runs["one"], *score, "--split", split], "test", "val"),
            scored,
            shared=True,
        ),
        Writing(
            "evaluate --fusion",
            two(lambda split: ["evaluate", "average", "--fusion", *score, "--split", split], "test", "val"),
            scored,
            shared=True,
        ),
        Writing(
            "data export",
            two(lambda seed: ["data", "export", f"{DATA},seed={seed}"], "0", "1"),
            contents,
            finished="classes.yaml",
        ),
        Writing(
            "export",
            two(
                lambda system: ["export", system, "--infrared_scaling", "full-range", "--check", DATA],
                *("average", "maximum"),
            ),
            _names,
            shared=True,
        ),
        Writing(
            "robustness",
            two(
                lambda name: ["robustness", runs["one"], *score, "--corruptions", name, "--severities", "1"],
                *("fog", "dirt"),
            ),
            scored,
        ),
        Writing(
            "reproduce",
            (tables, tables),
            _only(".safetensors", "both.json", "infrared.json", "visible.json"),
            shared=True,
        ),
    )
    return {writing.name: writing for writing in listed}
