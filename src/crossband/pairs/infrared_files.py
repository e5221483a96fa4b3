"""Infrared files as what the camera measured, where they hold it, else as the samples they store."""

from __future__ import annotations

import warnings
from pathlib import Path

from PIL.JpegImagePlugin import JpegImageFile

from crossband.errors import CrossbandWarning, PairError
from crossband.pairs.decoding import Stored, decode, pillow_orientation, upright
from crossband.pairs.image_files import errors_named
from crossband.pairs.radiometric import Conditions, Radiometric, radiometric_size, read_radiometric

_folders_told_of: set[Path] = set()


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
    with errors_named(path):
        _tell(path, found)
        samples = found.counts if degrees is None else found.celsius(degrees)
        return Stored(upright(samples, orientation_of(path)))


def measured_size(path: Path) -> tuple[int, int] | None:
    """(height, width) that `decode_infrared` gives of a radiometric file, None of any other.

    Raises PairError as `radiometric_size` does.
    """
    size = radiometric_size(path)
    if size is None:
        return None
    with errors_named(path):
        return size[::-1] if 5 <= orientation_of(path) <= 8 else size


def orientation_of(path: Path) -> int:
    """How the picture of a radiometric file is turned: EXIF orientation, 1..8; 1 for FLIR's own format."""
    with path.open("rb") as file:
        if file.read(2) != b"\xff\xd8":
            return 1
    with JpegImageFile(path) as image:
        return pillow_orientation(image)


def _tell(path: Path, found: Radiometric) -> None:
    if path.parent in _folders_told_of or path.suffix.lower() == ".fff":
        return
    _folders_told_of.add(path.parent)
    warnings.warn(
        f"{path}: a radiometric file ({found.maker}); its 16-bit thermal plane is read as infrared, not the "
        "picture that it shows, here and for further files of this folder",
        CrossbandWarning,
        stacklevel=4,
    )
