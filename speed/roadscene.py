"""Train AMDANet to fuse RoadScene pairs without labels, and score it beside the classical fusions.

    python speed/roadscene.py --pairs PATH --weights tf_efficientnet_lite0.safetensors

PATH is a folder with ``visible/`` and ``infrared/``. By name order the first 90 pairs train and the others
test. What is finished is not trained again. This is what docs/results/roadscene.md tells.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from crossband.evaluation import evaluate_fusion
from crossband.loading import load
from crossband.pairs.matching import match_images
from crossband.pairs.opening import open_pairs
from crossband.pictures import to_uint8
from crossband.report import Page, fusion_text
from crossband.training.engine import resume, train
from crossband.training.options import TrainOptions
from crossband.words import BANDS

TRAINED_ON = 90
UNTRAINED = ("average", "maximum", "laplacian", "guided", "learned")
PICTURES = 8


def split_by_name(pairs: Path, out: Path) -> str:
    """Link the pairs into ``out/{train,test}/{visible,infrared}``; returns the source."""
    files = sorted(match_images(pairs / "visible", pairs / "infrared"), key=lambda file: file.name)
    for index, file in enumerate(files):
        split = "train" if index < TRAINED_ON else "test"
        for band in BANDS:
            image = getattr(file, band)
            link = out / split / band / image.name
            link.parent.mkdir(parents=True, exist_ok=True)
            if not link.exists():
                link.symlink_to(image.resolve())
    return f"folder:{out}"


def options(source: str, out: Path, seed: int, weights: Path, epochs: int) -> TrainOptions:
    return TrainOptions(
        system="amdanet",
        data=source,
        out=str(out),
        encoder="tf_efficientnet_lite0",
        encoder_weights=str(weights),
        # The only start when the page was written; the default is another now.
        network={"decoder_channels": 64, "alignment_start": "published"},
        without_labels=True,
        recipe={
            "name": "quick",
            "epochs": epochs,
            "batch_size": 4,
            "optimizer": "adamw",
            "lr": 1e-3,
            "weight_decay": 1e-2,
        },
        augmentation={"crop": [96, 96]},
        hold_out=0.1,
        accelerator="cpu",
        workers=0,
        seed=seed,
    )


def write_pictures(source: str, methods: dict[str, str], out: Path) -> Path:
    """A page with test pairs, the darkest first; it shows the data, so it stays with the runs."""
    test = open_pairs(source, "test")
    brightness = [float(pair.visible.mean()) for pair in test if pair.visible is not None]
    dark = [int(index) for index in np.argsort(brightness)[: PICTURES // 2]]
    even = [int(index) for index in np.linspace(0, len(test) - 1, PICTURES - len(dark))]
    predictors = {name: load(run, device="cpu") for name, run in methods.items()}
    rows: list[tuple[str, list[np.ndarray | None]]] = []
    for index in dict.fromkeys(dark + even):
        pair = test[index]
        assert pair.visible is not None
        assert pair.infrared is not None
        fused = [predictor.predict(pair).fused for predictor in predictors.values()]
        rows.append((pair.name, [to_uint8(pair.visible), to_uint8(pair.infrared), *fused]))
    page = Page("RoadScene: fused test pairs, the darkest first")
    page.image_grid(["visible", "infrared", *predictors], rows, max_side=480)
    page.write(out)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True, help="ImageNet weights of the encoder")
    parser.add_argument("--out", type=Path, default=Path("runs/roadscene"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    source = split_by_name(arguments.pairs, arguments.out / "pairs")
    methods = {name: name for name in UNTRAINED}
    for seed in arguments.seeds:
        run = arguments.out / f"amdanet-seed{seed}"
        if (run / "config.yaml").exists():
            resume(run)
        else:
            made = options(source, run, seed, arguments.weights, arguments.epochs)
            train(made, command="python speed/roadscene.py")
        methods[f"amdanet, seed {seed}"] = str(run)
    systems = {name: load(run, device="cpu") for name, run in methods.items()}
    print(fusion_text(evaluate_fusion(systems, open_pairs(source, "test"))))
    print(f"pictures: {write_pictures(source, methods, arguments.out / 'pictures.html')}")


if __name__ == "__main__":
    main()
