"""What two images of a pair look like in a few numbers: levels, detail by scale, stripes, haze, agreement.

They are what a trained band monitor looks at (`crossband.trained_monitor`). All are cheap: fine detail is
looked at on strips of the image, the rest on a small copy of it.
"""

from __future__ import annotations

import cv2
import numpy as np

from crossband.words import BANDS

SMALLEST = 24
"""Pixels that an image has on either side, at least."""
_STRIPS, _STRIP = 6, 16
"""Rows, and columns, that fine detail is looked at: so many strips of so many lines."""
_LAGS = (1, 2, 4, 8)
"""Pixels between values whose difference is taken: noise has one at all of them, blur none at the first."""
_CELLS = (16, 12)
_SMALL = (128, 96)
"""(width, height) of the grid of local contrast, and of the copy on which the bands are held together."""
_SEEN = 80
"""Rows and columns, evenly spaced, of which levels are counted."""
_DARK, _BRIGHT = 0.004, 0.996
_SPECK = 0.1
_FAINT = 1e-4
_FARTHEST = 0.2


def pair_statistics(visible: np.ndarray, infrared: np.ndarray) -> dict[str, float]:
    """The statistics of a pair by name, all finite.

    visible: float32 (H, W, 3), infrared: float32 (H, W), both in [0, 1]; H and W at least
    `SMALLEST`.
    """
    greys = {"visible": cv2.cvtColor(visible, cv2.COLOR_RGB2GRAY), "infrared": infrared}
    found = {f"visible {name}": value for name, value in _colours(visible).items()}
    for band in BANDS:
        grey = greys[band]
        parts = {**_levels(grey), **_detail(grey), **_contrast(grey)}
        found |= {f"{band} {name}": value for name, value in parts.items()}
    return {**found, **_agreement(greys["visible"], greys["infrared"])}


def _levels(grey: np.ndarray) -> dict[str, float]:
    seen = _sparse(grey)
    shares = (1, 10, 50, 90, 99)
    return {
        "mean": float(seen.mean()),
        "deviation": float(seen.std()),
        **{f"level {q} %": float(v) for q, v in zip(shares, np.percentile(seen, shares), strict=True)},
        "dark": float(np.mean(seen <= _DARK)),
        "bright": float(np.mean(seen >= _BRIGHT)),
    }


def _colours(visible: np.ndarray) -> dict[str, float]:
    seen = _sparse(visible)
    red, green, blue = np.moveaxis(seen, 2, 0)
    lowest, highest = seen.min(2), seen.max(2)
    return {
        "red over green": float((red - green).mean()),
        "blue over green": float((blue - green).mean()),
        "chroma": float((highest - lowest).mean()),
        "haze": float(lowest.mean()),
        "haze 10 %": float(np.percentile(lowest, 10)),
    }


def _detail(grey: np.ndarray) -> dict[str, float]:
    found: dict[str, float] = {}
    strips = {"across": _strips(grey), "down": _strips(np.ascontiguousarray(grey.T))}
    for way, strip in strips.items():
        steps = {lag: strip[..., lag:] - strip[..., :-lag] for lag in _LAGS}
        found |= {f"step {lag} {way}": _log(np.abs(step).mean()) for lag, step in steps.items()}
        # Of lines that differ as a whole, the mean over a strip keeps what noise would lose.
        whole, each = steps[1].mean(1), steps[1]
        found[f"stripes {way}"] = float(whole.std() / (each.std() + _FAINT))
    rows = strips["across"]
    around = (rows[:, :-2, 1:-1] + rows[:, 2:, 1:-1] + rows[:, 1:-1, :-2] + rows[:, 1:-1, 2:]) / 4
    speck = np.abs(rows[:, 1:-1, 1:-1] - around)
    low, high = np.percentile(speck[:, ::2, ::2], (50, 99))
    return {
        **found,
        "specks 50 %": _log(low),
        "specks 99 %": _log(high),
        "specks": _log(np.mean(speck > _SPECK)),
    }


def _contrast(grey: np.ndarray) -> dict[str, float]:
    small = cv2.resize(grey, (4 * _CELLS[0], 4 * _CELLS[1]), interpolation=cv2.INTER_AREA)
    level = cv2.resize(small, _CELLS, interpolation=cv2.INTER_AREA)
    square = cv2.resize(small * small, _CELLS, interpolation=cv2.INTER_AREA)
    local = np.log(np.sqrt(np.maximum(square - level * level, 0)) + 1e-3)
    low, middle, high = np.percentile(local, (5, 50, 95))
    third = _CELLS[1] // 3
    return {
        "contrast 5 %": float(low),
        "contrast 50 %": float(middle),
        "contrast 95 %": float(high),
        "contrast above": float(local[:third].mean() - local[-third:].mean()),
        "level above": float(level[:third].mean() - level[-third:].mean()),
        "level peak": float(level.max() - np.median(level)),
    }


def _agreement(visible: np.ndarray, infrared: np.ndarray) -> dict[str, float]:
    """How much the edges of the two images agree, at two sizes, and by how much they miss each other."""
    # In float64: the last digits that filters of float32 give hang on where images lie in memory, and two
    # fits of a monitor would differ by that.
    small: list[np.ndarray] = [
        cv2.resize(image, _SMALL, interpolation=cv2.INTER_AREA).astype(np.float64)
        for image in (visible, infrared)
    ]
    first, second = small
    found = {"levels alike": abs(_correlation(first, second))}
    for name in ("edges alike", "large edges alike"):
        edges = _edges(first), _edges(second)
        found[name] = _correlation(*edges)
        found[f"{name}, faint too"] = _correlation(*(np.log(each + 0.01) for each in edges))
        if name == "edges alike":
            local = [each - cv2.blur(each, (15, 15)) for each in edges]
            window = cv2.createHanningWindow(_SMALL, cv2.CV_64F)
            (across, down), peak = cv2.phaseCorrelate(local[0], local[1], window)
            found["offset across"] = min(abs(across) / _SMALL[0], _FARTHEST)
            found["offset down"] = min(abs(down) / _SMALL[1], _FARTHEST)
            found["offset peak"] = float(peak)
        first, second = cv2.pyrDown(first), cv2.pyrDown(second)
    return found


def _edges(image: np.ndarray) -> np.ndarray:
    return cv2.magnitude(cv2.Sobel(image, cv2.CV_64F, 1, 0), cv2.Sobel(image, cv2.CV_64F, 0, 1))


def _strips(image: np.ndarray) -> np.ndarray:
    """(strips, lines, W) of an image (H, W): all of a small one."""
    height = image.shape[0]
    lines = min(_STRIP, height)
    starts = np.linspace(0, height - lines, _STRIPS if height >= _STRIPS * lines else 1).astype(int)
    return np.stack([image[start : start + lines] for start in starts])


def _sparse(image: np.ndarray) -> np.ndarray:
    return image[:: max(1, image.shape[0] // _SEEN), :: max(1, image.shape[1] // _SEEN)]


def _correlation(first: np.ndarray, second: np.ndarray) -> float:
    first, second = first - first.mean(), second - second.mean()
    norm = float(np.sqrt((first * first).sum() * (second * second).sum()))
    return float((first * second).sum()) / norm if norm > 0 else 0.0


def _log(value: np.floating | float) -> float:
    return float(np.log(float(value) + _FAINT))
