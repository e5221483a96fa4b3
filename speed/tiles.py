"""Time, memory and labels of a large visible image in tiles, against the same image whole.

    python speed/tiles.py RUN [--size 3000x4000] [--tile 1024] [--overlap 128]

RUN: a run folder of a system that segments the visible band alone, such as a DeepLabV3+ of
`--network.band visible`. The image is a generated scene, enlarged to twice its sides. Each way is run once,
on one thread, in a process of its own: by processor time, and by how far its resident memory rises above what
it was with the run loaded.
"""

from __future__ import annotations

import argparse
import os
import time

import numpy as np

from measuring import in_child, megabytes, peak_memory


def predict(run: str, size: tuple[int, int], tile: tuple[int, int] | None) -> tuple[np.ndarray, float, float]:
    """Labels (H, W), seconds, and megabytes at the peak. tile: side and overlap."""
    import cv2

    import crossband as cb
    from crossband.runtime.tiling import Tiling

    height, width = size
    source = f"scenes,train=0,val=0,test=1,size={height // 2}x{width // 2}"
    scene = cv2.resize(cb.open_pairs(source, "test")[0].visible, (width, height)).clip(0, 1)
    predictor = cb.load(run, device="cpu", tiling=None if tile is None else Tiling(*tile))
    labels: list[np.ndarray] = []
    begin = time.process_time()
    memory = peak_memory(lambda: labels.append(predictor(visible=scene).labels), "cpu")
    return labels[0], time.process_time() - begin, memory


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run")
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
        labels, seconds, memory = in_child(predict, options.run, (height, width), tile)
        whole = labels if whole is None else whole
        share = 100 * float((labels == whole).mean())
        print(f"| {name} | {seconds:.0f} s | {megabytes(memory)} | {share:.1f} % |", flush=True)


if __name__ == "__main__":
    main()
