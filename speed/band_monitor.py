"""What the detector of dead cameras finds, how often it is wrong, and what it takes.

For docs/rig.md and docs/robustness.md:

    python speed/band_monitor.py pairs --data folder:PATH --split test   # false alarms on a source of pairs
    python speed/band_monitor.py corruptions                       # what it makes of each corruption
    python speed/band_monitor.py cost --run RUN                    # what a monitor of a run takes

False alarms are of single images: none is there unless the image alone looks faulty, so that "frozen" and
"no frame" do not occur. Corruptions are those of `crossband robustness`, on generated scenes or --data.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import torch

from crossband.band_monitor import examine, faults_of
from crossband.loading import load
from crossband.pairs.base import Pairs, PairSubset
from crossband.pairs.corruption import BAND_STATES, CORRUPTIONS, SEVERITIES, InState, NamedCorruption
from crossband.pairs.opening import list_splits, open_pairs
from crossband.pairs.writing import write_image
from crossband.pictures import to_uint8
from crossband.stream import RecordedCamera, Stream
from crossband.stream.drawing import picture_of
from crossband.words import BANDS, Band


def pairs(source: str, splits: list[str]) -> None:
    """Print how many images of each band look faulty, and the time that an image takes."""
    counts: Counter[tuple[str, str]] = Counter()
    seconds, images = 0.0, 0
    for split in splits:
        opened = open_pairs(source, split, labels=False)
        for index in range(len(opened)):
            pair = opened[index]
            for band in BANDS:
                image = getattr(pair, band)
                if image is None:
                    continue
                began = time.perf_counter()
                fault, _ = examine(band, image)
                seconds, images = seconds + time.perf_counter() - began, images + 1
                counts[band, fault or "good"] += 1
                if fault is not None:
                    print(f"{pair.name}: {band} is taken for {fault}")
    for (band, fault), count in sorted(counts.items()):
        print(f"{band} {fault}: {count}")
    print(f"{1000 * seconds / max(images, 1):.2f} ms an image")


def corruptions(source: str, split: str, limit: int) -> None:
    """Print for each corruption and severity, and each band state, the share of pairs that look faulty."""
    opened: Pairs = open_pairs(source, split, labels=False)
    opened = PairSubset(opened, range(min(limit, len(opened))), split)

    def share(changed: Pairs) -> str:
        found = sum(bool(faults_of(pair.visible, pair.infrared)) for pair in changed)
        return f"{100 * found / len(opened):4.0f}"

    print(f"% of {len(opened)} pairs of {source} in which a fault is seen: {share(opened)} clean")
    for name in CORRUPTIONS:
        rows = [share(NamedCorruption(opened, name, severity)) for severity in SEVERITIES]
        print(f"{name:18}{' '.join(rows)}", flush=True)
    for state in BAND_STATES:
        print(f"{state:18}{share(InState(opened, state))}")


def cost(run: str, source: str, split: str, limit: int) -> None:
    """Print the processor time of a prediction, and of what a run's own monitor adds to it, on one thread."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    watching = load(run, device="cpu", monitor=True)
    opened = open_pairs(source, split, labels=False, infrared_scaling=watching.card.infrared_scaling)
    taken: dict[str, list[float]] = {"monitor": [], "prediction": []}
    for index in range(min(limit, len(opened))):
        pair = opened[index]
        began = time.process_time()
        made = watching.predict(pair, faults={})
        done = time.process_time()
        assert watching.monitor is not None
        faults_of(pair.visible, pair.infrared)
        watching.monitor.in_answer(pair.visible, pair.infrared, made.labels, made.confidence)
        taken["prediction"].append(done - began)
        taken["monitor"].append(time.process_time() - done)
    monitor, prediction = (1000 * statistics.median(taken[what]) for what in ("monitor", "prediction"))
    print(f"{pair.size[0]} x {pair.size[1]}: monitor {monitor:.1f} ms of a prediction's {prediction:.0f} ms")
    print(f"{100 * monitor / prediction:.1f} %")


def picture(source: str, out: Path) -> None:
    """Draw four moments of a stream whose visible camera is black from its fifth frame to its twelfth."""
    opened = open_pairs(source, "test", labels=False)
    first = next(pair for pair in opened if pair.condition == "dusk")
    rng = np.random.default_rng(0)

    def camera(band: Band) -> RecordedCamera:
        image = getattr(first, band)

        def frame(number: int) -> np.ndarray:
            moved = np.roll(image, 3 * number, axis=1) + rng.normal(0, 0.01, image.shape)
            dark = band == "visible" and 5 <= number < 12
            return to_uint8(0.01 * rng.random(image.shape) if dark else moved)

        return RecordedCamera([number * 50_000_000 for number in range(20)], frame)

    predictor = load("laplacian", infrared_scaling="full-range", device="cpu")
    moments = list(Stream(predictor, camera("visible"), camera("infrared")))
    shown = [picture_of(moments[number], "fused") for number in (3, 5, 9, 18)]
    gap = np.full((first.size[0], 6, 3), 255, np.uint8)
    parts = [part for picture in shown for part in (picture, gap)][:-1]
    write_image(out, np.hstack(parts))
    print(f"written: {out}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["pairs", "corruptions", "cost", "picture"])
    parser.add_argument("--data", default="scenes,test=20,size=240x320")
    parser.add_argument("--split")
    parser.add_argument("--run", help="of cost: a run on both bands with a monitor of its own")
    parser.add_argument("--limit", type=int, default=20, help="of corruptions: the first so many pairs")
    parser.add_argument("--out", type=Path, default=Path("stream.png"))
    given = parser.parse_args()
    if given.what == "pairs":
        pairs(given.data, [given.split] if given.split else list_splits(given.data))
    elif given.what == "cost":
        cost(given.run, given.data, given.split or "test", given.limit)
    elif given.what == "picture":
        picture(given.data, given.out)
    else:
        corruptions(given.data, given.split or "test", given.limit)


if __name__ == "__main__":
    main()
