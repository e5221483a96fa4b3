"""How fast street scenes are rendered on one core.

    python benchmarks/scenes_speed.py [--pairs 200] [--size 240x320]

Prints pairs per second by processor time, over all conditions in turn: the median and the best of ten
batches (the best is what an idle machine gives).
"""

from __future__ import annotations

import argparse
import os
import statistics
import time

BATCHES = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--size", default="240x320")
    arguments = parser.parse_args()
    # The libraries read these when they are first loaded.
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OPENCV_FOR_THREADS_NUM"):
        os.environ[variable] = "1"
    from crossband.pairs.scenes import Scenes, parse_scene_options

    size = parse_scene_options({"size": arguments.size})["size"]
    each = max(arguments.pairs // BATCHES, 1)
    scenes = Scenes("train", count=BATCHES * each, size=size)
    scenes[0]
    seconds = []
    for batch in range(BATCHES):
        start = time.process_time()
        for index in range(each):
            scenes[batch * each + index]
        seconds.append((time.process_time() - start) / each)
    middle, best = statistics.median(seconds), min(seconds)
    print(f"{size[0]} x {size[1]}, {BATCHES} batches of {each} pairs, one thread")
    print(f"median {1000 * middle:.1f} ms of processor time per pair ({1 / middle:.0f} pairs/s)")
    print(f"best   {1000 * best:.1f} ms of processor time per pair ({1 / best:.0f} pairs/s)")


if __name__ == "__main__":
    main()
