"""Radiometric files: the measurement is what is read, and degrees are what the camera's own numbers say."""

import builtins
import io
import math
import re
import struct
import warnings
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from crossband.errors import CrossbandWarning, OptionError, PairError
from crossband.pairs.band_summary import summarise_files
from crossband.pairs.base import PairFiles
from crossband.pairs.check import check_source
from crossband.pairs.export import export_folder
from crossband.pairs.headers import image_size, read_header
from crossband.pairs.infrared_scaling import InfraredScaling
from crossband.pairs.opening import open_pairs
from crossband.pairs.radiometric import Alignment, Conditions, radiometric_size, read_radiometric
from crossband.pairs.reading import read_infrared, read_pair, read_visible, stored_levels
from radiometric_files import O_CONSTANT, PARAMETERS, dji_jpeg, flir_block, flir_jpeg, jpeg
from stored_images import counts as as_counts
from stored_images import noise
from unaligned import a_rig

COUNTS = np.random.default_rng(1).integers(5000, 12000, (6, 8)).astype(np.uint16)
PICTURE = jpeg(noise(12, 16, 3))
FULL, MINMAX = InfraredScaling(), InfraredScaling("minmax")


def camera_counts(celsius: float, **other: float) -> float:
    """What a camera with `PARAMETERS` counts for an object: the radiation on its way, forwards."""
    p = {**PARAMETERS, **other}

    def black_body(kelvin: float) -> float:
        return p["r1"] / (p["r2"] * (math.exp(p["b"] / kelvin) - p["f"])) - O_CONSTANT

    air = p["atmosphere"] - 273.15
    water = math.sqrt(
        p["humidity"] * math.exp(1.5587 + 0.06939 * air - 0.00027816 * air**2 + 6.8455e-7 * air**3)
    )
    root = math.sqrt(p["distance"])
    through = p["x"] * math.exp(-root * (p["alpha1"] + p["beta1"] * water))
    through += (1 - p["x"]) * math.exp(-root * (p["alpha2"] + p["beta2"] * water))
    leaves = p["emissivity"] * black_body(celsius + 273.15)
    leaves += (1 - p["emissivity"]) * black_body(p["reflected"])
    arrives = through * leaves + (1 - through) * black_body(p["atmosphere"])
    return p["window_transmission"] * arrives + (1 - p["window_transmission"]) * black_body(p["window"])


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("png", [True, False])
@pytest.mark.filterwarnings("ignore::crossband.errors.CrossbandWarning")
def test_flir_counts_are_read_and_not_the_picture(tmp_path: Path, png: bool) -> None:
    block = flir_block(COUNTS, png=png, parameters=PARAMETERS)
    for path in (
        written(tmp_path / "a.jpg", flir_jpeg(block, PICTURE)),
        written(tmp_path / "a.fff", block),
    ):
        assert radiometric_size(path) == image_size(path, infrared=True) == (6, 8)
        np.testing.assert_array_equal(as_counts(read_infrared(path, FULL), 65535), COUNTS)
        header = read_header(path, infrared=True)
        assert (header.size, header.bits, header.channels) == ((6, 8), 16, 1)
    assert image_size(tmp_path / "a.jpg") == (12, 16)
    assert read_visible(tmp_path / "a.jpg").shape == (12, 16, 3)
    with pytest.raises(PairError, match="FLIR's own format"):
        read_visible(tmp_path / "a.fff")


