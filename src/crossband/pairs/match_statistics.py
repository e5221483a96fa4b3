"""Whether two images show one scene at one moment, in a few numbers: how well their edges lie on each other.

Edges of heat and of light differ in strength and in sign, but run the same way where both are. So directions
are compared, doubled so that the sign of an edge does not count (as the normalised gradient fields of Haber
and Modersitzki 2006, "Intensity gradient based registration and fusion of multi-modal images"), at every
displacement at once. What counts is how much better they fit in place than elsewhere: so a scene of many
edges has no more than one of few.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

_SIZES = {"fine": (160, 120), "middle": (80, 60), "coarse": (40, 30)}
"""(width, height) of the copies on which the images are held together."""
_IN_PLACE = 20
"""The height over the displacements that count as in place, as of two cameras that lie a little apart."""
_FAINT = 1e-4
_LEAST = 1e-9


def match_statistics(visible: np.ndarray, infrared: np.ndarray) -> dict[str, float]:
    """The statistics of a pair by name, all finite; the higher, the more the images match.

    visible: float32 (H, W, 3), infrared: float32 (H, W), both in [0, 1].
    "peak": how far the best fit in place is above the mean of all displacements, in their deviations.
    "lead": how far it is above the best fit elsewhere. Both are told of the whole images, at three sizes, and
    of the quarter in which they are highest: what hides a part of one image leaves another to be seen.
    """
    images = (cv2.cvtColor(visible, cv2.COLOR_RGB2GRAY), infrared)
    found: dict[str, float] = {}
    for name, size in _SIZES.items():
        copies = [cv2.resize(image, size, interpolation=cv2.INTER_AREA) for image in images]
        reach = max(2, size[1] // _IN_PLACE)
        found[f"{name} peak"], found[f"{name} lead"] = _peak_and_lead(copies, reach)
        if name == "fine":
            fits = [_peak_and_lead(both, reach) for both in zip(*map(_quarters, copies), strict=True)]
            found["quarter peak"], found["quarter lead"] = (max(each) for each in zip(*fits, strict=True))
    return found


def _peak_and_lead(images: Sequence[np.ndarray], reach: int) -> tuple[float, float]:
    """Of two images (h, w). reach: pixels of displacement that count as in place."""
    first, second = map(_directions, images)
    fit = np.fft.ifft2(np.conj(np.fft.fft2(first)) * np.fft.fft2(second)).real
    # Displacements wrap around.
    down, across = (np.minimum(np.arange(n), n - np.arange(n)) <= reach for n in fit.shape)
    near = np.logical_and.outer(down, across)
    best, deviation = fit[near].max(), fit.std() + _LEAST
    return float((best - fit.mean()) / deviation), float((best - fit[~near].max()) / deviation)


def _directions(image: np.ndarray) -> np.ndarray:
    """Complex (h, w): twice the angle of the gradient, 1 long at an edge and 0 where there is none."""
    # In float64, as the last digits of float32 hang on where an image lies in memory.
    small = image.astype(np.float64)
    gradient = cv2.Sobel(small, cv2.CV_64F, 1, 0) + 1j * cv2.Sobel(small, cv2.CV_64F, 0, 1)
    square = np.abs(gradient) ** 2
    doubled = gradient**2 / (square + (np.median(np.sqrt(square)) + _FAINT) ** 2)
    # Towards the rim, which the other image wraps around when it is displaced, directions count less.
    down, across = (np.sqrt(np.hanning(length + 2)[1:-1]) for length in image.shape)
    weighted = doubled * np.outer(down, across)
    return weighted - weighted.mean()


def _quarters(image: np.ndarray) -> list[np.ndarray]:
    height, width = (length // 2 for length in image.shape)
    corners = ((top, left) for top in (0, height) for left in (0, width))
    return [image[top : top + height, left : left + width] for top, left in corners]
