"""An hour of abuse: damaged files, kills, full disks, two writers, two processes, many predictions.

    python tests/soak.py            the whole, about an hour
    python tests/soak.py --short    a few minutes of each kind, for continuous integration

Prints a table of what was tried, and what was wrong; the exit code is 1 if anything was. The same seed gives
the same damage and the same moments of killing, as shares of an uninterrupted command's time.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from crossband.pairs.export import export_folder
from crossband.predictor import load
from crossband.text import text_table
from crossband.weights import WEIGHTS_NAME
from mutations import damaged, garbled
from test_mutated_files import READERS, WHOLE, attempt, is_a_good_error

DATA = "scenes,train=8,val=3,test=4,size=32x48"
TINY = [
    *("--encoder", "mobilenetv3_small_050", "--network.decoder_channels", "16", "--workers", "0"),
    *("--accelerator", "cpu", "--recipe.batch_size", "2"),
]
HANG = 120
"""Seconds after which a command that should have ended counts as one that hangs."""


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
    """How much of each kind: damaged files and texts, kills, predictions."""

    damaged: int
    kills: int
    predictions: int


SHORT, WHOLE_HOUR = Amount(300, 2, 300), Amount(10_000, 20, 10_000)


def crossband(*arguments: str, **options: object) -> subprocess.Popen[str]:
    """A command of its own process group, whose output is kept."""
    return subprocess.Popen(
        [sys.executable, "-m", "crossband", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **options,  # type: ignore[call-overload]
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    """The exit code and standard error of a command; -1 and "hangs" for one that does not end."""
    try:
        _, error = process.communicate(timeout=HANG)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return -1, "hangs"
    return process.returncode, error


def complain(error: str) -> bool:
    """Whether standard error has what no user should see."""
    return "Traceback" in error or "hangs" in error


def contents(folder: Path, *, without: tuple[str, ...] = ()) -> dict[str, str]:
    """A hash of every file of a folder, by its place in it."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not any(part in str(path) for part in without)
    }


def soak_images(out: Path, amount: Amount, seed: int) -> Iterator[Tally]:
    tally = Tally("damaged images, every reader")
    names = sorted(WHOLE)
    for number in range(amount.damaged):
        name = names[number % len(names)]
        path = out / name
        path.write_bytes(damaged(WHOLE[name], seed + number))
        for reader, read in READERS.items():
            try:
                _, message = attempt(read, path)
                good = not message or is_a_good_error(message, path)
            except Exception as error:
                good, message = False, repr(error)
            tally.expect(good, f"{reader} on {name}, seed {seed + number}: {message[:200]}")
    yield tally


def soak_texts(out: Path, amount: Amount, seed: int) -> Iterator[Tally]:
    """Cards, options and curves of a finished run, damaged; nothing of them may end in a traceback."""
    tally = Tally("damaged cards, options and curves")
    run = out / "run"
    finish(
        crossband("train", "deeplabv3plus", "--data", DATA, "--out", str(run), *TINY, "--recipe.epochs", "1")
    )
    whole = {name: (run / name).read_text() for name in ("card.json", "config.yaml", "curves.csv")}
    from crossband.errors import CrossbandError
    from crossband.training.curves import read_curves
    from crossband.training.options import TrainOptions
    from crossband.weights import load_run

    read: dict[str, Callable[[], object]] = {
        "card.json": lambda: load_run(run),
        "config.yaml": lambda: TrainOptions.from_yaml(run / "config.yaml"),
        "curves.csv": lambda: read_curves(run),
    }
    for number in range(amount.damaged):
        name = sorted(whole)[number % len(whole)]
        (run / name).write_bytes(garbled(whole[name], seed + number))
        message = ""
        try:
            read[name]()
        except CrossbandError as error:
            message = str(error)
        except Exception as error:
            tally.expect(False, f"{name}, seed {seed + number}: {error!r}"[:300])
            continue
        finally:
            (run / name).write_text(whole[name])
        tally.expect("\n" not in message and len(message) < 1200, f"{name}, seed {seed + number}: {message}")
    yield tally


