"""Random changes to a training pair: geometry once for the pair and its label, photometry per band.

The geometry (flip, scale, crop) is one draw that both bands and the label share, so that they stay
registered. The photometry is drawn separately for each band and touches only its own: a visible camera's
exposure says nothing about an infrared sensor's gain. Before both, one band of some pairs is broken. The
draws come from independent streams, so turning photometry or corruptions on, or losing a band, does not move
a crop.

Everything runs in Pillow and numpy on one thread, because torch's reductions round differently for
different numbers of threads and would make the result depend on the number of loader workers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple

import cv2
import numpy as np
from PIL import Image

from crossband.colour import weighted_sum
from crossband.errors import OptionError
from crossband.option_ranges import NOT_NEGATIVE, SHARE, Range, check_ranges
from crossband.pairs.base import Pair
from crossband.pairs.corruption.drawing import broken
from crossband.words import IGNORE_INDEX

_TORCHVISION_LUMA = (0.2989, 0.587, 0.114)
"""ITU-R BT.601 weights of red, green and blue, with the digits that torchvision's ``ColorJitter`` uses."""


@dataclass(frozen=True)
class Augmentation:
    """What may change in a training pair. The default, horizontal flips only, is CSK-Net's recipe.

    Geometry, the same for both bands and the label:
        flip: probability of a horizontal flip.
        scale: the resize factor is uniform in [low, high]; images bilinear with antialiasing, labels nearest.
        crop: (height, width) of a random window taken after scaling, or None. A smaller image is padded on
            the right and below: the bands repeat their edge, as a system does at inference, and the
            label becomes ``IGNORE_INDEX``.

    Photometry of the visible band, in the order brightness, contrast, saturation: each factor is uniform
    in [1 - value, 1 + value], never below 0, and means what torchvision's ``ColorJitter`` means by it.

    Photometry of the infrared band, ``image * gain + offset + noise``:
        gain: the factor is uniform in [1 - value, 1 + value], never below 0.
        offset: uniform in [-value, value], in units of the full range.
        noise: standard deviation of white Gaussian noise, uniform in [0, value].

    After each step the values are clipped to [0, 1].

    corrupted: share of the pairs one band of which is broken, before all else, by one of
        `crossband.pairs.corruption.TRAINING_CORRUPTIONS` at a severity from 1 to 5; the label stays.

    band_dropout: probability that a whole batch misses one band, either with equal chance. The loader
        applies it; `augment` does not.

    broken_epochs: the share of a phase's epochs, from the first, in which `corrupted` and `band_dropout` act.
        The pairs of the later ones are whole. The loader applies it.

    Raises OptionError for a value outside its range.
    """

    flip: float = 0.5
    scale: tuple[float, float] = (1.0, 1.0)
    crop: tuple[int, int] | None = None
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    gain: float = 0.0
    offset: float = 0.0
    noise: float = 0.0
    corrupted: float = 0.0
    band_dropout: float = 0.0
    broken_epochs: float = 1.0

    ranges: ClassVar[Mapping[str, Range]] = {
        **dict.fromkeys(("flip", "corrupted", "band_dropout", "broken_epochs"), SHARE),
        **dict.fromkeys(("brightness", "contrast", "saturation", "gain", "offset", "noise"), NOT_NEGATIVE),
    }

    def __post_init__(self) -> None:
        check_ranges("augmentation.", self, self.ranges)
        if len(self.scale) != 2 or not 0 < self.scale[0] <= self.scale[1] < np.inf:
            raise OptionError(
                f"augmentation.scale must be (low, high) with 0 < low <= high, not {self.scale}"
            )
        if self.crop is not None and (len(self.crop) != 2 or min(self.crop) < 1):
            raise OptionError(f"augmentation.crop must be (height, width), each at least 1, not {self.crop}")


def augment(pair: Pair, augmentation: Augmentation, rng: np.random.Generator) -> Pair:
    """A randomly changed copy of a pair; a band or label that is None stays None.

    The result depends only on the pair, the augmentation and the state of ``rng``. The input's arrays are
    not written to; where nothing changed, the result may share their memory.
    """
    geometry_rng, visible_rng, infrared_rng = rng.spawn(3)
    if augmentation.corrupted:
        (fault_rng,) = rng.spawn(1)
        if fault_rng.random() < augmentation.corrupted:
            pair = broken(pair, fault_rng)
    geometry = _draw_geometry(pair.size, augmentation, geometry_rng)
    visible, infrared, label = pair.visible, pair.infrared, pair.label
    if visible is not None:
        visible = _jitter_visible(_move_image(visible, geometry), augmentation, visible_rng)
    if infrared is not None:
        infrared = _jitter_infrared(_move_image(infrared, geometry), augmentation, infrared_rng)
    if label is not None:
        label = _move_label(label, geometry)
    return replace(pair, visible=visible, infrared=infrared, label=label, valid=_valid(pair.valid, geometry))


class _Geometry(NamedTuple):
    """Resize to ``scaled`` (height, width), keep a window of it, flip the window, pad it to ``padded``."""

    scaled: tuple[int, int]
    top: int
    left: int
    window: tuple[int, int]
    flip: bool
    padded: tuple[int, int]


