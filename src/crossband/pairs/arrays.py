"""Images that a program gives: arrays and PIL images, in the forms that a predictor takes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps
from PIL.ExifTags import Base as ExifTag

from crossband.errors import PairError, quoted
from crossband.pairs.base import Pair, bands_of
from crossband.words import Band, Bands

ImageLike = str | Path | np.ndarray | Image.Image


def _refuse_tensor(band: Band, image: Any) -> None:
    # By name, so that images need no PyTorch.
    if type(image).__module__.partition(".")[0] == "torch":
        raise PairError(
            f"{band} is a torch tensor of shape {tuple(image.shape)}: give an array (H, W, channels), as "
            "image.permute(1, 2, 0).numpy(), or call the system itself with a batch (B, channels, H, W)"
        )


def _refuse_empty(band: Band, array: np.ndarray) -> None:
    if array.size == 0:
        raise PairError(f"{band} of shape {array.shape} has no pixels; leave the band out, or the pair")


def _refuse_varying_alpha(image: Image.Image) -> None:
    # As of files: it may be the infrared band, which a conversion would throw away.
    if "A" in image.getbands():
        lowest, highest = image.getchannel("A").getextrema()
        if lowest != highest:
            raise PairError(
                "the visible image's alpha channel varies; if infrared is stored there, give that channel as "
                "infrared, image.getchannel('A'), and image.convert('RGB') as visible"
            )


def _native(image: Any) -> np.ndarray:
    """As an array of this machine's byte order, which is told by its type."""
    array = np.asarray(image)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _upright(image: ImageLike) -> ImageLike:
    """A PIL image as its file is read: turned as its EXIF orientation says. Arrays are as they are."""
    if not isinstance(image, Image.Image):
        return image
    # Before that is asked for: of a TIFF, Pillow turns the pixels itself when they are decoded.
    image.load()
    return ImageOps.exif_transpose(image) if image.getexif().get(ExifTag.Orientation, 1) != 1 else image


def visible_array(image: ImageLike) -> np.ndarray:
    """A visible image as float32 (H, W, 3) in [0, 1]. Raises PairError for what is none."""
    image = _upright(image)
    # Pillow would clip what is deeper than 8 bits.
    if isinstance(image, Image.Image) and not image.mode.startswith(("I", "F")):
        _refuse_varying_alpha(image)
        image = image.convert("RGB")
    _refuse_tensor("visible", image)
    array = _native(image)
    _refuse_empty("visible", array)
    if array.ndim == 2:
        array = np.repeat(array[..., None], 3, axis=2)
    if array.ndim != 3 or array.shape[2] != 3:
        raise PairError(f"a visible image is (H, W, 3) or (H, W), not {array.shape}; drop an alpha channel")
    if array.dtype in (np.uint8, np.uint16):
        return array.astype(np.float32) / np.iinfo(array.dtype).max
    if not np.issubdtype(array.dtype, np.floating) or not (array.min() >= 0 and array.max() <= 1):
        raise PairError("a visible array must be uint8, uint16, or float within [0, 1] and without NaN")
    return array.astype(np.float32)


def infrared_levels(image: ImageLike) -> np.ndarray:
    """An infrared image as stored, (H, W, 1) or (H, W, 3). Raises PairError for what is none."""
    image = _upright(image)
    if isinstance(image, Image.Image) and image.mode == "P":
        image = image.convert("RGB")
    _refuse_tensor("infrared", image)
    array = _native(image)
    _refuse_empty("infrared", array)
    if array.ndim == 2:
        array = array[..., np.newaxis]
    if array.ndim != 3 or array.shape[2] not in (1, 3):
        raise PairError(f"an infrared image is (H, W), one channel or three equal ones, not {array.shape}")
    return array


def joined(pair: Pair, other: Pair) -> Pair:
    """Two pairs of which each has a band, as one."""
    valid = [part for part in (pair.valid, other.valid) if part is not None]
    return replace(
        pair,
        visible=other.visible if pair.visible is None else pair.visible,
        infrared=other.infrared if pair.infrared is None else pair.infrared,
        valid=valid[0] if valid else None,
    )


def check_bands_alike(pair: Pair) -> None:
    """Raise PairError for a pair whose bands differ in size."""
    sizes = {image.shape[1::-1] for image in (pair.visible, pair.infrared) if image is not None}
    if len(sizes) > 1:
        (a, b), (c, d) = sorted(sizes)
        raise PairError(
            f"pair {quoted(pair.name)}: one band is {a} x {b} and the other {c} x {d} pixels; "
            "the two must be registered and of one size, or come with a rig (`crossband align`)"
        )


def with_bands(pair: Pair, bands: Bands | None) -> Pair:
    """A pair with the bands that are used of it; None is all that it has.

    Raises PairError for a pair that lacks one of them, and as `check_bands_alike`.
    """
    if bands is not None:
        if (has := bands_of(pair.visible, pair.infrared)) not in ("both", bands):
            raise PairError(f"{pair.name} has {has} alone, and {bands} was asked for")
        pair = pair.only(bands)
    check_bands_alike(pair)
    return pair
