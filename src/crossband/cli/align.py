"""``crossband align``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from jsonargparse import ArgumentParser, Namespace

from crossband.errors import OptionError
from crossband.terminal import command_line, progress_bar, rig_arguments, with_rig

if TYPE_CHECKING:
    from crossband.pairs.base import PairFiles
    from crossband.rig.aligning import Cameras
    from crossband.rig.features import Picture
    from crossband.rig.geometry import Model
    from crossband.rig.lens import Lens
    from crossband.rig.rig import Rig


_OF_ALIGNING = (
    *("visible", "infrared", "out", "model", "pairs", "points", "visible_lens", "infrared_lens", "baseline"),
    *("plane", "focal", "limit", "report"),
)
MODEL: Model = "homography"
PAIRS, LIMIT = 24, 3.0
"""With the model, how pairs are aligned where nothing else is asked for."""


def align_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--visible", type=str | None, help="folder of visible images, or one")
    parser.add_argument(
        "--infrared", type=str | None, help="folder of infrared images of the same names, or one"
    )
    parser.add_argument("--out", type=str | None, help="the rig.json to write")
    parser.add_argument(
        "--model",
        type=Literal["shift", "affine", "homography"] | None,
        help="what may lie between the cameras; the fewer numbers, the fewer pairs settle them (default: "
        f"{MODEL})",
    )
    parser.add_argument(
        "--pairs",
        type=int | None,
        help="use so many pairs at most, evenly spaced; more settle the corners better and take longer "
        f"(default: {PAIRS})",
    )
    parser.add_argument(
        "--points",
        type=str | None,
        help="CSV of points that both cameras show: visible_x,visible_y,infrared_x,infrared_y; used in "
        "place of "
        "what the pictures show",
    )
    for band in ("visible", "infrared"):
        parser.add_argument(
            f"--{band}_lens",
            f"--{band}-lens",
            type=str | None,
            help=f"OpenCV calibration of the {band} camera: .npz or .yaml",
        )
    parser.add_argument("--baseline", type=float | None, help="metres between the cameras")
    parser.add_argument("--plane", type=float | None, help="metres to what is aligned")
    parser.add_argument("--focal", type=float | None, help="focal length of the infrared camera in pixels")
    parser.add_argument(
        "--limit",
        type=float | None,
        help="infrared pixels by which the worst corner may be off (95 %) before the geometry is refused; "
        f"from pairs, no corner is known to less than 1 (default: {LIMIT:g})",
    )
    parser.add_argument("--report", type=str | None, help="page to write: both bands before and after")
    parser.add_argument(
        "--check",
        type=str | None,
        metavar="SOURCE",
        help="say how well the pairs of a source are registered, such as folder:PATH; with --rig, by that "
        "rig",
    )
    parser.add_argument(
        "--split", type=str | None, help="with --check: the split (default: all that do not repeat others)"
    )
    rig_arguments(parser)


def align(options: Namespace) -> int:
    if options.check is not None:
        given = [name for name in _OF_ALIGNING if options[name] is not None]
        if given:
            raise OptionError(
                f"--check measures pairs as they are and aligns nothing; leave out --{given[0]}, or --check"
            )
        return _check(options)
    if any(options[name] is not None for name in ("rig", "frame", "split")):
        raise OptionError("--rig, --frame and --split belong to --check; leave them out")
    missing = [name for name in ("visible", "infrared", "out") if options[name] is None]
    if missing:
        raise OptionError(
            f"align needs {' and '.join(f'--{name}' for name in missing)}, as in `crossband align --visible "
            f"DIR "
            "--infrared DIR --out rig.json`, or --check SOURCE"
        )
    return _align(options)


def _align(options: Namespace) -> int:
    from crossband.pairs.matching import match_images
    from crossband.pairs.writing import replacing
    from crossband.rig.aligning import align_pairs, align_points, sizes_of
    from crossband.rig.points import read_points

    if options.points is not None and options.pairs is not None:
        raise OptionError("--points are used in place of what the pairs show; leave out --pairs")
    model = MODEL if options.model is None else options.model
    most = PAIRS if options.pairs is None else options.pairs
    limit = LIMIT if options.limit is None else options.limit
    if most < 1:
        raise OptionError("--pairs must be 1 or more")
    if not limit > 0:
        raise OptionError(f"--limit must be above 0 pixels, not {limit:g}")
    out = Path(options.out)
    report = None if options.report is None else Path(options.report)
    _check_places(out, report)
    files = match_images(Path(options.visible), Path(options.infrared))
    cameras = _cameras(options)
    if options.points is not None:
        visible, infrared = read_points(Path(options.points))
        shown = _pictures(files, most=3)
        sizes = sizes_of([pair for _, pair in shown])
        witness = ""
        rig, _ = align_points(visible, infrared, sizes, model, cameras=cameras, limit=limit)
    else:
        shown = _pictures(files, most=most)
        rig, found = align_pairs([pair for _, pair in shown], model, cameras=cameras, limit=limit)
        witness = f"\nmutual information: {100 * found.information:.0f} % above the best place around it"
    # Both or neither: a page of a rig that is not there would speak of one that is.
    with replacing(out) as written:
        written.write_text(rig.to_json(), encoding="utf-8")
        if report is not None:
            from crossband.report.alignment_page import write_alignment_page

            write_alignment_page(report, rig, shown, command=command_line())
    print(_told(rig) + witness)
    print(f"written: {out}{'' if report is None else f' and {report}'}")
    return 0


def _check_places(out: Path, report: Path | None) -> None:
    """Raise OptionError, before anything is aligned, for places that no file can be written to."""
    for name, path in (("out", out), ("report", report)):
        if path is not None and path.is_dir():
            raise OptionError(f"--{name} {path} is a folder; name a file in it")
    if report is not None and report.resolve() == out.resolve():
        raise OptionError(f"--out and --report are one file, {out}; name two")


def _cameras(options: Namespace) -> Cameras:
    from crossband.rig.aligning import Cameras
    from crossband.rig.lens import read_lens

    def lens(path: str | None) -> Lens | None:
        return None if path is None else read_lens(Path(path))

    return Cameras(
        visible_lens=lens(options.visible_lens),
        infrared_lens=lens(options.infrared_lens),
        baseline=options.baseline,
        plane=options.plane,
        focal=options.focal,
    )


def _pictures(files: list[PairFiles], most: int) -> list[tuple[str, tuple[Picture, Picture]]]:
    """So many pairs, evenly spaced, by name."""
    import numpy as np

    from crossband.pairs.check.registration import pair_pictures

    chosen = np.unique(np.linspace(0, len(files) - 1, most).round().astype(int))
    with progress_bar("reading") as progress:
        shown = []
        for number, index in enumerate(chosen, start=1):
            shown.append((files[index].name, pair_pictures(files[index], unaligned=True)))
            progress(number, len(chosen))
    return shown


def _told(rig: Rig) -> str:
    """What was found, for a terminal."""
    (visible_height, visible_width), (height, width) = rig.visible_size, rig.infrared_size
    lines = [
        f"{rig.model} from infrared ({width} x {height}) to visible ({visible_width} x {visible_height}), by "
        f"{rig.count} {rig.found_by}",
        f"residual: {rig.residual:.2f} infrared pixels (median; 95 %: {rig.interval[0]:.2f} to "
        f"{rig.interval[1]:.2f}, with {rig.found_by} left out); corners known to {rig.uncertainty:.1f}",
    ]
    if rig.depths is None:
        lines.append(
            "one plane is aligned: what is nearer or farther is shifted (parallax); --baseline, --plane and "
            "--focal tell for which depths it holds"
        )
    else:
        near, far = rig.depths
        lines.append(
            f"one plane is aligned: within a pixel for depths from {near:.2f} m to "
            f"{'infinity' if far is None else f'{far:.2f} m'}; what is nearer or farther is shifted "
            f"(parallax)"
        )
    return "\n".join(lines)


def _check(options: Namespace) -> int:
    import numpy as np

    from crossband.pairs.check.registration import FAR, misfits, stored_files
    from crossband.pairs.opening import main_splits, open_pairs, parse_source, source_registration
    from crossband.text import text_table

    source = with_rig(options.check, options.rig, options.frame)
    registration = source_registration(parse_source(source))
    splits = main_splits(source) if options.split is None else [options.split]
    found = []
    for split in splits:
        files = stored_files(open_pairs(source, split, labels=False))
        with progress_bar(f"measuring {split}") as progress:
            found += list(misfits(files, registration, progress=progress))
    if not found:
        raise OptionError(
            f"{source} holds no pair of two image files to measure; frames have to be exported first, and "
            "generated ones are registered"
        )
    rows = [
        [name, "unknown", "", "", f"{100 * off.share:.0f} %"]
        if off.shift is None
        else [
            name,
            f"{off.shift[0]:+z.1f}",
            f"{off.shift[1]:+z.1f}",
            f"{off.rest:.1f}",
            f"{100 * off.share:.0f} %",
        ]
        for name, off in found
    ]
    print(text_table(["pair", "right", "down", "off", "parts"], rows, align="lrrrr"))
    known = np.array([off.rest for _, off in found if off.shift is not None])
    print(f"\n{len(known)} of {len(found)} pairs could be measured; the others share too little texture")
    if len(known):
        far = int((known > FAR).sum())
        print(
            f"off by {np.median(known):.1f} pixels (median), {np.percentile(known, 95):.1f} (95 %); by more "
            f"than "
            f"{FAR:g}: {far}"
        )
        if 2 * far > len(known):
            print(
                "note: most of these pairs are not registered; `crossband align` finds the geometry of "
                "their rig",
                file=sys.stderr,
            )
    return 0
