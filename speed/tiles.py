"""Time, memory and labels of a large picture in tiles, against the same picture whole.

    python speed/tiles.py RUN --pairs SOURCE [--size 3000x4000] [--tile 1024] [--overlap 128]

RUN: a run folder; the bands are the first that it was designed for. The picture is laid of the source's
training pairs at half their size, one beside the other. Each way is run once, on one thread, in a process of
its own: by processor time, and by how far its resident memory rises above what it was with the run loaded.
"""

from __future__ import annotations

import argparse
import os
import time
from itertools import cycle
from typing import Any

import numpy as np

from measuring import in_child, megabytes, peak_memory


def laid(pairs: Any, band: str, size: tuple[int, int]) -> np.ndarray:
    """A picture (H, W) or (H, W, 3) of that size, of the pairs in their order."""
    import cv2

    height, width = size
    images = (
        cv2.resize(getattr(pair, band), None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        for pair in cycle(pairs)
    )
    rows: list[np.ndarray] = []
    while sum(row.shape[0] for row in rows) < height:
        row: list[np.ndarray] = []
        while sum(image.shape[1] for image in row) < width:
            row.append(next(images))
        rows.append(np.concatenate(row, axis=1)[:, :width])
    return np.concatenate(rows)[:height]


def predict(
    run: str, source: str, size: tuple[int, int], tile: tuple[int, int] | None
) -> tuple[np.ndarray, float, float]:
    """Labels (H, W), seconds, and megabytes at the peak. tile: side and overlap."""
    import crossband as cb
    from crossband.runtime.tiling import Tiling

    predictor = cb.load(run, device="cpu", tiling=None if tile is None else Tiling(*tile))
    bands = next(iter(predictor.system.supports))
    pairs = cb.open_pairs(source, "train")
    given = {band: laid(pairs, band, size) for band in ("visible", "infrared") if bands in ("both", band)}
    labels: list[np.ndarray] = []
    begin = time.process_time()
    memory = peak_memory(lambda: labels.append(predictor(**given).labels), "cpu")
    return labels[0], time.process_time() - begin, memory


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run")
    parser.add_argument("--pairs", required=True, help="a source, such as folder:PATH")
    parser.add_argument("--size", default="3000x4000", help="HEIGHTxWIDTH")
    parser.add_argument("--tile", type=int, default=1024)
    parser.add_argument("--overlap", type=int, default=128)
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    height, width = map(int, options.size.split("x"))
    ways = {
        "whole": None,
        f"tiles of {options.tile}, overlap {options.overlap}": (options.tile, options.overlap),
    }
    print("| | processor time | peak memory | labels of the whole image |\n|---|---|---|---|")
    whole = None
    for name, tile in ways.items():
        labels, seconds, memory = in_child(predict, options.run, options.pairs, (height, width), tile)
        whole = labels if whole is None else whole
        share = 100 * float((labels == whole).mean())
        print(f"| {name} | {seconds:.0f} s | {megabytes(memory)} | {share:.1f} % |", flush=True)


if __name__ == "__main__":
    main()
