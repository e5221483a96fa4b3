"""How well the geometry of a rig is found: known homographies on real pairs, and rigs whose points are known.

    python speed/rig.py roadscene --data ../shared/data --pairs 8
    python speed/rig.py scenes --pairs 8 --every 2
    python speed/rig.py points    --data ../shared/data
    python speed/rig.py fit
    python speed/rig.py factory   --data ../shared/data
    python speed/rig.py aerial    --data ../shared/data
    python speed/rig.py starts    --data ../shared/data --every 6
    python speed/rig.py wrong     --data ../shared/data
    python speed/rig.py picture   --out docs/images/rig.png

``roadscene``: each trial makes a rig of ``--pairs`` RoadScene pairs, the first a different one every time,
cut to one size. Its infrared pictures are warped by one homography, whose four corners are drawn within 12 %
of the width and of the height, and the homography is asked for. ``--border inside`` takes the infrared
pictures from within (all of their pixels show something), ``--border black`` leaves what lies outside black.
Errors are distances at the four corners of the infrared picture, in visible pixels: their mean, which is the
corner error of the literature (DeTone 2016), and the largest. "Own" errors are held against where the
untouched pairs of the trial register by the same method, instead of against their being registered already,
which RoadScene's pairs are to some pixels only.

With ``--refine information`` the last steps climb the mutual information of levels in place of the edges.

``scenes``: the same of generated scenes, whose bands are registered exactly.

``bias``: by how much untouched pairs, taken together, are off for us. ``witness``: what mutual information
says of pairs that are registered (`information_gain`).

``points``: the calibrated rig's homography from its points. ``fit``: our fit to points beside OpenCV's.
``wrong``: rigs of pictures that do not belong together, the pair of two viewpoints, noise and nothing; all
of these have to be refused. ``factory``: radiometric JPEGs of FLIR, whose visible image and 16-bit infrared
one are aligned without a hint, against the cut that the camera's maker put into the file, and both against
points that were picked by hand. ``aerial``: pairs
over a solar plant, whose panels repeat. ``starts``: where the homography of one untouched RoadScene pair
ends, from the identity and from two starts beside it. ``picture``: that of docs/rig.md, from generated
scenes.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from crossband.pairs.opening import open_pairs
from crossband.pairs.radiometric import Alignment, Radiometric, read_radiometric
from crossband.pictures import to_uint8
from crossband.rig.checking import misfit
from crossband.rig.estimating import Estimate, estimate
from crossband.rig.features import Picture, picture_of
from crossband.rig.geometry import corners, fit_points, shifted, transform
from crossband.rig.information import information_gain
from crossband.rig.search import rough_guesses
from crossband.rig.trust import doubt
from rig_information import refined_by_information

HAND_PICKED = {
    "beech1_1.jpg": [
        ((231.6, 122.8), (226.4, 113.2)),
        ((447.8, 387.2), (442.2, 378.9)),
        ((323.3, 408.4), (322.7, 403.3)),
        ((318.8, 436.6), (316.4, 436.6)),
        ((329.6, 459.0), (332.7, 453.0)),
        ((291.6, 240.7), (289.7, 232.6)),
    ],
    "maple1_1.jpg": [
        ((438.6, 117.8), (433.5, 112.8)),
        ((424.0, 97.7), (420.1, 99.4)),
        ((427.8, 234.4), (424.6, 226.4)),
        ((47.8, 334.0), (44.6, 326.7)),
        ((454.2, 321.5), (451.5, 319.0)),
    ],
    "plant.jpg": [
        ((534.4, 157.9), (505.8, 138.5)),
        ((492.6, 183.9), (467.3, 160.4)),
        ((562.4, 204.8), (530.0, 176.2)),
        ((523.0, 210.7), (495.4, 183.4)),
        ((643.9, 309.3), (602.3, 264.6)),
    ],
}
"""What both bands show, picked by eye on sixfold enlargements, to about 2 pixels: tips of trunks, a head,
the edges of a meadow, a foil. Each is (x, y) of the visible picture under its maker's cut, in infrared
pixels, and (x, y) of the infrared picture."""

SHARE = 0.12
SCENES = 400


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parts = (roadscene, witness, bias, scenes, points, fit, wrong, factory, aerial, starts, picture)
    parser.add_argument("what", choices=[part.__name__ for part in parts])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--pairs", type=int, default=8)
    parser.add_argument("--every", type=int, default=1, help="leave out trials: 3 runs every third")
    parser.add_argument("--border", choices=("inside", "black"), default="inside")
    parser.add_argument("--refine", choices=("edges", "information"), default="edges")
    parser.add_argument("--json", type=Path, help="write every trial here")
    parser.add_argument("--out", type=Path, help="of the picture")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    next(part for part in parts if part.__name__ == options.what)(options)


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
    firsts = range(0, len(names), options.every)
    trials(options, ((first, names[first], trial(folder, names, first, options.pairs)) for first in firsts))


def scenes(options: argparse.Namespace) -> None:
    pairs = open_pairs(f"scenes,train={SCENES},val=0,test=0,size=240x320", "train")

    def drawn(first: int) -> list[tuple[np.ndarray, np.ndarray]]:
        chosen = [pairs[first * options.pairs + index] for index in range(options.pairs)]
        return [(to_uint8(pair.visible), to_uint8(pair.infrared)) for pair in chosen]

    firsts = range(0, SCENES // options.pairs, options.every)
    trials(options, ((first, f"rig {first}", drawn(first)) for first in firsts))


def trials(options: argparse.Namespace, rigs: Iterable[tuple[int, str, list]]) -> None:
    rows = []
    known: dict[frozenset[int], Estimate | None] = {}
    for first, name, images in rigs:
        matrix, size = known_warp(images[0][1].shape, first, options.border)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        warped = [cv2.warpPerspective(infrared, matrix, size[::-1], flags=flags) for _, infrared in images]
        pictures = [picture_of(visible) for visible, _ in images]
        started = time.perf_counter()
        found = found_by(options.refine, list(zip(pictures, map(picture_of, warped), strict=True)))
        seconds = time.perf_counter() - started
        truth = transform(matrix, corners(size))
        # With all pairs of a folder, every trial has the same rig.
        kept = frozenset(hash(picture.levels.tobytes()) for picture in pictures)
        if kept not in known:
            still = [picture_of(infrared) for _, infrared in images]
            known[kept] = found_by(options.refine, list(zip(pictures, still, strict=True)), np.eye(3))
        untouched = known[kept]
        own = truth if untouched is None else transform(untouched.homography, truth)
        row = {"pair": name, "seconds": seconds, "why": doubt(found), "mean": np.inf, "worst": np.inf}
        row |= {"own mean": np.inf, "own worst": np.inf, "within": False, "within truth": False}
        if found is not None:
            at = transform(found.homography, corners(size))
            off, own_off = (np.linalg.norm(at - there, axis=1) for there in (truth, own))
            row |= {
                "mean": off.mean(),
                "worst": off.max(),
                "own mean": own_off.mean(),
                "own worst": own_off.max(),
            }
            back = transform(np.linalg.inv(found.homography), own) - corners(size)
            row |= {"information": found.information}
            row |= {"bound": found.uncertainty, "share": found.agreement.share, "score": found.score}
            row["within"] = bool(np.linalg.norm(back, axis=1).max() <= found.uncertainty)
            back = transform(np.linalg.inv(found.homography), truth) - corners(size)
            row["within truth"] = bool(np.linalg.norm(back, axis=1).max() <= found.uncertainty)
        rows.append(row)
        print(
            f"{row['pair']}: mean {row['mean']:.1f} worst {row['worst']:.1f} own mean {row['own mean']:.1f} "
            f"bound {row.get('bound', 0):.1f} share {row.get('share', 0):.2f} "
            f"information {row.get('information', 0):.2f} {seconds:.1f} s"
            f"{'' if row['why'] is None else ' refused: ' + row['why']}",
            flush=True,
        )
    summary(rows)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1, default=float) + "\n")


def found_by(
    refine: str, pairs: list[tuple[Picture, Picture]], start: np.ndarray | None = None
) -> Estimate | None:
    found = estimate(pairs, start=start)
    return found if found is None or refine == "edges" else refined_by_information(pairs, found)


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
    for name, where in (
        ("within", "where the trial registers"),
        ("within truth", "where they are registered already"),
    ):
        covered = [sum(row[name] for row in some) for some in (rows, trusted)]
        print(f"all corners within their own bound of {where}: {covered[0]} of all, {covered[1]} of these")
    print(f"bound: median {np.median([row.get('bound', np.inf) for row in rows]):.1f} infrared pixels")
    print(f"seconds: median {np.median([row['seconds'] for row in rows]):.1f}")


def bias(options: argparse.Namespace) -> None:
    folder = options.data / "roadscene"
    names = sorted(path.name for path in (folder / "visible").iterdir())
    images = trial(folder, names, 0, options.pairs)
    visible = [picture_of(image) for image, _ in images]
    infrared = [picture_of(image) for _, image in images]
    greys = [cv2.GaussianBlur(one.levels, (0, 0), 1.5) for one in visible]
    negatives = [Picture(255 - grey, one.valid) for grey, one in zip(greys, visible, strict=True)]
    size = infrared[0].size
    pairs = list(zip(visible, infrared, strict=True))
    by_edges = estimate(pairs, start=np.eye(3))
    of_negatives = estimate(list(zip(visible, negatives, strict=True)), start=np.eye(3))
    assert by_edges is not None
    assert of_negatives is not None
    for name, found in (
        ("infrared, by edges", by_edges),
        ("infrared, by mutual information from there", refined_by_information(pairs, by_edges)),
        (
            "infrared, by mutual information from the identity",
            refined_by_information(pairs, replace(by_edges, homography=np.eye(3))),
        ),
        ("visible, blurred and negative, by edges", of_negatives),
    ):
        off = transform(found.homography, corners(size)) - corners(size)
        wider, higher = off[[1, 2], 0].mean() - off[[0, 3], 0].mean(), off[2:, 1].mean() - off[:2, 1].mean()
        print(
            f"{name}: wider by {wider:+.1f} of {size[1]}, higher by {higher:+.1f} of {size[0]}; worst corner "
            f"{np.linalg.norm(off, axis=1).max():.2f}",
            flush=True,
        )


def witness(options: argparse.Namespace) -> None:
    for name in ("roadscene", "msrs_boxes/train", "cwfid/train", "rig/aerial_sequence"):
        folder = options.data / name
        names = sorted(path.name for path in (folder / "visible").iterdir())
        gains = []
        for first in range(0, len(names) - options.pairs + 1, options.pairs * options.every):
            pairs = trial(folder, names, first, options.pairs)
            shown = [(picture_of(visible), picture_of(infrared)) for visible, infrared in pairs]
            gains.append(information_gain(shown, np.eye(3)))
        low, middle, high = np.percentile(gains, (0, 50, 100))
        print(f"{name}: {len(gains)} rigs of {options.pairs}: {low:.2f} to {high:.2f}, median {middle:.2f}")


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


def fit(options: argparse.Namespace) -> None:
    draw = np.random.default_rng(0)
    for side in (200, 4000):
        here = draw.uniform(0, side, (30, 2))
        matrix = np.array([[1.21, -0.045, 34.0], [0.038, 1.19, 21.0], [2.0e-5, -3.0e-5, 1.0]])
        there = transform(matrix, here) + draw.normal(0, 1, here.shape)
        found = fit_points(here, there, "homography"), cv2.findHomography(here, there, 0)[0]
        squares = [((transform(one, here) - there) ** 2).sum() for one in found]
        apart = np.subtract(*(transform(one, corners((side, side))) for one in found))
        print(
            f"{side} x {side}: squares ours {squares[0]:.4f}, OpenCV's {squares[1]:.4f}; corners at most "
            f"{np.linalg.norm(apart, axis=1).max():.2g} pixels apart"
        )


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
    refused, by_information = 0, 0
    for name, images in cases.items():
        found = estimate([(picture_of(a), picture_of(b)) for a, b in images])
        why = doubt(found)
        refused += why is not None
        told = "" if found is None else f"bound {found.uncertainty:.1f}, information {found.information:.2f}"
        by_information += found is None or found.information < 0.1
        print(f"{name}: {'TRUSTED' if why is None else 'refused: ' + why} ({told})", flush=True)
    print(f"refused: {refused} of {len(cases)}; by mutual information alone: {by_information}")


def factory(options: argparse.Namespace) -> None:
    folder = options.data / "rig"
    groups: dict[Alignment, list[Radiometric]] = {}
    names: dict[Alignment, list[str]] = {}
    for path in [*sorted((folder / "flir_one_edge").iterdir()), folder / "flir_t650sc" / "plant.jpg"]:
        measured = read_radiometric(path)
        assert measured is not None
        assert measured.alignment is not None
        names.setdefault(measured.alignment, []).append(path.name)
        groups.setdefault(measured.alignment, []).append(measured)
    for alignment, files in groups.items():
        pairs = [(picture_of(measured.visible()), picture_of(measured.counts)) for measured in files]
        left, top, right, bottom = (edge - 0.5 for edge in alignment.crop(*pairs[0][0].size))
        there = np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
        rows, columns = pairs[0][1].size
        here = np.array([[0.0, 0.0], [columns, 0], [columns, rows], [0, rows]]) - 0.5
        cut = fit_points(here, there, "affine")
        print(f"{names[alignment][0]} and {len(files) - 1} more: under the cut {parts_off(pairs, cut)}")
        picked = [name for name in names[alignment] if name in HAND_PICKED]
        for name in picked:
            print(f"  points of {name} off the cut by {points_off(name, cut, cut)}")
        for model in ("affine", "homography"):
            found = estimate(pairs, model)
            if found is None:
                print(f"  {model}: nothing found")
                continue
            off = transform(np.linalg.inv(found.homography), there) - here
            why = doubt(found)
            print(
                f"  {model}: {parts_off(pairs, found.homography)}; corners off the cut by "
                f"{', '.join(f'{x:+.1f} {y:+.1f}' for x, y in off)} infrared pixels (x y), "
                f"mean {np.linalg.norm(off, axis=1).mean():.1f}, bound {found.uncertainty:.1f}, "
                f"share {found.agreement.share:.2f}; {'trusted' if why is None else 'refused: ' + why}",
                flush=True,
            )
            for name in picked:
                print(f"    points of {name} off it by {points_off(name, cut, found.homography)}")


def points_off(name: str, cut: np.ndarray, homography: np.ndarray) -> str:
    """How far points picked by hand lie off each other under a homography, in infrared pixels."""
    visible, infrared = np.array(HAND_PICKED[name]).transpose(1, 0, 2)
    off = transform(np.linalg.inv(homography), transform(cut, visible)) - infrared
    lengths = np.linalg.norm(off, axis=1)
    return f"{np.median(lengths):.1f} (median of {len(off)}; worst {lengths.max():.1f})"


def parts_off(pairs: list[tuple[Picture, Picture]], homography: np.ndarray) -> str:
    """How far parts of the infrared pictures lie off the visible ones that a homography brings to them."""
    flags = cv2.INTER_AREA | cv2.WARP_INVERSE_MAP
    rests = []
    for visible, infrared in pairs:
        # Smaller first: a warp alone would leave out pixels.
        zoom = min(1.0, 1 / float(np.sqrt(abs(np.linalg.det(homography[:2, :2])))))
        levels, _, way = visible.at(zoom)
        seen = cv2.warpPerspective(levels, way @ homography, infrared.size[::-1], flags=flags)
        rests.append(misfit(picture_of(seen), infrared).rest)
    known = [rest for rest in rests if np.isfinite(rest)]
    return (
        f"parts off by {np.median(known):.1f} (median, {len(known)} of {len(rests)} told)" if known else "?"
    )


def aerial(options: argparse.Namespace) -> None:
    folder = options.data / "rig" / "aerial_sequence"
    names = sorted(path.name for path in (folder / "visible").iterdir())
    pairs = [tuple(map(picture_of, read(folder, name))) for name in names]
    around = corners(pairs[0][1].size)

    def from_identity(matrix: np.ndarray) -> str:
        off = np.linalg.norm(transform(matrix, around) - around, axis=1)
        return f"corners {off.min():.1f} to {off.max():.1f} pixels from the identity"

    guess = rough_guesses(pairs[::5])[0]
    print(f"the likeliest rough guess: {from_identity(guess.homography)}")
    found = estimate(pairs)
    assert found is not None
    why = doubt(found)
    print(
        f"the result: {from_identity(found.homography)}, residual {found.agreement.residual:.2f}, bound "
        f"{found.uncertainty:.2f}; {'trusted' if why is None else 'refused: ' + why}"
    )


def starts(options: argparse.Namespace) -> None:
    folder = options.data / "roadscene"
    names = sorted(path.name for path in (folder / "visible").iterdir())
    apart, away = [], []
    for name in names[:: options.every]:
        pair = tuple(map(picture_of, read(folder, name)))
        around = corners(pair[1].size)
        turn = cv2.getRotationMatrix2D(tuple(around.mean(axis=0)), 1.0, 1.01)
        ends = [
            estimate([pair], start=start)
            for start in (np.eye(3), shifted(5, -4), np.vstack([turn, [0, 0, 1.0]]))
        ]
        if any(end is None for end in ends):
            print(f"{name}: nothing found")
            continue
        places = np.array([transform(end.homography, around) for end in ends])
        apart.append(np.linalg.norm(places - places[0], axis=2).max())
        away.append(np.linalg.norm(places[0] - around, axis=1).max())
        print(f"{name}: ends {apart[-1]:.2f} apart, {away[-1]:.1f} from the identity", flush=True)
    for what, values in (("ends apart", apart), ("worst corner from the identity", away)):
        low, middle, high = np.percentile(values, (10, 50, 90))
        print(f"{what}: median {middle:.2f}, 10 to 90 %: {low:.2f} to {high:.2f} pixels, of {len(values)}")


def picture(options: argparse.Namespace) -> None:
    from crossband.pairs.opening import open_pairs
    from crossband.report.alignment_page import alignment_pictures
    from crossband.rig.aligning import align_pairs

    scenes = open_pairs("scenes,seed=4,train=8,val=1,test=1,size=360x480,conditions=day", "train")
    matrix, size = known_warp((360, 480), 11, "inside")
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    pairs = [
        (
            picture_of(pair.visible),
            picture_of(cv2.warpPerspective(pair.infrared, matrix, size[::-1], flags=flags)),
        )
        for pair in scenes
    ]
    rig, found = align_pairs(pairs)
    around = corners(size)
    off = np.linalg.norm(transform(found.homography, around) - transform(matrix, around), axis=1)
    print(f"corners off by {off.max():.2f} pixels at most, said to be known to {found.uncertainty:.2f}")
    shown = alignment_pictures(rig, *pairs[0])
    gap = np.full((size[0], 8, 3), 255, np.uint8)
    row = np.hstack([part for image in shown for part in (image, gap)][:-1])
    Image.fromarray(row).save(options.out, optimize=True)


if __name__ == "__main__":
    main()
