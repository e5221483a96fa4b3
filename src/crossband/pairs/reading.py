"""Files to pairs: what a stored sample means in the visible band, in the infrared band and in a label."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from crossband.errors import CrossbandWarning, PairError, quoted
from crossband.pairs.base import Classes, Pair, PairFiles
from crossband.pairs.decoding import Stored, decode
from crossband.pairs.embedded_visible import embedded_visible, visible_over_measurement
from crossband.pairs.false_colour import EQUAL_WITHIN, REFUSE, channel_spread, infrared_channel
from crossband.pairs.headers import image_size
from crossband.pairs.infrared_files import decode_infrared, measurement
from crossband.pairs.infrared_scaling import InfraredScaling
from crossband.pairs.radiometric import read_radiometric
from crossband.pairs.registration import Registration
from crossband.words import IGNORE_INDEX, Band

__all__ = [
    "as_infrared",
    "as_visible",
    "check_same_size",
    "image_size",
    "read_infrared",
    "read_label",
    "read_pair",
    "read_visible",
    "same_file",
    "stored_levels",
]

_PARTS_OF_255 = np.arange(256, dtype=np.float32) / np.float32(255)

_folders_warned_of: set[Path] = set()


def read_visible(path: Path, *, packed: bool = False) -> np.ndarray:
    """Read a visible image: float32 (H, W, 3), sRGB in [0, 1].

    8-bit is divided by 255 and 16-bit by 65535; float files must hold [0, 1]; grey is repeated; a palette is
    looked up; a constant alpha is dropped. packed: the last of 4 (or 2) channels is infrared, not alpha.

    Raises PairError, naming the file, if it cannot be read or stores something else.
    """
    return as_visible(path, decode(path), packed=packed)


def read_infrared(
    path: Path, scaling: InfraredScaling, *, packed: bool = False, false_colour: str = REFUSE
) -> np.ndarray:
    """Read an infrared image: float32 (H, W) in [0, 1], by the scaling rule.

    One channel, or three equal ones. Three that differ by more than 2 grey levels of 255 in some places are
    averaged, with a warning once per folder. Of a radiometric file the measurement is read, in counts or,
    under the rule ``celsius``, in degrees, and not the picture that it shows (`decode_infrared`). packed:
    infrared is the last of the file's 4 (or 2) channels.
    false_colour: what to do with an image in false colours (`false_colour_rule`).

    Raises PairError, naming the file, if it cannot be read, does not fit the scaling rule, or is in false
    colours that were not allowed for.
    """
    stored = decode(path) if packed else decode_infrared(path, scaling.degrees)
    return as_infrared(path, stored, scaling, packed=packed, false_colour=false_colour)


def stored_levels(files: PairFiles, band: Band, *, unaligned: bool = False) -> np.ndarray:
    """One band of a pair as its file stores it: (H, W, 1) or (H, W, 3), in the stored type.

    unaligned: of a radiometric file that is given as both bands the visible image as it was taken, and not
    the part that the camera lays over the measurement.

    Raises PairError, naming the file, if there is none or it cannot be read.
    """
    path = getattr(files, band)
    if path is None:
        raise PairError(f"pair {quoted(files.name)} has no {band} image")
    if files.visible is None or files.infrared is None or not same_file(files.visible, files.infrared):
        infrared_alone = band == "infrared"
        stored = decode_infrared(path) if infrared_alone else decode(path)
        return _without_alpha(path, stored.levels(measured=infrared_alone))
    if (found := read_radiometric(path)) is not None:
        if band == "infrared":
            return measurement(path, found).levels(measured=True)
        if unaligned:
            return embedded_visible(path, found).levels()
        return visible_over_measurement(path, found)[0].levels()
    visible, infrared = _unpacked(path, decode(path).levels())
    return visible if band == "visible" else infrared[..., np.newaxis]


def read_label(path: Path, classes: Classes | None) -> np.ndarray:
    """Read a label: uint8 (H, W), class ids, ``IGNORE_INDEX`` where ``classes.ignore`` or the file says so.

    Palette images and grey ones of any depth hold ids, never colours. Without classes every id of 0..255 is
    kept as it is.

    Raises PairError, naming the file, if it cannot be read, is a colour picture or a JPEG, or holds an id
    that is no class; then the message counts the pixels of each.
    """
    stored = decode(path)
    ids = stored.samples
    if ids.shape[2] != 1:
        raise PairError(
            f"{path}: a label is one channel of class ids, but this has {ids.shape[2]} (a picture?); "
            "replace each colour by its class id and save it as a grey or palette PNG"
        )
    if stored.lossy:
        raise PairError(f"{path}: JPEG changes class ids; save the label as a PNG")
    if ids.dtype.kind not in "ui":
        raise PairError(f"{path}: a label must store integers, not {ids.dtype}; save it as an 8-bit PNG")
    ids = ids[..., 0]
    count = IGNORE_INDEX if classes is None else len(classes)
    # Of 8 bits, what becomes of the 256 ids is looked up for each pixel.
    values: np.ndarray = np.arange(256, dtype=np.uint8) if ids.dtype == np.uint8 else ids
    ignored = values == IGNORE_INDEX
    if classes is not None and classes.ignore:
        ignored |= np.isin(values, classes.ignore)
    unknown = ~(ignored | ((values >= 0) & (values < count)))
    kept = np.where(ignored, IGNORE_INDEX, values).astype(np.uint8)
    if values is not ids:
        unknown, kept = cv2.LUT(ids, unknown.view(np.uint8)).view(bool), _looked_up(ids, kept)
    if unknown.any():
        raise PairError(f"{path}: {_describe_unknown(ids[unknown], count)}")
    return kept


def read_pair(
    files: PairFiles,
    scaling: InfraredScaling,
    classes: Classes | None,
    *,
    false_colour: str = REFUSE,
    registration: Registration | None = None,
) -> Pair:
    """Read the images of one pair; a band or label without a file is None.

    Where both bands are the same file, infrared is its last channel. If the file is radiometric, infrared is
    its measurement and visible the image in it: whole with a registration, else laid over the measurement as
    the camera says, with ``valid`` where that shows something. false_colour: as in `read_infrared`.
    registration: brings bands that are not registered into one frame.

    Raises PairError, naming the files, if one cannot be used or if their sizes differ, or are not the rig's.
    """
    if files.visible is None and files.infrared is None:
        raise PairError(
            f"pair {quoted(files.name)} has neither a visible nor an infrared image; give one of them"
        )
    visible = infrared = label = valid = None
    if files.visible is not None and files.infrared is not None and same_file(files.visible, files.infrared):
        path = files.visible
        # Opened once, for both bands.
        if (found := read_radiometric(path)) is None:
            stored = decode(path)
            visible = as_visible(path, stored, packed=True)
            infrared = as_infrared(path, stored, scaling, packed=True, false_colour=false_colour)
        else:
            infrared = as_infrared(
                path, measurement(path, found, scaling.degrees), scaling, false_colour=false_colour
            )
            if registration is None:
                stored, valid = visible_over_measurement(path, found)
            else:
                stored = embedded_visible(path, found)
            visible = as_visible(path, stored)
    else:
        if files.visible is not None:
            visible = read_visible(files.visible)
        if files.infrared is not None:
            infrared = read_infrared(files.infrared, scaling, false_colour=false_colour)
    if files.label is not None:
        label = read_label(files.label, classes)
    pair = Pair(files.name, visible, infrared, label, files.condition)
    if registration is not None:
        return registration(pair)
    check_same_size(files.name, [(files.visible, visible), (files.infrared, infrared), (files.label, label)])
    if valid is None:
        return pair
    return replace(
        pair, valid=valid, label=None if label is None else np.where(valid, label, np.uint8(IGNORE_INDEX))
    )


def as_visible(path: Path, stored: Stored, *, packed: bool = False) -> np.ndarray:
    """What `read_visible` makes of a decoded image. path: what errors name."""
    levels = stored.levels()
    levels = _unpacked(path, levels)[0] if packed else _without_alpha(path, levels)
    if levels.dtype == np.uint8:
        # One quotient for each of the 256 levels rather than for each pixel; the same ones.
        values: np.ndarray = _looked_up(levels, _PARTS_OF_255)
    elif levels.dtype == np.uint16:
        values = levels.astype(np.float32) / np.float32(np.iinfo(levels.dtype).max)
    elif levels.dtype.kind == "f":
        # Written so that NaN fails too.
        if not (levels.min() >= 0 and levels.max() <= 1):
            raise PairError(f"{path}: visible floats must lie in [0, 1] and not be NaN; rescale the image")
        values = levels.astype(np.float32)
    else:
        raise PairError(f"{path}: a visible image must be 8-bit, 16-bit or float, not {levels.dtype}")
    return values if values.shape[2] == 3 else np.repeat(values, 3, axis=2)


def as_infrared(
    path: Path,
    stored: Stored,
    scaling: InfraredScaling,
    *,
    packed: bool = False,
    false_colour: str = REFUSE,
) -> np.ndarray:
    """What `read_infrared` makes of a decoded image. path: what errors name."""
    levels = stored.levels(measured=True)
    levels = _unpacked(path, levels)[1][..., np.newaxis] if packed else _without_alpha(path, levels)
    try:
        raw = infrared_channel(levels, false_colour)
        if false_colour == REFUSE:
            _warn_of_colour(path, levels)
        return scaling(raw)
    except PairError as error:
        raise PairError(f"{path}: {error}") from None


def _looked_up(levels: np.ndarray, table: np.ndarray) -> np.ndarray:
    """What a table of 256 has for each 8-bit level."""
    found: np.ndarray = cv2.LUT(levels, table)
    return found.reshape(levels.shape)


def _unpacked(path: Path, levels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Split a file that holds both bands into visible (H, W, 3 or 1) and infrared (H, W)."""
    if levels.shape[2] not in (2, 4):
        raise PairError(
            f"{path}: given as both bands, so it needs infrared as a fourth channel, "
            f"but it has {levels.shape[2]}; give the infrared image as a file of its own"
        )
    return levels[..., :-1], levels[..., -1]


