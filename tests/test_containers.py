"""WebP, PGM and PPM, and NumPy's files: as stored, or refused in one line."""

import io
import pickle
import re
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from crossband.errors import PairError
from crossband.pairs.base import PairFiles
from crossband.pairs.decoding import decode
from crossband.pairs.folder import FolderPairs
from crossband.pairs.headers import image_size, read_header
from crossband.pairs.image_files import LIMIT_VARIABLE
from crossband.pairs.infrared_scaling import InfraredScaling
from crossband.pairs.reading import read_infrared, read_label, read_pair, read_visible, stored_levels
from stored_images import counts, noise

FULL = InfraredScaling()


def pnm(path: Path, samples: np.ndarray, top: int, comment: bytes = b"") -> Path:
    kind, (height, width) = (b"P6" if samples.ndim == 3 else b"P5"), samples.shape[:2]
    head = b"%b\n%b%d %d\n%d\n" % (kind, comment, width, height, top)
    path.write_bytes(head + samples.astype(np.uint8 if top < 256 else ">u2").tobytes())
    return path


def npy(path: Path, array: np.ndarray) -> Path:
    np.save(path, array)
    return path


def refusal(path: Path) -> str:
    messages = set()
    for read in (decode, image_size, read_header):
        with pytest.raises(PairError) as caught:
            read(path)
        messages.add(str(caught.value).removeprefix(f"{path}: "))
    (message,) = messages
    assert "\n" not in message
    return message


