"""What two bands have in common: where edges are and which way they run, whatever is bright and what is dark.

Heat and light agree in few intensities but in many edges. Each pixel gets five numbers: how strong its edge
is against its surroundings, and the edge's direction twice, as cosine and sine of two and of four times its
angle. These do not change where an edge's bright and dark side are exchanged. Pooled over some pixels they
are the oriented gradient features that multimodal registration rests on (HOPC, Ye 2017; CFOG, Ye 2019).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np

from crossband.rig.geometry import Size, resized

_WEIGHTS = (0.7, 1.0, 0.7)
"""Of an edge's strength, and of its direction by two and by four times its angle."""
_SMOOTHING = 1.0
"""Standard deviation in pixels of the Gaussian before the gradient is taken."""
_SURROUNDINGS = 12.0
"""Standard deviation in pixels of the window that an edge is held against."""
_NOISE = 0.3
"""Edges below this share of the picture's root mean square count as little."""
_STRONGEST = 3.0
_BLANK_LEVEL = 2.0
_BLANK_SHARE = 0.002
"""Areas of black that touch the border and are larger than this share of the picture are no part of it."""


@dataclass
class Picture:
    """One band of a pair for registration.

    levels: float32 (H, W), about 0..255. valid: bool (H, W), False where the picture shows nothing.
    """

    levels: np.ndarray
    valid: np.ndarray
    _made: dict[Size, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict, repr=False)

    @property
    def size(self) -> Size:
        return self.levels.shape[0], self.levels.shape[1]

    def at(self, zoom: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Levels and valid pixels made smaller by ``zoom`` (up to 1), and the way from full size there."""
        height, width = self.size
        size = max(round(height * zoom), 8), max(round(width * zoom), 8)
        if size not in self._made:
            small = self.levels, self.valid
            if size != self.size:
                levels, shown = (
                    cv2.resize(image.astype(np.float32), size[::-1], interpolation=cv2.INTER_AREA)
                    for image in small
                )
                small = levels, shown > 0.99
            self._made[size] = small
        return *self._made[size], resized(self.size, size)


def picture_of(image: np.ndarray) -> Picture:
    """A band as `Picture`. image: visible (H, W, 3) or infrared (H, W), of any range, float or integer.

    NaN and infinite values are no part of the picture. Infrared of a small range in deep files is spread over
    0..255 between its percentiles 0.5 and 99.5.
    """
    grey = np.asarray(image, np.float32)
    if grey.ndim == 3:
        grey = grey @ np.array([0.299, 0.587, 0.114], np.float32)
    measured = np.isfinite(grey)
    grey = np.where(measured, grey, grey.min(where=measured, initial=np.float32(np.finfo(np.float32).max)))
    low, high = np.percentile(grey, (0.5, 99.5))
    if not high > low:
        low, high = float(grey.min()), float(grey.max())
    levels = np.clip((grey - low) * (255 / max(high - low, 1e-12)), 0, 255).astype(np.float32)
    return Picture(levels, _shown(grey) & measured)


def _shown(grey: np.ndarray) -> np.ndarray:
    """False on the areas at the border that hold the smallest value there is: what a warp left black."""
    black = (grey <= grey.min() + (_BLANK_LEVEL / 255) * (grey.max() - grey.min())).astype(np.uint8)
    _, parts, facts, _ = cv2.connectedComponentsWithStats(black, connectivity=4)
    shown = np.ones(grey.shape, bool)
    edge = np.unique(np.concatenate([parts[0], parts[-1], parts[:, 0], parts[:, -1]]))
    for part in edge[edge > 0]:
        if facts[part, cv2.CC_STAT_AREA] > _BLANK_SHARE * grey.size:
            shown &= parts != part
    return shown


def edge_features(
    levels: np.ndarray, valid: np.ndarray, *, pool: float, step: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """The edges of a picture, pooled and thinned: float32 (h, w, 5) of mean 0, and where they are, float32
    (h, w).

    pool: standard deviation in pixels of the window that pools. step: one is kept for each square of so many
    pixels, at its middle; what is left at the right and below is dropped. The second result is 0 around what
    is not valid, else 1; the features are 0 where it is.
    """
    smooth = cv2.GaussianBlur(levels, (0, 0), _SMOOTHING)
    x, y = (cv2.Sobel(smooth, cv2.CV_32F, *way, ksize=3) for way in ((1, 0), (0, 1)))
    inner = cv2.erode(valid.astype(np.uint8), np.ones((7, 7), np.uint8), borderType=cv2.BORDER_REPLICATE)
    inner = inner.astype(np.float32)
    strength = cv2.magnitude(x, y)
    square = strength * strength * inner
    around = _surroundings(square) / np.maximum(_surroundings(inner), 0.05)
    noise = _NOISE**2 * float(square.sum()) / max(float(inner.sum()), 1.0)
    weight = np.minimum(strength / np.sqrt(around + (noise + 1e-9)), _STRONGEST) * inner
    strength = np.maximum(strength, 1e-9)
    cosine, sine = x / strength, y / strength
    cosine2, sine2 = cosine * cosine - sine * sine, 2 * cosine * sine
    plain, double, fourfold = (share * weight for share in _WEIGHTS)
    edges = cv2.merge(
        [
            plain,
            double * cosine2,
            double * sine2,
            fourfold * (cosine2 * cosine2 - sine2 * sine2),
            fourfold * (2 * cosine2 * sine2),
        ]
    )
    pooled, share = _pooled(edges, pool, step), _pooled(inner, pool, step)
    there = (share > 0.5).astype(np.float32)
    pooled /= np.maximum(share, 0.5)[..., None]
    mean = np.einsum("hwc,hw->c", pooled, there) / max(float(there.sum()), 1.0)
    return (pooled - mean) * there[..., None], there


def _surroundings(image: np.ndarray) -> np.ndarray:
    """A wide Gaussian mean, (H, W), taken on every fourth pixel."""
    height, width = image.shape
    small = cv2.resize(image, (-(-width // 4), -(-height // 4)), interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), _SURROUNDINGS / 4)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)


def _pooled(image: np.ndarray, pool: float, step: int) -> np.ndarray:
    """Means over squares of ``step`` pixels, then a Gaussian, together as wide as ``pool``."""
    height, width = (length // step for length in image.shape[:2])
    if step > 1:
        cut = image[: height * step, : width * step]
        image = cv2.resize(cut, (width, height), interpolation=cv2.INTER_AREA)
    rest = (pool / step) ** 2 - (1 - 1 / step**2) / 12
    return cv2.GaussianBlur(image, (0, 0), float(np.sqrt(max(rest, 0.04))))
