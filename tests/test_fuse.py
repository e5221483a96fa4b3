"""``crossband fuse`` with systems that need no training, as a user meets it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from command_line import refused
from crossband.cli import main
from crossband.errors import OptionError, WeightsError
from crossband.loading import load
from crossband.pairs.base import Classes, Listed, Pair, PairView
from crossband.pairs.opening import open_pairs
from crossband.pictures import stretched
from crossband.predicting import fuse_files
from crossband.systems import list_systems, system_class
from crossband.weights import make_card, save_run
from tiny_systems import CLASSES, tiny

READY = ["average", "guided", "laplacian", "learned", "maximum"]
SIZES = {"day/a": (20, 30), "day/b": (17, 41), "c": (1, 1)}


def deep_heat() -> np.ndarray:
    """16-bit infrared that uses 6 % of its range."""
    deep = np.random.default_rng(0).integers(5000, 9001, (9, 14), np.uint16)
    deep[0, :2] = 5000, 9000
    return deep


AUTO_LIMITS = tuple(float(f"{limit:.6g}") for limit in np.percentile(deep_heat(), (0.1, 99.9)))


def save(image: np.ndarray, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)
    return path


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def read(path: Path) -> np.ndarray:
    image = Image.open(path)
    assert image.format == "PNG"
    assert image.mode == "RGB"
    return np.asarray(image)


def average(visible: np.ndarray, infrared: np.ndarray) -> np.ndarray:
    """Worked by hand. visible: (H, W, 3), infrared: (H, W), both in [0, 1]; gives 0..255."""
    luma = visible @ [0.299, 0.587, 0.114]
    return 255 * np.clip(visible + ((infrared - luma) / 2)[..., None], 0, 1)


def check(picture: np.ndarray, wanted: np.ndarray) -> None:
    assert picture.shape == wanted.shape
    assert np.abs(picture - wanted).max() <= 0.5 + 1e-3


@pytest.fixture
def visible(tmp_path: Path) -> Path:
    """Three colour images, nested and of different sizes; one is a JPEG."""
    for seed, (name, size) in enumerate(SIZES.items()):
        save(noise(*size, 3, seed=seed), tmp_path / "visible" / f"{name}{'.jpg' if seed == 1 else '.png'}")
    return tmp_path / "visible"


@pytest.fixture
def infrared(tmp_path: Path) -> Path:
    for seed, (name, size) in enumerate(SIZES.items(), start=10):
        save(noise(*size, seed=seed), tmp_path / "infrared" / f"{name}.png")
    return tmp_path / "infrared"


def fuse(system: str, visible: Path | None, infrared: Path | None, out: Path, *more: str) -> list[str]:
    bands = (("--visible", visible), ("--infrared", infrared))
    given = [text for option, path in bands if path is not None for text in (option, str(path))]
    return ["fuse", system, *given, "--out", str(out), "--device", "cpu", *more]


def below(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


# --- what is written


@pytest.mark.parametrize("name", READY)
def test_folders_give_pictures_of_the_same_names_and_sizes(
    name: str, visible: Path, infrared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(fuse(name, visible, infrared, tmp_path / "out")) == 0
    assert f"written: 3 fused pictures in {tmp_path / 'out'}" in capsys.readouterr().out
    assert below(tmp_path / "out") == ["c.png", "day/a.png", "day/b.png", "manifest.json", "results.csv"]
    predictor = load(name, device="cpu")
    for path in visible.rglob("*.*"):
        picture = read(tmp_path / "out" / path.relative_to(visible).with_suffix(".png"))
        partner = (infrared / path.relative_to(visible)).with_suffix(".png")
        assert np.array_equal(picture, predictor(path, partner).fused)
        assert picture.shape[:2] == np.asarray(Image.open(partner)).shape


def test_two_files_of_different_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    colour, heat = noise(9, 14, 3), noise(9, 14, seed=1)
    left, right = save(colour, tmp_path / "left.png"), save(heat, tmp_path / "right.png")
    assert main(fuse("average", left, right, tmp_path / "new" / "out")) == 0
    assert "written: 1 fused picture in" in capsys.readouterr().out
    assert below(tmp_path / "new" / "out") == ["left.png", "manifest.json", "results.csv"]
    check(read(tmp_path / "new" / "out" / "left.png"), average(colour / 255, heat / 255))


@pytest.mark.parametrize("kind", ["grey", "grey16", "jpeg", "4-channel"])
def test_every_kind_of_visible_image(kind: str, tmp_path: Path) -> None:
    heat = noise(9, 14, seed=1)
    path, partner = tmp_path / "image.png", save(heat, tmp_path / "infrared.png")
    if kind == "grey":
        save(noise(9, 14), path)
        colour = np.repeat(noise(9, 14)[..., None] / 255, 3, axis=2)
    elif kind == "grey16":
        deep = np.random.default_rng(0).integers(0, 65536, (9, 14), np.uint16)
        save(deep, path)
        colour = np.repeat(deep[..., None] / 65535, 3, axis=2)
    elif kind == "jpeg":
        path = save(noise(9, 14, 3), tmp_path / "image.jpeg")
        colour = np.asarray(Image.open(path)) / 255
    else:
        both = noise(9, 14, 4)
        partner = save(both, path)
        colour, heat = both[..., :3] / 255, both[..., 3]
    assert main(fuse("average", path, partner, tmp_path / "out")) == 0
    check(read(tmp_path / "out" / "image.png"), average(colour, heat / 255))


@pytest.mark.parametrize(
    ("rule", "low", "high"),
    [
        (None, *AUTO_LIMITS),
        ("auto", *AUTO_LIMITS),
        ("full-range", 0, 65535),
        ("minmax", 5000, 9000),
        ("fixed(4000, 8000)", 4000, 8000),
    ],
)
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bit_infrared_is_scaled_by_the_rule_that_is_named(
    rule: str | None, low: float, high: float, suffix: str, tmp_path: Path
) -> None:
    deep = deep_heat()
    colour = save(noise(9, 14, 3), tmp_path / "visible.png")
    path = tmp_path / f"infrared{suffix}"
    if suffix == ".png":
        Image.fromarray(deep).save(path)
    else:
        tifffile.imwrite(path, deep)
    more = [] if rule is None else ["--infrared-scaling", rule]
    assert main(fuse("average", colour, path, tmp_path / "out", *more)) == 0
    scaled = np.clip((deep.astype(float) - low) / (high - low), 0, 1)
    check(read(tmp_path / "out" / "visible.png"), average(noise(9, 14, 3) / 255, scaled))


def test_a_picture_is_stretched_only_if_asked(tmp_path: Path) -> None:
    faint = (100 + noise(9, 14, 3) // 8, 100 + noise(9, 14, seed=1) // 8)
    paths = save(faint[0], tmp_path / "a.png"), save(faint[1], tmp_path / "b.png")
    assert main(fuse("average", *paths, tmp_path / "plain")) == 0
    assert main(fuse("average", *paths, tmp_path / "wide", "--stretch")) == 0
    plain, wide = read(tmp_path / "plain" / "a.png"), read(tmp_path / "wide" / "a.png")
    assert 80 < plain.min() < plain.max() < 150
    assert (wide.min(), wide.max()) == (0, 255)
    assert np.array_equal(wide, stretched(plain))


class PartlySeen(PairView):
    """Pairs whose outer columns only one camera saw, where the visible image is black and white."""

    def __getitem__(self, index: int) -> Pair:
        pair = super().__getitem__(index)
        assert pair.visible is not None
        assert pair.infrared is not None
        valid = np.ones(pair.size, bool)
        valid[:, :4] = valid[:, -4:] = False
        visible, infrared = 0.4 + 0.1 * pair.visible, 0.4 + 0.1 * pair.infrared
        visible[:, :4], visible[:, -4:] = 0, 1
        return replace(pair, visible=visible, infrared=infrared, valid=valid)


def test_a_picture_is_stretched_by_what_is_shown_of_it(tmp_path: Path) -> None:
    pairs = PartlySeen(open_pairs("scenes,test=1,size=32x48", "test"))
    pair = pairs[0]
    assert pair.valid is not None
    fuse_files(load("average", device="cpu"), [Listed("a", pairs, 0)], tmp_path, stretch=True)
    *colours, opacity = np.moveaxis(np.asarray(Image.open(tmp_path / "a.png")), 2, 0)
    np.testing.assert_array_equal(opacity > 0, pair.valid)
    shown = np.stack(colours)[:, pair.valid]
    assert (shown.min(), shown.max()) == (0, 255)


def test_a_single_band_is_written_as_it_is_and_called_a_fallback(
    visible: Path, infrared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for band, pair in (("visible", (visible, None)), ("infrared", (None, infrared))):
        assert main(fuse("guided", *pair, tmp_path / f"{band}-out")) == 0
        note = f"note: guided was not designed for {band} alone; this is a fallback"
        assert note in capsys.readouterr().err
    assert np.array_equal(read(tmp_path / "visible-out" / "c.png"), noise(1, 1, 3, seed=2))
    heat = noise(20, 30, seed=10)
    assert np.array_equal(read(tmp_path / "infrared-out" / "day" / "a.png"), np.dstack([heat, heat, heat]))


def test_an_out_that_is_there_keeps_what_else_it_holds(visible: Path, infrared: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    save(noise(2, 2), out / "c.png")
    (out / "notes.txt").write_text("mine")
    assert main([*fuse("maximum", visible, infrared, out), "--overwrite"]) == 0
    assert (out / "notes.txt").read_text() == "mine"
    assert read(out / "c.png").shape == (1, 1, 3)


# --- what is refused


@pytest.mark.usefixtures("visible", "infrared")
@pytest.mark.parametrize(
    ("system", "first", "second", "more", "message"),
    [
        ("average", None, None, [], "give --visible, --infrared, or both"),
        ("average", "nowhere", "infrared", [], "nowhere: there is no such file or folder"),
        ("average", "visible", "infrared/c.png", [], "one is a file, one a folder"),
        ("average", "visible", "fewer", ["--missing", "error"], "of 3 names infrared lacks 1 (c)"),
        ("average", "visible", "empty", [], "no image in it"),
        ("average", "visible/day/a.png", "infrared/day/b.png", [], "20 x 30"),
        ("average", "broken.png", "infrared/c.png", [], "broken.png: cannot be read, truncated"),
        ("average", "infrared/c.png", "text.png", [], "text.png: not a PNG, JPEG, TIFF or BMP image"),
        (
            "average",
            "text.mp4",
            "text.mkv",
            [],
            "text.mp4 is a video, where an image is expected: --data frames:text.mkv,visible=text.mp4 ",
        ),
        ("average", None, "text.mp4", [], "`crossband data export frames:text.mp4 --out DIR` saves them as"),
        ("average", "text.mp4", None, [], "`crossband stream RUN --visible text.mp4` runs on its frames"),
        (
            "average",
            "text.mp4",
            "text.mkv",
            ["--pair", "time", "--max_gap", "20ms"],
            "--data frames:text.mkv,visible=text.mp4 reads its frames",
        ),
        ("average", "films", "infrared", [], "no image in it, but films/a.avi is a video: --data frames:"),
        ("average", "{id}.mp4", "{id}.mkv", [], "no image in it, but {id}.mp4 is a video: --data frames:"),
        ("average", "packed.png", "infrared/day/a.png", [], "packed.png: its alpha channel varies"),
        ("average", "visible", "infrared", ["--infrared_scaling", "linear"], "no infrared scaling 'linear'"),
        ("average", "visible", "infrared", ["--workers", "-1"], "number of workers must be 0 or more"),
        ("average", "visible", "infrared", ["--device", "abacus"], "abacus"),
        (
            "laplacan",
            "visible",
            "infrared",
            [],
            "run folder laplacan is not there, nor a system of that name; did you mean lap",
        ),
        ("runs/csknet", "visible", "infrared", [], "run folder runs/csknet is not there"),
        ("csknet", "visible", "infrared", [], "csknet must be trained before it is used: name a run folder"),
        ("amdanet", "visible", "infrared", [], "amdanet must be trained before it is used"),
        ("visible", "visible", "infrared", [], "run folder visible has no card.json"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_writes_nothing(
    system: str,
    first: str | None,
    second: str | None,
    more: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("day/a", "day/b"):
        save(noise(*SIZES[name]), tmp_path / "fewer" / f"{name}.png")
    (tmp_path / "empty").mkdir()
    packed = save(noise(20, 30, 4), tmp_path / "packed.png")
    (tmp_path / "broken.png").write_bytes(packed.read_bytes()[:300])
    (tmp_path / "text.png").write_text("not an image")
    for name in ("text.mp4", "text.mkv", "films/a.avi"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text("not an image")
    given = [None if path is None else Path(path) for path in (first, second)]
    assert message in refused(fuse(system, *given, Path("out"), *more), capsys)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("inside", [".", "fused"])
@pytest.mark.parametrize("band", ["visible", "infrared"])
@pytest.mark.parametrize("command", ["fuse", "predict"])
def test_results_are_never_put_among_the_images(
    command: str,
    band: str,
    inside: str,
    visible: Path,
    infrared: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The JPEG would not be replaced, but the next run would find it twice."""
    before = below(tmp_path)
    arguments = fuse("average", visible, infrared, {"visible": visible, "infrared": infrared}[band] / inside)
    line = refused([command, *arguments[1:]], capsys)
    assert f"would be taken for images of {tmp_path / band}; choose another folder" in line
    assert below(tmp_path) == before