def soak_kills(out: Path, amount: Amount, seed: int) -> Iterator[Tally]:
    """Every command killed at random moments, and ended by the same command: the result must be the same."""
    rng = random.Random(seed)
    pairs = out / "pairs"
    export_folder(DATA, pairs)
    run = out / "run"
    train = ["train", "deeplabv3plus", "--data", DATA, *TINY, "--recipe.epochs", "4"]
    finish(crossband(*train, "--out", str(run)))
    images = ["--visible", str(pairs / "test" / "visible")]
    commands: dict[str, tuple[list[str], list[str]]] = {
        "train": (train, ["train", "--resume"]),
        "predict": (["predict", str(run), *images], ["predict", str(run), *images, "--resume"]),
        "fuse": (["fuse", "average", *images], ["fuse", "average", *images, "--resume"]),
        "data export": (["data", "export", DATA], ["data", "export", DATA]),
    }
    for name, (begin, again) in commands.items():
        tally = Tally(f"kills of {name}")
        reference = out / f"reference-{name.replace(' ', '-')}"
        started = time.monotonic()
        code, error = finish(crossband(*begin, "--out", str(reference)))
        took = time.monotonic() - started
        tally.expect(code == 0, f"{name} ended with {code}: {error[-300:]}")
        for number in range(amount.kills):
            target = out / f"{name.replace(' ', '-')}-{number}"
            process = crossband(*begin, "--out", str(target))
            time.sleep(took * rng.uniform(0.3, 1.0))
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            if name == "train":
                resume = (target / "config.yaml").is_file()
                ending = [*again, str(target)] if resume else [*begin, "--out", str(target)]
            else:
                ending = [*again, "--out", str(target)]
                if name == "data export" and target.exists() and any(target.iterdir()):
                    ending = []
            if ending:
                code, error = finish(crossband(*ending))
                tally.expect(code == 0 and not complain(error), f"{name} after a kill: {code} {error[-300:]}")
            if name == "train":
                same = _bytes(reference / WEIGHTS_NAME) == _bytes(target / WEIGHTS_NAME)
            else:
                ignored = ("manifest.json", ".crossband")
                same = contents(reference, without=ignored) == contents(target, without=ignored)
            tally.expect(same, f"{name}, kill {number}: another result than without the kill")
            shutil.rmtree(target, ignore_errors=True)
        yield tally


