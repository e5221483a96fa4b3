"""Train and score DeepLabV3+ and CSK-Net on real pairs, over seeds: what docs/results/real-pairs.md tells.

    python benchmarks/real_pairs.py deadtree --pairs PATH --weights tf_efficientnet_lite0.safetensors

PATH holds ``deadtree`` and ``cwfid`` as folders of pairs. What is finished is not trained again, so the
script may be stopped and started. One thread by default: start one process per dataset.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

from crossband.evaluation import evaluate
from crossband.pairs.opening import open_pairs
from crossband.predictor import load
from crossband.recalibration import recalibrate_run
from crossband.training.engine import resume, train
from crossband.training.options import TrainOptions
from crossband.weights import CARD_NAME

ENCODER = "tf_efficientnet_lite0"
TEST_SPLIT = {"deadtree": "val", "cwfid": "test"}
EPOCHS = {"deadtree": 4, "cwfid": 30}


def options(
    dataset: str,
    run: str,
    seed: int,
    arguments: argparse.Namespace,
    folder: Path,
    system: str,
    **extra: object,
) -> TrainOptions:
    """The same encoder, decoder, recipe and length for every system."""
    switches = {"decoder_channels": 64, **extra.pop("options", {})}  # type: ignore[dict-item]
    return TrainOptions(
        system=system,
        data=f"folder:{arguments.pairs / dataset}",
        out=str(folder / run),
        encoder=ENCODER,
        encoder_weights=str(arguments.weights),
        options=switches,
        preset="quick",
        recipe={"epochs": EPOCHS[dataset], "optimizer": "adamw", "lr": 1e-3, "weight_decay": 1e-2},
        augmentation={"crop": [192, 192]},
        # All of the few training pairs train: no epoch is chosen, least of all on the test split.
        hold_out=0.0,
        select="last",
        accelerator="cpu",
        workers=0,
        seed=seed,
        **extra,  # type: ignore[arg-type]
    )


def train_seed(dataset: str, seed: int, arguments: argparse.Namespace) -> dict[str, object]:
    """Train the three models of one seed (what is there already stays) and score them on the test split."""
    folder = arguments.out / dataset / f"seed{seed}"
    teacher = {"teacher": str(folder / "visible")}
    runs = {
        "visible": options(dataset, "visible", seed, arguments, folder, "deeplabv3plus"),
        "infrared": options(
            dataset, "infrared", seed, arguments, folder, "deeplabv3plus", options={"band": "infrared"}
        ),
        "csknet": options(dataset, "csknet", seed, arguments, folder, "csknet", reuse=teacher),
    }
    for run, run_options in runs.items():
        if (folder / run / "config.yaml").exists():
            resume(folder / run)
        else:
            train(run_options, command=f"python benchmarks/real_pairs.py {dataset}")
    recalibrated = folder / "csknet-infrared"
    if not (recalibrated / CARD_NAME).exists():
        recalibrate_run(folder / "csknet", runs["csknet"].data, recalibrated, batch_size=8, seed=seed)
    test = open_pairs(runs["csknet"].data, TEST_SPLIT[dataset])
    result: dict[str, object] = {"seed": seed}
    for run in (*runs, "csknet-infrared"):
        predictor = load(folder / run, device="cpu")
        evaluation = evaluate(predictor.system, test, bands=list(predictor.system.supports), by=None)
        for bands, band_result in evaluation.results.items():
            scores = band_result.overall
            result[f"{run} {bands}"] = {
                "mean_iou": scores.protocols["present"].mean_iou,
                "iou": dict(zip(evaluation.classes.names, scores.iou, strict=True)),
            }
        result[f"{run} seconds"] = predictor.card.training["seconds"]
    (folder / "scores.json").write_text(json.dumps(result, indent=2) + "\n")
    return result


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset", choices=list(TEST_SPLIT))
    parser.add_argument("--pairs", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True, help=f"ImageNet weights of timm's {ENCODER}")
    parser.add_argument("--out", type=Path, default=Path("runs/real-pairs"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for seed in range(arguments.seeds):
        print(json.dumps(train_seed(arguments.dataset, seed, arguments)))


if __name__ == "__main__":
    main()
