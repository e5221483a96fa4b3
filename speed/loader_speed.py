"""Pairs per second of the training loader, as a ratio to bare Pillow decoding of the same files.

    python speed/loader_speed.py
    python speed/loader_speed.py --clock processor    # on a machine that is busy otherwise

Makes 480 x 640 pairs of PNGs (colour visible, grey infrared, label) in a temporary folder, decodes them
with Pillow alone in one process, and loads them in batches of 8 with 0, 1 and 2 workers, in alternation.
A ratio above 1 means that the workers more than pay for conversion, augmentation and batching.

By wall time a busy machine gives two workers more of its cores than the one process that decodes, or less. By
processor time the rate is reckoned from what every process took: that of as many free cores as there are, on
which the work takes as long as the busiest process, and no less than its even share of all of them.
"""

import argparse
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from crossband.pairs.augmentation import Augmentation
from crossband.pairs.folder import FolderPairs
from crossband.pairs.loading import PairLoader, training_loader
from measuring import Clock, Rates, Row, Settings, compare, markdown, measure_rates, per_second

HEIGHT, WIDTH = 480, 640
BYTES = (3 + 1 + 1) + 4 * (3 + 1) + 8
"""Of a pixel: read of the decoded images and the label, and written of the batch's floats and ids."""
PILLOW = "Pillow decoding alone"
RECIPES = {
    "flip only": Augmentation(),
    "flip, scale, crop": Augmentation(scale=(0.5, 1.75), crop=(HEIGHT, WIDTH)),
}


def make_pairs(root: Path, count: int) -> None:
    """Write smooth random pictures with sensor noise, which compress like photographs."""
    rng = np.random.default_rng(0)
    for band in ("visible", "infrared", "label"):
        (root / "train" / band).mkdir(parents=True)
    for index in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (HEIGHT // 40, WIDTH // 40, 4), np.uint8), "RGBA")
        smooth = np.asarray(coarse.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)).astype(np.float32)
        image = np.clip(smooth + rng.normal(0, 3, smooth.shape), 0, 255).astype(np.uint8)
        name = f"{index:05}.png"
        Image.fromarray(image[..., :3].copy()).save(root / "train" / "visible" / name)
        Image.fromarray(image[..., 3].copy()).save(root / "train" / "infrared" / name)
        Image.fromarray((smooth[..., 0] // 29).astype(np.uint8)).save(root / "train" / "label" / name)


def decode_all(root: Path) -> int:
    """Decode every pair with Pillow, and do nothing with it."""
    files = sorted((root / "train" / "visible").iterdir())
    for visible in files:
        for band in ("visible", "infrared", "label"):
            with Image.open(root / "train" / band / visible.name) as image:
                image.load()
    return len(files)


def load_all(loader: PairLoader) -> int:
    return sum(len(batch.names) for batch in loader)


def pairs_per_second(run: Callable[[], int], clock: Clock) -> float:
    before, begin = processor_seconds(), time.perf_counter()
    count = run()
    seconds = time.perf_counter() - begin
    if clock == "processor":
        after = processor_seconds()
        seconds = on_free_cores([after[each] - before.get(each, 0.0) for each in after], os.cpu_count() or 1)
    return count / seconds


def processor_seconds() -> dict[int, float]:
    """What this process and each of its workers took of the processor so far, by process id; Linux only."""
    taken = {os.getpid(): time.process_time()}
    for worker in multiprocessing.active_children():
        assert worker.pid is not None
        # After the name, which stands in parentheses and may hold anything.
        fields = Path(f"/proc/{worker.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        taken[worker.pid] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return taken


def on_free_cores(taken: Sequence[float], cores: int) -> float:
    """Seconds that processes which took so much of the processor take side by side, each on one core."""
    return max(*taken, sum(taken) / cores)


def measure(pair_count: int, rounds: int, workers: Sequence[int], clock: Clock) -> dict[str, list[float]]:
    """Pairs per second of Pillow and of every loader, one value per round, measured in turn."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make_pairs(root, pair_count)
        pairs = FolderPairs(root, "train")
        runs: dict[str, Callable[[], int]] = {PILLOW: lambda: decode_all(root)}
        for title, recipe in RECIPES.items():
            for count in workers:
                loader = training_loader(pairs, recipe, batch_size=8, seed=0, workers=count)
                runs[f"{title}; {count} workers"] = partial(load_all, loader)
        for run in runs.values():
            run()  # starts the workers, which stay
        rates: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(rounds):
            for name, run in runs.items():
                rates[name].append(pairs_per_second(run, clock))
    return rates


def rate_rows(pair_count: int, rounds: int, workers: Sequence[int], clock: Clock, rates: Rates) -> list[Row]:
    measured = measure(pair_count, rounds, workers, clock)
    floors = dict.fromkeys(measured, 1 / rates.of_bytes(BYTES * HEIGHT * WIDTH))
    return compare("loader", measured, PILLOW, per_second, "more", floors)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--pairs", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=9, help="the table gives the median of this many")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--clock", choices=("wall", "processor"), default="wall")
    options = parser.parse_args()
    print(f"{options.pairs} pairs of {HEIGHT} x {WIDTH}, {options.rounds} rounds, {os.cpu_count()} cores")
    rates = measure_rates(Settings("", (HEIGHT, WIDTH), 8, "cpu", options.rounds, options.clock))
    print(rates)
    print(markdown(rate_rows(options.pairs, options.rounds, options.workers, options.clock, rates)))


if __name__ == "__main__":
    main()
