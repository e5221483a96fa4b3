"""False colours: recognised and undone, against palettes and pictures that others made."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from crossband.errors import OptionError, PairError
from crossband.pairs.false_colour import (
    MEAN,
    PALETTES,
    REFUSE,
    false_colour_rule,
    infrared_channel,
    is_coloured,
    palette,
    recognise,
    undo_palette,
)

LOSSY = {"jet": 3}
"""Palettes with plateaus, where up to so many levels share a colour."""


def heat(size: tuple[int, int] = (96, 128)) -> np.ndarray:
    """A smooth scene over all of 0..255 with a warm block in it."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    scene = np.rint(127.5 + 127.5 * np.sin(columns / 17) * np.cos(rows / 13)).astype(np.uint8)
    scene[20:40, 30:50] = 250
    return scene


def as_jpeg(picture: np.ndarray, quality: int = 85) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


@pytest.mark.parametrize("name", PALETTES)
def test_round_trip(name: str) -> None:
    levels = np.arange(256, dtype=np.uint8)[None]
    colours = palette(name)[levels]
    assert recognise(colours) == name
    for picture in (colours, colours.astype(np.uint16) * 257):
        back = undo_palette(picture, name)
        assert back.dtype == np.uint8
        assert np.abs(back.astype(int) - levels).max() <= LOSSY.get(name, 1)


@pytest.mark.parametrize("name", PALETTES)
def test_jpeg_costs_little(name: str) -> None:
    picture = as_jpeg(palette(name)[heat()])
    assert is_coloured(picture)
    assert recognise(picture) == name
    assert np.abs(undo_palette(picture, name).astype(int) - heat()).mean() < 2


@pytest.mark.parametrize("name", ["jet", "turbo", "inferno", "magma", "plasma", "viridis"])
def test_what_opencv_coloured(name: str) -> None:
    """OpenCV's colour maps differ from matplotlib's by some levels; its "hot" is another one."""
    picture = cv2.applyColorMap(heat(), getattr(cv2, f"COLORMAP_{name.upper()}"))[..., ::-1]
    assert recognise(picture) == name
    assert np.abs(undo_palette(picture, name).astype(int) - heat()).mean() < 3


def test_the_range_of_video() -> None:
    squeezed = np.rint(16 + palette("iron")[heat()] * (219 / 255)).astype(np.uint8)
    assert recognise(squeezed) == "iron"
    assert np.abs(undo_palette(squeezed, "iron").astype(int) - heat()).max() <= 2


def test_another_palette_is_refused_by_name() -> None:
    with pytest.raises(
        PairError, match=r"have no colour of the palette iron; its palette looks like rainbow"
    ):
        undo_palette(palette("rainbow")[heat()], "iron")
    with pytest.raises(PairError, match="holds no colours of the palette iron"):
        infrared_channel(heat()[..., None], "iron")
    with pytest.raises(OptionError, match=r"no infrared palette 'irn'; use one of iron, rainbow"):
        undo_palette(palette("iron")[heat()], "irn")


def test_a_tenth_of_strangers_is_a_logo() -> None:
    picture = palette("iron")[heat()]
    picture[:9] = 0, 255, 0
    assert recognise(picture) == "iron"
    assert (undo_palette(picture, "iron")[9:] == heat()[9:]).all()
    picture[:20] = 0, 255, 0
    with pytest.raises(PairError, match="21 % of its pixels"):
        undo_palette(picture, "iron")


def test_one_channel() -> None:
    grey = np.repeat(heat()[..., None], 3, axis=2)
    assert np.array_equal(infrared_channel(grey), heat())
    coloured = palette("jet")[heat()]
    with pytest.raises(
        PairError, match=r"they look like jet.*are the bands exchanged\?.*--infrared_palette jet"
    ):
        infrared_channel(coloured)
    assert np.array_equal(infrared_channel(coloured, MEAN), np.rint(coloured.mean(axis=2)))
    assert np.abs(infrared_channel(coloured, "jet").astype(int) - heat()).max() <= 3
    grey[:5] = 255, 0, 0  # A red line on grey is no false colour.
    assert infrared_channel(grey)[0, 0] == 85


def test_noise_and_near_black_are_no_palette() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    assert recognise(noise) is None
    assert recognise(noise // 32) is None


def test_the_rule() -> None:
    assert false_colour_rule(None, False) == REFUSE
    assert false_colour_rule(None, True) == MEAN
    assert false_colour_rule("iron", False) == "iron"
    with pytest.raises(OptionError, match="give one of them"):
        false_colour_rule("iron", True)


@pytest.mark.shared_data
def test_iron_is_what_cameras_store(shared_data: Path) -> None:
    """A FLIR T650sc writes its palette into the file (record 0x22): 224 colours in Y Cr Cb."""
    path = shared_data / "rig" / "flir_t650sc" / "plant.jpg"
    y, cr, cb = _flir_palette(path.read_bytes()).astype(float).T
    y, cr, cb = (y - 16) * 255 / 219, (cr - 128) * 255 / 224, (cb - 128) * 255 / 224
    stored = np.clip([y + 1.402 * cr, y - 0.714136 * cr - 0.344136 * cb, y + 1.772 * cb], 0, 255).T
    places = np.linspace(0, 255, len(stored))
    ours = np.stack([np.interp(places, np.arange(256), channel) for channel in palette("iron").T], axis=1)
    assert np.linalg.norm(ours - stored, axis=1).max() < 8
    picture = np.asarray(Image.open(path).convert("RGB"))
    assert recognise(picture) == "iron"
    # The temperatures beside the picture say that its leaves are colder than the ground around them.
    undone = undo_palette(picture, "iron")
    assert undone[330:380, 330:370].mean() < undone[20:80, 300:500].mean() - 50


def _flir_palette(data: bytes) -> np.ndarray:
    parts, start = {}, 2
    while data[start + 1] != 0xDA:
        size = int.from_bytes(data[start + 2 : start + 4], "big")
        segment = data[start + 4 : start + 2 + size]
        if data[start + 1] == 0xE1 and segment.startswith(b"FLIR\0"):
            parts[segment[6]] = segment[8:]
        start += 2 + size
    flir = b"".join(parts[index] for index in sorted(parts))
    directory, count = struct.unpack_from(">II", flir, 24)
    for entry in range(directory, directory + 32 * count, 32):
        offset, size = struct.unpack_from(">II", flir, entry + 12)
        if flir[entry : entry + 2] == b"\x00\x22":
            record = flir[offset : offset + size]
            return np.frombuffer(record, np.uint8, 3 * record[0], 0x70).reshape(-1, 3)
    raise AssertionError("the file has no palette")
