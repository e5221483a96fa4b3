"""A rig as data: the geometry between two cameras, how it was found, and how far it can be trusted."""

from __future__ import annotations

import json
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np

from crossband.errors import CrossbandError, OptionError, first_line, quoted
from crossband.option_types import check_types, types_of
from crossband.rig.geometry import Model, Size, is_sound
from crossband.rig.lens import Lens
from crossband.version import __version__

FORMAT = 1
_MOST_BYTES = 1 << 20
_MOST_PIXELS = 1 << 16
"""Along a side."""

Row = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class Rig:
    """Two cameras and the geometry between them; what ``rig.json`` holds.

    homography: from infrared to visible pixels, both without the distortion of their lenses; (x, y), pixel
    centres at integers. model: what was fitted. visible_size, infrared_size: (height, width) of the pictures.
    visible_lens, infrared_lens: None where none was given.
    found_by: pairs of pictures, or points. count: of those. residual: the median distance in infrared pixels
    by which parts of the picture, or points, disagree, with its 95 % interval. uncertainty: the bound of the
    worst corner of the infrared picture, in infrared pixels (`worst_corner`).
    depths: metres between which things are aligned within a pixel, the far end None for infinity; None where
    baseline and plane were not given.

    Raises OptionError for sizes or a homography that no rig has.
    """

    homography: tuple[Row, Row, Row]
    model: Model
    visible_size: tuple[int, int]
    infrared_size: tuple[int, int]
    found_by: Literal["pairs", "points"]
    count: int
    residual: float
    interval: tuple[float, float]
    uncertainty: float
    visible_lens: Lens | None = None
    infrared_lens: Lens | None = None
    depths: tuple[float, float | None] | None = None
    crossband: str = __version__
    format: int = FORMAT

    def __post_init__(self) -> None:
        for size in (self.visible_size, self.infrared_size):
            if not all(0 < side <= _MOST_PIXELS for side in size):
                raise OptionError(f"a picture of {size[0]} x {size[1]} pixels is none")
        if not is_sound(self.matrix, self.infrared_size):
            raise OptionError("its homography turns the infrared picture over, or tears it apart")

    @property
    def matrix(self) -> np.ndarray:
        """The homography, (3, 3)."""
        return np.array(self.homography, np.float64)

    def size(self, band: str) -> Size:
        return self.visible_size if band == "visible" else self.infrared_size

    def lens(self, band: str) -> Lens | None:
        return self.visible_lens if band == "visible" else self.infrared_lens

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2) + "\n"


def read_rig(path: Path) -> Rig:
    """Read a ``rig.json``, its fields of their types. Raises OptionError, naming it, for anything else."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ValueError(f"it is longer than {_MOST_BYTES >> 10} KiB")
        values = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict) or type(values.get("format")) is not int:
            raise ValueError("it is no mapping with a format")
        if values["format"] != FORMAT:
            raise OptionError(f"{path} is of format {values['format']}; this Crossband reads {FORMAT}")
        return Rig(**_checked(values))
    except OSError as error:
        raise OptionError(
            f"{path}: cannot be read ({error.strerror}); `crossband align` makes one"
        ) from error
    except (CrossbandError, ValueError, TypeError, RecursionError) as error:
        if isinstance(error, OptionError) and str(error).startswith(str(path)):
            raise
        raise OptionError(f"{path} is not a rig of Crossband ({first_line(error)})") from error


def _checked(values: dict[str, Any]) -> dict[str, Any]:
    """The fields of a rig from JSON, each of its type. Raises OptionError or ValueError."""
    hints = types_of(Rig)
    unknown = sorted(set(values) - set(hints))
    if unknown:
        raise ValueError(f"it has a field {quoted(unknown[0])}, which no rig has")
    absent = [field.name for field in fields(Rig) if field.default is MISSING and field.name not in values]
    if absent:
        raise ValueError(f"it has no field {quoted(absent[0])}")
    lenses = {
        name: values[name] for name in ("visible_lens", "infrared_lens") if values.get(name) is not None
    }
    plain = {name: value for name, value in values.items() if name not in lenses}
    checked = check_types("rig", hints, plain)
    for name, value in lenses.items():
        if not isinstance(value, dict) or {*value, "size"} != {field.name for field in fields(Lens)}:
            raise ValueError(f"its {name} is no lens")
        checked[name] = Lens(**check_types(name, types_of(Lens), value))
    return checked
