"""Train and score DeepLabV3+ and CSK-Net on real pairs, over seeds: what docs/results/real-pairs.md tells.

    python benchmarks/real_pairs.py deadtree --pairs PATH --weights tf_efficientnet_lite0.safetensors

PATH holds ``deadtree`` and ``cwfid`` as folders of pairs. What is finished is not trained again, so the
script may be stopped and started. One thread by default: start one process per dataset.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch

from crossband.evaluation import evaluate
from crossband.pairs.base import Pair
from crossband.pairs.opening import open_pairs
from crossband.pictures import colour_labels, to_uint8
from crossband.predictor import load
from crossband.recalibration import recalibrate_run
from crossband.report import Page
from crossband.training.engine import resume, train
from crossband.training.options import TrainOptions
from crossband.weights import CARD_NAME

ENCODER = "tf_efficientnet_lite0"
TEST_SPLIT = {"deadtree": "val", "cwfid": "test"}
EPOCHS = {"deadtree": 4, "cwfid": 30}


RUNS = ("visible", "infrared", "csknet", "csknet-no-exchange")
ROWS = {
    "visible visible": "DeepLabV3+, visible",
    "infrared infrared": "DeepLabV3+, infrared",
    "csknet both": "CSK-Net, both bands",
    "csknet infrared": "CSK-Net, infrared only",
    "csknet-infrared infrared": "CSK-Net, infrared only, recalibrated",
    "csknet visible": "CSK-Net, visible only (fallback)",
    "csknet-no-exchange both": "CSK-Net without exchange, both bands",
    "csknet-no-exchange infrared": "CSK-Net without exchange, infrared only",
}
"""Run and bands of each row of the table, and what it is called."""


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


def train_seed(dataset: str, seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Train the models of one seed (what is there already stays) and score them on the test split."""
    folder = arguments.out / dataset / f"seed{seed}"
    teacher = {"teacher": str(folder / "visible")}
    runs = {
        "visible": options(dataset, "visible", seed, arguments, folder, "deeplabv3plus"),
        "infrared": options(
            dataset, "infrared", seed, arguments, folder, "deeplabv3plus", options={"band": "infrared"}
        ),
        "csknet": options(dataset, "csknet", seed, arguments, folder, "csknet", reuse=teacher),
        "csknet-no-exchange": options(
            dataset,
            "csknet-no-exchange",
            seed,
            arguments,
            folder,
            "csknet",
            options={"exchange": False},
            reuse=teacher,
        ),
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
    result: dict[str, Any] = {"seed": seed}
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


def summarise(dataset: str, results: list[dict[str, Any]]) -> str:
    """A Markdown table: mean over seeds, and the range from the lowest to the highest, in percent."""
    names = list(results[0]["csknet both"]["iou"])
    header = ["model and bands given", "mean IoU", *names]
    lines = ["| " + " | ".join(header) + " |", "|---|" + "---|" * (len(header) - 1)]
    for key, label in ROWS.items():
        columns = [[result[key]["mean_iou"] for result in results]]
        columns += [[result[key]["iou"][name] for result in results] for name in names]
        cells = [f"{100 * mean(c):.1f} ({100 * min(c):.1f} to {100 * max(c):.1f})" for c in columns]
        lines.append("| " + " | ".join([label, *cells]) + " |")
    seconds = ", ".join(f"{run} {mean(r[f'{run} seconds'] for r in results):.0f} s" for run in RUNS)
    return "\n".join([f"{dataset}, {len(results)} seeds; training: {seconds}", "", *lines, ""])


def write_pictures(dataset: str, arguments: argparse.Namespace, count: int = 5) -> Path:
    """A page of pictures of seed 0 for some test pairs; it shows the data, so it stays in the run folder."""
    folder = arguments.out / dataset
    test = open_pairs(f"folder:{arguments.pairs / dataset}", TEST_SPLIT[dataset])
    predictors = {run: load(folder / "seed0" / run, device="cpu") for run in (*RUNS, "csknet-infrared")}
    classes = predictors["csknet"].card.classes
    rows: list[tuple[str, list[np.ndarray | None]]] = []
    for index in np.linspace(0, len(test) - 1, count).astype(int):
        pair = test[int(index)]
        assert pair.visible is not None
        assert pair.infrared is not None
        assert pair.label is not None
        pictures: list[np.ndarray | None] = [
            to_uint8(pair.visible),
            to_uint8(pair.infrared),
            colour_labels(pair.label, classes.palette),
        ]
        for key in ROWS:
            run, bands = key.split()
            visible = pair.visible if bands != "infrared" else None
            infrared = pair.infrared if bands != "visible" else None
            prediction = predictors[run].predict(Pair(pair.name, visible, infrared))
            pictures.append(colour_labels(prediction.labels, classes.palette))
        rows.append((pair.name, pictures))
    page = Page(f"{dataset}: seed 0, {TEST_SPLIT[dataset]} pairs")
    page.legend(classes)
    page.image_grid(["visible", "infrared", "label", *ROWS.values()], rows, max_side=320)
    page.write(folder / "pictures.html")
    return folder / "pictures.html"


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
    results = [train_seed(arguments.dataset, seed, arguments) for seed in range(arguments.seeds)]
    print(summarise(arguments.dataset, results))
    print(f"pictures: {write_pictures(arguments.dataset, arguments)}")


if __name__ == "__main__":
    main()
