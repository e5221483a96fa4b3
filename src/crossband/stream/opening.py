"""From a text on the command line to a camera: an index, an address, a bag's topic, a video or a folder."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from crossband.errors import CrossbandWarning, OptionError, PairError, quoted
from crossband.pairs.decoding import decode
from crossband.pairs.frames import Frames, open_frames
from crossband.pairs.frames.bag import BagFrames
from crossband.pairs.infrared_files import decode_infrared
from crossband.pairs.matching import find_images
from crossband.pairs.names import counted_order
from crossband.pairs.radiometric import Conditions
from crossband.pairs.time_stamps import SECOND, time_of_name
from crossband.stream.cameras import Camera, Clock, LiveCamera, RealClock, RecordedCamera
from crossband.stream.live import is_live, opener
from crossband.words import BANDS, Band

Recording = tuple[Sequence[int], Callable[[int], np.ndarray]]
"""When each frame was taken, and what gives a frame's image."""


def camera_told(text: str) -> str:
    """A camera as it is kept beside results: a path whole, an address without a name and a password in it."""
    if "://" in text:
        start, _, rest = text.partition("://")
        host, slash, path = rest.partition("/")
        return f"{start}://{host.rpartition('@')[2]}{slash}{path}"
    if text.isdecimal():
        return text
    if text.startswith("bag:"):
        place, comma, topic = text.removeprefix("bag:").partition(",")
        return f"bag:{Path(place).expanduser().absolute()}{comma}{topic}"
    return str(Path(text).expanduser().absolute())


def check_camera(text: str) -> None:
    """Raise OptionError for a text that names no camera and no recording; nothing is opened."""
    if text.startswith("bag:"):
        if "," not in text:
            raise OptionError(f"{quoted(text)}: write bag:PATH,/topic")
    elif text.startswith("file:"):
        raise OptionError(f"{quoted(text)}: give the file as a path, without file://")
    elif not is_live(text) and not Path(text).expanduser().exists():
        raise OptionError(
            f"{quoted(text)} is no camera: give an index such as 0, an address, a video, a folder, or "
            "bag:PATH,/topic"
        )


def check_rate(rate: float) -> None:
    """Raise OptionError for frames a second that no recording can have."""
    if not 1e-3 <= rate <= 1e6:
        raise OptionError(f"recordings of {rate:g} frames a second; give a rate from 0.001 to 1000000")


def open_cameras(
    visible: str | None,
    infrared: str | None,
    *,
    rate: float,
    realtime: bool,
    clock: RealClock,
    degrees: Conditions | None = None,
) -> dict[Band, Camera]:
    """The cameras of a stream.

    visible, infrared: an index of a camera, an address such as rtsp://..., ``bag:PATH,/topic``, a video or
    another file of frames, or a folder of images, by the times in their names. rate: frames a second where a
    recording tells no times. realtime: play recordings as they were taken, as also beside a camera. degrees:
    give infrared in degrees Celsius under these conditions, for the rule ``celsius``.

    Images whose names tell no times go by the numbers in their names, and those of both folders that are
    called alike are of one moment. Recordings whose times do not meet begin together.

    Raises as `open_frames`, `find_images`, `check_rate` and `check_camera`, PairError where some names of a
    folder tell times, or where a bag tells none beside another camera, OptionError for a camera or a bag
    where degrees are asked for, and for one folder as both bands: a recording is read as one band.
    """
    check_rate(rate)
    texts: dict[Band, str] = {
        band: text for band, text in zip(BANDS, (visible, infrared), strict=True) if text is not None
    }
    if degrees is not None and infrared is not None and (is_live(infrared) or infrared.startswith("bag:")):
        raise OptionError(
            f"{quoted(infrared)} gives no degrees, which the infrared scaling celsius asks for; use a run "
            "with a rule such as fixed(low, high)"
        )
    recorded = [Path(text).expanduser().resolve() for text in texts.values() if not is_live(text)]
    if len(recorded) == 2 and recorded[0] == recorded[1] and recorded[0].is_dir():
        folder = texts["visible"]
        raise OptionError(
            f"{quoted(folder)} is given as both bands, but a stream reads one band of a file; of files that "
            f"hold both, `crossband data export 'folder:{folder},visible=.,infrared=.' --out DIR` makes a "
            "folder for each band"
        )
    folders = {band: Path(text).expanduser() for band, text in texts.items() if _is_folder(text)}
    taken = _taken(folders, rate)
    recordings = {
        band: _of_images(taken[band], band, degrees if band == "infrared" else None)
        if band in taken
        else _recording(text, band, rate, degrees if band == "infrared" else None, alone=len(texts) == 1)
        for band, text in texts.items()
        if not is_live(text)
    }
    player: Clock | None = clock if realtime or len(recordings) < len(texts) else None
    spans = [(times[0], times[-1]) for times, _ in recordings.values()]
    meet = len(spans) < 2 or (spans[0][0] <= spans[1][1] and spans[1][0] <= spans[0][1])
    begin = min((first for first, _ in spans), default=0)
    cameras: dict[Band, Camera] = {}
    for band, text in texts.items():
        if band not in recordings:
            cameras[band] = LiveCamera(opener(text, band), clock)
            continue
        times, read = recordings[band]
        start = begin if meet else times[0]
        cameras[band] = RecordedCamera([time - start for time in times], read, clock=player)
    return cameras


