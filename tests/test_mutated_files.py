"""Every reader against seeded damage: a right answer or one line that names the file, and nothing else."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from crossband.errors import CrossbandError
from crossband.pairs.decoding import decode
from crossband.pairs.folder import read_classes
from crossband.pairs.headers import image_size, read_header
from crossband.pairs.infrared_scaling import InfraredScaling
from crossband.pairs.opening import open_pairs
from crossband.pairs.radiometric import radiometric_size, read_radiometric
from crossband.pairs.reading import read_infrared, read_label, read_visible
from crossband.rig.lens import Lens, read_lens
from crossband.rig.points import read_points
from crossband.rig.rig import read_rig
from crossband.training.options import TrainOptions
from crossband.yaml_files import read_yaml
from fake_trees import mfnet_original
from mutations import damaged, garbled
from radiometric_files import PARAMETERS, dji_jpeg, flir_block, flir_jpeg
from stored_images import noise, png_bytes
from unaligned import a_rig

SEEDS = 60
MINMAX = InfraredScaling("minmax")


def with_pillow(image: np.ndarray, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, format=kind, **options)
    return file.getvalue()


def with_tifffile(image: np.ndarray, **options: object) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, image, **options)
    return file.getvalue()


def as_npy(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, image)
    return file.getvalue()


GREY, DEEP, COLOUR = noise(12, 16), noise(12, 16, dtype=np.uint16), noise(12, 16, 3)
WHOLE: dict[str, bytes] = {
    "grey.png": with_pillow(GREY, "PNG"),
    "deep.png": with_pillow(DEEP, "PNG"),
    "rgb16.png": png_bytes(noise(12, 16, 3, dtype=np.uint16), colour_type=2, depth=16),
    "bits.png": png_bytes(noise(12, 16, below=16), colour_type=0, depth=4),
    "grey.jpg": with_pillow(GREY, "JPEG"),
    "scans.jpg": with_pillow(COLOUR, "JPEG", progressive=True),
    "colour.bmp": with_pillow(COLOUR, "BMP"),
    "strips.tif": with_tifffile(GREY, rowsperstrip=4),
    "float.tif": with_tifffile(DEEP.astype(np.float32)),
    "deflate.tif": with_tifffile(DEEP, compression="zlib", predictor=True),
    "packbits.tif": with_pillow(GREY, "TIFF", compression="packbits"),
    "tiles.tif": with_tifffile(noise(32, 32), tile=(16, 16), compression="zlib"),
    "planar.tif": with_tifffile(COLOUR.transpose(2, 0, 1), photometric="rgb", planarconfig="separate"),
    "big.tif": with_tifffile(DEEP, bigtiff=True),
    "lzw.tif": with_pillow(COLOUR, "TIFF", compression="tiff_lzw"),
    "g4.tif": with_pillow(GREY > 127, "TIFF", compression="group4"),
    "colour.webp": with_pillow(COLOUR, "WEBP", lossless=True),
    "lossy.webp": with_pillow(COLOUR, "WEBP"),
    "deep.npy": as_npy(DEEP),
    "four.npy": as_npy(np.asfortranarray(noise(12, 16, 4))),
    "deep.pgm": b"P5 # by hand\n16 12\n65535\n" + DEEP.astype(">u2").tobytes(),
    "colour.ppm": b"P6\n16 12\n255\n" + COLOUR.tobytes(),
    "flir.jpg": flir_jpeg(
        flir_block(DEEP, parameters=PARAMETERS, visible=with_pillow(COLOUR, "JPEG")),
        with_pillow(COLOUR, "JPEG"),
    ),
    "flir-raw.jpg": flir_jpeg(flir_block(DEEP, png=False), with_pillow(COLOUR, "JPEG")),
    "dji.jpg": dji_jpeg(DEEP, with_pillow(COLOUR, "JPEG")),
}
MEASURED = {"flir.fff": flir_block(DEEP, parameters=PARAMETERS), "flir.jpg": WHOLE["flir.jpg"]}
READERS: dict[str, Callable[[Path], object]] = {
    "decode": decode,
    "visible": read_visible,
    "infrared": lambda path: read_infrared(path, MINMAX),
    "label": lambda path: read_label(path, None),
    "size": image_size,
    "header": read_header,
    "infrared size": lambda path: image_size(path, infrared=True),
    "infrared header": lambda path: read_header(path, infrared=True),
}


def attempt(read: Callable[[Path], object], path: Path) -> tuple[object, str]:
    """What a reader gives and "", or None and its error."""
    try:
        return read(path), ""
    except CrossbandError as error:
        return None, str(error)


def is_a_good_error(message: str, path: Path) -> bool:
    return str(path) in message and "\n" not in message and len(message) < len(str(path)) + 600


def answers(path: Path) -> dict[str, object]:
    """What the readers give; those that refuse must name the file in one line."""
    given = {}
    for name, read in READERS.items():
        given[name], message = attempt(read, path)
        if given[name] is None:
            del given[name]
            assert is_a_good_error(message, path)
    return given


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.filterwarnings("ignore::UserWarning:PIL", "ignore::crossband.errors.CrossbandWarning")
def test_damaged_images(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(WHOLE[name])
    undamaged = set(answers(path))
    assert {"decode", "visible", "size", "header"} <= undamaged or name in ("float.tif", "four.npy")
    refused = 0
    for seed in range(SEEDS):
        path.write_bytes(damaged(WHOLE[name], seed))
        given = answers(path)
        refused += "decode" not in given
        if "decode" in given:
            # A header that says one size and pixels that have another would be silently wrong.
            assert given["size"] == given["decode"].samples.shape[:2]
        if "header" in given:
            assert given["header"].size == given["size"]
            assert min(given["size"]) > 0
        if "infrared" in given:
            assert given["infrared size"] == given["infrared"].shape
        if "infrared header" in given:
            assert given["infrared header"].size == given["infrared size"]
    assert refused > 0


@pytest.mark.parametrize("seed", [2371, 5896])
def test_what_opencv_alone_finds_is_told_by_us_alone(
    tmp_path: Path, seed: int, capfd: pytest.CaptureFixture[str]
) -> None:
    """A first chunk that is another, and data that end early; Pillow takes both."""
    path = tmp_path / "rgb16.png"
    path.write_bytes(damaged(WHOLE["rgb16.png"], seed))
    with pytest.raises(CrossbandError, match="16-bit colours cannot be read"):
        decode(path)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", MEASURED)
def test_damaged_measurements(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    refused = 0
    for seed in range(4 * SEEDS):
        path.write_bytes(damaged(MEASURED[name], seed))
        found, message = attempt(read_radiometric, path)
        refused += bool(message)
        assert not message or is_a_good_error(message, path)
        if found is None:
            continue
        assert found.counts.shape == radiometric_size(path)
        for read in (found.celsius, found.visible):
            answer, message = attempt(lambda _, read=read: read(), path)
            assert "\n" not in message
            assert answer is None or np.isfinite(answer).all()
    assert refused > 0


LENS = Lens((300.0, 302.0), (158.0, 121.0), (-0.3, 0.05, 0.001, -0.002, 0.01))
RIG = a_rig(visible_lens=LENS, depths=(3.0, None))
CALIBRATION = (
    f"camera_matrix: !!opencv-matrix\n   data: {LENS.matrix.ravel().tolist()}\nD: [-0.3, 0.1, 0, 0]\n"
)
POINTS = "visible_x,visible_y,infrared_x,infrared_y\n1.5,2,3,4\n50,60,70,80\n"


def calibration_archive() -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, K=LENS.matrix, D=LENS.distortion)
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "read", "damage"),
    [
        ("lens.npz", read_lens, lambda seed: damaged(calibration_archive(), seed)),
        ("lens.yaml", read_lens, lambda seed: garbled(CALIBRATION, seed)),
        ("points.csv", read_points, lambda seed: garbled(POINTS, seed)),
        ("rig.json", read_rig, lambda seed: garbled(RIG.to_json(), seed)),
    ],
)
def test_damaged_rigs_and_what_they_are_made_of(
    tmp_path: Path, name: str, read: Callable[[Path], object], damage: Callable[[int], bytes]
) -> None:
    path = tmp_path / name
    refused = 0
    for seed in range(4 * SEEDS):
        path.write_bytes(damage(seed))
        _, message = attempt(read, path)
        refused += bool(message)
        assert not message or is_a_good_error(message, path)
    assert refused > 0


CLASSES = "names: [road, car, tree]\npalette: [[0, 0, 0], [255, 0, 10], [9, 9, 9]]\nignore: [2]\n"
OPTIONS = TrainOptions(system="csknet", data="scenes,train=4", out="run", recipe={"epochs": 3}).to_yaml()


@pytest.mark.parametrize(
    ("read", "text"), [(read_yaml, OPTIONS), (TrainOptions.from_yaml, OPTIONS), (read_classes, CLASSES)]
)
def test_garbled_yaml(tmp_path: Path, read: Callable[[Path], object], text: str) -> None:
    path = tmp_path / "a.yaml"
    refused = 0
    for seed in range(4 * SEEDS):
        path.write_bytes(garbled(text, seed))
        _, message = attempt(read, path)
        refused += bool(message)
        assert not message or is_a_good_error(message, path)
    assert 0 < refused < 4 * SEEDS


@pytest.mark.parametrize("listing", ["list", "conditions"])
def test_garbled_lists(tmp_path: Path, listing: str) -> None:
    if listing == "list":
        mfnet_original(tmp_path)
        path = tmp_path / "train.txt"
    else:
        for band in ("visible", "infrared"):
            (tmp_path / "train" / band).mkdir(parents=True)
            (tmp_path / "train" / band / "a.png").write_bytes(WHOLE["grey.png"])
        path = tmp_path / "train" / "conditions.csv"
        path.write_text("name,condition\na,day\n")
    source = "mfnet:{}" if listing == "list" else "folder:{}"
    text = path.read_text()
    for seed in range(SEEDS):
        path.write_bytes(garbled(text, seed))
        pairs, message = attempt(lambda root: open_pairs(source.format(root), "train"), tmp_path)
        assert not message or is_a_good_error(message, tmp_path)
        for files in pairs.files if pairs else ():
            for image in (files.visible, files.infrared):
                assert image.resolve().is_relative_to(tmp_path)