class TestWebp:
    @pytest.mark.parametrize("channels", [3, 4])
    def test_lossless_comes_back(self, tmp_path: Path, channels: int) -> None:
        image = noise(5, 9, channels)
        Image.fromarray(image).save(tmp_path / "a.webp", lossless=True, exact=True)
        np.testing.assert_array_equal(decode(tmp_path / "a.webp").samples, image)
        header = read_header(tmp_path / "a.webp")
        assert (header.size, header.kind, header.bits, header.channels) == ((5, 9), "WEBP", 8, channels)

    def test_as_both_bands(self, tmp_path: Path) -> None:
        grey = np.repeat(noise(5, 9, 1), 3, axis=2)
        Image.fromarray(grey).save(tmp_path / "a.webp", lossless=True)
        np.testing.assert_array_equal(counts(read_infrared(tmp_path / "a.webp", FULL), 255), grey[..., 0])
        np.testing.assert_array_equal(counts(read_visible(tmp_path / "a.webp"), 255), grey)

    def test_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "a.webp"
        frames = [Image.fromarray(noise(5, 9, 3) // part) for part in (1, 2)]
        frames[0].save(path, save_all=True, append_images=frames[1:])
        with pytest.raises(PairError, match="an animation of 2 pictures"):
            decode(path)
        Image.fromarray(noise(50, 90, 3)).save(path)
        whole = path.read_bytes()
        path.write_bytes(whole[:-9])
        assert "the end of the file is missing" in refusal(path)

    def test_claims_are_looked_at_before_memory_is_taken(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "a.webp"
        for options in ({"lossless": True}, {}, {"exif": b"Exif\0\0"}):
            Image.fromarray(noise(20, 30, 3)).save(path, **options)
            monkeypatch.setenv(LIMIT_VARIABLE, "2399")
            assert "more than the limit" in refusal(path)
            monkeypatch.setenv(LIMIT_VARIABLE, "2400")
            assert image_size(path) == (20, 30)


class TestPnm:
    @pytest.mark.parametrize("top", [1, 100, 255, 256, 4095, 65535])
    def test_any_largest_value(self, tmp_path: Path, top: int) -> None:
        grey, colour = (noise(5, 9, *more, dtype=np.uint16, below=top + 1) for more in ((), (3,)))
        for image, name in ((grey, "a.pgm"), (colour, "a.ppm")):
            path = pnm(tmp_path / name, image, top, b"# a comment of 7 words\n")
            np.testing.assert_array_equal(np.squeeze(decode(path).samples), image)
            assert image_size(path) == (5, 9)
            visible = read_visible(path)
            expected = np.broadcast_to(image.reshape(5, 9, -1) / top, (5, 9, 3))
            np.testing.assert_allclose(visible, expected, atol=0.5 / 255 if top < 255 else 1e-5)
        # What a camera counts stays what it is, as in a PNG or TIFF of the same counts.
        full = 255 if top < 256 else 65535
        np.testing.assert_array_equal(counts(read_infrared(tmp_path / "a.pgm", FULL), full), grey)
        files = PairFiles("a", tmp_path / "a.pgm", tmp_path / "b.pgm")
        pnm(tmp_path / "b.pgm", grey, top)
        np.testing.assert_array_equal(stored_levels(files, "infrared")[..., 0], grey)

    def test_label_ids_stay(self, tmp_path: Path) -> None:
        path = pnm(tmp_path / "a.pgm", noise(5, 9, below=4), 3)
        np.testing.assert_array_equal(read_label(path, None), noise(5, 9, below=4))

    def test_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "a.pgm"
        for data, why in (
            (b"P2\n2 1\n255\n3 4\n", "save it as a binary PGM"),
            (b"P5\n2 1\n255\n\x01", "claims more pixels than the file holds"),
            (b"P5\n2 1\n255\n\x01\x02P5\n2 1\n255\n\x01\x02", "more follows its image"),
            (b"P5\n2 1\n65536\n\x01\x02\x01\x02", "65536 as the largest value"),
            (b"P5\n0 1\n255\n", "1 x 0 pixels"),
            (b"P5\n2 x\n255\n\x01\x02", "does not give width"),
            (b"P5\n99999999 99999999\n65535\n\0", "claims more pixels"),
        ):
            path.write_bytes(data)
            assert why in refusal(path)
        pnm(path, np.array([[9]]), 8)
        with pytest.raises(PairError, match="a sample is 9, above the 8 of its header"):
            decode(path)


class TestNpy:
    @pytest.mark.parametrize("type", ["u1", "<u2", ">u2", "<i4", "f2", ">f4", "f8"])
    @pytest.mark.parametrize("order", ["C", "F"])
    def test_as_stored(self, tmp_path: Path, type: str, order: str) -> None:
        array = np.asarray(noise(5, 9, below=200).astype(type), order=order)  # type: ignore[call-overload]
        stored = decode(npy(tmp_path / "a.npy", array)).samples
        np.testing.assert_array_equal(stored[..., 0], array)
        assert stored.dtype == array.dtype.newbyteorder("=")
        assert read_header(tmp_path / "a.npy").size == (5, 9)

    def test_four_channels_are_both_bands(self, tmp_path: Path) -> None:
        packed = noise(5, 9, 4)
        path = npy(tmp_path / "a.npy", packed)
        pair = read_pair(PairFiles("a", path, path), FULL, None)
        assert pair.visible is not None
        assert pair.infrared is not None
        np.testing.assert_array_equal(counts(pair.visible, 255), packed[..., :3])
        np.testing.assert_array_equal(counts(pair.infrared, 255), packed[..., 3])

    def test_labels(self, tmp_path: Path) -> None:
        ids = noise(5, 9, below=3)
        np.testing.assert_array_equal(read_label(npy(tmp_path / "a.npy", ids.astype(int)), None), ids)
        np.testing.assert_array_equal(read_label(npy(tmp_path / "b.npy", ids > 1), None), ids > 1)

    def test_nothing_is_unpickled(self, tmp_path: Path) -> None:
        made = tmp_path / "made"

        class Maker:
            def __reduce__(self) -> tuple[object, tuple[str]]:
                return (open, (str(made), "w"))  # type: ignore[return-value]

        path = tmp_path / "a.npy"
        np.save(path, np.array([[Maker()]]), allow_pickle=True)
        assert "not of numbers" in refusal(path)
        path.write_bytes(pickle.dumps(Maker()))
        assert "not a PNG" in refusal(path)
        assert not made.exists()

    def test_refused(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / "a.npy"
        for array, why in (
            (np.zeros(4), "of shape (4,), not one image"),
            (np.zeros((4, 5, 6)), "of shape (4, 5, 6), not one image"),
            (np.zeros((2, 4, 5, 3)), "not one image"),
            (np.zeros((0, 5)), "not one image"),
            (np.zeros((4, 5), complex), "complex128"),
            (np.zeros((4, 5), [("a", "u1")]), "not of numbers"),
            (np.full((4, 5), "text"), "not of numbers"),
        ):
            assert why in refusal(npy(path, array))
        whole = npy(path, noise(40, 50)).read_bytes()
        path.write_bytes(whole[:-1])
        assert "claims more pixels" in refusal(path)
        path.write_bytes(whole + whole)
        assert "more follows its array" in refusal(path)
        monkeypatch.setenv(LIMIT_VARIABLE, "1999")
        path.write_bytes(whole)
        assert "more than the limit" in refusal(path)

    def test_long_headers(self, tmp_path: Path) -> None:
        path = tmp_path / "a.npy"
        text = b"{'descr': '|u1', 'fortran_order': False, 'shape': (" + b"1" * 200_000 + b", 1)}"
        path.write_bytes(b"\x93NUMPY\x02\x00" + struct.pack("<I", len(text)) + text)
        assert "truncated or damaged" in refusal(path)
        path.write_bytes(b"\x93NUMPY\x02\x00" + struct.pack("<I", 9000) + b"[" * 9000)
        assert "damaged" in refusal(path)


def test_a_folder_of_them(tmp_path: Path) -> None:
    for band in ("visible", "infrared"):
        (tmp_path / band).mkdir()
    pnm(tmp_path / "visible" / "a.ppm", noise(5, 9, 3), 255)
    npy(tmp_path / "infrared" / "a.npy", noise(5, 9, dtype=np.uint16))
    Image.fromarray(noise(5, 9, 3)).save(tmp_path / "visible" / "b.webp")
    pnm(tmp_path / "infrared" / "b.pgm", noise(5, 9, dtype=np.uint16), 65535)
    pairs = FolderPairs(tmp_path, "all")
    assert [pair.size for pair in pairs] == [(5, 9), (5, 9)]
    np.testing.assert_array_equal(pairs[0].infrared, pairs[1].infrared)


def test_real_four_channels(shared_data: Path) -> None:
    folder = shared_data / "rig" / "four_channel"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    for name in ("night_0.npy", "rgbt.tiff"):
        path = folder / name
        pair = read_pair(PairFiles("a", path, path), FULL, None)
        stored = decode(path).samples
        assert pair.visible is not None
        assert pair.infrared is not None
        np.testing.assert_array_equal(counts(pair.infrared, 255), stored[..., 3])
        np.testing.assert_array_equal(counts(pair.visible, 255), stored[..., :3])
    array = np.load(io.BytesIO((folder / "night_0.npy").read_bytes()))
    np.testing.assert_array_equal(decode(folder / "night_0.npy").samples, array)
    assert read_label(folder / "night_0_mask.npy", None).shape == array.shape[:2]
    with pytest.raises(PairError, match=re.escape("its alpha channel varies")):
        read_infrared(folder / "night_0.npy", FULL)
