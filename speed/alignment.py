"""Train AMDANet with every start of its local alignment, over seeds: what docs/results/alignment.md tells.

    python speed/alignment.py scenes cwfid msrs_boxes --pairs PATH --weights tf_efficientnet_lite0.safetensors

PATH holds the real sets as folders of pairs; ``scenes`` are generated and need none. Each run adds one line
to ``runs.csv``, and what has a line is not run again, so the script may be stopped and started. With
``--summarise`` it trains nothing and prints the tables of what is there; with ``--over without``, what every
other start has over that one.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from statistics import mean
from typing import Any

import torch

from crossband.evaluation import Evaluation, evaluate
from crossband.systems.base import System
from crossband.training.engine import resume, train
from crossband.training.options import TrainOptions
from crossband.weights import load_run
from paired import BLOCKS, Scored, counts_of, keep_counts, table_of_differences
from small_runs import CROP, ENCODER, Dataset, append, is_told, lines_of

STARTS: dict[str, dict[str, Any]] = {
    "published": {"alignment_start": "published", "alignment_scaling": False},
    "without": {"local_alignment": "none"},
    "identity": {"alignment_start": "identity", "alignment_scaling": False},
    "identity, scaled": {"alignment_start": "identity", "alignment_scaling": True},
    "published, scaled": {"alignment_start": "published", "alignment_scaling": True},
}
GAMMAS = [(level, band) for level in (1, 2, 3, 4) for band in ("visible", "infrared")]
COLUMNS = [
    *("set", "epochs", "start", "seed", "mean_iou", "mean_iou_gamma_0", "seconds", "iou"),
    *(f"gamma_abs_{level}_{band}" for level, band in GAMMAS),
    *(f"gamma_mean_{level}_{band}" for level, band in GAMMAS),
]


DATASETS = {
    "scenes": Dataset("scenes,seed=0,train=128,val=0,test=60,size=96x128", 6, 8),
    "cwfid": Dataset("folder:{pairs}/cwfid", 10, 4, CROP, 0.5),
    "msrs_boxes": Dataset("folder:{pairs}/msrs_boxes", 2, 4, CROP, 0.5),
}


def folder_of(out: Path, name: str, epochs: int | str, seed: int | str) -> Path:
    """Where the starts lie that were trained on a set for so long with a seed."""
    return out / name / f"{epochs}-epochs" / f"seed{seed}"


def options(name: str, start: str, seed: int, arguments: argparse.Namespace) -> TrainOptions:
    """The same encoder, widths, recipe and length for every start."""
    epochs = arguments.epochs or DATASETS[name].epochs
    return DATASETS[name].options(
        arguments.pairs,
        folder_of(arguments.out, name, epochs, seed) / start.replace(", ", "-"),
        arguments.weights,
        system="amdanet",
        network=STARTS[start],
        recipe={"epochs": epochs},
        seed=seed,
    )


def on_test(system: System, name: str, arguments: argparse.Namespace) -> Evaluation:
    """Both bands on the test split."""
    pairs = DATASETS[name].opened(arguments.pairs, "test")
    return evaluate(system, pairs, bands=["both"], by=None)


def mean_iou(evaluation: Evaluation) -> str:
    """By the protocol "present"."""
    return f"{evaluation.results['both'].overall.protocols['present'].mean_iou:.4f}"


def gammas(system: System) -> dict[str, torch.Tensor]:
    """The steps of a system that has some, by level and band."""
    return {
        key: parameter.detach()
        for key, parameter in system.named_parameters()
        if key.split(".")[-1].startswith("gamma_")
    }


def run(name: str, start: str, seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Train, score and look at gamma: one line of ``runs.csv``."""
    made = options(name, start, seed, arguments)
    began = time.process_time()
    if (Path(made.out) / "config.yaml").exists():
        resume(made.out, quiet=True)
    else:
        train(made, command=f"python speed/alignment.py {name}", quiet=True)
    seconds = time.process_time() - began
    system, _ = load_run(made.out)
    evaluation = on_test(system, name, arguments)
    keep_counts(counts_of(Path(made.out).parent, start), evaluation)
    iou = zip(evaluation.classes.names, evaluation.results["both"].overall.iou, strict=True)
    line: dict[str, Any] = {
        **{"set": name, "epochs": made.recipe["epochs"], "start": start, "seed": seed},
        **{"mean_iou": mean_iou(evaluation), "seconds": f"{seconds:.0f}"},
        "iou": "; ".join(f"{each} {value:.4f}" for each, value in iou),
    }
    steps = gammas(system)
    for level, band in GAMMAS:
        gamma = steps.get(f"enc.local{level}.gamma_{band}")
        if gamma is not None:
            line[f"gamma_abs_{level}_{band}"] = f"{gamma.abs().mean():.4f}"
            line[f"gamma_mean_{level}_{band}"] = f"{gamma.mean():.4f}"
    if steps:
        for gamma in steps.values():
            gamma.zero_()
        line["mean_iou_gamma_0"] = mean_iou(on_test(system, name, arguments))
    return line


