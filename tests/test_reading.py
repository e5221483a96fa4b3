"""Reading images: every stored format against what a reference library wrote or reads."""

import struct
import warnings
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from crossband.errors import CrossbandWarning, PairError
from crossband.pairs.base import Classes, PairFiles
from crossband.pairs.infrared_scaling import InfraredScaling
from crossband.pairs.reading import image_size, read_infrared, read_label, read_pair, read_visible
from crossband.words import IGNORE_INDEX
from stored_images import counts, noise, png_bytes

FULL = InfraredScaling()
THREE = Classes(("soil", "crop", "weed"), ((0, 0, 0), (0, 255, 0), (255, 0, 0)))


class TestVisible:
    @pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp", ".PNG"])
    def test_8_bit_colour_is_exact(self, tmp_path: Path, suffix: str) -> None:
        image, path = noise(7, 5, 3), tmp_path / f"a{suffix}"
        Image.fromarray(image).save(path)
        read = read_visible(path)
        assert read.dtype == np.float32
        assert read.shape == (7, 5, 3)
        assert read.max() <= 1
        np.testing.assert_array_equal(counts(read, 255), image)

    def test_jpeg_as_opencv_decodes_it(self, tmp_path: Path) -> None:
        smooth = np.add.outer(np.arange(64), np.arange(48))[..., np.newaxis] + np.array([0, 40, 90])
        Image.fromarray(smooth.astype(np.uint8)).save(tmp_path / "a.jpg", quality=95)
        expected = cv2.imread(str(tmp_path / "a.jpg"))[..., ::-1].astype(int)
        assert np.abs(counts(read_visible(tmp_path / "a.jpg"), 255) - expected).max() <= 2

    @pytest.mark.parametrize("channels", [3, 4])
    def test_16_bit_colour_png_keeps_all_bits(self, tmp_path: Path, channels: int) -> None:
        image, path = noise(33, 21, channels, dtype=np.uint16), tmp_path / "a.png"
        if channels == 4:
            image[..., 3] = 65535
        cv2.imwrite(str(path), image)  # BGR(A)
        read = read_visible(path)
        np.testing.assert_array_equal(counts(read, 65535), image[..., 2::-1])

    def test_16_bit_colour_png_with_row_filters(self, tmp_path: Path) -> None:
        ramp = np.add.outer(np.arange(90) * 250, np.arange(70) * 120)[..., np.newaxis] + np.array(
            [0, 333, 777]
        )
        cv2.imwrite(str(tmp_path / "a.png"), ramp.astype(np.uint16))
        np.testing.assert_array_equal(counts(read_visible(tmp_path / "a.png"), 65535), ramp[..., ::-1])

    def test_16_bit_grey_with_opaque_alpha(self, tmp_path: Path) -> None:
        image = noise(6, 5, 2, dtype=np.uint16)
        image[..., 1] = 65535
        (tmp_path / "a.png").write_bytes(png_bytes(image, colour_type=4, depth=16))
        read = read_visible(tmp_path / "a.png")
        np.testing.assert_array_equal(counts(read, 65535), np.repeat(image[..., :1], 3, axis=2))

    @pytest.mark.parametrize("options", [{}, {"compression": "zlib", "predictor": True}, {"byteorder": ">"}])
    @pytest.mark.parametrize("planar", [False, True])
    def test_16_bit_colour_tiff(self, tmp_path: Path, options: dict, planar: bool) -> None:
        image = noise(20, 11, 3, dtype=np.uint16)
        stored = image.transpose(2, 0, 1) if planar else image
        layout = "separate" if planar else "contig"
        tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", planarconfig=layout, **options)
        np.testing.assert_array_equal(counts(read_visible(tmp_path / "a.tif"), 65535), image)

    def test_grey_is_repeated(self, tmp_path: Path) -> None:
        image = noise(4, 6)
        Image.fromarray(image).save(tmp_path / "a.png")
        read = read_visible(tmp_path / "a.png")
        np.testing.assert_array_equal(counts(read, 255), np.stack([image] * 3, axis=-1))

    def test_palette_and_bilevel_are_looked_up(self, tmp_path: Path) -> None:
        colours = Image.fromarray(noise(16, 16, 3)).quantize(40)
        colours.save(tmp_path / "p.png")
        expected = np.asarray(colours.convert("RGB"))
        np.testing.assert_array_equal(counts(read_visible(tmp_path / "p.png"), 255), expected)
        bits = noise(9, 9, below=2).astype(bool)
        Image.fromarray(bits).save(tmp_path / "b.png")
        np.testing.assert_array_equal(read_visible(tmp_path / "b.png")[..., 0], bits)

    def test_float_tiff_must_lie_in_0_to_1(self, tmp_path: Path) -> None:
        image = np.linspace(0, 1, 4 * 5 * 3, dtype=np.float32).reshape(4, 5, 3)
        tifffile.imwrite(tmp_path / "a.tif", image, photometric="rgb")
        np.testing.assert_array_equal(read_visible(tmp_path / "a.tif"), image)
        for wrong in (image * 2, image - 0.1, np.where(image > 0.5, np.nan, image)):
            tifffile.imwrite(tmp_path / "b.tif", wrong, photometric="rgb")
            with pytest.raises(PairError, match=r"b\.tif.*\[0, 1\]"):
                read_visible(tmp_path / "b.tif")

    def test_alpha(self, tmp_path: Path) -> None:
        image = noise(5, 5, 4)
        Image.fromarray(image).save(tmp_path / "varies.png")
        with pytest.raises(PairError, match=r"varies\.png.*both visible and infrared"):
            read_visible(tmp_path / "varies.png")
        with pytest.raises(PairError, match=r"varies\.png.*both visible and infrared"):
            read_infrared(tmp_path / "varies.png", FULL)
        Image.fromarray(image[..., 2:]).save(tmp_path / "grey.png")
        with pytest.raises(PairError, match="alpha"):
            read_visible(tmp_path / "grey.png")
        image[..., 3] = 255
        Image.fromarray(image).save(tmp_path / "opaque.png")
        np.testing.assert_array_equal(counts(read_visible(tmp_path / "opaque.png"), 255), image[..., :3])


