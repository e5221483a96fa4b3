"""How well the geometry of a rig is found: known homographies on real pairs, and rigs whose points are known.

    python speed/rig.py roadscene --data ../shared/data --pairs 8 --every 1
    python speed/rig.py points    --data ../shared/data
    python speed/rig.py wrong     --data ../shared/data

``roadscene``: each trial makes a rig of ``--pairs`` RoadScene pairs, the first a different one every time, cut to
one size. Its infrared pictures are warped by one homography, whose four corners are drawn within 12 % of the width
and of the height, and the homography is asked for. ``--border inside`` takes the infrared pictures from within (all
of their pixels show something), ``--border black`` leaves what lies outside black. Errors are distances at the four
corners of the infrared picture, in visible pixels: their mean, which is the corner error of the literature (DeTone
2016), and the largest. "Own" errors are held against where the untouched pairs of the trial register by the same
method, instead of against their being registered already, which RoadScene's pairs are to some pixels only.

``points``: the calibrated rig's homography from its points. ``wrong``: rigs of pictures that do not belong together,
and the pair of two viewpoints; all of these have to be refused.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import cv2
import numpy as np

from crossband.rig.estimating import estimate
from crossband.rig.features import picture_of
from crossband.rig.geometry import corners, fit_points, transform
from crossband.rig.trust import doubt

SHARE = 0.12


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("roadscene", "points", "wrong"))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--pairs", type=int, default=8)
    parser.add_argument("--every", type=int, default=1, help="leave out trials: 3 runs every third")
    parser.add_argument("--border", choices=("inside", "black"), default="inside")
    parser.add_argument("--json", type=Path, help="write every trial here")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    {"roadscene": roadscene, "points": points, "wrong": wrong}[options.what](options)


def read(folder: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    visible = cv2.cvtColor(cv2.imread(str(folder / "visible" / name)), cv2.COLOR_BGR2RGB)
    return visible, cv2.imread(str(folder / "infrared" / name), cv2.IMREAD_GRAYSCALE)


def trial(folder: Path, names: list[str], first: int, pairs: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """The pairs of a trial, their middles cut to one size."""
    others = [index for index in range(len(names)) if index != first]
    chosen = [first, *np.random.default_rng(1000 + first).choice(others, pairs - 1, replace=False)]
    images = [read(folder, names[index]) for index in chosen]
    height, width = (min(visible.shape[side] for visible, _ in images) for side in (0, 1))

    def cut(image: np.ndarray) -> np.ndarray:
        top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
        return np.ascontiguousarray(image[top : top + height, left : left + width])

    return [(cut(visible), cut(infrared)) for visible, infrared in images]


def known_warp(size: tuple[int, int], seed: int, border: str) -> tuple[np.ndarray, tuple[int, int]]:
    """A homography from the warped to the untouched infrared picture, and the warped one's size."""
    height, width = size
    drawn = np.random.default_rng(seed).uniform(-SHARE, SHARE, (4, 2)) * [width, height]
    if border == "black":
        warped = size
        target = corners(size) + drawn
    else:
        warped = round(height * (1 - 2 * SHARE)), round(width * (1 - 2 * SHARE))
        inwards = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]]) * [width * SHARE, height * SHARE]
        target = corners(size) + inwards + drawn
    matrix = cv2.getPerspectiveTransform(corners(warped).astype(np.float32), target.astype(np.float32))
    return matrix.astype(float), warped


