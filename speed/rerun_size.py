"""How large the file for the Rerun viewer of a stream becomes.

    python speed/rerun_size.py --minutes 5

A window moves over one generated street of 960 x 720 pixels, with fresh noise in each frame, ten times a
second, as fast as it can be written and with the times of a camera. Both bands are 640 x 480; they are
fused by the average, and the street's own labels, and a confidence of noise, stand for a prediction, so that
no network's time counts. In the middle the visible camera is black for ten seconds. Needs 'crossband[rerun]'.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from crossband.loading import load
from crossband.pairs.opening import open_pairs
from crossband.report.rerun_recording import RATE
from crossband.report.rerun_stream import BYTES_A_SECOND, recording_moments
from crossband.stream import RecordedCamera, Stream

SIZE = (480, 640)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--noise", type=float, default=0.01, help="standard deviation, of a range of 1")
    options = parser.parse_args()
    frames = round(60 * RATE * options.minutes)
    pairs = open_pairs("scenes,seed=3,train=1,val=1,test=1,size=720x960,conditions=day", "train")
    scene = pairs[0]
    assert scene.visible is not None
    assert scene.infrared is not None
    assert scene.label is not None

    def window(image: np.ndarray, number: int) -> np.ndarray:
        turn = 2 * np.pi * number / 400
        top, left = (round(side * (1 + way) / 2) for side, way in ((240, np.sin(turn)), (320, np.cos(turn))))
        return image[top : top + SIZE[0], left : left + SIZE[1]]

    def noisy(image: np.ndarray, number: int) -> np.ndarray:
        there = window(image, number)
        noise = np.random.default_rng(number).normal(0, options.noise, there.shape)
        return np.rint(255 * np.clip(there + noise, 0, 1)).astype(np.uint8)

    dead = range(frames // 2, frames // 2 + 10 * RATE)

    def visible(number: int) -> np.ndarray:
        image = noisy(scene.visible, number)
        return np.zeros_like(image) if number in dead else image

    times = [round(number * 1e9 / RATE) for number in range(frames)]
    cameras = RecordedCamera(times, visible), RecordedCamera(times, lambda n: noisy(scene.infrared, n))
    moments, began = 0, time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "out.rrd"
        stream = Stream(load("average", infrared_scaling="full-range"), *cameras)
        with recording_moments(path, pairs.classes) as recording:
            for number, moment in enumerate(stream):
                if moment.prediction is not None:
                    labels = np.ascontiguousarray(window(scene.label, number)).astype(np.uint8)
                    confidence = noisy(np.full(scene.label.shape, 0.8, np.float32), number) / np.float32(255)
                    prediction = replace(moment.prediction, labels=labels, confidence=confidence)
                    moment = replace(moment, prediction=prediction)
                recording.write(moment)
                moments += 1
        size = path.stat().st_size
    seconds = frames / RATE
    print(
        f"{moments} moments in {seconds:.0f} s of stream: {size / 1e6:.0f} MB, {size / seconds / 1e6:.2f} MB "
        f"a second (bound: {BYTES_A_SECOND / 1e6:g}); written in "
        f"{time.perf_counter() - began:.0f} s"
    )


if __name__ == "__main__":
    main()
