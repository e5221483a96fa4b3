"""Generated street scenes: determinism, splits, content, and what each band shows."""

import hashlib
import os
import subprocess
import sys
from collections import Counter

import cv2
import numpy as np
import pytest

from crossband.errors import OptionError
from crossband.pairs.scenes import (
    CONDITIONS,
    SCENE_CLASSES,
    Scenes,
    parse_scene_options,
    render_scene,
    scene_splits,
)
from crossband.pairs.scenes.geometry import Camera
from crossband.pairs.scenes.infrared import band_radiance
from crossband.pairs.scenes.kept import Drawn, KeptScenes
from crossband.pairs.scenes.painting import paint
from crossband.pairs.scenes.surfaces import PAINT_ON_ASPHALT, Label
from crossband.pairs.scenes.world import build_world

SMALL = (60, 80)
LUMINANCE = np.array([0.2126, 0.7152, 0.0722], np.float32)


@pytest.fixture(autouse=True)
def rendered_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every scene is drawn, and not taken from those that other tests asked for."""
    monkeypatch.setattr("crossband.pairs.scenes.render.KEPT", KeptScenes(0))


def digest(pair) -> str:
    content = hashlib.sha256()
    for image in (pair.visible, pair.infrared, pair.label):
        content.update(np.ascontiguousarray(image).tobytes())
    return content.hexdigest()


def ring_around(mask: np.ndarray, within: np.ndarray) -> np.ndarray:
    """Pixels up to four away from a mask."""
    near = cv2.dilate(mask.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    return near & ~mask & within


def contrast(image: np.ndarray, mask: np.ndarray, ring: np.ndarray) -> float:
    return abs(float(image[mask].mean() - image[ring].mean()))


# ---- determinism


IN_A_NEW_PROCESS = """
import sys, hashlib, cv2
cv2.setNumThreads(int(sys.argv[1]))
from crossband.pairs.scenes import Scenes
scenes = Scenes("val", seed=5, count=10, size=(97, 131))
content = hashlib.sha256()
order = range(10) if sys.argv[2] == "up" else range(9, -1, -1)
pairs = {index: scenes[index] for index in order}
for index in range(10):
    for image in (pairs[index].visible, pairs[index].infrared, pairs[index].label):
        content.update(image.tobytes())