def _bytes(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""


def soak_writers(out: Path, amount: Amount, seed: int) -> Iterator[Tally]:
    tally = Tally("two writers of one folder")
    for number in range(max(1, amount.kills // 2)):
        run = out / f"run{number}"
        both = [
            crossband(
                *("train", "deeplabv3plus", "--data", DATA, "--out", str(run), *TINY),
                *("--recipe.epochs", "3", "--seed", str(side)),
            )
            for side in (0, 1)
        ]
        codes, errors = zip(*(finish(process) for process in both), strict=True)
        tally.expect(sorted(codes) == [0, 2], f"two trainings of one folder ended with {codes}")
        tally.expect(not any(map(complain, errors)), f"two trainings of one folder: {errors}")
        if (run / "card.json").is_file():
            seed_of = json.loads((run / "card.json").read_text())["training"]["seed"]
            tally.expect(codes[seed_of] == 0, "the card is of the training that was refused")
    yield tally


def soak_signals(out: Path, amount: Amount, seed: int) -> Iterator[Tally]:
    tally = Tally("signals while training")
    for number, what in enumerate((signal.SIGTERM, signal.SIGINT, signal.SIGHUP)):
        run = out / f"run{number}"
        train = ("train", "deeplabv3plus", "--data", DATA, "--out", str(run), *TINY, "--recipe.epochs", "500")
        process = crossband(*train)
        deadline = time.monotonic() + HANG
        while not (run / "curves.csv").is_file() and time.monotonic() < deadline:
            time.sleep(0.1)
        process.send_signal(what)
        code, error = finish(process)
        tally.expect(code == 128 + what, f"{what.name} ended a training with {code}")
        tally.expect(not complain(error), f"{what.name}: {error[-300:]}")
    yield tally


def soak_full_disk(out: Path, amount: Amount, seed: int) -> Iterator[Tally]:
    tally = Tally("full disk")
    with small_disk(out / "disk") as disk:
        if disk is None:
            tally.kind += " (skipped: no tmpfs can be mounted here)"
            yield tally
            return
        run = disk / "run"
        code, error = finish(
            crossband(
                "train", "deeplabv3plus", "--data", DATA, "--out", str(run), *TINY, "--recipe.epochs", "3"
            )
        )
        tally.expect(code == 2 and not complain(error), f"training on a full disk: {code} {error[-400:]}")
        tally.expect(error.count("\n") <= 2 and "No space left" in error, f"full disk: {error[-400:]}")
        code, error = finish(crossband("data", "export", DATA, "--out", str(disk / "pairs")))
        tally.expect(not complain(error), f"export to a full disk: {code} {error[-400:]}")
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
        subprocess.run(["umount", str(place)], check=True)


def soak_processes(out: Path, amount: Amount, seed: int) -> Iterator[Tally]:
    """Two CPU processes validate an odd number of pairs as one process does."""
    tally = Tally("two CPU processes (DDP)")
    run = out / "run"
    train = ("train", "deeplabv3plus", "--data", DATA, "--out", str(run), *TINY, "--validation", "val")
    code, error = finish(crossband(*train, "--devices", "2", "--recipe.epochs", "1", "--select", "last"))
    tally.expect(code == 0, f"training in two processes ended with {code}: {error[-400:]}")
    if code == 0:
        with open(run / "curves.csv", newline="", encoding="utf-8") as file:
            (row,) = csv.DictReader(file)
        scores = out / "scores"
        evaluate = ("evaluate", str(run), "--data", DATA, "--split", "val", "--out", str(scores))
        code, error = finish(crossband(*evaluate, "--workers", "0"))
        tally.expect(code == 0, f"evaluate ended with {code}: {error[-300:]}")
        document = json.loads(next(scores.glob("*.json")).read_text())
        value = document["results"]["visible"]["overall"]["mean_iou"]["present"]["value"]
        tally.expect(abs(value - float(row["val_miou_visible"])) < 1e-9, "another mIoU than one process's")
    yield tally


def soak_memory(out: Path, amount: Amount, seed: int) -> Iterator[Tally]:
    tally = Tally("memory over many predictions")
    run = out / "run"
    train = ("train", "deeplabv3plus", "--data", DATA, "--out", str(run), *TINY, "--recipe.epochs", "1")
    finish(crossband(*train))
    predictor = load(run, device="cpu")
    image = np.random.default_rng(seed).integers(0, 256, (32, 48, 3), np.uint8)
    for _ in range(100):
        predictor(visible=image)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(amount.predictions):
        predictor(visible=image)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    tally.tried += amount.predictions
    tally.expect(grown < 50, f"{amount.predictions} predictions made the process {grown:.0f} MiB larger")
    yield tally


def soak_names(out: Path, amount: Amount, seed: int) -> Iterator[Tally]:
    tally = Tally("names with markup, and umask")
    for name in ("r[/x]", "[bold]r", "a b", "é[link=x]"):
        run = out / name
        train = ("train", "deeplabv3plus", "--data", DATA, "--out", str(run), *TINY, "--recipe.epochs", "1")
        code, error = finish(crossband(*train))
        tally.expect(code == 0 and not complain(error), f"run folder {name!r}: {code} {error[-300:]}")
    run = out / "private"
    train = ("train", "deeplabv3plus", "--data", DATA, "--out", str(run), *TINY, "--recipe.epochs", "1")
    finish(crossband(*train, umask=0o077))
    modes = {path.name: path.stat().st_mode & 0o777 for path in run.iterdir() if path.is_file()}
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
    parser.add_argument("--short", action="store_true", help="a few minutes, for continuous integration")
    parser.add_argument("--seed", type=int, default=0, help="of the damage and of the moments of killing")
    parser.add_argument("--only", default="", help="kinds whose name this is a part of, such as kills")
    options = parser.parse_args()
    amount = SHORT if options.short else WHOLE_HOUR
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    tallies: list[Tally] = []
    for soak in SOAKS:
        if options.only not in soak.__name__:
            continue
        with tempfile.TemporaryDirectory() as folder:
            for tally in soak(Path(folder), amount, options.seed):
                tallies.append(tally)
                print(f"{tally.kind}: {tally.tried} tried, {len(tally.faults)} wrong", flush=True)
    rows = [[tally.kind, str(tally.tried), str(len(tally.faults))] for tally in tallies]
    print(text_table(["kind", "tried", "wrong"], rows))
    faults = [fault for tally in tallies for fault in tally.faults]
    for fault in faults[:50]:
        print(f"wrong: {fault}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
