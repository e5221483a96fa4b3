"""The examples: short, and run as they stand, on pairs and a run that are made here."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from crossband.pairs.export import export_folder

FOLDER = Path(__file__).resolve().parents[1] / "examples"
EXAMPLES = sorted(path.name for path in FOLDER.glob("*.py"))
TESTED_ELSEWHERE = {"segment_onnxruntime.py"}
"""By tests/test_export.py, which makes its file."""


def example(name: str) -> Any:
    return runpy.run_path(str(FOLDER / f"{name}.py"))["main"]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("examples") / "pairs"
    export_folder("scenes,train=8,val=0,test=3,size=32x48", out)
    return out


@pytest.fixture(scope="module")
def run(pairs: Path) -> Path:
    out = pairs.parent / "run"
    example("train_small")(f"folder:{pairs}", str(out), epochs=1)
    return out


def test_a_run_segments_folders_with_one_band_or_both(
    run: Path, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    visible, infrared = (str(pairs / "test" / band) for band in ("visible", "infrared"))
    example("segment_pairs")(str(run), str(tmp_path / "both"), visible, infrared)
    example("segment_pairs")(str(run), str(tmp_path / "one"), "", infrared)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == ["designed"] * 6
    assert len(list((tmp_path / "both").iterdir())) == len(list((tmp_path / "one").iterdir())) == 3


def test_a_run_is_scored(run: Path, pairs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    example("evaluate_run")(str(run), f"folder:{pairs}")
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        *("both (designed)", "infrared (designed)", "visible (fallback)"),
    ]


def test_a_pair_is_fused(pairs: Path, tmp_path: Path) -> None:
    name = next((pairs / "test" / "visible").iterdir()).name
    out = tmp_path / "fused.png"
    example("fuse_pair")(*(str(pairs / "test" / band / name) for band in ("visible", "infrared")), str(out))
    with Image.open(out) as fused:
        assert (fused.size, fused.mode) == ((48, 32), "RGB")


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_short_and_says_how_it_is_called(name: str) -> None:
    text = (FOLDER / name).read_text(encoding="utf-8")
    assert len(text.splitlines()) < 40
    assert f"python examples/{name}" in text.split('"""')[1]


def test_every_example_is_run() -> None:
    tests = Path(__file__).read_text(encoding="utf-8")
    assert [name for name in EXAMPLES if name not in TESTED_ELSEWHERE and name[:-3] not in tests] == []
