"""Infrared files as what the camera measured, where they hold it, else as the samples they store."""

from __future__ import annotations

import warnings
from pathlib import Path

from crossband.errors import CrossbandWarning, PairError
from crossband.pairs.decoding import Stored, decode, upright
from crossband.pairs.first_time import is_first_time
from crossband.pairs.image_files import errors_named
from crossband.pairs.radiometric import Conditions, Radiometric, read_radiometric


def decode_infrared(path: Path, degrees: Conditions | None = None) -> Stored:
    """Read an infrared file: of a radiometric one the counts, uint16 (H, W, 1), of others the samples.

    degrees: give degrees Celsius, float32, under these conditions; float files are taken to hold them
    already. The counts are turned upright as the picture beside them. Says once per folder that it is the
    measurement which is read, and not the picture.

    Raises PairError, naming the file, as `decode` and `read_radiometric` do, and for a file without
    temperatures where degrees are asked for.
    """
    found = read_radiometric(path)
    if found is None:
        stored = decode(path)
        if degrees is not None and stored.samples.dtype.kind != "f":
            raise PairError(
                f"{path}: holds no temperatures, only levels of {stored.samples.dtype}: it is no radiometric "
                "file; give the camera's own file, or a rule such as fixed(low, high)"
            )
        return stored
    return measurement(path, found, degrees)


def measurement(path: Path, found: Radiometric, degrees: Conditions | None = None) -> Stored:
    """What `decode_infrared` gives of a radiometric file, of which ``found`` was read.

    Raises PairError, naming the file, where degrees are asked for that it cannot give.
    """
    with errors_named(path):
        _tell(path, found)
        samples = found.counts if degrees is None else found.celsius(degrees)
        return Stored(upright(samples, found.orientation))


def _tell(path: Path, found: Radiometric) -> None:
    if path.suffix.lower() == ".fff" or not is_first_time("measurement", path.parent):
        return
    warnings.warn(
        f"{path}: a radiometric file ({found.maker}); its 16-bit thermal plane is read as infrared, not the "
        "picture that it shows, here and for further files of this folder",
        CrossbandWarning,
        stacklevel=4,
    )
