"""An hour of abuse: damaged files, kills, full disks, two writers, two processes, many predictions.

    python tests/soak.py            the whole, about an hour
    python tests/soak.py --short    some of each kind in minutes, for continuous integration

Prints a table of what was tried, and what was wrong; the exit code is 1 if anything was. The same seed gives
the same damage and the same moments of killing, as shares of an uninterrupted command's time. The short form
kills every sixth command, lets two of the ones after those write, and fills the disk of the ones after these,
and trains in two processes for one seed in six; six seeds in a row do all to each.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from crossband.errors import CrossbandError
from crossband.loading import load
from crossband.locks import LOCK_NAME
from crossband.result_folder import MANIFEST_NAME, read_manifest
from crossband.text import text_table
from crossband.training.curves import read_curves
from crossband.training.options import TrainOptions
from crossband.weights import load_run
from mutations import damaged, garbled
from soak_commands import DATA, HANG, TINY, Command, Writing, run, writings
from terminal import take_signals_of_a_terminal
from test_mutated_files import READERS, WHOLE, attempt, is_a_good_error

MOST = 20
"""Faults of a kind that are told in full."""


@dataclass
class Tally:
    """What was tried of one kind, and what was wrong."""

    kind: str
    tried: int = 0
    faults: list[str] = field(default_factory=list)

    def expect(self, good: bool, what: str) -> None:
        self.tried += 1
        if not good:
            self.faults.append(what)


@dataclass(frozen=True)
class Amount:
    """How much of each kind: damaged files and texts, kills and races of a command, predictions.

    every: of so many commands that follow each other one is killed, one raced, and one given a full disk.
    """

    damaged: int
    kills: int
    races: int
    predictions: int
    every: int = 1

    def of(self, first: int) -> list[tuple[str, Writing]]:
        """The commands whose turn it is when the first one has this place, which may be beyond the last."""
        listed = list(writings().items())
        return listed[first % self.every :: self.every]


SHORT, WHOLE_HOUR = Amount(300, 1, 1, 300, every=6), Amount(10_000, 25, 10, 10_000)


def crossband(*arguments: str) -> tuple[int, str]:
    """The exit code and standard error of the command as a user starts it, in a process group of its own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "crossband", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        _, error = process.communicate(timeout=HANG)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return -1, "hangs"
    return process.returncode, error


def complain(error: str) -> bool:
    """Whether standard error has what no user should see."""
    return "Traceback" in error or "hangs" in error or "Error:" in error


class TakesTooLongError(BaseException):
    """Not an Exception: what turns a reader's errors into lines must not take it for one."""


@contextmanager
def bounded(seconds: int) -> Iterator[None]:
    """Raise TakesTooLongError inside of the block after some seconds."""

    def stop(number: int, frame: object) -> None:
        raise TakesTooLongError

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def heard(path: Path) -> Iterator[None]:
    """Keep what is written to standard error inside of the block, by C libraries too, in a file."""
    sys.stderr.flush()
    before = os.dup(2)
    with open(path, "ab") as file:
        os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(before, 2)
        os.close(before)


