"""What goes wrong with cameras: every corruption's rules, and what is particular to some."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.color import rgb2xyz

from crossband.errors import OptionError
from crossband.pairs.base import Pair, PairSubset, PairView
from crossband.pairs.corruption import (
    BAND_STATES,
    CORRUPTIONS,
    SEVERITIES,
    InState,
    NamedCorruption,
    Noisy,
    RandomlyMissing,
    find_corruption,
)
from crossband.pairs.loading import evaluation_loader
from crossband.pairs.opening import open_pairs

SCENES = "scenes,seed=4,test=12,size=60x80"


@pytest.fixture(scope="module")
def pairs():
    return open_pairs(SCENES, "test")


def distance(one: Pair, other: Pair) -> float:
    return float(np.abs(one.visible - other.visible).mean() + np.abs(one.infrared - other.infrared).mean())


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_every_corruption_breaks_its_band_alone_and_more_with_severity(pairs, name: str) -> None:
    corruption = CORRUPTIONS[name]
    clean = pairs[5]
    broken = [NamedCorruption(pairs, name, severity)[5] for severity in SEVERITIES]
    for pair in broken:
        assert pair.label is clean.label or (pair.label == clean.label).all()
        other = "infrared" if corruption.band == "visible" else "visible"
        np.testing.assert_array_equal(getattr(pair, other), getattr(clean, other))
        image = getattr(pair, corruption.band)
        assert image.dtype == np.float32
        assert image.shape == getattr(clean, corruption.band).shape
        assert image.min() >= 0
        assert image.max() <= 1
    changes = [distance(clean, pair) for pair in broken]
    assert changes[-1] > 0.01
    if corruption.earlier is None:
        assert changes == sorted(changes)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_pair_is_broken_alike_in_every_list(pairs, name: str) -> None:
    alone = NamedCorruption(pairs, name, 3)
    assert distance(alone[4], alone[4]) == 0
    if CORRUPTIONS[name].earlier is None:
        part = NamedCorruption(PairSubset(pairs, [4], "part"), name, 3)
        assert distance(part[0], alone[4]) == 0
        other = NamedCorruption(pairs, name, 3, seed=1)
        # What draws nothing is the same for every seed.
        assert (distance(other[4], alone[4]) > 0) == (name not in SEEDLESS)


SEEDLESS = ("over-exposure", "defocus", "jpeg", "saturation", "blur", "halo")


class EachCorruption(PairView):
    """A list of pairs, the first under the first corruption, the second under the second, and so on."""

    def __len__(self) -> int:
        return len(CORRUPTIONS)

    def __getitem__(self, index: int) -> Pair:
        return NamedCorruption(self.pairs, tuple(CORRUPTIONS)[index], 3)[index]


def test_a_pair_is_broken_alike_by_every_worker() -> None:
    each = EachCorruption(open_pairs("scenes,seed=4,test=24,size=60x80", "test"))
    for batch, name, alone in zip(evaluation_loader(each, workers=2), CORRUPTIONS, each, strict=True):
        np.testing.assert_array_equal(batch.visible[0].permute(1, 2, 0), alone.visible, err_msg=name)
        np.testing.assert_array_equal(batch.infrared[0, 0], alone.infrared, err_msg=name)


def golden() -> dict[str, tuple[float, float]]:
    """Mean of the image and of the neighbours' differences of a fixed pair under every corruption."""
    ramp = np.linspace(0, 1, 40 * 50, dtype=np.float32).reshape(40, 50)
    pair = Pair("golden", np.repeat(ramp[..., None], 3, axis=2), ramp[::-1].copy())
    told = {}
    for name, corruption in CORRUPTIONS.items():
        if corruption.change is not None:
            broken = corruption.apply(pair, 3, np.random.default_rng(0))
            image = getattr(broken, corruption.band).astype(np.float64)
            told[name] = float(image.mean()), float(np.abs(np.diff(image, axis=0)).mean())
    return told


