"""A folder in which the snippets of the pages can be run: pairs, a benchmark's tree, runs and single images.

All is tiny, and named as the pages name theirs.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from crossband.cli import main
from crossband.pairs.benchmarks import BENCHMARKS
from crossband.pairs.scenes import Scenes
from crossband.training.engine import train
from crossband.training.options import TrainOptions
from fake_trees import mfnet_original, msrs
from radiometric_files import PARAMETERS, flir_block, flir_jpeg, jpeg

PAIRS = {"train": 6, "val": 2, "test": 3}
SIZE = (48, 64)


def make_world(root: Path) -> Path:
    """Fill a folder. Every label has the nine classes of MSRS, so that any run goes with any pairs."""
    msrs(root / "data" / "MSRS")
    mfnet_original(root / "data" / "MFNet")
    classes = BENCHMARKS["msrs"].classes
    names = "".join(f"- {name}\n" for name in classes.names)
    for split, count in PAIRS.items():
        scenes = Scenes(split, count=count, size=SIZE)
        for index in range(count):
            pair = scenes[index]
            assert pair.visible is not None
            assert pair.infrared is not None
            assert pair.label is not None
            for band, image in {
                "visible": np.rint(255 * pair.visible).astype(np.uint8),
                "infrared": np.rint(255 * pair.infrared).astype(np.uint8),
                "label": (pair.label % len(classes.names)).astype(np.uint8),
            }.items():
                path = root / "my-pairs" / split / band / f"{index}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(image).save(path)
    (root / "my-pairs" / "classes.yaml").write_text(f"names:\n{names}", encoding="utf-8")
    conditions = "".join(f"{index},{('day', 'night')[index % 2]}\n" for index in range(PAIRS["test"]))
    (root / "my-pairs" / "test" / "conditions.csv").write_text(
        f"name,condition\n{conditions}", encoding="utf-8"
    )
    _copies(root)
    _runs(root)
    return root


def _copies(root: Path) -> None:
    """What is there, under the other names that pages have for it."""
    test = root / "my-pairs" / "test"
    for place in ("pairs", "demo/scenes"):
        shutil.copytree(root / "my-pairs", root / place)
    for band, places in {
        "visible": ("v", "A", "rig/visible", "other/results", "rgb", "recordings/test/visible"),
        "infrared": ("i", "B", "rig/infrared", "new/infrared", "ir", "recordings/test/infrared"),
    }.items():
        for place in places:
            shutil.copytree(test / band, root / place)
    shutil.copy(test / "visible" / "0.png", root / "a.png")
    shutil.copy(test / "infrared" / "0.png", root / "b.png")
    (root / "out" / "label").mkdir(parents=True)
    shutil.copy(test / "label" / "0.png", root / "out" / "label" / "0001.png")
    counts = np.arange(60 * 80, dtype=np.uint16).reshape(60, 80)
    picture = jpeg(np.zeros((60, 80, 3), np.uint8))
    radiometric = flir_jpeg(flir_block(counts, parameters=PARAMETERS, visible=picture), picture)
    (root / "flir").mkdir()
    for place in ("0001.jpg", "flir/0001.jpg"):
        (root / place).write_bytes(radiometric)


def _runs(root: Path) -> None:
    trained = {
        "csknet": {"encoder": "test_efficientnet", "network": {"decoder_channels": 16}},
        "amdanet": {"encoder": "test_efficientnet", "network": {"decoder_channels": 16}},
        "fuser": {"network": {"width": 8, "heads": 2, "blocks": 1}, "augmentation": {"crop": [32, 48]}},
    }
    for name, more in trained.items():
        options = TrainOptions(
            system="cddfuse" if name == "fuser" else name,
            data=f"folder:{root / 'my-pairs'}",
            out=str(root / "runs" / name),
            recipe={"name": "quick", "epochs": 1, "batch_size": 4},
            without_labels=name == "fuser",
            accelerator="cpu",
            workers=0,
            **more,
        )
        train(options, command="crossband train", quiet=True)
    for name in ("csknet", "amdanet"):
        shutil.copytree(root / "runs" / name, root / "demo" / "runs" / name)
    for name in ("mine", "c0", "c1", "c2", "d0", "d1", "d2"):
        shutil.copytree(root / "runs" / "csknet", root / "runs" / name)
    run, out = str(root / "runs" / "csknet"), str(root / "infrared.onnx")
    assert main(["export", run, "--bands", "infrared", "--out", out]) == 0