def peak() -> float:
    """MiB that this process ever took."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def soak_images(out: Path, amount: Amount, seed: int) -> Iterator[Tally]:
    tally = Tally("damaged images, every reader")
    names, before = sorted(WHOLE), peak()
    for number in range(amount.damaged):
        name = names[number % len(names)]
        path = out / name
        path.write_bytes(damaged(WHOLE[name], seed + number))
        for reader, read in READERS.items():
            said = out / "said"
            try:
                with bounded(10), heard(said), warnings.catch_warnings(record=True):
                    _, message = attempt(read, path)
                good = not message or is_a_good_error(message, path)
                if said.stat().st_size:
                    good, message = False, f"on standard error: {said.read_text(errors='replace')}"
                    said.unlink()
            except (Exception, TakesTooLongError) as error:
                good, message = False, repr(error)
            tally.expect(good, f"{reader} on {name}, seed {seed + number}: {message[:200]}")
    tally.expect(peak() - before < 1024, f"damaged images made the process {peak() - before:.0f} MiB larger")
    yield tally


def one_picture(folder: Path) -> Path:
    """A small visible image in a file."""
    path = folder / "picture.png"
    path.write_bytes(WHOLE["colour.bmp"])
    return path


def soak_texts(out: Path, amount: Amount, seed: int) -> Iterator[Tally]:
    """Cards, options and curves of a finished run, damaged; nothing of them may end in a traceback."""
    tally = Tally("damaged cards, options and curves")
    train = ["train", "deeplabv3plus", "--data", DATA, *TINY, "--recipe.epochs", "1"]
    run(["fuse", "average", "--visible", str(one_picture(out)), "--out", "run"], out)
    (out / "run" / MANIFEST_NAME).rename(out / MANIFEST_NAME)
    shutil.rmtree(out / "run")
    run([*train, "--out", "run"], out)
    folder = out / "run"
    (out / MANIFEST_NAME).rename(folder / MANIFEST_NAME)
    whole = {
        name: (folder / name).read_text()
        for name in ("card.json", "config.yaml", "curves.csv", MANIFEST_NAME)
    }
    read: dict[str, Callable[[], object]] = {
        "card.json": lambda: load_run(folder),
        "config.yaml": lambda: TrainOptions.from_yaml(folder / "config.yaml"),
        "curves.csv": lambda: read_curves(folder),
        MANIFEST_NAME: lambda: read_manifest(folder),
    }
    for reads in read.values():
        # What is imported on the way is not to be cut short below.
        reads()
    for number in range(amount.damaged):
        name = sorted(whole)[number % len(whole)]
        (folder / name).write_bytes(garbled(whole[name], seed + number))
        message = ""
        try:
            with bounded(60):
                read[name]()
        except CrossbandError as error:
            message = str(error)
        except (Exception, TakesTooLongError) as error:
            tally.expect(False, f"{name}, seed {seed + number}: {error!r}"[:300])
            continue
        finally:
            (folder / name).write_text(whole[name])
        tally.expect("\n" not in message and len(message) < 1200, f"{name}, seed {seed + number}: {message}")
    yield tally


def soak_kills(out: Path, amount: Amount, seed: int) -> Iterator[Tally]:
    """Commands killed at random moments, then brought to their end: the result must be the same."""
    rng = random.Random(seed)
    for name, writing in amount.of(seed):
        tally = Tally(f"kills of {name}")
        whole = out / f"whole-{name}"
        started = time.monotonic()
        code, error = writing.begin(whole).finish()
        took = time.monotonic() - started
        tally.expect(code == 0, f"{name} ended with {code}: {error[-300:]}")
        tally.expect(not any(whole.rglob(LOCK_NAME)), f"{name} left its lock")
        for number in range(amount.kills):
            place = out / f"killed-{name}"
            command = writing.begin(place)
            moment = took * rng.random()
            time.sleep(moment)
            command.kill()
            code, error = writing.end(place)
            tally.expect(code == 0 and not complain(error), f"{name} after a kill: {code} {error[-300:]}")
            differing = sorted(set(writing.kept(whole).items()) ^ set(writing.kept(place).items()))
            tally.expect(
                not differing, f"{name}, kill {number} after {moment:.2f} s: another result, {differing[:4]}"
            )
            shutil.rmtree(place)
        yield tally


def soak_writers(out: Path, amount: Amount, seed: int) -> Iterator[Tally]:
    """Two of a command into one folder: what is there is one's, and never a mixture."""
    for name, writing in amount.of(seed + 1):
        tally = Tally(f"two writers: {name}")
        alone = []
        for side in (0, 1):
            code, error = writing.begin(out / f"{name}-{side}", side).finish()
            tally.expect(code == 0, f"{name} ended with {code}: {error[-300:]}")
            alone.append(writing.kept(out / f"{name}-{side}"))
        for _ in range(amount.races):
            place = out / f"both-{name}"
            both = [writing.begin(place, 0), writing.begin(place, 1)]
            codes, errors = zip(*(command.finish() for command in both), strict=True)
            allowed = ([0, 2], [0, 0]) if writing.shared or writing.again else ([0, 2],)
            tally.expect(sorted(codes) in allowed, f"two of {name} ended with {codes}: {errors}")
            tally.expect(not any(map(complain, errors)), f"two of {name}: {errors}")
            for code, error in zip(codes, errors, strict=True):
                tally.expect(code == 0 or error.count("\n") == 1, f"two of {name}: {error[-300:]}")
            kept = writing.kept(place)
            its = [of for of, code in zip(alone, codes, strict=True) if code == 0]
            tally.expect(kept in its, f"two of {name} with {codes}: the result is neither's")
            shutil.rmtree(place)
        yield tally