def _without_alpha(path: Path, levels: np.ndarray) -> np.ndarray:
    """Levels with 1 or 3 channels; a constant alpha is dropped, one that varies raises PairError."""
    channels = levels.shape[2]
    if channels in (1, 3):
        return levels
    if channels not in (2, 4):
        raise PairError(f"{path}: {channels} channels; save the image with 1 or 3")
    alpha = levels[..., -1]
    if alpha.min() != alpha.max():
        raise PairError(
            f"{path}: its alpha channel varies; if infrared is stored there, give this file as both visible "
            "and infrared, else save it without alpha"
        )
    return levels[..., :-1]


def _warn_of_colour(path: Path, levels: np.ndarray) -> None:
    """Say, once per folder, that the channels of a grey infrared image differ in some places."""
    if levels.shape[2] == 1 or path.parent in _folders_warned_of:
        return
    if (channel_spread(levels) > EQUAL_WITHIN).any():
        _folders_warned_of.add(path.parent)
        warnings.warn(
            f"{path}: the three channels of this infrared image differ in places (a logo or a scale?); their "
            "mean is used, here and for further files of this folder",
            CrossbandWarning,
            stacklevel=5,
        )


def _describe_unknown(ids: np.ndarray, count: int) -> str:
    """Name at most five ids that are no class, with the pixels of each, and the mend."""
    values, pixels = np.unique(ids, return_counts=True)
    shown = ", ".join(
        f"{value} ({number} px)" for value, number in list(zip(values, pixels, strict=True))[:5]
    )
    more = f" and {len(values) - 5} more" if len(values) > 5 else ""
    return (
        f"label ids {shown}{more} are outside 0..{count - 1} and not {IGNORE_INDEX} (ignored); "
        "correct the label, add the missing classes, or list the ids as ignored"
    )


