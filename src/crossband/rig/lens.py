"""The lens of a camera: what OpenCV's calibration gives, read from the files that it is kept in."""

from __future__ import annotations

import re
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from crossband.errors import OptionError, first_line, quoted
from crossband.rig.geometry import Size
from crossband.yaml_files import parse_yaml

_MATRIX = ("camera_matrix", "cameramatrix", "intrinsic_matrix", "intrinsics", "intrinsic", "mtx", "k")
_DISTORTION = ("distortion_coefficients", "distcoeffs", "distcoeff", "dist_coeffs", "distortion", "dist", "d")
_MODELS = ("", "plumb_bob", "rational_polynomial", "radtan", "none")
"""What files call the distortion of a `Lens`, where they name it; that of fisheye lenses is another one."""
_COUNTS = (4, 5, 8, 12, 14)
_TAG = re.compile(r"!!opencv-(nd-)?matrix\b")
"""Of matrices in OpenCV's YAML; from version 5 on, of those with one dimension as well."""
_MOST_BYTES = 1 << 20
_NO_CALIBRATION = (
    *(ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile, zlib.error),
    # Of zipfile, for archives that are encrypted or packed in a way that it does not know.
    RuntimeError,
)
_CORRECTIONS = 3
"""Fixed-point steps after OpenCV's own, whose number differs between its versions."""


@dataclass(frozen=True)
class Lens:
    """A pinhole camera with distortion, in OpenCV's terms.

    focal: (fx, fy) and centre: (cx, cy), in pixels. distortion: k1, k2, p1, p2 and so on, 4, 5, 8, 12 or 14
    numbers. size: (height, width) of the pictures that it was calibrated on; None where nothing tells. Raises
    OptionError for other numbers.
    """

    focal: tuple[float, float]
    centre: tuple[float, float]
    distortion: tuple[float, ...]
    size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        numbers = (*self.focal, *self.centre, *self.distortion)
        if not np.isfinite(numbers).all() or min(self.focal) <= 0:
            raise OptionError("a lens has finite numbers, and focal lengths above 0")
        if len(self.distortion) not in _COUNTS:
            raise OptionError(
                f"a lens has {', '.join(map(str, _COUNTS))} distortion coefficients, not "
                f"{len(self.distortion)}"
            )

    @property
    def matrix(self) -> np.ndarray:
        """The camera matrix, (3, 3)."""
        (fx, fy), (cx, cy) = self.focal, self.centre
        return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]])

    def check_size(self, size: Size, band: str) -> None:
        """Raises OptionError where the lens was calibrated at another size than a band's pictures have."""
        if self.size is not None and self.size != size:
            raise OptionError(
                f"the {band} lens was calibrated on pictures of {self.size[1]} x {self.size[0]} pixels, but "
                f"the {band} pictures are {size[1]} x {size[0]}; give the calibration of this size"
            )
        # Where no size is told, the centre lies near the middle.
        x, y = self.centre[0] / size[1], self.centre[1] / size[0]
        if not (0.25 < x < 0.75 and 0.25 < y < 0.75):
            raise OptionError(
                f"the {band} lens has its centre at {self.centre[0]:.0f}, {self.centre[1]:.0f}, but the "
                f"{band} "
                f"pictures are {size[1]} x {size[0]} pixels; give the calibration of this size"
            )

    def straightened(self, points: np.ndarray) -> np.ndarray:
        """Points (N, 2) of a picture, where they would be without distortion."""
        points = np.ascontiguousarray(points, np.float64).reshape(-1, 1, 2)
        found = cv2.undistortPoints(points, self.matrix, self._vector(), P=self.matrix).reshape(-1, 2)
        for _ in range(_CORRECTIONS):
            found += points.reshape(-1, 2) - self.bent(found)
        return found

    def bent(self, points: np.ndarray) -> np.ndarray:
        """The way back from `straightened`."""
        rays = (np.asarray(points, np.float64) - self.centre) / self.focal
        rays = np.c_[rays, np.ones(len(rays))]
        none = np.zeros(3)
        return cv2.projectPoints(rays, none, none, self.matrix, self._vector())[0].reshape(-1, 2)

    def straighten(self, image: np.ndarray) -> np.ndarray:
        """A picture without distortion, of the same size; 0 where it shows nothing."""
        return cv2.undistort(image, self.matrix, self._vector())

    def _vector(self) -> np.ndarray:
        return np.array(self.distortion, np.float64)


def read_lens(path: Path) -> Lens:
    """Read a calibration: an ``.npz`` of NumPy, or the YAML of OpenCV's calibration and of ROS's camera_info.

    The camera matrix and the distortion coefficients may go by their usual names. Raises OptionError, naming
    the file, for anything else, and for a calibration that names another model, as that of a fisheye lens.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise OptionError(f"more than {_MOST_BYTES >> 10} KiB; a calibration is some numbers")
        values = _from_npz(path) if path.suffix.lower() == ".npz" else _from_yaml(path)
        _check_model(values)
        matrix = _named(values, _MATRIX, "camera matrix")
        distortion = _named(values, _DISTORTION, "distortion coefficients")
        if matrix.size != 9:
            raise OptionError(f"its camera matrix has {matrix.size} numbers, not 9")
        (fx, _, cx), (_, fy, cy), _ = matrix.reshape(3, 3).tolist()
        height, width = (values.get(f"image_{side}", values.get(side)) for side in ("height", "width"))
        size = (int(height), int(width)) if height is not None and width is not None else None
        return Lens((fx, fy), (cx, cy), tuple(distortion.ravel().tolist()), size)
    except OptionError as error:
        raise OptionError(f"{path}: {error}") from error
    except OSError as error:
        raise OptionError(f"{path}: cannot be read ({error.strerror}); correct the path") from error
    except _NO_CALIBRATION as error:
        raise OptionError(f"{path}: is no calibration that can be read ({first_line(error)})") from error


def _from_npz(path: Path) -> dict[str, Any]:
    with zipfile.ZipFile(path) as archive:
        if sum(member.file_size for member in archive.infolist()) > _MOST_BYTES:
            raise OptionError(f"inflates to more than {_MOST_BYTES >> 10} KiB; a calibration is some numbers")
    with np.load(path, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def _from_yaml(path: Path) -> dict[str, Any]:
    text = path.read_text(encoding="utf-8-sig")
    # What makes OpenCV's files more than plain YAML.
    lines = [line for line in text.splitlines() if not line.startswith("%")]
    values = parse_yaml(_TAG.sub("", "\n".join(lines)))
    if not isinstance(values, dict):
        raise OptionError("is no mapping with a camera matrix and distortion coefficients")
    return {
        str(name): value["data"] if isinstance(value, dict) and "data" in value else value
        for name, value in values.items()
    }


def _check_model(values: dict[str, Any]) -> None:
    """Raises OptionError for coefficients of another model: as many numbers, which mean something else."""
    model = str(values.get("distortion_model", "")).lower()
    if model not in _MODELS:
        told = quoted(model)
    elif values.get("fisheye_model"):
        told = "fisheye"
    else:
        return
    raise OptionError(
        f"its distortion is of the model {told}, which is not read; calibrate the camera with OpenCV's plain "
        "model (plumb_bob or rational_polynomial), or straighten the images first and leave the lens out"
    )


def _named(values: dict[str, Any], names: tuple[str, ...], what: str) -> np.ndarray:
    for name, value in values.items():
        if name.lower() in names:
            return np.asarray(value, np.float64)
    raise OptionError(
        f"holds no {what} under a usual name ({', '.join(names)}), but {quoted(sorted(values))}"
    )