def soak_signals(out: Path, amount: Amount, seed: int) -> Iterator[Tally]:
    """Signals while a training goes on, by itself and inside of reproduce."""
    tally = Tally("signals while training")
    train = ["train", "deeplabv3plus", "--data", DATA, *TINY, "--recipe.epochs", "500"]
    tables = ["reproduce", "csknet/table-3", "--on", DATA, "--budget", "quick", "--accelerator", "cpu"]
    tables += ["--workers", "0", "--encoder", "mobilenetv3_small_050", "--seeds", "1", "--rows", "^VI"]
    tables += ["--epochs", "500", "--recipe.batch_size", "2", "--recipe.warmup_steps", "0"]
    for begin in (train, tables):
        for what in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            place = out / f"{begin[0]}-{what.name}"
            place.mkdir()
            command = Command([*begin, "--out", "out"], place)
            deadline = time.monotonic() + HANG
            while not any(place.rglob("curves.csv")) and time.monotonic() < deadline:
                time.sleep(0.05)
            os.kill(command.pid, what)
            code, error = command.finish()
            tally.expect(code == 128 + what, f"{what.name} ended {begin[0]} with {code}: {error[-300:]}")
            tally.expect(not complain(error), f"{what.name}: {error[-300:]}")
            tally.expect(not any(place.rglob("*.lock")), f"{what.name}: a lock was left")
    yield tally


def soak_full_disk(out: Path, amount: Amount, seed: int) -> Iterator[Tally]:
    tally = Tally("full disk")
    with small_disk(out / "disk") as disk:
        if disk is None:
            tally.kind += " (skipped: no tmpfs can be mounted here)"
            yield tally
            return
        train = ["train", "deeplabv3plus", "--data", DATA, *TINY, "--recipe.epochs", "3", "--out", "run"]
        code, error = run(train, disk)
        tally.expect(code == 2 and not complain(error), f"training on a full disk: {code} {error[-400:]}")
        tally.expect(error.count("\n") <= 2 and "No space left" in error, f"full disk: {error[-400:]}")
        (disk / "filler").write_bytes(bytes(free_bytes(disk)))
        for name, writing in amount.of(seed + 2):
            if writing.prepared is None:
                code, error = run(writing.sides[0], disk)
                tally.expect(code in (1, 2) and not complain(error), f"{name} on a full disk: {code} {error}")
                tally.expect("No space left" in error, f"{name} on a full disk: {error[-400:]}")
                tally.expect(".tmp" not in error, f"{name} names its temporary file: {error[-400:]}")
                shutil.rmtree(disk / "out", ignore_errors=True)
    yield tally


@contextmanager
def small_disk(place: Path) -> Iterator[Path | None]:
    """A file system of 2 MiB, or None where none can be mounted."""
    place.mkdir(parents=True)
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)], capture_output=True)
    if made.returncode:
        yield None
        return
    try:
        yield place
    finally:
        # Python's own helper of a command that has ended may stand in it for a moment more.
        deadline = time.monotonic() + 30
        while subprocess.run(["umount", str(place)], capture_output=True).returncode:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{place} is still in use; a process was left behind")
            time.sleep(0.1)


def free_bytes(folder: Path) -> int:
    """What a file system has room for, less a little for an empty folder or two."""
    there = os.statvfs(folder)
    return max(0, there.f_bavail * there.f_frsize - 8192)