def _draw_geometry(size: tuple[int, int], augmentation: Augmentation, rng: np.random.Generator) -> _Geometry:
    # All four numbers are always drawn: the flip is then the same with and without a scale or a crop.
    flip, scale, down, across = rng.random(4)
    low, high = augmentation.scale
    factor = low + (high - low) * scale
    height, width = (max(1, round(side * factor)) for side in size)
    crop_height, crop_width = augmentation.crop or (height, width)
    window = min(height, crop_height), min(width, crop_width)
    return _Geometry(
        scaled=(height, width),
        top=int(down * (height - window[0] + 1)),
        left=int(across * (width - window[1] + 1)),
        window=window,
        flip=bool(flip < augmentation.flip),
        padded=(crop_height, crop_width),
    )


def _move_image(image: np.ndarray, geometry: _Geometry) -> np.ndarray:
    """Apply the geometry to a float32 (H, W) or (H, W, channels) image."""
    window = _window(image, geometry, Image.Resampling.BILINEAR)
    margins = _margins(geometry, image.ndim)
    return np.pad(window, margins, mode="edge") if margins else window


def _move_label(label: np.ndarray, geometry: _Geometry) -> np.ndarray:
    """Apply the geometry to a uint8 (H, W) label."""
    window = _window(label, geometry, Image.Resampling.NEAREST)
    margins = _margins(geometry, label.ndim)
    return np.pad(window, margins, constant_values=IGNORE_INDEX) if margins else window


def _valid(valid: np.ndarray | None, geometry: _Geometry) -> np.ndarray | None:
    """Where the padded window shows the image: bool (H, W), or None if it does so everywhere.

    valid: the same of the image before, bool (H, W).
    """
    margins = _margins(geometry, 2)
    if valid is None:
        return np.pad(np.ones(geometry.window, bool), margins) if margins else None
    window = _window(valid.astype(np.uint8), geometry, Image.Resampling.NEAREST) > 0
    return np.pad(window, margins) if margins else window


def _margins(geometry: _Geometry, ndim: int) -> list[tuple[int, int]]:
    """What `numpy.pad` is to add to the window; empty if nothing, because adding nothing copies too."""
    if geometry.padded == geometry.window:
        return []
    below = geometry.padded[0] - geometry.window[0]
    right = geometry.padded[1] - geometry.window[1]
    return [(0, below), (0, right), (0, 0)][:ndim]


def _window(image: np.ndarray, geometry: _Geometry, method: Image.Resampling) -> np.ndarray:
    """Resize an (H, W) or (H, W, channels) image, keep the window and flip it."""
    if geometry.scaled == image.shape[:2]:
        height, width = geometry.window
        window = image[geometry.top : geometry.top + height, geometry.left : geometry.left + width]
    else:
        window = _resized_window(image, geometry, method)
    # Turned round in memory too: what reads it next would read a mere view of it backwards, several times
    # as slowly.
    return cv2.flip(window, 1) if geometry.flip else window


def _resized_window(image: np.ndarray, geometry: _Geometry, method: Image.Resampling) -> np.ndarray:
    """The window of the resized image; what lies outside it is never computed."""
    (height, width), top, left = geometry.window, geometry.top, geometry.left
    down, across = image.shape[0] / geometry.scaled[0], image.shape[1] / geometry.scaled[1]
    box = (left * across, top * down, (left + width) * across, (top + height) * down)

    def resize(plane: np.ndarray) -> np.ndarray:
        return np.asarray(
            Image.fromarray(np.ascontiguousarray(plane)).resize((width, height), method, box=box)
        )

    if image.ndim == 2:
        return resize(image)
    # Pillow has no floating-point colour images: each channel is resized as an image of its own.
    return np.stack([resize(plane) for plane in image.transpose(2, 0, 1)], axis=-1)


def _jitter_visible(image: np.ndarray, augmentation: Augmentation, rng: np.random.Generator) -> np.ndarray:
    """Change brightness, contrast and saturation of a float32 (H, W, 3) image."""
    if augmentation.brightness:
        image = np.clip(image * _factor(augmentation.brightness, rng), 0, 1)
    if augmentation.contrast:
        image = _blend(image, _luma(image).mean(), _factor(augmentation.contrast, rng))
    if augmentation.saturation:
        image = _blend(image, _luma(image)[..., None], _factor(augmentation.saturation, rng))
    return image


def _jitter_infrared(image: np.ndarray, augmentation: Augmentation, rng: np.random.Generator) -> np.ndarray:
    """Change gain and offset of a float32 (H, W) image and add noise."""
    if augmentation.gain:
        image = np.clip(image * _factor(augmentation.gain, rng), 0, 1)
    if augmentation.offset:
        image = np.clip(image + rng.uniform(-augmentation.offset, augmentation.offset), 0, 1)
    if augmentation.noise:
        noise = rng.standard_normal(image.shape, dtype=np.float32)
        image = np.clip(image + rng.uniform(0, augmentation.noise) * noise, 0, 1)
    return image


def _factor(amount: float, rng: np.random.Generator) -> float:
    return rng.uniform(max(0.0, 1 - amount), 1 + amount)


def _luma(image: np.ndarray) -> np.ndarray:
    """Brightness (H, W) of an (H, W, 3) image, as torchvision's ``rgb_to_grayscale`` weighs it."""
    return weighted_sum(image[..., 0], image[..., 1], image[..., 2], _TORCHVISION_LUMA)


def _blend(image: np.ndarray, grey: np.ndarray, factor: float) -> np.ndarray:
    """Move an image away from a grey version of itself (factor above 1) or towards it (below 1)."""
    return np.clip(grey + (image - grey) * factor, 0, 1)
