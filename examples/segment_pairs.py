"""Segment the pairs of two folders with a trained run; either folder may be left out.

python examples/segment_pairs.py RUN OUT VISIBLE_FOLDER INFRARED_FOLDER
"""

import sys
from pathlib import Path

import crossband as cb


def main(run: str, out: str, visible: str, infrared: str) -> None:
    predictor = cb.load(run)
    Path(out).mkdir(parents=True, exist_ok=True)
    names = sorted(path.name for path in Path(visible or infrared).iterdir())
    pairs = [
        (Path(visible, name) if visible else None, Path(infrared, name) if infrared else None)
        for name in names
    ]
    # Reading and computing overlap; what is there of a pair decides what the system runs on.
    for name, result in zip(names, predictor.predict_many(pairs), strict=True):
        result.overlay().save(Path(out, name).with_suffix(".png"))
        print(name, result.support, f"{result.confidence.mean():.2f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
