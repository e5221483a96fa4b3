"""False colours of infrared images: recognised by their palette, and turned back into heat.

A palette is a curve through the colours, from cold to hot. Along ``rainbow``, ``jet`` and ``turbo`` the mean
of red, green and blue rises and falls, so that a grey copy shows some warm things darker than cold ones;
along the others it rises unevenly.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from crossband.errors import OptionError, PairError, quoted

PALETTES = ("iron", "rainbow", "jet", "turbo", "hot", "inferno", "magma", "plasma", "viridis")
"""The palettes that can be undone. All but the first two are those of matplotlib, under its names."""

REFUSE, MEAN = "refuse", "mean"
"""What else can be done with an infrared image in false colours: nothing, or the mean of its channels."""

_IRON = (
    (0, 0, 0, 0), (8, 0, 1, 65), (10, 0, 3, 74), (12, 1, 5, 83), (18, 21, 0, 106), (27, 50, 0, 134),
    (34, 70, 0, 148), (48, 108, 0, 165), (56, 128, 0, 169), (64, 145, 3, 167), (74, 166, 11, 159),
    (92, 198, 31, 135), (108, 219, 51, 104), (126, 238, 81, 67), (150, 255, 122, 23), (166, 255, 149, 2),
    (185, 255, 182, 0), (196, 255, 199, 4), (208, 255, 216, 25), (221, 255, 233, 63), (233, 254, 245, 115),
    (242, 250, 252, 166), (247, 247, 255, 202), (251, 246, 255, 238), (255, 255, 255, 255),
)  # fmt: skip
"""Heat, red, green, blue (0..255): straight lines between these stay within 7 levels (Euclidean) of the
palette "Iron" that FLIR cameras write into their radiometric JPEGs (224 colours in Y Cr Cb)."""

_RAINBOW = ((0, 0, 0, 255), (64, 0, 255, 255), (128, 0, 255, 0), (192, 255, 255, 0), (255, 255, 0, 0))
"""Full saturation, from blue through cyan, green and yellow to red."""

EQUAL_WITHIN = 2 / 255
"""Three channels count as equal up to this share of their range: what JPEG does to grey."""

_COLOURED_SPREAD = 0.1
_COLOURED_SHARE = 0.1
"""An image is coloured if the channels differ by more than a tenth of their range in a tenth of its pixels:
more than the chroma noise of JPEG, and more than a coloured logo or scale on a grey image."""

_NEAR, _FAR = 14.0, 40.0
"""Distances between colours, in levels of 255. JPEG and the writing that cameras lay over their pictures
keep the mean below _NEAR; beyond _FAR a pixel is none of the palette's."""
_STRANGERS = 0.1
"""The share of pixels that may be far from the palette: logos, scales and cross-hairs of cameras."""
_TO_RECOGNISE, _AT_A_GLANCE = 2000, 100
"""About how many pixels tell a palette."""
_PIXELS_PER_STEP = 1 << 14


@cache
def palette(name: str) -> np.ndarray:
    """The colours of a palette from cold to hot: uint8 (256, 3), sRGB.

    Raises OptionError for another name.
    """
    if name not in PALETTES:
        raise OptionError(f"there is no infrared palette {quoted(name)}; use one of {', '.join(PALETTES)}")
    points = {"iron": _IRON, "rainbow": _RAINBOW}.get(name)
    if points is None:
        # Slow to import, and needed for coloured images only.
        from matplotlib import colormaps

        return np.asarray(colormaps[name](np.arange(256), bytes=True)[:, :3])
    heat, *channels = np.transpose(points)
    colours = [np.interp(np.arange(256), heat, channel) for channel in channels]
    return np.rint(np.stack(colours, axis=1)).astype(np.uint8)


def false_colour_rule(infrared_palette: str | None, allow_false_colour: bool) -> str:
    """What to do with infrared images in false colours: a palette's name, ``MEAN`` or ``REFUSE``.

    Raises OptionError for an unknown palette, or if both are given.
    """
    if infrared_palette is None:
        return MEAN if allow_false_colour else REFUSE
    if allow_false_colour:
        raise OptionError(
            "infrared_palette undoes false colours, allow_false_colour takes them as they are: give one "
            "of them"
        )
    palette(infrared_palette)
    return infrared_palette


def check_false_colour(rule: str) -> None:
    """Raise OptionError for what is no rule of `false_colour_rule`."""
    if rule not in (REFUSE, MEAN, *PALETTES):
        known = ", ".join((REFUSE, MEAN, *PALETTES))
        raise OptionError(f"false_colour must be one of {known}, not {quoted(rule)}")


def infrared_channel(levels: np.ndarray, false_colour: str = REFUSE) -> np.ndarray:
    """The one channel (H, W) of an infrared image.

    levels: (H, W, 1), or (H, W, 3) of which the mean is taken, in the stored type. false_colour: what to do
    with an image in false colours, as `false_colour_rule` gives it; under a palette's name every image must
    hold it.

    Raises PairError for an image in false colours under ``REFUSE``, and as `undo_palette` does; the message
    does not know the file's name.
    """
    if false_colour in PALETTES:
        return undo_palette(levels, false_colour)
    if levels.shape[-1] == 1:
        return levels[..., 0]
    if false_colour == REFUSE and is_coloured(levels):
        raise PairError(refusal(recognise(levels)))
    with np.errstate(invalid="ignore", over="ignore"):
        # Infinite values stay what they are, for the scaling to refuse.
        mean = levels.mean(axis=-1)
    # The stored type is kept because scaling depends on it.
    return (np.rint(mean) if levels.dtype.kind in "ui" else mean).astype(levels.dtype)