@pytest.mark.filterwarnings("ignore::crossband.errors.CrossbandWarning")
def test_dji_counts_are_read_but_no_degrees(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jpg", dji_jpeg(COUNTS, jpeg(noise(6, 8))))
    np.testing.assert_array_equal(as_counts(read_infrared(path, FULL), 65535), COUNTS)
    with pytest.raises(PairError, match=r"\(DJI\) does not hold the constants .*fixed\(low, high\)"):
        read_infrared(path, InfraredScaling.parse("celsius(0, 40)"))


def test_other_segments_of_that_number_are_no_measurement(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jpg", dji_jpeg(COUNTS[:, :7], jpeg(noise(6, 8))))
    assert read_radiometric(path) is None
    assert read_infrared(path, FULL).shape == (6, 8)


@pytest.mark.parametrize(
    "other",
    [
        {},
        {"emissivity": 1.0, "distance": 0.0, "window_transmission": 1.0},
        {"distance": 80.0, "humidity": 1.0},
    ],
)
def test_degrees_against_the_way_of_the_radiation(tmp_path: Path, other: dict[str, float]) -> None:
    celsius = np.linspace(-20, 120, 48).reshape(6, 8)
    counts = np.vectorize(lambda degrees: camera_counts(degrees, **other))(celsius)
    block = flir_block(np.rint(counts).astype(np.uint16), parameters={**PARAMETERS, **other})
    found = read_radiometric(written(tmp_path / "a.jpg", flir_jpeg(block, PICTURE)))
    assert found is not None
    # Half a count is 0.013 degrees at -20.
    np.testing.assert_allclose(found.celsius(), celsius, atol=0.03)


def test_degrees_under_other_conditions(tmp_path: Path) -> None:
    other = {"emissivity": 0.8, "reflected": 263.15, "distance": 40.0}
    counts = np.full((6, 8), round(camera_counts(30.0, **other)), np.uint16)
    counts[0, 0] = 0
    path = written(tmp_path / "a.jpg", flir_jpeg(flir_block(counts, parameters=PARAMETERS), PICTURE))
    found = read_radiometric(path)
    assert found is not None
    conditions = Conditions(emissivity=0.8, reflected=-10.0, distance=40.0)
    np.testing.assert_allclose(found.celsius(conditions)[1:], 30, atol=0.02)
    assert abs(float(found.celsius()[1, 1]) - 30) > 1
    # Below all that the formula knows, and still a number.
    assert found.celsius()[0, 0] == pytest.approx(-273.15)
    rule = InfraredScaling.parse("celsius(20, 40, emissivity=0.8, reflected=-10, distance=40)")
    with pytest.warns(CrossbandWarning, match="radiometric file"):
        np.testing.assert_allclose(read_infrared(path, rule)[1:], 0.5, atol=1e-3)


def test_the_rule_in_degrees() -> None:
    for text in ("celsius(-10, 40)", "celsius(0, 40, emissivity=0.97, distance=30)"):
        assert str(InfraredScaling.parse(text)) == text
    assert InfraredScaling.parse("celsius(0, 40)").degrees == Conditions()
    assert InfraredScaling.parse("fixed(0, 40)").degrees is None
    for wrong in (
        *("celsius", "celsius(4)", "celsius(40, 0)", "celsius(0, 40, humidity=1)", "celsius(0, 40, 50)"),
        *("celsius(0, 40, emissivity=0)", "celsius(0, 40, emissivity=2)", "celsius(0, 40, reflected=-300)"),
        *("celsius(0, 40, distance=-1)", "celsius(0, 40, distance=x)", "fixed(0, 40, distance=1)"),
        *("celsius(0, 40, distance=1, distance=2)", "celsius(0, 40, reflected=nan)"),
    ):
        with pytest.raises(OptionError):
            InfraredScaling.parse(wrong)


def test_degrees_of_files_that_have_none(tmp_path: Path) -> None:
    rule = InfraredScaling.parse("celsius(0, 40)")
    np.save(tmp_path / "a.npy", np.array([[10.0, 30.0]]))
    np.testing.assert_allclose(read_infrared(tmp_path / "a.npy", rule), [[0.25, 0.75]])
    path = written(tmp_path / "a.jpg", PICTURE)
    with pytest.raises(PairError, match=re.escape(f"{path}: holds no temperatures")):
        read_infrared(path, rule)
    # A camera that leaves its constants at zero, or makes no sense of them.
    for parameters in (dict.fromkeys(PARAMETERS, 0.0), {**PARAMETERS, "emissivity": math.nan}, None):
        block = flir_block(COUNTS, parameters=parameters)
        found = read_radiometric(written(path, flir_jpeg(block, PICTURE)))
        assert found is not None
        with pytest.raises(PairError, match="does not hold the constants"):
            found.celsius()


def test_the_note_is_given_once_for_a_folder(tmp_path: Path) -> None:
    one, two = (written(tmp_path / name, dji_jpeg(COUNTS, jpeg(noise(6, 8)))) for name in ("a.jpg", "b.jpg"))
    with pytest.warns(CrossbandWarning, match=r"a\.jpg: a radiometric file \(DJI\)"):
        read_infrared(one, MINMAX)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_infrared(two, MINMAX)


def test_visible_image_and_alignment(tmp_path: Path) -> None:
    visible = jpeg(np.full((30, 40, 3), (10, 200, 60), np.uint8))
    block = flir_block(COUNTS, visible=visible)
    found = read_radiometric(written(tmp_path / "a.fff", block))
    assert found is not None
    assert found.alignment == Alignment(1.5, 4, -2)
    image = found.visible()
    assert image is not None
    assert image.shape == (30, 40, 3)
    np.testing.assert_allclose(image[15, 20], (10, 200, 60), atol=3)
    # The middle is (20, 15) + (4, -2); a visible image 1.5 times as wide shows 26.7 x 20 of its pixels.
    left, top, right, bottom = found.alignment.crop(30, 40)
    assert (right - left, bottom - top) == pytest.approx((40 / 1.5, 20))
    assert ((left + right) / 2, (top + bottom) / 2) == pytest.approx((24, 13))


@pytest.mark.filterwarnings("ignore::crossband.errors.CrossbandWarning")
def test_orientation_turns_the_measurement_with_the_picture(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = dji_jpeg(COUNTS, jpeg(noise(6, 8), exif=exif))
    path = written(tmp_path / "a.jpg", data)
    turned = as_counts(read_infrared(path, FULL), 65535)
    np.testing.assert_array_equal(turned, np.rot90(COUNTS, -1))
    assert image_size(path, infrared=True) == image_size(path) == turned.shape


@pytest.mark.filterwarnings("ignore::crossband.errors.CrossbandWarning")
def test_damage_is_one_line(tmp_path: Path) -> None:
    whole = flir_jpeg(flir_block(COUNTS, parameters=PARAMETERS), PICTURE)
    marks = [match.start() for match in re.finditer(re.escape(b"FLIR\0\1"), whole)]
    length = struct.unpack_from(">H", whole, marks[1] - 2)[0]
    without_one = whole[: marks[1] - 4] + whole[marks[1] - 2 + length :]
    ls = flir_block(COUNTS, png=False).replace(COUNTS.astype("<u2").tobytes()[:4], b"\xff\xd8\xff\xf7")
    for data, why in (
        (without_one, "segments of its thermal measurement"),
        (ls, "JPEG-LS"),
        (flir_block(COUNTS)[:-30], "cut off"),
        (b"FFF\0" + bytes(80), "unknown version"),
    ):
        path = written(tmp_path / "a.jpg", data)
        with pytest.raises(PairError, match=why) as caught:
            read_infrared(path, MINMAX)
        assert str(caught.value).startswith(f"{path}: ")


def test_the_limit_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    block = flir_block(COUNTS, png=False)
    claims = block.replace(struct.pack("<HHH", 2, 8, 6), struct.pack("<HHH", 2, 60000, 60000))
    with pytest.raises(PairError, match="more than the limit"):
        radiometric_size(written(tmp_path / "a.jpg", flir_jpeg(claims, PICTURE)))
    monkeypatch.setenv("CROSSBAND_MAX_IMAGE_BYTES", "90")
    with pytest.raises(PairError, match="more than the limit"):
        read_radiometric(written(tmp_path / "a.jpg", flir_jpeg(block, PICTURE)))


@pytest.mark.filterwarnings("ignore::crossband.errors.CrossbandWarning")
def test_a_folder_of_radiometric_files(tmp_path: Path) -> None:
    for band in ("visible", "infrared"):
        (tmp_path / "in" / band).mkdir(parents=True)
    Image.fromarray(noise(6, 8, 3)).save(tmp_path / "in" / "visible" / "a.png")
    written(
        tmp_path / "in" / "infrared" / "a.jpg",
        flir_jpeg(flir_block(COUNTS, parameters=PARAMETERS), PICTURE),
    )
    source = f"folder:{tmp_path / 'in'}"
    report = check_source(source)
    assert report.ok, report.to_text()
    assert "radiometric, 16-bit" in report.to_text()
    infrared = summarise_files(open_pairs(source, "all").files).infrared  # type: ignore[attr-defined]
    assert infrared is not None
    assert infrared.type == "uint16"
    export_folder(source, tmp_path / "out")
    stored = np.asarray(Image.open(tmp_path / "out" / "all" / "infrared" / "a.png"))
    np.testing.assert_array_equal(stored, COUNTS)
    export_folder(source, tmp_path / "degrees", infrared_scaling="celsius(-60, 60)")
    stored = np.asarray(Image.open(tmp_path / "degrees" / "all" / "infrared" / "a.png"))
    found = read_radiometric(tmp_path / "in" / "infrared" / "a.jpg")
    assert found is not None
    np.testing.assert_allclose(stored * (120 / 65535) - 60, np.clip(found.celsius(), -60, 60), atol=0.01)
    scaling = open_pairs(source, "all", infrared_scaling="auto").scaling
    assert scaling.rule == "fixed"


def both_bands(path: Path, visible: np.ndarray, alignment: tuple[float, int, int]) -> PairFiles:
    """A FLIR file that is given as both bands."""
    block = flir_block(COUNTS, visible=jpeg(visible, subsampling=0), alignment=alignment)
    written(path, flir_jpeg(block, PICTURE))
    return PairFiles("a", path, path)


@pytest.mark.filterwarnings("ignore::crossband.errors.CrossbandWarning")
class TestOneFileAsBothBands:
    def test_visible_is_the_part_that_infrared_sees(self, tmp_path: Path) -> None:
        """Twice as wide as infrared, whose middle lies 4 to the right and 2 above: a quarter, by hand."""
        visible = np.zeros((24, 32, 3), np.uint8)
        rows, columns = slice(12 - 6 - 2, 12 + 6 - 2), slice(16 - 8 + 4, 16 + 8 + 4)
        visible[rows, columns] = 200
        files = both_bands(tmp_path / "a.jpg", visible, (2.0, 4, -2))
        pair = read_pair(files, FULL, None)
        assert pair.visible is not None
        assert pair.valid is None
        # Its border is blended with what lies beside it.
        assert abs(pair.visible[1:-1, 1:-1] - 200 / 255).max() < 0.12
        assert pair.visible.min() > 0.5
        np.testing.assert_array_equal(as_counts(pair.infrared, 65535), COUNTS)
        moved = read_pair(both_bands(tmp_path / "b.jpg", visible, (2.0, -2, -2)), FULL, None).visible
        assert moved is not None
        # 6 of its columns to the left: 3 of infrared's are dark.
        assert moved[:, :2].max() < 0.1
        assert moved[:, 4:].min() > 0.5
        assert stored_levels(files, "visible").shape == (6, 8, 3)
        assert stored_levels(files, "visible", unaligned=True).shape == (24, 32, 3)
        np.testing.assert_array_equal(stored_levels(files, "infrared")[..., 0], COUNTS)

    def test_what_the_visible_image_does_not_show_is_not_valid(self, tmp_path: Path) -> None:
        """The part reaches 4 of its 16 columns beyond the right edge, which are 2 of infrared's 8."""
        files = both_bands(tmp_path / "a.jpg", noise(24, 32, 3), (2.0, 12, 0))
        label = np.ones((6, 8), np.uint8)
        Image.fromarray(label).save(tmp_path / "label.png")
        pair = read_pair(PairFiles("a", files.visible, files.infrared, tmp_path / "label.png"), FULL, None)
        assert pair.valid is not None
        assert pair.label is not None
        np.testing.assert_array_equal(pair.valid, np.tile(np.arange(8) < 6, (6, 1)))
        np.testing.assert_array_equal(pair.label == 255, ~pair.valid)

    def test_the_file_is_opened_once_for_both(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        files = both_bands(tmp_path / "a.jpg", noise(24, 32, 3), (2.0, 0, 0))
        opened: list[str] = []
        plain = io.open

        def counting(file: Any, *arguments: Any, **named: Any) -> Any:
            opened.append(str(file))
            return plain(file, *arguments, **named)

        # pathlib calls the one, Pillow the other.
        monkeypatch.setattr(io, "open", counting)
        monkeypatch.setattr(builtins, "open", counting)
        read_pair(files, FULL, None)
        assert opened == [str(tmp_path / "a.jpg")]

    def test_both_are_turned_as_the_picture_is(self, tmp_path: Path) -> None:
        visible = noise(24, 32, 3)
        files = both_bands(tmp_path / "a.jpg", visible, (2.0, 0, 0))
        straight = read_pair(files, FULL, None)
        exif = Image.Exif()
        exif[0x0112] = 6
        block = flir_block(COUNTS, visible=jpeg(visible, subsampling=0), alignment=(2.0, 0, 0))
        path = written(tmp_path / "b.jpg", flir_jpeg(block, jpeg(noise(12, 16, 3), exif=exif)))
        turned = read_pair(PairFiles("b", path, path), FULL, None)
        for band in ("visible", "infrared"):
            np.testing.assert_array_equal(getattr(turned, band), np.rot90(getattr(straight, band), -1))

    def test_it_is_told_once_that_it_holds_at_one_distance(self, tmp_path: Path) -> None:
        files = both_bands(tmp_path / "a.jpg", noise(24, 32, 3), (2.0, 0, 0))
        with pytest.warns(CrossbandWarning, match="holds at one distance; `crossband align --check`"):
            read_pair(files, FULL, None)
        with warnings.catch_warnings(record=True) as told:
            read_pair(files, FULL, None)
        assert not told

    def test_a_folder_is_checked_exported_and_brought_together_by_a_rig(self, tmp_path: Path) -> None:
        (tmp_path / "in").mkdir()
        both_bands(tmp_path / "in" / "a.jpg", noise(24, 32, 3), (2.0, 0, 0))
        source = f"folder:{tmp_path / 'in'},visible=.,infrared=."
        report = check_source(source)
        assert report.ok, report.to_text()
        assert dict(report.splits[0].sizes) == {(6, 8): 1}
        export_folder(source, tmp_path / "out")
        assert Image.open(tmp_path / "out" / "all" / "visible" / "a.png").size == (8, 6)
        four_times = (4.0, 0.0, 0.0), (0.0, 4.0, 0.0), (0.0, 0.0, 1.0)
        rig = a_rig(homography=four_times, visible_size=(24, 32), infrared_size=(6, 8))
        (tmp_path / "rig.json").write_text(rig.to_json(), encoding="utf-8")
        pair = open_pairs(f"{source},rig={tmp_path / 'rig.json'}", "all")[0]
        assert pair.size == (24, 32)
        assert check_source(f"{source},rig={tmp_path / 'rig.json'}").ok

    def test_the_check_follows_a_link_from_band_to_band(self, tmp_path: Path) -> None:
        (tmp_path / "visible").mkdir()
        both_bands(tmp_path / "visible" / "a.jpg", noise(24, 32, 3), (2.0, 0, 0))
        (tmp_path / "infrared").symlink_to("visible")
        report = check_source(f"folder:{tmp_path}")
        assert report.ok, report.to_text()
        assert [*report.splits[0].sizes] == [COUNTS.shape]

    @pytest.mark.parametrize(
        ("visible", "alignment", "told"),
        [
            (None, (2.0, 0, 0), "holds no visible image"),
            (noise(24, 32, 3), (0.0, 0, 0), "does not say how its visible image lies"),
            (noise(24, 32, 3), (2.0, 3000, 0), "lays its visible image beside"),
            (noise(24, 32, 3), (0.2, 0, 0), "lays its visible image beside"),
        ],
    )
    def test_what_cannot_be_laid_over(
        self,
        tmp_path: Path,
        visible: np.ndarray | None,
        alignment: tuple[float, int, int],
        told: str,
    ) -> None:
        inside = None if visible is None else jpeg(visible)
        path = written(
            tmp_path / "a.jpg", flir_jpeg(flir_block(COUNTS, visible=inside, alignment=alignment), PICTURE)
        )
        with pytest.raises(PairError, match=f"a.jpg: .*{told}"):
            read_pair(PairFiles("a", path, path), FULL, None)


def test_a_cameras_own_numbers(shared_data: Path) -> None:
    """A T650sc writes which counts its picture spans, and in EXIF which temperatures, in whole kelvin."""
    path = shared_data / "rig" / "flir_t650sc" / "plant.jpg"
    if not path.is_file():
        pytest.skip(f"no {path}")
    with Image.open(path) as image:
        exif = image.info["exif"][6:]
        notes = image.getexif().get_ifd(0x8769)[0x927C]
    told = {}
    for place in range(2, 2 + 12 * struct.unpack_from("<H", notes)[0], 12):
        tag, kind, _, offset = struct.unpack_from("<HHII", notes, place)
        if kind == 5:
            over, under = struct.unpack_from("<II", exif, offset)
            told[tag] = over / under
    hottest, coldest = told[1], told[2]
    found = read_radiometric(path)
    assert found is not None
    assert found.radiometry is not None
    # The median and the range of counts, 13310 and 8380, are in the file too (ExifTool: RawValueMedian, ...).
    spanned = np.array([13310 - 8380 // 2, 13310 + 8380 // 2], np.uint16)
    kelvin = found.radiometry.celsius(spanned) + 273.15
    np.testing.assert_allclose(kelvin, (coldest, hottest), atol=0.5)


def test_a_cameras_own_composed_picture(shared_data: Path) -> None:
    """The crop lies where the camera's picture shows the edges of its visible image."""
    path = shared_data / "rig" / "flir_one_edge" / "beech1_0.jpg"
    if not path.is_file():
        pytest.skip(f"no {path}")
    found = read_radiometric(path)
    assert found is not None
    visible, alignment = found.visible(), found.alignment
    assert visible is not None
    assert alignment is not None
    composed = cv2.cvtColor(np.asarray(Image.open(path).convert("RGB")), cv2.COLOR_RGB2GRAY)
    box = alignment.crop(*visible.shape[:2])
    crop = Image.fromarray(visible).convert("L").resize(composed.shape[::-1], box=box)
    edges = [
        cv2.Laplacian(cv2.GaussianBlur(np.float32(image), (0, 0), 2), cv2.CV_32F)
        for image in (np.asarray(crop), composed)
    ]
    shift, _ = cv2.phaseCorrelate(*edges)
    assert max(map(abs, shift)) < 1


def test_other_cameras(shared_data: Path) -> None:
    folder = shared_data / "rig" / "dji_h20t"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    for path in sorted(folder.glob("*.JPG")):
        found = read_radiometric(path)
        assert found is not None
        assert (found.maker, found.counts.shape) == ("DJI", (512, 640))
        # Counts and the picture that shows them agree: its brightness rises with them.
        with Image.open(path) as image:
            shown = np.asarray(image.convert("L"), np.float64)
        assert abs(np.corrcoef(shown.ravel(), found.counts.ravel())[0, 1]) > 0.6
