"""Files that loop, claim or inflate to more than they should: one line, at once, without the memory."""

import io
import os
import struct
import tracemalloc
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from crossband.errors import OptionError, PairError
from crossband.pairs.decoding import decode
from crossband.pairs.headers import image_size, read_header
from crossband.pairs.image_files import LIMIT_VARIABLE, max_image_bytes
from stored_images import noise, png_bytes

READERS = (decode, image_size, read_header)


def refusals(path: Path) -> str:
    """The one message of all readers, without the path; they must agree."""
    messages = set()
    for read in READERS:
        with pytest.raises(PairError) as caught:
            read(path)
        messages.add(str(caught.value).removeprefix(f"{path}: "))
    (message,) = messages
    assert "\n" not in message
    return message


def pages(count: int, order: str = "<", big: bool = False) -> bytearray:
    """A TIFF of empty pages in a chain."""
    file = io.BytesIO()
    with tifffile.TiffWriter(file, byteorder=order, bigtiff=big) as tiff:
        for _ in range(count):
            tiff.write(noise(4, 4), contiguous=False, metadata=None)
    return bytearray(file.getvalue())


@pytest.mark.parametrize(("order", "big"), [("<", False), (">", False), ("<", True), (">", True)])
@pytest.mark.parametrize(("count", "back_to"), [(1, 0), (3, 0), (3, 1)])
def test_pages_that_loop(tmp_path: Path, order: str, big: bool, count: int, back_to: int) -> None:
    data = pages(count, order, big)
    form, head, entry, end = ("Q", "Q", 20, 8) if big else ("I", "H", 12, 4)
    starts = [struct.unpack_from(order + form, data, 8 if big else 4)[0]]
    while True:
        entries = struct.unpack_from(order + head, data, starts[-1])[0]
        link = starts[-1] + struct.calcsize(head) + entries * entry
        following = struct.unpack_from(order + form, data, link)[0]
        if not following:
            break
        starts.append(following)
    assert len(starts) == count
    struct.pack_into(order + form, data, link, starts[back_to])
    assert end == struct.calcsize(form)
    (tmp_path / "a.tif").write_bytes(data)
    assert "pages loops" in refusals(tmp_path / "a.tif")