def test_they_stay_what_they_were() -> None:
    """A change of any corruption changes results that stand in tables."""
    told = golden()
    assert told.keys() == GOLDEN.keys()
    for name, values in told.items():
        assert values == pytest.approx(GOLDEN[name], abs=2e-4), name


# Printed by `golden` above.
GOLDEN: dict[str, tuple[float, float]] = {
    "low-light": (0.2573, 0.0385),
    "over-exposure": (0.7512, 0.0244),
    "glare": (0.6630, 0.0169),
    "fog": (0.7495, 0.0203),
    "rain": (0.5144, 0.0306),
    "motion-blur": (0.5000, 0.0250),
    "defocus": (0.5002, 0.0249),
    "jpeg": (0.5008, 0.0247),
    "colour-cast": (0.4813, 0.0225),
    "dirt": (0.4554, 0.0838),
    "contrast-collapse": (0.4997, 0.0126),
    "saturation": (0.7998, 0.0249),
    "fixed-pattern": (0.4972, 0.0993),
    "column-noise": (0.4968, 0.0237),
    "dead-pixels": (0.4991, 0.0769),
    "dead-rows": (0.4425, 0.1378),
    "blur": (0.5000, 0.0249),
    "halo": (0.5000, 0.0058),
    "shift": (0.4855, 0.0246),
    "homography": (0.4919, 0.0242),
    "scale": (0.5000, 0.0250),
}


def test_low_light_takes_light_and_adds_noise(pairs) -> None:
    grey = Pair("p", np.full((64, 64, 3), 0.6, np.float32), None)
    quiet, dark = (
        CORRUPTIONS["low-light"].apply(grey, severity, np.random.default_rng(0)).visible
        for severity in (1, 5)
    )
    before = rgb2xyz(grey.visible)[..., 1].mean()
    # 2 stops less, of which the gain gives back one; the mean of linear light is kept by the noise.
    assert rgb2xyz(quiet)[..., 1].mean() == pytest.approx(before / 2, rel=0.02)
    assert dark.std() / dark.mean() > 2 * quiet.std() / quiet.mean()


def test_dirt_and_dead_pixels_cover_the_share_that_they_say() -> None:
    white = Pair("p", np.ones((120, 160, 3), np.float32), np.full((120, 160), 0.5, np.float32))
    for severity, share in zip(SEVERITIES, CORRUPTIONS["dirt"].levels, strict=True):
        dirty = CORRUPTIONS["dirt"].apply(white, severity, np.random.default_rng(1)).visible
        # Blurred patches keep their light: 93 % of it is replaced by that of mud, 7.7 % of white's.
        assert 1 - rgb2xyz(dirty)[..., 1].mean() == pytest.approx(share * 0.93 * (1 - 0.077), abs=0.012)
    for severity, share in zip(SEVERITIES, CORRUPTIONS["dead-pixels"].levels, strict=True):
        dead = CORRUPTIONS["dead-pixels"].apply(white, severity, np.random.default_rng(1)).infrared
        assert (np.abs(dead - 0.5) > 0.4).mean() == pytest.approx(share, rel=0.15)
    rows = CORRUPTIONS["dead-rows"].apply(white, 5, np.random.default_rng(1)).infrared
    assert (rows == 0).all(axis=1).sum() == round(0.35 * 120)


def test_motion_and_defocus_keep_the_light_and_have_the_size_that_they_say() -> None:
    dot = np.zeros((101, 101, 3), np.float32)
    dot[50, 50] = 1
    for name, span in (("motion-blur", 0.08), ("defocus", 2 * 0.034)):
        image = CORRUPTIONS[name].apply(Pair("p", dot, None), 5, np.random.default_rng(3)).visible
        light = rgb2xyz(image)[..., 1]
        assert light.sum() == pytest.approx(1, abs=0.03)
        rows, columns = np.nonzero(light > light.max() / 4)
        reach = max(np.ptp(rows), np.ptp(columns))
        assert reach == pytest.approx(span * 101, abs=2)


