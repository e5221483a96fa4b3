"""``crossband stream``."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from jsonargparse import ArgumentParser, Namespace

from crossband.cli.runs import check_usable
from crossband.cli.using import check_outside, false_colour_arguments
from crossband.errors import OptionError, PairError
from crossband.terminal import DEVICE_HELP, RUNTIME_HELP, choice, monitor_arguments, rig_arguments
from crossband.words import BAND_COMBINATIONS, BANDS, FAULTS, PRECISIONS, Band, Bands, RuntimeChoice

if TYPE_CHECKING:
    from crossband.card import Card
    from crossband.stream.drawing import Show
    from crossband.stream.stream import Moment, Stream

_CAMERA_HELP = (
    "a camera's index such as 0, an address such as rtsp://..., bag:PATH,/topic, a video or another file of "
    "frames, or a folder of images; may be left out"
)
_KEPT = ("show", "max_gap", "smooth", "smooth_scaling", "ignore", "realtime", "rate", "count")
"""What a folder's manifest keeps of the options."""
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
        "--rerun",
        type=str | None,
        help="write what is seen into a file for the Rerun viewer, such as out.rrd (needs crossband[rerun])",
    )
    parser.add_argument(
        "--view",
        action="store_true",
        help="show it in the Rerun viewer as it runs (needs crossband[rerun])",
    )
    parser.add_argument(
        "--smooth",
        type=int,
        default=1,
        help="show each pixel's commonest class of so many frames, an odd number",
    )
    parser.add_argument(
        *("--smooth_scaling", "--smooth-scaling"),
        type=int,
        default=1,
        help="where each infrared image has limits of its own (auto, minmax, percentile): take the mean of "
        "so many images' limits",
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
    false_colour_arguments(parser)
    parser.add_argument("--precision", type=choice(PRECISIONS), default="float32", help="of the computation")
    parser.add_argument("--runtime", type=RuntimeChoice, default="auto", help=RUNTIME_HELP)
    parser.add_argument("--device", type=str | None, help=DEVICE_HELP)
    monitor_arguments(parser)


def stream(options: Namespace) -> None:
    from crossband.pairs.false_colour import false_colour_rule
    from crossband.pairs.registration import registration_of
    from crossband.pairs.time_stamps import parse_gap
    from crossband.pairs.video_writing import check_video
    from crossband.stream.live import is_live
    from crossband.stream.opening import check_camera, check_rate

    if options.visible is None and options.infrared is None:
        raise OptionError("give --visible, --infrared, or both")
    if options.video is not None:
        check_video(Path(options.video), options.rate)
    check_rate(options.rate)
    if options.count is not None and options.count < 1:
        raise OptionError(f"--count must be at least 1, not {options.count}")
    false_colour = false_colour_rule(options.infrared_palette, options.allow_false_colour)
    max_gap = None if options.max_gap is None else parse_gap(options.max_gap)
    for fault in options.ignore or ():
        if fault not in FAULTS:
            raise OptionError(f"--ignore {fault}: the faults are {', '.join(FAULTS)}")
    texts = [text for text in (options.visible, options.infrared) if text is not None]
    for text in texts:
        check_camera(text)
    if options.out:
        check_outside(Path(options.out), [Path(text) for text in texts if Path(text).is_dir()])
    if max_gap is not None and len(texts) == 1:
        raise OptionError("--max_gap is between the frames of two cameras; leave it out, or give both")
    if options.smooth_scaling != 1 and options.infrared is None:
        raise OptionError("--smooth_scaling is of infrared; leave it out, or give --infrared")
    if options.realtime and all(map(is_live, texts)):
        raise OptionError(
            "--realtime plays recordings, and these are cameras, live as they are; leave it out"
        )
    registration_of(options.rig, options.frame)
    if options.rerun is not None or options.view:
        from crossband.report.rerun_recording import rerun_package

        if options.rerun is not None and options.view:
            raise OptionError("--view shows what --rerun writes into a file; give one of them")
        rerun_package()
    card = check_usable(options.run)
    from crossband.loading import load
    from crossband.stream import Stream
    from crossband.stream.cameras import RealClock
    from crossband.stream.opening import open_cameras

    own = ("device", "precision", "runtime", "rig", "frame", "infrared_scaling", "monitor")
    how = {"false_colour": false_colour, **{name: options[name] for name in own}}
    # No graph is to be made when a camera has just failed.
    expects = dict.fromkeys(() if card is None else _may_come(card, options), 0)
    predictor = load(options.run, expects=expects, **how)
    name, segments, fuses = (getattr(predictor.system, what) for what in ("name", "segments", "fuses"))
    if options.show == "fused" and not fuses:
        raise OptionError(f"{name} fuses no pictures that --show fused could show; leave it out")
    if options.show == "overlay" and not segments:
        raise OptionError(f"{name} only fuses, and gives no labels that --show overlay could show")
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
        predictor,
        **given,
        max_gap=max_gap,
        smooth=options.smooth,
        smooth_scaling=options.smooth_scaling,
        ignore=options.ignore or (),
        clock=clock,
    ) as running:
        if running.lag:
            print(f"note: labels show a change {running.lag} frames late (--smooth)", file=sys.stderr)
        if running.scaling_lag:
            print(
                f"note: the infrared scaling sees half of a step {running.scaling_lag:g} frames late "
                "(--smooth_scaling)",
                file=sys.stderr,
            )
        done = _run(running, options, "overlay" if segments else "fused")
    if done.results or done.interruption is not None:
        print(running.statistics.text(running.dropped(), running.damaged()))
    if done.interruption is not None:
        raise done.interruption
    if not done.results:
        damage = "; ".join(camera.damage for camera in running.cameras.values() if camera.damage is not None)
        why = damage or done.why or "none came"
        raise PairError(
            f"no frame of the stream could be used ({why}); look at the cameras or recordings, or leave out "
            "a fault by --ignore"
        )


