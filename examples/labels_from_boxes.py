"""First labels of pairs: masks from boxes or points, doubtful pixels ignored. See docs/first-labels.md.

python examples/labels_from_boxes.py FOLDER BOXES.csv MODULE (which has a function segment, as sam.py)
"""

import csv
import sys
from importlib import import_module
from pathlib import Path

import cv2
import numpy as np

import crossband as cb
from crossband.pairs.writing import write_label

SURE, BAND, IGNORED = 0.8, 2, 255


def main(folder: str, boxes: str, module: str) -> None:
    segment, fuse = import_module(module).segment, cb.load("guided")
    drawn: dict[str, list] = {}
    for name, number, *sides in list(csv.reader(Path(boxes).read_text(encoding="utf-8").splitlines()))[1:]:
        drawn.setdefault(name, []).append((int(number), [float(side) for side in sides if side]))
    for name, prompts in drawn.items():
        bands = [next(Path(folder, band).glob(f"{name}.*")) for band in ("visible", "infrared")]
        views = fuse(*bands).fused, fuse(infrared=bands[1]).fused
        label, found = np.zeros(views[0].shape[:2], np.uint8), []
        for number, prompt in prompts:
            first, other = sorted((segment(view, prompt) for view in views), key=lambda seen: -seen[1])
            found.append((first[0], number if first[1] >= SURE else IGNORED, first[0] ^ other[0]))
        for mask, number, doubtful in sorted(found, key=lambda one: -one[0].sum()):  # small ones on top
            edge = cv2.morphologyEx(np.uint8(mask), cv2.MORPH_GRADIENT, np.ones((2 * BAND + 1,) * 2))
            label[mask], label[doubtful | (edge > 0)] = number, IGNORED
        write_label(Path(folder, "label", f"{name}.png"), label, [(0, 0, 0)] * 255)


if __name__ == "__main__":
    main(*sys.argv[1:])
