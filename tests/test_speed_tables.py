"""What the tables of speed/ say of a floor, and of free cores."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest
import torch

SPEED = Path(__file__).resolve().parents[1] / "speed"


@pytest.fixture
def measuring(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(SPEED)
    return importlib.import_module("measuring")


def test_operations_and_bytes_over_rates_are_seconds(measuring: ModuleType) -> None:
    rates = measuring.Rates({"float32": 100e9, "bfloat16": 400e9}, 8e9)
    assert rates.of_operations(25e9) == pytest.approx(0.25)
    assert rates.of_operations(25e9, "bfloat16") == pytest.approx(0.0625)
    assert rates.of_bytes(2e9) == pytest.approx(0.25)
    assert "100 GFLOP/s in float32, 400 GFLOP/s in bfloat16; by a copy: 8.0 GB/s" in str(rates)


def test_the_operations_of_a_network_s_step_are_counted(measuring: ModuleType) -> None:
    weights, image = torch.rand(8, 3, 3, 3, requires_grad=True), torch.rand(2, 3, 10, 12)
    # 3 x 3 x 3 products and as many sums for each of 8 x 8 x 10 values of two images.
    forward = 2 * 27 * 8 * 8 * 10 * 2
    assert measuring.count_operations(lambda: torch.conv2d(image, weights)) == forward
    # The image wants no gradient, so that the pass back is as large.
    assert measuring.count_operations(lambda: torch.conv2d(image, weights).sum().backward()) == 2 * forward
    # Of three groups, and with a gradient for the image: one way there, two back.
    weights, image = torch.rand(6, 1, 3, 3, requires_grad=True), image.requires_grad_()
    step = measuring.count_operations(lambda: torch.conv2d(image, weights, groups=3).sum().backward())
    assert step == 3 * 2 * 9 * 6 * 8 * 10 * 2


@pytest.mark.parametrize(
    ("better", "floor", "told"),
    [
        ("less", 0.25, "250 ms (2.0 x)"),
        ("more", 2.0, "2000 ms (4.0 x)"),
        ("less", 1.0, "1000 ms (0.5 x)"),
        ("less", 0.01, "10 ms (50 x)"),
    ],
)
def test_a_row_says_how_many_times_the_floor_ours_takes(
    measuring: ModuleType, better: str, floor: float, told: str
) -> None:
    measured = {"ours": [0.4, 0.5, 0.7], "reference": [1.0, 1.0, 1.0], "other": [2.0, 2.0, 2.0]}
    rows = measuring.compare("task", measured, "reference", measuring.milliseconds, better, {"ours": floor})
    assert [row.floor for row in rows] == [told, ""]
    table = measuring.markdown(rows).splitlines()
    assert [line.strip("| ").split(" | ")[-1].strip() for line in table[::2]] == ["floor", told]


def test_rates_are_those_of_what_is_run(measuring: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "SIDE", 64)
    monkeypatch.setattr(measuring, "COPIED", 1 << 12)
    seconds = {"product": [4.0, 2.0], "copy": [0.5, 1.0]}
    asked = []

    def timed(runs: dict[str, object], settings: object) -> dict[str, list[float]]:
        asked.append(settings)
        return {name: seconds[name] for name in runs}

    monkeypatch.setattr(measuring, "time_in_turn", timed)
    settings = measuring.Settings("", (8, 8), 1, "cpu", 1, "processor")
    rates = measuring.measure_rates(settings, ("float32", "bfloat16"))
    assert rates.products == {"float32": 64**3, "bfloat16": 64**3}
    assert rates.copies == 2 * 4096 / 0.5
    assert {(each.clock, each.device) for each in asked} == {("processor", "cpu")}


@pytest.mark.parametrize(
    ("taken", "cores", "seconds"),
    [((1.0, 3.0, 3.0), 2, 3.5), ((1.0, 3.0, 3.0), 8, 3.0), ((5.0, 1.0, 1.0), 2, 5.0), ((4.0,), 2, 4.0)],
)
def test_processes_side_by_side_take_as_long_as_the_busiest_or_their_share(
    monkeypatch: pytest.MonkeyPatch, taken: tuple[float, ...], cores: int, seconds: float
) -> None:
    monkeypatch.syspath_prepend(SPEED)
    assert importlib.import_module("loader_speed").on_free_cores(taken, cores) == seconds