def test_a_chain_of_very_many_pages(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(pages(101))
    assert "more than 100 pages" in refusals(tmp_path / "a.tif")
    (tmp_path / "b.tif").write_bytes(pages(100))
    assert "a TIFF of 100 pages" in refusals(tmp_path / "b.tif")


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.bmp", "a.tif", "lzw.tif", "deflate.tif"])
def test_the_limit_is_on_decoded_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    options = {"lzw.tif": {"compression": "tiff_lzw"}, "deflate.tif": {"compression": "tiff_adobe_deflate"}}
    Image.fromarray(noise(20, 30, 3)).save(tmp_path / name, **options.get(name, {}))
    monkeypatch.setenv(LIMIT_VARIABLE, str(20 * 30 * 3))
    assert decode(tmp_path / name).samples.shape == (20, 30, 3)
    monkeypatch.setenv(LIMIT_VARIABLE, str(20 * 30 * 3 - 1))
    assert "takes 1800 bytes, more than the limit of 1799 bytes" in refusals(tmp_path / name)


def test_depth_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(noise(20, 30, dtype=np.uint16)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(png_bytes(noise(20, 10, 3, dtype=np.uint16), colour_type=2, depth=16))
    tifffile.imwrite(tmp_path / "c.tif", noise(20, 30, dtype=np.uint16))
    monkeypatch.setenv(LIMIT_VARIABLE, str(20 * 30 * 2 - 1))
    for name in ("a.png", "b.png", "c.tif"):
        assert "takes 1200 bytes" in refusals(tmp_path / name)


@pytest.mark.parametrize("value", ["much", "-1", "0", "1e9", "1" * 30, "²"])
def test_a_limit_that_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv(LIMIT_VARIABLE, value)
    with pytest.raises(OptionError, match=LIMIT_VARIABLE):
        max_image_bytes()
    Image.fromarray(noise(4, 4)).save(tmp_path / "a.png")
    with pytest.raises(OptionError, match=LIMIT_VARIABLE):
        decode(tmp_path / "a.png")


def test_the_default_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(LIMIT_VARIABLE, raising=False)
    assert max_image_bytes() == 2**30


@pytest.mark.parametrize("compression", ["zlib", "packbits"])
def test_a_strip_that_inflates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compression: str) -> None:
    """A strip of 64 x 64 pixels that holds 64 MB: tifffile would inflate all of it."""
    path, zeros = tmp_path / "a.tif", bytes(64 << 20)
    packed = zlib.compress(zeros, 9) if compression == "zlib" else b"\x81\x00" * ((64 << 20) // 128)
    tifffile.imwrite(path, np.zeros((64, 64), np.uint8), compression="zlib", rowsperstrip=64)
    with tifffile.TiffFile(path) as tiff:
        tags = tiff.pages.first.tags
        offset, count, kind = (
            tags[name].valueoffset for name in ("StripOffsets", "StripByteCounts", "Compression")
        )
        wide = tags["StripByteCounts"].dtype.name == "LONG"
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, offset, len(data))
    if not wide:
        struct.pack_into("<H", data, count - 6, 4)  # the tag's type: LONG
    struct.pack_into("<I", data, count, len(packed))
    struct.pack_into("<H", data, kind, 8 if compression == "zlib" else 32773)
    path.write_bytes(data + packed)
    assert image_size(path) == (64, 64)
    monkeypatch.setenv(LIMIT_VARIABLE, str(32 << 20))
    tracemalloc.start()
    try:
        with pytest.raises(PairError, match=r"more than the limit of 0\.0312 GiB"):
            decode(path)
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


def test_a_png_that_claims_more_than_it_holds(tmp_path: Path) -> None:
    """Pillow alone gives black where rows are missing, however many the header claims."""
    path, image = tmp_path / "a.png", noise(12, 16)

    def claim(height: int) -> None:
        data = bytearray(png_bytes(image, colour_type=0, depth=16))
        struct.pack_into(">I", data, 20, height)
        struct.pack_into(">I", data, 29, zlib.crc32(data[12:29]))
        path.write_bytes(data)

    claim(13)
    with Image.open(path) as opened:
        assert not np.asarray(opened)[-1].any()
    with pytest.raises(PairError, match="more pixels than the file holds"):
        decode(path)
    claim(10_000_000)
    assert "more pixels than the file holds" in refusals(path)
    image[-1] = 0
    claim(12)
    np.testing.assert_array_equal(decode(path).samples[..., 0], image)


def test_a_tiff_that_claims_more_than_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, noise(12, 16), metadata=None)
    with tifffile.TiffFile(path) as tiff:
        tag = tiff.pages.first.tags["ImageLength"]
    data = bytearray(path.read_bytes())
    struct.pack_into("<H", data, tag.valueoffset, 13)
    path.write_bytes(data)
    assert "more pixels than the file holds" in refusals(path)


def test_a_jpeg_of_very_many_scans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(noise(64, 64)).save(path, progressive=True)
    data = path.read_bytes()
    last = data.rindex(b"\xff\xda")
    path.write_bytes(data[:-2] + data[last:-2] * 200 + data[-2:])
    monkeypatch.setenv(LIMIT_VARIABLE, str(64 * 64))
    with pytest.raises(PairError, match=r"a JPEG of 20\d scans"):
        decode(path)
    path.write_bytes(data)
    assert decode(path).samples.shape == (64, 64, 1)


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "lzw.tif", "a.tif"])
def test_pillows_own_limit_is_not_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    Image.fromarray(noise(20, 20)).save(
        tmp_path / name, **({"compression": "tiff_lzw"} if "lzw" in name else {})
    )
    for most in (300, 100):  # a warning, an error
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", most)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert decode(tmp_path / name).samples.shape == (20, 20, 1)
            assert read_header(tmp_path / name).size == (20, 20)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    assert refusals(tmp_path / "a.png") == "is no regular file"


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(noise(4, 4)).save(tmp_path / "a.png")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(
        Path, "open", refuse
    )  # root may read everything, so the tests cannot take the right away
    message = refusals(tmp_path / "a.png")
    assert message.startswith("Permission denied; change its permissions")
    assert "copy it again" not in message


@pytest.mark.shared_data
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_files_that_once_failed(shared_data: Path) -> None:
    paths = sorted((shared_data / "cases").rglob("*.tif"))
    assert len(paths) > 100
    for path in paths:
        try:
            size = read_header(path).size
        except PairError:
            with pytest.raises(PairError):
                decode(path)
            continue
        assert size == image_size(path)
        assert min(size) > 0
        try:
            samples = decode(path).samples
        except PairError:
            continue
        assert samples.shape[:2] == size
