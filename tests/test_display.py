"""How infrared is shown: one curve for a sequence, colours, and a bar that says what they mean."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from command_line import refused
from crossband.cli import main
from crossband.display import COLOURS, GREY, Display, display_of, equalised, make_display, sampled
from crossband.errors import OptionError
from crossband.pairs.base import Classes
from crossband.pairs.false_colour import palette
from crossband.pairs.folder import default_palette
from crossband.pairs.infrared_scaling import InfraredScaling
from crossband.pairs.opening import open_pairs
from crossband.weights import make_card, save_run
from tiny_systems import tiny

RULE = InfraredScaling.parse("celsius(0, 60)")
PATCH = (slice(4, 12), slice(4, 12))


def passing(count: int = 100) -> list[np.ndarray]:
    """Frames of a still scene of 14 to 20 degrees, with a patch of 18.2, while a body of 36 passes."""
    random = np.random.default_rng(3)
    frames = []
    for index in range(count):
        celsius = np.linspace(14, 20, 48)[None].repeat(40, axis=0)
        celsius = celsius + random.normal(0, 0.05, celsius.shape)
        celsius[PATCH] = 18.2
        left = index - 30
        if 0 <= left < 60:
            celsius[20:36, max(left - 14, 0) : left] = 36
        frames.append(RULE(celsius.astype(np.float32)))
    return frames


def test_a_patch_of_constant_temperature_keeps_its_grey_while_something_hot_passes() -> None:
    frames = passing()
    display = make_display("agc", GREY, sampled(len(frames), frames.__getitem__))
    of_sequence = np.array([display.grey(frame)[PATCH].mean() for frame in frames])
    assert np.ptp(of_sequence) < 1
    # Each frame by itself would let it flicker, and the plain display leaves a tenth of the contrast.
    of_frames = np.array([equalised([frame]).grey(frame)[PATCH].mean() for frame in frames])
    assert np.ptp(of_frames) > 5
    plain = make_display("linear", GREY, [])
    assert np.ptp(display.grey(frames[0])) > 4 * np.ptp(plain.grey(frames[0]))


def test_the_curve_rises_and_spans_the_sample() -> None:
    frames = passing(10)
    display = equalised(frames)
    assert (np.diff(display.levels) > 0).all()
    assert (np.diff(display.values) > 0).all()
    low, high = min(frame.min() for frame in frames), max(frame.max() for frame in frames)
    np.testing.assert_allclose(display.values[[0, -1]], (low, high), atol=1e-4)
    assert (display.levels[0], display.levels[-1]) == (0, 255)
    assert display.grey(np.array([[0.0, 1.0]])).tolist() == [[0, 255]]


def test_the_plateau_bounds_the_contrast_by_hand() -> None:
    """Nine tenths of the pixels have one value: cut to three flat shares, the rest raised to a least."""
    values = np.concatenate([np.full(9000, 0.2), np.linspace(0.1, 0.9, 1000)])[None]
    display = equalised([values])
    steps = np.diff(display.levels)
    # 10000 pixels in 1024 bins: 9.77 in each, were they flat. The full bin counts 29.3, others 0.98 or as
    # they are; without plateaus it would take 230 of the 255 levels.
    flat = 10000 / 1024
    histogram, _ = np.histogram(np.rint(values * 65535), 1024)
    expected = np.clip(histogram, 0.05 * flat, 3 * flat)
    np.testing.assert_allclose(steps, 255 * expected / expected.sum(), atol=0.05)
    assert steps.max() < 8


def test_what_has_nothing_to_equalise_is_shown_as_it_is() -> None:
    for sample in ([], [np.full((3, 4), 0.5)]):
        np.testing.assert_array_equal(equalised(sample).grey(np.array([[0.0, 0.5, 1.0]])), [[0, 128, 255]])


@pytest.mark.parametrize("colours", COLOURS)
def test_colours(colours: str) -> None:
    display = make_display("linear", colours, [])
    picture = display(np.linspace(0, 1, 256, dtype=np.float32)[None])
    expected = np.arange(256)[:, None].repeat(3, 1) if colours == GREY else palette(colours)
    np.testing.assert_array_equal(picture[0], expected)


def test_unknown_colours() -> None:
    with pytest.raises(OptionError, match="there are no colours 'pink'; use grey, iron"):
        make_display("agc", "pink", passing(2))


def test_the_bar_has_the_palette_from_hot_to_cold_and_leaves_the_rest() -> None:
    display = make_display("linear", "iron", [])
    picture = np.full((200, 240, 3), 90, np.uint8)
    shown = display.with_bar(picture, RULE)
    changed = (shown != picture).any(axis=2)
    assert not changed[:, :120].any()
    column = shown[20:180, 240 - 7]
    np.testing.assert_array_equal(column[0], palette("iron")[255])
    np.testing.assert_array_equal(column[-1], palette("iron")[0])
    assert np.abs(column[80].astype(int) - palette("iron")[127]).max() < 8
    # Another rule has another text.
    assert (display.with_bar(picture, InfraredScaling()) != shown).any()
    small = picture[:50, :50]
    np.testing.assert_array_equal(display.with_bar(small, RULE), small)


@pytest.fixture
def sequence(tmp_path: Path) -> Path:
    folder = tmp_path / "in" / "infrared"
    folder.mkdir(parents=True)
    for index, frame in enumerate(passing(6)):
        large = np.rint(frame * 6000 + 20000).astype(np.uint16).repeat(4, 0).repeat(4, 1)
        Image.fromarray(large).save(folder / f"{index}.png")
    return tmp_path / "in"


def test_data_show(sequence: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["data", "show", f"folder:{sequence}", "--split", "all", "--infrared_scaling", "minmax"]
    sheets = {}
    for name, options in {"plain": [], "agc": ["--display", "agc", "--colours", "inferno"]}.items():
        out = tmp_path / f"{name}.png"
        assert not main([*arguments, *options, "--out", str(out)])
        sheets[name] = np.asarray(Image.open(out)).astype(int)
    assert sheets["plain"].shape == sheets["agc"].shape
    inside = np.s_[60:250, 20:200]
    assert np.ptp(sheets["plain"][inside], axis=2).max() == 0
    assert np.ptp(sheets["agc"][inside], axis=2).max() > 80
    capsys.readouterr()
    unknown = refused([*arguments, "--colours", "pink", "--out", str(tmp_path / "x.png")], capsys)
    assert "there are no colours 'pink'" in unknown


def test_a_list_of_pairs(sequence: Path) -> None:
    pairs = open_pairs(f"folder:{sequence}", "all", infrared_scaling="auto")
    display = display_of(pairs, "agc", "turbo")
    assert isinstance(display, Display)
    infrared = pairs[0].infrared
    assert infrared is not None
    assert display(infrared).shape == (160, 192, 3)


def test_predict_shows_infrared_alone_and_predicts_the_same(
    sequence: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    system = tiny("deeplabv3plus", band="infrared")
    classes = Classes(tuple("abcde"), default_palette(5))
    save_run(tmp_path / "run", system, make_card(system, classes, "fixed(20000, 26000)", {}))
    results = {}
    for name, options in {"plain": [], "agc": ["--display", "agc", "--colours", "inferno"]}.items():
        out = tmp_path / name
        arguments = ["predict", str(tmp_path / "run"), "--infrared", str(sequence / "infrared")]
        assert main([*arguments, "--out", str(out), "--device", "cpu", *options]) == 0
        results[name] = {part: np.asarray(Image.open(out / part / "3.png")) for part in ("label", "overlay")}
    again = [*arguments, "--out", str(out), "--device", "cpu", "--resume"]
    assert main([*again, *options]) == 0
    capsys.readouterr()
    for other, said in (([], "in inferno, not none"), (["--display", "agc"], "in inferno, not curve")):
        assert main([*again, *other]) == 2
        assert said in capsys.readouterr().err
    # Of other images the curve is another one.
    (sequence / "infrared" / "5.png").unlink()
    assert main([*again, *options]) == 2
    assert "in inferno, not curve" in capsys.readouterr().err
    np.testing.assert_array_equal(results["plain"]["label"], results["agc"]["label"])
    assert (results["plain"]["overlay"] != results["agc"]["overlay"]).any()
