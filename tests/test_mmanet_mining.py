"""When MMANet's further terms begin, how the weak band is found, and the recipes."""

from __future__ import annotations

from typing import Any

import pytest

from crossband.recipe import Recipe
from crossband.systems.base import EpochRow
from crossband.systems.mmanet.training import warmup_length, weak_band
from crossband.training.options import TrainOptions
from crossband.training.resolving import resolve
from tiny_mmanet import SEGMENTATION, mmanet, prepared, seed_of, terms_of
from tiny_systems import labelled

# --- warm-up and mining


def test_warmup_is_the_published_one_or_a_quarter() -> None:
    lengths = {epochs: warmup_length(11, epochs) for epochs in (300, 200, 44, 20, 8, 3, 2, 1)}
    assert lengths == {300: 11, 200: 11, 44: 11, 20: 5, 8: 2, 3: 1, 2: 1, 1: 0}


def rows(count: int, **scores: float) -> list[EpochRow]:
    return [
        EpochRow("mmanet", epoch, 0.01, {"ce": 1.0}, dict(scores))  # type: ignore[arg-type]
        for epoch in range(1, count + 1)
    ]


def test_the_weak_band_is_where_most_is_lost() -> None:
    assert weak_band(rows(11, both=0.6, infrared=0.5, visible=0.3), 11) == "visible"
    assert weak_band(rows(11, both=0.6, infrared=0.2, visible=0.3), 11) == "infrared"
    # Distances are squares: one epoch of 0.2 outweighs four of 0.06.
    history = rows(11, both=0.5, infrared=0.44, visible=0.5)
    history[7].scores["visible"] = 0.3
    assert weak_band(history, 11) == "visible"
    # And a band that is better than both counts too.
    assert weak_band(rows(11, both=0.4, infrared=0.5, visible=0.8), 11) == "visible"
    # Without validation pairs, in a tie, before any epoch, and where nothing was scored.
    nan = float("nan")
    unscored = rows(11, both=nan, infrared=nan, visible=nan)
    for given in (rows(11), rows(11, both=0.4, infrared=0.2, visible=0.2), [], unscored):
        assert weak_band(given, 11) == "infrared"


def test_only_the_last_epochs_of_the_warmup_are_looked_at() -> None:
    """Epochs 6 to 9 counted from 0, which are the 7th to the 10th."""
    for epoch in range(1, 21):
        history = rows(20, both=0.5, infrared=0.45, visible=0.5)
        history[epoch - 1].scores["visible"] = 0.0
        assert weak_band(history, 11) == ("visible" if 7 <= epoch <= 10 else "infrared"), epoch
    for warmup, mined in ((5, [3, 4]), (2, [2]), (1, [1]), (0, [])):
        for epoch in range(1, 7):
            history = rows(6, both=0.5, infrared=0.45, visible=0.5)
            history[epoch - 1].scores["visible"] = 0.0
            assert weak_band(history, warmup) == ("visible" if epoch in mined else "infrared")


def test_terms_begin_after_the_warmup_on_the_band_that_was_mined() -> None:
    batch = labelled(batch=3)
    seed = seed_of([(1, 0), (1, 1), (1, 1)])
    phase = prepared(mmanet())
    assert phase.prepare is not None
    visible_is_weak = rows(20, both=0.6, infrared=0.5, visible=0.3)
    for epoch in (0, 9, 10):
        phase.prepare(epoch, 300, visible_is_weak[:epoch])
        assert set(terms_of(phase, batch, seed)) == SEGMENTATION
    phase.prepare(11, 300, visible_is_weak[:11])
    assert set(terms_of(phase, batch, seed)) == SEGMENTATION | {"distill", "regularise"}
    assert terms_of(phase, batch, seed)["regularise"].item() > 0
    # Only epoch and rows decide, so that a resumed run does the same.
    phase.prepare(11, 300, rows(11, both=0.6, infrared=0.2, visible=0.3))
    assert terms_of(phase, batch, seed)["regularise"].item() == 0
    phase.prepare(3, 300, visible_is_weak[:3])
    assert set(terms_of(phase, batch, seed)) == SEGMENTATION
    # A shorter phase has a shorter warm-up.
    phase.prepare(3, 8, visible_is_weak[:3])
    assert "distill" in terms_of(phase, batch, seed)


@pytest.mark.parametrize("weak", ["infrared", "visible"])
def test_a_band_that_is_named_is_not_mined(weak: Any) -> None:
    phase = prepared(mmanet(weak=weak))
    assert phase.prepare is not None
    other = {"infrared": 0.5, "visible": 0.3} if weak == "infrared" else {"infrared": 0.3, "visible": 0.5}
    phase.prepare(12, 300, rows(12, both=0.6, **other))
    alone = [(0, 1)] if weak == "infrared" else [(1, 0)]
    batch = labelled(batch=2)
    assert terms_of(phase, batch, seed_of([*alone, (1, 1)]))["regularise"].item() > 0


# --- recipes


def recipe_of(**changes: Any) -> Recipe:
    return resolve(TrainOptions(system="mmanet", data="scenes", out="nowhere", **changes)).recipe("mmanet")


def test_recipes_of_the_published_code() -> None:
    paper = recipe_of()
    assert (paper.optimizer, paper.lr, paper.momentum, paper.nesterov) == ("sgd", 0.01, 0.9, True)
    assert (paper.epochs, paper.batch_size, paper.weight_decay) == (300, 8, 1e-4)
    # Up from 1/25 in a tenth of the epochs, down to 1/250,000.
    rates = [paper.learning_rate(epoch, epoch * 10, 10) for epoch in range(300)]
    assert rates[0] == pytest.approx(4e-4)
    assert max(rates) == rates[30] == pytest.approx(0.01)
    assert 4e-8 < rates[-1] < 2e-6
    cityscapes = recipe_of(recipe={"name": "cityscapes"})
    assert (cityscapes.optimizer, cityscapes.lr, cityscapes.schedule) == ("adam", 1e-4, "one-cycle")
    assert recipe_of(recipe={"name": "common"}) == Recipe()
