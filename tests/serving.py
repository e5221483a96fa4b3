"""A service with small systems, images to send to it, and a server of it in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

import crossband as cb
from crossband.pairs.base import Classes
from crossband.pairs.export import export_folder
from crossband.serve.limits import Limits
from crossband.serve.service import Service, Upload
from crossband.weights import make_card, save_run
from tiny_systems import csknet

SIZE = 32, 48
NAMES = ("road", "sky", "<b>person</b>", "car", "tree")
RUN = "import sys; from crossband.cli import main; sys.exit(main(sys.argv[1:]))"


def small_run(folder: Path) -> Path:
    """A run of CSK-Net with random weights, in a folder called ``street``."""
    classes = Classes(NAMES, tuple((50 * number, 90, 200 - 40 * number) for number in range(5)))
    system = csknet()
    save_run(folder / "street", system, make_card(system, classes, "full-range", {}))
    return folder / "street"


def small_pairs(folder: Path) -> dict[str, list[Path]]:
    """Three generated pairs, by band."""
    export_folder(f"scenes,train=1,val=0,test=3,size={SIZE[0]}x{SIZE[1]}", folder / "pairs")
    return {band: sorted((folder / "pairs" / "test" / band).iterdir()) for band in ("visible", "infrared")}


def upload(path: Path, name: str | None = None) -> Upload:
    return Upload(name or path.name, path)


def counts(path: Path, low: int, high: int, size: tuple[int, int] = SIZE) -> Path:
    """A 16-bit TIFF of a ramp between two counts."""
    tifffile.imwrite(path, np.linspace(low, high, size[0] * size[1]).reshape(size).astype(np.uint16))
    return path


def image(path: Path) -> Path:
    """A picture in colours."""
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)).save(path)
    return path


def small_service(run: Path, **limits: float) -> Service:
    given = {"street": cb.load(run, device="cpu"), "average": cb.load("average")}
    return Service(given, Limits(**limits))  # type: ignore[arg-type]


@contextmanager
def server(*arguments: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """``crossband serve`` in a process of its own: its address, and the process."""
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, "serve", *arguments, "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "PYTHONUNBUFFERED": "1"},
    )
    try:
        assert process.stdout is not None
        told = process.stdout.readline()
        if " at http" not in told:
            process.kill()
            raise AssertionError(f"{told}{process.communicate()[1]}")
        yield told.split(" at ")[1].split()[0], process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
