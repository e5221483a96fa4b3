"""Time of fusion metrics for one pair, against their formulas as they read.

    python speed/fusion_metrics_speed.py [--size 480x640] [--repeats 5]

CDDFuse's eight metrics, of the mean of the two bands of a generated scene, by processor time on one thread.
Each round times the naive formulas (naive_fusion_metrics.py) metric by metric, ours metric by metric, and all
eight of ours in one call, which shares what they have in common. Each runs twice in its turn and the second
time counts, as over a test set, where picture follows picture: the first has to ask the system for memory. It
stops if the values differ.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from measuring import Row, Settings, compare, in_child, markdown, measure_rates, milliseconds

if TYPE_CHECKING:
    from numpy import ndarray

EIGHT = ("EN", "SD", "SF", "MI", "SCD", "VIF", "Qabf", "SSIM")
TARGET = 1 / 20
"""The share of the naive formulas' time that we allow ourselves for the eight together, in float64."""
TOGETHER = "all eight in one call"


def make_pictures(size: tuple[int, int]) -> tuple[ndarray, ndarray, ndarray]:
    """(fused, visible, infrared), uint8 (H, W): a scene by day, and the mean of its bands."""
    import cv2
    import numpy as np

    from crossband.pairs.scenes import render_scene

    pair = render_scene(0, 0, size, "day")
    assert pair.visible is not None
    assert pair.infrared is not None
    grey = cv2.cvtColor(pair.visible, cv2.COLOR_RGB2GRAY)
    visible, infrared = (np.rint(band * 255).astype(np.uint8) for band in (grey, pair.infrared))
    return np.rint((visible.astype(float) + infrared) / 2).astype(np.uint8), visible, infrared


def naive_formulas() -> dict[str, Callable[[ndarray, ndarray, ndarray], float]]:
    """The eight of (fused, visible, infrared), in CDDFuse's convention."""
    import naive_fusion_metrics as naive

    return {
        "EN": lambda f, v, i: naive.entropy(f),
        "SD": lambda f, v, i: naive.standard_deviation(f),
        "SF": lambda f, v, i: naive.spatial_frequency(f),
        "MI": naive.mutual_information,
        "SCD": naive.sum_of_correlations_of_differences,
        "VIF": naive.visual_information_fidelity,
        "Qabf": naive.gradient_preservation,
        "SSIM": lambda f, v, i: naive.structural_similarity(f, v, i, uniform=True, dynamic_range=2),
    }


def time_rows(size: tuple[int, int], repeats: int) -> list[Row]:
    """A row for each metric, and for all together in either precision. Call it in a fresh process.

    Raises RuntimeError if values differ.
    """
    # The libraries read these when they are first loaded.
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = "1"
    import cv2
    import numpy as np
    import torch

    from crossband.metrics import fusion_scores

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    pictures = make_pictures(size)
    floats = [picture.astype(float) for picture in pictures]
    runs: dict[str, Callable[[], object]] = {}
    found = fusion_scores(*pictures, "cddfuse", metrics=EIGHT)
    for name, formula in naive_formulas().items():
        expected = formula(*floats)
        if not np.isclose(found[name], expected, rtol=2e-8, atol=0):
            raise RuntimeError(f"our {name} is {found[name]}, that of the naive formula {expected}")
        runs[f"naive {name}"] = partial(formula, *floats)
        runs[name] = partial(fusion_scores, *pictures, "cddfuse", metrics=[name])
    for precision in ("float64", "float32"):
        runs[precision] = partial(fusion_scores, *pictures, "cddfuse", metrics=EIGHT, precision=precision)
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            run()
            begin = time.process_time()
            run()
            seconds[name].append(time.process_time() - begin)
    rates = measure_rates(Settings("", size, 1, "cpu", repeats, "processor"))
    # The least that any of them does is to read the three pictures.
    floor = rates.of_bytes(sum(picture.nbytes for picture in pictures))
    rows = []
    for name in EIGHT:
        measured = {"float64": seconds[name], "naive": seconds[f"naive {name}"]}
        rows += compare(name, measured, "naive", milliseconds, "less", {"float64": floor})
    naive = [sum(times) for times in zip(*(seconds[f"naive {name}"] for name in EIGHT), strict=True)]
    for precision in ("float64", "float32"):
        measured = {precision: seconds[precision], "naive": naive}
        rows += compare(TOGETHER, measured, "naive", milliseconds, "less", {precision: floor})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="480x640", metavar="HEIGHTxWIDTH")
    parser.add_argument("--repeats", type=int, default=5, help="rounds")
    arguments = parser.parse_args()
    height, width = map(int, arguments.size.split("x"))
    rows = in_child(time_rows, (height, width), arguments.repeats)
    print(markdown(rows))
    share = statistics.median(next(row for row in rows if row.what == f"{TOGETHER}: float64").ratios)
    print(f"\nAll eight in float64 take 1/{1 / share:.1f} of the naive time. Target: 1/{1 / TARGET:.0f}.")
    sys.exit(share > TARGET)


if __name__ == "__main__":
    main()
