"""The examples: short, and run as they stand, on pairs and a run that are made here."""

from __future__ import annotations

import runpy
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from crossband.pairs.export import export_folder
from crossband.pairs.opening import open_pairs

FOLDER = Path(__file__).resolve().parents[1] / "examples"
EXAMPLES = sorted(path.name for path in FOLDER.glob("*.py"))
TESTED_ELSEWHERE = {"ask_server.py", "segment_onnxruntime.py"}
"""By tests/test_serve.py, which starts a server, and tests/test_export.py, which makes the other's file."""


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
    assert "python examples/" in text.split('"""')[1]


def test_every_example_is_run() -> None:
    tests = Path(__file__).read_text(encoding="utf-8")
    assert [name for name in EXAMPLES if name not in TESTED_ELSEWHERE and name[:-3] not in tests] == []


def test_boxes_and_points_become_labels_that_can_be_read(
    pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "mine"
    for band in ("visible", "infrared"):
        shutil.copytree(pairs / "train" / band, folder / "train" / band)
    names = sorted(path.stem for path in (folder / "train" / "visible").iterdir())
    rows = [
        *(f"{name},2,4,4,30,28" for name in names),
        # In front of the first thing, and one that no model is sure of.
        f"{names[0]},1,10,10,18,20",
        f"{names[0]},3,40,20,,",
    ]
    (tmp_path / "boxes.csv").write_text("name,class,left,top,right,bottom\n" + "\n".join(rows) + "\n")

    def segment(picture: np.ndarray, prompt: list[float]) -> tuple[np.ndarray, float]:
        """All of a box; of a point, the two columns beside it, on infrared (which is grey) a third."""
        mask = np.zeros(picture.shape[:2], bool)
        grey = bool((picture[..., 0] == picture[..., 2]).all())
        if len(prompt) == 2:
            x = int(prompt[0])
            mask[:, x - 1 : x + 1 + grey] = True
            return mask, 0.3
        left, top, right, bottom = map(int, prompt)
        mask[top:bottom, left:right] = True
        # Surer on infrared of a box that it makes a pixel wider.
        mask[top:bottom, right : right + grey] = True
        return mask, 0.95 if grey else 0.9

    monkeypatch.setitem(sys.modules, "my_model", SimpleNamespace(segment=segment))
    example("labels_from_boxes")(str(folder / "train"), str(tmp_path / "boxes.csv"), "my_model")
    (folder / "classes.yaml").write_text("names: [background, person, bicycle, car]\n")
    first = open_pairs(f"folder:{folder}", "train")[0].label
    assert first is not None
    assert first[15, 14] == 1, "the small one lies on top"
    assert first[24, 24] == 2
    assert first[0, 0] == 0
    assert (first[15, [9, 10, 11, 18]] == 255).all(), "a band around each edge"
    assert (first[:, 39:42] == 255).all(), "nobody was sure"
    assert len(open_pairs(f"folder:{folder}", "train")) == len(names)


def test_the_model_s_side_is_what_transformers_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model with random weights: what it says is nothing, but shapes and calls are those of a real one."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.SamConfig(
        vision_config={
            **{"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "mlp_dim": 32},
            **{"image_size": 128, "patch_size": 16, "output_channels": 16, "num_pos_feats": 8},
            **{"global_attn_indexes": [0], "window_size": 2},
        },
        prompt_encoder_config={"hidden_size": 16, "image_size": 128, "mask_input_channels": 4},
        mask_decoder_config={
            **{"hidden_size": 16, "mlp_dim": 32, "num_hidden_layers": 1, "num_attention_heads": 2},
            "iou_head_hidden_dim": 16,
        },
    )
    size = {"size": {"longest_edge": 128}, "pad_size": {"height": 128, "width": 128}}
    processor = transformers.SamProcessor(transformers.SamImageProcessor(**size))
    model = transformers.SamModel(config).eval()
    monkeypatch.setenv("MODEL", "any/name")
    monkeypatch.setattr(transformers.SamModel, "from_pretrained", lambda name: model)
    monkeypatch.setattr(transformers.SamProcessor, "from_pretrained", lambda name: processor)
    segment = runpy.run_path(str(FOLDER / "sam.py"))["segment"]
    picture = np.random.default_rng(0).integers(0, 256, (60, 80, 3)).astype(np.uint8)
    for prompt in ([5.0, 6.0, 40.0, 50.0], [20.0, 30.0]):
        mask, sure = segment(picture, prompt)
        assert (mask.shape, mask.dtype) == ((60, 80), bool)
        assert isinstance(sure, float)
