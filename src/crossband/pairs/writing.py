"""Files written whole or not at all: under a temporary name in the same folder, then renamed."""

from __future__ import annotations

import csv
import io
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from PIL import Image

from crossband.errors import OptionError, UnwritableError, first_line, quoted
from crossband.leftovers import temporary_name
from crossband.pairs.base import IGNORE_COLOUR
from crossband.words import IGNORE_INDEX

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
_NUMBER = re.compile(r"[-+]?[0-9]+(\.[0-9]+)?")
_FORMATS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
}


@contextmanager
def replacing(path: Path, *, raises: tuple[type[Exception], ...] = ()) -> Iterator[Path]:
    """Give a temporary path to write to, and rename it to ``path`` if the block ends without an error.

    raises: what another library's writer raises beside OSError, when the file system refuses it.

    Missing folders are made. A file that is there already hands its permissions on to the new one. Whatever
    happens, no half-written file and no temporary one stays behind. Raises UnwritableError if the file system
    refuses.
    """
    refusals: tuple[type[Exception], ...] = (OSError, *raises)
    if not path.name:
        raise UnwritableError(path, "it is a folder")
    temporary = path.with_name(temporary_name())
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        mode = stat.S_IMODE(path.stat().st_mode) if path.is_file() else None
        if mode is not None:
            # Before anything is written: what is hidden from others is never open to them.
            temporary.touch(mode=0o600)
        yield temporary
        if mode is not None:
            temporary.chmod(mode)
        os.replace(temporary, path)
    except refusals as error:
        reason = getattr(error, "strerror", None) or first_line(error)
        raise UnwritableError(path, reason) from error
    finally:
        # An error here would hide the one that says why nothing was written.
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_label(path: Path, labels: np.ndarray, palette: Sequence[Sequence[int]]) -> None:
    """Write class ids as an indexed PNG: the pixels are the ids, the palette shows them in colour.

    labels: integers (H, W) in 0..255. palette: one sRGB colour (0..255) per class; ``IGNORE_INDEX`` is shown
    in ``IGNORE_COLOUR``. Raises ValueError for other labels, OptionError if the file cannot be written.
    """
    if labels.ndim != 2 or labels.dtype.kind not in "ui" or labels.min() < 0 or labels.max() > IGNORE_INDEX:
        raise ValueError(f"labels must be integers (H, W) in 0..255, not {labels.dtype} {labels.shape}")
    colours = np.zeros((256, 3), np.uint8)
    colours[: len(palette)] = palette
    if len(palette) <= IGNORE_INDEX:
        colours[IGNORE_INDEX] = IGNORE_COLOUR
    image = Image.fromarray(labels.astype(np.uint8))
    image.putpalette(colours.tobytes())
    with replacing(path) as temporary:
        image.save(temporary, format="PNG")


def write_image(path: Path, image: np.ndarray) -> None:
    """Write uint8 (H, W, 3) sRGB or uint8 (H, W) grey, in the format of the suffix; JPEG at quality 95.

    uint16 (H, W) grey goes into PNG and TIFF, whole, and so does uint8 (H, W, 4), sRGB with alpha. Raises
    ValueError for other arrays, OptionError for a suffix that names no format, or one too shallow, and if the
    file cannot be written.
    """
    grey, colour = image.ndim == 2, image.ndim == 3 and image.shape[2] in (3, 4)
    alpha = colour and image.shape[2] == 4
    if not ((image.dtype == np.uint8 and (grey or colour)) or (image.dtype == np.uint16 and grey)):
        raise ValueError(
            f"an image must be uint8 (H, W, 3), (H, W, 4) or (H, W), or uint16 (H, W), not {image.dtype} "
            f"{image.shape}"
        )
    format = _FORMATS.get(path.suffix.lower())
    if format is None:
        raise OptionError(
            f"{path}: cannot write {quoted(path.suffix)} images; use one of {', '.join(_FORMATS)}"
        )
    if image.dtype == np.uint16 and format not in ("PNG", "TIFF"):
        raise OptionError(f"{path}: {format} holds 8 bits only; use .png or .tif for a 16-bit image")
    if alpha and format not in ("PNG", "TIFF"):
        raise OptionError(f"{path}: {format} holds no transparency; use .png or .tif for this image")
    with replacing(path) as temporary:
        Image.fromarray(image).save(temporary, format=format, **({"quality": 95} if format == "JPEG" else {}))


def png_bytes(picture: np.ndarray) -> bytes:
    """A picture, uint8 (H, W) or (H, W, 3), as the bytes of a PNG."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()


def write_text(path: Path, text: str) -> None:
    """Write a text as UTF-8 with its line ends as they are. Raises OptionError if it cannot be written."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


def csv_text(columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> str:
    """Rows under the names of their columns, as CSV; a value that is absent or None is empty.

    A text that a spreadsheet would run as a formula gets an apostrophe before it; `plain_cell` takes it away
    again.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writerow({column: _cell(column) for column in columns})
    writer.writerows({column: _cell(value) for column, value in row.items()} for row in rows)
    return text.getvalue()


def plain_cell(cell: str) -> str:
    """The text that `csv_text` was given, from a cell of what it wrote."""
    return cell[1:] if cell.startswith("'") and _is_formula(cell[1:]) else cell


def _cell(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and _is_formula(value) else value


def _is_formula(text: str) -> bool:
    """Whether a spreadsheet runs a text, or would after some apostrophes that it had already were gone."""
    bare = text.lstrip("'")
    return bare.startswith(_FORMULA_STARTS) and not _NUMBER.fullmatch(bare)
