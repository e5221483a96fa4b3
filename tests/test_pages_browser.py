"""Report pages as a browser lays them out: no wider than a screen, and what counts in sight."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from browser import NEEDS_CHROMIUM, WIDTHS, Screen, assert_fits, assert_in_sight, laid_out
from crossband.evaluation import BandResult, Evaluation
from crossband.evaluation.comparison import MethodRun, compare
from crossband.evaluation.pair_counts import PairCounts
from crossband.pairs.base import Classes
from crossband.report import evaluation_page
from crossband.report.comparison_html import comparison_page

pytestmark = NEEDS_CHROMIUM
NAMES = ("road", "sidewalk", "building", "vegetation", "sky", "person", "car", "bicycle", "pole", "sign")
CLASSES = Classes(NAMES, tuple((20 * number, 90, 200) for number in range(len(NAMES))))
CONDITIONS = ("day", "dusk", "fog", "night")
Screens = dict[tuple[str, int, str], Screen]


def evaluation(drawn: dict[str, np.ndarray]) -> str:
    """Of three uses of a system, one of them a fallback, on pairs of four conditions."""
    support = {"both": "designed", "infrared": "designed", "visible": "fallback"}
    results = {}
    for bands, matrices in drawn.items():
        per_condition = {
            name: torch.from_numpy(matrices[i::4].sum(axis=0)) for i, name in enumerate(CONDITIONS)
        }
        total = torch.from_numpy(matrices.sum(axis=0))
        results[bands] = BandResult(bands, support[bands], total, per_condition)
    pairs = len(drawn["both"])
    made = Evaluation(
        "csknet",
        "folder:/home/somebody/a-long-name-of-a-folder/with-another-one-in-it/pairs-of-two-cameras",
        "test",
        CLASSES,
        pairs,
        "float32",
        results,
        dict.fromkeys(CONDITIONS, pairs // 4),
        {"command": "crossband evaluate runs/csknet", "revision": "0" * 40},
    )
    return evaluation_page(made).html()


def comparison(drawn: dict[str, np.ndarray]) -> str:
    """Of two uses of a run, on the same pairs."""
    pairs = len(drawn["both"])
    names = tuple(f"{number:05}_night" for number in range(pairs))
    counts = PairCounts("scenes", "test", CLASSES, names, CONDITIONS * (pairs // 4), drawn)
    runs = {f"csknet@{bands}": [MethodRun("csknet", bands, counts)] for bands in ("both", "infrared")}
    return comparison_page(compare(runs, replicates=100), CLASSES, None, {"crossband": "0.1.0"}).html()


@pytest.fixture(scope="module")
def screens(tmp_path_factory: pytest.TempPathFactory) -> Screens:
    rng = np.random.default_rng(0)
    truth = rng.integers(50, 1000, (8, len(NAMES)))
    drawn = {}
    for bands in ("both", "infrared", "visible"):
        shares = rng.dirichlet(np.ones(len(NAMES)), len(NAMES)) + 2 * np.eye(len(NAMES))
        drawn[bands] = np.round(truth[:, :, None] * shares / 3).astype(np.int64)
        # What is rounded away goes to the right class: the truth is the same for all.
        short = truth - drawn[bands].sum(axis=2)
        drawn[bands][:, range(len(NAMES)), range(len(NAMES))] += short
    pages = {"evaluation": evaluation(drawn), "comparison": comparison(drawn)}
    return laid_out(tmp_path_factory.mktemp("screens"), pages)


def test_no_page_is_wider_than_its_screen(screens: Screens) -> None:
    for (_, _, scheme), screen in screens.items():
        assert_fits(screen, scheme)


def test_a_comparison_shows_its_methods_and_differences_at_once(screens: Screens) -> None:
    for (name, _, _), screen in screens.items():
        if name == "comparison":
            methods, differences, *_ = screen.boxes
            assert (methods.tag, differences.tag) == ("table", "svg")
            assert_in_sight(methods, screen)
            assert_in_sight(differences, screen)


def test_a_wide_screen_shows_every_table_of_an_evaluation_whole(screens: Screens) -> None:
    for (name, width, _), screen in screens.items():
        if name == "evaluation" and width == max(WIDTHS):
            assert sum(box.tag == "table" for box in screen.boxes) == 6
            for box in screen.boxes:
                assert_in_sight(box, screen)


def test_a_class_stands_beside_its_colour(screens: Screens) -> None:
    """And not below it, however narrow the column: every row with a swatch is as high as the others."""
    for (name, _, _), screen in screens.items():
        if name == "evaluation":
            assert len(screen.swatches) == 5 * len(NAMES)
            assert max(screen.swatches) < 40
