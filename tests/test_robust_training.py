"""Training for cameras that break: what is drawn, what never is, and what --robust turns on."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from crossband.cli import main
from crossband.errors import OptionError
from crossband.pairs.augmentation import Augmentation, augment
from crossband.pairs.base import Pair, Pairs
from crossband.pairs.corruption import (
    CORRUPTIONS,
    HELD_OUT_CORRUPTIONS,
    TRAINING_CORRUPTIONS,
    Corruption,
    broken,
)
from crossband.pairs.loading import PairLoader, training_loader
from crossband.pairs.opening import open_pairs
from crossband.run_card import read_card
from crossband.systems import make_training
from crossband.training.engine import train
from crossband.training.robust import can_drop_bands
from tiny_runs import TINY_DATA, resolved, tiny_options
from tiny_systems import tiny

HELD_OUT = [
    *("glare", "fog", "defocus", "dirt"),
    *("saturation", "column-noise", "frozen", "halo"),
    *("homography", "frame-lag"),
]
DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture(scope="module")
def pairs() -> Pairs:
    return open_pairs(TINY_DATA, "train")


def rng(number: int) -> np.random.Generator:
    return np.random.default_rng((3, number))


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Counter[tuple[str, int]]:
    """Every corruption that is applied, and its severity."""
    counted: Counter[tuple[str, int]] = Counter()
    apply = Corruption.apply

    def counting(self: Corruption, pair: Pair, severity: int, *others: object) -> Pair:
        counted[self.name, severity] += 1
        return apply(pair=pair, self=self, severity=severity, rng=others[0])  # type: ignore[arg-type]

    monkeypatch.setattr(Corruption, "apply", counting)
    return counted


def read(loader: PairLoader, *, epochs: int) -> None:
    for epoch in range(epochs):
        loader.batch_sampler.set_epoch(epoch)  # type: ignore[union-attr]
        list(loader)


def test_everything_is_drawn_but_what_is_held_out(pairs: Pairs, drawn: Counter[tuple[str, int]]) -> None:
    for number in range(400):
        broken(pairs[0], rng(number))
    assert {name for name, _ in drawn} == set(TRAINING_CORRUPTIONS)
    assert {severity for _, severity in drawn} == {1, 2, 3, 4, 5}
    of_visible = sum(count for (name, _), count in drawn.items() if CORRUPTIONS[name].band == "visible")
    assert of_visible / 400 == pytest.approx(0.5, abs=0.08)


def test_the_loader_never_draws_what_is_held_out(pairs: Pairs, drawn: Counter[tuple[str, int]]) -> None:
    loader = training_loader(
        pairs, Augmentation(corrupted=1, band_dropout=0.3), batch_size=4, seed=0, workers=0
    )
    read(loader, epochs=30)
    assert sum(drawn.values()) == 30 * len(pairs)
    assert not {name for name, _ in drawn} & set(HELD_OUT)


def test_the_later_epochs_are_those_of_a_training_that_breaks_nothing(pairs: Pairs) -> None:
    plain = Augmentation(scale=(0.7, 1.4), crop=(24, 32), noise=0.05)
    breaking = replace(plain, corrupted=1, band_dropout=0.5, broken_epochs=0.5)
    loaders = [
        training_loader(pairs, each, batch_size=4, seed=0, workers=0, epochs=5) for each in (plain, breaking)
    ]
    alike = []
    for epoch in range(5):
        for loader in loaders:
            loader.batch_sampler.set_epoch(epoch)  # type: ignore[union-attr]
        for one, other in zip(*map(list, loaders), strict=True):
            assert one.names == other.names
            bands = [(getattr(one, band), getattr(other, band)) for band in ("visible", "infrared")]
            alike.append((epoch, all(b is not None and torch.equal(a, b) for a, b in bands)))
    steps = len(alike) // 5
    assert [epoch for epoch, same in alike if same] == [epoch for epoch in (3, 4) for _ in range(steps)]


def test_without_a_known_end_all_epochs_are_broken(pairs: Pairs, drawn: Counter[tuple[str, int]]) -> None:
    loader = training_loader(
        pairs, Augmentation(corrupted=1, broken_epochs=0.5), batch_size=4, seed=0, workers=0
    )
    read(loader, epochs=4)
    assert sum(drawn.values()) == 4 * len(pairs)


def test_a_robust_training_ends_on_whole_pairs(tmp_path: Path, drawn: Counter[tuple[str, int]]) -> None:
    counts = []
    for epochs in (1, 2):
        drawn.clear()
        changes = {"recipe": {"epochs": epochs, "batch_size": 2}, "augmentation": {"corrupted": 1}}
        train(tiny_options(tmp_path / str(epochs), robust=True, workers=0, **changes), quiet=True)
        counts.append(sum(drawn.values()))
    assert counts == [4, 4]


def test_what_is_held_out_is_stated_wherever_training_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(HELD_OUT_CORRUPTIONS) == HELD_OUT
    assert set(HELD_OUT) | set(TRAINING_CORRUPTIONS) == set(CORRUPTIONS)
    assert not set(HELD_OUT) & set(TRAINING_CORRUPTIONS)
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    told = " ".join(capsys.readouterr().out.split())
    assert f"held out for tests: {', '.join(HELD_OUT)}" in told
    page = " ".join((DOCS / "robustness.md").read_text(encoding="utf-8").split())
    assert f"{', '.join(HELD_OUT[:-1])} and {HELD_OUT[-1]} are **held out**" in page.replace("Glare", "glare")


def test_a_lone_image_is_broken_but_not_moved(pairs: Pairs, drawn: Counter[tuple[str, int]]) -> None:
    for number in range(100):
        broken(replace(pairs[0], visible=None), rng(number))
    assert {CORRUPTIONS[name].kind for name, _ in drawn} == {"infrared"}


def test_one_band_of_a_share_of_pairs_is_broken_and_nothing_else_changes(pairs: Pairs) -> None:
    plain = Augmentation(scale=(0.7, 1.4), crop=(24, 32), brightness=0.2, noise=0.05)
    touched = []
    for number in range(200):
        expected = augment(pairs[number % 8], plain, rng(number))
        found = augment(pairs[number % 8], replace(plain, corrupted=0.3), rng(number))
        np.testing.assert_array_equal(found.label, expected.label)
        changed = [
            band
            for band in ("visible", "infrared")
            if not np.array_equal(getattr(found, band), getattr(expected, band))
        ]
        assert len(changed) <= 1
        touched += changed
    assert len(touched) / 200 == pytest.approx(0.3, abs=0.09)
    assert set(touched) == {"visible", "infrared"}


def test_broken_pairs_do_not_depend_on_workers(pairs: Pairs) -> None:
    augmentation = Augmentation(corrupted=0.6, band_dropout=0.3)
    histories = []
    for workers in (0, 2):
        loader = training_loader(pairs, augmentation, batch_size=2, seed=5, workers=workers)
        loader.batch_sampler.set_epoch(1)  # type: ignore[union-attr]
        histories.append(list(loader))
    for one, other in zip(*histories, strict=True):
        assert one.names == other.names
        for band in ("visible", "infrared"):
            images = getattr(one, band), getattr(other, band)
            assert images[0] is images[1] is None or torch.equal(*images)


def test_robust_is_off_by_default_and_each_part_can_be_set() -> None:
    assert resolved("csknet").augmentation() == Augmentation()
    robust = Augmentation(corrupted=0.5, band_dropout=0.2, broken_epochs=0.5)
    assert resolved("csknet", robust=True).augmentation() == robust
    given = resolved("csknet", robust=True, augmentation={"corrupted": 0.1}).augmentation()
    assert given == replace(robust, corrupted=0.1)
    without = replace(resolved("csknet", robust=True), drops_bands=False).augmentation()
    assert without == replace(robust, band_dropout=0.0)
    with pytest.raises(OptionError, match="robust must be true or false"):
        tiny_options(Path("x"), robust="yes")


def test_bands_are_dropped_where_system_pairs_and_labels_allow_it(pairs: Pairs) -> None:
    def can(system: str, data: Pairs) -> bool:
        return can_drop_bands(tiny(system).phases(make_training(system)), data)

    assert can("csknet", pairs)
    assert not can("deeplabv3plus", pairs)
    assert not can("csknet", open_pairs(TINY_DATA, "train", labels=False))


def test_the_card_tells_of_a_robust_training(tmp_path: Path) -> None:
    recipe = {"epochs": 1, "batch_size": 2}
    told = read_card(train(tiny_options(tmp_path / "run", robust=True, recipe=recipe), quiet=True)).training
    assert told["robust"] is True
    assert (told["augmentation"]["corrupted"], told["augmentation"]["band_dropout"]) == (0.5, 0.0)