def roadscene(options: argparse.Namespace) -> None:
    folder = options.data / "roadscene"
    names = sorted(path.name for path in (folder / "visible").iterdir())
    rows = []
    for first in range(0, len(names), options.every):
        images = trial(folder, names, first, options.pairs)
        matrix, size = known_warp(images[0][1].shape, first, options.border)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        warped = [cv2.warpPerspective(infrared, matrix, size[::-1], flags=flags) for _, infrared in images]
        pictures = [picture_of(visible) for visible, _ in images]
        started = time.perf_counter()
        found = estimate(list(zip(pictures, map(picture_of, warped), strict=True)))
        seconds = time.perf_counter() - started
        truth = transform(matrix, corners(size))
        untouched = estimate(
            [
                (picture, picture_of(infrared))
                for picture, (_, infrared) in zip(pictures, images, strict=True)
            ],
            start=np.eye(3),
        )
        own = truth if untouched is None else transform(untouched.homography, truth)
        row = {"pair": names[first], "seconds": seconds, "why": doubt(found), "mean": np.inf, "worst": np.inf}
        row |= {"own mean": np.inf, "own worst": np.inf}
        if found is not None:
            at = transform(found.homography, corners(size))
            off, own_off = (np.linalg.norm(at - there, axis=1) for there in (truth, own))
            row |= {
                "mean": off.mean(),
                "worst": off.max(),
                "own mean": own_off.mean(),
                "own worst": own_off.max(),
            }
            row |= {"bound": found.uncertainty, "share": found.agreement.share, "score": found.score}
        rows.append(row)
        print(
            f"{row['pair']}: mean {row['mean']:.1f} worst {row['worst']:.1f} own mean {row['own mean']:.1f} "
            f"bound {row.get('bound', 0):.1f} share {row.get('share', 0):.2f} {seconds:.1f} s"
            f"{'' if row['why'] is None else ' refused: ' + row['why']}",
            flush=True,
        )
    summary(rows)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1, default=float) + "\n")


def summary(rows: list[dict]) -> None:
    for name in ("mean", "worst", "own mean", "own worst"):
        values = np.array([row[name] for row in rows])
        shares = ", ".join(f"<= {limit} px {100 * np.mean(values <= limit):.1f} %" for limit in (2, 3, 5, 20))
        print(f"corner error ({name}): median {np.median(values):.2f} px; {shares}")
    trusted = [row for row in rows if row["why"] is None]
    print(f"trusted: {len(trusted)} of {len(rows)}")
    for limit in (2, 3, 5):
        wrong = sum(row["mean"] > limit for row in trusted)
        print(f"  of these with a mean corner error above {limit} px: {wrong}")
    print(f"seconds: median {np.median([row['seconds'] for row in rows]):.1f}")


def points(options: argparse.Namespace) -> None:
    folder = options.data / "rig" / "calibrated_rig"
    visible, infrared = (
        np.loadtxt(folder / f"featurepoints_{band}.csv", delimiter=",", encoding="utf-8-sig")
        for band in ("RGB", "TIR")
    )
    theirs = np.load(folder / "homography_matrix_640x512.npz")["M_homography"]
    ours = np.linalg.inv(fit_points(infrared, visible, "homography"))
    for name, matrix in (("their homography", theirs), ("ours", ours)):
        off = np.linalg.norm(transform(matrix, visible) - infrared, axis=1)
        print(
            f"{name}: {len(off)} points, infrared pixels: median {np.median(off):.2f}, "
            f"root mean square {np.sqrt((off**2).mean()):.2f}, 95 % {np.percentile(off, 95):.2f}"
        )
    around = corners((3000, 3750))
    apart = np.linalg.norm(transform(theirs, around) - transform(ours, around), axis=1)
    print(f"the two at the visible picture's corners: at most {apart.max():.2f} infrared pixels apart")


def wrong(options: argparse.Namespace) -> None:
    folder = options.data / "roadscene"
    names = sorted(path.name for path in (folder / "visible").iterdir())
    cases = {}
    for first in range(0, len(names), 6 * options.every):
        images = trial(folder, names, first, options.pairs)
        turned = [images[(index + 1) % len(images)][1] for index in range(len(images))]
        cases[f"exchanged {names[first]}"] = [(a, b) for (a, _), b in zip(images, turned, strict=True)]
    pair = options.data / "rig" / "two_viewpoints"
    two = cv2.imread(str(pair / "visible.jpg")), cv2.imread(str(pair / "thermal.jpg"), cv2.IMREAD_GRAYSCALE)
    # As often as it takes: one pair alone is refused for being alone.
    cases["two viewpoints"] = [two] * 4
    draw = np.random.default_rng(0)
    cases["noise"] = [
        (draw.integers(0, 256, (240, 320), np.uint8), draw.integers(0, 256, (240, 320), np.uint8))
        for _ in range(8)
    ]
    cases["flat"] = [(np.full((240, 320), 90, np.uint8), np.full((240, 320), 30, np.uint8))] * 8
    refused = 0
    for name, images in cases.items():
        why = doubt(estimate([(picture_of(a), picture_of(b)) for a, b in images]))
        refused += why is not None
        print(f"{name}: {'TRUSTED' if why is None else 'refused: ' + why}", flush=True)
    print(f"refused: {refused} of {len(cases)}")


if __name__ == "__main__":
    main()
