"""Writing: what is written reads back, and nothing is ever left half-written."""

import csv
import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from crossband.errors import OptionError
from crossband.pairs.base import Classes
from crossband.pairs.infrared_scaling import InfraredScaling
from crossband.pairs.reading import read_infrared, read_label, read_visible
from crossband.pairs.writing import csv_text, plain_cell, replacing, write_image, write_label, write_text
from crossband.systems.base import EpochRow
from crossband.training.curves import read_curves, write_curves
from crossband.words import IGNORE_INDEX
from stored_images import counts, noise

FULL = InfraredScaling()
THREE = Classes(("soil", "crop", "weed"), ((0, 0, 0), (0, 255, 0), (255, 0, 0)))


class TestWriting:
    def test_label_round_trips_with_its_palette(self, tmp_path: Path) -> None:
        ids = noise(9, 7, below=3)
        ids[0, 0] = IGNORE_INDEX
        write_label(tmp_path / "new" / "a.png", ids, THREE.palette)
        np.testing.assert_array_equal(read_label(tmp_path / "new" / "a.png", THREE), ids)
        with Image.open(tmp_path / "new" / "a.png") as image:
            assert image.mode == "P"
            colours = np.asarray(image.convert("RGB"))
        np.testing.assert_array_equal(colours[ids == 1], np.broadcast_to((0, 255, 0), (np.sum(ids == 1), 3)))
        assert colours[0, 0].any()

    @pytest.mark.parametrize("name", ["a.png", "a.tif", "a.bmp", "a.jpg"])
    def test_image_round_trips(self, tmp_path: Path, name: str) -> None:
        image = np.full((16, 16, 3), (200, 100, 50), np.uint8)
        write_image(tmp_path / name, image)
        assert np.abs(counts(read_visible(tmp_path / name), 255) - image).max() <= (
            2 if name == "a.jpg" else 0
        )

    def test_16_bit_grey_round_trips(self, tmp_path: Path) -> None:
        image = noise(9, 7, dtype=np.uint16)
        for name in ("a.png", "a.tif"):
            write_image(tmp_path / name, image)
            np.testing.assert_array_equal(counts(read_infrared(tmp_path / name, FULL), 65535), image)
        with pytest.raises(OptionError, match="8 bits"):
            write_image(tmp_path / "a.jpg", image)

    def test_wrong_suffix_and_arrays(self, tmp_path: Path) -> None:
        with pytest.raises(OptionError, match=r"\.gif"):
            write_image(tmp_path / "a.gif", noise(4, 4))
        with pytest.raises(ValueError, match="float64"):
            write_image(tmp_path / "a.png", np.zeros((4, 4)))
        with pytest.raises(ValueError, match="int64"):
            write_label(tmp_path / "a.png", np.full((4, 4), 256), THREE.palette)
        assert not list(tmp_path.iterdir())

    def test_text(self, tmp_path: Path) -> None:
        write_text(tmp_path / "a.txt", "m² ± 1\n")
        assert (tmp_path / "a.txt").read_bytes() == "m² ± 1\n".encode()

    def test_a_failure_leaves_the_old_file(self, tmp_path: Path) -> None:
        write_text(tmp_path / "a.txt", "old")

        def fail_halfway() -> None:
            with replacing(tmp_path / "a.txt") as temporary:
                temporary.write_text("ne")
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            fail_halfway()
        assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
        assert (tmp_path / "a.txt").read_text() == "old"

    def test_a_place_that_cannot_be_written(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        (tmp_path / "folder").mkdir()
        for path in (tmp_path / "file" / "a.txt", tmp_path / "folder", Path(), Path("/")):
            with pytest.raises(OptionError, match="cannot write"):
                write_text(path, "x")
        assert sorted(os.listdir(tmp_path)) == ["file", "folder"]

    @pytest.mark.parametrize("mode", [0o600, 0o640, 0o444, 0o755])
    def test_permissions_stay(self, tmp_path: Path, mode: int) -> None:
        path = tmp_path / "a.txt"
        path.write_text("old")
        path.chmod(mode)
        seen = []
        with replacing(path) as temporary:
            temporary.write_text("new")
            seen.append(temporary.stat().st_mode & 0o077)
        assert seen == [0]  # never open to others while it is written
        assert path.read_text() == "new"
        assert path.stat().st_mode & 0o777 == mode

    def test_a_new_file_follows_the_umask(self, tmp_path: Path) -> None:
        before = os.umask(0o027)
        try:
            write_text(tmp_path / "a.txt", "x")
        finally:
            os.umask(before)
        assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o640

    def test_the_longest_name(self, tmp_path: Path) -> None:
        write_text(tmp_path / ("a" * 255), "x")
        assert [path.name for path in tmp_path.iterdir()] == ["a" * 255]
        with pytest.raises(OptionError, match="too long"):
            write_text(tmp_path / ("a" * 256), "x")

    def test_the_first_error_is_told(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: object, **__: object) -> None:
            raise PermissionError(13, "cannot remove")

        def write_in_vain() -> None:
            with replacing(tmp_path / "a.txt") as temporary:
                temporary.write_text("x")
                monkeypatch.setattr(Path, "unlink", refuse)
                raise OSError(28, "No space left on device")

        with pytest.raises(OptionError, match=r"a\.txt: No space left on device"):
            write_in_vain()

    def test_cells_are_no_formulas(self) -> None:
        texts = [
            "=1+1",
            "+1+1",
            "-x",
            "@a",
            "\tb",
            "-1-1",
            "plain",
            "'quoted",
            "a=b",
            "",
            "'=x",
            "''-x",
            "-4.00",
        ]
        rows = list(csv.DictReader(io.StringIO(csv_text(("name",), [{"name": text} for text in texts]))))
        cells = [row["name"] for row in rows]
        assert cells[:6] == [f"'{text}" for text in texts[:6]]
        assert cells[6:10] == texts[6:10]
        assert [plain_cell(cell) for cell in cells] == texts

    def test_cells_of_numbers_stay_numbers(self) -> None:
        row = {"a": -1.5, "b": 2, "c": None, "e": "-4.0000", "f": "+0.5"}
        assert csv_text("abcdef", [row]) == "a,b,c,d,e,f\n-1.5,2,,,-4.0000,+0.5\n"

    def test_curves_read_back(self, tmp_path: Path) -> None:
        rows = [EpochRow("=a", 1, 0.5, {"loss": -1.5}), EpochRow("b", 2, 0.5)]
        write_curves(tmp_path, rows)
        assert "\n'=a,1,0.5,-1.5," in (tmp_path / "curves.csv").read_text()
        assert read_curves(tmp_path) == rows