def summarise(lines: list[dict[str, str]]) -> str:
    """Markdown: a table of scores per set and length, and one of gamma."""
    parts = []
    for name, epochs in dict.fromkeys((line["set"], line["epochs"]) for line in lines):
        here = [line for line in lines if (line["set"], line["epochs"]) == (name, epochs)]
        parts += [f"**`{name}`**, {epochs} epochs.", "", *_scores(here), "", *_gammas(here), ""]
    return "\n".join(parts)


def differences(lines: list[dict[str, str]], others: list[str], out: Path) -> str:
    """Markdown: what every start has over others, per set and length."""
    parts = []
    for name, epochs in dict.fromkeys((line["set"], line["epochs"]) for line in lines):
        scored = []
        for line in lines:
            if (line["set"], line["epochs"]) == (name, epochs):
                counts = counts_of(folder_of(out, name, epochs, line["seed"]), line["start"])
                score = float(line["mean_iou"])
                scored.append(Scored(line["start"], "both", "both", int(line["seed"]), score, counts))
        starts = [start for start in STARTS if start not in others]
        table = table_of_differences(scored, starts, others, BLOCKS.get(name, 1))
        parts += [f"**`{name}`**, {epochs} epochs.", "", table, ""]
    return "\n".join(parts)


def _scores(lines: list[dict[str, str]]) -> list[str]:
    seeds = sorted({int(line["seed"]) for line in lines})
    rows = ["| start | mean | " + " | ".join(f"seed {seed}" for seed in seeds) + " | with gamma = 0 |"]
    rows.append("|---" * (len(seeds) + 3) + "|")
    for start in STARTS:
        own = {int(line["seed"]): line for line in lines if line["start"] == start}
        if own:
            cells = [_percent([own[seed]["mean_iou"]]) if seed in own else "" for seed in seeds]
            average = _percent([line["mean_iou"] for line in own.values()])
            zeroed = _percent([line["mean_iou_gamma_0"] for line in own.values() if line["mean_iou_gamma_0"]])
            rows.append("| " + " | ".join([start, average, *cells, zeroed]) + " |")
    return rows


def _gammas(lines: list[dict[str, str]]) -> list[str]:
    rows = ["| mean of abs(gamma), of gamma | " + " | ".join(f"{b}, stage {n}" for n, b in GAMMAS) + " |"]
    rows.append("|---" * (len(GAMMAS) + 1) + "|")
    for start in STARTS:
        own = [line for line in lines if line["start"] == start and line["gamma_abs_1_visible"]]
        if own:
            cells = []
            for level, band in GAMMAS:
                size, signed = (
                    mean(float(line[f"gamma_{kind}_{level}_{band}"]) for line in own)
                    for kind in ("abs", "mean")
                )
                cells.append(f"{size:.3f}, {signed:+.3f}")
            rows.append("| " + " | ".join([start, *cells]) + " |")
    return rows


def _percent(values: list[str]) -> str:
    return f"{100 * mean(map(float, values)):.1f}" if values else ""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("datasets", nargs="*", help=f"of {', '.join(DATASETS)}")
    parser.add_argument("--pairs", type=Path, default=Path("."), help="folder of the real sets")
    parser.add_argument("--weights", type=Path, help=f"ImageNet weights of timm's {ENCODER}")
    parser.add_argument("--out", type=Path, default=Path("runs/alignment"))
    parser.add_argument("--epochs", type=int, help="in place of the set's own number")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--starts", nargs="+", choices=list(STARTS), default=list(STARTS))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--summarise", action="store_true", help="train nothing; print the tables")
    parser.add_argument(
        "--over", nargs="+", choices=list(STARTS), help="train nothing; print differences to these starts"
    )
    arguments = parser.parse_args()
    path: Path = arguments.out / "runs.csv"
    if arguments.summarise:
        print(summarise(lines_of(path)))
        return
    if arguments.over:
        print(differences(lines_of(path), arguments.over, arguments.out))
        return
    unknown = sorted(set(arguments.datasets) - set(DATASETS))
    if unknown or arguments.weights is None:
        parser.error(f"no set {unknown[0]!r}" if unknown else "--weights is needed to train")
    torch.set_num_threads(arguments.threads)
    for seed in arguments.seeds:
        for name in arguments.datasets:
            for start in arguments.starts:
                epochs = arguments.epochs or DATASETS[name].epochs
                if not is_told(path, {"set": name, "epochs": epochs, "start": start, "seed": seed}):
                    append(path, COLUMNS, [run(name, start, seed, arguments)])


if __name__ == "__main__":
    main()
