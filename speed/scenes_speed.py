"""How fast street scenes are rendered on one core.

    python speed/scenes_speed.py [--pairs 200] [--size 240x320]

Prints pairs per second by processor time, over all conditions in turn: the median and the best of ten
batches (the best is what an idle machine gives).
"""

from __future__ import annotations

import argparse
import os
import statistics
import time

from measuring import Rates, Row, compare, in_child, per_second

BATCHES = 10
REQUIRED = 50.0
"""Pairs per second of one core at 240 x 320 that we hold ourselves to."""


BYTES = 4 * (3 + 1) + 1
"""Of a pixel of a pair: two bands of float32 and a label."""


def measure(pairs: int, size: tuple[int, int]) -> list[float]:
    """Pairs per second of processor time of each batch. Call it in a process that has loaded no library."""
    # The libraries read these when they are first loaded.
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OPENCV_FOR_THREADS_NUM"):
        os.environ[variable] = "1"
    from crossband.pairs.scenes import Scenes

    each = max(pairs // BATCHES, 1)
    scenes = Scenes("train", count=BATCHES * each + 1, size=size)
    # None of those that are measured: scenes are kept.
    scenes[-1]
    rates = []
    for batch in range(BATCHES):
        start = time.process_time()
        for index in range(each):
            scenes[batch * each + index]
        rates.append(each / (time.process_time() - start))
    return rates


def rate_rows(pairs: int, rates: Rates) -> list[Row]:
    size, ours, minimum = (240, 320), "240 x 320, one core", "our minimum"
    found = in_child(measure, pairs, size)
    measured = {ours: found, minimum: [REQUIRED] * len(found)}
    floors = {ours: 1 / rates.of_bytes(BYTES * size[0] * size[1])}
    return compare("scenes", measured, minimum, per_second, "more", floors)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--size", default="240x320")
    arguments = parser.parse_args()
    height, width = (int(side) for side in arguments.size.split("x"))
    rates = measure(arguments.pairs, (height, width))
    middle, best = statistics.median(rates), max(rates)
    print(f"{height} x {width}, {BATCHES} batches, {arguments.pairs} pairs, one thread")
    print(f"median {1000 / middle:.1f} ms of processor time per pair ({per_second(middle)})")
    print(f"best   {1000 / best:.1f} ms of processor time per pair ({per_second(best)})")


if __name__ == "__main__":
    main()