def soak_processes(out: Path, amount: Amount, seed: int) -> Iterator[Tally]:
    """Two CPU processes validate an odd number of pairs as one process does."""
    if seed % amount.every:
        return
    tally = Tally("two CPU processes (DDP)")
    run = out / "run"
    train = ("train", "deeplabv3plus", "--data", DATA, "--out", str(run), *TINY, "--validation", "val")
    code, error = crossband(*train, "--devices", "2", "--recipe.epochs", "1", "--select", "last")
    tally.expect(code == 0 and not error, f"training in two processes ended with {code}: {error[-400:]}")
    if code == 0:
        with open(run / "curves.csv", newline="", encoding="utf-8") as file:
            (row,) = csv.DictReader(file)
        scores = out / "scores"
        code, error = crossband(
            *("evaluate", str(run), "--data", DATA, "--split", "val", "--out", str(scores), "--workers", "0")
        )
        tally.expect(code == 0, f"evaluate ended with {code}: {error[-300:]}")
        document = json.loads(next(scores.glob("*.json")).read_text())
        value = document["results"]["visible"]["overall"]["mean_iou"]["present"]["value"]
        tally.expect(abs(value - float(row["val_miou_visible"])) < 1e-9, "another mIoU than one process's")
    yield tally


def soak_memory(out: Path, amount: Amount, seed: int) -> Iterator[Tally]:
    tally = Tally("memory over many predictions")
    run(["train", "deeplabv3plus", "--data", DATA, *TINY, "--recipe.epochs", "1", "--out", "run"], out)
    predictor = load(out / "run", device="cpu")
    image = np.random.default_rng(seed).integers(0, 256, (32, 48, 3), np.uint8)
    for _ in range(100):
        predictor(visible=image)
    before = peak()
    for _ in range(amount.predictions):
        predictor(visible=image)
    tally.tried += amount.predictions
    grown = peak() - before
    tally.expect(grown < 50, f"{amount.predictions} predictions made the process {grown:.0f} MiB larger")
    yield tally


def soak_names(out: Path, amount: Amount, seed: int) -> Iterator[Tally]:
    tally = Tally("names with markup, and umask")
    train = ["train", "deeplabv3plus", "--data", DATA, *TINY, "--recipe.epochs", "1", "--out"]
    for name in ("r[/x]", "[bold]r", "a b", "é[link=x]"):
        code, error = run([*train, str(out / name)], out)
        tally.expect(code == 0 and not complain(error), f"run folder {name!r}: {code} {error[-300:]}")
        for what in (["predict", name], ["fuse", "average"]):
            ending = ["--visible", str(one_picture(out)), "--out", f"{name}-{what[0]}"]
            code, error = run([*what, *ending], out)
            tally.expect(code == 0 and not complain(error), f"{what} {name!r}: {code} {error[-300:]}")
    Command([*train, "private"], out, umask=0o077).finish()
    modes = {path.name: path.stat().st_mode & 0o777 for path in (out / "private").iterdir() if path.is_file()}
    tally.expect(bool(modes) and not any(mode & 0o077 for mode in modes.values()), f"umask 077: {modes}")
    yield tally


SOAKS = (
    *(soak_images, soak_texts, soak_kills, soak_writers, soak_signals),
    *(soak_full_disk, soak_processes, soak_memory, soak_names),
)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--short", action="store_true", help="minutes, for continuous integration")
    parser.add_argument("--seed", type=int, default=0, help="of the damage and of the moments of killing")
    parser.add_argument("--only", default="", help="kinds whose name this is a part of, such as kills")
    options = parser.parse_args()
    take_signals_of_a_terminal()
    # For what it starts, and for itself: idle threads would spin beside the commands that it waits for.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)
    amount = SHORT if options.short else WHOLE_HOUR
    print(f"seed {options.seed}", flush=True)
    tallies, began = [], time.monotonic()
    for soak in SOAKS:
        if options.only not in soak.__name__:
            continue
        with tempfile.TemporaryDirectory() as folder:
            for tally in soak(Path(folder), amount, options.seed):
                tallies.append(tally)
                seconds = time.monotonic() - began
                print(
                    f"{seconds:6.0f} s  {tally.kind}: {tally.tried} tried, {len(tally.faults)} wrong",
                    flush=True,
                )
                for fault in tally.faults[:MOST]:
                    print(f"          wrong: {fault}", flush=True)
    rows = [[tally.kind, str(tally.tried), str(len(tally.faults))] for tally in tallies]
    print(text_table(["kind", "tried", "wrong"], rows))
    return 1 if any(tally.faults for tally in tallies) else 0


if __name__ == "__main__":
    sys.exit(main())