@dataclass
class _Done:
    """results: moments in which something was seen. why: what was said last of one in which nothing was.
    told: what is not said once more."""

    results: int = 0
    why: str | None = None
    told: set[str] = field(default_factory=set)
    interruption: KeyboardInterrupt | None = None


def _may_come(card: Card, options: Namespace) -> list[Bands]:
    """The combinations of bands that the run takes and these cameras may come to."""
    from crossband.pairs.base import bands_of

    given = bands_of(options.visible, options.infrared)
    return [bands for bands in BAND_COMBINATIONS if bands in card.bands and given in ("both", bands)]


def _run(running: Stream, options: Namespace, usual: Show) -> _Done:
    """Write what the stream gives, until it ends or is interrupted; then files are whole all the same."""
    from crossband.locks import folder_lock
    from crossband.pairs.video_writing import writing_video
    from crossband.stream.drawing import picture_of
    from crossband.stream.opening import camera_told
    from crossband.stream.sharing import MomentSharer
    from crossband.stream.writing import MomentFolder

    told, size, done = time.monotonic(), None, _Done()
    show: Show = options.show or usual
    with ExitStack() as held:
        video = (
            held.enter_context(writing_video(Path(options.video), options.rate)) if options.video else None
        )
        folder = None
        if options.out:
            held.enter_context(folder_lock(Path(options.out)))
            cameras = {str(band): camera_told(text) for band in BANDS if (text := options[band]) is not None}
            kept = {name: options[name] for name in _KEPT}
            folder = held.enter_context(MomentFolder(Path(options.out), show, running, cameras, kept))
        sharer = held.enter_context(MomentSharer(Path(options.share))) if options.share else None
        recording = None
        if options.rerun is not None or options.view:
            from crossband.report.rerun_stream import recording_moments

            path = None if options.rerun is None else Path(options.rerun)
            recording = held.enter_context(recording_moments(path, running.predictor.card.classes))
        try:
            for moment in running:
                done.results += moment.prediction is not None
                done.why = moment.why or done.why
                began = running.clock.now()
                failures = running.failures()
                if not done.results and len(failures) == len(running.cameras):
                    done.why = "; ".join(f"{band}: {why}" for band, why in failures.items())
                    break
                _tell(moment, failures)
                _tell_once(moment, running, done)
                picture = picture_of(moment, show, size)
                if picture is not None:
                    size = picture.shape[0], picture.shape[1]
                    if video is not None:
                        video.write(picture, moment.time)
                if folder is not None:
                    folder.write(moment, picture)
                if sharer is not None:
                    sharer.write(moment, picture)
                if recording is not None:
                    recording.write(moment)
                running.statistics.note("write", running.clock.now() - began)
                if time.monotonic() - told >= _EVERY:
                    told = time.monotonic()
                    print(running.statistics.text(running.dropped()).splitlines()[0], file=sys.stderr)
                if options.count is not None and done.results >= options.count:
                    break
        except KeyboardInterrupt as interruption:
            done.interruption = interruption
    return done


def _tell(moment: Moment, failures: Mapping[Band, str]) -> None:
    for change in moment.changes:
        failure = None if change.on else failures.get(change.band)
        why = "" if failure is None else f" ({failure})"
        print(f"crossband: at {change.time / 1e9:.2f} s: {change}{why}; {_going_on(moment)}", file=sys.stderr)


def _tell_once(moment: Moment, running: Stream, done: _Done) -> None:
    """Say what turns no band off: that a camera's frame is damaged, and that frames cannot be used."""
    at = f"crossband: at {moment.time / 1e9:.2f} s"
    for band, camera in running.cameras.items():
        if camera.damage is not None and band not in done.told:
            done.told.add(band)
            told = f"{at}: a frame of {band} is passed over ({camera.damage}); further ones are counted"
            print(told, file=sys.stderr)
    if moment.prediction is None and moment.why is not None:
        came = moment.match.visible is not None or moment.match.infrared is not None
        if came and not moment.changes and moment.why not in done.told:
            print(f"{at}: no result ({moment.why})", file=sys.stderr)
        done.told.add(moment.why)


def _going_on(moment: Moment) -> str:
    if moment.prediction is None:
        return f"no result ({moment.why})"
    return f"going on with {moment.prediction.bands} ({moment.prediction.support})"