class TestInfrared:
    @pytest.mark.parametrize("suffix", [".png", ".tif"])
    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
    def test_grey_keeps_all_bits(self, tmp_path: Path, suffix: str, dtype: type) -> None:
        image, path = noise(31, 17, dtype=dtype), tmp_path / f"a{suffix}"
        Image.fromarray(image).save(path)
        read = read_infrared(path, FULL)
        assert read.dtype == np.float32
        np.testing.assert_array_equal(counts(read, np.iinfo(dtype).max), image)

    @pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits", "raw"])
    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
    def test_tiff_compressions(self, tmp_path: Path, compression: str, dtype: type) -> None:
        image = noise(40, 30, below=250).astype(dtype)
        Image.fromarray(image).save(tmp_path / "a.tif", compression=compression)
        read = read_infrared(tmp_path / "a.tif", InfraredScaling.parse("fixed(0, 250)"))
        np.testing.assert_array_equal(counts(read, 250), image)

    @pytest.mark.parametrize("dtype", [np.int16, np.uint32, np.float64])
    def test_other_types_need_another_rule(self, tmp_path: Path, dtype: type) -> None:
        image = noise(8, 9, below=9000, dtype=np.int16).astype(dtype)
        tifffile.imwrite(tmp_path / "a.tif", image)
        with pytest.raises(PairError, match=r'a\.tif: "full-range".*"minmax"'):
            read_infrared(tmp_path / "a.tif", FULL)
        read = read_infrared(tmp_path / "a.tif", InfraredScaling.parse("fixed(0, 9000)"))
        np.testing.assert_array_equal(counts(read, 9000), image)

    @pytest.mark.filterwarnings("error")
    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    @pytest.mark.parametrize("channels", [1, 3])
    def test_nan_and_infinite(self, tmp_path: Path, channels: int, bad: float) -> None:
        image = np.full((4, 4, channels), 0.5, np.float32)
        image[1, 2] = bad
        tifffile.imwrite(tmp_path / "a.tif", image, photometric="rgb" if channels == 3 else "minisblack")
        for rule in ("full-range", "minmax", "percentile(1, 99)", "fixed(0, 1)"):
            with pytest.raises(PairError, match=r"a\.tif: 1 infrared values are NaN or infinite"):
                read_infrared(tmp_path / "a.tif", InfraredScaling.parse(rule))

    def test_three_equal_channels(self, tmp_path: Path) -> None:
        image = noise(12, 10)
        Image.fromarray(np.stack([image] * 3, axis=-1)).save(tmp_path / "a.png")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            read = read_infrared(tmp_path / "a.png", FULL)
        np.testing.assert_array_equal(counts(read, 255), image)

    @pytest.mark.parametrize("difference", [2, 3])
    def test_three_channels_warn_above_2_levels_once_per_folder(
        self, tmp_path: Path, difference: int
    ) -> None:
        image = np.full((6, 6, 3), 100, np.uint8)
        image[3, 3, 1] += difference
        for name in ("a.png", "b.png"):
            Image.fromarray(image).save(tmp_path / name)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            read = read_infrared(tmp_path / "a.png", FULL)
            read_infrared(tmp_path / "b.png", FULL)
        assert [str(tmp_path / "a.png") in str(entry.message) for entry in caught] == [True] * (
            difference - 2
        )
        assert all(entry.category is CrossbandWarning for entry in caught)
        assert counts(read, 255)[3, 3] == 101  # the mean, rounded: (100 + 102 or 103 + 100) / 3

    def test_packed(self, tmp_path: Path) -> None:
        image, path = noise(9, 8, 4), tmp_path / "a.png"
        Image.fromarray(image).save(path)
        np.testing.assert_array_equal(counts(read_visible(path, packed=True), 255), image[..., :3])
        np.testing.assert_array_equal(counts(read_infrared(path, FULL, packed=True), 255), image[..., 3])
        pair = read_pair(PairFiles("a", path, path), FULL, None)
        np.testing.assert_array_equal(pair.visible, read_visible(path, packed=True))
        np.testing.assert_array_equal(pair.infrared, read_infrared(path, FULL, packed=True))

    def test_packed_16_bit(self, tmp_path: Path) -> None:
        image = noise(9, 8, 4, dtype=np.uint16)
        cv2.imwrite(str(tmp_path / "a.png"), image)
        pair = read_pair(PairFiles("a", tmp_path / "a.png", tmp_path / "a.png"), FULL, None)
        np.testing.assert_array_equal(counts(pair.visible, 65535), image[..., 2::-1])
        np.testing.assert_array_equal(counts(pair.infrared, 65535), image[..., 3])

    def test_packed_without_a_fourth_channel(self, tmp_path: Path) -> None:
        Image.fromarray(noise(5, 5, 3)).save(tmp_path / "a.png")
        with pytest.raises(PairError, match=r"a\.png.*fourth channel"):
            read_infrared(tmp_path / "a.png", FULL, packed=True)