def same_file(visible: Path, infrared: Path) -> bool:
    """Whether both bands lie in one file, be it through a link."""
    return visible == infrared or (visible.is_file() and infrared.is_file() and visible.samefile(infrared))


def check_sizes(files: PairFiles) -> None:
    """Raise PairError if the images of a pair cannot be opened or differ in size; reads headers alone."""
    paths = {
        band: path for band in ("visible", "infrared", "label") if (path := getattr(files, band)) is not None
    }
    if {"visible", "infrared"} <= paths.keys() and same_file(paths["visible"], paths["infrared"]):
        del paths["visible"]
    if len({image_size(path, infrared=band == "infrared") for band, path in paths.items()}) > 1:
        # A header may not know how the pixels are turned: what counts is what was read.
        readers = {"infrared": decode_infrared}
        read = [(path, readers.get(band, decode)(path).levels()) for band, path in paths.items()]
        check_same_size(files.name, read)


def check_same_size(name: str, images: Sequence[tuple[Path | None, np.ndarray | None]]) -> None:
    """Raises PairError, naming the files, if the images of a pair differ in height or width."""
    sizes = {path: image.shape[:2] for path, image in images if path is not None and image is not None}
    if len(set(sizes.values())) > 1:
        told = ", ".join(f"{path} is {height} x {width}" for path, (height, width) in sizes.items())
        raise PairError(
            f"pair {quoted(name)}: {told} (height x width); register, crop or resize them to one size "
            "(labels by nearest neighbour), or find the cameras' geometry with `crossband align` and give "
            "--rig"
        )
