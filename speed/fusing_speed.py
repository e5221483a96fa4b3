"""Time of guided fusion at growing sizes, and of all metrics of the convention `standard` for one pair.

    python speed/fusing_speed.py [--sizes 480x640 960x1280 1920x2560] [--repeats 3]

By processor time on one thread. Guided fusion against the plain form that the tests hold it to
(tests/references/plain_guided.py). Both take their turns, and the largest difference of the pictures
is printed. FMI of 8-bit levels takes turns with its way for other values. The metrics are timed one by
one and together, of the mean of a generated scene's bands.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from functools import partial

from measuring import Rates, Settings, compare, markdown, measure_rates, milliseconds

PLAIN = "the plain form"


def seconds(run: Callable[[], object]) -> float:
    begin = time.process_time()
    run()
    return time.process_time() - begin


def time_guided(size: tuple[int, int], repeats: int, rates: Rates) -> None:
    import torch

    import plain_guided
    from crossband.systems.classical.rules import guided_fusion

    first, second = torch.rand(2, 1, 1, *size, generator=torch.Generator().manual_seed(0))
    measured: dict[str, list[float]] = {"ours": [], PLAIN: []}
    for _ in range(repeats):
        measured["ours"].append(seconds(lambda: guided_fusion(first, second)))
        measured[PLAIN].append(seconds(lambda: plain_guided.guided_fusion(first, second)))
    difference = float((guided_fusion(first, second) - plain_guided.guided_fusion(first, second)).abs().max())
    # Two bands are read and one picture is written, all float32.
    floors = {"ours": rates.of_bytes(3 * first.numel() * first.element_size())}
    rows = compare(f"guided, {size[0]} x {size[1]}", measured, PLAIN, milliseconds, "less", floors)
    print(f"{markdown(rows)}\nlargest difference: {difference:.1g}\n", flush=True)


def time_information(repeats: int, rates: Rates) -> None:
    """FMI of 8-bit levels against the way of any values, which half their contrast takes: the same score."""
    from crossband.metrics.fusion import feature_mutual_information
    from fusion_metrics_speed import make_pictures

    pictures = make_pictures((480, 640))
    halves = [picture / 2 + 1.25 for picture in pictures]
    runs = {
        "8-bit levels": partial(feature_mutual_information, *pictures),
        "any values": partial(feature_mutual_information, *halves, data_range=255),
    }
    measured: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            measured[name].append(seconds(run))
    difference = abs(float(runs["8-bit levels"]()) - float(runs["any values"]()))
    floors = {"8-bit levels": rates.of_bytes(sum(picture.nbytes for picture in pictures))}
    rows = compare("FMI, 480 x 640", measured, "any values", milliseconds, "less", floors)
    print(f"{markdown(rows)}\nthe scores differ by {difference:.1g}\n", flush=True)


def time_metrics(repeats: int) -> None:
    from crossband.metrics import fusion_scores
    from fusion_metrics_speed import make_pictures

    pictures = make_pictures((480, 640))
    names = list(fusion_scores(*pictures, "standard"))
    for chosen in (*([name] for name in names), names):
        run = partial(fusion_scores, *pictures, "standard", metrics=chosen)
        times = [seconds(run) for _ in range(repeats)]
        title = chosen[0] if len(chosen) == 1 else f"all {len(chosen)}"
        least, median = milliseconds(min(times)), milliseconds(statistics.median(times))
        print(f"{title:<8} {least:>8} at least, median {median}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", default=["480x640", "960x1280", "1920x2560"])
    parser.add_argument("--repeats", type=int, default=3, help="rounds")
    options = parser.parse_args()
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = "1"
    import cv2

    cv2.setNumThreads(1)
    rates = measure_rates(Settings("", (480, 640), 1, "cpu", options.repeats, "processor"))
    print(rates)
    for size in options.sizes:
        height, width = map(int, size.split("x"))
        time_guided((height, width), options.repeats, rates)
    time_information(options.repeats, rates)
    time_metrics(options.repeats)


if __name__ == "__main__":
    main()