def refusal(found: str | None) -> str:
    """What is said of an infrared image in false colours; found: the palette they look like."""
    look = "of no known palette" if found is None else f"they look like {found}"
    return (
        f"infrared in false colours ({look}), whose brightness is not heat: are the bands exchanged? If not, "
        f"undo them by --infrared_palette {found or 'NAME'} or take the channels' mean by "
        f"--allow_false_colour (of a folder: folder:PATH,"
        f"infrared_palette={found or 'NAME'} or ,allow_false_colour=true)"
    )


def is_coloured(levels: np.ndarray) -> bool:
    """Whether an image (H, W, 3) or (N, 3) of any type is in colours, and not grey with a coloured spot."""
    if levels.shape[-1] != 3:
        return False
    spread = channel_spread(levels)
    return bool((spread > _COLOURED_SPREAD).sum() > _COLOURED_SHARE * spread.size)


def channel_spread(levels: np.ndarray) -> np.ndarray:
    """How far the channels of each pixel lie apart, as a share of the range: float64 (N,) in [0, 1].

    levels: (..., C), of any type. The range of integers is 0 to the largest value of their type, that of
    floats what they span. Pixels that hold NaN or infinite values are left out.
    """
    pixels = levels.reshape(-1, levels.shape[-1])
    if pixels.dtype.kind == "f":
        pixels = pixels[np.isfinite(pixels).all(axis=1)].astype(np.float64)
    if not pixels.size:
        return np.zeros(0)
    full = np.iinfo(pixels.dtype).max if pixels.dtype.kind in "ui" else np.ptp(pixels)
    return (pixels.max(axis=1) - pixels.min(axis=1)) / (full or 1)


def recognise(levels: np.ndarray) -> str | None:
    """The palette whose colours an image holds, or None.

    levels: 8- or 16-bit (..., 3). Most pixels must lie near the palette's curve, and over a good part of it:
    the dark ends of all palettes are alike.
    """
    colours = levels.reshape(-1, 3)
    colours = _eight_bit(colours[:: max(1, len(colours) // _TO_RECOGNISE)])
    glance = colours[:: max(1, len(colours) // _AT_A_GLANCE)]
    best, least = None, _NEAR
    for name in PALETTES:
        if (_along_palette(name, glance)[1] > _FAR).mean() > 0.5:
            # Five times as many strangers as there may be, in a sample that is not as wrong as that.
            continue
        heat, distance = _along_palette(name, colours)
        spanned = np.ptp(np.percentile(heat, (5, 95)))
        mean = float(np.minimum(distance, _FAR).mean())
        if spanned > 32 and (distance > _FAR).mean() < _STRANGERS and mean < least:
            best, least = name, mean
    return best


def undo_palette(levels: np.ndarray, name: str) -> np.ndarray:
    """Heat from false colours: each pixel's place on the palette's curve, uint8 (H, W), 0 cold to 255 hot.

    levels: 8- or 16-bit (H, W, 3). A pixel takes the place of the palette's nearest colour: exact for
    lossless images, save that ``jet`` and ``viridis`` repeat some colours (up to 3 levels), and JPEG costs
    about one level.

    Raises PairError if more than a tenth of the pixels are far from the palette, or if the image has no
    colours; the message does not know the file's name. OptionError for an unknown palette.
    """
    if levels.shape[-1] != 3 or levels.dtype not in (np.uint8, np.uint16):
        raise PairError(
            f"infrared of {levels.shape[-1]} channel(s) of {levels.dtype} holds no colours of the "
            f"palette {name}; leave the palette out"
        )
    heat, distance = _along_palette(name, _eight_bit(levels).reshape(-1, 3))
    strangers = float((distance > _FAR).mean())
    if strangers > _STRANGERS:
        found = recognise(levels)
        mend = (
            "leave the palette out, or name another" if found is None else f"its palette looks like {found}"
        )
        raise PairError(f"{100 * strangers:.0f} % of its pixels have no colour of the palette {name}; {mend}")
    return heat.reshape(levels.shape[:-1])


def _eight_bit(levels: np.ndarray) -> np.ndarray:
    return levels if levels.dtype == np.uint8 else np.rint(levels / 257).astype(np.uint8)


def _along_palette(name: str, colours: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`_along` a palette as it is, or squeezed into 16..235, whichever the colours are nearer to.

    FLIR's JPEGs hold their palettes in the range of video, and read as the full one.
    """
    full = palette(name).astype(np.float32)
    found = [_along(curve, colours) for curve in (full, 16 + full * (219 / 255))]
    return min(found, key=lambda heat_and_distance: float(heat_and_distance[1].mean()))


def _along(curve: np.ndarray, colours: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each colour (N, 3): the place of the curve's nearest one, uint8 (N,), and its distance (N,)."""
    packed = colours.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    distinct, place = np.unique(packed, return_inverse=True)
    heat = np.empty(len(distinct), np.uint8)
    distance = np.empty(len(distinct), np.float32)
    for start in range(0, len(distinct), _PIXELS_PER_STEP):
        part = distinct[start : start + _PIXELS_PER_STEP]
        pixels = np.stack([part >> 16, part >> 8 & 255, part & 255], axis=1).astype(np.float32)
        squared = (pixels**2).sum(1)[:, None] - 2 * pixels @ curve.T + (curve**2).sum(1)
        nearest = squared.argmin(axis=1)
        heat[start : start + _PIXELS_PER_STEP] = nearest
        distance[start : start + _PIXELS_PER_STEP] = np.sqrt(
            np.maximum(np.take_along_axis(squared, nearest[:, None], axis=1)[:, 0], 0)
        )
    return heat[place], distance[place]
