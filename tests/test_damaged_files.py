"""Files that cannot be used: one line that names the file and says the mend, whatever is wrong."""

import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from crossband.errors import PairError
from crossband.pairs.infrared_scaling import InfraredScaling
from crossband.pairs.reading import image_size, read_infrared, read_label, read_visible
from stored_images import counts, noise

FULL = InfraredScaling()


class TestBadFiles:
    def reads(self, path: Path) -> list[str]:
        """The one-line messages of all readers."""
        messages = []
        for read in (read_visible, lambda p: read_infrared(p, FULL), lambda p: read_label(p, None)):
            with pytest.raises(PairError) as caught:
                read(path)
            messages.append(str(caught.value))
        return messages

    @pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif", "lzw.tif", "zip.tif", "deep.png", "a.bmp"])
    @pytest.mark.parametrize("kept", [0, 4, 60, 0.5, 0.9])
    @pytest.mark.filterwarnings("ignore::UserWarning:PIL")
    def test_truncated(self, tmp_path: Path, name: str, kept: float) -> None:
        whole = tmp_path / f"whole-{name}"
        image = Image.fromarray(noise(64, 80, dtype=np.uint8))
        if name == "deep.png":
            cv2.imwrite(str(whole), noise(64, 80, 3, dtype=np.uint16))
        elif name == "zip.tif":
            tifffile.imwrite(whole, noise(64, 80), compression="zlib", rowsperstrip=8)
        else:
            image.save(whole, **({"compression": "tiff_lzw"} if name == "lzw.tif" else {}))
        data = whole.read_bytes()
        path = tmp_path / name
        path.write_bytes(data[: int(kept * len(data)) if isinstance(kept, float) else kept])
        for message in self.reads(path):
            assert message.startswith(f"{path}: ")
            assert "\n" not in message

    def test_a_tiff_header_that_points_behind_the_end(self, tmp_path: Path) -> None:
        path = tmp_path / "a.tif"
        tifffile.imwrite(path, noise(64, 80), rowsperstrip=4)
        with tifffile.TiffFile(path) as tiff:
            tag = tiff.pages.first.tags["StripByteCounts"]
        data = bytearray(path.read_bytes())
        struct.pack_into("<H", data, tag.offset, 65000)  # the tag is there, but is no longer what it was
        path.write_bytes(data)
        with tifffile.TiffFile(path) as tiff:
            assert not np.array_equal(tiff.asarray(), noise(64, 80))  # silently wrong
        assert "does not say where its pixels are" in self.reads(path)[0]

    def test_not_an_image(self, tmp_path: Path) -> None:
        (tmp_path / "a.png").write_text("<html>404</html>")
        assert "not a PNG, JPEG, TIFF or BMP" in self.reads(tmp_path / "a.png")[0]
        assert "no such file" in self.reads(tmp_path / "missing.png")[0]
        assert "is a folder" in self.reads(tmp_path)[0]
        with pytest.raises(PairError, match="no such file"):
            image_size(tmp_path / "missing.png")
        with pytest.raises(PairError, match="not a PNG"):
            image_size(tmp_path / "a.png")

    def test_unusual_kinds_say_the_mend(self, tmp_path: Path) -> None:
        Image.new("CMYK", (4, 4)).save(tmp_path / "cmyk.jpg")
        assert "CMYK" in self.reads(tmp_path / "cmyk.jpg")[0]
        tifffile.imwrite(tmp_path / "pages.tif", noise(3, 8, 8), photometric="minisblack")
        assert "3 pages" in self.reads(tmp_path / "pages.tif")[0]
        tifffile.imwrite(tmp_path / "white.tif", noise(8, 8), photometric="miniswhite")
        assert "zero is white" in self.reads(tmp_path / "white.tif")[0]
        tifffile.imwrite(
            tmp_path / "five.tif", noise(8, 8, 5), photometric="minisblack", planarconfig="contig"
        )
        assert "5 channels" in self.reads(tmp_path / "five.tif")[0]
        frame = Image.fromarray(noise(4, 4))
        frame.save(tmp_path / "moving.png", save_all=True, append_images=[Image.new("L", (4, 4))])
        assert "2 pictures" in self.reads(tmp_path / "moving.png")[0]

    def test_a_tiff_with_overviews_is_one_image(self, tmp_path: Path) -> None:
        image = noise(32, 32)
        with tifffile.TiffWriter(tmp_path / "a.tif") as tiff:
            tiff.write(image, subifds=0)
            tiff.write(image[::2, ::2], subfiletype=1)
        np.testing.assert_array_equal(counts(read_infrared(tmp_path / "a.tif", FULL), 255), image)

    def test_a_phone_jpeg_with_a_second_picture(self, tmp_path: Path) -> None:
        frame = Image.new("L", (8, 8), 90)
        frame.save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[Image.new("L", (8, 8))])
        assert counts(read_infrared(tmp_path / "a.jpg", FULL), 255).mean() == pytest.approx(90, abs=1)
