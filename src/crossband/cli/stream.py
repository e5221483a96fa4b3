"""``crossband stream``."""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from jsonargparse import ArgumentParser, Namespace

from crossband.cli.runs import check_usable
from crossband.errors import OptionError
from crossband.terminal import DEVICE_HELP, RUNTIME_HELP, choice, rig_arguments
from crossband.words import BANDS, FAULTS, PRECISIONS, RuntimeChoice

if TYPE_CHECKING:
    from crossband.stream.drawing import Show
    from crossband.stream.stream import Moment, Stream

_CAMERA_HELP = (
    "a camera's index such as 0, an address such as rtsp://..., bag:PATH,/topic, a video or another file of "
    "frames, or a folder of images; may be left out"
)
_EVERY = 10.0
"""Seconds between lines that say how fast it is."""


def stream_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "run", type=str, help="a finished run folder, an exported file, or a system that needs no training"
    )
    for band in BANDS:
        parser.add_argument(f"--{band}", type=str | None, help=_CAMERA_HELP)
    rig_arguments(parser)
    parser.add_argument(
        "--video", type=str | None, help="write the pictures as a video: out.mp4, .mkv or .mov"
    )
    parser.add_argument(
        "--out", type=str | None, help="folder for each picture, for labels, and for moments.csv"
    )
    parser.add_argument(
        "--share",
        type=str | None,
        help="a new file, such as /dev/shm/stream, in which other programs find the newest moment",
    )
    parser.add_argument(
        "--show",
        type=Literal["overlay", "fused"] | None,
        help="what pictures show (default: overlay, of a system that only fuses fused)",
    )
    parser.add_argument(
        "--max_gap",
        "--max-gap",
        type=str | None,
        help="how far the times of a pair may be apart, such as 20ms (default: the faster camera's period)",
    )
    parser.add_argument(
        "--smooth",
        type=int,
        default=1,
        help="show each pixel's commonest class of so many frames, an odd number",
    )
    parser.add_argument(
        "--ignore",
        type=str,
        action="append",
        help=f"a fault that turns no band off: {', '.join(FAULTS)}; may be given several times",
    )
    parser.add_argument(
        "--realtime", action="store_true", help="play recordings as they were taken, and drop what is late"
    )
    parser.add_argument(
        "--rate", type=float, default=10.0, help="frames a second of recordings that tell no times"
    )
    parser.add_argument("--count", type=int | None, help="end after so many results")
    parser.add_argument(
        "--infrared_scaling",
        "--infrared-scaling",
        type=str | None,
        help="for a system that needs no training: full-range, fixed(low, high), ... (default: auto, by the "
        "first image); a run has its own",
    )
    parser.add_argument("--precision", type=choice(PRECISIONS), default="float32", help="of the computation")
    parser.add_argument("--runtime", type=RuntimeChoice, default="auto", help=RUNTIME_HELP)
    parser.add_argument("--device", type=str | None, help=DEVICE_HELP)


def stream(options: Namespace) -> None:
    from crossband.pairs.registration import registration_of
    from crossband.pairs.time_stamps import parse_gap
    from crossband.pairs.video_writing import check_video
    from crossband.stream.opening import check_camera

    if options.visible is None and options.infrared is None:
        raise OptionError("give --visible, --infrared, or both")
    if options.video is not None:
        check_video(Path(options.video), options.rate)
    max_gap = None if options.max_gap is None else parse_gap(options.max_gap)
    for fault in options.ignore or ():
        if fault not in FAULTS:
            raise OptionError(f"--ignore {fault}: the faults are {', '.join(FAULTS)}")
    for text in filter(None, (options.visible, options.infrared)):
        check_camera(text)
    registration_of(options.rig, options.frame)
    check_usable(options.run)
    from crossband.predictor import load
    from crossband.stream import Stream
    from crossband.stream.cameras import RealClock
    from crossband.stream.opening import open_cameras

    own = ("device", "precision", "runtime", "rig", "frame", "infrared_scaling")
    predictor = load(options.run, **{name: options[name] for name in own})
    clock = RealClock()
    cameras = open_cameras(
        options.visible,
        options.infrared,
        rate=options.rate,
        realtime=options.realtime,
        clock=clock,
        degrees=None if predictor.scaling is None else predictor.scaling.degrees,
    )
    given: dict[str, Any] = {str(band): camera for band, camera in cameras.items()}
    with Stream(
        predictor, **given, max_gap=max_gap, smooth=options.smooth, ignore=options.ignore or (), clock=clock
    ) as running:
        if running.lag:
            print(f"note: labels show a change {running.lag} frames late (--smooth)", file=sys.stderr)
        interruption = _run(running, options, "overlay" if predictor.system.segments else "fused")
    print(running.statistics.text(running.dropped()))
    if interruption is not None:
        raise interruption


def _run(running: Stream, options: Namespace, usual: Show) -> KeyboardInterrupt | None:
    """Write what the stream gives, until it ends or is interrupted; then files are whole all the same."""
    from crossband.locks import folder_lock
    from crossband.pairs.video_writing import writing_video
    from crossband.stream.drawing import picture_of
    from crossband.stream.sharing import MomentSharer
    from crossband.stream.writing import MomentFolder

    told, size = time.monotonic(), None
    show: Show = options.show or usual
    with ExitStack() as held:
        video = (
            held.enter_context(writing_video(Path(options.video), options.rate)) if options.video else None
        )
        folder = None
        if options.out:
            held.enter_context(folder_lock(Path(options.out)))
            folder = held.enter_context(MomentFolder(Path(options.out), show))
        sharer = held.enter_context(MomentSharer(Path(options.share))) if options.share else None
        try:
            for number, moment in enumerate(running):
                began = running.clock.now()
                _tell(moment)
                picture = picture_of(moment, show, size)
                if picture is not None:
                    size = picture.shape[0], picture.shape[1]
                    if video is not None:
                        video.write(picture, moment.time)
                if folder is not None:
                    folder.write(moment, picture)
                if sharer is not None:
                    sharer.write(moment, picture)
                running.statistics.note("write", running.clock.now() - began)
                if time.monotonic() - told >= _EVERY:
                    told = time.monotonic()
                    print(running.statistics.text(running.dropped()).splitlines()[0], file=sys.stderr)
                if options.count is not None and number + 1 >= options.count:
                    break
        except KeyboardInterrupt as interruption:
            return interruption
    return None


def _tell(moment: Moment) -> None:
    for change in moment.changes:
        print(f"crossband: at {change.time / 1e9:.2f} s: {change}; {_going_on(moment)}", file=sys.stderr)


def _going_on(moment: Moment) -> str:
    if moment.prediction is None:
        return f"no result ({moment.why})"
    return f"going on with {moment.prediction.bands} ({moment.prediction.support})"