def test_results_are_never_put_above_images_in_folders(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Folders in a folder are read as well: what lies beside them would be found with them."""
    for stem in "12":
        save(noise(8, 8, 3), tmp_path / "test" / "visible" / "day" / f"{stem}.jpg")
        save(noise(8, 8), tmp_path / "test" / "infrared" / "day" / f"{stem}.png")
    visible, infrared = tmp_path / "test" / "visible", tmp_path / "test" / "infrared"
    before = below(tmp_path)
    folders = ["--visible", str(visible), "--infrared", str(infrared)]
    for given in (folders, ["--data", f"folder:{tmp_path}"]):
        line = refused(["fuse", "average", *given, "--out", str(visible)], capsys)
        assert f"would be taken for images of {visible}; choose another folder" in line
    # So is one of a single image, which the next run would find twice.
    (visible / "day" / "2.jpg").unlink()
    line = refused(["fuse", "average", *folders[:2], "--out", str(visible)], capsys)
    assert f"would be taken for images of {visible}; choose another folder" in line
    assert below(tmp_path) == [name for name in before if name != "test/visible/day/2.jpg"]


def test_a_file_is_never_replaced_by_its_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    colour, heat = save(noise(9, 14, 3), tmp_path / "a.png"), save(noise(9, 14), tmp_path / "b.png")
    line = refused(fuse("average", colour, heat, tmp_path), capsys)
    assert "holds the images that are read, which would be replaced; choose another folder" in line
    assert np.array_equal(np.asarray(Image.open(colour)), noise(9, 14, 3))


def test_an_out_that_is_a_file(
    visible: Path, infrared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").write_text("a file")
    line = refused(fuse("average", visible, infrared, tmp_path / "out"), capsys)
    assert f"{tmp_path / 'out'} is a file, not a folder" in line
    assert (tmp_path / "out").read_text() == "a file"


def test_a_broken_file_is_named_and_only_whole_pictures_are_left(
    visible: Path, infrared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The names are taken in order: c, day/a, day/b."""
    broken = infrared / "day" / "b.png"
    broken.write_bytes(broken.read_bytes()[:200])
    stopping = [*fuse("laplacian", visible, infrared, tmp_path / "out"), "--on_error", "stop"]
    line = refused(stopping, capsys)
    assert f"{broken}: cannot be read" in line
    assert below(tmp_path / "out") == ["c.png", "day/a.png", "manifest.json", "results.csv"]
    assert read(tmp_path / "out" / "day" / "a.png").shape == (20, 30, 3)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder of CSK-Net as a training leaves it."""
    classes = Classes(tuple(f"class {i}" for i in range(CLASSES)), tuple((i, 0, 0) for i in range(CLASSES)))
    system = tiny("csknet")
    save_run(tmp_path / "run", system, make_card(system, classes, "minmax", {}))
    return tmp_path / "run"


def test_a_run_that_does_not_fuse_and_a_run_that_has_its_scaling(
    run: Path, visible: Path, infrared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = refused(fuse(str(run), visible, infrared, tmp_path / "out"), capsys)
    fusing = ", ".join(name for name in list_systems() if system_class(name).fuses)
    assert line == f"csknet does not fuse; systems that do: {fusing}"
    line = refused(
        fuse(str(run), visible, infrared, tmp_path / "out", "--infrared_scaling", "minmax"), capsys
    )
    assert line == f"{run} was trained with infrared scaling minmax; give no other"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["predict", "average", "--visible", "visible"], "average only fuses; use `crossband fuse`"),
        (
            ["evaluate", "average", "--data", "scenes,test=2,size=32x48"],
            "average only fuses, so it has no labels to score",
        ),
        (["train", "average", "--data", "scenes"], "average needs no training; use it by its name, as in"),
        (
            ["train", "csknet", "--data", "scenes", "--without_labels"],
            "csknet cannot be trained without labels, since it does not fuse",
        ),
        (
            ["train", "deeplabv3plus", "--data", "scenes", "--without-labels"],
            "deeplabv3plus cannot be trained without labels",
        ),
    ],
)
def test_other_commands_say_what_a_system_cannot_do(
    arguments: list[str],
    message: str,
    visible: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(visible.parent)
    assert message in refused([*arguments, "--out", "out"], capsys)
    assert not (tmp_path / "out").exists()


# --- from Python


def test_load_by_name() -> None:
    colour, heat = noise(9, 14, 3), noise(9, 14, seed=1)
    result = load("average", device="cpu")(visible=colour, infrared=heat)
    assert result.fused.dtype == np.uint8
    check(result.fused, average(colour / 255, heat / 255))
    assert result.labels is result.confidence is result.classes is None
    assert (result.bands, result.support, result.reliability) == ("both", "designed", {})
    with pytest.raises(OptionError, match="no labels to lay over the image: this system only fuses"):
        result.overlay()
    alone = load("guided", device="cpu")(infrared=heat)
    assert alone.support == "fallback"


def test_load_takes_a_scaling_for_what_stores_infrared_otherwise() -> None:
    deep = np.array([[5000, 7000, 9000]], np.uint16)
    predictor = load("average", infrared_scaling="minmax", device="cpu")
    assert predictor.card.infrared_scaling == "minmax"
    assert predictor(infrared=deep).fused[0, :, 0].tolist() == [0, 128, 255]
    full = load("average", infrared_scaling="full-range", device="cpu")
    assert full(infrared=deep).fused[0, :, 0].tolist() == [19, 27, 35]


def test_a_folder_of_pictures_does_not_hide_the_system_of_its_name(
    visible: Path, infrared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert main(fuse("average", visible, infrared, Path("average"))) == 0
    assert below(tmp_path / "average") == ["c.png", "day/a.png", "day/b.png", "manifest.json", "results.csv"]
    (tmp_path / "csknet").mkdir()
    with pytest.raises(WeightsError, match="csknet must be trained before it is used"):
        load("csknet")


def test_a_run_hides_the_system_of_its_name(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run.rename(run.parent / "average")
    monkeypatch.chdir(run.parent)
    assert load("average", device="cpu").system.name == "csknet"


@pytest.mark.shared_data
@pytest.mark.parametrize("name", READY)
def test_a_real_pair(name: str, shared_data: Path, tmp_path: Path) -> None:
    """A night street: the picture holds more than either source, and the colours of the visible image."""
    visible, infrared = (
        sorted((shared_data / "msrs_pairs" / band).iterdir())[0] for band in ("visible", "infrared")
    )
    assert main(fuse(name, visible, infrared, tmp_path)) == 0
    picture = read(tmp_path / f"{visible.stem}.png").astype(float)
    colour = np.asarray(Image.open(visible).convert("RGB"), dtype=float)
    heat = np.asarray(Image.open(infrared).convert("L"), dtype=float)
    assert picture.shape == colour.shape
    for source in (colour.mean(axis=2), heat):
        assert np.corrcoef(picture.mean(axis=2).ravel(), source.ravel())[0, 1] > 0.3
    unclipped = (picture > 0).all(axis=2) & (picture < 255).all(axis=2)
    red_over_blue = (picture[..., 0] - picture[..., 2])[unclipped] - (colour[..., 0] - colour[..., 2])[
        unclipped
    ]
    assert np.abs(red_over_blue).max() <= 1


def test_channels_that_differ_in_a_spot_are_a_line_without_our_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    visible = save(noise(30, 40, 3), tmp_path / "v.png")
    infrared = np.repeat(noise(30, 40, 1), 3, axis=2)
    infrared[3, 3] = 0, 200, 0
    arguments = ["--infrared", str(save(infrared, tmp_path / "i.png")), "--out", str(tmp_path / "out")]
    assert main(["fuse", "average", "--visible", str(visible), *arguments]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"crossband: warning: {tmp_path / 'i.png'}: the three channels")
    assert "reading.py" not in line