class TestLabel:
    @pytest.mark.parametrize("mode", ["L", "P", "I;16"])
    @pytest.mark.parametrize("suffix", [".png", ".tif"])
    def test_ids_not_colours(self, tmp_path: Path, mode: str, suffix: str) -> None:
        ids = noise(11, 13, below=3)
        ids[0, 0] = IGNORE_INDEX
        image = Image.fromarray(ids.astype(np.uint16) if mode == "I;16" else ids)
        if mode == "P":
            image.putpalette(noise(256, 3).tobytes())
        assert image.mode == mode
        image.save(tmp_path / f"a{suffix}")
        read = read_label(tmp_path / f"a{suffix}", THREE)
        assert read.dtype == np.uint8
        np.testing.assert_array_equal(read, ids)

    @pytest.mark.parametrize("depth", [1, 2, 4])
    @pytest.mark.parametrize("colour_type", [0, 3])
    def test_few_bits(self, tmp_path: Path, depth: int, colour_type: int) -> None:
        ids = noise(6, 16, below=2**depth)
        data = png_bytes(ids, colour_type, depth)
        if colour_type == 3:
            chunk = b"PLTE" + noise(2**depth, 3).tobytes()
            plte = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
            data = data[:33] + plte + data[33:]
        (tmp_path / "a.png").write_bytes(data)
        np.testing.assert_array_equal(read_label(tmp_path / "a.png", None), ids)
        if colour_type == 0:
            expected = cv2.imread(str(tmp_path / "a.png"), cv2.IMREAD_UNCHANGED)
            np.testing.assert_array_equal(counts(read_visible(tmp_path / "a.png"), 255)[..., 0], expected)

    def test_ignored_ids(self, tmp_path: Path) -> None:
        classes = Classes(THREE.names, THREE.palette, ignore=(0, 300))
        tifffile.imwrite(tmp_path / "a.tif", np.array([[0, 1, 2], [300, 255, 1]], np.int32))
        np.testing.assert_array_equal(read_label(tmp_path / "a.tif", classes), [[255, 1, 2], [255, 255, 1]])

    def test_unknown_ids_are_named_and_counted(self, tmp_path: Path) -> None:
        ids = np.zeros((10, 10), np.uint8)
        ids[0, :7], ids[1, :2] = 3, 200
        Image.fromarray(ids).save(tmp_path / "a.png")
        with pytest.raises(PairError, match=r"a\.png: label ids 3 \(7 px\), 200 \(2 px\) are outside 0\.\.2"):
            read_label(tmp_path / "a.png", THREE)
        tifffile.imwrite(tmp_path / "b.tif", ids.astype(np.int16) - 1)
        with pytest.raises(PairError, match=r"-1 \(91 px\)"):
            read_label(tmp_path / "b.tif", THREE)

    def test_pictures_are_refused(self, tmp_path: Path) -> None:
        for name, image in {
            "rgb.png": noise(4, 4, 3),
            "rgba.png": noise(4, 4, 4),
            "la.png": noise(4, 4, 2),
        }.items():
            Image.fromarray(image).save(tmp_path / name)
            with pytest.raises(PairError, match=rf"{name}.*replace each colour by its class id"):
                read_label(tmp_path / name, None)
        Image.fromarray(noise(4, 4)).save(tmp_path / "a.jpg")
        with pytest.raises(PairError, match=r"a\.jpg: JPEG"):
            read_label(tmp_path / "a.jpg", None)
        tifffile.imwrite(tmp_path / "f.tif", np.zeros((4, 4), np.float32))
        with pytest.raises(PairError, match=r"f\.tif.*integers"):
            read_label(tmp_path / "f.tif", None)