print(content.hexdigest())
"""


def test_same_bytes_in_every_process_thread_count_and_order():
    digests = []
    for hash_seed, threads, order in (("1", "1", "up"), ("777", "4", "down")):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "OMP_NUM_THREADS": threads}
        command = [sys.executable, "-c", IN_A_NEW_PROCESS, threads, order]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        digests.append(done.stdout.strip())
    assert len(digests[0]) == 64
    assert digests[0] == digests[1]


def test_rendering_leaves_global_state_alone():
    threads = cv2.getNumThreads()
    np.random.seed(3)  # noqa: NPY002 - the global generator is what is being watched
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    render_scene(0, 0, SMALL)
    assert cv2.getNumThreads() == threads
    assert np.array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_splits_and_seeds_share_no_scene():
    digests = [
        digest(pair)
        for seed in (0, 1)
        for split in ("train", "val", "test")
        for pair in Scenes(split, seed=seed, count=10, size=(32, 40), conditions=["day"])
    ]
    assert len(set(digests)) == len(digests) == 60


def test_a_longer_split_begins_with_the_shorter_one():
    short, long = Scenes("train", count=3, size=SMALL), Scenes("train", count=9, size=SMALL)
    assert [digest(pair) for pair in short] == [digest(long[index]) for index in range(3)]


# ---- scenes that are kept


def test_a_scene_that_is_kept_is_the_one_that_was_drawn(monkeypatch):
    asked = [(0, 1, SMALL, "day", "fixed"), (0, 1, SMALL, None, "fixed"), (0, 1, (64, 80), "day", "fixed")]
    asked += [(1, 1, SMALL, "day", "fixed"), (0, 2, SMALL, "day", "fixed"), (0, 1, SMALL, "day", "varied")]

    def rendered():
        return [render_scene(*scene, cameras=cameras) for *scene, cameras in asked]

    drawn = rendered()
    monkeypatch.setattr("crossband.pairs.scenes.render.KEPT", KeptScenes())
    for pair in rendered():
        # Nobody sees what was written into another one's picture.
        pair.visible[:], pair.infrared[:], pair.label[:] = 0, 0, 0
    for pair, expected in zip(rendered(), drawn, strict=True):
        assert digest(pair) == digest(expected)
        assert (pair.name, pair.condition) == (expected.name, expected.condition)


def test_scenes_are_kept_up_to_so_many_bytes():
    drawn: list[int] = []

    def asked(scenes: KeptScenes, key: int, side: int = 10) -> None:
        def draw() -> Drawn:
            drawn.append(key)
            image = np.zeros((side, side), np.uint8)
            return Drawn(np.dstack([image] * 3), image, image, str(key))

        assert scenes.get(key, draw).condition == str(key)

    fits, tight, none = KeptScenes(500 * 20), KeptScenes(500 * 20 - 1), KeptScenes(499)
    for scenes, most in ((fits, 20), (tight, 70), (none, 100)):
        drawn.clear()
        for _ in range(5):
            for key in range(20):
                asked(scenes, key)
        assert drawn[:20] == list(range(20))
        # All of them at first; of nineteen places for twenty that take turns, some last a round.
        assert len(drawn) <= most
    assert len(drawn) == 100
    # One for which there is no room takes none from the others.
    asked(fits, 20, side=60)
    drawn.clear()
    for key in range(20):
        asked(fits, key)
    assert drawn == []
    # One that takes the room of several.
    asked(fits, 21, side=40)
    for key in range(20):
        asked(fits, key)
    assert 17 <= len(drawn) < 40


# ---- cameras of every scene's own


def test_other_cameras_change_both_pictures_and_not_the_label():
    for condition in CONDITIONS:
        fixed, varied, again = (
            render_scene(3, 1, SMALL, condition, cameras=cameras) for cameras in ("fixed", "varied", "varied")
        )
        assert digest(varied) == digest(again)
        assert np.array_equal(varied.label, fixed.label)
        for band in ("visible", "infrared"):
            image = getattr(varied, band)
            assert np.array_equal(np.rint(image * 255).astype(np.float32) / np.float32(255), image)
            assert np.abs(image - getattr(fixed, band)).mean() > 0.01
    listed = Scenes("train", seed=3, count=2, size=SMALL, conditions=["day"], cameras="varied")[1]
    assert digest(listed) == digest(render_scene(3, 1, SMALL, "day", cameras="varied"))


def test_other_cameras_give_other_ranges():
    """The fixed infrared camera spreads every scene over all levels; others leave some dim and some flat."""
    means = {
        cameras: [pair.infrared.mean() for pair in Scenes("train", count=30, size=SMALL, cameras=cameras)]
        for cameras in ("fixed", "varied")
    }
    assert min(means["varied"]) < 0.6 * min(means["fixed"])


def test_other_cameras_are_misaligned_by_little():
    """Phase correlation, of OpenCV, finds shifts up to the 0.6 % that are drawn, and not all of them 0."""
    size = (240, 320)
    shifts = []
    for index in range(12):
        fixed, varied = (render_scene(0, index, size, "day", cameras=c).infrared for c in ("fixed", "varied"))
        window = cv2.createHanningWindow(size[::-1], cv2.CV_32F)
        shifts.append(cv2.phaseCorrelate(np.float32(fixed), np.float32(varied), window)[0])
    reach = np.abs(shifts).max(axis=1)
    assert np.median(reach) > 0.3
    assert np.median(reach) < 0.006 * size[1] + 0.5


# ---- the pair


@pytest.mark.parametrize("size", [(16, 16), (240, 320), (17, 93), (200, 16), (33, 640), (101, 64)])
def test_every_size_gives_a_whole_pair(size):
    for condition in CONDITIONS:
        pair = render_scene(2, 3, size, condition)
        assert pair.condition == condition
        assert pair.visible.shape == (*size, 3)
        assert pair.infrared.shape == pair.label.shape == size
        assert pair.visible.dtype == pair.infrared.dtype == np.float32
        assert pair.label.dtype == np.uint8
        assert pair.label.max() < len(SCENE_CLASSES)


def test_values_survive_eight_bits():
    for condition in CONDITIONS:
        pair = render_scene(0, 1, SMALL, condition)
        for image in (pair.visible, pair.infrared):
            stored = np.rint(image * 255).astype(np.uint8)
            assert np.array_equal(stored.astype(np.float32) / np.float32(255), image)
            assert image.std() > 0.01


def test_the_street_is_the_same_in_every_condition():
    labels = [render_scene(4, 4, SMALL, condition).label for condition in CONDITIONS]
    assert all(np.array_equal(label, labels[0]) for label in labels)
    pictures = [render_scene(4, 4, SMALL, condition).visible for condition in CONDITIONS]
    assert all(not np.array_equal(picture, pictures[0]) for picture in pictures[1:])


def test_the_street_is_the_same_at_every_size():
    small, large = render_scene(4, 6, (120, 160), "day").label, render_scene(4, 6, (480, 640), "day").label
    shrunk = large[2::4, 2::4]
    assert (small == shrunk).mean() > 0.9


def test_condition_is_drawn_when_not_given():
    drawn = Counter(render_scene(0, index, (16, 16)).condition for index in range(40))
    assert set(drawn) == set(CONDITIONS)


# ---- content


def test_every_class_occurs_in_most_scenes():
    scenes = Scenes("train", count=60, size=(120, 160), conditions=["day"])
    seen = np.zeros(len(SCENE_CLASSES))
    for pair in scenes:
        seen += np.bincount(pair.label.ravel(), minlength=len(SCENE_CLASSES)) >= 12
    share = dict(zip(SCENE_CLASSES.names, seen / len(scenes), strict=True))
    assert min(share.values()) > 0.5, share
    assert share["person"] >= 0.7, share


def mean_contrasts(condition: str, masks) -> tuple[float, float]:
    """Mean contrast of a mask to what surrounds it, in the visible and in the infrared, over 25 scenes."""
    visible, infrared = [], []
    for index in range(25):
        pair = render_scene(1, index, (240, 320), condition)
        mask, within = masks(pair, index)
        ring = ring_around(mask, within)
        if mask.sum() > 60 and ring.any():
            visible.append(contrast(pair.visible @ LUMINANCE, mask, ring))
            infrared.append(contrast(pair.infrared, mask, ring))
    assert len(visible) > 10
    return float(np.mean(visible)), float(np.mean(infrared))


def people(pair, index):
    return pair.label == Label.PERSON, np.ones_like(pair.label, bool)


def markings(pair, index):
    geometry = paint(build_world((240, 320), np.random.default_rng([1, index, 0])))
    assert np.array_equal(geometry.labels(), pair.label)
    painted = np.array([surface.material is PAINT_ON_ASPHALT for surface in geometry.surfaces])
    return painted[geometry.ids], pair.label == Label.ROAD


def test_a_person_in_the_dark_shows_in_the_infrared():
    visible, infrared = mean_contrasts("night", people)
    assert infrared > 0.2
    assert infrared > 2 * visible


@pytest.mark.parametrize("condition", ["day", "night"])
def test_road_markings_show_in_the_visible(condition):
    visible, infrared = mean_contrasts(condition, markings)
    assert visible > 0.15
    assert visible > 5 * infrared


def test_fog_takes_more_from_the_visible():
    fog_visible, fog_infrared = mean_contrasts("fog", people)
    day_visible, _ = mean_contrasts("day", people)
    assert fog_visible < day_visible
    assert fog_infrared > 2 * fog_visible


def test_glare_saturates():
    burnt = {
        condition: np.mean(
            [(render_scene(2, i, SMALL, condition).visible.min(axis=2) > 0.97).mean() for i in range(20)]
        )
        for condition in ("day", "glare")
    }
    assert burnt["glare"] > burnt["day"]


# ---- physics, against numbers of others


def test_band_radiance_matches_the_radiance_contrast_of_the_band():
    # d ln L / dT = c2 / (lambda T^2) * 1 / (1 - exp(-c2 / (lambda T))) at the band's 10.6 um effective
    # wavelength, T = 293.15 K: 1.59 % per kelvin.
    slope = (band_radiance(21.0) - band_radiance(19.0)) / 2
    assert slope == pytest.approx(0.0159, rel=0.04)
    assert band_radiance(20.0) == pytest.approx(1.0)


def test_projection_worked_by_hand():
    camera = Camera((240, 320), focal=300.0, centre=160.0, horizon=100.0, height=1.5, x=0.0, bend=0.0)
    # On the ground, 2 m right, 10 m ahead: 300 * 2 / 10 right of the centre, 300 * 1.5 / 10 down.
    assert camera.project(np.array([2.0, 0.0, 10.0])).tolist() == pytest.approx([220.0, 145.0])
    slope, offset = camera.inverse_depths(np.array([[4.0, 5.0, 4.0, 20.0]]))[0]
    middle = camera.project(np.array([4.0, 0.0, 8.0]))[0]
    assert 1 / (slope * middle + offset) == pytest.approx(8.0)


# ---- the list and its options


def test_scenes_is_a_list_of_pairs():
    scenes = Scenes("test", seed=2, count=7, size=SMALL, conditions=["night", "fog"])
    assert len(scenes) == len(list(scenes)) == 7
    assert scenes.classes is SCENE_CLASSES
    assert len({scenes.name(index) for index in range(7)}) == 7
    assert [scenes.condition(index) for index in range(4)] == ["night", "fog", "night", "fog"]
    assert scenes[3].name == scenes.name(3)
    assert digest(scenes[-1]) == digest(scenes[6])
    with pytest.raises(IndexError):
        scenes[7]


def test_options_have_defaults_and_are_read():
    assert scene_splits({}) == {"train": 200, "val": 50, "test": 100}
    parsed = parse_scene_options({"seed": "9", "val": "0", "size": "48x64", "conditions": "day+night"})
    assert parsed == {
        "seed": 9,
        "train": 200,
        "val": 0,
        "test": 100,
        "size": (48, 64),
        "conditions": ("day", "night"),
        "cameras": "fixed",
    }
    assert parse_scene_options({"cameras": "varied"})["cameras"] == "varied"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"sead": "1"}, "sead"),
        ({"train": "many"}, "many"),
        ({"seed": "-1"}, "-1"),
        ({"size": "240"}, "240x320"),
        ({"size": "8x8"}, "16"),
        ({"conditions": "day+rain"}, "rain"),
        ({"conditions": ""}, "day"),
        ({"cameras": "three"}, "fixed, varied"),
    ],
)
def test_options_that_do_not_fit_are_named(options, says):
    with pytest.raises(OptionError, match=says):
        parse_scene_options(options)


def test_arguments_that_do_not_fit_are_named():
    with pytest.raises(OptionError, match="holdout"):
        Scenes("holdout", count=3)
    with pytest.raises(OptionError, match="-1"):
        Scenes("train", seed=-1, count=3)
    with pytest.raises(OptionError, match="16"):
        Scenes("train", count=3, size=(15, 40))
    with pytest.raises(OptionError, match="16"):
        render_scene(0, 0, (15, 40))
    with pytest.raises(OptionError, match="rain"):
        render_scene(0, 0, SMALL, "rain")
    with pytest.raises(OptionError, match="-1"):
        render_scene(0, -1, SMALL)
    with pytest.raises(OptionError, match="three"):
        render_scene(0, 0, SMALL, cameras="three")


def test_the_package_opens_without_opencv():
    code = "import sys, crossband.pairs.scenes; print('cv2' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