def _recording(text: str, band: Band, rate: float, degrees: Conditions | None, *, alone: bool) -> Recording:
    check_camera(text)
    measured = band == "infrared"
    if text.startswith("bag:"):
        place, _, topic = text.removeprefix("bag:").rpartition(",")
        frames = BagFrames(Path(place).expanduser(), topic)
        if frames.times is None and not alone:
            raise PairError(f"{frames.path}: {frames.without_times}")
        return _of_frames(frames, measured, rate)
    return _of_frames(open_frames(Path(text).expanduser(), band, degrees), measured, rate)


def _is_folder(text: str) -> bool:
    return not is_live(text) and not text.startswith("bag:") and Path(text).expanduser().is_dir()


def _of_frames(frames: Frames, measured: bool, rate: float) -> Recording:
    times = _at(rate, len(frames)) if frames.times is None else frames.times
    return times, lambda number: frames[number].levels(measured=measured)


def _taken(folders: Mapping[Band, Path], rate: float) -> dict[Band, list[tuple[int, Path]]]:
    """When each image of some folders was taken, and the image, in the order of the times.

    Names that tell no times count: those that both folders have are of one moment, whatever one of them lacks
    in between; names that no two share are of their own places.
    """
    found = {band: find_images(folder) for band, folder in folders.items()}
    times = {band: _times_of(folders[band], images) for band, images in found.items()}
    bare = {band: images for band, images in found.items() if times[band] is None}
    every = sorted(set().union(*bare.values()), key=counted_order)
    if len(bare) == 2 and len(every) == sum(map(len, bare.values())):
        counts = {band: len(images) for band, images in bare.items()}
        if len(set(counts.values())) > 1:
            warnings.warn(
                f"{' and '.join(f'{folders[band]} has {count} images' for band, count in counts.items())}, "
                "whose names tell no times and none of which is in both: they are paired by their order, "
                "which is wrong from where one is lacking; name those of one moment alike",
                CrossbandWarning,
                stacklevel=3,
            )
        every = []
    for band, images in bare.items():
        names = every or sorted(images, key=counted_order)
        moments = dict(zip(names, _at(rate, len(names)), strict=True))
        times[band] = {name: moments[name] for name in images}
    return {
        band: sorted((time, images[name]) for name, time in (times[band] or {}).items())
        for band, images in found.items()
    }


def _times_of(folder: Path, names: Iterable[str]) -> dict[str, int] | None:
    """When images were taken, by what their names tell; None where they tell nothing, or most of them no time
    of their own, as by seconds of several frames each.

    Raises PairError where some tell it and others do not.
    """
    times: dict[str, int] = {}
    without = []
    for name in sorted(names):
        try:
            times[name] = time_of_name(name)
        except PairError:
            without.append(name)
    if times and without:
        raise PairError(
            f"{folder}: of {len(times) + len(without)} names {len(without)} tell no time ({without[0]}), but "
            f"others do ({next(iter(times))}); move one kind out of the folder"
        )
    return None if len(times) > 1 and 2 * len(set(times.values())) <= len(times) else times or None


def _of_images(taken: Sequence[tuple[int, Path]], band: Band, degrees: Conditions | None) -> Recording:
    times = [time for time, _ in taken]
    if band == "infrared":
        return times, lambda number: decode_infrared(taken[number][1], degrees).levels(measured=True)
    return times, lambda number: decode(taken[number][1]).levels()


def _at(rate: float, count: int) -> list[int]:
    return [round(number * SECOND / rate) for number in range(count)]