class TestOrientation:
    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif", "lzw.tif"])
    def test_as_pillow_turns_it(self, tmp_path: Path, name: str, orientation: int) -> None:
        image, path = Image.fromarray(noise(5, 8, below=3)), tmp_path / name
        options = {"compression": "tiff_lzw"} if name == "lzw.tif" else {}
        image.save(path, **options)
        with Image.open(path) as stored:
            upright = Image.fromarray(np.asarray(stored))
        exif = upright.getexif()
        exif[0x0112] = orientation
        image.save(path, exif=exif, **options)
        expected = np.asarray(ImageOps.exif_transpose(upright))
        read = read_infrared(path, FULL)
        np.testing.assert_array_equal(counts(read, 255), expected)
        assert read.flags.c_contiguous
        assert image_size(path) == expected.shape
        assert (expected.shape == (8, 5)) == (orientation >= 5)
        if path.suffix != ".jpg":
            np.testing.assert_array_equal(read_label(path, None), expected)


class TestPair:
    def test_sizes_must_agree(self, tmp_path: Path) -> None:
        Image.fromarray(noise(4, 6, 3)).save(tmp_path / "v.png")
        Image.fromarray(noise(4, 5)).save(tmp_path / "i.png")
        with pytest.raises(
            PairError, match=r"v\.png is 4 x 6, .*i\.png is 4 x 5 \(height x width\); register"
        ):
            read_pair(PairFiles("a", tmp_path / "v.png", tmp_path / "i.png"), FULL, None)

    def test_absent_bands_stay_none(self, tmp_path: Path) -> None:
        Image.fromarray(noise(4, 6, below=3)).save(tmp_path / "x.png")
        pair = read_pair(PairFiles("a", None, tmp_path / "x.png", tmp_path / "x.png", "night"), FULL, THREE)
        assert pair.visible is None
        assert pair.size == (4, 6)
        assert pair.condition == "night"
        assert read_pair(PairFiles("a", tmp_path / "x.png", None), FULL, None).infrared is None
        with pytest.raises(PairError, match="neither"):
            read_pair(PairFiles("a", None, None), FULL, None)


@pytest.mark.shared_data
class TestRealPairs:
    def test_infrared_in_the_fourth_channel(self, shared_data: Path) -> None:
        paths = sorted((shared_data / "mfnet_samples").glob("*.png"))
        assert paths
        for path in paths:
            pair = read_pair(PairFiles(path.stem, path, path), FULL, None)
            expected = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
            np.testing.assert_array_equal(counts(pair.visible, 255), expected[..., 2::-1])
            np.testing.assert_array_equal(counts(pair.infrared, 255), expected[..., 3])
            assert image_size(path) == expected.shape[:2] == (480, 640)
            with pytest.raises(PairError, match="both visible and infrared"):
                read_visible(path)

    def test_grey_visible(self, shared_data: Path) -> None:
        path = min((shared_data / "cwfid" / "test" / "visible").iterdir())
        expected = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        assert expected.ndim == 2
        read = read_visible(path)
        np.testing.assert_array_equal(counts(read, 255), np.stack([expected] * 3, axis=-1))

    def test_jpeg_pairs_agree_with_opencv(self, shared_data: Path) -> None:
        folder = shared_data / "roadscene"
        for visible in sorted((folder / "visible").iterdir())[:5]:
            infrared = folder / "infrared" / visible.name
            pair = read_pair(PairFiles(visible.stem, visible, infrared), FULL, None)
            expected = cv2.imread(str(visible))[..., ::-1].astype(int)
            assert np.abs(counts(pair.visible, 255) - expected).mean() < 0.5
            np.testing.assert_array_equal(
                counts(pair.infrared, 255), cv2.imread(str(infrared), cv2.IMREAD_UNCHANGED)
            )