def test_a_shift_moves_by_its_length(pairs) -> None:
    dot = np.zeros((100, 100), np.float32)
    dot[50, 50] = 1
    for severity, length in zip(SEVERITIES, CORRUPTIONS["shift"].levels, strict=True):
        moved = CORRUPTIONS["shift"].apply(Pair("p", None, dot), severity, np.random.default_rng(2)).infrared
        rows, columns = np.indices(dot.shape)
        y, x = (float((moved * where).sum() / moved.sum()) for where in (rows, columns))
        assert np.hypot(y - 50, x - 50) == pytest.approx(100 * length, abs=0.1)


def test_time_goes_wrong_by_whole_pairs(pairs) -> None:
    late = NamedCorruption(pairs, "frame-lag", 2)
    np.testing.assert_allclose(late[5].infrared, pairs[3].infrared, atol=1e-5)
    np.testing.assert_allclose(late[0].infrared, pairs[0].infrared, atol=1e-5)
    frozen = NamedCorruption(pairs, "frozen", 2)
    for place, shown in ((0, 0), (1, 0), (2, 0), (3, 3), (5, 3)):
        np.testing.assert_allclose(frozen[place].infrared, pairs[shown].infrared, atol=1e-5)
    with pytest.raises(OptionError, match="give the pairs"):
        CORRUPTIONS["frozen"].apply(pairs[0], 1, np.random.default_rng(0))


def test_a_band_that_is_not_there_is_not_broken(pairs) -> None:
    lone = Pair("p", None, pairs[0].infrared)
    assert CORRUPTIONS["fog"].apply(lone, 3, np.random.default_rng(0)) is lone


def test_band_states(pairs) -> None:
    clean = pairs[3]
    shown = {name: InState(pairs, name)[3] for name in BAND_STATES}
    assert not shown["black visible"].visible.any()
    np.testing.assert_array_equal(shown["black visible"].infrared, clean.infrared)
    assert not shown["black infrared"].infrared.any()
    np.testing.assert_array_equal(shown["frozen visible"].visible, pairs[0].visible)
    np.testing.assert_array_equal(shown["frozen infrared"].infrared, pairs[0].infrared)
    np.testing.assert_array_equal(shown["exchanged"].visible[..., 1], clean.infrared)
    np.testing.assert_allclose(
        shown["exchanged"].infrared, clean.visible @ np.array([0.299, 0.587, 0.114]), atol=1e-5
    )
    with pytest.raises(OptionError, match="unknown band state"):
        InState(pairs, "blue")


def test_random_losses_and_noise_are_as_large_as_they_say(pairs) -> None:
    clean = pairs[2]
    missing = RandomlyMissing(pairs, "infrared", 0.5)[2]
    lost = (missing.infrared == 0) & (clean.infrared > 0)
    assert lost.mean() / (clean.infrared > 0).mean() == pytest.approx(0.5, abs=0.03)
    np.testing.assert_array_equal(missing.visible, clean.visible)
    visible = RandomlyMissing(pairs, "visible", 0.25)[2].visible
    black = (visible == 0).all(axis=2)
    assert black.mean() == pytest.approx(0.25, abs=0.03)
    middle = np.abs(clean.infrared - 0.5) < 0.2
    noise = (Noisy(pairs, 0.1)[2].infrared - clean.infrared)[middle]
    assert noise.std() == pytest.approx(0.1, rel=0.1)
    with pytest.raises(OptionError, match="share"):
        RandomlyMissing(pairs, "visible", 2)


def test_mistakes_are_told() -> None:
    with pytest.raises(OptionError, match="did you mean"):
        find_corruption("fogg")
    with pytest.raises(OptionError, match="severity"):
        CORRUPTIONS["fog"].apply(
            Pair("p", np.zeros((4, 4, 3), np.float32), None), 6, np.random.default_rng(0)
        )


def test_some_are_kept_for_testing_in_every_kind() -> None:
    for kind in ("visible", "infrared", "pair"):
        held = [c.held_out for c in CORRUPTIONS.values() if c.kind == kind]
        assert any(held)
        assert not all(held)
